"""Weights of sites that may be 0."""

from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor


class Weighted(Messenger):
    """Multiply the scale of sites by weights ≥ 0; `poutine.scale` refuses a weight of 0."""

    def __init__(self, weights: float | Tensor) -> None:
        super().__init__()
        self.weights = weights

    def _process_message(self, msg: Any) -> None:
        msg["scale"] = self.weights * msg["scale"]
