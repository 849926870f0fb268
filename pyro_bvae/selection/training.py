"""Trainings that follow one another, each going on from the weights of another."""

from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_bvae.training import fit
from pyro_bvae.types import PairLike


def train(pair: PairLike, data: Any, *, beta: float, **options: Any) -> None:
    """`fit`, but Ctrl-C raises KeyboardInterrupt: what comes next needs a finished training.

    β goes to it as a tensor, so that trainings at several β have one graph, and those after the
    first find it compiled in torch's cache.
    """
    level = torch.tensor(beta, dtype=torch.float64)
    if fit(pair, data, beta=level, **options).interrupted:
        raise KeyboardInterrupt


def weights_of(pair: PairLike) -> dict[str, Tensor]:
    """Copy the weights: a module's state, or of other pairs the parameters in Pyro's store."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(pair).items()}


@torch.no_grad()
def restore(pair: PairLike, weights: dict[str, Tensor]) -> None:
    """Give the pair, in place, weights that `weights_of` copied."""
    for name, tensor in _tensors(pair).items():
        tensor.copy_(weights[name])


def _tensors(pair: PairLike) -> dict[str, Tensor]:
    if isinstance(pair, nn.Module):
        return pair.state_dict()
    return dict(pyro.get_param_store().named_parameters())
