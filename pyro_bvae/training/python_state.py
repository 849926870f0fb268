"""What Python functions take from around them: a recording would miss that it changed."""

import dis
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor, nn

from pyro_bvae.training.python_values import (
    GENERATORS,
    HERE,
    SCALARS,
    SEQUENCES,
    Read,
    Shared,
    generator_state,
    is_iterator,
    is_open,
    is_own,
)

OF_MODULES = frozenset(vars(nn.Module())) | {"training"}
MOST, DEEP = 256, 3
BY_NAME = {"getattr", "hasattr", "attrgetter", "vars", "__dict__"}
ENVIRONMENT = {"environ", "getenv"}
IGNORED = object()
MOST, DEEP = 256, 3


class PythonState:
    """The values around some functions: in closures, globals, objects, classes and modules.

    Scalars, and what lists, sets, dictionaries and arrays hold, are compared by value; functions,
    modules, objects of the user's own classes and tensors that a recording holds by identity. What
    functions reach through these counts too; of an object, the attributes that code of theirs
    names, also as strings where they call `getattr`. Of the process's environment, the variables
    that they name count. Iterators change whenever they are used, so with one around them
    functions are never what they were. Not looked at are containers of more than 256 elements,
    what is more than three objects away, attributes that are not there yet, files, and what
    libraries keep to themselves.

    Args:
        functions: model and guide.
        modules: those that take part.
        held: the ids of the tensors that a recording holds.

    >>> options = {"warm": True}
    >>> state = PythonState([lambda options=options: options["warm"]], [])
    >>> state.is_current()
    True
    >>> options["warm"] = False
    >>> state.is_current()
    False
    """

    def __init__(
        self,
        functions: Iterable[Any],
        modules: Iterable[nn.Module],
        held: Collection[int] = (),
    ) -> None:
        self._held = held
        self._entries: list[tuple[Mapping[str, Any], str, Any, Any, bool]] = []
        self._seen: dict[int, Any] = {}
        self._named: set[str] = set()
        self._objects: list[tuple[Mapping[str, Any], int]] = []
        for value in (*functions, *modules):
            self._visit(value, 0)
        for attributes, depth in self._objects:
            for name in self._named & attributes.keys():
                value = attributes.get(name)
                if isinstance(attributes, Shared) or not isinstance(value, FunctionType):
                    self._note(attributes, name, depth)
                self._visit(value, depth)

    def is_current(self) -> bool:
        """Whether all of them are what they were."""
        return all(
            ((now := mapping.get(name, IGNORED)) is old and not may_change)
            or self._content(now) == content
            for mapping, name, old, content, may_change in self._entries
        )

    def changed(self) -> str | None:
        """Return the name of one of them that is not what it was, None if all are."""
        for mapping, name, _, content, _ in self._entries:
            if self._content(mapping.get(name, IGNORED)) != content:
                return name
        return None

    def _note(self, mapping: Mapping[str, Any], name: str, depth: int) -> None:
        value = mapping.get(name, IGNORED)
        content = self._content(value)
        if content is not IGNORED:
            self._entries.append((mapping, name, value, content, is_open(value)))
        self._visit(value, depth)

    def _content(self, value: Any, depth: int = 0) -> Any:
        """Return what is compared of a value."""
        if isinstance(value, SCALARS):
            return value
        if isinstance(value, Tensor):
            return id(value) if id(value) in self._held else IGNORED
        if isinstance(value, np.ndarray):
            few = value.size <= MOST
            return (value.dtype.str, value.shape, value.tobytes()) if few else IGNORED
        if isinstance(value, set | frozenset) and len(value) <= MOST:
            return {part if isinstance(part, SCALARS) else id(part) for part in value}
        if isinstance(value, (dict, *SEQUENCES)):
            if len(value) > MOST or depth > DEEP:
                return IGNORED
            keys = list(value) if isinstance(value, dict) else None
            parts = value.values() if isinstance(value, dict) else value
            return keys, [self._content(part, depth + 1) for part in parts]
        if isinstance(value, MethodType):
            return id(value.__self__), id(value.__func__)
        if isinstance(value, type):
            return IGNORED
        if isinstance(value, GENERATORS):
            return generator_state(value)
        if is_iterator(value):
            return object()
        known = isinstance(value, FunctionType | nn.Module | SimpleNamespace)
        return id(value) if known or is_own(type(value)) else IGNORED

    def _visit(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or depth > DEEP or isinstance(value, (*SCALARS, Tensor)):
            return
        self._seen[id(value)] = value
        if isinstance(value, MethodType):
            self._visit(value.__self__, depth)
            self._visit(value.__func__, depth)
        elif isinstance(value, ContextVar):
            self._note(Read(value.get), value.name, depth)
        elif isinstance(value, partial):
            self._note({"arguments": (value.func, value.args, value.keywords)}, "arguments", depth)
        elif isinstance(value, property):
            self._visit(value.fget, depth)
        elif isinstance(value, staticmethod | classmethod):
            self._visit(value.__func__, depth)
        elif isinstance(value, FunctionType):
            self._visit_function(value, depth)
        elif isinstance(value, nn.Module):
            for name in vars(value).keys() - OF_MODULES:
                self._note(vars(value), name, depth + 1)
            self._visit_methods(type(value), depth)
            self._objects.append((Shared(value), depth + 1))
        elif isinstance(value, (dict, set, frozenset, *SEQUENCES)):
            for part in value.values() if isinstance(value, dict) else value:
                self._visit(part, depth) if len(value) <= MOST else None
        elif isinstance(value, ModuleType | type):
            if is_own(value):
                self._objects.append((vars(value), depth + 1))
        elif hasattr(value, "func"):
            self._visit((value.func, getattr(value, "args", ())), depth)
        else:
            self._visit_methods(type(value), depth)
            self._objects.append((getattr(value, "__dict__", {}), depth + 1))
            self._objects.append((Shared(value), depth + 1))

    def _visit_methods(self, owner: type, depth: int) -> None:
        for cls in filter(is_own, owner.__mro__):
            for method in vars(cls).values():
                if isinstance(method, FunctionType | property | staticmethod | classmethod):
                    self._visit(method, depth)

    def _visit_function(self, function: FunctionType, depth: int) -> None:
        if not is_own(function):
            return
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._note(Read(partial(getattr, cell, "cell_contents")), name, depth)
        given = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        if given:
            self._note({"defaults": given}, "defaults", depth)
        for code in _codes(function.__code__):
            self._named.update(code.co_names)
            strings = [c for c in code.co_consts if isinstance(c, str)]
            if BY_NAME & {*code.co_names}:
                self._named.update(strings)
            for name in strings if ENVIRONMENT & {*code.co_names} else ():
                self._note(Read(partial(os.environ.get, name)), name, depth)
            for name in _globals(code) if not function.__module__.startswith(HERE) else ():
                self._note(function.__globals__, name, depth)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield code, and the code of functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _globals(code: CodeType) -> set[str]:
    """Return the global names that code reads."""
    return {
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
