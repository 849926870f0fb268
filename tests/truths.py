"""A linear VAE of the package's own parts, whose answers are known exactly."""

from functools import partial
from typing import Any

import torch
from pyro import distributions as dist
from torch import Tensor

from pyro_bvae import VAE, fit, theory
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder, mlp_encoder
from pyro_bvae.posteriors import MeanFieldPosterior
from pyro_bvae.priors import NormalPrior

SPECTRUM = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
NOISE = 0.3**0.5


def data_and_covariance(n: int = 500) -> tuple[Tensor, Tensor]:
    """Data whose mean is 0 and whose covariance is exactly a rotation of the spectrum."""
    axes = torch.linalg.qr(torch.randn(5, 5)).Q
    x = torch.randn(n, 5)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.mT @ x / n)).mT
    return white @ (axes * SPECTRUM.sqrt()).mT, (axes * SPECTRUM) @ axes.mT


class BalancedNormal(dist.Normal):
    """A normal whose draws for a whole batch have exactly the moments of a draw.

    The noise has mean 0 and covariance I over the batch and is uncorrelated with x, so what is
    quadratic in z, as the ELBO of a linear VAE, has the expectation's value and gradient. A batch
    too small for that has the usual noise.
    """

    def __init__(self, loc: Tensor, scale: Tensor, *, x: Tensor) -> None:
        super().__init__(loc, scale)
        self.noise = torch.randn(loc.shape)
        fixed = torch.cat([torch.ones(len(x), 1), x], 1)
        whole = torch.cat([fixed, self.noise], 1)
        if len(x) >= whole.shape[1]:
            self.noise = torch.linalg.qr(whole).Q[:, fixed.shape[1] :] * len(x) ** 0.5

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> "BalancedNormal":
        return self

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.loc + self.scale * self.noise


class BalancedPosterior(MeanFieldPosterior):
    """A mean-field posterior without the noise of the draws, for full batches and linear VAEs."""

    def forward(self, x: Tensor) -> Any:
        posterior = super().forward(x).base_dist
        return BalancedNormal(posterior.loc, posterior.scale, x=x).to_event(1)


def linear_vae(
    latents: int,
    *,
    prior: float | str = 1.0,
    likelihood: float | str = NOISE,
    posterior: type[MeanFieldPosterior] = MeanFieldPosterior,
) -> VAE:
    return VAE(
        prior=NormalPrior(latents, scale=prior),
        likelihood=NormalLikelihood(mlp_decoder(latents, (5,), hidden=()), scale=likelihood),
        posterior=posterior(mlp_encoder((5,), hidden=()), latents=latents),
    )


def train(vae: VAE, x: Tensor, beta: float, steps: int = 1500) -> None:
    for rate in (2e-2, 4e-3, 5e-4):
        fit(
            vae,
            x,
            beta=beta,
            steps=steps if rate > 1e-3 else steps // 2,
            batch_size=len(x),
            optim=partial(torch.optim.Adam, lr=rate),
            compile="recorded",
            progress=False,
        )


def decoder_of(vae: VAE) -> Tensor:
    return vae.likelihood.decoder.net[0].weight.detach()


def terms_of(vae: VAE, x: Tensor, covariance: Tensor, beta: float) -> theory.LinearTerms:
    """The exact objective, rate and distortion of the trained weights."""
    mean = vae.posterior.head.weight.detach()[: vae.posterior.latents]
    variance = vae.posterior(x).variance.detach().mean(0)
    return theory.linear_terms(
        covariance,
        decoder_of(vae),
        theory.LinearGuide(mean, torch.diag(variance)),
        beta=beta,
        likelihood_scale=vae.likelihood.scale().item(),
        prior_scale=vae.prior.scale().item(),
    )
