"""MPI3D: photographs and renderings of a robot arm that holds an object."""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.npz import DAMAGE, array_header, member_of
from pyro_bvae.datasets.pixels import as_images

_NAMES = (
    *("object_color", "object_shape", "object_size", "camera_height", "background_color"),
    *("horizontal_axis", "vertical_axis"),
)
_PUBLISHED = ((6, 6, 2, 3, 3, 40, 40), (4, 4, 2, 3, 3, 40, 40))
_SIZES = {math.prod(sizes): sizes for sizes in _PUBLISHED}
_SHAPE = (64, 64, 3)
_BYTES = math.prod(_SHAPE)
_CHUNK = 4096
_LOCAL_HEADER = struct.Struct("<4s22x2H")
"""A member's own header in a zip file: its signature, and the lengths of name and extra field."""


class MPI3DFile(FactorDataset):
    """The images of an MPI3D file: toy, realistic, real or real_complex.

    Colour images of 64×64 pixels, on the whole grid of seven factors. The file says nothing of
    them but how many images there are: 1,036,800 of 6 colours and 6 shapes, 460,800 of 4 and 4.
    An array that is stored as it is gets memory-mapped, and its checksum is not computed; one
    that is compressed is read into memory, 12,288 bytes an image (12.7 GB for 1,036,800).
    `unzip` takes `images.npy` out of the npz file, which is then mapped.

    Args:
        path: such as `mpi3d_toy.npz`, or the `images.npy` in it.
        factor_sizes: of the seven factors; the published ones unless given.

    Raises:
        FileNotFoundError: no file.
        ValueError: a damaged file, no array `images`, one of another type or shape, or of
            another number of images than the factors have combinations.

    Reference:
        Gondal, Wüthrich, Miladinović, Locatello, Breidt, Volchkov, Akpo, Bachem, Schölkopf,
        Bauer 2019, "On the transfer of inductive bias from simulation to the real world: a new
        disentanglement dataset".
    """

    def __init__(self, path: str | Path, *, factor_sizes: Sequence[int] | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"path: expected an MPI3D npz or npy file, found no {path}.")
        try:
            self._pixels = _opened(self.path)
            sizes = _grid_sizes(len(self._pixels), factor_sizes)
        except (*DAMAGE, struct.error) as error:
            raise ValueError(f"{path}: damaged file, fetch it again ({error}).") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        super().__init__(_NAMES, sizes, (3, 64, 64))

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 3, 64, 64]` at `indices` `[n]`, in [0, 1]."""
        return as_images(self._pixels[self._checked(indices).numpy()])


def _opened(path: Path) -> np.ndarray:
    """The images as bytes `[n, 64, 64, 3]`, mapped if they can be."""
    if path.suffix == ".npy":
        return _mapped(path, 0, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        member = member_of(archive, "images")
        if member.compress_type != zipfile.ZIP_STORED:
            with archive.open(member) as stream:
                return _read(stream, member.file_size)
    with path.open("rb") as file:
        file.seek(member.header_offset)
        signature, *lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError("images: expected a zip member where the file says there is one.")
    return _mapped(path, member.header_offset + _LOCAL_HEADER.size + sum(lengths), member.file_size)


def _mapped(path: Path, start: int, length: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(start)
        n = _image_count(file)
        offset = file.tell()
    if offset - start + n * _BYTES != length:
        raise ValueError(f"images: expected {n} images of {_BYTES} bytes, got {length} in all.")
    return np.memmap(path, np.uint8, "r", offset, (n, *_SHAPE))


def _read(stream: IO[bytes], length: int) -> np.ndarray:
    n = _image_count(stream)
    if n * _BYTES > length:
        raise ValueError(f"images: expected {n} images of {_BYTES} bytes, got {length} in all.")
    pixels = np.empty((n, *_SHAPE), np.uint8)
    for first in range(0, n, _CHUNK):
        part = pixels[first : first + _CHUNK]
        data = stream.read(part.size)
        if len(data) < part.size:
            raise ValueError(f"images: expected {n} images, the file ends earlier.")
        part[:] = np.frombuffer(data, np.uint8).reshape(part.shape)
    if stream.read():
        raise ValueError(f"images: expected {n} images, the file goes on.")
    return pixels


def _image_count(stream: IO[bytes]) -> int:
    shape, dtype = array_header(stream, "images")
    if dtype != np.uint8 or shape[1:] != _SHAPE or shape[0] == 0:
        raise ValueError(f"images: expected uint8 (n, 64, 64, 3), got {dtype} {shape}.")
    return shape[0]


def _grid_sizes(n: int, given: Sequence[int] | None) -> tuple[int, ...]:
    sizes = _SIZES.get(n) if given is None else tuple(given)
    if sizes is None:
        raise ValueError(
            f"images: expected one of {sorted(_SIZES)} images, got {n}. For another file give "
            f"factor_sizes= of {_NAMES}."
        )
    if len(sizes) != len(_NAMES) or math.prod(sizes) != n:
        raise ValueError(
            f"factor_sizes: expected {len(_NAMES)} sizes of {n} combinations, one for every "
            f"image, got {sizes}."
        )
    return sizes
