"""The discretised mixture of logistics."""

import pytest
import torch
from scipy.stats import logistic
from torch import nn

from pyro_bvae.likelihoods import LogisticMixtureLikelihood
from tests.contracts import LikelihoodContract

GRID = torch.arange(256, dtype=torch.float64) / 255


class TestLogisticMixtureLikelihood(LikelihoodContract):
    def make(self, decoder=None):
        return LogisticMixtureLikelihood(decoder or self.decoder(), components=2)

    def decoder(self, shape=None):
        return super().decoder((*(shape or self.shape), 6))

    def total(self, log_prob):
        return sum(log_prob(x).exp().item() for x in GRID)


def parts(*numbers):
    """One pixel of the given logits, places and log scales, one row each."""
    return LogisticMixtureLikelihood(nn.Identity(), components=len(numbers[0]))(
        torch.tensor(numbers).reshape(1, -1)
    )


@pytest.mark.parametrize("log_scale", [-9.0, -2.0, 0.0, 5.0])
def test_is_a_distribution_over_256_values(log_scale):
    fn = parts([0.3, -1.0], [-40.0, 1.2], [log_scale, 0.0])
    mass = fn.log_prob(GRID).exp()
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.isfinite(fn.log_prob(GRID)).all()
    assert fn.mean.item() == pytest.approx((mass * GRID).sum().item(), abs=1e-12)


def test_mass_is_that_of_the_logistic_between_the_steps():
    fn = parts([0.0], [0.4], [0.5])
    loc, scale = torch.sigmoid(torch.tensor(0.4)).item(), 0.1 * torch.tensor(0.5).exp().item()
    edges = logistic.cdf((torch.arange(257) - 0.5) / 255, loc, scale)
    edges[0], edges[-1] = 0, 1
    expected = torch.tensor(edges[1:] - edges[:-1])
    assert torch.allclose(fn.log_prob(GRID).exp(), expected, rtol=1e-9)


def test_far_values_keep_finite_gradients():
    numbers = torch.tensor([[0.0, -30.0, -20.0]], requires_grad=True)
    fn = LogisticMixtureLikelihood(nn.Identity(), components=1)(numbers)
    fn.log_prob(torch.ones(1)).sum().backward()
    assert torch.isfinite(numbers.grad).all()


def test_refuses_what_is_not_8_bit():
    likelihood = LogisticMixtureLikelihood(nn.Identity(), components=1)
    likelihood.check(GRID.float())
    with pytest.raises(ValueError, match=r"x: expected 8-bit values .*0.4 / 255 off; round them"):
        likelihood.check(torch.tensor([[100.4 / 255]]))
    with pytest.raises(ValueError, match=r"\[0, 1\] for a LogisticMixtureLikelihood, got 0 to 255"):
        likelihood.check(torch.tensor([[0.0, 255.0]]))


def test_refuses_a_decoder_of_another_width():
    with pytest.raises(
        ValueError, match=r"decoder: expected \[n, ..., 6\], three numbers for each"
    ):
        LogisticMixtureLikelihood(nn.Linear(2, 5), components=2)(torch.zeros(3, 2))
