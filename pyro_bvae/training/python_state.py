"""Numbers that Python functions take from around them: a recording would miss their change."""

from collections.abc import Iterable, Iterator, Mapping
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

SCALARS = (bool, int, float, complex, str, bytes, type(None))
LIBRARIES = ("torch", "pyro.", "builtins", "numpy")


class PythonState:
    """The scalars around some functions: in their closures, globals and partial arguments.

    So are those of the functions that they reach in this way, and the attributes that are scalars
    of the objects whose methods they are, and of modules. Elements of lists and dictionaries, and
    attributes of other objects, are not looked at.

    Args:
        functions: model and guide.
        modules: those that take part.

    >>> step = 1
    >>> state = PythonState([lambda: step > 3], [])
    >>> state.is_current()
    True
    >>> step = 2
    >>> state.is_current()
    False
    """

    def __init__(self, functions: Iterable[Any], modules: Iterable[nn.Module]) -> None:
        self._cells: list[tuple[CellType, Any]] = []
        self._entries: list[tuple[Mapping[str, Any], str, Any]] = []
        self._seen: set[int] = set()
        for function in functions:
            self._visit(function)
        for module in modules:
            self._visit_attributes(module)

    def is_current(self) -> bool:
        """Whether all of them are what they were."""
        missing = self
        return all(
            cell.cell_contents is old or cell.cell_contents == old for cell, old in self._cells
        ) and all(
            (value := mapping.get(name, missing)) is old or value == old
            for mapping, name, old in self._entries
        )

    def _visit(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, MethodType):
            self._visit_attributes(value.__self__)
            self._visit(value.__func__)
        elif isinstance(value, FunctionType):
            self._visit_function(value)
        elif isinstance(value, nn.Module):
            self._visit_attributes(value)
            self._visit(type(value).forward)
        else:
            for part in (getattr(value, "func", None), *getattr(value, "args", ())):
                if callable(part):
                    self._visit(part)

    def _visit_function(self, function: FunctionType) -> None:
        if (function.__module__ or "").startswith(LIBRARIES):
            return
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue
            if isinstance(value, SCALARS):
                self._cells.append((cell, value))
            elif callable(value):
                self._visit(value)
        for name in set(_names(function.__code__)) & function.__globals__.keys():
            self._note(function.__globals__, name)

    def _visit_attributes(self, owner: Any) -> None:
        attributes = getattr(owner, "__dict__", {})
        for name, value in attributes.items():
            if isinstance(value, SCALARS) and name != "training":
                self._entries.append((attributes, name, value))

    def _note(self, mapping: Mapping[str, Any], name: str) -> None:
        value = mapping[name]
        if isinstance(value, SCALARS):
            self._entries.append((mapping, name, value))
        elif isinstance(value, FunctionType | MethodType | nn.Module):
            self._visit(value)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names that code, and code within it, refers to."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
