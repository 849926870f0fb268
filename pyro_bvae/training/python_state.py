"""What Python functions take from around them: a recording would miss that it changed."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from operator import attrgetter
from types import FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from pyro_bvae.training.lookups import Lookups
from pyro_bvae.training.python_code import (
    attribute_names,
    codes,
    global_names,
    imported,
    library_names,
    names_anything,
    variables,
)
from pyro_bvae.training.python_contents import IGNORED, MISSING, Contents, size
from pyro_bvae.training.python_values import (
    CONTAINERS,
    DEEP,
    MOST,
    NAMESPACES,
    PLACED,
    VALUES,
    Place,
    Read,
    Slot,
    attributes,
    is_here,
    is_iterator,
    is_open,
    is_own,
    own_classes,
    place,
    scalar,
)

CODE = attrgetter("__code__")
Entry = tuple[Mapping[str, Any], str, Any, Any, bool]

BUILDING = {"__init__", "__new__", "__post_init__"}
ASIDE = {
    *("__init_subclass__", "__set_name__", "__del__", "__repr__", "__copy__", "__deepcopy__"),
    *("__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__getnewargs__"),
}
METHODS = (FunctionType, property, staticmethod, classmethod)


class PythonState:
    """The values around some functions: in closures, globals, objects, classes and modules.

    Scalars, and what lists, sets, dictionaries and arrays hold, are compared by value; functions,
    classes, modules, other objects and tensors that a recording holds by identity. What functions
    reach through these counts too: of the user's own objects and of modules, the attributes that
    code in reach names (all, if it may name any, as with `vars`); of those of libraries, all. Of
    the process's environment, the variables that they name count. What the functions themselves
    make anew does not, unless it is a scalar. A generator of random numbers, or a count, changes
    if the functions themselves move it on; other iterators cannot be compared, so with one around
    them functions are never what they were. Of containers of more than 256 elements only identity
    and length count. Not looked at are what is more than three objects away, attributes that are
    not there yet, files, what installed packages keep to themselves, and methods by which objects
    are copied, printed or, unless functions name their class, built.

    Args:
        functions: model and guide.
        modules: those that take part.
        held: the ids of the tensors that a recording holds.
        places: those of a state from before the functions ran.

    Attributes:
        places: what was there, by id, with where generators and counts are.
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
        self._contents, self._before = Contents(held), places
        self.places: dict[int, Any] = {}
        self.modules: list[nn.Module] = []
        self._entries: list[Entry] = []
        self._functions: list[FunctionType] = []
        self._seen: dict[int, Any] = {}
        self._named: set[str] = set()
        self._anything = False
        self._objects: list[Place] = []
        for value in (*functions, *modules):
            self._visit(value, 0)
        done: set[tuple[int, str]] = set()
        while found := [
            (number, name)
            for number, each in enumerate(self._objects)
            for name in sorted(each.named(self._named, anything=self._anything))
            if (number, name) not in done and name not in ASIDE | BUILDING
        ]:
            done.update(found)
            for number, name in found:
                self._look_up(self._objects[number], name)
        self._others: list[Entry] = []
        lies: list[tuple[dict[str, Any], str, Any]] = []
        read: list[tuple[Callable[[], Any], Any]] = []
        for each in self._entries:
            mapping, name, value, _, may_change = each
            steady = not may_change and value is not MISSING
            if steady and isinstance(mapping, Slot):
                read.append((mapping.read, value))
            elif steady and type(mapping) is dict:
                lies.append((mapping, name, value))
            else:
                self._others.append(each)
        self._lookups = Lookups(lies, read)
        self._codes = [*map(CODE, self._functions)]

    def is_current(self) -> bool:
        """Whether all of them are what they were."""
        return self.changed() is None

    def changed(self) -> str | None:
        """Return the name of one of them that is not what it was, None if all are."""
        entries = self._others if self._lookups.hold() else self._entries
        for mapping, name, old, content, may_change in entries:
            now = mapping.get(name, MISSING)
            if (now is not old or may_change) and self._contents.of(now) != content:
                return name
        if [*map(CODE, self._functions)] != self._codes:
            return "__code__"
        return None

    def _look_up(self, each: "Place", name: str) -> None:
        own, *classes = each.spaces
        if name in own or each.value is not None:
            self._note(own, name, each.depth, absent=True)
        for mapping in classes:
            value = mapping.get(name)
            if isinstance(value, MemberDescriptorType) and each.value is not None:
                mapping = Read(partial(value.__get__, each.value))
            self._note(mapping, name, each.depth)

    def _note(
        self, mapping: Mapping[str, Any], name: str, depth: int, *, absent: bool = False
    ) -> None:
        value = mapping.get(name, MISSING)
        if value is MISSING and not absent:
            return
        self._visit(value, depth)
        if isinstance(value, CONTAINERS) and size(value) > MOST:
            self._contents.large.add(id(value))
        content = self._contents.of(value)
        if content is not IGNORED:
            self._entries.append((mapping, name, value, content, is_open(value)))

    def _visit(self, value: Any, depth: int) -> None:
        if id(value) in self._seen or isinstance(value, (*VALUES, Tensor)):
            return
        self._seen[id(value)] = value
        at_rest = self._at_rest(id(value), place(value) if isinstance(value, PLACED) else None)
        if at_rest and (isinstance(value, PLACED) or not is_iterator(value)):
            self._contents.known.add(id(value))
        if depth > DEEP:
            return
        if isinstance(value, CONTAINERS):
            for part in (*value, *value.values()) if isinstance(value, dict) else value:
                self._visit(part, depth) if len(value) <= MOST else None
        elif isinstance(value, MethodType):
            self._visit(value.__self__, depth)
            self._visit(value.__func__, depth)
        elif isinstance(value, partial):
            for part in (value.func, value.args, value.keywords):
                self._note({"arguments": part}, "arguments", depth)
        elif not at_rest:
            return
        elif isinstance(value, ContextVar):
            self._note(Read(value.get), value.name, depth)
        elif isinstance(value, property):
            self._visit(value.fget, depth)
        elif isinstance(value, staticmethod | classmethod):
            self._visit(value.__func__, depth)
        elif isinstance(value, FunctionType):
            self._visit_function(value, depth)
        elif isinstance(value, ModuleType | type):
            self._visit_space(value, depth)
            if isinstance(value, type):
                self._visit_methods(value, ASIDE, depth)
        elif isinstance(value, (nn.Module, *NAMESPACES)) or is_own(type(value)):
            self._visit_object(value, depth)
        else:
            for name, part in list(attributes(value).items()):
                if self._at_rest(
                    (id(value), name), scalar(part) if isinstance(part, VALUES) else None
                ):
                    self._note(attributes(value), name, max(depth + 1, DEEP))

    def _at_rest(self, key: Any, place: Any) -> bool:
        self.places[key] = place
        return self._before is None or self._before.get(key, IGNORED) == place

    def _visit_object(self, value: Any, depth: int) -> None:
        if isinstance(value, nn.Module):
            self.modules.append(value)
            for child in value._modules.values():
                self._visit(child, depth)
        owner: type = type(value)
        self._visit_methods(owner, ASIDE | BUILDING, depth)
        places = (attributes(value), *map(vars, own_classes(owner)))
        self._objects.append(Place(value, places, depth + 1, library_names(owner)))

    def _visit_space(self, owner: type | ModuleType, depth: int) -> None:
        if isinstance(owner, type):
            places = tuple(map(vars, own_classes(owner)))
            self._objects.append(Place(None, ({}, *places), depth + 1, library_names(owner)))
        elif is_own(owner):
            self._objects.append(Place(None, ({}, vars(owner)), depth + 1, frozenset()))

    def _visit_methods(self, owner: type, but: set[str], depth: int) -> None:
        """Visit those that may run without being named."""
        for cls in filter(is_own, owner.__mro__):
            for name, method in vars(cls).items():
                unnamed = name not in but and (is_here(cls) or name.startswith("__"))
                if unnamed and isinstance(method, METHODS):
                    self._visit(method, depth)

    def _visit_function(self, function: FunctionType, depth: int) -> None:
        if not is_own(function):
            return
        if not is_here(function):
            self._functions.append(function)
        self._objects.append(Place(None, ({}, vars(function)), depth + 1, frozenset()))
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            read = Slot(cell, "cell_contents")
            if name != "__class__":
                self._note(read, name, depth)
            elif (owner := read.get(name)) is not None:
                self._visit_space(owner, depth)
        for name in ("__defaults__",) if is_here(function) else ("__defaults__", "__kwdefaults__"):
            if getattr(function, name):
                self._note(Slot(function, name), name, depth)
        for code in codes(function.__code__):
            self._named.update(attribute_names(code))
            self._anything = self._anything or names_anything(code)
            for module in imported(function, code):
                self._visit(module, depth)
            for name in variables(code):
                self._note(Read(partial(os.environ.get, name)), name, depth)
            for name in () if is_here(function) else sorted(global_names(code)):
                self._note(function.__globals__, name, depth)
