"""Small pairs of Pyro functions without networks: each shows one thing that Pyro can do."""

from collections.abc import Callable
from typing import Any

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import Tensor, nn

from tests.training.examples import Example


def auto_normal_regression() -> Example:
    """Bayesian regression with the guide that Pyro writes."""

    class Regression(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.linear = PyroModule[nn.Linear](3, 1)
            self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, 3]).to_event(2))
            self.noise = PyroParam(torch.tensor(1.0), constraint=constraints.positive)

        def forward(self, x: Tensor, y: Tensor) -> None:
            mean = self.linear(x).squeeze(-1)
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(mean, self.noise), obs=y)

    def arguments() -> tuple[Tensor, Tensor]:
        x = torch.randn(9, 3)
        return x, x @ torch.tensor([1.0, -2.0, 0.5]) + 0.1 * torch.randn(9)

    model = Regression()
    return Example(model, AutoNormal(model), arguments)


def constrained_parameters() -> Example:
    """Every kind of constraint that changes coordinates."""

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(0.5), constraint=constraints.positive)
        weights = pyro.param("weights", torch.ones(3) / 3, constraint=constraints.simplex)
        low = pyro.param("low", torch.tensor(0.3), constraint=constraints.interval(0.0, 1.0))
        factor = pyro.param("factor", torch.eye(2), constraint=constraints.lower_cholesky)
        z = pyro.sample("z", dist.MultivariateNormal(torch.zeros(2), scale_tril=factor))
        with pyro.plate("data", len(x)):
            parts = dist.Normal(torch.stack([z[0], z[1], low]), scale)
            mixture = dist.MixtureSameFamily(dist.Categorical(weights), parts)
            pyro.sample("x", mixture, obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", lambda: torch.randn(2))
        scale = pyro.param("q_scale", torch.ones(2), constraint=constraints.softplus_positive)
        pyro.sample("z", dist.Normal(loc, scale).to_event(1))

    return Example(model, guide, lambda: (torch.randn(7),))


def subsampled_plate() -> Example:
    """A plate that draws its own minibatch out of data it holds, and a plate in sequence."""
    data = torch.randn(20) + 2.0

    def model() -> None:
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        for i in pyro.plate("offsets", 2):
            pyro.sample(f"offset_{i}", dist.Normal(mean, 1.0), obs=torch.tensor(float(i)))
        with pyro.plate("data", len(data), subsample_size=5) as indices:
            local = pyro.sample("local", dist.Normal(mean, 1.0))
            pyro.sample("x", dist.Normal(local, 1.0), obs=data[indices])

    def guide() -> None:
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("mean", dist.Normal(loc, 0.5))
        with pyro.plate("data", len(data), subsample_size=5) as indices:
            locals_ = pyro.param("locals", torch.zeros(len(data)))
            pyro.sample("local", dist.Normal(locals_[indices], 0.5))

    return Example(model, guide, tuple)


def mean_and_scale() -> Example:
    """A mean and a scale: the smallest pair with several parameters."""

    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(2.0), constraint=constraints.positive)
        mean = pyro.sample("mean", dist.Normal(torch.zeros(3), 3.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, scale).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        loc = pyro.param("loc", lambda: torch.randn(3))
        spread = pyro.param("spread", torch.ones(3), constraint=constraints.positive)
        pyro.sample("mean", dist.Normal(loc, spread).to_event(1))

    return Example(model, guide, lambda: (torch.randn(4, 3) + 1.0,))


def regression(**arguments: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """A model of a mean with a network, which takes any arguments; and its guide."""
    net = nn.Linear(2, 1)

    def model(x: Tensor, **kwargs: Any) -> None:
        pyro.module("net", net)
        weight = torch.as_tensor(kwargs.get("weight", 1.0))
        with pyro.plate("data", len(x)), poutine.scale(scale=weight):
            pyro.sample("x", dist.Normal(net(x).squeeze(-1), 1.0), obs=x[:, 0])

    def guide(x: Tensor, **kwargs: Any) -> None:
        pass

    model.net = net  # type: ignore[attr-defined]
    return model, guide


SMALL = [auto_normal_regression, constrained_parameters, subsampled_plate]
