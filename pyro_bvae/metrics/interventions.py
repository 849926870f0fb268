"""Codes of many small batches in which one factor is held, each distinct image encoded once."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.metrics.inputs import Array, ArrayLike, as_matrix

Encode = Callable[[Tensor], ArrayLike]
"""Class indices `[n, factors]`, int64, to the codes `[n, latents]` of their images."""


class Batches(NamedTuple):
    """Batches of points on a factor grid, each with one factor held.

    Attributes:
        held: the factor held in each batch, `[batches]`.
        points: the points' positions on the grid, `[batches, batch_size]`, the last factor
            varying fastest.
    """

    held: Array
    points: Array


class Codebook:
    """The codes of chosen points of a factor grid, each distinct point encoded once.

    Args:
        encode: class indices `[n, factors]` (an int64 tensor) to codes `[n, latents]`; called
            with distinct rows only.
        sizes: the number of classes of each factor.
        points: positions on the grid, of any shape, repeats allowed.
        chunk: the most rows in one call of `encode`.

    Raises:
        ValueError: `encode` returned something other than finite codes, one row per row.

    >>> book = Codebook(lambda rows: 2.0 * rows, (2, 3), np.array([5, 0, 5]))
    >>> book.codes(np.array([5])).tolist()
    [[2.0, 4.0]]
    """

    def __init__(
        self, encode: Encode, sizes: Sequence[int], points: Array, *, chunk: int = 4096
    ) -> None:
        self.known = np.unique(points)
        rows = np.stack(np.unravel_index(self.known, tuple(sizes)), axis=1)
        parts = [torch.from_numpy(rows[i : i + chunk]) for i in range(0, len(rows), chunk)]
        self.table = np.concatenate([_encoded(encode, part) for part in parts])

    def codes(self, points: Array) -> Array:
        """The codes `[*shape, latents]` of grid positions `[*shape]` among the chosen ones."""
        return self.table[np.searchsorted(self.known, points)]


def check_grid(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of the factors as ints, or raise ValueError unless each is ≥ 2."""
    checked = tuple(int(size) for size in sizes)
    if not checked or min(checked) < 2:
        raise ValueError(
            f"factor_sizes: expected two classes or more for every factor, got {checked}; leave "
            "factors of one class out, and have encode fill them in"
        )
    return checked


def held_batches(
    sizes: Sequence[int], batches: int, batch_size: int, rng: np.random.Generator
) -> Batches:
    """Draw batches whose points share the class of one uniformly drawn factor.

    >>> drawn = held_batches((2, 3), 4, 8, np.random.default_rng(0))
    >>> rows = np.stack(np.unravel_index(drawn.points, (2, 3)), axis=-1)
    >>> [len(set(rows[b, :, held])) for b, held in enumerate(drawn.held)]
    [1, 1, 1, 1]
    """
    held = rng.integers(len(sizes), size=batches)
    columns = _columns(sizes, (batches, batch_size), rng)
    for k, column in enumerate(columns):
        column[held == k] = column[held == k, :1]
    return Batches(held, np.ravel_multi_index(tuple(columns), tuple(sizes)))


def held_pairs(
    sizes: Sequence[int], batches: int, batch_size: int, rng: np.random.Generator
) -> tuple[Batches, Batches]:
    """Draw batches of pairs: the two points of a pair share the class of the batch's factor."""
    held = rng.integers(len(sizes), size=batches)
    first = _columns(sizes, (batches, batch_size), rng)
    second = _columns(sizes, (batches, batch_size), rng)
    for k, column in enumerate(second):
        column[held == k] = first[k][held == k]
    grid = tuple(sizes)
    return (
        Batches(held, np.ravel_multi_index(tuple(first), grid)),
        Batches(held, np.ravel_multi_index(tuple(second), grid)),
    )


def uniform_points(sizes: Sequence[int], points: int, rng: np.random.Generator) -> Array:
    """Draw positions on the grid, uniform and independent, `[points]`."""
    return rng.integers(math.prod(sizes), size=points)


def _columns(sizes: Sequence[int], shape: tuple[int, int], rng: np.random.Generator) -> list[Array]:
    return [rng.integers(size, size=shape) for size in sizes]


def _encoded(encode: Encode, rows: Tensor) -> Array:
    codes = as_matrix(encode(rows), "codes from encode", rows=1)
    if len(codes) != len(rows):
        raise ValueError(
            f"codes from encode: expected one row for each of {len(rows)} rows of class indices, "
            f"got {len(codes)}"
        )
    return codes


def check_counts(least: int = 1, **counts: int) -> None:
    """Raise ValueError unless every count is a whole number ≥ `least`."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise ValueError(f"{name}: expected a whole number >= {least}, got {count!r}")
