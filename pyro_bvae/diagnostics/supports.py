"""Where latents lie: on the real line, or among a few values that can be summed over."""

from itertools import product
from math import prod
from typing import Any

from torch import Tensor
from torch.distributions import MixtureSameFamily

MOST_VALUES = 256
"""The most values of all discrete latents of a datum together that are summed over."""

INSTEAD = 'take importance, or log_evidence(method="importance"), which need no gradients'


def support_of(fn: Any) -> Any:
    """Return where a distribution has density; a mixture, where its components have."""
    mixed = isinstance(fn, MixtureSameFamily)
    return support_of(fn.component_distribution) if mixed else fn.support


def is_discrete(fn: Any) -> bool:
    """Whether a distribution is over countably many values, one-hot vectors among them.

    >>> import torch, pyro.distributions as dist
    >>> is_discrete(dist.OneHotCategorical(torch.ones(3))), is_discrete(dist.Normal(0.0, 1.0))
    (True, False)
    """
    return bool(fn.has_enumerate_support or support_of(fn).is_discrete)


def values_of(name: str, fn: Any, shape: tuple[int, ...]) -> Tensor:
    """Return the values that one datum's latent can take, `[number, *shape]`.

    Raises: ValueError if they are more than 256, or cannot be listed.
    """
    try:
        if tuple(fn.event_shape) != shape:
            raise NotImplementedError
        values = fn.enumerate_support(expand=False)
        values = values.reshape(len(values), *shape)
    except (NotImplementedError, RuntimeError):
        values = None
    if values is None or len(values) > MOST_VALUES:
        raise ValueError(
            f"pair: expected latent site {name!r} to be continuous, so that gradients can move it, "
            f"or one of at most {MOST_VALUES} values, to be summed over, got {fn}; {INSTEAD}"
        )
    return values


def combinations(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return all combinations of the values `[number, *shape]` of several sites, in one order.

    Raises: ValueError if there are more than 256.

    >>> import torch
    >>> combinations({"a": torch.arange(2), "b": torch.arange(3)})["b"]
    tensor([0, 1, 2, 0, 1, 2])
    """
    number = prod(map(len, values.values()))
    if number > MOST_VALUES:
        raise ValueError(
            f"pair: expected discrete latent sites of at most {MOST_VALUES} values together, to be "
            f"summed over, got {number} of {sorted(values)}; {INSTEAD}"
        )
    chosen = zip(*product(*(range(len(value)) for value in values.values())), strict=True)
    return {n: v[list(places)] for (n, v), places in zip(values.items(), chosen, strict=True)}
