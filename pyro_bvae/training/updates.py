"""Optimiser updates as tensor operations, which can be recorded in a graph.

torch's optimisers read step counts and learning rates into Python numbers. Here the same arithmetic
is done on 0-dim tensors, in the same order, so that on a CPU the results are equal to the last
bit. The state stays where torch's optimiser keeps it, so either may take the next step.

References:
    Kingma, Ba (2015), Adam: A Method for Stochastic Optimization.
    Sutskever et al. (2013), On the importance of initialization and momentum in deep learning.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]


class Update(ABC):
    """The update of parameters that share their hyper-parameters and their step count.

    Everything that may change in place between steps is a tensor: the parameters, the optimiser's
    state, and `rate`, which holds the learning rate (or, for ClippedAdam, the step size).
    """

    fixed: tuple[str, ...]
    state_names: tuple[str, ...]

    def __init__(self, members: Sequence[tuple[Tensor, Optimizer, Group]]) -> None:
        self.parameters = [parameter for parameter, _, _ in members]
        self.groups = [group for _, _, group in members]
        self.states = [optimiser.state[parameter] for parameter, optimiser, _ in members]
        self.hyper = {name: self.groups[0][name] for name in self.fixed}
        self._read = itemgetter(*self.fixed)
        self._expected = self._read(self.groups[0])
        self.groups_once = list({id(group): group for group in self.groups}.values())
        device, lr = self.parameters[0].device, self.groups[0]["lr"]
        self._shares_rate = isinstance(lr, Tensor) and lr.device == device
        self._last: float | Tensor | None = None
        self.rate = lr if self._shares_rate else torch.ones((), dtype=torch.float64, device=device)

    @classmethod
    def key(cls, parameter: Tensor, state: dict[str, Any], group: Group) -> tuple[Any, ...]:
        """What parameters must have in common to be updated together."""
        hyper = tuple(group[name] for name in cls.fixed)
        lr = id(group["lr"]) if isinstance(group["lr"], Tensor) else group["lr"]
        return (cls, hyper, lr, parameter.dtype, parameter.device)

    @classmethod
    def is_ready(cls, state: dict[str, Any], group: Group) -> bool:
        """Whether the optimiser has set up the parameter's state, which its first step does."""
        return bool(state)

    def advance(self) -> None:
        """Bring `rate` up to date with the optimiser, before a step."""
        self._set(self.groups[0]["lr"])

    def rewind(self) -> None:  # noqa: B027
        """Undo what `advance` changed in the optimiser, after a step that failed: here nothing."""

    def is_current(self) -> bool:
        """Whether the optimiser still has the hyper-parameters that were recorded."""
        lr, shared = self.groups[0]["lr"], self._shares_rate
        if shared and lr is not self.rate:
            return False
        return all(
            (group["lr"] is lr or (not shared and group["lr"] == lr))
            and self._read(group) == self._expected
            for group in self.groups_once
        )

    @abstractmethod
    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place, by tensor operations alone."""

    def record(self) -> None:
        """Update those parameters that have a gradient."""
        pairs = zip(self.parameters, self.states, strict=True)
        found = [(p, p.grad, state) for p, state in pairs if p.grad is not None]
        if found:
            parameters, grads, states = map(list, zip(*found, strict=True))
            if self.hyper.get("maximize"):
                grads = list(torch._foreach_neg(grads))
            self.apply(parameters, grads, states)

    def _set(self, rate: float | Tensor) -> None:
        if not self._shares_rate and (isinstance(rate, Tensor) or rate != self._last):
            self.rate.fill_(rate)
            self._last = rate


class ClippedAdamUpdate(Update):
    """Pyro's `ClippedAdam`, which counts steps and decays its learning rate in Python."""

    fixed = ("betas", "eps", "weight_decay", "clip_norm", "lrd", "centered_variance")
    state_names = ("exp_avg", "exp_avg_sq")

    @classmethod
    def key(cls, parameter: Tensor, state: dict[str, Any], group: Group) -> tuple[Any, ...]:
        """The bias correction depends on the step count."""
        return (*super().key(parameter, state, group), state["step"])

    def advance(self) -> None:
        """Count the step and decay the learning rate as ClippedAdam does, and set its step size."""
        self._before = [group["lr"] for group in self.groups_once]
        for group in self.groups_once:
            group["lr"] *= group["lrd"]
        for state in self.states:
            state["step"] += 1
        beta1, beta2 = self.hyper["betas"]
        step = self.states[0]["step"]
        corrections = math.sqrt(1 - beta2**step), 1 - beta1**step
        self._set(self.groups[0]["lr"] * corrections[0] / corrections[1])

    def rewind(self) -> None:
        """Take the count and the decay back."""
        for group, lr in zip(self.groups_once, self._before, strict=True):
            group["lr"] = lr
        for state in self.states:
            state["step"] -= 1

    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place."""
        beta1, beta2 = self.hyper["betas"]
        bound = self.hyper["clip_norm"]
        means, squares = ([s[n] for s in states] for n in self.state_names)
        grads = [grad.clamp(-bound, bound) for grad in grads]
        if self.hyper["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, parameters, alpha=self.hyper["weight_decay"]))
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, grads, alpha=1 - beta1)
        if self.hyper["centered_variance"]:
            grads = list(torch._foreach_sub(grads, means))
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(denominators, self.hyper["eps"])
        subtract_ratio(parameters, means, denominators, self.rate)


class SGDUpdate(Update):
    """Stochastic gradient descent, with momentum."""

    fixed = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
    state_names = ("momentum_buffer",)

    @classmethod
    def is_ready(cls, state: dict[str, Any], group: Group) -> bool:
        """Whether there is a momentum, if one is needed."""
        return group["momentum"] == 0 or state.get("momentum_buffer") is not None

    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place."""
        momentum = self.hyper["momentum"]
        if self.hyper["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, parameters, alpha=self.hyper["weight_decay"]))
        if momentum != 0:
            buffers = [s["momentum_buffer"] for s in states]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, grads, alpha=1 - self.hyper["dampening"])
            nesterov = self.hyper["nesterov"]
            grads = (
                list(torch._foreach_add(grads, buffers, alpha=momentum)) if nesterov else buffers
            )
        negative = (-self.rate).to(parameters[0].dtype)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.addcmul_(grad, negative)


def subtract_ratio(
    parameters: list[Tensor], means: list[Tensor], denominators: list[Tensor], size: Tensor
) -> None:
    """θ ← θ + (−size · m) / d: `addcdiv_` in its own order, with a tensor for the step size."""
    ratios = torch._foreach_mul(means, (-size).to(parameters[0].dtype))
    torch._foreach_div_(ratios, denominators)
    torch._foreach_add_(parameters, ratios)
