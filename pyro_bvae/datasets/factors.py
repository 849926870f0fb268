"""Images with known factors: sizes, names, indices, draws with factors held, interventions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pyro_bvae.datasets.checks import (
    check_description,
    check_rows,
    checked_indices,
    distinct_classes,
    fixed_classes,
)
from pyro_bvae.datasets.combinations import Combinations, Grid, Rows, renumbered


class FactorSample(NamedTuple):
    """Rows of class indices `[n, factors]` and their images `[n, *shape]`."""

    factors: Tensor
    images: Tensor


class FactorDataset(Dataset[Tensor], ABC):
    r"""Abstract: images of which the class of every discrete factor is known.

    A concrete data set gives :meth:`images`. Unless `combinations` says otherwise there is one
    image for every combination, and image `i` has the class indices $f_1 … f_F$ with
    $i = \sum_k f_k \prod_{l>k} \text{size}_l$. Where combinations are missing, or there more than
    once, draws are uniform over the images there are, and interventions give only what exists.
    Every place that takes a factor takes its name or its position.

    Args:
        factor_names: one distinct name per factor.
        factor_sizes: how many classes each factor has.
        shape: of one image, such as `(1, 64, 64)`.
        factor_values: the real value of each class, one sequence per factor; the class
            indices themselves unless given.
        combinations: which classes the images have; the whole :class:`Grid` unless given.

    Raises:
        ValueError: names, sizes, values and combinations that do not belong together.
    """

    def __init__(
        self,
        factor_names: Sequence[str],
        factor_sizes: Sequence[int],
        shape: Sequence[int],
        *,
        factor_values: Sequence[Sequence[float] | Tensor] | None = None,
        combinations: Combinations | None = None,
    ) -> None:
        self.factor_names = tuple(factor_names)
        self.factor_sizes = tuple(int(size) for size in factor_sizes)
        self.shape = tuple(shape)
        values = [range(n) for n in self.factor_sizes] if factor_values is None else factor_values
        self.factor_values = tuple(
            torch.as_tensor(v, dtype=torch.get_default_dtype()) for v in values
        )
        check_description(self.factor_names, self.factor_sizes, self.factor_values)
        self.combinations = Grid(self.factor_sizes) if combinations is None else combinations
        if self.combinations.sizes != self.factor_sizes:
            raise ValueError(
                f"combinations: expected sizes {self.factor_sizes}, got {self.combinations.sizes}."
            )

    @abstractmethod
    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]`, floats in [0, 1] of the default dtype."""

    def __len__(self) -> int:
        return len(self.combinations)

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
        return self.combinations.factors(self._checked(indices))

    def index(self, factors: Tensor) -> Tensor:
        """The indices `[n]` of class indices `[n, factors]`: the inverse of :meth:`factors`.

        Of several images with the same classes, the first.

        Raises:
            ValueError: rows of another kind, classes out of range, a row that no image has.
        """
        rows = torch.as_tensor(factors)
        check_rows(rows, self.factor_sizes, self.factor_names)
        found = self.combinations.find(rows)
        if bool((found < 0).any()):
            raise ValueError(
                f"factors: expected classes of {self.factor_names} that an image has, got "
                f"{rows[found < 0][0].tolist()}, which is missing."
            )
        return found

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

    def sample_indices(
        self,
        n: int,
        *,
        generator: torch.Generator,
        fixing: Mapping[str | int, int | Tensor] | None = None,
    ) -> Tensor:
        """Draw the indices `[n]` of images, uniform and independent.

        `fixing` holds factors at a class, or at one class per row (a tensor `[n]`); the draw is
        then uniform over the images that have it.

        Raises:
            ValueError: a class out of range, or one that no image has.
        """
        fixed = {}
        for factor, value in (fixing or {}).items():
            at = self.position(factor)
            fixed[at] = fixed_classes(self.factor_names[at], value, self.factor_sizes[at], n)
        return self.combinations.draw(n, generator=generator, fixing=fixed)

    def sample_factors(
        self,
        n: int,
        *,
        generator: torch.Generator,
        fixing: Mapping[str | int, int | Tensor] | None = None,
    ) -> Tensor:
        """Draw the class indices `[n, factors]` of images, as :meth:`sample_indices` does."""
        return self.factors(self.sample_indices(n, generator=generator, fixing=fixing))

    def sample(self, n: int, *, generator: torch.Generator) -> FactorSample:
        """Draw `n` images uniformly, with their factors."""
        return self._at(self.sample_indices(n, generator=generator))

    def sample_fixing(
        self, factor: str | int, n: int, *, generator: torch.Generator, value: int | None = None
    ) -> FactorSample:
        """Draw `n` images that share one factor's class and vary freely in the others.

        The shared class is `value`, or drawn uniformly from those that an image has.
        """
        if value is None:
            classes = self.combinations.classes(self.position(factor))
            value = int(classes[torch.randint(len(classes), (), generator=generator)])
        return self._at(self.sample_indices(n, generator=generator, fixing={factor: value}))

    def intervention(self, start: int | Tensor, factor: str | int) -> Tensor:
        """The indices of the images for every class of one factor, ascending, the others held.

        `start` is the index of an image or its row of class indices `[factors]`. Classes that no
        such image has are left out; :meth:`factors` says which are there.

        Raises:
            ValueError: a row of which no image exists with any class of the factor.
        """
        row = torch.as_tensor(start)
        held = self.factors(row[None])[0] if row.dim() == 0 else row
        at = self.position(factor)
        rows = held.repeat(self.factor_sizes[at], 1)
        rows[:, at] = torch.arange(self.factor_sizes[at])
        check_rows(rows, self.factor_sizes, self.factor_names)
        found = self.combinations.find(rows)
        if row.dim() == 0:
            found[held[at]] = row
        if not bool((found >= 0).any()):
            raise ValueError(f"start: no image has {held.tolist()} with any class of {factor!r}.")
        return found[found >= 0]

    def intervene(self, start: int | Tensor, factor: str | int) -> Tensor:
        """The images `[classes, *shape]` at :meth:`intervention`'s indices."""
        return self.images(self.intervention(start, factor))

    def subset(self, **classes: Sequence[int] | Tensor) -> FactorSubset:
        """The images with the given classes of the named factors, which are numbered as given.

        A factor left with one class stays a factor, of size 1.

        Raises:
            ValueError: classes that are repeated or out of range, or that no image has together.
        """
        return FactorSubset(self, classes)

    def _at(self, indices: Tensor) -> FactorSample:
        return FactorSample(self.factors(indices), self.images(indices))

    def _checked(self, indices: Tensor) -> Tensor:
        """`indices` as a LongTensor on the CPU, or a complaint."""
        return checked_indices(indices, len(self))


