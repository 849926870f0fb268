"""What the code of functions names, as it stands, without running any."""

import dis
import sys
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from pyro_bvae.training.python_values import is_own

BY_NAME = {"getattr", "hasattr", "attrgetter"}
ANY_NAME = {"vars", "__dict__", "asdict", "astuple"}
ENVIRONMENT = {"environ", "getenv"}


def codes(code: CodeType) -> Iterator[CodeType]:
    """Yield code, and the code of functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def global_names(code: CodeType) -> set[str]:
    """Return the names that code looks up in its globals."""
    return _operands(code, "LOAD_GLOBAL", "LOAD_NAME")


def attribute_names(code: CodeType) -> set[str]:
    """Return the names that code may look up in objects; where it calls `getattr`, its strings.

    >>> sorted(attribute_names((lambda x: getattr(x.first, "second.third")).__code__))
    ['first', 'getattr', 'second', 'third']
    """
    names = {*code.co_names}
    if names & (BY_NAME | ANY_NAME):
        names.update(part for each in strings(code.co_consts) for part in each.split("."))
    return names


def names_anything(code: CodeType) -> bool:
    """Whether code may look up attributes under names that are not to be seen in it."""
    names = {*code.co_names}
    if "site-packages" in code.co_filename or not names & (BY_NAME | ANY_NAME):
        return False
    known = any(each.replace(".", "").isidentifier() for each in strings(code.co_consts))
    return bool(names & ANY_NAME) or not known or bool(_operands(code, "BUILD_STRING"))


def variables(code: CodeType) -> list[str]:
    """Return the strings that may name variables of the process's environment."""
    return [*strings(code.co_consts)] if ENVIRONMENT & {*code.co_names} else []


def strings(constants: tuple[Any, ...] | frozenset[Any]) -> Iterator[str]:
    """Yield the strings among constants, and in tuples and sets among them."""
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from strings(constant)


def imported(function: FunctionType, code: CodeType) -> Iterator[ModuleType]:
    """Yield the Python modules that code of a function imports, as far as they are there."""
    package = function.__globals__.get("__package__") or ""
    for name in _operands(code, "IMPORT_NAME"):
        for path in {name, f"{package}.{name}".strip(".")}:
            if path in sys.modules:
                yield sys.modules[path]


@cache
def library_names(cls: type) -> frozenset[str]:
    """Return the names by which libraries' classes, of which a class is one, know attributes."""
    names: set[str] = set()
    for base in cls.__mro__[:-1]:
        if not is_own(base):
            names.update(vars(base))
            for method in vars(base).values():
                function = getattr(method, "fget", getattr(method, "__func__", method))
                if isinstance(function, FunctionType):
                    names.update(*(code.co_names for code in codes(function.__code__)))
    return frozenset(names)


def _operands(code: CodeType, *operations: str) -> set[str]:
    return {i.argval for i in dis.get_instructions(code) if i.opname in operations}
