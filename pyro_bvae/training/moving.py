"""Numbers that are changed in place while a pair is trained: β, or a capacity."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pyro_bvae.objectives import CapacityELBO, Objective
from pyro_bvae.training.beta_now import BetaNow
from pyro_bvae.training.distributed import Group
from pyro_bvae.training.state import State


class Moving:
    """The 0-dim tensors that a schedule, or a callback, gives other values.

    Args:
        beta: of the training.
        objective: of the training.

    >>> beta = torch.tensor(1.0)
    >>> moving = Moving(BetaNow(beta), CapacityELBO(1.0, capacity=2.0))
    >>> before = moving.state()
    >>> _ = beta.fill_(4.0)
    >>> moving.load_state(before)
    >>> beta
    tensor(1.)
    """

    def __init__(self, beta: BetaNow, objective: Objective) -> None:
        found: dict[str, Any] = {"beta": beta.value}
        if isinstance(beta.value, Mapping):
            found = {f"beta.{site}": value for site, value in beta.value.items()}
        if isinstance(objective, CapacityELBO):
            found["capacity"] = objective.capacity
        self.tensors = {name: v for name, v in found.items() if isinstance(v, Tensor)}
        self._begun = self._now()

    def share(self, group: Group) -> None:
        """Give them, in all processes, the values that they have in the first."""
        group.copy_from_first(self.tensors.values())

    @contextmanager
    def as_begun(self, state: State | None) -> Iterator[None]:
        """Have those that are where a run ended at what they were when it began, for a while."""
        kept = self._now()
        found = {"now": {}, "begun": {}} if state is None else state
        for name in kept.keys() & found["now"].keys():
            if float(kept[name]) == float(found["now"][name]):
                self._set({name: found["begun"][name]})
        try:
            yield
        finally:
            self._set(kept)

    def check(self, state: State, *, step: int) -> None:
        """Raise ValueError if schedules that have gone on to `step` gave others than these."""
        for name, before in state["now"].items():
            value = self.tensors.get(name, before)
            if float(value) != float(before):
                raise ValueError(
                    f"{name}: the run was trained with {float(before)} at step {step}, this "
                    f"schedule gives {float(value)}; give the same, or start another run"
                )

    def state(self) -> State:
        """Return their values, now and when the run began."""
        return {"now": self._now(), "begun": self._begun}

    def load_state(self, state: State) -> None:
        """Give them the values that they had."""
        self._begun = self._begun | state["begun"]
        self._set(state["now"])

    def _now(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.tensors.items()}

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name in values.keys() & self.tensors.keys():
            self.tensors[name].copy_(values[name])
