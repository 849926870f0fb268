"""What Python functions take from around them: a recording would miss that it changed."""

import dis
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SCALARS = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(np.generic, torch.dtype, torch.device),
)
SEQUENCES = (list, tuple, deque)
LIBRARIES = sys.stdlib_module_names | {"torch", "pyro", "numpy", "scipy", "tqdm"}
OF_MODULES = frozenset(vars(nn.Module())) | {"training"}
HERE = __name__.partition(".")[0] + "."
IGNORED = object()
MOST, DEEP = 256, 3


class PythonState:
    """The values around some functions: in closures, globals, objects, classes and modules.

    Scalars, and what lists, sets, dictionaries and arrays hold, are compared by value; functions,
    modules, objects of the user's own classes and tensors that a recording holds by identity. What
    functions reach through these counts too; of an object, the attributes that code of theirs
    names. Not looked at are containers of more than 256 elements, what is more than three objects
    away, and what libraries keep to themselves.

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
                if not isinstance(attributes[name], FunctionType):
                    self._note(attributes, name, depth)
                self._visit(attributes[name], depth)

    def is_current(self) -> bool:
        """Whether all of them are what they were."""
        return all(
            ((now := mapping.get(name, IGNORED)) is old and not is_open)
            or self._content(now) == content
            for mapping, name, old, content, is_open in self._entries
        )

    def _note(self, mapping: Mapping[str, Any], name: str, depth: int) -> None:
        value = mapping.get(name, IGNORED)
        content = self._content(value)
        if content is not IGNORED:
            self._entries.append((mapping, name, value, content, _is_open(value)))
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
        known = isinstance(value, FunctionType | nn.Module | SimpleNamespace)
        return id(value) if known or _is_own(type(value)) else IGNORED

    def _visit(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or depth > DEEP or isinstance(value, (*SCALARS, Tensor)):
            return
        self._seen[id(value)] = value
        if isinstance(value, MethodType):
            self._visit(value.__self__, depth)
            self._visit(value.__func__, depth)
        elif isinstance(value, FunctionType):
            self._visit_function(value, depth)
        elif isinstance(value, nn.Module):
            for name in vars(value).keys() - OF_MODULES:
                self._note(vars(value), name, depth + 1)
            self._visit_methods(type(value), depth)
        elif isinstance(value, (dict, set, frozenset, *SEQUENCES)):
            for part in value.values() if isinstance(value, dict) else value:
                self._visit(part, depth) if len(value) <= MOST else None
        elif isinstance(value, ModuleType | type):
            if _is_own(value):
                self._objects.append((vars(value), depth + 1))
        elif hasattr(value, "func"):
            self._visit((value.func, getattr(value, "args", ())), depth)
        else:
            self._visit_methods(type(value), depth)
            self._objects.append((getattr(value, "__dict__", {}), depth + 1))
            self._objects.append((_Slots(value), depth + 1))

    def _visit_methods(self, owner: type, depth: int) -> None:
        for cls in filter(_is_own, owner.__mro__):
            for method in vars(cls).values():
                if isinstance(method, FunctionType):
                    self._visit(method, depth)

    def _visit_function(self, function: FunctionType, depth: int) -> None:
        if not _is_own(function):
            return
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            self._note(_Cell(cell), name, depth)
        defaults = {"": (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())}
        if _is_open(defaults[""]):
            self._note(defaults, "", depth)
        for code in _codes(function.__code__):
            self._named.update(code.co_names)
            for name in _globals(code) if not function.__module__.startswith(HERE) else ():
                self._note(function.__globals__, name, depth)


class _Cell(dict[str, Any]):
    """A variable of an enclosing function, as a mapping of whatever name."""

    def __init__(self, cell: Any) -> None:
        self._cell = cell

    def get(self, name: str, missing: Any = None) -> Any:
        """Return its value, or what is asked for if it has none yet."""
        try:
            return self._cell.cell_contents
        except ValueError:
            return missing


class _Slots(Mapping[str, Any]):
    """The attributes of an object that lie in slots."""

    def __init__(self, value: Any) -> None:
        self._value = value
        slots = [vars(cls).get("__slots__", ()) for cls in type(value).__mro__]
        self._names = {n for names in slots for n in ((names,) if type(names) is str else names)}

    def __getitem__(self, name: str) -> Any:
        """Return one; KeyError if it is not set."""
        try:
            return object.__getattribute__(self._value, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if hasattr(self._value, name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_open(value: Any) -> bool:
    """Whether a value may change while it stays the same object."""
    if isinstance(value, tuple):
        return any(map(_is_open, value))
    return isinstance(value, (dict, list, deque, set, np.ndarray))


def _is_own(value: Any) -> bool:
    """Whether a function, class or Python module is none of a library's."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__
    return (name or "").partition(".")[0] not in LIBRARIES


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
