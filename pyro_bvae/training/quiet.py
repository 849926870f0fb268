"""Pyro and torch while a step is recorded: no checks of values, no seeds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import pyro.util
import torch

ONE_AT_A_TIME = threading.RLock()


class DataDependent(RuntimeError):
    """A step did what no graph can: most often, read a value that only its data can give."""


@contextmanager
def quiet_pyro() -> Iterator[None]:
    """Switch off the checks of values in Pyro and torch, which read them; refuse seeds.

    These belong to all threads: one at a time gets in, the others wait, and may set seeds.
    """
    with ONE_AT_A_TIME:
        patched: list[tuple[Any, str, Any]] = [
            (pyro.util, "torch_isnan", lambda value: False),
            (pyro.util, "torch_isinf", lambda value: False),
            (torch.distributions.Distribution, "_validate_sample", lambda self, value: None),
            (torch.random, "default_generator", _Unset(torch.random.default_generator)),
        ]
        saved = [(owner, name, getattr(owner, name)) for owner, name, _ in patched]
        try:
            for owner, name, function in patched:
                setattr(owner, name, function)
            with pyro.validation_enabled(False):
                yield
        finally:
            for owner, name, function in saved:
                setattr(owner, name, function)


class _Unset:
    """The generator behind every function of torch that sets or reads one, but not to be set.

    It refuses this thread, and those in which a device takes its gradients.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator, self._recording = generator, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        another = threading.current_thread()
        here = another.ident == self._recording or isinstance(another, threading._DummyThread)
        if here and name in ("manual_seed", "seed", "set_state"):
            raise DataDependent("the random generator is set, which no graph can do")
        return getattr(self._generator, name)
