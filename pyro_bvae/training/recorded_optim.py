"""Which optimisers become part of a recorded graph, and how."""

from collections.abc import Sequence
from typing import Any

import torch
from pyro.optim import PyroOptim
from pyro.optim.clipped_adam import ClippedAdam
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, lr_scheduler
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from pyro_bvae.training.adam import AdamUpdate
from pyro_bvae.training.lookups import Lookups
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
        self.optim, self.updates = optim, updates
        self._ready = {p for update in updates for p in update.parameters}
        self._holders = {p: optim.optim_objs[p] for p in parameters}
        self._clips = {p: optim.grad_clip[p] for p in parameters}
        owners = {p: torch_optimiser(optim, p) for p in parameters}
        optimisers = {id(o): o for o in owners.values() if o is not None}.values()
        self._hooks = [hooks for o in optimisers for hooks in _step_hooks(o)]
        self._lookups = Lookups(
            [
                *(
                    (vars(o), name, vars(o).get(name))
                    for o in optimisers
                    for name in ("state", "step")
                ),
                *((o.state, p, o.state[p]) for p, o in owners.items() if o is not None),
                *((s, n, s[n]) for u in updates for s in u.states for n in u.state_names if n in s),
            ]
        )

    def is_current(self) -> bool:
        """Whether optimisers, their state and their hyper-parameters are those recorded."""
        return (
            _still_holds(self.optim.optim_objs, self._holders)
            and _still_holds(self.optim.grad_clip, self._clips)
            and self._lookups.hold()
            and not any(self._hooks)
            and all(update.is_current() for update in self.updates)
        )

    def tensors(self) -> list[Tensor]:
        """Return what it holds of the optimisers' state."""
        states = [state for update in self.updates for state in update.states]
        return [t for state in states for t in state.values() if isinstance(t, Tensor)]

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
        if any(p.grad is not None and p not in self._ready for p in self._clips):
            raise NotReady("a parameter has a gradient, but no optimiser state yet")
        counted = [
            p for u in self.updates if isinstance(u, ClippedAdamUpdate) for p in u.parameters
        ]
        if any(p.grad is None for p in counted):
            raise NotReady("a parameter that ClippedAdam counted a step for has no gradient")
        for parameter, clip in self._clips.items():
            if parameter.grad is not None and clip is not None:
                clip(parameter)
        for update in self.updates:
            update.record()


def recordable(optim: Any, parameters: Sequence[Tensor]) -> RecordedOptim | None:
    """Return the optimiser's update as tensor operations; None where it cannot be written so.

    It can for Adam, AdamW, SGD and ClippedAdam, alone or within `pyro.optim` or one of its
    learning-rate schedulers, once every parameter has had its first step; not where hooks or a
    `step` of the user's do more.
    """
    if type(optim) not in (PyroOptim, PyroLRScheduler, TorchOptim):
        return None
    cells: dict[Any, list[tuple[Tensor, Optimizer, Group]]] = {}
    for parameter in parameters:
        optimiser = torch_optimiser(optim, parameter)
        rule = None if optimiser is None else UPDATES.get(type(optimiser))
        if optimiser is None or rule is None or not _follows_its_class(optimiser):
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


def _still_holds(table: dict[Tensor, Any], found: dict[Tensor, Any]) -> bool:
    """Whether all that was found is there, beside which there may be more by now."""
    return table == found or all(table.get(key) is value for key, value in found.items())


def _step_hooks(optimiser: Optimizer) -> list[dict[int, Any]]:
    """Return where the hooks are that its step calls."""
    own = optimiser._optimizer_step_pre_hooks, optimiser._optimizer_step_post_hooks
    return [_global_optimizer_pre_hooks, _global_optimizer_post_hooks, *own]


def _follows_its_class(optimiser: Optimizer) -> bool:
    """Whether its step is that of its class; torch's schedules wrap it to see it called."""
    step = getattr(optimiser.step, "__func__", optimiser.step)
    if getattr(step, "__globals__", None) is vars(lr_scheduler):
        step = getattr(step, "__wrapped__", None)
    return step is type(optimiser).step and not any(_step_hooks(optimiser))


def _is_plain(parameter: Tensor, group: Group) -> bool:
    """Whether none of the rarer features is in use: they are left to torch's own optimiser."""
    decaying = [group["lr"]] if "lrd" in group else []
    numbers = [*group.get("betas", ()), group["weight_decay"], *decaying]
    return not (
        parameter.dtype not in (torch.float32, torch.float64)
        or group.get("differentiable", False)
        or any(isinstance(number, Tensor) for number in numbers)
    )
