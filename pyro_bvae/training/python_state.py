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
    HERE,
    PLACED,
    SCALARS,
    SEQUENCES,
    Read,
    Shared,
    is_iterator,
    is_open,
    is_own,
    place,
)

OF_MODULES = frozenset(vars(nn.Module())) | {"training"}
MOST, DEEP = 256, 3
BY_NAME = {"getattr", "hasattr", "attrgetter", "vars", "__dict__"}
ENVIRONMENT = {"environ", "getenv"}
BUILDING = {"__init__", "__new__", "__post_init__"}
ASIDE = BUILDING | {
    *("__init_subclass__", "__set_name__", "__del__", "__repr__", "__copy__", "__deepcopy__"),
    *("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__getnewargs__"),
}
IGNORED = object()


class PythonState:
    """The values around some functions: in closures, globals, objects, classes and modules.

    Scalars, and what lists, sets, dictionaries and arrays hold, are compared by value; functions,
    modules, objects of the user's own classes and tensors that a recording holds by identity. What
    functions reach through these counts too; of an object, the attributes that code of theirs
    names, also as strings where they call `getattr`. Of the process's environment, the variables
    that they name count. A generator of random numbers, or a count, changes if the functions
    themselves move it on; other iterators cannot be compared, so with one around them functions
    are never what they were. Not looked at are containers of more than 256 elements, what is more
    than three objects away, attributes that are not there yet, files, what libraries keep to
    themselves, and methods by which objects are copied, printed or, unless functions name their
    class, built.

    Args:
        functions: model and guide.
        modules: those that take part.
        held: the ids of the tensors that a recording holds.
        places: those of a state from before the functions ran.

    Attributes:
        places: where generators and counts are, by id.
        modules: each PyTorch module among them.

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
        places: Mapping[int, Any] | None = None,
    ) -> None:
        self._held, self._before = held, places
        self.places: dict[int, Any] = {}
        self.modules: list[nn.Module] = []
        self._entries: list[tuple[Mapping[str, Any], str, Any, Any, bool]] = []
        self._seen: dict[int, Any] = {}
        self._named: set[str] = set()
        self._taken: list[type | ModuleType] = []
        self._objects: list[tuple[Mapping[str, Any], int]] = []
        for value in (*functions, *modules):
            self._visit(value, 0)
        done: set[tuple[int, str]] = set()
        while found := [
            (number, name)
            for number, (attributes, _) in enumerate(self._objects)
            for name in sorted(self._named & attributes.keys())
            if (number, name) not in done
        ]:
            done.update(found)
            for number, name in found:
                self._look_up(*self._objects[number], name)

    def is_current(self) -> bool:
        """Whether all of them are what they were."""
        return self.changed() is None

    def changed(self) -> str | None:
        """Return the name of one of them that is not what it was, None if all are."""
        for mapping, name, old, content, may_change in self._entries:
            now = mapping.get(name, IGNORED)
            if (now is not old or may_change) and self._content(now) != content:
                return name
        return None

    def _look_up(self, attributes: Mapping[str, Any], depth: int, name: str) -> None:
        value = attributes.get(name)
        if isinstance(attributes, Shared) or not isinstance(value, FunctionType):
            self._note(attributes, name, depth)
        self._visit(value, depth)

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
        if isinstance(value, PLACED):
            if id(value) not in self.places:
                self.places[id(value)] = place(value)
            at_rest = self._before is None or self._before.get(id(value)) == self.places[id(value)]
            return id(value) if at_rest else object()
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
            self.modules.append(value)
            for name in vars(value).keys() - OF_MODULES:
                self._note(vars(value), name, depth + 1)
            self._visit_methods(type(value), depth)
            self._objects.append((Shared(value), depth + 1))
        elif isinstance(value, (dict, set, frozenset, *SEQUENCES)):
            for part in value.values() if isinstance(value, dict) else value:
                self._visit(part, depth) if len(value) <= MOST else None
        elif isinstance(value, ModuleType | type):
            self._take(value, depth)
            if isinstance(value, type):
                self._visit_methods(value, depth, building=True)
        elif hasattr(value, "func"):
            self._visit((value.func, getattr(value, "args", ())), depth)
        else:
            self._visit_methods(type(value), depth)
            self._objects.append((getattr(value, "__dict__", {}), depth + 1))
            self._objects.append((Shared(value), depth + 1))

    def _take(self, owner: type | ModuleType, depth: int) -> None:
        if is_own(owner) and owner not in self._taken:
            self._taken.append(owner)
            self._objects.append((vars(owner), depth + 1))

    def _visit_methods(self, owner: type, depth: int, *, building: bool = False) -> None:
        """Visit those that may run in a step; of an object that is there, not what built it."""
        for cls in filter(is_own, owner.__mro__):
            for name, method in vars(cls).items():
                if name in BUILDING if building else name not in ASIDE:
                    if isinstance(method, FunctionType | property | staticmethod | classmethod):
                        self._visit(method, depth)
                elif name == "__init__" and isinstance(method, FunctionType):
                    self._named.update(_names(method.__code__, "STORE_ATTR"))

    def _visit_function(self, function: FunctionType, depth: int) -> None:
        if not is_own(function):
            return
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            read = Read(partial(getattr, cell, "cell_contents"))
            if name != "__class__":
                self._note(read, name, depth)
            elif read.get(name) is not None:
                self._take(read.get(name), depth)
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
            for name in (
                _names(code, "LOAD_GLOBAL", "LOAD_NAME")
                if not function.__module__.startswith(HERE)
                else ()
            ):
                self._note(function.__globals__, name, depth)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield code, and the code of functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType, *operations: str) -> set[str]:
    """Return the names that code uses in such operations."""
    return {i.argval for i in dis.get_instructions(code) if i.opname in operations}
