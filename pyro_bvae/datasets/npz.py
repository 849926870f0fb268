"""Arrays in npz files, read without ever unpickling."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from typing import IO

import numpy as np

DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError),
    *(SyntaxError, tokenize.TokenError),  # NumPy reads a header as Python source
)
"""What reading a damaged file raises, but for ValueError."""


def member_of(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Where the archive holds an array."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"no array {name!r} among {archive.namelist()}.")
    return archive.getinfo(f"{name}.npy")


def array_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the array that follows in the stream, row after row."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"{name}: expected npy format 1.0 or 2.0, got {version}.")
    shape, by_columns, dtype = read(stream)
    if by_columns:
        raise ValueError(f"{name}: expected images one after the other, got Fortran order.")
    return shape, dtype
