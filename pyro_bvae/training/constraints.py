"""Constraints of parameters in plain words, so that they can be written without pickle."""

from typing import Any

from pyro.distributions import constraints
from torch.distributions.constraints import Constraint

PLAIN: dict[str, Constraint] = {
    name: value
    for name in sorted(constraints.__all__)
    if isinstance(value := getattr(constraints, name), Constraint)
}
BOUNDED = {
    "greater_than": ("lower_bound",),
    "greater_than_eq": ("lower_bound",),
    "less_than": ("upper_bound",),
    "interval": ("lower_bound", "upper_bound"),
    "half_open_interval": ("lower_bound", "upper_bound"),
    "independent": ("base_constraint", "reinterpreted_batch_ndims"),
}
TYPES: dict[str, Any] = {name: getattr(constraints, name) for name in BOUNDED}


def described(constraint: Constraint) -> list[Any] | None:
    """Return a constraint's name and what it was made with; None if it is not of Pyro or torch.

    >>> described(constraints.interval(0.0, 1.0).__class__(0.0, 2.0))
    ['interval', 0.0, 2.0]
    """
    for name, kind in TYPES.items():
        if type(constraint) is kind:
            parts = [getattr(constraint, part) for part in BOUNDED[name]]
            parts = [described(part) if isinstance(part, Constraint) else part for part in parts]
            return None if any(part is None for part in parts) else [name, *parts]
    return next(([n] for n, value in PLAIN.items() if type(value) is type(constraint)), None)


def constraint_of(words: list[Any]) -> Constraint:
    """Return the constraint that `described` describes. Raises: ValueError if there is none.

    >>> constraint_of(["interval", 0.0, 2.0]).upper_bound
    2.0
    """
    name, *parts = words
    if name in TYPES:
        return TYPES[name](*[constraint_of(p) if isinstance(p, list) else p for p in parts])
    if name not in PLAIN:
        raise ValueError(f"expected a constraint of torch or Pyro, got {name!r}")
    return PLAIN[name]
