"""Checks at the door that several parts share."""

import torch
from torch import Tensor


def check_latents(latents: int) -> int:
    """Return `latents` if it is a whole number ≥ 1, else raise ValueError."""
    if isinstance(latents, bool) or not isinstance(latents, int) or latents < 1:
        raise ValueError(f"latents: expected a whole number of latents >= 1, got {latents!r}")
    return latents


def check_finite(x: Tensor, name: str = "x") -> None:
    """Raise ValueError if `x` holds a NaN or an infinity."""
    if not torch.isfinite(x).all():
        bad = (~torch.isfinite(x)).sum().item()
        raise ValueError(
            f"{name}: expected finite values, got {bad} NaN or infinite of {x.numel()}; "
            "remove or replace them"
        )
