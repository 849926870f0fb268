"""The published dSprites file, read behind the interface of the rendered one."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.bits import packed, unpacked
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.sprites import NAMES

_CHUNK = 4096
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError),
    *(SyntaxError, tokenize.TokenError),  # NumPy reads a header as Python source
)
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
            sizes = _grid_sizes(classes, len(self._bits))
            tables = _tables(classes, values, sizes)
        except _DAMAGE as error:
            raise ValueError(f"{path}: damaged file, fetch it again ({error}).") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        super().__init__(NAMES, sizes, (1, *shape), factor_values=tables)

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 1, height, width]` at `indices` `[n]`, zeros and ones."""
        return unpacked(self._bits[self._checked(indices).numpy()], self.shape)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"no array {name!r} among {archive.namelist()}.")
    return archive.getinfo(f"{name}.npy")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    verified = archive.read(_member(archive, name))
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
    member = _member(archive, "imgs")
    with archive.open(member) as stream:
        n, *shape = _image_header(stream)
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


def _image_header(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"imgs: expected npy format 1.0 or 2.0, got {version}.")
    shape, by_columns, dtype = read(stream)
    _check_kind("imgs", dtype, shape)
    if by_columns:
        raise ValueError("imgs: expected images one after the other, got Fortran order.")
    return shape


def _grid_sizes(classes: np.ndarray, images: int) -> list[int]:
    sizes = [int(size) for size in classes.max(0) + 1]
    complete = classes.min() == 0 and math.prod(sizes) == len(classes) == images
    if not complete or not np.array_equal(classes, np.indices(sizes).reshape(len(sizes), -1).T):
        raise ValueError(
            f"latents_classes: expected the whole grid {sizes} in order, the last factor varying "
            f"fastest, and one row an image; got {len(classes)} rows and {images} images."
        )
    return sizes


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
