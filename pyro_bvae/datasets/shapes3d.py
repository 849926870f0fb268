"""3D Shapes: one object in a room, in colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.checks import grid_sizes
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.pixels import as_images

_NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
_ARRAYS = {"images": ("uint8", (64, 64, 3)), "labels": ("float64", (len(_NAMES),))}
_STEP = 4096


class Shapes3DFile(FactorDataset):
    """The images of the published h5 file of 3D Shapes: 480,000 of 64×64 pixels in colour.

    Sizes and values of the six factors come from the file, which must hold their whole grid,
    the last factor varying fastest. As published: floor hue 10, wall hue 10, object hue 10,
    scale 8, shape 4, orientation 15. A batch is read from the file when it is asked for. Where
    the file's chunks span many images, all of a chunk is unpacked for each image in it, and
    `in_memory` is far faster.

    Args:
        path: such as `3dshapes.h5`.
        in_memory: read all images once, 12,288 bytes an image (5.9 GB as published).

    Raises:
        FileNotFoundError: no file.
        ImportError: no h5py.
        ValueError: a damaged file, an array missing or of another type or shape, labels that
            are not a grid in order.

    Reference:
        Burgess, Kim 2018, "3D Shapes dataset".
    """

    def __init__(self, path: str | Path, *, in_memory: bool = False) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"path: expected the 3D Shapes h5 file, found no {path}.")
        images, labels = self._read(lambda arrays: (len(arrays["images"]), arrays["labels"][:]))
        columns = [np.unique(column, return_inverse=True) for column in labels.T]
        try:
            sizes = grid_sizes("labels", np.stack([c for _, c in columns], axis=1), images)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        tables = [torch.from_numpy(values) for values, _ in columns]
        super().__init__(_NAMES, sizes, (3, 64, 64), factor_values=tables)
        self._pixels: np.ndarray | None = self._read(_all_images) if in_memory else None

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 3, 64, 64]` at `indices` `[n]`, in [0, 1]."""
        wanted = self._checked(indices).numpy()
        if self._pixels is not None:
            return as_images(self._pixels[wanted])
        ascending, places = np.unique(wanted, return_inverse=True)
        found = self._read(lambda arrays: arrays["images"][ascending])
        return as_images(found[places])

    def _read(self, take: Callable[[Mapping[str, Any]], Any]) -> Any:
        """What `take` takes of the checked arrays; the file is open only meanwhile."""
        h5py = _h5py()
        try:
            with h5py.File(self.path, "r") as file:
                return take({name: _array(file, name, h5py) for name in _ARRAYS})
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"{self.path}: damaged file, fetch it again ({error}).") from error


def _h5py() -> ModuleType:
    try:
        return import_module("h5py")
    except ImportError as error:
        raise ImportError("3D Shapes is an h5 file: pip install h5py to read it.") from error


def _array(file: Any, name: str, h5py: ModuleType) -> Any:
    array = file.get(name)
    if not isinstance(array, h5py.Dataset):
        raise ValueError(f"{file.filename}: no array {name!r} among {sorted(file)}.")
    dtype, shape = _ARRAYS[name]
    if array.dtype != np.dtype(dtype) or array.shape[1:] != shape or len(array) == 0:
        raise ValueError(
            f"{file.filename}: {name}: expected {dtype} {('n', *shape)}, got {array.dtype} "
            f"{array.shape}."
        )
    return array


def _all_images(arrays: Mapping[str, Any]) -> np.ndarray:
    """All images, whole chunks at a time so that none is unpacked twice."""
    images = arrays["images"]
    pixels = np.empty(images.shape, np.uint8)
    chunk = images.chunks[0] if images.chunks else _STEP
    step = max(1, _STEP // chunk) * chunk
    for first in range(0, len(pixels), step):
        images.read_direct(pixels, np.s_[first : first + step], np.s_[first : first + step])
    return pixels
