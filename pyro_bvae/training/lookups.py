"""What lies under names in dictionaries and in closures, to see fast that it is still there."""

from collections.abc import Callable, Iterable
from operator import call, is_
from typing import Any


class Lookups:
    """Objects as they were found in dictionaries, and as functions returned them.

    Args:
        found: each with its dictionary and its name there, None where there is none.
        read: each with the function.

    >>> options = {"rate": 1.0}
    >>> lookups = Lookups([(options, "rate", options["rate"])])
    >>> lookups.hold()
    True
    >>> options["rate"] = 2.0
    >>> lookups.hold()
    False
    """

    def __init__(
        self,
        found: Iterable[tuple[dict[Any, Any], Any, Any]],
        read: Iterable[tuple[Callable[[], Any], Any]] = (),
    ) -> None:
        self._found = list(zip(*found, strict=True)) or [(), (), ()]
        self._read = list(zip(*read, strict=True)) or [(), ()]

    def hold(self) -> bool:
        """Whether looking again gives the same objects; no function may raise but ValueError."""
        tables, keys, objects = self._found
        functions, returned = self._read
        try:
            return all(map(is_, map(dict.get, tables, keys), objects)) and all(
                map(is_, map(call, functions), returned)
            )
        except ValueError:
            return False
