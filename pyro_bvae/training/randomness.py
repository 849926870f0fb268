"""The state of the random generators that training draws from: torch's, NumPy's and Python's."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pyro_bvae.training.state import State


def randomness(device: torch.device | None) -> State:
    """Return the state of torch's generator on the CPU, of NumPy's and Python's global ones.

    And that of the device's, if that is a CUDA one. What draws from a generator of its own, such
    as a data set with a `numpy.random.Generator`, is not in it.

    >>> before = randomness(None)
    >>> draws = torch.rand(()), np.random.rand(), random.random()
    >>> with foreign_randomness_kept():
    ...     set_randomness(None, before)
    ...     (torch.rand(()), np.random.rand(), random.random()) == draws
    True
    """
    cuda = device if device is not None and device.type == "cuda" else None
    version, numbers, gauss = random.getstate()
    return {
        "cpu": torch.get_rng_state(),
        "cuda": None if cuda is None else torch.cuda.get_rng_state(cuda),
        "numpy": _mapped(np.random.get_state(legacy=False), np.ndarray, _as_tensor),
        "python": (version, torch.tensor(numbers), gauss),
    }


def set_randomness(device: torch.device | None, state: State) -> None:
    """Bring back what `randomness` returned; ValueError if the device is of another kind."""
    on_cuda = device is not None and device.type == "cuda"
    if on_cuda != (state["cuda"] is not None):
        kinds = ("a CPU", "a GPU") if on_cuda else ("a GPU", "a CPU")
        raise ValueError(f"pair: expected it on {kinds[0]}, as the run was, got it on {kinds[1]}")
    torch.set_rng_state(state["cpu"])
    if device is not None and on_cuda:
        torch.cuda.set_rng_state(state["cuda"], device)
    np.random.set_state(_mapped(state["numpy"], torch.Tensor, torch.Tensor.numpy))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))


@contextmanager
def foreign_randomness_kept() -> Iterator[None]:
    """Put NumPy's and Python's generators back as they were, afterwards."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Change what is of this kind in nested mappings."""
    if isinstance(value, Mapping):
        return {name: _mapped(part, kind, change) for name, part in value.items()}
    return change(value) if isinstance(value, kind) else value


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))
