"""Small NORB: photographs of toys, in grey."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.combinations import Rows
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.pixels import as_images, resized

_NAMES = ("category", "instance", "elevation", "azimuth", "lighting")
_SIZES = (5, 10, 9, 18, 6)
_VALUES = (range(5), range(10), range(30, 75, 5), range(0, 360, 20), range(6))
_TRAIN, _TEST = "5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing"
_SPLITS = {"train": (_TRAIN,), "test": (_TEST,), "all": (_TRAIN, _TEST)}
_KINDS: dict[str, tuple[int, np.dtype, tuple[int, ...]]] = {
    "dat": (0x1E3D4C55, np.dtype("uint8"), (2, 96, 96)),
    "cat": (0x1E3D4C54, np.dtype("<i4"), ()),
    "info": (0x1E3D4C54, np.dtype("<i4"), (4,)),
}
"""Magic number, type and shape of one row of the three files of a part."""
_SIZE = 64


class SmallNORB(FactorDataset):
    """The 48,600 images of small NORB: 50 toys, 9 elevations, 18 azimuths, 6 lightings, in grey.

    Of every pair the image of the first camera, resized from 96×96 to 64×64 (Lanczos) when it
    is asked for; the files are memory-mapped. Images are in the order of the files. The factors
    are category (animal, human, airplane, truck, car), instance (which of ten toys of its
    category: a number that means nothing across categories), elevation and azimuth in degrees,
    and lighting. A training or test part holds five of the ten instances, the others are
    missing.

    Args:
        folder: with the files `smallnorb-….mat`, unpacked.
        split: `"train"`, `"test"` or `"all"`.

    Raises:
        FileNotFoundError: a file missing.
        ValueError: another split; a damaged file; numbers out of range.

    Reference:
        LeCun, Huang, Bottou 2004, "Learning methods for generic object recognition with
        invariance to pose and lighting".
    """

    def __init__(self, folder: str | Path, *, split: str = "all") -> None:
        if split not in _SPLITS:
            raise ValueError(f"split: expected one of {tuple(_SPLITS)}, got {split!r}.")
        parts = [_part(Path(folder), part) for part in _SPLITS[split]]
        self._pairs = [pairs for pairs, _ in parts]
        rows = torch.from_numpy(np.concatenate([rows for _, rows in parts]))
        super().__init__(
            _NAMES,
            _SIZES,
            (1, _SIZE, _SIZE),
            factor_values=_VALUES,
            combinations=Rows(rows, _SIZES),
        )

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 1, 64, 64]` at `indices` `[n]`, in [0, 1]."""
        wanted = self._checked(indices).numpy()
        pixels = np.empty((len(wanted), 96, 96), np.uint8)
        first = 0
        for pairs in self._pairs:
            here = (wanted >= first) & (wanted < first + len(pairs))
            pixels[here] = pairs[wanted[here] - first, 0]
            first += len(pairs)
        return as_images(resized(pixels, _SIZE)[..., None])


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of images `[n, 2, 96, 96]`, mapped, and their class indices `[n, 5]`."""
    paths = {kind: folder / f"smallnorb-{part}-{kind}.mat" for kind in _KINDS}
    pairs, category, info = (_matrix(path, kind) for kind, path in paths.items())
    if not len(pairs) == len(category) == len(info):
        raise ValueError(
            f"{paths['dat']}: expected as many images as rows of the other two files, got "
            f"{len(pairs)} with {len(category)} and {len(info)}."
        )
    rows = np.column_stack([category, info]).astype(np.int64)
    if bool((rows[:, 3] % 2).any()):
        raise ValueError(f"{paths['info']}: expected even azimuths, tens of degrees, got odd ones.")
    rows[:, 3] //= 2
    if bool(((rows < 0) | (rows >= _SIZES)).any()):
        raise ValueError(
            f"{paths['info']}, {paths['cat']}: expected {_NAMES} below {_SIZES}, got "
            f"{rows.min(0).tolist()} to {rows.max(0).tolist()}."
        )
    return pairs, rows


def _matrix(path: Path, kind: str) -> np.ndarray:
    """A file in the binary matrix format: magic number, rank, at least three sizes, the data."""
    if not path.is_file():
        raise FileNotFoundError(f"folder: expected {path}. Unpack the published {path.name}.gz.")
    magic, dtype, shape = _KINDS[kind]
    with path.open("rb") as file:
        header = file.read(4 * (2 + max(3, 1 + len(shape))))
    numbers = struct.unpack(f"<{len(header) // 4}i", header[: len(header) // 4 * 4])
    if numbers[:2] != (magic, 1 + len(shape)) or numbers[3 : 3 + len(shape)] != shape:
        raise ValueError(
            f"{path}: expected the magic number {magic:#x} and sizes {('n', *shape)}, got "
            f"{[hex(n) for n in numbers[:1]]} and {numbers[2:]}. Fetch and unpack it again."
        )
    length = path.stat().st_size - len(header)
    if numbers[2] < 1 or length != numbers[2] * math.prod(shape) * dtype.itemsize:
        raise ValueError(
            f"{path}: expected {numbers[2]} rows {shape} of {dtype}, got {length} bytes. Fetch "
            "and unpack it again."
        )
    return np.memmap(path, dtype, "r", len(header), (numbers[2], *shape))
