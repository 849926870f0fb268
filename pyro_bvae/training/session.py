"""A run while it is being trained: its history, its callbacks, and what it leaves on disk."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pyro_bvae.training.callbacks import Callback, Record, load_states, stateful
from pyro_bvae.training.distributed import Meetings
from pyro_bvae.training.history import Values, as_arrays
from pyro_bvae.training.loop import Loop
from pyro_bvae.training.outputs import Outputs
from pyro_bvae.training.pace import Pace
from pyro_bvae.training.run import VERSION, Run
from pyro_bvae.training.settings import check_alike, check_settings, check_states
from pyro_bvae.training.signals import Requests
from pyro_bvae.training.source import own_randomness
from pyro_bvae.training.state import State, plain_tensors
from pyro_bvae.training.stored import weights_of

SECONDS = 5.0
SHARE = 0.05


def run_files(
    path: str | Path | Run | None, *, overwrite: bool, resume: bool, keep: int
) -> Run | None:
    """Return the files of a run, None without a path.

    Raises: TypeError, ValueError or NotADirectoryError if the path is none to a directory;
        ValueError if the wishes contradict.
    """
    if resume and (overwrite or path is None):
        raise ValueError(
            "resume: expected a run to go on with, got "
            + ("overwrite=True as well" if overwrite else "no run=, the directory it is in")
        )
    if path is None or isinstance(path, Run):
        return path
    if not isinstance(path, str | Path):
        raise TypeError(f"run: expected a path (str or Path) or None, got {type(path).__name__}")
    if path == "":
        raise ValueError('run: expected the path of a directory, got ""; name one, or leave it out')
    files = next((p for p in (Path(path), *Path(path).parents) if p.is_file()), None)
    if files is not None:
        raise NotADirectoryError(f"run: expected a directory, got the file {files}; name another")
    return Run(path, keep=keep)


class Session:
    """What happens around the steps of one run.

    Weights and history are written at records, checkpoints (and weights and history with them) at
    most every `SECONDS`: each of the two so rarely that it takes no more than `SHARE` of the time.
    All is written at the end, and the history also where an error ends the training. A run that is
    replaced stays as it was until this one has something to write.

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
        self.settings = dict(settings)
        self.rows: list[Values] = []
        self.stopped = self._ending = self._replaces = False
        self._before, self._start = 0.0, time.perf_counter()
        self._outputs = Outputs(files, share=SHARE) if files and self.group.is_first else None
        self._pace = Pace(share=SHARE, least=SECONDS)

    def start(self, state: State | None, *, overwrite: bool, resume: bool) -> None:
        """Make the directory, or go on with the run whose state this is.

        Raises: ValueError if processes have other settings than the first, or the run has.
        """
        check_alike(self.group.gathered(self.settings))
        self.settings["callbacks"] = self.group.from_first(
            lambda: check_states(self.callbacks) if self.files else []
        )
        if state is not None:
            check_settings(state["settings"], self.settings, step=state["loop"]["step"])
            self.loop.beta.check(state["rows"])
            self.load_state(state)
        self.group.from_first(
            lambda: self._open(go_on=state is not None, overwrite=overwrite, resume=resume)
        )
        if state is None:
            self.loop.begin()
        self._start = time.perf_counter()
        self._pace.begin()

    def follow(self, steps: int, asked: Requests, *, progress: bool) -> None:
        """Take the steps that are missing, until a callback or a signal ends it."""
        if self.stopped:
            return
        try:
            self._follow(steps, asked, progress=progress)
        except BaseException:
            with suppress(OSError):
                self._write_waiting()
            raise
        self.group.from_first(self._write_waiting)

    def _follow(self, steps: int, asked: Requests, *, progress: bool) -> None:
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

    def history(self) -> dict[str, np.ndarray]:
        """Return the rows as arrays, empty ones where there is none yet."""
        return as_arrays(self.rows, self.loop.shapes())

    def seconds(self) -> float:
        """Return how long the run has taken, in all processes that worked on it."""
        return self._before + time.perf_counter() - self._start

    def add(self, record: Record) -> None:
        """Keep a record, write what there is if it is time, and call the callbacks."""
        self.rows.append(record.values)
        self.stopped = self.group.from_first(lambda: self._show(record))
        self.loop.moving.share(self.group)

    def _open(self, *, go_on: bool, overwrite: bool, resume: bool) -> None:
        if self.files is None:
            return
        if go_on:
            self.files.checkpoints.clear_after(self.loop.step)
        elif overwrite and self.files.holds_run():
            self._replaces = True
            return
        elif not (resume and self.files.is_unborn()):
            self.files.create(overwrite=overwrite)
        self.files.note(self.settings)

    def _replace(self) -> None:
        """Remove the run that was there, if there was one, before the first file is written."""
        if self.files and self._replaces:
            self.files.create(overwrite=True)
            self.files.note(self.settings)
            self._replaces = False

    def _show(self, record: Record) -> bool:
        """Keep the record and call the callbacks: first these while an older run is there."""
        if not self._replaces:
            self._keep(record)
            return self._call(record)
        weights = plain_tensors(self._weights())
        answer = self._call(record)
        self._replace()
        self._keep(record, weights)
        return answer

    def _keep(self, record: Record, weights: Mapping[str, Tensor] | None = None) -> None:
        if self._outputs:
            self._outputs.add(record.values, self._weights() if weights is None else weights)

    def _call(self, record: Record) -> bool:
        with own_randomness(self.loop.device):
            answers = [callback(record) for callback in self.callbacks]
        return any(answers)

    def is_due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.files is not None and self._pace.is_due()

    def save(self) -> None:
        """Write weights, history and a checkpoint, unless weights are not finite."""
        if self.files is None or not self.loop.is_finite():
            return
        with self._pace.timed():
            state = self.state()
            self.group.from_first(lambda: self._write(state))

    def _write(self, state: State) -> None:
        """Write the checkpoint last: it need not have the best weights, as the files have them."""
        if self.files and self._outputs:
            self._replace()
            with self.loop.averaged():
                self._outputs.write(self._weights())
            self.files.checkpoints.save(self.loop.step, state)

    def _write_waiting(self) -> None:
        if self._outputs:
            self._outputs.write_waiting()

    def state(self) -> State:
        """Return all that the rest of the run depends on."""
        return {
            "version": VERSION,
            "settings": self.settings,
            "seconds": self.seconds(),
            "stopped": self.stopped,
            "rows": self.rows,
            "callbacks": self.group.from_first(
                lambda: [callback.state() for callback in stateful(self.callbacks)]
            ),
            "loop": self.loop.state(),
        }

    def load_state(self, state: State) -> None:
        """Go on from there."""
        self.rows, self.stopped = state["rows"], state["stopped"]
        self._before = state["seconds"]
        if self._outputs:
            self._outputs.load(self.rows)
        self.loop.load_state(state["loop"])
        self.group.from_first(lambda: load_states(self.callbacks, state["callbacks"]))

    def _weights(self) -> Mapping[str, Tensor]:
        """Return the module's state, and the parameters that the pair showed to Pyro."""
        pair, shown = self.loop.pair, self.loop.svi.parameters
        return weights_of(pair, shown.values()) if isinstance(pair, nn.Module) else shown
