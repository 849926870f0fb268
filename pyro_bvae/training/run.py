"""A run directory: weights as safetensors, settings and history as JSON, each replaced whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pyro_bvae.training.checkpoint import Checkpoints
from pyro_bvae.training.files import replace
from pyro_bvae.training.names import STORED, constraints_of
from pyro_bvae.training.state import State, plain_tensors
from pyro_bvae.training.stored import load_weights

WEIGHTS, BEST = "weights.safetensors", "best.safetensors"
VERSION = 4
CONSTRAINTS = "constraints"
SETTINGS, HISTORY, CHECKPOINTS = "settings.json", "history.json", "checkpoints"


class Run:
    """The files of one training run.

    Args:
        path: the directory; made by `create`, needed by the rest.
        keep: how many checkpoints to keep.
        notes: JSON files, by name, to be written when a training begins or goes on.

    Raises (when reading):
        FileNotFoundError: a file of the run is missing.
        ValueError: a file is corrupt, or the weights are another module's.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        keep: int = 3,
        notes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.path, self.notes = Path(path), dict(notes or {})
        self.checkpoints = Checkpoints(self.path / CHECKPOINTS, keep=keep)

    def create(self, *, overwrite: bool) -> None:
        """Make the directory; FileExistsError if it holds a run, unless `overwrite`."""
        if not overwrite:
            self.check_free()
        self.checkpoints.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoints.clear()
        for name in (WEIGHTS, BEST, HISTORY, SETTINGS):
            (self.path / name).unlink(missing_ok=True)

    def check_free(self) -> None:
        """Raise FileExistsError if the directory holds a run."""
        if self.holds_run():
            raise FileExistsError(
                f"run: {self.path} already holds a run; choose another directory, or "
                "replace it: overwrite=True, --overwrite on the command line; or go on with it "
                "if it has checkpoints: resume=True, --resume"
            )

    def holds_run(self) -> bool:
        """Whether there are weights or checkpoints."""
        return (self.path / WEIGHTS).exists() or len(self.checkpoints) > 0

    def note(self, settings: Mapping[str, Any]) -> None:
        """Write the settings and the notes."""
        for name, content in {SETTINGS: settings, **self.notes}.items():
            self.write_json(name, content)

    def newest_state(self) -> State | None:
        """Return the state of the newest whole checkpoint, None if there is no checkpoint."""
        state = self.checkpoints.newest()
        if state is not None and not (isinstance(state, dict) and state.get("version") == VERSION):
            raise ValueError(
                f"run: expected checkpoints of this version of pyro_bvae in {self.path}, got "
                "others; finish the run with the version that began it"
            )
        return state

    def is_unborn(self) -> bool:
        """Whether a run was begun here that ended before its first checkpoint."""
        return self.checkpoints.folder.is_dir() and not len(self.checkpoints)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, with a line for each entry."""
        self.write_encoded(name, {k: json.dumps(v, default=_plain) for k, v in content.items()})

    def write_encoded(self, name: str, content: Mapping[str, str]) -> None:
        """Write a JSON file of values that are JSON already."""
        lines = [f"{json.dumps(key)}: {value}" for key, value in content.items()]
        replace(self.path / name, ("{\n " + ",\n ".join(lines) + "\n}").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file."""
        path = self._existing(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: expected JSON, got a corrupt file: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
        return content

    def write_weights(self, weights: Mapping[str, Tensor], *, best: bool = False) -> None:
        """Write named tensors, as the last ones or as the best."""
        words = {CONSTRAINTS: json.dumps(constraints_of(weights))}
        stored = any(name.startswith(STORED) for name in weights)
        content = save(plain_tensors(weights), metadata=words if stored else None)
        replace(self.path / (BEST if best else WEIGHTS), content)

    def read_weights(self, *, best: bool = False) -> dict[str, Tensor]:
        """Read named tensors: the last that were written, or those of the best record.

        The best record has the lowest "validation_loss", or "loss" in a run without validation
        data. While β changes, losses are of different β, and the best is of little use.
        """
        path = self._existing(BEST if best else WEIGHTS)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path}: expected safetensors, got a corrupt file: {error}"
            ) from error

    def load_into(self, module: nn.Module, *, best: bool = False) -> None:
        """Load the run's last or best weights into `module`, and what it has by `pyro.param`.

        The latter go to Pyro's parameter store, where they replace those of the same names.
        """
        weights = self.read_weights(best=best)
        with safe_open(self.path / (BEST if best else WEIGHTS), framework="pt") as file:
            words = (file.metadata() or {}).get(CONSTRAINTS, "{}")
        try:
            load_weights(module, weights, json.loads(words))
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.path / (BEST if best else WEIGHTS)}: expected the weights of this "
                f"{type(module).__name__}, got others: {error}"
            ) from error

    def history(self) -> dict[str, np.ndarray]:
        """Return the run's history as arrays."""
        return {name: np.array(values) for name, values in self.read_json(HISTORY).items()}

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(
                f"run: expected {path}; give the directory of a run that has made a record"
            )
        return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")
