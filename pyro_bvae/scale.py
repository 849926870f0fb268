"""σ, the scale of a distribution, as a module: fixed or learned, always positive."""

import math
from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """A positive scale σ: a fixed number, or exp of a parameter that starts at 0.

    Calling it returns σ with the shape `learned[scale]`, 0-dim for a number. A fixed σ is the
    buffer `value`: it moves with the module and may be changed in place while training.

    Args:
        scale: a number > 0, or one of the names in `learned`.
        learned: the shape of σ for every name.

    Raises:
        ValueError: the number is not positive and finite, or the name is not in `learned`.

    >>> Scale(0.5)()
    tensor(0.5000)
    >>> Scale("per_latent", learned={"learned": (), "per_latent": (3,)})().shape
    torch.Size([3])
    """

    value: Tensor

    def __init__(
        self, scale: float | str, *, learned: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        super().__init__()
        shapes = learned or {}
        self.is_learned = isinstance(scale, str) and scale in shapes
        if self.is_learned:
            self.log_value = nn.Parameter(torch.zeros(shapes[str(scale)]))
        elif type(scale) is not bool and isinstance(scale, Real) and 0 < scale < math.inf:
            self.register_buffer("value", torch.tensor(float(scale)))
        else:
            choices = "".join(f" or {name!r}" for name in shapes)
            raise ValueError(f"scale: expected a finite number > 0{choices}, got {scale!r}")

    def forward(self) -> Tensor:
        """Return σ > 0."""
        return self.log_value.exp() if self.is_learned else self.value

    def guide(self) -> None:
        """Sample nothing: a σ that is a number or a parameter has no posterior."""
