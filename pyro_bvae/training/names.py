"""Names that another process gives the same tensors: what a checkpoint calls them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_bvae.training.constraints import constraint_of, described
from pyro_bvae.training.surroundings import Modules
from pyro_bvae.types import PairLike, as_pair

STORED = "pyro.param "


def modules_of(pair: PairLike) -> Modules:
    """Return the modules that a pair is or that its functions belong to; a step adds the rest."""
    return Modules(pair, *as_pair(pair))


def named_tensors(
    pair: PairLike, modules: Modules, parameters: Iterable[Tensor]
) -> dict[str, Tensor]:
    """Return all that training changes: the pair's own tensors, those in Pyro's store, buffers.

    Args:
        pair: what is trained; if a module, its parameters and buffers have the names it gives.
        modules: those that took part in a step, in the order in which they did.
        parameters: those that Pyro and the optimiser know.
    """
    found: dict[int, tuple[str, Tensor]] = {}

    def add(name: str, tensor: Tensor | None) -> None:
        if tensor is not None:
            found.setdefault(id(tensor), (name, tensor))

    if isinstance(pair, nn.Module):
        for own in (pair.named_parameters(), pair.named_buffers()):
            for name, tensor in own:
                add(name, tensor)
    parameters = list(parameters)
    for parameter in parameters:
        stored = pyro.get_param_store().param_name(parameter)
        if stored is not None:
            add(f"{STORED}{stored}", parameter)
    for number, module in enumerate(modules):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            add(f"module {number} {name}", tensor)
    for number, parameter in enumerate(parameters):
        add(f"parameter {number}", parameter)
    return dict(found.values())


def constraints_of(tensors: Mapping[str, Tensor]) -> dict[str, list[Any] | None]:
    """Return the constraints of those that are in Pyro's store, in words."""
    known = pyro.get_param_store().get_state()["constraints"]
    stored = [name for name in tensors if name.startswith(STORED)]
    return {name: described(known[name.removeprefix(STORED)]) for name in stored}


@contextmanager
def kept_on_error(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Put back what these tensors are now, if an error ends what is done to them."""
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)
        raise


@torch.no_grad()
def restore(
    tensors: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
    constraints: Mapping[str, list[Any] | None],
) -> dict[str, Tensor]:
    """Give tensors the values that were saved, in place, and return all of them by name.

    A parameter of Pyro's store that does not exist yet is made.

    Raises: ValueError if there are others, or of other shape or dtype.
    """
    found = dict(tensors)
    store = pyro.get_param_store()
    existing = dict(store.named_parameters())
    for name in saved.keys() - found.keys():
        words, own = constraints.get(name), name.removeprefix(STORED)
        if own in existing:
            found[name] = existing[own]
        elif words is not None:
            found[name] = saved[name].clone().requires_grad_()
            store.set_state(
                {"params": {own: found[name]}, "constraints": {own: constraint_of(words)}}
            )
    if found.keys() != saved.keys():
        raise ValueError(
            "pair: expected the one that the run was trained with, got another: the checkpoint "
            f"lacks {sorted(found.keys() - saved.keys())}, the pair lacks "
            f"{sorted(saved.keys() - found.keys())}"
        )
    for name, tensor in found.items():
        expected, given = ((t.dtype, list(t.shape)) for t in (saved[name], tensor))
        if expected != given:
            raise ValueError(
                f"pair: expected {name!r} to be {expected[0]} {expected[1]}, as the run was "
                f"trained, got {given[0]} {given[1]}"
            )
    for name, tensor in found.items():
        tensor.copy_(saved[name])
    return found
