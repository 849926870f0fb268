"""Discrete latents beside continuous ones: summed over where they are few."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae.diagnostics import log_evidence
from pyro_bvae.diagnostics.supports import combinations

FAST = {"num_samples": 16, "temperatures": 50, "leapfrogs": 5, "batch_size": 1000}


def test_too_many_values_are_refused():
    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Poisson(1.0))
            pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(k, 1.0)), 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Poisson(torch.ones(len(x))))
            pyro.sample("z", dist.Normal(x / 2, 1.0))

    with pytest.raises(ValueError, match=r"site 'k' to be continuous.* of at most 256 values"):
        log_evidence((model, guide), torch.zeros(2), method="annealed")
    many = {name: torch.arange(17.0) for name in "ab"}
    with pytest.raises(ValueError, match=r"at most 256 values together.* got 289"):
        combinations(many)


def test_two_classes_together_have_all_their_combinations():
    """x = z + a + 2 b + noise, of two coins: log ¼ Σ N(x; a + 2b, 2)."""

    def model(x):
        with pyro.plate("data", len(x)):
            a, b = (pyro.sample(name, dist.Bernoulli(0.5)) for name in "ab")
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + a + 2 * b, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            for name in "ab":
                pyro.sample(name, dist.Bernoulli(torch.full((len(x),), 0.5)))
            pyro.sample("z", dist.Normal(x / 2, 1.0))

    x = torch.tensor([0.5, 3.0]).repeat(8)
    terms = dist.Normal(torch.arange(4.0), 2**0.5).log_prob(x[:, None])
    exact = (terms.logsumexp(1) - torch.tensor(4.0).log()).mean().item()
    found = log_evidence((model, guide), x, method="annealed", **FAST)
    assert found.mean == pytest.approx(exact, abs=4 * found.mean_error + 0.02)
