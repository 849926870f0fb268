"""Pairs of Pyro functions that read values while they run, and so have no one graph."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro.distributions import constraints
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor

from tests.training.examples import FEATURES, Example, conditional_vae, net
from tests.training.small_examples import mean_and_scale


def mixture() -> Example:
    """A mixture whose components are summed over by enumeration."""

    @config_enumerate
    def model(x: Tensor) -> None:
        weights = pyro.param("weights", torch.ones(2) / 2, constraint=constraints.simplex)
        loc = pyro.param("loc", torch.tensor([-1.0, 1.0]))
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(weights))
            pyro.sample("x", dist.Normal(loc[k], 1.0), obs=x)

    loss = lambda: TraceEnum_ELBO(max_plate_nesting=1)  # noqa: E731
    return Example(model, lambda x: None, lambda: (torch.randn(7),), loss)


def conditional_vae_by_indices() -> Example:
    """The conditional VAE with the missing pixels picked out by a boolean index."""
    generation = net(FEATURES, FEATURES)

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("generation", generation)
        with pyro.plate("data", len(x)):
            missing = x == -1
            logits = generation(x)[missing].view(len(x), -1)
            observed = y[missing].view(len(x), -1)
            pyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=observed)

    return Example(model, lambda x, y: None, conditional_vae().arguments)


def reading(read: Callable[[Tensor, int], Any]) -> Callable[[], Example]:
    """A pair whose model uses what `read` makes of the data, and of the number of runs so far."""

    def make() -> Example:
        example = mean_and_scale()
        runs = itertools.count()

        def model(x: Tensor) -> None:
            shift = pyro.param("shift", torch.tensor(0.1)) * read(x, next(runs))
            pyro.sample("shifted", dist.Normal(shift, 1.0), obs=torch.tensor(0.0))
            example.model(x)

        return example._replace(model=model)

    return make


READING = {
    "shape by a boolean index": conditional_vae_by_indices,
    "int(x)": reading(lambda x, n: int(x[0, 0])),
    "x.tolist()": reading(lambda x, n: x.tolist()[0][0]),
    "x.numpy()": reading(lambda x, n: x.numpy().sum()),
    "len(x[x > 0])": reading(lambda x, n: len(x[x > 0])),
    "len(nonzero(x))": reading(lambda x, n: len(torch.nonzero(x))),
    "tensor_split": reading(
        lambda x, n: torch.tensor_split(x.flatten(), (x[0, :1] > 0).long())[1].sum()
    ),
    "a random Python number": reading(lambda x, n: np.random.rand()),
    "a random array": reading(lambda x, n: torch.from_numpy(np.random.rand(1)).sum()),
    "a count of steps": reading(lambda x, n: n % 5),
}
