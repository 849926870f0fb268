"""Posteriors of known shapes: which family comes how close to log p(x), by quadrature."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from pyro_bvae import VAE, tempered
from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.objectives import ELBO
from pyro_bvae.posteriors import FlowPosterior, MeanFieldPosterior, MixturePosterior
from pyro_bvae.priors import NormalPrior
from pyro_bvae.training import CompiledSVI

NOISE = 0.3


class Banana(nn.Module):
    """E[x|z] = z_2 − z_1²: given x = 0, z lies along a parabola."""

    latents = 2

    def forward(self, z):
        return z[:, 1:] - z[:, :1] ** 2


class Square(nn.Module):
    """E[x|z] = z²: given x = 1.5, z lies around either root."""

    latents = 1

    def forward(self, z):
        return z**2


def vae(decoder, posterior):
    encoder = nn.Flatten()
    return VAE(
        NormalPrior(decoder.latents),
        NormalLikelihood(decoder, scale=NOISE),
        posterior(encoder, decoder.latents, features=1),
    )


def evidence(module, x):
    """log ∫ p(z) p(x|z) dz on a grid, whose error is far below the tolerances here."""
    points = torch.linspace(-6, 6, 1201)
    d = module.prior.latents
    z = torch.cartesian_prod(*[points] * d).reshape(-1, d)
    joint = module.prior().log_prob(z) + module.likelihood(z).log_prob(x[:1])
    return (joint.logsumexp(0) + d * math.log(points[1] - points[0])).item()


def elbo_after_training(module, x):
    """The ELBO per datum and its standard error, from fresh draws, after 700 steps."""
    for rate in (2e-2, 5e-3):
        optim = partial(torch.optim.Adam, lr=rate)
        svi = CompiledSVI(*tempered(module, 1.0), optim, ELBO(), mode="recorded")
        for _ in range(350):
            svi.step(x)
    with torch.no_grad():
        q, p = module.posterior(x[:1]), module.prior()
        z = q.rsample((20_000,))
        value = module.likelihood(z).log_prob(x[:1]) + p.log_prob(z) - q.log_prob(z)
    return value.mean().item(), value.std().item() / 20_000**0.5


@pytest.mark.parametrize("kind", ["affine", "spline"])
def test_flows_bend_to_a_banana(kind):
    x = torch.zeros(256, 1)
    bound = evidence(vae(Banana(), MeanFieldPosterior), x)
    straight, _ = elbo_after_training(vae(Banana(), MeanFieldPosterior), x)
    bent, error = elbo_after_training(vae(Banana(), partial(FlowPosterior, kind=kind)), x)
    assert bent <= bound + 5 * error
    assert bent > straight + 0.3
    assert bent > bound - 0.1


def test_a_mixture_covers_both_roots():
    """Started at the roots, one normal loses ln 2, two lose next to nothing."""
    x = torch.full((32, 1), 1.5)
    bound = evidence(vae(Square(), MeanFieldPosterior), x)
    one = vae(Square(), MeanFieldPosterior)
    two = vae(Square(), MixturePosterior)
    with torch.no_grad():
        for module, start in ((one, [1.0, -4.0]), (two, [0.0, 0.0, 1.0, -4.0, -1.0, -4.0])):
            module.posterior.head.weight.zero_()
            module.posterior.head.bias.copy_(torch.tensor(start))
    one, _ = elbo_after_training(one, x)
    both, error = elbo_after_training(two, x)
    assert one == pytest.approx(bound - math.log(2), abs=0.1)
    assert both <= bound + 5 * error
    assert both > bound - 0.1