class FactorSubset(FactorDataset):
    """Some classes of every factor of a :class:`FactorDataset`; made by its `subset`."""

    def __init__(
        self, parent: FactorDataset, classes: Mapping[str, Sequence[int] | Tensor]
    ) -> None:
        kept = [torch.arange(size) for size in parent.factor_sizes]
        for name, wanted in classes.items():
            at = parent.position(name)
            kept[at] = distinct_classes(name, wanted, parent.factor_sizes[at])
        self.parent, self.kept = parent, tuple(kept)
        self._chosen = parent.combinations.within(kept)
        combinations: Combinations = Grid([len(k) for k in kept])
        if self._chosen is not None:
            rows = renumbered(parent.factors(self._chosen), kept)
            combinations = Rows(rows, combinations.sizes)
        super().__init__(
            parent.factor_names,
            combinations.sizes,
            parent.shape,
            factor_values=[v[k] for v, k in zip(parent.factor_values, kept, strict=True)],
            combinations=combinations,
        )

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]` of the subset."""
        return self.parent.images(self.parent_indices(indices))

    def parent_indices(self, indices: Tensor) -> Tensor:
        """Where the images at `indices` `[n]` lie in the parent."""
        if self._chosen is not None:
            return self._chosen[self._checked(indices)]
        columns = self.factors(indices).unbind(1)
        rows = [kept[column] for kept, column in zip(self.kept, columns, strict=True)]
        return self.parent.index(torch.stack(rows, dim=1))
