"""Pyro and torch while a step is recorded: no checks of values, no seeds."""

import threading
from collections.abc import Callable, Iterator
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
            (torch, "manual_seed", _refused_here(torch.manual_seed)),
            (torch, "set_rng_state", _refused_here(torch.set_rng_state)),
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


def _refused_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse calls from this thread, and from those in which a device takes its gradients."""
    recording = threading.get_ident()

    def refused(*args: Any, **kwargs: Any) -> Any:
        another = threading.current_thread()
        if another.ident == recording or isinstance(another, threading._DummyThread):
            raise DataDependent("the random generator is set, which no graph can do")
        return function(*args, **kwargs)

    return refused
