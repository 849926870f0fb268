"""The β of a given rate, against the closed form of the linear VAE."""

from functools import partial

import pytest
import torch

from pyro_bvae import evaluate, theory
from pyro_bvae.selection import beta_for_rate
from tests.truths import NOISE, SPECTRUM, BalancedPosterior, data_and_covariance, linear_vae

OPTIONS = {"steps": 200, "batch_size": 64, "optim": partial(torch.optim.Adam, lr=0.03)}


def test_rate_of_one_nat_comes_at_the_beta_of_the_theory():
    """Between two and three latents R = ln(8/t²)/2: a miss of 0.05 nats is one of 5 % in β."""
    x, _ = data_and_covariance(64)
    vae = linear_vae(3, posterior=BalancedPosterior)
    found = beta_for_rate(vae, x, rate=1.0, low=0.5, high=16.0, **OPTIONS)
    exact = theory.beta_for_rate(1.0, SPECTRUM, 3, likelihood_scale=NOISE).item()
    assert found.rate == pytest.approx(1.0, abs=0.05)
    assert found.beta == pytest.approx(exact, rel=0.08)
    assert found.rate == evaluate(vae, x)["kl"] == found.tried[found.beta]


def test_a_rate_outside_the_bracket_is_refused():
    x, _ = data_and_covariance(64)
    vae = linear_vae(2, posterior=BalancedPosterior)
    short = OPTIONS | {"steps": 60}
    with pytest.raises(ValueError, match="lower `low`"):
        beta_for_rate(vae, x, rate=50.0, low=0.5, **short)
    with pytest.raises(ValueError, match="raise `high`"):
        beta_for_rate(vae, x, rate=1e-3, tolerance=1e-4, low=0.5, high=1.0, trainings=3, **short)


@pytest.mark.parametrize("name", ["rate", "low", "tolerance", "trainings"])
def test_numbers_that_are_not_positive_are_named(name):
    options = {"rate": 1.0, "steps": 1} | {name: 0}
    with pytest.raises(ValueError, match=name):
        beta_for_rate(linear_vae(1), torch.zeros(4, 5), **options)
