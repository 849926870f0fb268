"""Undo what a step did, when it has to be taken again in another way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyro
import torch
from pyro.util import get_rng_state, set_rng_state
from torch import Tensor, nn


@contextmanager
def undone_on_error(modules: Iterable[nn.Module], parameters: Iterable[Tensor]) -> Iterator[None]:
    """Put gradients back in any case, and after an exception all else that a step changes.

    These are the values of parameters and buffers, what Pyro's parameter store holds by which
    name and under which constraint, and the random generators.
    """
    leaves = _once([*parameters, *stored().values()])
    buffers = _once(b for module in modules for b in module._buffers.values() if b is not None)
    gradients = [(p, p.grad) for p in leaves]
    undo = [_generators(), _values([*leaves, *buffers]), _store()]
    for p in leaves:
        p.grad = None
    try:
        yield
    except BaseException:
        for restore in undo:
            restore()
        raise
    finally:
        for p, gradient in gradients:
            p.grad = gradient


def stored() -> dict[str, Tensor]:
    """Return what Pyro's parameter store holds: unconstrained parameters, by name."""
    return dict(pyro.get_param_store().named_parameters())


def _once(tensors: Iterable[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _generators() -> Callable[[], None]:
    state = get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore() -> None:
        set_rng_state(state)
        torch.cuda.set_rng_state_all(cuda)

    return restore


def _values(tensors: Iterable[Tensor]) -> Callable[[], None]:
    copies = [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore() -> None:
        for tensor, copy in copies:
            tensor.copy_(copy)

    return restore


def _store() -> Callable[[], None]:
    """The store's own `get_state` takes from parameters what leads back to them."""
    store = pyro.get_param_store()
    params, constraints = stored(), dict(store._constraints)

    def restore() -> None:
        store.clear()
        store.set_state({"params": params, "constraints": constraints})

    return restore
