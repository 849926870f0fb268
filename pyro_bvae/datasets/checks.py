"""What indices and class indices have to be, and the complaints when they are not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def check_description(
    names: tuple[str, ...], sizes: tuple[int, ...], values: tuple[Tensor, ...]
) -> None:
    """Refuse names, sizes and values that do not describe the same factors."""
    if not len(set(names)) == len(names) == len(sizes) > 0 or min(sizes) < 1:
        raise ValueError(
            f"factor_names and factor_sizes: expected one distinct name and one size >= 1 per "
            f"factor, got {names} and {sizes}."
        )
    if tuple(len(v) for v in values) != sizes:
        raise ValueError(
            f"factor_values: expected lengths {sizes}, got {tuple(len(v) for v in values)}."
        )


def check_rows(rows: Tensor, sizes: Sequence[int], names: Sequence[str] | None = None) -> None:
    """Refuse rows that are not class indices `[n, factors]` of factors of these sizes."""
    integer = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    if not integer or rows.dim() != 2 or rows.shape[1] != len(sizes):
        whom = f", one column each for {tuple(names)}" if names else ""
        raise ValueError(
            f"factors: expected integers [n, {len(sizes)}]{whom}, got {rows.dtype} "
            f"{list(rows.shape)}."
        )
    if bool(((rows < 0) | (rows >= torch.tensor(tuple(sizes)))).any()):
        raise ValueError(
            f"factors: expected classes from 0 to below {tuple(sizes)}, got "
            f"{rows.amin(0).tolist()} to {rows.amax(0).tolist()}."
        )


def checked_indices(indices: Tensor, length: int) -> Tensor:
    """`indices` as a LongTensor `[n]` on the CPU, or a complaint."""
    found = torch.as_tensor(indices)
    integer = not (found.is_floating_point() or found.dtype == torch.bool)
    if found.dim() != 1 or not (integer or found.numel() == 0):
        raise ValueError(
            f"indices: expected a 1-d tensor of integers, got {found.dtype} {list(found.shape)}."
        )
    found = found.to("cpu", torch.long)
    if found.numel():
        low, high = (int(end) for end in found.aminmax())
        if low < 0 or high >= length:
            raise IndexError(
                f"indices: expected numbers from 0 to {length - 1}, got {low} to {high}."
            )
    return found


def distinct_classes(name: str, wanted: Sequence[int] | Tensor, size: int) -> Tensor:
    """`wanted` as a LongTensor `[classes]` of distinct classes of a factor, or a complaint."""
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


def fixed_classes(name: str, value: int | Tensor, size: int, n: int) -> Tensor:
    """`value`, a class or one per row, as classes `[n]` of a factor, or a complaint."""
    classes = torch.as_tensor(value)
    inside = (classes >= 0) & (classes < size)
    if classes.is_floating_point() or classes.shape not in ((), (n,)) or not inside.all():
        raise ValueError(
            f"value of factor {name!r}: expected an integer below {size}, or {n} of them, "
            f"got {value}."
        )
    return classes.long().expand(n)


def grid_sizes(name: str, classes: np.ndarray, images: int) -> list[int]:
    """The sizes of factors whose classes `[n, factors]` are a whole grid in order."""
    sizes = [int(size) for size in classes.max(0) + 1]
    complete = classes.min() == 0 and math.prod(sizes) == len(classes) == images
    if not complete or not np.array_equal(classes, np.indices(sizes).reshape(len(sizes), -1).T):
        raise ValueError(
            f"{name}: expected the whole grid {sizes} in order, the last factor varying fastest, "
            f"and one row an image; got {len(classes)} rows and {images} images."
        )
    return sizes
