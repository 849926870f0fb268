"""Adam and AdamW as tensor operations: torch's fused one, or the same in single steps.

References:
    Kingma, Ba (2015), Adam: A Method for Stochastic Optimization.
    Loshchilov, Hutter (2019), Decoupled Weight Decay Regularization.
    Reddi, Kale, Kumar (2018), On the Convergence of Adam and Beyond.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.fx import Graph, GraphModule
from torch.optim import Optimizer

from pyro_bvae.training.fused_adam import fused_adam_operator, is_fused_adam
from pyro_bvae.training.updates import Group, Update, subtract_ratio

aten = torch.ops.aten


class AdamUpdate(Update):
    """Adam and AdamW, as `torch.optim` computes them with `fused`, or without `foreach`.

    The fused operation is used on a CPU alone.
    """

    fixed = (
        *("betas", "eps", "weight_decay", "decoupled_weight_decay", "amsgrad", "maximize"),
        "fused",
    )
    state_names = ("step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(self, members: Sequence[tuple[Tensor, Optimizer, Group]]) -> None:
        super().__init__(members)
        for parameter, state in zip(self.parameters, self.states, strict=True):
            state["step"] = state["step"].to(parameter.device)

    @classmethod
    def key(cls, parameter: Tensor, state: dict[str, Any], group: Group) -> tuple[Any, ...]:
        """Adam's bias correction depends on the step count."""
        return (*super().key(parameter, state, group), float(state["step"]))

    def advance(self) -> None:
        """Count the step where that can be seen without waiting for the tensors' device."""
        increment_version([state["step"] for state in self.states])
        super().advance()

    def counts(self) -> list[int]:
        """How many times the steps were changed."""
        return [state["step"]._version for state in self.states]

    def apply(self, parameters: list[Tensor], grads: list[Tensor], states: list[Any]) -> None:
        """Update in place."""
        steps, means, squares = ([s[n] for s in states] for n in self.state_names[:3])
        largest = [s["max_exp_avg_sq"] for s in states] if self.hyper["amsgrad"] else []
        torch._foreach_add_(steps, 1)
        self._rule()(
            *(parameters, grads, means, squares, largest, steps),
            lr=self.rate,
            beta1=self.momentum,
            beta2=self.hyper["betas"][1],
            maximize=False,
            **{name: self.hyper[name] for name in ("weight_decay", "eps", "amsgrad")},
        )

    def _rule(self) -> Callable[..., None]:
        decoupled = self.hyper["decoupled_weight_decay"]
        if self.hyper["fused"] and self.parameters[0].device.type == "cpu":
            if isinstance(self.momentum, Tensor):
                return partial(fused_adam_operator(), decoupled=decoupled)
            return torch._fused_adamw_ if decoupled else torch._fused_adam_
        return partial(adam_, decoupled=decoupled)


def adam_(
    parameters: list[Tensor],
    grads: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    largest: list[Tensor],
    steps: list[Tensor],
    *,
    lr: Tensor,
    beta1: float | Tensor,
    beta2: float,
    weight_decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool = False,
    decoupled: bool,
) -> None:
    """Do what `torch._fused_adam_` does, in the order of torch's Adam for single tensors.

    >>> theta, mean, square = torch.ones(1), torch.zeros(1), torch.zeros(1)
    >>> state = [[theta], [torch.full((1,), 3.0)], [mean], [square], [], [torch.tensor(1.0)]]
    >>> rates = {"lr": torch.tensor(0.25), "beta1": 0.9, "beta2": 0.999, "eps": 0.0}
    >>> adam_(*state, **rates, weight_decay=0.0, amsgrad=False, decoupled=False)
    >>> theta  # the first step is the sign of the gradient times the learning rate
    tensor([0.7500])
    """
    if maximize:
        grads = list(torch._foreach_neg(grads))
    if weight_decay != 0 and decoupled:
        torch._foreach_mul_(parameters, (1 - lr * weight_decay).to(parameters[0].dtype))
    elif weight_decay != 0:
        grads = list(torch._foreach_add(grads, parameters, alpha=weight_decay))
    if isinstance(beta1, Tensor):
        torch._foreach_lerp_(means, grads, [(1 - beta1).to(means[0].dtype)] * len(means))
    else:
        torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
    if amsgrad:
        torch._foreach_maximum_(largest, squares)
        squares = largest
    step = steps[0].to(torch.float64)
    root = torch.pow(1 - torch.pow(beta2, step), torch.full_like(step, 0.5))
    size = lr / (1 - torch.pow(beta1, step)).to(lr.dtype)
    denominators = list(torch._foreach_sqrt(squares))
    torch._foreach_div_(denominators, root.to(parameters[0].dtype))
    torch._foreach_add_(denominators, eps)
    subtract_ratio(parameters, means, denominators, size)


def in_single_steps(module: GraphModule) -> GraphModule:
    """Return the graph with fused updates in single steps, which a compiler can fuse with more."""
    decoupled = {aten._fused_adam_.tensor_lr: False, aten._fused_adamw_.tensor_lr: True}
    graph = Graph()
    graph.output(graph.graph_copy(module.graph, val_map={}))
    for node in graph.nodes:
        if node.target in decoupled:
            node.kwargs = {**node.kwargs, "decoupled": decoupled[node.target]}
        if node.target in decoupled or is_fused_adam(node.target):
            node.target = adam_
    return GraphModule({}, graph)
