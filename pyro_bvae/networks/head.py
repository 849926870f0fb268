"""The linear layer after a user's network, and the checks that the two fit."""

from typing import Any

from torch import Tensor, nn


def head_of(network: Any, numbers: int, *, features: int | None) -> nn.Linear:
    """Return a linear layer from the network's features, as wide as it says, to `numbers`.

    Raises: TypeError if the network cannot be called; ValueError if its width is unknown.

    >>> head_of(nn.Linear(3, 5), 2, features=5).in_features
    5
    """
    if not callable(network):
        raise TypeError(
            f"{type(network).__name__}: expected a network, a module of tensors to features"
        )
    width = getattr(network, "features", None) if features is None else features
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise ValueError(
            f"features: {type(network).__name__} has no .features to tell its width; pass "
            f"features=, the second dimension of what it returns (got {width!r})"
        )
    return nn.Linear(width, numbers)


def through(network: Any, head: nn.Linear, *inputs: Tensor, name: str) -> Tensor:
    """Return `head(network(*inputs))`, `[batch, numbers]`.

    Raises: ValueError if the network returns features of another shape than the head takes.
    """
    features = network(*inputs)
    expected = (len(inputs[0]), head.in_features)
    if features.shape != expected:
        raise ValueError(
            f"{name}: expected features of shape {list(expected)}, "
            f"got {list(features.shape)}; check the {name} or features="
        )
    return head(features)
