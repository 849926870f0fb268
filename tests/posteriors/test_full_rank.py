"""The full-rank and the low-rank posterior, against exact results."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from pyro_bvae import theory
from pyro_bvae.networks import mlp_encoder
from pyro_bvae.posteriors import FullRankPosterior, LowRankPosterior, MeanFieldPosterior
from pyro_bvae.priors import LaplacePrior, NormalPrior
from tests.contracts import PosteriorContract
from tests.truths import NOISE, data_and_covariance


class TestFullRankPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return FullRankPosterior(encoder or self.encoder(), latents, features=features)


class TestLowRankPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return LowRankPosterior(encoder or self.encoder(), latents, rank=2, features=features)


def identity_head(posterior):
    numbers = posterior.head.out_features
    with torch.no_grad():
        posterior.head.weight.copy_(torch.eye(numbers))
        posterior.head.bias.zero_()
    return posterior


def test_full_rank_covariance_is_that_of_its_triangle():
    """The head gives μ, log L_jj², then L_10, L_20, L_21."""
    q = identity_head(FullRankPosterior(nn.Identity(), 3, features=9))(numbers := torch.randn(5, 9))
    lower = torch.diag_embed((numbers[:, 3:6] / 2).exp())
    for place, (row, column) in enumerate([(1, 0), (2, 0), (2, 1)]):
        lower[:, row, column] = numbers[:, 6 + place]
    assert torch.equal(q.mean, numbers[:, :3])
    assert torch.allclose(q.covariance_matrix, lower @ lower.mT)


def test_low_rank_covariance_is_that_of_its_factor():
    """The head gives μ, log d, then F row by row."""
    q = identity_head(LowRankPosterior(nn.Identity(), 3, rank=2, features=12))(
        numbers := torch.randn(5, 12)
    )
    factor = numbers[:, 6:].reshape(5, 3, 2)
    expected = factor @ factor.mT + torch.diag_embed(numbers[:, 3:6].exp())
    assert torch.equal(q.mean, numbers[:, :3])
    assert torch.allclose(q.covariance_matrix, expected)


@pytest.mark.parametrize("family", [FullRankPosterior, LowRankPosterior])
def test_kl_to_the_prior_is_exact(family):
    q = family(mlp_encoder((4,)), latents=3)(torch.randn(5, 4))
    p = NormalPrior(3, scale=0.6)()
    whole = dist.MultivariateNormal(torch.zeros(3), 0.36 * torch.eye(3))
    expected = kl_divergence(dist.MultivariateNormal(q.mean, q.covariance_matrix), whole)
    assert torch.allclose(kl_divergence(q, p), expected, rtol=1e-10)
    with pytest.raises(NotImplementedError):
        kl_divergence(q, LaplacePrior(3)())


def best_objective(posterior, x, decoder, beta):
    """Climb the exact objective, all of whose expectations have closed forms, by LBFGS."""
    prior, s = NormalPrior(3)(), NOISE**2

    def objective():
        q = posterior(x)
        diagonal = isinstance(q, dist.Independent)
        covariance = torch.diag_embed(q.variance) if diagonal else q.covariance_matrix
        errors = ((x - q.mean @ decoder.mT) ** 2).sum(-1)
        spread = (decoder.mT @ decoder * covariance).sum((-1, -2))
        fit = -(errors + spread) / (2 * s) - 5 * torch.log(2 * torch.pi * torch.tensor(s)) / 2
        return (fit - beta * kl_divergence(q, prior)).mean()

    optimiser = torch.optim.LBFGS(
        posterior.parameters(),
        max_iter=400,
        history_size=40,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimiser.zero_grad()
        loss = -objective()
        loss.backward()
        return loss

    optimiser.step(closure)
    return objective().item()


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_full_rank_reaches_the_exact_posterior_and_mean_field_loses_the_gap(beta):
    """At a decoder with correlated columns: L, and L − ½β[Σ ln P_jj − ln det P]."""
    x, covariance = data_and_covariance(100)
    decoder = torch.randn(5, 3) + 1
    knobs = {"beta": beta, "likelihood_scale": NOISE}
    guide = theory.tempered_posterior(decoder, **knobs)
    full = theory.linear_terms(covariance, decoder, guide, **knobs).objective.item()
    gap = theory.diagonal_gap(decoder, **knobs).item()
    assert gap > 0.1
    encoder = mlp_encoder((5,), hidden=())
    for posterior, expected in (
        (FullRankPosterior(encoder, 3), full),
        (LowRankPosterior(encoder, 3, rank=2), full),
        (MeanFieldPosterior(encoder, 3), full - gap),
    ):
        assert best_objective(posterior, x, decoder, beta) == pytest.approx(expected, abs=1e-6)
