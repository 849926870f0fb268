"""The σ that is best for a batch, in closed form: the σ-VAE."""

import math
from typing import Any

import torch
from pyro.distributions import Normal
from torch import Tensor, nn

MEMORY = 0.99
FLOOR = math.exp(-12.0)


class OptimalScale(nn.Module):
    """σ² = the mean squared error of a batch, and an average of it over batches.

    Calling it returns the average's root: with the batches' σ̂² weighted by 0.99ⁿ, n batches ago.

    References:
        Rybkin, Daniilidis, Levine (2021), Simple and Effective VAE Training with Calibrated
        Decoders.

    >>> scale = OptimalScale()
    >>> scale.of(torch.tensor([3.0, -3.0])), scale()
    (tensor(3.), tensor(3.))
    """

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def of(self, errors: Tensor) -> Tensor:
        """Return the σ that is best for these errors, without gradient, and remember it."""
        variance = errors.detach().square().mean().clamp(min=FLOOR)
        self.total.mul_(MEMORY).add_(variance)
        self.weight.mul_(MEMORY).add_(1)
        return variance.sqrt()

    def forward(self) -> Tensor:
        """Return the σ of the batches so far; 1 before any."""
        seen = self.weight > 0
        return torch.where(seen, self.total / self.weight.where(seen, 1), 1.0).sqrt()


class ProfileNormal(Normal):
    """N(loc, σ²) whose `log_prob` takes for σ the best one for the value; draws take `scale()`."""

    def __init__(self, loc: Tensor, scale: OptimalScale) -> None:
        self.optimal = scale
        super().__init__(loc, scale())

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ProfileNormal":
        """Return the same for a larger batch."""
        expanded = self._get_checked_instance(ProfileNormal, _instance)
        expanded.optimal = self.optimal
        return super().expand(batch_shape, _instance=expanded)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N(value; loc, σ̂²) of each number, σ̂² the mean of all squared errors."""
        return Normal(self.loc, self.optimal.of(value - self.loc)).log_prob(value)
