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
from pyro_bvae.training.optimiser_state import load_optimiser_state, optimiser_state
from pyro_bvae.training.optimisers import OptimiserFactory, TorchOptim
from pyro_bvae.training.recorded_step import Taken
from pyro_bvae.training.step import DRAWS, PerDatum
from pyro_bvae.training.svi import CompiledSVI
from pyro_bvae.types import PyroFunction

critic_adam: OptimiserFactory = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.9))


class CriticSVI(CompiledSVI):
    """A `CompiledSVI` of an objective per datum that trains the objective's critic too.

    A step trains the pair with the critic as it is, and then the critic on the codes that the step
    drew, in the same mode. It costs no second run of the pair. `step_terms` gives all that
    `per_datum` does, and "critic_loss".

    Args:
        model: a Pyro function.
        guide: a Pyro function with the same arguments.
        optim: of the pair, as `CompiledSVI` takes it.
        objective: has a `critic`, such as `FactorELBO`.
        critic_optim: a callable from parameters to a torch optimiser, the critic's own; by default
            Adam with learning rate 1e-3 and betas (0.5, 0.9).
        mode, steps: as `CompiledSVI` takes them.

    Attributes:
        critic: the trainer of the critic.

    Raises: ValueError if the objective has no critic.

    References:
        Kim, Mnih (2018), Disentangling by Factorising, for the betas.

    >>> from pyro_bvae.networks import mlp_critic
    >>> from pyro_bvae.objectives import FactorELBO
    >>> objective = FactorELBO(mlp_critic(2), gamma=10.0)
    >>> svi = CriticSVI(print, print, critic_adam, objective, mode="recorded")
    >>> svi.critic.mode
    'recorded'
    """

    def __init__(
        self,
        model: PyroFunction,
        guide: PyroFunction,
        optim: PyroOptim | OptimiserFactory,
        objective: Objective,
        *,
        critic_optim: OptimiserFactory = critic_adam,
        mode: str = "compiled",
        steps: int | None = None,
    ) -> None:
        network = objective.critic
        if network is None:
            raise ValueError(
                f"objective: expected one with a critic, got {type(objective).__name__}; use "
                "CompiledSVI"
            )
        super().__init__(model, guide, optim, PerDatum(objective), mode=mode, steps=steps)
        self.network = network
        self._critic_optim = TorchOptim(critic_optim, name="critic_optim")

        def shown(*_: Tensor) -> None:
            register(network)

        loss = _RatioLoss(network)
        self.critic = CompiledSVI(shown, _nothing, self._critic_optim, loss, mode=mode, steps=steps)

    def state(self) -> dict[str, Any]:
        """Return the critic's weights and its optimiser's state."""
        return {
            "weights": dict(self.network.state_dict()),
            "optimiser": optimiser_state(self._critic_optim, self._critic_parameters()),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; ValueError if it is of another optimiser."""
        self.network.load_state_dict(state["weights"])
        parameters = self._critic_parameters()
        load_optimiser_state(self._critic_optim, state["optimiser"], parameters)

    def _critic_parameters(self) -> dict[str, Tensor]:
        return dict(self.network.named_parameters())

    def _take(self, args: Any, kwargs: Any) -> Taken:
        taken = super()._take(args, kwargs)
        draws = [taken.terms[name] for name in DRAWS]
        terms = {name: term for name, term in taken.terms.items() if name not in DRAWS}
        terms["critic_loss"] = self.critic.step_tensor(*draws)
        return Taken(taken.loss, terms)


def trainer(
    model: PyroFunction,
    guide: PyroFunction,
    optim: PyroOptim | OptimiserFactory,
    objective: Objective,
    *,
    critic_optim: OptimiserFactory = critic_adam,
    mode: str,
    steps: int | None = None,
) -> CompiledSVI:
    """Return the trainer of an objective per datum: a `CriticSVI` if it has a critic.

    >>> from pyro_bvae.objectives import ELBO
    >>> type(trainer(print, print, critic_adam, ELBO(), mode="eager")).__name__
    'CompiledSVI'
    """
    if objective.critic is None:
        return CompiledSVI(model, guide, optim, PerDatum(objective), mode=mode, steps=steps)
    return CriticSVI(
        model, guide, optim, objective, critic_optim=critic_optim, mode=mode, steps=steps
    )


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
