"""What of a run can be read while it is trained: its history, its last and its best weights."""

import json
from collections.abc import Mapping
from typing import cast

from torch import Tensor

from pyro_bvae.training.checkpoint import CheckpointWarning
from pyro_bvae.training.history import Values
from pyro_bvae.training.notices import warn
from pyro_bvae.training.pace import Pace
from pyro_bvae.training.run import HISTORY, Run
from pyro_bvae.training.state import plain_tensors


class Outputs:
    """Write weights and history, so rarely that it takes no more than a share of the time.

    All of them are written at the first record, and then at those that come when it is time; the
    best weights wait in memory meanwhile, and the history as JSON. So what a record costs does not
    depend on how many came before, and the files are behind by no more than `1 / share` times what
    writing them takes.

    Args:
        files: of the run.
        share: of the time that writing may take.
    """

    def __init__(self, files: Run, *, share: float) -> None:
        self.files = files
        self._pace = Pace(share=share)
        self._columns: dict[str, list[str]] = {}
        self._waits = False
        self._lowest = float("inf")
        self._best: Mapping[str, Tensor] | None = None

    def add(self, row: Values, weights: Mapping[str, Tensor]) -> None:
        """Add a record and the weights at it; write them if it is time."""
        due = self._pace.is_due()
        if self._append(row):
            self._best = plain_tensors(weights)
        if due:
            self.write(weights)

    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Write these weights, and all that waits."""
        with self._pace.timed():
            self.files.write_weights(weights)
            self.write_waiting()

    def write_waiting(self) -> None:
        """Write the best weights and the history, if there are newer ones than in the files."""
        if self._best is not None:
            self.files.write_weights(self._best, best=True)
            self._best = None
        if self._waits:
            columns = {name: f"[{', '.join(values)}]" for name, values in self._columns.items()}
            self.files.write_encoded(HISTORY, columns)
            self._waits = False

    def load(self, rows: list[Values]) -> None:
        """Go on with the run that has these records; warn if their best weights are lost."""
        for row in rows:
            self._append(row)
        try:
            self.files.read_weights(best=True)
        except (OSError, ValueError) as error:
            if self._lowest < float("inf"):
                self._lowest = float("inf")
                words = "the best weights are of the records from here on"
                warn(f"{words}: {error}", CheckpointWarning)

    def _append(self, row: Values) -> bool:
        """Return whether it has the lowest validation loss, or loss, of all."""
        for name, value in row.items():
            self._columns.setdefault(name, []).append(json.dumps(value))
        self._waits = True
        loss = cast(float, row["validation_loss" if "validation_loss" in row else "loss"])
        is_best = loss <= self._lowest
        self._lowest = loss if is_best else self._lowest
        return is_best
