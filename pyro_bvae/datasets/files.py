"""The published dSprites file, read behind the interface of the rendered one."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.bits import packed, unpacked
from pyro_bvae.datasets.checks import grid_sizes
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.npz import DAMAGE, array_header, member_of
from pyro_bvae.datasets.sprites import NAMES

_CHUNK = 4096
_ARRAYS = {
    "imgs": ("uint8", 3),
    "latents_classes": ("int64", 2),
    "latents_values": ("float64", 2),
}


class DSpritesFile(FactorDataset):
    """The images of the published npz file, held as bits: 377 MB for all 737,280 of 64×64.

    Sizes and values of the six factors come from the file, which must hold their whole grid,
    the last factor varying fastest. Its pickled `metadata` is never opened.

    Args:
        path: such as `dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`.

    Raises:
        FileNotFoundError: no file.
        ValueError: a damaged file, an array missing or of another type or shape, images that
            are not binary, factors that are not a grid in order.

    Reference:
        Matthey, Higgins, Hassabis, Lerchner 2017, "dSprites: Disentanglement testing Sprites
        dataset".
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"path: expected the dSprites npz file, found no {path}.")
        try:
            with zipfile.ZipFile(self.path) as archive:
                classes = _array(archive, "latents_classes")
                values = _array(archive, "latents_values")
                self._bits, shape = _bits(archive)
            sizes = grid_sizes("latents_classes", classes, len(self._bits))
            tables = _tables(classes, values, sizes)
        except DAMAGE as error:
            raise ValueError(f"{path}: damaged file, fetch it again ({error}).") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        super().__init__(NAMES, sizes, (1, *shape), factor_values=tables)

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 1, height, width]` at `indices` `[n]`, zeros and ones."""
        return unpacked(self._bits[self._checked(indices).numpy()], self.shape)


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    verified = archive.read(member_of(archive, name))
    array = np.lib.format.read_array(io.BytesIO(verified), allow_pickle=False)
    _check_kind(name, array.dtype, array.shape)
    if array.shape[1] != len(NAMES):
        raise ValueError(f"{name}: expected {len(NAMES)} columns, {NAMES}, got {array.shape[1]}.")
    return array


def _check_kind(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    expected, dims = _ARRAYS[name]
    if dtype != np.dtype(expected) or len(shape) != dims or 0 in shape:
        raise ValueError(
            f"{name}: expected {expected} in {dims} dimensions, none of them empty, "
            f"got {dtype} {shape}."
        )


def _bits(archive: zipfile.ZipFile) -> tuple[np.ndarray, tuple[int, ...]]:
    """The images as bits `[n, bytes]`, packed while they are read, and the shape of one."""
    member = member_of(archive, "imgs")
    with archive.open(member) as stream:
        dimensions, dtype = array_header(stream, "imgs")
        _check_kind("imgs", dtype, dimensions)
        n, *shape = dimensions
        pixels = math.prod(shape)
        if n * pixels > member.file_size:
            raise ValueError(f"imgs: expected {n} images {shape}, the file ends earlier.")
        bits = np.empty((n, -(-pixels // 8)), np.uint8)
        for first in range(0, n, _CHUNK):
            data = stream.read(min(_CHUNK, n - first) * pixels)
            chunk = np.frombuffer(data, np.uint8).reshape(-1, pixels)
            if chunk.max() > 1:
                raise ValueError(f"imgs: expected zeros and ones, got {chunk.max()}.")
            bits[first : first + _CHUNK] = packed(chunk)
        if stream.read():
            raise ValueError(f"imgs: expected {n} images {shape}, the file goes on.")
    return bits, tuple(shape)


def _tables(classes: np.ndarray, values: np.ndarray, sizes: list[int]) -> list[Tensor]:
    if values.shape != classes.shape:
        raise ValueError(f"latents_values: expected {classes.shape}, got {values.shape}.")
    tables = []
    for column, size in enumerate(sizes):
        table = np.empty(size)
        table[classes[:, column]] = values[:, column]
        if not np.array_equal(table[classes[:, column]], values[:, column]):
            raise ValueError(f"latents_values: expected one value per class of {NAMES[column]}.")
        tables.append(torch.from_numpy(table))
    return tables
