"""Training with a critic: after each step of the pair, one of the network that judges its codes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pyro.infer import ELBO as PyroELBO
from pyro.optim import PyroOptim
from torch import Tensor, nn

from pyro_bvae.models.parameters import register
from pyro_bvae.objectives import Objective
from pyro_bvae.objectives.ratio import ratio_loss
from pyro_bvae.training.optimisers import OptimiserFactory
from pyro_bvae.training.step import DRAWS
from pyro_bvae.training.svi import CompiledSVI

critic_adam: OptimiserFactory = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.9))


class CriticSVI:
    """A `CompiledSVI` and, behind it, the steps of its objective's critic.

    A step trains the pair with the critic as it is, and then the critic on the codes that the step
    drew, in the mode of the first. It costs no second run of the pair.

    Attributes:
        svi: of the pair.
        critic: of the critic; its `optim` has the critic's optimiser.
    """

    def __init__(
        self, svi: CompiledSVI, critic: nn.Module, optim: PyroOptim | OptimiserFactory
    ) -> None:
        self.svi = svi

        def model(*_: Tensor) -> None:
            register(critic)

        self.critic = CompiledSVI(model, _nothing, optim, _RatioLoss(critic), mode=svi.mode)

    @property
    def parameters(self) -> Mapping[str, Tensor]:
        """The parameters of the pair and of the critic, by name, unconstrained."""
        return {**self.svi.parameters, **self.critic.parameters}

    @property
    def fallback(self) -> str | None:
        """Why steps run as Pyro's, None if they need not."""
        return self.svi.fallback or self.critic.fallback

    def step(self, *args: Any, **kwargs: Any) -> float:
        """Take both steps; return the pair's loss as a number."""
        return self.step_terms(*args, **kwargs)[0].item()

    def step_terms(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Take both steps; return the pair's loss, and the terms with "critic_loss" among them."""
        loss, values = self.svi.step_terms(*args, **kwargs)
        rest = {name: value for name, value in values.items() if name not in DRAWS}
        critic_loss, _ = self.critic.step_terms(*(values[name] for name in DRAWS))
        return loss, rest | {"critic_loss": critic_loss}


def with_critic(
    svi: CompiledSVI, objective: Objective, optim: PyroOptim | OptimiserFactory = critic_adam
) -> CompiledSVI | CriticSVI:
    """Return the trainer with the steps of the objective's critic added, if it has one.

    Args:
        svi: a trainer whose loss is `PerDatum(objective)`.
        objective: whose critic.
        optim: the critic's own optimiser; by default Adam with learning rate 1e-3 and betas
            (0.5, 0.9).

    References:
        Kim, Mnih (2018), Disentangling by Factorising, for the betas.

    >>> from pyro_bvae.objectives import ELBO
    >>> from pyro_bvae.training.step import PerDatum
    >>> svi = CompiledSVI(print, print, critic_adam, PerDatum(ELBO()))
    >>> with_critic(svi, ELBO()) is svi
    True
    """
    return svi if objective.critic is None else CriticSVI(svi, objective.critic, optim)


class _RatioLoss(PyroELBO):
    """`ratio_loss` as `CompiledSVI` takes a loss: the arguments of its steps are the two draws."""

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        self.critic = critic

    def differentiable_terms(
        self, model: Any, guide: Any, a: Tensor, b: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Show the critic's parameters to Pyro, and return its loss."""
        model(a, b)
        return ratio_loss(self.critic, a, b), {}

    def differentiable_loss(self, *args: Any) -> Tensor:
        """Return the loss alone."""
        return self.differentiable_terms(*args)[0]

    def _get_trace(self, *args: Any) -> Any:
        raise NotImplementedError("a critic has no traces")


def _nothing(*_: Tensor) -> None:
    """Sample nothing: a critic has no guide."""
