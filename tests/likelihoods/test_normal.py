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
