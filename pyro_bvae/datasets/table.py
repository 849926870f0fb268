"""A user's own images with a table of their factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.arrays import as_source
from pyro_bvae.datasets.combinations import Rows
from pyro_bvae.datasets.factors import FactorDataset


class FactorTable(FactorDataset):
    """Images of any source, with the class of every factor of every image in a table.

    Combinations of classes may be missing, or there more than once: a draw with factors fixed
    is uniform over the images that have those classes, an intervention gives the images that
    exist (of several with the same classes, the first).

    Args:
        images: anything that :func:`as_source` takes, one image per row.
        factors: class indices `[n, factors]`, integers from 0, one row per image.
        factor_names: one distinct name per factor; `factor_0`, `factor_1`, … unless given.
        factor_values: the real value of each class, one sequence per factor. Their lengths are
            the factors' sizes, which are otherwise the largest class and one.

    Raises:
        ValueError: rows that are not one per image, not integers, or out of range; names and
            values that do not fit them; more than 2⁶³ combinations.

    Example:
        >>> images = torch.rand(3, 1, 8, 8)
        >>> data = FactorTable(images, torch.tensor([[0, 1], [1, 0], [1, 1]]))
        >>> data.factor_sizes, data.intervention(0, "factor_1").tolist()
        ((2, 2), [0])
        >>> draw = data.sample_fixing(0, 4, generator=torch.Generator().manual_seed(0), value=1)
        >>> sorted(set(draw.factors[:, 1].tolist()))
        [0, 1]
    """

    def __init__(
        self,
        images: Any,
        factors: Tensor | np.ndarray,
        *,
        factor_names: Sequence[str] | None = None,
        factor_values: Sequence[Sequence[float] | Tensor] | None = None,
    ) -> None:
        self.source = as_source(images)
        rows = torch.as_tensor(factors)
        whole = not (rows.is_floating_point() or rows.is_complex())
        if rows.dim() != 2 or len(rows) != len(self.source) or not whole:
            raise ValueError(
                f"factors: expected integers [{len(self.source)}, factors], one row per image, "
                f"got {rows.dtype} {list(rows.shape)}. Number the distinct values of a column "
                "with torch.unique(column, return_inverse=True)."
            )
        sizes = (
            [int(largest) + 1 for largest in rows.amax(0)]
            if factor_values is None
            else [len(values) for values in factor_values]
        )
        super().__init__(
            factor_names or [f"factor_{k}" for k in range(rows.shape[1])],
            sizes,
            self._read(torch.tensor([0])).shape[1:],
            factor_values=factor_values,
            combinations=Rows(rows.to("cpu", torch.long), sizes),
        )

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, *shape]` at `indices` `[n]`, as :func:`as_source` reads them."""
        return self._read(self._checked(indices))

    def _read(self, indices: Tensor) -> Tensor:
        batch = self.source[indices]
        if not isinstance(batch, Tensor):
            raise ValueError("images: expected images alone, got tuples. Give factors apart.")
        return batch
