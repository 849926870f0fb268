"""Binary images held as bits."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_CHUNK = 64


def packed(pixels: np.ndarray) -> np.ndarray:
    """Zeros and ones `[..., n]` as bytes `[..., ⌈n/8⌉]`, the first in the lowest bit."""
    return np.packbits(pixels, axis=-1, bitorder="little")


def unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Images `[n, *shape]` of zeros and ones, in the default dtype, from bytes `[n, bytes]`.

    NumPy alone converts, in chunks that fit the cache: nothing waits for another of torch's
    threads, which on a busy machine costs more than it gains.
    """
    dtype = torch.get_default_dtype()
    out = np.empty(
        (len(bits), math.prod(shape)), np.float64 if dtype == torch.float64 else np.float32
    )
    for first in range(0, len(bits), _CHUNK):
        part = slice(first, first + _CHUNK)
        out[part] = np.unpackbits(bits[part], axis=1, count=out.shape[1], bitorder="little")
    return torch.from_numpy(out).view(len(bits), *shape).to(dtype)
