"""Python values as they lie around a function, and how to read them without running code."""

import io
import itertools
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import MemberDescriptorType, ModuleType
from typing import Any

import numpy as np
import torch

SCALARS = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(np.generic, torch.dtype, torch.device),
)
SEQUENCES = (list, tuple, deque)
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
PLACED = (*GENERATORS, itertools.count)
OPEN = (dict, list, deque, set, np.ndarray, *PLACED)
LIBRARIES = sys.stdlib_module_names | {"torch", "pyro", "numpy", "scipy", "tqdm"}
HERE = __name__.partition(".")[0] + "."
MISSING = object()


class Read(dict[str, Any]):
    """What a function returns, as a mapping of whatever name.

    >>> Read(lambda: 1.0).get("rate")
    1.0
    """

    def __init__(self, read: Callable[[], Any]) -> None:
        self._read = read

    def get(self, name: str, missing: Any = None) -> Any:
        """Return the value, or what is asked for if there is none yet."""
        try:
            return self._read()
        except (LookupError, ValueError):
            return missing


class Shared(Mapping[str, Any]):
    """An object's attributes that lie in slots, or in classes that are the user's.

    What would be computed is not: a property is itself.

    >>> class Options:
    ...     rate = 1.0
    >>> Options.__module__ = "mine"
    >>> Shared(Options())["rate"]
    1.0
    """

    def __init__(self, value: Any) -> None:
        self._value = value
        self._own = getattr(value, "__dict__", {})
        own = [cls for cls in type(value).__mro__ if is_own(cls)]
        self._classes = [vars(cls) for cls in own if not cls.__module__.startswith(HERE)]

    def __getitem__(self, name: str) -> Any:
        """Return one as the object has it; KeyError if there is none, or it is not set."""
        found = next((each[name] for each in self._classes if name in each), MISSING)
        if isinstance(found, MemberDescriptorType):
            found = getattr(self._value, name, MISSING)
        if found is MISSING:
            raise KeyError(name)
        return self._own.get(name, found)

    def __contains__(self, name: object) -> bool:
        return any(name in attributes for attributes in self._classes)

    def __iter__(self) -> Iterator[str]:
        return iter({name for attributes in self._classes for name in attributes})

    def __len__(self) -> int:
        return sum(1 for _ in self)


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

    >>> import itertools
    >>> place(itertools.count(3))
    'count(3)'
    """
    if isinstance(value, itertools.count):
        return repr(value)
    if isinstance(value, random.Random):
        return value.getstate()
    bits = value.bit_generator if isinstance(value, np.random.Generator) else value._bit_generator
    return str(bits.state)


def is_own(value: Any) -> bool:
    """Whether a function, class or Python module is none of a library's."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    return (name or "").partition(".")[0] not in LIBRARIES
