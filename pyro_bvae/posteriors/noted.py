"""Distributions that keep a note of the numbers they are made of, wherever Pyro expands them."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from pyro_bvae.types import Distribution


class Source(NamedTuple):
    """What a distribution is made of: `family(numbers + offset)`.

    Attributes:
        family: from numbers to the distribution they stand for.
        numbers: what a network gives for the data and what is drawn, `[*batch, numbers]`.
        offset: what was added to them for each datum by itself, if anything.
    """

    family: Callable[[Tensor], Distribution]
    numbers: Tensor
    offset: Tensor | None = None


def made_of(
    family: Callable[[Tensor], Distribution], numbers: Tensor, offset: Tensor | None = None
) -> Distribution:
    """Return `family(numbers + offset)` with a note of the three, which `source_of` reads.

    >>> import pyro.distributions as dist, torch
    >>> q = made_of(lambda numbers: dist.Normal(numbers, 1.0).to_event(1), torch.zeros(3, 2))
    >>> source_of(q.expand([4, 3])).numbers.shape
    torch.Size([3, 2])
    """
    moved = numbers if offset is None else numbers + offset
    return _noted(family(moved), Source(family, numbers, offset))


def source_of(fn: Distribution) -> Source | None:
    """Return what a distribution is made of, if it has a note of that."""
    return fn.source if isinstance(fn, _Noted) else None


class _Noted:
    """A distribution with a note that what `expand` makes of it has too."""

    source: Source

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        parent: Any = super()
        return _noted(parent.expand(batch_shape, _instance), self.source)


@cache
def _with_note(kind: Any) -> type:
    metaclass: Any = type(kind)
    return kind if issubclass(kind, _Noted) else metaclass(kind.__name__, (_Noted, kind), {})


def _noted(fn: Any, source: Source) -> Any:
    kind: Any = type(fn)
    fn.__class__ = _with_note(kind)
    fn.source = source
    return fn
