"""The state of every optimiser that looks after some parameters, by names, and back."""

from collections.abc import Mapping
from typing import Any

from pyro.optim import PyroOptim
from torch import Tensor
from torch.optim import Optimizer

from pyro_bvae.training.optimisers import TorchOptim
from pyro_bvae.training.state import State

Groups = list[list[str]]


def optimiser_state(optim: PyroOptim, tensors: Mapping[str, Tensor]) -> State:
    """Return what the next steps depend on: moments, counts, hyper-parameters, schedulers.

    Args:
        optim: Pyro's wrapper of optimisers.
        tensors: every parameter it looks after, by name.

    >>> import torch
    >>> weight = torch.ones(2, requires_grad=True)
    >>> weight.grad = torch.ones(2)
    >>> optim = TorchOptim(lambda parameters: torch.optim.SGD(parameters, lr=0.5, momentum=0.9))
    >>> optim([weight])
    >>> state = optimiser_state(optim, {"weight": weight})
    >>> state["optimisers"][0]["optimiser"]["state"]
    {0: {'momentum_buffer': tensor([1., 1.])}}
    """
    names = {id(tensor): name for name, tensor in tensors.items()}
    holders = {id(holder): holder for holder in optim.optim_objs.values()}.values()
    return {
        "parameters": [names[id(p)] for p in optim.optim_objs if id(p) in names],
        "optimisers": [
            {
                "groups": _groups(_optimiser(holder), names),
                "made_with": _made_with(optim, _optimiser(holder)),
                "optimiser": _optimiser(holder).state_dict(),
                "scheduler": None if isinstance(holder, Optimizer) else holder.state_dict(),
            }
            for holder in holders
            if any(_groups(_optimiser(holder), names))
        ],
    }


def load_optimiser_state(optim: PyroOptim, state: State, tensors: Mapping[str, Tensor]) -> None:
    """Make the optimisers, unless they are there, and give them the state that was saved.

    Raises: ValueError if they are other optimisers than those whose state it is.
    """
    if isinstance(optim, TorchOptim) and state["optimisers"]:
        _make(optim, state["parameters"], state["optimisers"][0], tensors)
    else:
        parameters: list[Any] = [tensors[name] for name in state["parameters"]]
        for parameter in parameters:
            if parameter not in optim.optim_objs:
                optim.optim_objs[parameter] = optim._get_optim(parameter)
                optim.grad_clip[parameter] = optim._get_grad_clip(parameter)
    for saved in state["optimisers"]:
        first = next(name for group in saved["groups"] for name in group)
        _load(optim, optim.optim_objs[tensors[first]], saved)


def _make(
    optim: TorchOptim, names: list[str], saved: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Build the optimiser so that it has these groups, the last of which may have come later."""
    groups: Groups = saved["groups"]
    of = {id(tensor): name for name, tensor in tensors.items()}
    ways = range(max(len(groups), 1))
    for later, alike in [*((way, True) for way in ways), *((way, False) for way in ways)]:
        tail = groups[len(groups) - later :]
        first = [name for name in names if not any(name in group for group in tail)]
        optim.optimiser = None
        optim.optim_objs.clear()
        for group in (first, *tail):
            optim.extend(tensors[name] for name in group)
        if optim.optimiser is None or _groups(optim.optimiser, of) != groups:
            continue
        if optim.made_with == saved["made_with"] or not alike:
            return
    raise ValueError("optim: expected the groups of parameters that the run had, got others")


def _load(optim: PyroOptim, holder: Any, saved: State) -> None:
    optimiser = _optimiser(holder)
    argument = optim.name if isinstance(optim, TorchOptim) else "optim"
    for group, group_before in zip(_made_with(optim, optimiser), saved["made_with"], strict=True):
        for name, value in group.items():
            before = group_before.get(name, value)
            if before != value:
                raise ValueError(
                    f"{argument}: the run was trained with {name}={before}, got {value}; give the "
                    "same, or start another run"
                )
    if saved["scheduler"] is not None:
        holder.load_state_dict(saved["scheduler"])
    optimiser.load_state_dict(saved["optimiser"])


def _optimiser(holder: Any) -> Optimizer:
    """The torch optimiser itself, where a learning-rate scheduler holds it."""
    return holder if isinstance(holder, Optimizer) else holder.optimizer


def _made_with(optim: PyroOptim, optimiser: Optimizer) -> list[dict[str, Any]]:
    """The hyper-parameters that each group was made with; Pyro's optimisers have one group each."""
    if isinstance(optim, TorchOptim):
        return optim.made_with
    used = optimiser.param_groups[0]
    numbers = {n: v for n, v in optimiser.defaults.items() if not isinstance(v, Tensor)}
    return [{name: value for name, value in numbers.items() if name in used}]


def _groups(optimiser: Optimizer, names: Mapping[int, str]) -> Groups:
    return [
        [names[id(p)] for p in group["params"] if id(p) in names]
        for group in optimiser.param_groups
    ]
