"""A moving average of the weights, in the place of the weights where these are looked at."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pyro_bvae.training.state import State


class MovingAverage:
    r"""The exponential moving average of parameters over the steps of training.

    :math:`\bar\theta_t = d\,\bar\theta_{t-1} + (1 - d)\,\theta_t` with
    :math:`\bar\theta_1 = \theta_1`, of unconstrained values. Buffers are not averaged: running
    statistics are those of the weights as they are.

    Args:
        decay: :math:`d`, in (0, 1): about :math:`1/(1-d)` steps count.

    Raises: ValueError for another decay.

    References:
        Polyak, Juditsky (1992), Acceleration of Stochastic Approximation by Averaging.

    >>> weight, average = torch.zeros(1), MovingAverage(0.75)
    >>> for value in (4.0, 8.0):
    ...     average.add([weight.fill_(value)])
    >>> with average.in_place():
    ...     print(weight)
    tensor([5.])
    >>> weight
    tensor([8.])
    """

    def __init__(self, decay: Any) -> None:
        if not isinstance(decay, Real) or not 0 < float(decay) < 1:
            raise ValueError(f"average: expected a number in (0, 1) or None, got {decay!r}")
        self.decay = float(decay)
        self._update = get_ema_multi_avg_fn(self.decay)
        self._means: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def add(self, parameters: Iterable[Tensor]) -> None:
        """Add the values of one step; a parameter that is new begins its average with them."""
        parameters = list(parameters)
        known = [p for p in parameters if p in self._means]
        self._means |= {p: p.detach().clone() for p in parameters if p not in self._means}
        if known:
            self._update([self._means[p] for p in known], known, 0)

    @torch.no_grad()
    def put_in_place(self) -> None:
        """Give the parameters the values of their averages."""
        for parameter, mean in self._means.items():
            parameter.copy_(mean)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the averages in the place of the parameters for a while."""
        kept = {p: p.detach().clone() for p in self._means}
        self.put_in_place()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in kept.items():
                    parameter.copy_(value)

    def state(self, tensors: Mapping[str, Tensor]) -> State:
        """Return the averages, by the names of these parameters."""
        return {name: self._means[p] for name, p in tensors.items() if p in self._means}

    def load_state(self, state: State, tensors: Mapping[str, Tensor]) -> None:
        """Bring back what `state` returned."""
        self._means = {
            tensors[name]: mean.to(tensors[name].device, copy=True) for name, mean in state.items()
        }
