"""torch's fused Adam with a β₁ that is a tensor, so that one graph serves while β₁ changes."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

SCHEMA = (
    "fused_adam_(Tensor(a!)[] parameters, Tensor[] grads, Tensor(b!)[] means, "
    "Tensor(c!)[] squares, Tensor(d!)[] largest, Tensor[] steps, *, Tensor lr, Tensor beta1, "
    "float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, bool decoupled) "
    "-> ()"
)


def fused_adam_(*tensors: Any, beta1: Tensor, decoupled: bool, **numbers: Any) -> None:
    """Do `torch._fused_adam_`, or `_fused_adamw_` if decoupled, on a CPU.

    >>> theta, mean, square = torch.ones(1), torch.zeros(1), torch.zeros(1)
    >>> state = [[theta], [torch.full((1,), 3.0)], [mean], [square], [], [torch.tensor(1.0)]]
    >>> numbers = {"lr": torch.tensor(0.25), "beta2": 0.999, "eps": 0.0, "weight_decay": 0.0}
    >>> beta1 = torch.tensor(0.9)
    >>> fused_adam_(
    ...     *state, **numbers, beta1=beta1, amsgrad=False, maximize=False, decoupled=False
    ... )
    >>> theta
    tensor([0.7500])
    """
    with torch._C.DisableTorchFunction():
        rule = torch._fused_adamw_ if decoupled else torch._fused_adam_
        rule(*tensors, beta1=beta1.item(), **numbers)


def fused_adam_operator() -> Any:
    """Return it as an operator, which can be recorded although it reads β₁."""
    _library()
    return torch.ops.pyro_bvae.fused_adam_.default


def is_fused_adam(target: Any) -> bool:
    """Whether what a graph calls is that operator.

    >>> is_fused_adam(fused_adam_operator()), is_fused_adam(torch.ops.aten.add.Tensor)
    (True, False)
    """
    return str(target) == "pyro_bvae.fused_adam_.default"


@cache
def _library() -> torch.library.Library:
    library = torch.library.Library("pyro_bvae", "FRAGMENT")
    library.define(SCHEMA)
    library.impl("fused_adam_", fused_adam_, "CompositeExplicitAutograd")
    return library
