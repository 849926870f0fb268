"""The continuous Bernoulli likelihood."""

import math

import pytest
import torch
from torch import nn

from pyro_bvae.likelihoods import ContinuousBernoulliLikelihood
from tests.contracts import LikelihoodContract, normalisation


class TestContinuousBernoulliLikelihood(LikelihoodContract):
    def make(self, decoder=None):
        return ContinuousBernoulliLikelihood(decoder or self.decoder())

    def total(self, log_prob):
        return normalisation(log_prob, 0, 1)

    def moved(self, value):
        return 0.9 * value


@pytest.mark.parametrize("p", [0.02, 0.3, 0.8])
def test_density_is_the_formula(p):
    """C(λ) = 2 artanh(1 − 2λ) / (1 − 2λ); E[x] = λ / (2λ − 1) + 1 / (2 artanh(1 − 2λ))."""
    x = torch.rand(6, 1)
    fn = ContinuousBernoulliLikelihood(nn.Identity())(torch.full((6, 1), math.log(p / (1 - p))))
    constant = 2 * math.atanh(1 - 2 * p) / (1 - 2 * p)
    expected = math.log(constant) + x * math.log(p) + (1 - x) * math.log(1 - p)
    assert torch.allclose(fn.log_prob(x), expected.sum(-1), rtol=1e-12)
    mean = p / (2 * p - 1) + 1 / (2 * math.atanh(1 - 2 * p))
    assert torch.allclose(fn.mean, torch.tensor(mean), rtol=1e-12)
    assert min(p, 0.5) < mean < max(p, 0.5)


@pytest.mark.parametrize("bad", [-0.1, 1.5])
def test_refuses_values_outside_0_to_1(bad):
    x = torch.full((5, 2), 0.5)
    x[1, 0] = bad
    with pytest.raises(ValueError, match=r"\[0, 1\] for a ContinuousBernoulliLikelihood, got"):
        ContinuousBernoulliLikelihood(nn.Identity()).check(x)
