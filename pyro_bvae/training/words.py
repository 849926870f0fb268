"""Callables and objects in words that are the same in every process."""

import inspect
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from torch import Tensor, nn

from pyro_bvae.objectives import Objective
from pyro_bvae.training.state import Stateful

PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


def described(value: Any) -> str:
    """Return a setting in words: what it is called, and what it was given; never an address.

    Functions and classes are told by their modules and qualified names; objectives, and objects
    that have a state, by their class and what they were made with; other objects by their class
    and their plain attributes, modules of networks by their class alone.

    >>> described(partial(torch.optim.Adam, lr=0.1))
    'torch.optim.adam.Adam(lr=0.1)'
    """
    if isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and not value.ndim):
        return repr(value.item())
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {described(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(described, value))}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(described, value)))}}}"
    if isinstance(value, Tensor | np.ndarray):
        return f"{outline(value)}, sha256 {digest(value)}"
    return _of_callable(value)


def told(callback: Stateful) -> str:
    """Return a callback in words: its class, and what it was made with that is not in its state.

    It is the class alone where one of these has no words.

    >>> from pyro_bvae.training import EarlyStopping
    >>> told(EarlyStopping(patience=2))
    "pyro_bvae.training.callbacks.EarlyStopping(patience=2, monitor='validation_loss', margin=0.0)"
    """
    name = _name(callback if hasattr(callback, "__qualname__") else type(callback))
    try:
        state = callback.state()
        own = state if isinstance(state, Mapping) else {}
        return _call(name, {key: v for key, v in _made(callback).items() if key not in own})
    except Exception:  # whatever a callback of somebody's own may hold
        return name


def outline(value: Tensor | np.ndarray) -> str:
    """Return the dtype and the shape of an array.

    >>> outline(torch.ones(2, 3))
    'float32 [2, 3]'
    """
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def digest(*values: Tensor | np.ndarray) -> str:
    """Return a hash of the bytes of numbers."""
    found = sha256()
    for value in values:
        array = torch.as_tensor(value).detach().cpu().contiguous()
        found.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def _of_callable(value: Any) -> str:
    if isinstance(value, partial):
        given: dict[Any, Any] = dict(enumerate(value.args))
        return _call(described(value.func), given | value.keywords)
    if isinstance(value, PyroOptim):
        return _optimiser(value)
    if inspect.ismethod(value):
        return f"{described(value.__self__)}.{value.__name__}"
    if hasattr(value, "__qualname__"):
        return _name(value)
    if isinstance(value, Objective | Stateful):
        schedules = getattr(value, "schedules", {}) if isinstance(value, Objective) else {}
        return _call(_name(type(value)), _made(value) | schedules)
    own = {} if isinstance(value, nn.Module) else getattr(value, "__dict__", {})
    return _call(_name(type(value)), {name: v for name, v in own.items() if _is_plain(v)})


def _made(value: Any) -> dict[str, Any]:
    """Return the arguments of its class that it keeps under their names."""
    names = inspect.signature(type(value)).parameters
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _optimiser(optim: PyroOptim) -> str:
    made_with = optim.pt_optim_args
    words = described(optim.pt_optim_constructor)
    if made_with:
        words = _call(words, made_with if isinstance(made_with, dict) else {"args": made_with})
    if optim.pt_clip_args:
        words += f", clip_args={described(optim.pt_clip_args)}"
    if not isinstance(optim, PyroLRScheduler):
        return words
    schedule = _call(described(optim.pt_scheduler_constructor), optim.kwargs)
    return f"{schedule} of {words}"


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None)
    return value.__qualname__ if module in (None, "builtins") else f"{module}.{value.__qualname__}"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def _call(name: str, given: Mapping[Any, Any]) -> str:
    """Write a call; numbers stand for positional arguments."""
    words = [
        described(value) if isinstance(key, int) else f"{key}={described(value)}"
        for key, value in given.items()
    ]
    return f"{name}({', '.join(words)})" if words else name
