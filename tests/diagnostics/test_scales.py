"""Scales of tensors around sites: refused where a density knows nothing of them."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from pyro_bvae import Pair, tempered
from pyro_bvae.diagnostics import importance


def weighted(scale: Tensor | float, *, of_x: Tensor | float | None = None) -> Pair:
    """z ~ N(0, 1), x ~ N(z, 1), in the model and the guide scaled."""

    def model(x):
        with pyro.plate("data", len(x)):
            with pyro.poutine.scale(scale=scale):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.poutine.scale(scale=scale if of_x is None else of_x):
                pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)), pyro.poutine.scale(scale=scale):
            pyro.sample("z", dist.Normal(x / 2, 0.5**0.5))

    return Pair(model, guide)


def test_scales_of_single_sites_are_refused_and_those_of_whole_data_are_not():
    x, weights = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 2.0, 0.5])
    exact = dist.Normal(0.0, 2**0.5).log_prob(x)
    for pair in (weighted(1.0), weighted(weights), weighted(4.0, of_x=1.0)):
        for held in (pair, tempered(pair, 3.0)):
            found = importance(held, x, num_samples=25)
            torch.testing.assert_close(found.log_evidence, exact)
    for pair in (weighted(1.0, of_x=weights), weighted(weights, of_x=1.0)):
        with pytest.raises(ValueError, match=r"weighed by tensors of scales.*use poutine\.mask"):
            importance(pair, x, num_samples=25)
