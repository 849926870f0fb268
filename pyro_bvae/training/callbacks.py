"""What may happen at every record of a training run."""

from typing import NamedTuple, Protocol

from pyro_bvae.training.history import Values
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
    """Called with every record; returning True ends the training."""

    def __call__(self, record: Record) -> bool | None: ...  # noqa: D102


class EarlyStopping:
    """End the training when a value has not risen for `patience` records.

    Args:
        patience: records without a new best before the end, ≥ 1.
        monitor: the value, one that rises: `"validation_elbo"` or `"elbo"`.
        min_rise: the least rise that counts, in the value's units (nats per datum).

    Raises:
        ValueError: `patience` < 1.
        KeyError: the record has no such value, such as a run without validation data.

    References: Prechelt (1998), Early Stopping - But When?

    >>> stop = EarlyStopping(patience=2, monitor="elbo")
    >>> [stop(Record(i, 9, {"elbo": e}, None)) for i, e in enumerate([-3.0, -2.0, -2.5, -2.1])]
    [False, False, False, True]
    """

    def __init__(
        self, *, patience: int, monitor: str = "validation_elbo", min_rise: float = 0.0
    ) -> None:
        if patience < 1:
            raise ValueError(f"patience: expected at least 1 record, got {patience}")
        self.patience = patience
        self.monitor = monitor
        self.min_rise = min_rise
        self.best = -float("inf")
        self.waited = 0

    def __call__(self, record: Record) -> bool:
        """Return whether it is time to stop."""
        if self.monitor not in record.values:
            raise KeyError(
                f"monitor: the record has no {self.monitor!r}, it has {sorted(record.values)}; "
                "pass validation= to fit, or monitor another value"
            )
        value = record.values[self.monitor]
        if isinstance(value, list):
            raise TypeError(f"monitor: expected a number, {self.monitor!r} is a list")
        if value > self.best + self.min_rise:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self.patience
