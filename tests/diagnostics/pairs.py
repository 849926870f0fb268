"""Linear-Gaussian pairs, as a VAE and as bare Pyro functions, whose posteriors are known."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_bvae import VAE, Pair, theory
from tests.truths import NOISE, linear_vae

WEIGHT = torch.tensor(
    [[1.5, 0.2], [0.0, 1.0], [0.3, -0.4], [0.0, 0.0], [0.1, 0.1]], dtype=torch.float64
)
X = torch.tensor([[1.0, -0.5, 0.3, 0.2, -0.1]], dtype=torch.float64)
EXACT = -3.8953950495300598
"""log p(X) of the model below."""


class Setting(NamedTuple):
    """A decoder W and its exact, diagonal or tempered guide."""

    weight: Tensor
    guide: theory.LinearGuide


def diagonal(beta: float = 1.0) -> Setting:
    """The decoder as it is, whose posterior is not diagonal, with the best diagonal guide."""
    return Setting(WEIGHT, theory.diagonal_guide(WEIGHT, beta=beta, likelihood_scale=NOISE))


def orthogonal(beta: float = 1.0) -> Setting:
    """The same model with its latents turned, so that the diagonal guide is exact at its β."""
    weight = WEIGHT @ torch.linalg.eigh(WEIGHT.mT @ WEIGHT).eigenvectors
    return Setting(weight, theory.diagonal_guide(weight, beta=beta, likelihood_scale=NOISE))


def as_vae(setting: Setting) -> VAE:
    vae = linear_vae(2)
    net, head = vae.likelihood.decoder.net[0], vae.posterior.head
    with torch.no_grad():
        net.weight.copy_(setting.weight)
        net.bias.zero_()
        head.weight.copy_(torch.cat([setting.guide.weight, torch.zeros(2, 5)]))
        variances = setting.guide.covariance.diagonal()
        head.bias.copy_(torch.cat([torch.zeros(2), variances.log()]))
    return vae


def as_functions(setting: Setting, *, shift: float = 0.0, full: bool = False) -> Pair:
    """Bare Pyro functions, the guide's mean moved by `shift`, full-rank if asked."""
    weight, (slope, covariance) = setting

    def model(x: Tensor) -> None:
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z @ weight.mT, NOISE).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        mean = x @ slope.mT + shift
        with pyro.plate("rows", len(x)):
            if full:
                pyro.sample("z", dist.MultivariateNormal(mean, covariance))
            else:
                pyro.sample("z", dist.Normal(mean, covariance.diagonal().sqrt()).to_event(1))

    return Pair(model, guide)


def narrowed(c: float, latents: int = 1) -> Pair:
    """A guide whose variance is c times that of the posterior N(x/2, ½), in every dimension."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(latents), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x / 2, (c / 2) ** 0.5).to_event(1))

    return Pair(model, guide)


def of_y_given_x() -> Pair:
    """A model of y, as an information bottleneck is, whose posterior is p(z|y)."""

    def model(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    def guide(x: Tensor, y: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x, 1.0))

    return Pair(model, guide)
