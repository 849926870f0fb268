"""What may happen at every record of a training run."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast

from pyro_bvae.checks import check_count, check_takes
from pyro_bvae.training.history import Values
from pyro_bvae.training.state import State, Stateful
from pyro_bvae.types import PairLike


class Record(NamedTuple):
    """One row of a run's history, given to the callbacks.

    Attributes:
        step: how many steps have been taken.
        steps: how many will be.
        values: the row: averages since the last record, nats per datum.
        pair: what is being trained.
    """

    step: int
    steps: int
    values: Values
    pair: PairLike


class Callback(Protocol):
    """Called with every record; returning True ends the training.

    One that also has `state()` and `load_state(state)` is brought back when a run is resumed, and
    must then be there again, made with the same arguments, as far as it keeps these under their
    own names and not in its state. Others may be added, left out or changed.
    """

    def __call__(self, record: Record) -> bool | None: ...  # noqa: D102


def check_callbacks(callbacks: Any) -> list[Callback]:
    """Return callbacks as a list; TypeError unless they are a sequence of callables.

    >>> check_callbacks([print])
    [<built-in function print>]
    """
    if not isinstance(callbacks, Sequence):
        raise TypeError(
            f"callbacks: expected a list of callables, got {type(callbacks).__name__}; put a "
            "single one into a list, and for none pass callbacks=()"
        )
    for place, callback in enumerate(callbacks):
        if isinstance(callback, type) or not callable(callback):
            raise TypeError(
                f"callbacks[{place}]: expected a callable that takes a Record, got "
                f"{type(callback).__name__}; for a class, pass an instance of it"
            )
        check_takes(callback, f"callbacks[{place}]", "a Record")
    return list(callbacks)


def stateful(callbacks: Sequence[Callback]) -> list[Stateful]:
    """Return those that have a state: what a resumed run must be given again, made alike.

    >>> [type(callback).__name__ for callback in stateful([print, EarlyStopping(patience=2)])]
    ['EarlyStopping']
    """
    return [callback for callback in callbacks if isinstance(callback, Stateful)]


def load_states(callbacks: Sequence[Callback], states: list[State]) -> None:
    """Give callbacks their states back."""
    for callback, state in zip(stateful(callbacks), states, strict=True):
        callback.load_state(state)


class EarlyStopping:
    """End the training when a value has not improved for `patience` records.

    The weights are left as they are at the end, not as they were at the best record.

    Args:
        patience: records without a new best before the end, ≥ 1.
        monitor: the value. One that ends in "loss" is to fall, one that ends in "elbo" to rise.
            "validation_loss" is the objective, at its β; "validation_elbo" is at β = 1.
        margin: the least improvement that counts, in nats per datum.

    Raises:
        ValueError: `patience` < 1, a value with another name, or (when called) one that the
            record does not have, as in a run without validation data.

    References: Prechelt (1998), Early Stopping - But When?

    >>> stop = EarlyStopping(patience=2, monitor="elbo")
    >>> [stop(Record(i, 9, {"elbo": e}, None)) for i, e in enumerate([-3.0, -2.0, -2.5, -2.1])]
    [False, False, False, True]
    """

    def __init__(
        self, *, patience: int, monitor: str = "validation_loss", margin: float = 0.0
    ) -> None:
        if not monitor.endswith(("loss", "elbo")):
            raise ValueError(
                f'monitor: expected a name that ends in "loss" or "elbo", got {monitor!r}; write '
                "a callback of your own for other values"
            )
        self.patience = check_count(patience, "patience")
        self.monitor = monitor
        self.margin = margin
        self._start_over()

    def _start_over(self) -> None:
        self.best, self.waited, self.step = -float("inf"), 0, -1

    def state(self) -> State:
        """Return the best value so far, and since when it is."""
        return {"best": self.best, "waited": self.waited, "step": self.step}

    def load_state(self, state: State) -> None:
        """Go on waiting from there."""
        self.best, self.waited, self.step = state["best"], state["waited"], state["step"]

    def __call__(self, record: Record) -> bool:
        """Return whether it is time to stop; a new run, at a lower step, starts over."""
        if self.monitor not in record.values:
            raise ValueError(
                f"monitor: the record has no {self.monitor!r}, it has {sorted(record.values)}; "
                "pass validation= to fit, or monitor another value"
            )
        if record.step <= self.step:
            self._start_over()
        self.step = record.step
        sign = 1 if self.monitor.endswith("elbo") else -1
        value = sign * cast(float, record.values[self.monitor])
        if value > self.best + self.margin:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
