"""Which combinations of classes have an image: the whole grid, or the rows of a table."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_bvae.datasets.checks import check_rows


class Combinations(ABC):
    """Abstract: the class indices `[images, factors]` of a data set, and how to find and draw them.

    Attributes:
        sizes: how many classes each factor has.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(int(size) for size in sizes)

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def factors(self, indices: Tensor) -> Tensor:
        """The rows `[n, factors]` of the images at `indices` `[n]`."""

    @abstractmethod
    def find(self, rows: Tensor) -> Tensor:
        """The first image `[n]` of every row `[n, factors]`, −1 where there is none."""

    @abstractmethod
    def classes(self, position: int) -> Tensor:
        """The classes of one factor that have an image, ascending."""

    @abstractmethod
    def draw(self, n: int, *, generator: torch.Generator, fixing: Mapping[int, Tensor]) -> Tensor:
        """Draw indices `[n]`, uniform among the images whose factors are those `fixing` `[n]`.

        Raises:
            ValueError: a row of fixed classes that no image has.
        """

    @abstractmethod
    def within(self, kept: Sequence[Tensor]) -> Tensor | None:
        """The images `[k]` all of whose classes are kept; None where they are again a grid."""


class Grid(Combinations):
    r"""Every combination once, the last factor varying fastest: arithmetic, nothing is stored.

    Image $i$ has the class indices $f_1 … f_F$ with $i = \sum_k f_k \prod_{l>k} \text{size}_l$.
    """

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def factors(self, indices: Tensor) -> Tensor:
        """The rows `[n, factors]` of the images at `indices` `[n]`."""
        rest = indices
        columns = []
        for size in reversed(self.sizes):
            columns.append(rest % size)
            rest = rest // size
        return torch.stack(columns[::-1], dim=1)

    def find(self, rows: Tensor) -> Tensor:
        """The image `[n]` of every row `[n, factors]`."""
        return _numbered(rows, self.sizes)

    def classes(self, position: int) -> Tensor:
        """All classes of one factor."""
        return torch.arange(self.sizes[position])

    def draw(self, n: int, *, generator: torch.Generator, fixing: Mapping[int, Tensor]) -> Tensor:
        """Draw indices `[n]`: the factors that are not fixed are independent and uniform."""
        columns = [torch.randint(size, (n,), generator=generator) for size in self.sizes]
        for position, classes in fixing.items():
            columns[position] = classes
        return self.find(torch.stack(columns, dim=1))

    def within(self, kept: Sequence[Tensor]) -> None:
        """None: what is kept of a grid is a grid."""


class Rows(Combinations):
    """The rows of a table: combinations may be missing, or there more than once.

    Args:
        table: the class indices `[images, factors]`.
        sizes: how many classes each factor has.

    Raises:
        ValueError: no rows, classes out of range, more than 2⁶³ combinations.
    """

    def __init__(self, table: Tensor, sizes: Sequence[int]) -> None:
        super().__init__(sizes)
        check_rows(table, self.sizes)
        if len(table) == 0:
            raise ValueError("factors: expected at least one row, got none.")
        if math.prod(self.sizes) >= 2**63:
            raise ValueError(
                f"factors: expected fewer than 2^63 combinations, got sizes {self.sizes}. Leave "
                "out some factors."
            )
        self._table = table.long()
        self._sorted: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._present: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self._table)

    def factors(self, indices: Tensor) -> Tensor:
        """The rows `[n, factors]` of the images at `indices` `[n]`."""
        return self._table[indices]

    def find(self, rows: Tensor) -> Tensor:
        """The first image `[n]` of every row `[n, factors]`, −1 where there is none."""
        order, keys = self._order(tuple(range(len(self.sizes))))
        wanted = _numbered(rows, self.sizes)
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return order[at].where(keys[at] == wanted, -1)

    def classes(self, position: int) -> Tensor:
        """The classes of one factor that have an image, ascending."""
        if position not in self._present:
            self._present[position] = self._table[:, position].unique()
        return self._present[position]

    def draw(self, n: int, *, generator: torch.Generator, fixing: Mapping[int, Tensor]) -> Tensor:
        """Draw indices `[n]`, uniform among the images whose factors are those `fixing` `[n]`."""
        if not fixing:
            return torch.randint(len(self), (n,), generator=generator)
        columns = tuple(sorted(fixing))
        order, keys = self._order(columns)
        rows = torch.stack([fixing[column] for column in columns], dim=1)
        wanted = _numbered(rows, [self.sizes[column] for column in columns])
        first = torch.searchsorted(keys, wanted)
        count = torch.searchsorted(keys, wanted, right=True) - first
        if bool((count == 0).any()):
            raise ValueError(
                f"fixing: expected classes that an image has, got {rows[count == 0][0].tolist()} "
                f"for the factors at {columns}, which no image has."
            )
        uniform = torch.rand(n, generator=generator, dtype=torch.float64)
        return order[first + (uniform * count).long()]

    def within(self, kept: Sequence[Tensor]) -> Tensor:
        """The images `[k]` all of whose classes are kept, in the order of the table."""
        columns = zip(self._table.unbind(1), kept, strict=True)
        inside = torch.stack([torch.isin(column, classes) for column, classes in columns])
        return inside.all(0).nonzero()[:, 0]

    def _order(self, columns: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The images sorted by the classes of some factors, and the sorted keys to search."""
        if columns not in self._sorted:
            keys = _numbered(
                self._table[:, list(columns)], [self.sizes[column] for column in columns]
            )
            keys, order = torch.sort(keys, stable=True)
            self._sorted[columns] = (order, keys)
        return self._sorted[columns]


def renumbered(rows: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """Rows `[n, factors]` of kept classes, each class replaced by its place among the kept."""
    columns = zip(rows.unbind(1), kept, strict=True)
    places = [(column[:, None] == classes).int().argmax(1) for column, classes in columns]
    return torch.stack(places, dim=1)


def _numbered(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The place `[n]` of every row `[n, factors]` on the grid of these sizes."""
    strides = [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]
    return (rows.long() * torch.tensor(strides)).sum(1)
