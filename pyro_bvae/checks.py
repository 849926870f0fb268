"""Checks at the door that several parts share."""

import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def check_count(count: Any, name: str) -> int:
    """Return `count` as an int if it is a whole number ≥ 1, else raise ValueError."""
    if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, got {count!r}")
    return int(count)


def check_latents(latents: Any) -> int:
    """Return `latents` as an int if it is a whole number ≥ 1, else raise ValueError."""
    return check_count(latents, "latents")


def check_number(value: Any, name: str, *, positive: bool = False) -> float:
    """Return `value` as a float if it is a finite number ≥ 0, or > 0, else raise ValueError."""
    good = isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
    if not good or (positive and value == 0):
        expected = f"a finite number {'> 0' if positive else '>= 0'}"
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    return float(value)


def check_takes(function: Callable[..., Any], name: str, what: str) -> None:
    """Raise TypeError unless a function can be called with one argument, `what`."""
    try:
        inspect.signature(function, follow_wrapped=False).bind(None)
    except TypeError as error:
        words = getattr(function, "__name__", type(function).__name__)
        raise TypeError(
            f"{name}: expected a callable of one argument, {what}, got {words}: {error}; fix other "
            "arguments with functools.partial, or write a function of this one"
        ) from error
    except ValueError:
        return  # some builtins do not tell their signature


def check_data(x: Tensor, *, integers: bool = False) -> None:
    """Raise unless `x` is a tensor of at least one datum, of real, or also integer, numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x: expected a tensor, got {type(x).__name__}; use torch.as_tensor")
    if x.dim() == 0:
        raise ValueError("x: expected shape [batch, ...], got a 0-dim tensor; use x.reshape(1)")
    if len(x) == 0:
        raise ValueError("x: expected at least one datum, got an empty batch")
    if not (x.is_floating_point() or (integers and not (x.is_complex() or x.dtype == torch.bool))):
        raise TypeError(
            f"x: expected floating-point numbers, got {x.dtype}; convert x (8-bit images: x / 255)"
        )


def check_size(size: int | None) -> None:
    """Raise unless `size`, the number of all data, is None or a whole number ≥ 1."""
    if size is not None:
        check_count(size, "size")


def check_finite(x: Tensor, name: str = "x") -> None:
    """Raise ValueError if `x` holds a NaN or an infinity."""
    if not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).sum().item()
        raise ValueError(
            f"{name}: expected finite values, got {bad} NaN or infinite of {x.numel()}; "
            "remove or replace them"
        )


def check_range(x: Tensor, what: str) -> None:
    """Raise ValueError unless all of `x` lies in [0, 1]."""
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise ValueError(
            f"x: expected values in [0, 1] for {what}, got {low:g} to {high:g}; "
            "rescale x (8-bit images: x / 255) or use a NormalLikelihood"
        )
