"""The exact likelihood of a linear decoder."""

import math

import pytest
import torch
from hypothesis import given
from torch.distributions import MultivariateNormal, Normal

from pyro_bvae.theory import expected_log_likelihood, log_likelihood
from tests.theory.cases import SCALE, laws, random_pair, scales, seeds

DECODER = [[1.5, 0.2], [0.0, 1.0], [0.3, -0.4], [0.0, 0.0], [0.1, 0.1]]
DATUM = [1.0, -0.5, 0.3, 0.2, -0.1]


def test_golden_log_likelihood():
    log_p = log_likelihood(torch.tensor(DATUM), torch.tensor(DECODER), likelihood_scale=SCALE)

    assert log_p.item() == pytest.approx(-3.8953950495300598, abs=1e-12)


def test_log_likelihood_is_the_integral_over_latents():
    axis = torch.linspace(-9, 9, 601)
    z = torch.cartesian_prod(axis, axis)
    decoder, mean = torch.tensor(DECODER), torch.tensor([0.1, 0.2, 0.0, -0.3, 0.0])
    prior_scale = torch.tensor([0.8, 1.2])
    x = torch.tensor([DATUM, DATUM[::-1]])
    knobs = {"likelihood_scale": SCALE, "prior_scale": prior_scale}
    log_prior = Normal(0.0, prior_scale).log_prob(z).sum(-1)
    log_p = Normal(z @ decoder.mT + mean, SCALE).log_prob(x[:, None]).sum(-1)
    integral = (log_prior + log_p).logsumexp(1) + 2 * math.log(axis[1] - axis[0])

    torch.testing.assert_close(log_likelihood(x, decoder, mean=mean, **knobs), integral)


@laws
@given(seed=seeds, scale=scales, prior_scale=scales)
def test_expected_log_likelihood_averages_over_data(seed, scale, prior_scale):
    """log p is quadratic in x, so that sigma points integrate it exactly."""
    covariance, decoder, _ = random_pair(2, 4, seed)
    root = 2 * torch.linalg.cholesky(covariance).mT
    knobs = {"likelihood_scale": scale, "prior_scale": prior_scale}
    average = log_likelihood(torch.cat([root, -root]), decoder, **knobs).mean()

    torch.testing.assert_close(expected_log_likelihood(covariance, decoder, **knobs), average)


def test_no_decoder_is_likelier_than_the_truth():
    _, decoder, _ = random_pair(2, 4, seed=1)
    truth = decoder @ decoder.mT + 0.3 * torch.eye(4)
    entropy = MultivariateNormal(torch.zeros(4), truth).entropy()
    at_truth = expected_log_likelihood(truth, decoder, likelihood_scale=SCALE)

    torch.testing.assert_close(at_truth, -entropy)
    assert expected_log_likelihood(truth, 1.1 * decoder, likelihood_scale=SCALE) < at_truth
    assert expected_log_likelihood(truth, decoder, likelihood_scale=0.6) < at_truth


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x": torch.ones(2)}, "x: expected 3"),
        ({"mean": torch.ones(2)}, "mean: expected 3"),
        ({"likelihood_scale": 0.0}, "likelihood_scale"),
        ({"prior_scale": torch.ones(3)}, "prior_scale"),
    ],
)
def test_bad_arguments_are_named(changed, match):
    arguments = {"x": torch.ones(3), "decoder": torch.ones(3, 2), "likelihood_scale": 1.0}
    with pytest.raises(ValueError, match=match):
        log_likelihood(**(arguments | changed))
    with pytest.raises(ValueError, match="covariance"):
        expected_log_likelihood(torch.eye(2), torch.ones(3, 2), likelihood_scale=1.0)
