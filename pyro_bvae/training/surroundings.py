"""What a recorded step depends on without being handed it: parameters, modules, arguments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pyro_bvae.training.python_state import SCALARS, PythonState

KNOWN = (Tensor, *SCALARS, torch.dtype, torch.device, torch.Size, Enum)


def kind(tensor: Tensor) -> tuple[Any, ...]:
    """All that a graph assumes of a tensor but its values."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.requires_grad


@dataclass(frozen=True)
class Call:
    """The arguments of a step.

    Attributes:
        tensors: the tensors among them, which are the inputs of a graph.
        others: all of them, with None for a tensor.
        spec: how they are nested.
        key: all that a graph assumes of them.
        structure: the same but for the sizes of tensors and the values of others.
    """

    tensors: list[Tensor]
    others: list[Any]
    spec: TreeSpec | None
    key: tuple[Any, ...]
    structure: tuple[Any, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "Call":
        """Take arguments apart. Raises: TypeError if one can neither be recorded nor compared."""
        spec: TreeSpec | None = None
        leaves: Sequence[Any] = args
        if kwargs or not all(isinstance(a, Tensor) for a in args):
            leaves, spec = tree_flatten((args, dict(kwargs)))
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        others = [None if isinstance(x, Tensor) else x for x in leaves]
        kinds = tuple(kind(x) if isinstance(x, Tensor) else (type(x), x) for x in leaves)
        unknown = [x for x in leaves if not isinstance(x, KNOWN)]
        if unknown:
            raise TypeError(f"an argument is a {type(unknown[0]).__name__}, which may change")
        if any(t.requires_grad or t.layout != torch.strided for t in tensors):
            raise TypeError("an argument is a tensor that requires a gradient or is not dense")
        key = (kinds, spec, *_ambient(tensors))
        hash(key)
        structure = (spec, *((len(k[0]), *k[2:]) if len(k) > 2 else k[0] for k in kinds))
        return cls(tensors, others, spec, key, structure)

    def arguments(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Put the arguments together again, with these tensors."""
        if self.spec is None:
            return tuple(tensors), {}
        kinds = self.key[0]
        given = iter(tensors)
        leaves = [
            next(given) if len(k) > 2 else other
            for k, other in zip(kinds, self.others, strict=True)
        ]
        return tree_unflatten(leaves, self.spec)

    def __str__(self) -> str:
        shapes = ", ".join(str(list(t.shape)) for t in self.tensors)
        rest = [repr(x) for x in self.others if x is not None]
        return ", ".join([f"tensors of shape {shapes}", *rest])


def _ambient(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    device = tensors[0].device.type if tensors else "cpu"
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return torch.get_default_dtype(), autocast


class Modules:
    """The modules that take part in a run of some functions, such as model and guide."""

    def __init__(self, *functions: Any) -> None:
        self._found: dict[int, nn.Module] = {}
        self.functions = functions
        for function in functions:
            for owner in (function, getattr(function, "__self__", None)):
                if isinstance(owner, nn.Module):
                    self._add(owner)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Add every module that is called meanwhile."""
        handle = register_module_forward_pre_hook(lambda module, _: self._add(module))
        try:
            yield
        finally:
            handle.remove()

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._found.values())

    def _add(self, root: nn.Module) -> None:
        if id(root) not in self._found:
            self._found |= {id(module): module for module in root.modules()}

    def parameters(self) -> dict[int, tuple[str, Tensor]]:
        """Return every parameter, by its id, with the name its module has for it."""
        return {
            id(p): (name, p) for m in self for name, p in m._parameters.items() if p is not None
        }


class Surroundings:
    """What a recording took from elsewhere, to see whether it is still so.

    Args:
        parameters: by Pyro's name for them.
        modules: those that took part.
        live: the tensors that the recording holds.
        before: what Python functions took from around them before they were recorded.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        modules: Modules,
        live: Iterable[Tensor],
        before: PythonState,
    ) -> None:
        held = {id(tensor) for tensor in live}
        self._python = PythonState(modules.functions, modules, held, before.places)
        store = dict(pyro.get_param_store().named_parameters())
        self._stored = [(name, p) for name, p in parameters.items() if store.get(name) is p]
        self._slots = [
            (slots, name, tensor)
            for module in modules
            for slots in (module._parameters, module._buffers)
            for name, tensor in slots.items()
            if id(tensor) in held
        ]
        self._training = [(module, module.training) for module in modules]
        self._kinds = [(p, p.data_ptr(), kind(p)) for p in parameters.values()]

    def is_current(self) -> bool:
        """Whether parameters, buffers, training modes and numbers are those that were recorded."""
        store = dict(pyro.get_param_store().named_parameters()) if self._stored else {}
        return (
            self._python.is_current()
            and all(store.get(name) is p for name, p in self._stored)
            and all(slots.get(name) is tensor for slots, name, tensor in self._slots)
            and all(module.training is mode for module, mode in self._training)
            and all(
                (p.data_ptr() == address and p.requires_grad == expected[-1]) or kind(p) == expected
                for p, address, expected in self._kinds
            )
        )

    def changed(self) -> str:
        """Say what is not as it was recorded."""
        name = self._python.changed()
        if name is None:
            return "parameters, buffers, modules or training modes"
        return f"values that model and guide read, such as {name!r},"


@contextmanager
def fresh_gradients() -> Iterator[None]:
    """Let what happens inside show which of the stored parameters it gives a gradient."""
    stored = [p for _, p in pyro.get_param_store().named_parameters() if p.grad is not None]
    before = [p.grad for p in stored]
    for p in stored:
        p.grad = None
    try:
        yield
    finally:
        for p, gradient in zip(stored, before, strict=True):
            p.grad = gradient if p.grad is None or gradient is None else gradient.add_(p.grad)
