"""A run directory: weights as safetensors, settings and history as JSON, each replaced whole."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

WEIGHTS, SETTINGS, HISTORY = "weights.safetensors", "settings.json", "history.json"


class Run:
    """The files of one training run.

    Args:
        path: the directory; made by `create`, needed by the rest.

    Raises (when reading):
        FileNotFoundError: a file of the run is missing.
        ValueError: a file is corrupt, or the weights are another module's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def create(self, *, overwrite: bool) -> None:
        """Make the directory; FileExistsError if it holds a run, unless `overwrite`."""
        if (self.path / WEIGHTS).exists() and not overwrite:
            raise FileExistsError(
                f"run: {self.path} already holds a run; choose another directory, or "
                "replace it: overwrite=True, --overwrite on the command line"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, HISTORY, SETTINGS):
            (self.path / name).unlink(missing_ok=True)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(content, indent=1, default=_plain)
        self._replace(name, lambda path: path.write_text(text, encoding="utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file."""
        path = self._existing(name)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got a corrupt file: {error}") from error

    def write_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Write named tensors."""
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()
        }
        self._replace(WEIGHTS, lambda path: path.write_bytes(save(tensors)))

    def read_weights(self) -> dict[str, Tensor]:
        """Read named tensors."""
        path = self._existing(WEIGHTS)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f"{path}: expected safetensors, got a corrupt file: {error}"
            ) from error

    def load_into(self, module: nn.Module) -> None:
        """Load the run's weights into `module`."""
        try:
            module.load_state_dict(self.read_weights())
        except RuntimeError as error:
            raise ValueError(
                f"{self.path / WEIGHTS}: expected the weights of this {type(module).__name__}, "
                f"got others: {error}"
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

    def _replace(self, name: str, write: Callable[[Path], object]) -> None:
        """Write a temporary file, then put it in the place of the old one in one step."""
        temporary = self.path / f".{name}.part"
        write(temporary)
        os.replace(temporary, self.path / name)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")
