"""What outlives a process: states of tensors and plain values, as safetensors and JSON."""

import json
from collections.abc import Mapping
from types import NoneType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

State = Any
TENSOR, TUPLE, DICT = "$tensor", "$tuple", "$dict"
TEXT = "json"


@runtime_checkable
class Stateful(Protocol):
    """Something that must be as it was when training goes on: a callback, an objective.

    A state is made of tensors, numbers, strings, booleans and None, in lists, tuples and dicts,
    whose keys are strings, numbers, None or tuples of these.
    """

    def state(self) -> State: ...  # noqa: D102
    def load_state(self, state: State) -> None: ...  # noqa: D102


def to_bytes(state: State) -> bytes:
    """Write a state as one safetensors file, where one tensor is all but the tensors as JSON.

    A safetensors header has at most 100 MB, which a long history outgrows.

    Raises: TypeError, with the place, if there is something else in it.

    >>> state = {"weight": torch.ones(2), "betas": (0.9, 0.999), "steps": {0: float("inf")}}
    >>> from_bytes(to_bytes(state))
    {'weight': tensor([1., 1.]), 'betas': (0.9, 0.999), 'steps': {0: inf}}
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(state, "state", tensors)).encode()
    return save(tensors | {TEXT: torch.frombuffer(bytearray(text), dtype=torch.uint8)})


def from_bytes(content: bytes) -> State:
    """Read what `to_bytes` wrote; nothing is executed. Raises: ValueError if it is something else.

    >>> from_bytes(b"garbage")
    Traceback (most recent call last):
    ValueError: expected a state in safetensors, got something else or a part of one: ...
    """
    try:
        tensors = load(content)
        text = tensors.pop(TEXT).numpy().tobytes()
        return _unpacked(json.loads(text), tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            "expected a state in safetensors, got something else or a part of one: "
            f"{type(error).__name__}: {error}"
        ) from error


def plain_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU that share no memory, as safetensors wants them.

    >>> plain_tensors({"a": torch.ones(2, 3).mT})["a"].is_contiguous()
    True
    """
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _packed(value: State, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        while path in tensors:
            path += "'"
        tensors |= plain_tensors({path: value})
        return {TENSOR: path}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [_packed(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        pairs = [
            [_packed_key(key, path), _packed(item, f"{path}/{key}", tensors)]
            for key, item in value.items()
        ]
        plain = all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs)
        return dict(pairs) if plain else {DICT: pairs}
    raise TypeError(
        f"{path}: expected a state of tensors, numbers, strings, lists and dicts, got "
        f"{type(value).__name__}; state() must return what can be written without pickle"
    )


def _packed_key(key: Any, path: str) -> Any:
    """Return a key as JSON, such that it is read as it was."""
    parts = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(k, np.generic | bool | int | float | str | NoneType) for k in parts):
        raise TypeError(
            f"{path}: expected keys that are strings, numbers, None or tuples of these, got "
            f"{key!r}; state() must return what can be written without pickle"
        )
    return _packed(key, path, {})


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> State:
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": name}:
            return tensors[name]
        case {"$tuple": items}:
            return tuple(_unpacked(item, tensors) for item in items)
        case {"$dict": pairs}:
            return {_unpacked(key, tensors): _unpacked(item, tensors) for key, item in pairs}
    return {key: _unpacked(item, tensors) for key, item in value.items()}
