"""Show a module's parameters to Pyro without putting them into its global store."""

import itertools
import weakref

from pyro.poutine.runtime import effectful
from torch import Tensor, nn
from torch.distributions import constraints

_names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
_counter = itertools.count(1)


def register(module: nn.Module) -> None:
    """Emit a Pyro param statement for every trainable parameter of `module`.

    The value of each is a view of the parameter, whose `unconstrained()` is the parameter itself:
    what `pyro.infer.SVI` then trains. Nothing is put on the parameter, so the module still pickles.
    Sites are named `Class_n.path`, n being unique in the process, so modules never meet under one
    name; and as nothing enters Pyro's store, `pyro.clear_param_store()` does not concern them.
    They live in `module.parameters()` and `module.state_dict()`.
    """
    if module not in _names:
        _names[module] = f"{type(module).__name__}_{next(_counter)}"
    for path, parameter in module.named_parameters():
        if parameter.requires_grad:
            name = f"{_names[module]}.{path}"
            _param(name, parameter, constraint=constraints.real, event_dim=None, name=name)


@effectful(type="param")
def _param(name: str, parameter: Tensor, **_: object) -> Tensor:
    value = parameter.view_as(parameter)
    value.unconstrained = lambda: parameter  # type: ignore[attr-defined]
    return value
