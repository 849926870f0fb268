"""The parameters that model and guide show to Pyro, and whether they are those in use."""

import re
from collections.abc import Mapping
from typing import Any

import pyro
from torch import Tensor

from pyro_bvae.training.surroundings import Modules


def parameters_in(trace: Any) -> dict[str, Tensor]:
    """Return the unconstrained parameters of a trace by name, each once, as Pyro's SVI does."""
    sites = trace.nodes.items()
    found = {name: site["value"].unconstrained() for name, site in sites if site["type"] == "param"}
    names = {id(parameter): name for name, parameter in reversed(found.items())}
    return {name: p for name, p in found.items() if names[id(p)] == name}


def check_parameters(parameters: Mapping[str, Tensor], modules: Modules) -> None:
    """Raise ValueError where Pyro would train nothing and say nothing.

    To be called when the loss has given the parameters their gradients. All of them may be frozen
    for a while, once Pyro knows them.
    """
    known = {id(p) for _, p in pyro.get_param_store().named_parameters()}
    own = modules.parameters()
    if not parameters and not known & own.keys():
        raise ValueError(
            "model, guide: expected parameters that Pyro can see, got none, so nothing would be "
            "trained; register networks with pyro.module and tensors with pyro.param, or pass a "
            "PyroModule itself rather than its bound methods"
        )
    registered = {id(p) for p in parameters.values()}
    idle = {name: p for name, p in parameters.items() if p.grad is None}
    for key, (local, tensor) in own.items():
        if key in registered or tensor.grad is None or not tensor.requires_grad:
            continue
        for name, parameter in idle.items():
            if re.split(r"\.|\$\$\$", name)[-1] == local and parameter.shape == tensor.shape:
                raise ValueError(
                    f"model, guide: expected the parameters Pyro knows to be the tensors in use, "
                    f"but {name!r} {list(parameter.shape)} is another tensor than the one the loss "
                    "is computed with, so it would never be trained; another model of this "
                    "process uses that name, or the module's parameter was replaced: call "
                    "pyro.clear_param_store(), or give pyro.module another name"
                )
    if parameters and len(idle) == len(parameters):
        raise ValueError(
            f"model, guide: expected a loss that depends on the parameters, but none of "
            f"{sorted(parameters)} has a gradient, so nothing would be trained; is "
            "requires_grad off, or another module in use than the registered one?"
        )
