"""An objective as `fit` minimises it: per datum, with everything it measured beside it."""

from typing import Any

from pyro.infer import ELBO as PyroELBO
from torch import Tensor

from pyro_bvae.objectives import Objective
from pyro_bvae.training.evaluate import per_datum
from pyro_bvae.types import PyroFunction

DRAWS = ("draws_a", "draws_b")


class PerDatum(PyroELBO):
    """An objective divided by the number of data its plates stand for, for `CompiledSVI`.

    >>> from pyro_bvae.objectives import ELBO
    >>> PerDatum(ELBO()).objective.num_particles
    1
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def differentiable_terms(
        self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and what `per_datum` makes of the objective's estimate.

        Where the objective has a critic, what it is to tell apart is there too, under `DRAWS`.
        """
        estimate = self.objective.estimate(model, guide, *args, **kwargs)
        values = per_datum(estimate)
        draws = dict(zip(DRAWS, estimate.draws, strict=True)) if estimate.draws else {}
        return values["loss"], values | draws

    def differentiable_loss(
        self, model: PyroFunction, guide: PyroFunction, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss alone."""
        return self.differentiable_terms(model, guide, *args, **kwargs)[0]

    def _get_trace(self, *args: Any) -> Any:
        return self.objective._get_trace(*args)
