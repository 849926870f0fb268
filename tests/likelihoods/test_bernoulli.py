"""The Bernoulli likelihood."""

import pytest
import torch
from torch import nn

from pyro_bvae.likelihoods import BernoulliLikelihood
from tests.contracts import LikelihoodContract


class TestBernoulliLikelihood(LikelihoodContract):
    def make(self, decoder=None):
        return BernoulliLikelihood(decoder or self.decoder())

    def total(self, log_prob):
        return sum(log_prob(torch.tensor(x)).exp().item() for x in (0.0, 1.0))


@pytest.mark.parametrize("grey", [False, True])
def test_density_is_the_cross_entropy(grey):
    x = torch.rand(6, 4) if grey else (torch.rand(6, 4) > 0.5).double()
    p = torch.rand(6, 4)
    fn = BernoulliLikelihood(nn.Identity())(torch.logit(p))
    expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
    assert torch.allclose(fn.log_prob(x), expected, rtol=1e-10)
    assert torch.allclose(fn.mean, p)


@pytest.mark.parametrize(("bad", "shown"), [(-0.1, "-0.1 to"), (1.5, "to 1.5"), (255.0, "to 255")])
def test_refuses_values_outside_0_to_1(bad, shown):
    x = torch.full((5, 1, 2, 2), 0.5)
    x[1, 0, 1, 0] = bad
    message = rf"x: expected values in \[0, 1\] .*got .*{shown}.*x / 255.*NormalLikelihood"
    with pytest.raises(ValueError, match=message):
        BernoulliLikelihood(nn.Identity()).check(x)
