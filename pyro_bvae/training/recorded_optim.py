"""Which optimisers become part of a recorded graph, and how."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from pyro_bvae.training.adam import AdamUpdate
from pyro_bvae.training.optimisers import TorchOptim, torch_optimiser
from pyro_bvae.training.updates import ClippedAdamUpdate, Group, SGDUpdate, Update

UPDATES: dict[type[Optimizer], type[Update]] = {
    Adam: AdamUpdate,
    AdamW: AdamUpdate,
    SGD: SGDUpdate,
    ClippedAdam: ClippedAdamUpdate,
}


class NotReady(RuntimeError):
    """The optimiser must first take a step of its own."""


class RecordedOptim:
    """The whole update of a Pyro optimiser, gradient clipping included."""

    def __init__(self, optim: PyroOptim, parameters: Sequence[Tensor], updates: list[Update]):
        self.optim = optim
        self.updates = updates
        self.clips = [(p, optim.grad_clip[p]) for p in parameters if optim.grad_clip[p] is not None]
        owners = [(p, optim.optim_objs.get(p), torch_optimiser(optim, p)) for p in parameters]
        self._owners = [(p, holder, o, o.state) for p, holder, o in owners if o is not None]

    def is_current(self) -> bool:
        """Whether optimisers, their state and their hyper-parameters are those recorded."""
        holder_of = self.optim.optim_objs.get
        return all(
            holder_of(parameter) is holder and optimiser.state is state
            for parameter, holder, optimiser, state in self._owners
        ) and all(update.is_current() for update in self.updates)

    def advance(self) -> None:
        """Bring the learning rates up to date, before a step."""
        for update in self.updates:
            update.advance()

    def rewind(self) -> None:
        """Undo `advance`, after a step that failed."""
        for update in self.updates:
            update.rewind()

    @torch.no_grad()
    def record(self) -> None:
        """Clip the gradients and update the parameters, by tensor operations alone."""
        ready = {id(p) for update in self.updates for p in update.parameters}
        if any(p.grad is not None and id(p) not in ready for p, *_ in self._owners):
            raise NotReady("a parameter has a gradient, but no optimiser state yet")
        for parameter, clip in self.clips:
            if parameter.grad is not None:
                clip(parameter)
        for update in self.updates:
            update.record()


def recordable(optim: Any, parameters: Sequence[Tensor]) -> RecordedOptim | None:
    """Return the optimiser's update as tensor operations; None where it cannot be written so.

    It can for Adam, AdamW, SGD and ClippedAdam, alone or within `pyro.optim` or one of its
    learning-rate schedulers, once every parameter has had its first step.
    """
    if type(optim) not in (PyroOptim, PyroLRScheduler, TorchOptim):
        return None
    cells: dict[Any, list[tuple[Tensor, Optimizer, Group]]] = {}
    for parameter in parameters:
        optimiser = torch_optimiser(optim, parameter)
        rule = None if optimiser is None else UPDATES.get(type(optimiser))
        if optimiser is None or rule is None:
            return None
        group = next(g for g in optimiser.param_groups if any(p is parameter for p in g["params"]))
        if not _is_plain(parameter, group):
            return None
        state = optimiser.state[parameter]
        if rule.is_ready(state, group):
            cells.setdefault(rule.key(parameter, state, group), []).append(
                (parameter, optimiser, group)
            )
    updates = [key[0](members) for key, members in cells.items()]
    decaying = [id(g) for u in updates if isinstance(u, ClippedAdamUpdate) for g in u.groups_once]
    if len(decaying) != len(set(decaying)):
        return None
    return RecordedOptim(optim, parameters, updates)


def _is_plain(parameter: Tensor, group: Group) -> bool:
    """Whether none of the rarer features is in use: they are left to torch's own optimiser."""
    numbers = [*group.get("betas", ()), group["weight_decay"]]
    return not (
        parameter.dtype not in (torch.float32, torch.float64)
        or group.get("differentiable", False)
        or any(isinstance(number, Tensor) for number in numbers)
    )
