"""One step of SVI, as plain Pyro and torch take it."""

from collections.abc import Callable, Iterable
from typing import Any

from pyro import poutine
from torch import Tensor
from torch.optim import Optimizer

from pyro_bvae.objectives import Objective
from pyro_bvae.training.evaluate import per_datum
from pyro_bvae.types import Pair

OptimiserFactory = Callable[[Iterable[Tensor]], Optimizer]


class Step:
    """Minimise an objective per datum, by one step of one optimiser over all parameters.

    The parameters are what the pair shows to Pyro while it runs; new ones may appear later.

    Raises (when called): ValueError if the pair shows none.
    """

    def __init__(self, pair: Pair, objective: Objective, optim: OptimiserFactory) -> None:
        self.pair = pair
        self.objective = objective
        self.optim = optim
        self.parameters: dict[str, Tensor] = {}
        self._optimiser: Optimizer | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Take a step; return what the objective measured, per datum, the loss first."""
        with poutine.trace(param_only=True) as captured:
            estimate = self.objective.estimate(*self.pair, *args, **kwargs)
        optimiser = self._optimiser_of(captured.trace)
        values = per_datum(estimate)
        optimiser.zero_grad()
        values["loss"].backward()
        optimiser.step()
        return values

    def _optimiser_of(self, trace: Any) -> Optimizer:
        found = {name: site["value"].unconstrained() for name, site in trace.nodes.items()}
        new = {
            name: parameter
            for name, parameter in found.items()
            if self.parameters.get(name) is not parameter
        }
        self.parameters |= new
        if not self.parameters:
            raise ValueError(
                "pair: expected model or guide to show parameters to Pyro, got none; register "
                "networks with pyro.module and parameters with pyro.param, or build a VAE"
            )
        if self._optimiser is None:
            self._optimiser = self.optim(list(self.parameters.values()))
        elif new:
            self._optimiser.add_param_group({"params": list(new.values())})
        return self._optimiser
