"""Pyro's `SVI` with more to see of a step: named terms, the parameters, the gradients."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from pyro import poutine
from pyro.infer import (
    ELBO,
    SVI,
    JitTrace_ELBO,
    JitTraceEnum_ELBO,
    JitTraceGraph_ELBO,
    JitTraceMeanField_ELBO,
)
from pyro.infer.util import torch_item
from pyro.optim import PyroOptim
from pyro.util import warn_if_nan
from torch import Tensor

from pyro_bvae.training.gradients import Gradients
from pyro_bvae.training.optimisers import OptimiserFactory, as_pyro_optim
from pyro_bvae.training.parameters import parameters_in
from pyro_bvae.training.python_values import SCALARS, package
from pyro_bvae.training.recorded_step import Taken
from pyro_bvae.types import PyroFunction

TRACED = JitTrace_ELBO, JitTraceEnum_ELBO, JitTraceGraph_ELBO, JitTraceMeanField_ELBO


class TermsSVI(SVI):
    """The abstract head of `CompiledSVI`: what a step is made of, but not how it is taken.

    Args:
        model, guide, optim, loss, loss_and_grads: as `CompiledSVI` takes them.

    Attributes:
        parameters: what model and guide showed to Pyro when they last ran, by name, unconstrained.
        gradients: what is done to gradients before the update.
    """

    def __init__(
        self,
        model: PyroFunction,
        guide: PyroFunction,
        optim: PyroOptim | OptimiserFactory,
        loss: Any,
        loss_and_grads: Any = None,
        **kwargs: Any,
    ) -> None:
        self._is_traced = isinstance(loss, TRACED)
        differentiable = getattr(loss, "differentiable_loss", None)
        self._differentiable_terms = getattr(loss, "differentiable_terms", None)
        if isinstance(loss, ELBO) and not hasattr(loss, "loss_and_grads"):
            loss = differentiable
        super().__init__(model, guide, as_pyro_optim(optim), loss, loss_and_grads, **kwargs)
        self.parameters: Mapping[str, Tensor] = {}
        self.gradients = Gradients()

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take a gradient step; return the loss as a number (a tuple for some objectives)."""
        loss, _ = self._take(args, kwargs)
        if isinstance(loss, tuple):
            return type(loss)(map(torch_item, loss))
        return warn_if_nan(torch_item(loss), "loss") if isinstance(loss, Tensor) else loss

    def step_tensor(self, *args: Any, **kwargs: Any) -> Tensor:
        """Take a step; return the loss as a 0-dim tensor, without waiting for the device."""
        return self.step_terms(*args, **kwargs)[0]

    def step_terms(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take a step; return the loss and the objective's named terms, as 0-dim tensors."""
        loss, terms = self._take(args, kwargs)
        return torch.as_tensor(loss), terms

    @abstractmethod
    def _take(self, args: Any, kwargs: Any) -> Taken:
        """Take a step; return its loss and terms."""

    def _parts(self) -> list[Any]:
        """Return what a step is made of, with the numbers of an objective of Pyro's."""
        judge = getattr(self.loss, "__self__", None)
        options = vars(judge) if package(type(judge)) == "pyro" else {}
        numbers = [value for value in options.values() if isinstance(value, SCALARS)]
        pair = self.model, self.guide
        return [*pair, self.loss, self.loss_and_grads, self.optim, self.gradients, *numbers]

    def _evaluate(self, *args: Any, **kwargs: Any) -> tuple[Mapping[str, Tensor], Any, Any]:
        """Add the loss's gradients to the parameters; return these, the loss and its terms."""
        terms: Mapping[str, Tensor] = {}
        with poutine.trace(param_only=True) as captured:
            if self._differentiable_terms is None:
                loss = self.loss_and_grads(self.model, self.guide, *args, **kwargs)
            else:
                pair = self.model, self.guide
                loss, terms = self.gradients.add(
                    self._differentiable_terms, *pair, args=args, kwargs=kwargs
                )
        self.parameters = parameters_in(captured.trace)
        self.gradients.inside(self.parameters.values())
        return self.parameters, loss, terms

    def _update(self, parameters: list[Tensor]) -> None:
        self.gradients.outside(parameters)
        self.optim(parameters)
