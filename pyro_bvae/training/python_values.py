"""Python values as they lie around a function, and how to read them without running code."""

import argparse
import io
import itertools
import pickle
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from types import CellType, FunctionType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

SCALARS = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(np.generic, torch.dtype, torch.device),
)
VALUES = (*SCALARS, Decimal, Fraction, range, slice)
SEQUENCES = (list, tuple, deque)
CONTAINERS = (dict, set, frozenset, *SEQUENCES)
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
PLACED = (*GENERATORS, itertools.count)
OPEN = (dict, list, deque, set, np.ndarray, *PLACED)
NAMESPACES = (SimpleNamespace, argparse.Namespace)
MAIN = ("__main__", "__mp_main__")
LIBRARIES = sys.stdlib_module_names | {"torch", "pyro", "numpy", "scipy", "tqdm"}
OF_MODULES = frozenset(vars(nn.Module())) | {"training"}
MOST, DEEP = 256, 3
HERE = __name__.partition(".")[0] + "."


class Read(dict[str, Any]):
    """What a function returns, as a mapping of whatever name.

    >>> Read(lambda: 1.0).get("rate")
    1.0
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        self.read = read

    def get(self, name: str, missing: Any = None) -> Any:
        """Return the value, or what is asked for if there is none yet."""
        try:
            return self.read()
        except (AttributeError, LookupError, ValueError):
            return missing


class Slot(Read):
    """What an attribute of a function or of a closure's cell is, as a mapping of whatever name."""

    def __init__(self, owner: FunctionType | CellType, name: str) -> None:
        super().__init__(partial(getattr, owner, name))


def attributes(value: Any) -> Mapping[str, Any]:
    """Return those that lie in an object itself, whatever it makes of being asked for them."""
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}


def scalar(value: Any) -> Any:
    """Return what two scalars have in common if they are the same to the last bit.

    >>> scalar(1) == scalar(1.0), scalar(0.0) == scalar(-0.0)
    (False, False)
    """
    return value if isinstance(value, str | bytes) else (type(value), repr(value))


def is_open(value: Any) -> bool:
    """Whether a value may change while it stays the same object."""
    if isinstance(value, tuple):
        return any(map(is_open, value))
    return isinstance(value, OPEN) or is_iterator(value)


def is_iterator(value: Any) -> bool:
    """Whether to look at the next element is to change it; files are left out."""
    return isinstance(value, Iterator) and not isinstance(value, io.IOBase)


def place(value: Any) -> Any:
    """Return where a count, or one of Python's or NumPy's random generators, is.

    That of the system's generator is nowhere.

    >>> import itertools
    >>> place(itertools.count(3))
    'count(3)'
    """
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, random.SystemRandom):
        return None
    if isinstance(value, random.Random):
        return value.getstate()
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value._bit_generator
    return pickle.dumps(bits.state)


def is_own(value: Any) -> bool:
    """Whether a function, class or Python module is none of a library's: of none installed."""
    return not _is_library(package(value))


@cache
def _is_library(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    installed = {"site-packages", "dist-packages"} & {*Path(file).parts}
    return name in LIBRARIES or (bool(installed) and name not in (HERE[:-1], *MAIN))


def is_here(value: Any) -> bool:
    """Whether a function or class is one of this package's."""
    return package(value) == HERE[:-1]


def package(value: Any) -> str:
    """Return the first part of the name of the Python module where something is from."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    return (name or "").partition(".")[0]


class Place(NamedTuple):
    """Where names are looked up: in an object, if it is one, then in spaces of names."""

    value: Any
    spaces: tuple[Mapping[str, Any], ...]
    depth: int
    names: frozenset[str]

    def named(self, names: set[str], *, anything: bool) -> set[str]:
        """Return which of some names are there."""
        module = isinstance(self.value, nn.Module)
        every = self.spaces[0].keys() if anything and not module else set()
        there = {name for space in self.spaces for name in space}
        return ((names | self.names | every) & there) - (OF_MODULES if module else set())


def own_classes(owner: type) -> list[type]:
    """Return which of the classes that a class is one of are the user's."""
    return [cls for cls in owner.__mro__ if is_own(cls) and not is_here(cls)]
