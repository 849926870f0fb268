"""Images on a grid of factors: one image for every combination, the last factor varying fastest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset


class FactorSample(NamedTuple):
    """Rows of class indices `[n, factors]` and their images `[n, *shape]`."""

    factors: Tensor
    images: Tensor


class FactorDataset(Dataset[Tensor], ABC):
    r"""Abstract: images that are a function of discrete factors, on their whole grid.

    Image `i` has the class indices $f_1 … f_F$ with
    $i = \sum_k f_k \prod_{l>k} \text{size}_l$. A concrete data set gives :meth:`images`.
    Every place that takes a factor takes its name or its position.

    Args:
        factor_names: one distinct name per factor.
        factor_sizes: how many classes each factor has.
        shape: of one image, such as `(1, 64, 64)`.
        factor_values: the real value of each class, one sequence per factor; the class
            indices themselves unless given.

    Raises:
        ValueError: names, sizes and values that do not belong together.
    """

    def __init__(
        self,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        shape: Sequence[int],
        *,
        factor_values: Sequence[Sequence[float] | Tensor] | None = None,
    ) -> None:
        self.factor_names = tuple(factor_names)
        self.factor_sizes = tuple(int(size) for size in factor_sizes)
        self.shape = tuple(shape)
        values = [range(n) for n in self.factor_sizes] if factor_values is None else factor_values
        self.factor_values = tuple(
            torch.as_tensor(v, dtype=torch.get_default_dtype()) for v in values
        )
        named = len(set(self.factor_names)) == len(self.factor_names) == len(self.factor_sizes) > 0
        if not named or min(self.factor_sizes) < 1:
            raise ValueError(
                f"factor_names and factor_sizes: expected one distinct name and one size >= 1 per "
                f"factor, got {self.factor_names} and {self.factor_sizes}."
            )
        if tuple(len(v) for v in self.factor_values) != self.factor_sizes:
            raise ValueError(
                f"factor_values: expected lengths {self.factor_sizes}, "
                f"got {tuple(len(v) for v in self.factor_values)}."
            )

    @abstractmethod
    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]`, floats in [0, 1] of the default dtype."""

    def __len__(self) -> int:
        return math.prod(self.factor_sizes)

    def __getitem__(self, index: int | Tensor) -> Tensor:
        """One image `[*shape]` for a number, a batch `[n, *shape]` for a 1-d index tensor."""
        if isinstance(index, Tensor) and index.dim() > 0:
            return self.images(index)
        number = int(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index: expected a number below {len(self)}, got {number}.")
        return self.images(torch.tensor([number % len(self)]))[0]

    def factors(self, indices: Tensor) -> Tensor:
        """The class indices `[n, factors]` of the images at `indices` `[n]`."""
        rest = self._checked(indices)
        columns = []
        for size in reversed(self.factor_sizes):
            columns.append(rest % size)
            rest = rest // size
        return torch.stack(columns[::-1], dim=1)

    def index(self, factors: Tensor) -> Tensor:
        """The indices `[n]` of class indices `[n, factors]`: the inverse of :meth:`factors`."""
        rows = torch.as_tensor(factors)
        if rows.is_floating_point() or rows.dim() != 2 or rows.shape[1] != len(self.factor_sizes):
            raise ValueError(
                f"factors: expected integers [n, {len(self.factor_sizes)}], one column each for "
                f"{self.factor_names}, got {rows.dtype} {list(rows.shape)}."
            )
        sizes = torch.tensor(self.factor_sizes)
        if bool(((rows < 0) | (rows >= sizes)).any()):
            raise ValueError(
                f"factors: expected classes of {self.factor_names} from 0 to below "
                f"{self.factor_sizes}, got {rows.amin(0).tolist()} to {rows.amax(0).tolist()}."
            )
        strides = [math.prod(self.factor_sizes[k + 1 :]) for k in range(len(sizes))]
        return (rows.long() * torch.tensor(strides)).sum(1)

    def position(self, factor: str | int) -> int:
        """The position of a factor given by name or position."""
        if isinstance(factor, str) and factor in self.factor_names:
            return self.factor_names.index(factor)
        if isinstance(factor, int) and 0 <= factor < len(self.factor_names):
            return factor
        raise ValueError(
            f"factor: expected one of {self.factor_names} or a position below "
            f"{len(self.factor_names)}, got {factor!r}."
        )

    def sample_factors(
        self,
        n: int,
        *,
        generator: torch.Generator,
        fixing: Mapping[str | int, int | Tensor] | None = None,
    ) -> Tensor:
        """Draw `n` rows of class indices `[n, factors]`, uniform and independent.

        `fixing` holds factors at a class, or at one class per row (a tensor `[n]`).
        """
        columns = [torch.randint(size, (n,), generator=generator) for size in self.factor_sizes]
        for factor, value in (fixing or {}).items():
            at = self.position(factor)
            classes = torch.as_tensor(value)
            inside = (classes >= 0) & (classes < self.factor_sizes[at])
            if classes.is_floating_point() or classes.shape not in ((), (n,)) or not inside.all():
                raise ValueError(
                    f"value of factor {self.factor_names[at]!r}: expected an integer below "
                    f"{self.factor_sizes[at]}, or {n} of them, got {value}."
                )
            columns[at] = classes.long().expand(n)
        return torch.stack(columns, dim=1)

    def sample(self, n: int, *, generator: torch.Generator) -> FactorSample:
        """Draw `n` images uniformly, with their factors."""
        rows = self.sample_factors(n, generator=generator)
        return FactorSample(rows, self.images(self.index(rows)))

    def sample_fixing(
        self,
        factor: str | int,
        n: int,
        *,
        generator: torch.Generator,
        value: int | None = None,
    ) -> FactorSample:
        """Draw `n` images that share one factor's class and vary freely in the others.

        The shared class is `value`, or drawn uniformly.
        """
        at = self.position(factor)
        if value is None:
            value = int(torch.randint(self.factor_sizes[at], (), generator=generator))
        rows = self.sample_factors(n, generator=generator, fixing={at: value})
        return FactorSample(rows, self.images(self.index(rows)))

    def intervene(self, start: int | Tensor, factor: str | int) -> Tensor:
        """The images `[size, *shape]` for every class of one factor, the others held.

        `start` is the index of an image or its row of class indices `[factors]`.
        """
        row = torch.as_tensor(start)
        rows = self.factors(row[None]) if row.dim() == 0 else row[None]
        at = self.position(factor)
        rows = rows.repeat(self.factor_sizes[at], 1)
        rows[:, at] = torch.arange(self.factor_sizes[at])
        return self.images(self.index(rows))

    def subset(self, **classes: Sequence[int] | Tensor) -> FactorSubset:
        """The sub-grid that keeps the given classes of the named factors, in the order given.

        A factor left with one class stays a factor, of size 1.
        """
        return FactorSubset(self, classes)

    def _checked(self, indices: Tensor) -> Tensor:
        """`indices` as a LongTensor on the CPU, or a complaint."""
        found = torch.as_tensor(indices)
        integer = not (found.is_floating_point() or found.dtype == torch.bool)
        if found.dim() != 1 or not (integer or found.numel() == 0):
            raise ValueError(
                f"indices: expected a 1-d tensor of integers, got {found.dtype} "
                f"{list(found.shape)}."
            )
        found = found.to("cpu", torch.long)
        if found.numel():
            low, high = (int(end) for end in found.aminmax())
            if low < 0 or high >= len(self):
                raise IndexError(
                    f"indices: expected numbers from 0 to {len(self) - 1}, got {low} to {high}."
                )
        return found


class FactorSubset(FactorDataset):
    """A sub-grid of a :class:`FactorDataset`; made by its `subset`."""

    def __init__(
        self, parent: FactorDataset, classes: Mapping[str, Sequence[int] | Tensor]
    ) -> None:
        kept = [torch.arange(size) for size in parent.factor_sizes]
        for name, wanted in classes.items():
            at = parent.position(name)
            kept[at] = _distinct_classes(name, wanted, parent.factor_sizes[at])
        super().__init__(
            parent.factor_names,
            [len(k) for k in kept],
            parent.shape,
            factor_values=[v[k] for v, k in zip(parent.factor_values, kept, strict=True)],
        )
        self.parent = parent
        self.kept = tuple(kept)

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]` of the sub-grid."""
        return self.parent.images(self.parent_indices(indices))

    def parent_indices(self, indices: Tensor) -> Tensor:
        """Where the images at `indices` `[n]` lie in the parent."""
        columns = self.factors(indices).unbind(1)
        rows = [kept[column] for kept, column in zip(self.kept, columns, strict=True)]
        return self.parent.index(torch.stack(rows, dim=1))


def _distinct_classes(name: str, wanted: Sequence[int] | Tensor, size: int) -> Tensor:
    classes = torch.as_tensor(wanted)
    good = classes.dim() == 1 and len(classes) > 0 and not classes.is_floating_point()
    if (
        not good
        or classes.min() < 0
        or classes.max() >= size
        or len(classes.unique()) < len(classes)
    ):
        raise ValueError(
            f"{name}: expected a list of distinct classes from 0 to {size - 1}, "
            f"such as [0], got {wanted}."
        )
    return classes.long()
