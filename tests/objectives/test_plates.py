"""Objectives on a pair of several plates, those that run one by one among them."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_bvae import evaluate
from pyro_bvae.objectives import ELBO, ImportanceELBO

X = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)[:, None] + torch.arange(3)


def columns(x, *, order):
    """z_i ~ N(0, 1), x_i ~ N(z_i, 1) for each column i: what runs inside, or outside, the data."""
    if order == "inside":
        with pyro.plate("data", len(x)):
            for i in pyro.plate("columns", x.shape[1]):
                yield i
    else:
        data = pyro.plate("data", len(x))
        for i in pyro.plate("columns", x.shape[1]):
            with data:
                yield i


def one_by_one(order):
    def model(x):
        for i in columns(x, order=order):
            z = pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))
            pyro.sample(f"x_{i}", dist.Normal(z, 1.0), obs=x[:, i])

    def guide(x):
        for i in columns(x, order=order):
            pyro.sample(f"z_{i}", dist.Normal(x[:, i] / 2, 0.5**0.5))

    return model, guide


def together(order):
    """The same in two plates; one more is around the likelihood alone."""

    def plates(x):
        data, rows = pyro.plate("data", len(x), dim=-2), pyro.plate("columns", x.shape[1], dim=-1)
        return (data, rows) if order == "inside" else (rows, data)

    def model(x):
        first, second = plates(x)
        with first, second:
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("once", 1, dim=-3):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        first, second = plates(x)
        with first, second:
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    return model, guide


@pytest.mark.parametrize("pair", [one_by_one, together])
@pytest.mark.parametrize("order", ["inside", "outside"])
def test_data_are_counted_whatever_plate_is_the_outermost(pair, order):
    """The ELBO per datum of evaluate; all importance weights of the exact guide are p(x)."""
    model, guide = pair(order)
    evidence = dist.Normal(0.0, 2**0.5).log_prob(X).sum(1)
    assert ELBO().estimate(model, guide, X).data == len(X)
    for number in (1, 3, 5):
        bound = -ImportanceELBO(number).loss(model, guide, X)
        assert bound == pytest.approx(evidence.sum().item(), rel=1e-12)
    objective = ImportanceELBO(4)
    measured = evaluate((model, guide), X, objective=objective, batch_size=2)
    assert measured["loss"] == pytest.approx(-evidence.mean().item(), rel=1e-12)
