"""Doubly reparameterised gradients: what a trace must keep so that they can be had.

With z = (z₁, z₂, …) drawn one from the other, z_t ~ q(z_t|z_<t, x), the gradient of a bound passes
through the draws alone, ∂ log w/∂z_s for every s, and not through the guide's parameters in log q.
So of log q(z_t|z_s) only the part through z_s counts, and that is got by itself.

References:
    Tucker, Lawson, Gu, Maddison (2019), Doubly Reparameterized Gradient Estimators for Monte Carlo
    Objectives.
"""

from collections.abc import Mapping
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor


class ScaledGradient:
    """Draws whose gradient is multiplied by `factor`, `[particles, batch]`, when it comes back."""

    def __init__(self) -> None:
        self.factor: Tensor | float = 1.0

    def __call__(self, value: Tensor) -> Tensor:
        """Return the draws as a new tensor."""
        fresh = value.view_as(value)
        if fresh.requires_grad:
            fresh.register_hook(self._scale)
        return fresh

    def _scale(self, gradient: Tensor) -> Tensor:
        factor = self.factor
        if isinstance(factor, Tensor):
            factor = factor.reshape(*factor.shape, *(1,) * (gradient.dim() - factor.dim()))
        return gradient * factor


class Given(Messenger):
    """Give a guide its draws by another name, so that what it makes of them can be told apart.

    To be entered around the trace of the guide.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, Tensor] = {}
        self._cut = False

    def _pyro_post_sample(self, msg: Any) -> None:
        value = msg["value"]
        if msg["is_observed"] or not (isinstance(value, Tensor) and value.requires_grad):
            return
        value.register_hook(lambda gradient: torch.zeros_like(gradient) if self._cut else gradient)
        msg["value"] = self._given[msg["name"]] = value.view_as(value)

    def partials(self, total: Tensor) -> Mapping[str, Tensor]:
        """Return ∂total/∂z_s at every site s, with all other draws held, without gradients.

        Sites of which the total knows nothing are left out.
        """
        if not (total.requires_grad and self._given):
            return {}
        self._cut = True
        try:
            found = torch.autograd.grad(
                total, list(self._given.values()), retain_graph=True, allow_unused=True
            )
        finally:
            self._cut = False
        return {
            name: gradient
            for name, gradient in zip(self._given, found, strict=True)
            if gradient is not None
        }
