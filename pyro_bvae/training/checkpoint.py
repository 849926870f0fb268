"""Checkpoints: the last few states of a run, each one a file that proves itself whole."""

import re
from hashlib import sha256
from pathlib import Path

from pyro_bvae.checks import check_count
from pyro_bvae.training.files import replace
from pyro_bvae.training.notices import warn
from pyro_bvae.training.state import State, from_bytes, to_bytes

NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.safetensors")


class CheckpointWarning(UserWarning):
    """A file of a run is lost or damaged: training goes on from an older one, or without it."""


class Checkpoints:
    """The last few states of a run, in a folder.

    A file's name holds its step and a hash of its content, so a damaged one is told apart. It is
    written beside the others, reaches the disk, gets its name, and only then the oldest goes:
    whenever the process is killed, the newest whole state is there. Nothing in it is executed.

    Args:
        folder: where they are; made by the first `save`.
        keep: how many, ≥ 1.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoints = Checkpoints(Path(folder))
    ...     for step in (10, 20):
    ...         _ = checkpoints.save(step, {"step": step, "weight": torch.ones(2)})
    ...     checkpoints.newest()
    {'step': 20, 'weight': tensor([1., 1.])}
    """

    def __init__(self, folder: Path, *, keep: int = 3) -> None:
        self.folder = folder
        self.keep = check_count(keep, "keep")

    def save(self, step: int, state: State) -> Path:
        """Write a state, then remove all but the last `keep`; OSError if it cannot be written."""
        content = to_bytes(state)
        path = self.folder / f"step-{step:09}-{_hash(content)}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(path, content, durable=True)
        others = [old for old in self._paths() if old != path]
        superseded = [old for old in others if _step(old) >= step]
        older = [old for old in others if _step(old) < step]
        for old in superseded + older[self.keep - 1 :]:
            _remove(old)
        return path

    def newest(self) -> State | None:
        """Return the newest whole state, None if there is no file; one warning names the others.

        Raises: ValueError if every file is damaged.
        """
        damaged: list[str] = []
        for path in self._paths():
            try:
                state = read(path)
            except ValueError as error:
                damaged.append(str(error))
                continue
            if damaged:
                warn(f"going on from {path.name}: {'; '.join(damaged)}", CheckpointWarning)
            return state
        if damaged:
            raise ValueError(
                f"run: every checkpoint is damaged ({'; '.join(damaged)}); start again with "
                "overwrite=True"
            )
        return None

    def __len__(self) -> int:
        """How many files there are."""
        return len(self._paths())

    def clear(self) -> None:
        """Remove all checkpoints."""
        self.clear_after(-1)

    def clear_after(self, step: int) -> None:
        """Remove newer ones, and what a killed process left of one that it was writing."""
        newer = [path for path in self._paths() if _step(path) > step]
        for path in (*newer, *self.folder.glob(".step-*.part")):
            _remove(path)

    def _paths(self) -> list[Path]:
        """The files, newest first."""
        found = [path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)]
        return sorted(found, key=_step, reverse=True)


def read(path: Path) -> State:
    """Read one checkpoint. Raises: ValueError if it is damaged or something else."""
    if not path.is_file():
        raise ValueError(f"{path}: expected a file, got a directory or a link to nothing")
    name, content = NAME.fullmatch(path.name), path.read_bytes()
    if name is None or name[2] != _hash(content):
        raise ValueError(f"{path}: expected the checkpoint that its name tells of, got other bytes")
    try:
        return from_bytes(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _remove(path: Path) -> None:
    """Remove a file, or a directory that has its name: OSError if there is something in it."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])
