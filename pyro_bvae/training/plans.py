"""What is known of steps, for every kind of arguments they came with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pyro_bvae.training.captured import NOT_CAPTURED
from pyro_bvae.training.recorded_step import RecordedStep
from pyro_bvae.training.surroundings import Call, Modules

IN_A_ROW = 3
MANY, MOST = 4, 64


@dataclass
class Plan:
    """What is known of steps with arguments of one kind.

    Attributes:
        first: no earlier arguments had this structure, so its graph is worth recording at once.
        often: it is the first, or these arguments came several times in a row.
        parameters: those of the last step in Python, by name; None before the first.
        modules: those that took part.
        recorded: the recording, once there is one.
        confirmed: a second recording was the same.
        delays: how many times in a row a step was not ready to be recorded.
        eager: it cannot be recorded.
        uncompilable: it cannot be compiled.
    """

    first: bool
    often: bool = True
    parameters: Mapping[str, Tensor] | None = None
    modules: Modules = field(default_factory=Modules)
    recorded: RecordedStep | None = None
    confirmed: bool = False
    delays: int = 0
    eager: bool = False
    uncompilable: bool = False

    def is_stale(self) -> bool:
        """Whether the recording took something from elsewhere that has been replaced since."""
        return self.recorded is not None and not self.recorded.is_current()

    def is_compiled(self) -> bool:
        """Whether there is a compiled graph."""
        return self.recorded is not None and self.recorded.is_compiled()

    def compile(self, call: Call) -> str | None:
        """Compile the recording for arguments like these; return what did not come of it."""
        if self.recorded is None:
            return "there is no recording"
        try:
            why = self.recorded.compile(call.tensors)
        except Exception as error:
            self.uncompilable = True
            first = str(error).strip().partition("\n")[0]
            return f"the recorded graph runs uncompiled: {type(error).__name__}: {first}"
        return why and f"{NOT_CAPTURED}{why}"


class Plans:
    """The plan for each kind of arguments, and which kind came last, how many times in a row.

    Beyond 64 kinds, those go that were not recorded, and then those that came longest ago.
    """

    def __init__(self) -> None:
        self._plans: dict[Any, Plan] = {}
        self._structures: set[Any] = set()
        self._last: Any = None
        self._count = 0

    def find(self, call: Call) -> Plan:
        """Return the plan for arguments like these, made if they are new."""
        self._count = self._count + 1 if call.key == self._last else 1
        self._last = call.key
        plan = self._plans.pop(call.key, None)
        if plan is None:
            plan = Plan(first=call.structure not in self._structures)
            self._structures.add(call.structure)
        self._plans[call.key] = plan
        plan.often = plan.first or self._count >= IN_A_ROW
        if len(self._plans) > MOST:
            self._plans = {key: p for key, p in self._plans.items() if p.recorded or p is plan}
        if len(self._plans) > MOST:
            del self._plans[next(iter(self._plans))]
        return plan

    def too_many(self) -> bool:
        """Whether so many kinds came too seldom to be recorded that it is worth a warning."""
        return sum(not plan.first and plan.recorded is None for plan in self._plans.values()) > MANY

    def clear(self) -> None:
        """Forget everything."""
        self._plans.clear()
        self._structures.clear()
