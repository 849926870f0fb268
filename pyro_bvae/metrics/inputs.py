"""What every metric asks of its arrays, checked at the door."""

from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
ArrayLike = Array | Tensor


def as_matrix(values: ArrayLike, name: str) -> Array:
    """Read `values` as a finite float64 array `[n, columns]` of at least two rows.

    Raises: ValueError if it is not 2-d, has no column or fewer than two rows, or is not finite.

    >>> as_matrix(np.array([[1, 2], [3, 4]]), "codes").dtype
    dtype('float64')
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(
            f"{name}: expected an array [n, columns] with n >= 2, got shape {array.shape}"
        )
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected real numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite values, got {bad} NaN or infinite of {array.size}; "
            "remove those rows or look for what made them"
        )
    return array


def as_classes(values: ArrayLike, name: str = "factors") -> Array:
    """Read `values` as class indices: whole numbers, int64, `[n, factors]`.

    Raises: ValueError if a value is not whole, or as `as_matrix`.

    >>> as_classes(np.array([[0.0, 2.0], [1.0, 3.0]])).dtype
    dtype('int64')
    """
    array = as_matrix(values, name)
    fractional = int((array != np.rint(array)).sum())
    if fractional:
        raise ValueError(
            f"{name}: expected class indices (whole numbers), got {fractional} fractional values "
            f"of {array.size}; pass the classes of the factors, not their values"
        )
    return array.astype(np.int64)


def same_length(first: Array, second: Array, names: str = "codes and factors") -> None:
    """Raise ValueError unless both arrays have the same number of rows."""
    if len(first) != len(second):
        raise ValueError(
            f"{names}: expected one row of each per point, got {len(first)} and {len(second)} rows"
        )
