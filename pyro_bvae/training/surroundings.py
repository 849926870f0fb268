"""What a recorded step depends on without being handed it: parameters, modules, arguments."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from operator import attrgetter, methodcaller
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from pyro_bvae.training.lookups import Lookups
from pyro_bvae.training.python_state import PythonState
from pyro_bvae.training.python_values import SCALARS

TRAINING, NBYTES, VALUES = attrgetter("training"), attrgetter("nbytes"), methodcaller("values")
OF_LEAVES = attrgetter("dtype", "device", "requires_grad")
HOOKS_OF_TENSORS = attrgetter("_backward_hooks", "_post_accumulate_grad_hooks")
HOOKS_OF_MODULES = attrgetter(
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
)
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
        owners = [o for f in functions for o in (f, getattr(f, "__self__", None))]
        self.add(owner for owner in owners if isinstance(owner, nn.Module))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Add every module that this thread calls meanwhile."""
        here = threading.get_ident()

        def called(module: nn.Module, _: Any) -> None:
            if threading.get_ident() == here:
                self.add([module])

        handle = register_module_forward_pre_hook(called)
        try:
            yield
        finally:
            handle.remove()

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._found.values())

    def add(self, roots: Iterable[nn.Module]) -> None:
        """Add modules and all that are part of them."""
        for root in roots:
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
        modules: those that were called; extended by those that functions reach otherwise.
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
        held = {id(tensor): tensor for tensor in (*live, *parameters.values())}
        self._python = PythonState(modules.functions, modules, held, before.places)
        modules.add(self._python.modules)
        store = dict(pyro.get_param_store().named_parameters())
        self._stored = [(name, p) for name, p in parameters.items() if store.get(name) is p]
        slots = [each for m in modules for each in (m._parameters, m._buffers)]
        self._slots = Lookups(
            [
                *(
                    (each, name, value)
                    for each in slots
                    if isinstance(each, dict)
                    for name, value in each.items()
                    if value is None or id(value) in held
                ),
                *((vars(m), "forward", vars(m).get("forward")) for m in modules),
            ]
        )
        self._modules = list(modules)
        self._parts = [m._modules for m in modules]
        self._hooked = [hooks for m in modules for hooks in HOOKS_OF_MODULES(m)]
        tensors = [each for each in held.values() if isinstance(each, Tensor)]
        self._held = [tensor for tensor in tensors if tensor.layout == torch.strided]
        shown = {id(p) for p in parameters.values()}
        self._leaves = [t for t in self._held if id(t) in shown or isinstance(t, nn.Parameter)]
        self._then = self._now()

    def is_current(self) -> bool:
        """Whether parameters, buffers, training modes and numbers are those that were recorded."""
        store = dict(pyro.get_param_store().named_parameters()) if self._stored else {}
        return (
            self._python.is_current()
            and all(store.get(name) is p for name, p in self._stored)
            and self._slots.hold()
            and self._now() == self._then
        )

    def _now(self) -> tuple[list[Any], ...]:
        """Return what may change in modules and tensors that stay; every hook has its number."""
        hooks = chain(self._hooked, *map(HOOKS_OF_TENSORS, self._leaves))
        return (
            [*map(TRAINING, self._modules)],
            [*chain.from_iterable(map(VALUES, filter(None, self._parts)))],
            [*chain.from_iterable(filter(None, hooks))],
            [*map(NBYTES, self._held)],
            [*map(Tensor.stride, self._held)],
            [*map(OF_LEAVES, self._leaves)],
        )

    def changed(self) -> str:
        """Say what is not as it was recorded."""
        name = self._python.changed()
        if name is None:
            return "parameters, buffers, modules, their hooks or training modes"
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
