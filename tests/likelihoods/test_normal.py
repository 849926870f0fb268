"""The normal likelihood: σ a number, a parameter, or one for every pixel."""

import math

import pytest
import torch
from torch import nn

from pyro_bvae.likelihoods import NormalLikelihood
from pyro_bvae.networks import mlp_decoder
from tests.contracts import LikelihoodContract


class TestNormalLikelihoodWithANumber(LikelihoodContract):
    def make(self, decoder=None):
        return NormalLikelihood(decoder or self.decoder(), scale=0.4)


class TestNormalLikelihoodLearned(LikelihoodContract):
    def make(self, decoder=None):
        return NormalLikelihood(decoder or self.decoder(), scale="learned")


class TestNormalLikelihoodPerPixel(LikelihoodContract):
    def make(self, decoder=None):
        decoder = decoder or self.decoder()
        return NormalLikelihood(decoder, scale="per_pixel", shape=decoder[1].unflattened_size)


class TestNormalLikelihoodOptimal(LikelihoodContract):
    """In evaluation mode; in training mode it is no density."""

    def make(self, decoder=None):
        likelihood = NormalLikelihood(decoder or self.decoder(), scale="optimal")
        likelihood.scale.of(torch.tensor(0.4))
        return likelihood.eval()


def test_optimal_sigma_is_put_into_the_density():
    """Σ log p = −(n/2)(log 2πσ̂² + 1), n numbers in the batch, and its gradient."""
    mean, x = torch.randn(2, 50, 4)
    mean.requires_grad_()
    likelihood = NormalLikelihood(nn.Identity(), scale="optimal")
    value = likelihood(mean).log_prob(x).sum()
    profile = -100 * (torch.log(2 * torch.pi * ((x - mean) ** 2).mean()) + 1)
    assert torch.allclose(value, profile, rtol=1e-12)
    (mine,) = torch.autograd.grad(value, mean)
    (expected,) = torch.autograd.grad(profile, mean)
    assert torch.allclose(mine, expected, rtol=1e-10)


def test_optimal_sigma_is_remembered():
    likelihood = NormalLikelihood(nn.Identity(), scale="optimal")
    assert likelihood.scale() == 1
    mean = torch.zeros(50, 4)
    for sigma in (2.0, 0.3):
        likelihood(mean).log_prob(torch.full((50, 4), sigma))
    variance = (0.99 * 4 + 0.09) / 1.99
    assert likelihood.scale().item() == pytest.approx(variance**0.5, rel=1e-12)
    fn = likelihood.eval()(mean)
    assert torch.allclose(fn.variance, torch.tensor(variance), rtol=1e-12)
    fn.log_prob(mean)
    assert likelihood.scale().item() == pytest.approx(variance**0.5, rel=1e-12)


def test_optimal_sigma_stays_away_from_zero():
    """Without a floor a perfect fit would be infinitely good; at it σ̂ no longer falls."""
    likelihood = NormalLikelihood(nn.Identity(), scale="optimal")
    mean = torch.zeros(5, 4, requires_grad=True)
    value = likelihood(mean).log_prob(torch.zeros(5, 4))
    assert torch.allclose(value, torch.tensor(4 * (6 - math.log(2 * math.pi) / 2)), rtol=1e-12)
    value.sum().backward()
    assert torch.isfinite(mean.grad).all()


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_density_is_the_formula(sigma):
    mean, x = torch.randn(2, 6, 4)
    fn = NormalLikelihood(nn.Identity(), scale=sigma)(mean)
    squares = ((x - mean) ** 2).sum(-1)
    expected = -squares / (2 * sigma**2) - 4 * math.log(sigma * math.sqrt(2 * math.pi))
    assert torch.allclose(fn.log_prob(x), expected, rtol=1e-12)
    assert torch.equal(fn.mean, mean)


@pytest.mark.parametrize("scale", ["learned", "per_pixel"])
def test_best_sigma_is_the_root_of_the_mean_squared_error(scale):
    """∂/∂σ of Σ log p vanishes at σ² = MSE, over all pixels or for each."""
    mean, x = torch.randn(2, 50, 4)
    likelihood = NormalLikelihood(nn.Identity(), scale=scale, shape=(4,))
    errors = (x - mean) ** 2
    best = errors.mean() if scale == "learned" else errors.mean(0)
    with torch.no_grad():
        likelihood.scale.log_value.copy_(best.log() / 2)
    likelihood(mean).log_prob(x).sum().backward()
    assert torch.allclose(likelihood.scale.log_value.grad, torch.zeros_like(best), atol=1e-10)


def test_per_pixel_takes_its_shape_from_the_decoder():
    likelihood = NormalLikelihood(mlp_decoder(2, (3, 4, 5)), scale="per_pixel")
    assert likelihood.scale().shape == (3, 4, 5)


@pytest.mark.parametrize("scale", [0.0, -1, math.nan, math.inf, "per_latent", None])
def test_refuses_sigma(scale):
    with pytest.raises(ValueError, match="scale: expected a finite number > 0 or 'learned'"):
        NormalLikelihood(nn.Identity(), scale=scale)


def test_refuses_per_pixel_without_a_shape():
    with pytest.raises(ValueError, match=r"shape: Identity has no \.shape; pass shape="):
        NormalLikelihood(nn.Identity(), scale="per_pixel")
