"""Parameters that a module has in Pyro's store and not in itself, as its weights have them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pyro_bvae.training.constraints import constraint_of, described
from pyro_bvae.training.names import STORED

Words = Mapping[str, list[Any] | None]


def weights_of(module: nn.Module, parameters: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a module's state, and those of these parameters that it lacks.

    >>> pyro.clear_param_store()
    >>> _ = pyro.param("sigma", torch.tensor(2.0))
    >>> weights_of(nn.Linear(1, 1, bias=False), pyro.get_param_store()._params.values()).keys()
    dict_keys(['weight', 'pyro.param sigma'])
    """
    store, own = pyro.get_param_store(), {id(parameter) for parameter in module.parameters()}
    others = {store.param_name(p): p for p in parameters if id(p) not in own}
    state = {name: value for name, value in module.state_dict().items() if _is_tensor(value)}
    return state | {f"{STORED}{name}": p for name, p in others.items() if name is not None}


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], constraints: Words) -> None:
    """Give a module, and Pyro's store, the weights that `weights_of` returned.

    What the module's state has beside tensors stays as it is.

    Raises: RuntimeError or ValueError if they are another module's; ValueError if the store lacks
        a parameter that is not made by `pyro.param` with a constraint of torch's or Pyro's, or
        has one under another constraint.
    """
    stored = {n.removeprefix(STORED): t for n, t in weights.items() if n.startswith(STORED)}
    existing = dict(pyro.get_param_store().named_parameters())
    new = {name: constraints.get(f"{STORED}{name}") for name in stored.keys() - existing.keys()}
    missing = sorted(name for name, words in new.items() if words is None or "$$$" in name)
    if missing:
        raise ValueError(
            f"pyro.param: the weights have {missing}, which Pyro's parameter store lacks; run "
            "model and guide once, so that these exist, then load again"
        )
    for name in stored.keys() & existing.keys():
        if stored[name].shape != existing[name].shape:
            raise ValueError(
                f"pyro.param: expected {name!r} of shape {list(existing[name].shape)}, got "
                f"{list(stored[name].shape)}"
            )
        now, then = described(_constraints()[name]), constraints.get(f"{STORED}{name}")
        if now and then and now != then:
            raise ValueError(
                f"pyro.param: expected {name!r} with the constraint {now}, as Pyro's parameter "
                f"store has it, got weights of one with {then}; load them in a fresh process"
            )
    state = {name: value for name, value in module.state_dict().items() if not _is_tensor(value)}
    module.load_state_dict(state | {n: t for n, t in weights.items() if not n.startswith(STORED)})
    device = next((parameter.device for parameter in module.parameters()), None)
    for name, words in new.items():
        made = stored[name].to(device, copy=True).requires_grad_()
        pyro.get_param_store().set_state(
            {"params": {name: made}, "constraints": {name: constraint_of(words or [])}}
        )
    with torch.no_grad():
        for name in stored.keys() & existing.keys():
            existing[name].copy_(stored[name])


def _constraints() -> Mapping[str, Any]:
    return dict(pyro.get_param_store()._constraints)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
