"""The Laplace likelihood."""

import math

import pytest
import torch
from torch import nn

from pyro_bvae.likelihoods import LaplaceLikelihood
from tests.contracts import LikelihoodContract


class TestLaplaceLikelihoodWithANumber(LikelihoodContract):
    def make(self, decoder=None):
        return LaplaceLikelihood(decoder or self.decoder(), scale=0.4)


class TestLaplaceLikelihoodLearned(LikelihoodContract):
    def make(self, decoder=None):
        return LaplaceLikelihood(decoder or self.decoder(), scale="learned")


@pytest.mark.parametrize("b", [0.1, 2.0])
def test_density_is_the_formula(b):
    loc, x = torch.randn(2, 6, 4)
    fn = LaplaceLikelihood(nn.Identity(), scale=b)(loc)
    expected = -(x - loc).abs().sum(-1) / b - 4 * math.log(2 * b)
    assert torch.allclose(fn.log_prob(x), expected, rtol=1e-12)


@pytest.mark.parametrize("scale", ["learned", "per_pixel"])
def test_best_scale_is_the_mean_absolute_error(scale):
    """∂/∂b of Σ log p vanishes at b = the mean absolute error, over all pixels or for each."""
    loc, x = torch.randn(2, 50, 4)
    likelihood = LaplaceLikelihood(nn.Identity(), scale=scale, shape=(4,))
    errors = (x - loc).abs()
    best = errors.mean() if scale == "learned" else errors.mean(0)
    with torch.no_grad():
        likelihood.scale.log_value.copy_(best.log())
    likelihood(loc).log_prob(x).sum().backward()
    assert torch.allclose(likelihood.scale.log_value.grad, torch.zeros_like(best), atol=1e-10)


def test_refuses_what_only_the_normal_likelihood_takes():
    with pytest.raises(ValueError, match="scale: expected a finite number > 0 or 'learned', got"):
        LaplaceLikelihood(nn.Identity(), scale="optimal")
