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
from functools import partial
from operator import itemgetter, sub
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Group = dict[str, Any]


class Update(ABC):
    """The update of parameters that share their hyper-parameters and their step count.

    Everything that may change in place between steps is a tensor: the parameters, the optimiser's
    state, `rate`, which holds the learning rate (or, for ClippedAdam, the step size), and
    `momentum`, which holds β₁ or SGD's momentum, where a schedule such as `OneCycleLR` moves it.
    """

    inertia = "betas"
    fixed: tuple[str, ...]
    state_names: tuple[str, ...]

    def __init__(self, members: Sequence[tuple[Tensor, Optimizer, Group]]) -> None:
        self.parameters = [parameter for parameter, _, _ in members]
        self.groups = [group for _, _, group in members]
        self.states = [optimiser.state[parameter] for parameter, optimiser, _ in members]
        self.hyper = {name: self.groups[0][name] for name in self.fixed}
        moves = self._moves(self.groups[0])
        self._read = itemgetter(*(n for n in self.fixed if not (moves and n == self.inertia)))
        self._expected = self._read(self.groups[0])
        self.groups_once = list({id(group): group for group in self.groups}.values())
        device, lr = self.parameters[0].device, self.groups[0]["lr"]
        self._shares_rate = isinstance(lr, Tensor) and lr.device == device
        self._last: float | Tensor | None = None
        scalar = partial(torch.ones, (), dtype=torch.float64, device=device)
        precision = lr.dtype if isinstance(lr, Tensor) else torch.float64
        self.rate = lr if self._shares_rate else scalar(dtype=precision)
        momentum, *self._others = self._inertia(self.groups[0])
        self.momentum: float | Tensor = scalar() if moves else momentum
        self._began = self.counts()

    @classmethod
    def key(cls, parameter: Tensor, state: dict[str, Any], group: Group) -> tuple[Any, ...]:
        """What parameters must have in common to be updated together."""
        hyper = (cls._moves(group), *(group[name] for name in cls.fixed))
        lr = id(group["lr"]) if isinstance(group["lr"], Tensor) else group["lr"]
        return (cls, hyper, lr, parameter.dtype, parameter.device)

    @classmethod
    def is_ready(cls, state: dict[str, Any], group: Group) -> bool:
        """Whether the optimiser has set up the parameter's state, which its first step does."""
        return bool(state)

    def advance(self) -> None:
        """Bring `rate` and `momentum` up to date with the optimiser, before a step."""
        self._set(self.groups[0]["lr"])

    def rewind(self) -> None:  # noqa: B027
        """Undo what `advance` changed in the optimiser, after a step that failed: here nothing."""

    def is_current(self) -> bool:
        """Whether hyper-parameters are those recorded, and all have gone as many steps on."""
        lr, shared = self.groups[0]["lr"], self._shares_rate
        if shared and lr is not self.rate:
            return False
        if len(set(map(sub, self.counts(), self._began))) > 1:
            return False
        return all(
            (group["lr"] is lr or (not shared and group["lr"] == lr))
            and self._read(group) == self._expected
            for group in self.groups_once
        ) and (not isinstance(self.momentum, Tensor) or self._move_together())

    def counts(self) -> list[int]:
        """A number of each parameter's state that rises with its steps; none if no step counts."""
        return []

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
        if isinstance(self.momentum, Tensor):
            self.momentum.fill_(self._inertia(self.groups[0])[0])
        if not self._shares_rate and (isinstance(rate, Tensor) or rate != self._last):
            self.rate.fill_(rate)
            self._last = rate

    @classmethod
    def _inertia(cls, group: Group) -> tuple[float, ...]:
        """Return the momentum, and what is given together with it: for Adam, β₂."""
        value = group[cls.inertia]
        return tuple(value) if isinstance(value, list | tuple) else (value,)

    @classmethod
    def _moves(cls, group: Group) -> bool:
        """Whether `OneCycleLR` or `CyclicLR` moves the momentum; none at all is another rule."""
        return "max_momentum" in group and cls._inertia(group)[0] != 0

    def _move_together(self) -> bool:
        """Whether all groups still have one momentum, and beside it what was recorded."""
        first = self.groups[0]
        return (
            self._moves(first)
            and [*self._inertia(first)[1:]] == self._others
            and all(group[self.inertia] == first[self.inertia] for group in self.groups_once)
        )


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
        beta1, beta2 = self._inertia(self.groups[0])
        step = self.states[0]["step"]
        corrections = math.sqrt(1 - beta2**step), 1 - beta1**step
        self._set(self.groups[0]["lr"] * corrections[0] / corrections[1])

    def counts(self) -> list[int]:
        """The steps."""
        return [state["step"] for state in self.states]

    def rewind(self) -> None:
        """Take the count and the decay back."""
        for group, lr in zip(self.groups_once, self._before, strict=True):
            group["lr"] = lr
        for state in self.states:
            state["step"] -= 1

    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place."""
        beta1, beta2 = self.momentum, self.hyper["betas"][1]
        bound = self.hyper["clip_norm"]
        means, squares = ([s[n] for s in states] for n in self.state_names)
        grads = [grad.clamp(-bound, bound) for grad in grads]
        if self.hyper["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, parameters, alpha=self.hyper["weight_decay"]))
        scale_(means, beta1)
        add_(means, grads, alpha=1 - beta1)
        if self.hyper["centered_variance"]:
            grads = list(torch._foreach_sub(grads, means))
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = list(torch._foreach_sqrt(squares))
        torch._foreach_add_(denominators, self.hyper["eps"])
        subtract_ratio(parameters, means, denominators, self.rate)


class SGDUpdate(Update):
    """Stochastic gradient descent, with momentum."""

    inertia = "momentum"
    fixed = ("momentum", "dampening", "weight_decay", "nesterov", "maximize")
    state_names = ("momentum_buffer",)

    @classmethod
    def is_ready(cls, state: dict[str, Any], group: Group) -> bool:
        """Whether there is a momentum, if one is needed."""
        return group["momentum"] == 0 or state.get("momentum_buffer") is not None

    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place."""
        momentum = self.momentum
        if self.hyper["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, parameters, alpha=self.hyper["weight_decay"]))
        if isinstance(momentum, Tensor) or momentum != 0:
            buffers = [s["momentum_buffer"] for s in states]
            scale_(buffers, momentum)
            torch._foreach_add_(buffers, grads, alpha=1 - self.hyper["dampening"])
            nesterov = self.hyper["nesterov"]
            grads = added(grads, buffers, alpha=momentum) if nesterov else buffers
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


def scale_(tensors: list[Tensor], factor: float | Tensor) -> None:
    """Multiply in place."""
    one = factor.to(tensors[0].dtype) if isinstance(factor, Tensor) else factor
    torch._foreach_mul_(tensors, one)


def added(tensors: list[Tensor], others: list[Tensor], *, alpha: float | Tensor) -> list[Tensor]:
    """Add alpha times the others, rounded as `Tensor.add` rounds if alpha is a tensor, too."""
    if isinstance(alpha, Tensor):
        alpha = alpha.to(tensors[0].dtype)
        return [torch.addcmul(a, b, alpha) for a, b in zip(tensors, others, strict=True)]
    return list(torch._foreach_add(tensors, others, alpha=alpha))


def add_(tensors: list[Tensor], others: list[Tensor], *, alpha: float | Tensor) -> None:
    """Do what `added` does, in place."""
    if isinstance(alpha, Tensor):
        torch._foreach_copy_(tensors, added(tensors, others, alpha=alpha))
    else:
        torch._foreach_add_(tensors, others, alpha=alpha)
