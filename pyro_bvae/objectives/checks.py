"""Checks at the door that the objectives share."""

import math
from numbers import Real
from typing import Any

from torch import nn


def check_weight(value: Any, name: str) -> float:
    """Return `value` as a float if it is a finite number ≥ 0, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0, got {value!r}")
    return float(value)


def check_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of the choices, else raise ValueError."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")
    return value


def check_critic(critic: Any) -> nn.Module:
    """Return `critic` if it is a module, else raise TypeError."""
    if not isinstance(critic, nn.Module):
        raise TypeError(
            "critic: expected a module from codes [n, latents] to [n], such as "
            f"networks.mlp_critic(latents), got {type(critic).__name__}"
        )
    return critic
