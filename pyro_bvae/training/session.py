"""A run while it is being trained: its history, its callbacks, and what it leaves on disk."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from pyro_bvae.training.callbacks import Callback, Record, load_states, states_of
from pyro_bvae.training.distributed import Meetings
from pyro_bvae.training.history import Values, as_arrays
from pyro_bvae.training.loop import Loop
from pyro_bvae.training.run import HISTORY, SETTINGS, VERSION, Run
from pyro_bvae.training.settings import check_alike, check_settings
from pyro_bvae.training.signals import Requests
from pyro_bvae.training.source import own_randomness
from pyro_bvae.training.state import State

SECONDS = 5.0
SHARE = 0.05


def run_files(path: str | Path | None, *, overwrite: bool, resume: bool, keep: int) -> Run | None:
    """Return the files of a run, None without a path; ValueError if the wishes contradict."""
    if resume and (overwrite or path is None):
        raise ValueError(
            "resume: expected a run to go on with, got "
            + ("overwrite=True as well" if overwrite else "no run=, the directory it is in")
        )
    return None if path is None else Run(path, keep=keep)


class Session:
    """What happens around the steps of one run.

    Weights and history are written at every record. Checkpoints are written at most every
    `SECONDS`, and so rarely that they take no more than `SHARE` of the time; and at the end.

    Args:
        loop: which takes the steps.
        callbacks: called with every record, in the first process.
        settings: of the run, as they are written and compared.
        files: where the first process is to write, None for nowhere.

    Attributes:
        rows: the history.
        stopped: a callback has ended the training.
    """

    def __init__(
        self,
        loop: Loop,
        callbacks: Sequence[Callback],
        *,
        settings: Mapping[str, Any],
        files: Run | None,
    ) -> None:
        self.loop, self.callbacks, self.files = loop, callbacks, files
        self.group = loop.group
        self.settings = settings
        self.rows: list[Values] = []
        self.stopped = self._ending = False
        self._before = 0.0
        self._start = self._saved = time.perf_counter()
        self._cost = 0.0

    def start(self, state: State | None, *, overwrite: bool, resume: bool) -> None:
        """Make the directory, or go on with the run whose state this is.

        Raises: ValueError if processes have other settings than the first, or the run has.
        """
        check_alike(self.group.gathered(self.settings))
        if state is not None:
            check_settings(state["settings"], self.settings, step=state["loop"]["step"])
            self.loop.beta.check(state["rows"])
            self.load_state(state)
        self.group.from_first(
            lambda: self._open(go_on=state is not None, overwrite=overwrite, resume=resume)
        )
        if state is None:
            self.loop.begin()
        self._start = self._saved = time.perf_counter()

    def follow(self, steps: int, asked: Requests, *, progress: bool) -> None:
        """Take the steps that are missing, until a callback or a signal ends it."""
        if self.stopped:
            return

        meet = Meetings(self.group)

        def pause() -> bool:
            if self.stopped:
                return True
            signal, due = meet(asked.signal, self.is_due())
            self._ending = signal != 0
            asked.signal = asked.signal or signal
            return self._ending or bool(due)

        with closing(self.loop.records(steps, pause=pause, progress=progress)) as records:
            for record in records:
                if record is not None:
                    self.add(record)
                    continue
                self.save()
                if self.stopped or self._ending:
                    break

    def seconds(self) -> float:
        """Return how long the run has taken, in all processes that worked on it."""
        return self._before + time.perf_counter() - self._start

    def add(self, record: Record) -> None:
        """Keep a record, write what it shows, and call the callbacks."""
        self.rows.append(record.values)
        self.stopped = self.group.from_first(lambda: self._show(record))

    def _open(self, *, go_on: bool, overwrite: bool, resume: bool) -> None:
        if self.files is None:
            return
        if go_on:
            self.files.checkpoints.clear_after(self.loop.step)
        elif not (resume and self.files.is_unborn()):
            self.files.create(overwrite=overwrite)
        self.files.write_json(SETTINGS, self.settings)

    def _show(self, record: Record) -> bool:
        if self.files:
            weights = self._weights()
            self.files.write_weights(weights)
            if _is_best(self.rows):
                self.files.write_weights(weights, best=True)
            self.files.write_json(HISTORY, as_arrays(self.rows))
        with own_randomness(self.loop.device):
            answers = [callback(record) for callback in self.callbacks]
        return any(answers)

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        waited = time.perf_counter() - self._saved
        return self.files is not None and waited >= max(SECONDS, self._cost / SHARE)

    def save(self) -> None:
        """Write a checkpoint and the weights, unless these are not finite."""
        if self.files is None or not self.loop.is_finite():
            return
        start = time.perf_counter()
        state = self.state()
        self.group.from_first(lambda: self._write(state))
        self._saved = time.perf_counter()
        self._cost = self._saved - start

    def _write(self, state: State) -> None:
        if self.files:
            self.files.checkpoints.save(self.loop.step, state)
            with self.loop.averaged():
                self.files.write_weights(self._weights())

    def state(self) -> State:
        """Return all that the rest of the run depends on."""
        return {
            "version": VERSION,
            "settings": dict(self.settings),
            "seconds": self.seconds(),
            "stopped": self.stopped,
            "rows": self.rows,
            "callbacks": states_of(self.callbacks),
            "loop": self.loop.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from there."""
        self.rows, self.stopped = state["rows"], state["stopped"]
        self._before = state["seconds"]
        load_states(self.callbacks, state["callbacks"])
        self.loop.load_state(state["loop"])

    def _weights(self) -> Mapping[str, Tensor]:
        """Return the module's state, or the parameters that the pair showed to Pyro."""
        pair = self.loop.pair
        return pair.state_dict() if isinstance(pair, nn.Module) else self.loop.svi.parameters


def _is_best(rows: list[Values]) -> bool:
    """Whether the last record has the lowest validation loss, or loss, of all."""
    name = "validation_loss" if "validation_loss" in rows[-1] else "loss"
    losses = [cast(float, row[name]) for row in rows]
    return losses[-1] <= min(losses)
