"""The mixture posterior."""

import pytest
import torch

from pyro_bvae.networks import mlp_encoder
from pyro_bvae.posteriors import MixturePosterior
from pyro_bvae.posteriors.mixture import NormalMixture
from tests.contracts import PosteriorContract


class TestMixturePosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return MixturePosterior(encoder or self.encoder(), latents, features=features)


def test_gradients_of_draws_are_those_of_the_expectation():
    """∂/∂λ of E z_1 z_2² = Σ_k π_k μ_k1 (μ_k2² + σ_k2²), within 5 standard errors of 20 000."""
    numbers = [torch.tensor([0.3, -0.2]), torch.randn(2, 2), torch.rand(2, 2) + 0.5]
    each = [value.expand(20_000, *value.shape).clone().requires_grad_() for value in numbers]
    z = NormalMixture(*each).rsample()
    (z[:, 0] * z[:, 1] ** 2).sum().backward()
    logits, loc, scale = [value.requires_grad_() for value in numbers]
    weights = torch.softmax(logits, 0)
    (weights * loc[:, 0] * (loc[:, 1] ** 2 + scale[:, 1] ** 2)).sum().backward()
    for mine, exact in zip(each, (logits, loc, scale), strict=True):
        error = mine.grad.std(0) / 20_000**0.5
        assert ((mine.grad.mean(0) - exact.grad).abs() < 5 * error).all()


def test_draws_move_along_the_levels_of_the_distribution_function():
    """In one dimension F(z(λ); λ) is constant: ∂z/∂λ = −(∂F/∂λ)/q, here by autograd of F."""
    logits, loc, scale = torch.randn(3), torch.randn(3, 1), torch.rand(3, 1) + 0.2
    for value in (logits, loc, scale):
        value.requires_grad_()
    q = NormalMixture(logits, loc, scale)
    z = q.rsample()
    mine = torch.autograd.grad(z, (logits, loc, scale))
    level = (torch.softmax(logits, 0) * torch.special.ndtr((z.detach() - loc) / scale)[:, 0]).sum()
    for got, of_level in zip(mine, torch.autograd.grad(level, (logits, loc, scale)), strict=True):
        assert torch.allclose(got, -of_level / q.log_prob(z.detach()).exp(), rtol=1e-9)


def test_a_draw_far_in_the_tail_has_a_finite_gradient():
    loc = torch.tensor([[0.0], [1e3]], requires_grad=True)
    z = NormalMixture(torch.tensor([0.0, -50.0]), loc, torch.full((2, 1), 1e-2)).rsample((100,))
    (gradient,) = torch.autograd.grad(z.sum(), loc)
    assert torch.isfinite(gradient).all()


def test_refuses_components():
    with pytest.raises(ValueError, match="components: expected a whole number >= 1, got 0"):
        MixturePosterior(mlp_encoder((4,)), latents=2, components=0)
