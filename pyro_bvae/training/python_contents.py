"""What two looks at a Python value have in common if it is the same."""

from collections.abc import Collection
from types import MethodType
from typing import Any

import numpy as np
from torch import Tensor

from pyro_bvae.training.python_values import (
    CONTAINERS,
    DEEP,
    MOST,
    PLACED,
    VALUES,
    is_iterator,
    scalar,
)

IGNORED, MISSING = object(), object()


class Contents:
    """What is compared of values: scalars, and what containers hold, or else an identity.

    Args:
        held: the ids of tensors that matter.

    Attributes:
        known: the ids of objects that matter, which somebody keeps alive; others are all alike.
        large: the ids of containers that are known by identity and length alone.

    >>> contents = Contents()
    >>> contents.of([1, {"rate": 2.0}]) == contents.of([1, {"rate": 2.0}])
    True
    >>> contents.of([1]) == contents.of([1.0])
    False
    """

    def __init__(self, held: Collection[int] = ()) -> None:
        self._held = held
        self.known: set[int] = set()
        self.large: set[int] = set()

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return what is compared of a value."""
        if value is MISSING:
            return value
        if isinstance(value, VALUES):
            return scalar(value)
        if isinstance(value, Tensor):
            return id(value) if id(value) in self._held else IGNORED
        if isinstance(value, np.ndarray):
            inside = value.tobytes() if value.size <= MOST else self._identity(value)
            return value.dtype.str, value.shape, inside
        if isinstance(value, CONTAINERS):
            return self._parts(value, depth)
        if isinstance(value, MethodType):
            return id(value.__self__), id(value.__func__)
        known = self._identity(value)
        moves = known is IGNORED and (isinstance(value, PLACED) or is_iterator(value))
        return object() if moves else known

    def _parts(self, value: Any, depth: int) -> Any:
        if len(value) > MOST or depth > DEEP or id(value) in self.large:
            return len(value), self._identity(value)
        if isinstance(value, set | frozenset):
            return frozenset(self.of(part, depth + 1) for part in value)
        parts = tuple(self.of(part, depth + 1) for part in value)
        if not isinstance(value, dict):
            return parts
        return parts, tuple(self.of(part, depth + 1) for part in value.values())

    def _identity(self, value: Any) -> Any:
        return id(value) if id(value) in self.known else IGNORED


def size(value: Any, depth: int = 0) -> int:
    """Return how much a container holds in all, as far as it is compared.

    >>> size([1, [2, 3]])
    4
    """
    if not isinstance(value, CONTAINERS) or len(value) > MOST or depth > DEEP:
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return len(value) + sum(size(part, depth + 1) for part in parts)
