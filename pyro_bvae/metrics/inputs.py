"""What every metric asks of its arrays, checked at the door."""

from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
ArrayLike = Array | Tensor


def as_matrix(values: ArrayLike, name: str, *, rows: int = 2) -> Array:
    """Read `values` as a finite float64 array `[n, columns]` of at least `rows` rows.

    Raises: ValueError if it is not 2-d, has no column or too few rows, or is not real and finite.

    >>> as_matrix(np.array([[1, 2], [3, 4]]), "codes").dtype
    dtype('float64')
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 2 or array.shape[0] < rows or array.shape[1] < 1:
        raise ValueError(
            f"{name}: expected an array [n, columns] with n >= {rows}, got shape {array.shape}"
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


def codes_and_classes(
    codes: ArrayLike, factors: ArrayLike, *, prefix: str = "", latents: int = 1
) -> tuple[Array, Array]:
    """Read codes `[n, latents]` and the classes `[n, factors]` they are scored against.

    Raises: ValueError as `as_matrix` and `as_classes`, or if the lengths differ, a factor has one
    class only, or there are fewer codes than `latents`.
    """
    x, y = as_matrix(codes, f"{prefix}codes"), as_classes(factors, f"{prefix}factors")
    same_length(x, y, f"{prefix}codes and {prefix}factors")
    if x.shape[1] < latents:
        raise ValueError(
            f"{prefix}codes: expected at least {latents} latents to compare, got {x.shape[1]}"
        )
    single = np.flatnonzero(np.ptp(y, axis=0) == 0).tolist()
    if single:
        raise ValueError(
            f"{prefix}factors: expected at least two classes in every column, got one in columns "
            f"{single}; leave those factors out"
        )
    return x, y


def training_and_test(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    latents: int = 1,
) -> tuple[Array, Array, Array, Array]:
    """Read two samples of the same latents and factors, to fit on one and score on the other.

    Raises: ValueError as `codes_and_classes`, or if the samples have other columns, or the test
    sample a class that the first has not.
    """
    x, y = codes_and_classes(codes, factors, latents=latents)
    test_x, test_y = codes_and_classes(test_codes, test_factors, prefix="test_", latents=latents)
    if x.shape[1] != test_x.shape[1] or y.shape[1] != test_y.shape[1]:
        raise ValueError(
            "test_codes and test_factors: expected as many latents and factors as in codes and "
            f"factors, {x.shape[1]} and {y.shape[1]}, got {test_x.shape[1]} and {test_y.shape[1]}"
        )
    for j in range(y.shape[1]):
        unseen = np.setdiff1d(test_y[:, j], y[:, j])
        if unseen.size:
            raise ValueError(
                f"test_factors: expected only classes that factors has, got {unseen.tolist()} in "
                f"column {j}; draw more points"
            )
    return x, y, test_x, test_y


def standardise(values: Array, by: Array) -> Array:
    """Shift and scale columns to mean 0 and variance 1 in `by`; constant columns only shift.

    >>> standardise(np.array([[4.0]]), by=np.array([[0.0], [4.0]])).tolist()
    [[1.0]]
    """
    varying = np.ptp(by, axis=0) > 0
    return (values - by.mean(0)) / np.where(varying, by.std(0), 1.0)
