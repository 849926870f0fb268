"""Drawing sprites: a window of 32 rows and columns around each shape, as bits.

In NumPy and float64, from tables of everything that depends on one or two factors only.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from pyro_bvae.datasets.bits import packed
from pyro_bvae.datasets.outlines import Array, Mask, in_ellipse, in_heart, in_square

_OUTLINES = (in_square, in_ellipse, in_heart)
_WINDOW = 32
_SCALES = 0.5 + 0.1 * np.arange(6)
_ANGLES = 2 * np.pi * (np.arange(40) % 39) / 39
_CENTRES = 16 + 32 * np.arange(32) / 31
_STARTS = 2 * np.floor((_CENTRES - 15) / 2).astype(np.intp)
"""The first line of a window: even, for 2×2 maxima, and 15 to 17 pixels before the centre."""
_CHUNK = 30
"""Images drawn at once: buffers of 240 kB stay in the cache, and in the allocator's hands."""


def windows(factors: np.ndarray, *, size: int) -> np.ndarray:
    """Windows `[n, size / 2]` for class indices `[n, 6]`.

    A word holds one row, its lowest bit the leftmost pixel.
    """
    words = np.empty((len(factors), size // 2), f"<u{size // 16}")
    for shape, inside in enumerate(_OUTLINES):
        chosen = np.flatnonzero(factors[:, 1] == shape)
        for first in range(0, len(chosen), _CHUNK):
            part = chosen[first : first + _CHUNK]
            mask = inside(*_shape_coordinates(factors[part]))
            bits = packed(_halved(mask) if size == 32 else mask)
            words[part] = bits.view(words.dtype)[..., 0]
    return words


def placed(words: np.ndarray, factors: np.ndarray, *, size: int) -> np.ndarray:
    """Whole images as bytes `[n, size² / 8]`: each window in its place on a blank."""
    images = np.zeros((len(words), size), f"<u{size // 8}")
    left, top = (_STARTS[factors[:, 4:]] * size // 64).T[..., None]
    lines = top + np.arange(size // 2)
    images[np.arange(len(words))[:, None], lines] = words.astype(images.dtype) << left.astype(
        images.dtype
    )
    return images.view(np.uint8)


def _shape_coordinates(factors: np.ndarray) -> tuple[Array, Array]:
    """(u, v), each `[n, 32, 32]`: the pixel centres of the windows, in the shape's coordinates."""
    _, _, scale, orientation, x, y = factors.T
    cos, sin = _turns()[:, scale, orientation, None]
    dx, dy = _offsets()[x], _offsets()[y]
    u = (cos * dx)[:, None, :] - (sin * dy)[:, :, None]
    v = (sin * dx)[:, None, :] + (cos * dy)[:, :, None]
    return u, v


def _halved(mask: Mask) -> Mask:
    rows = mask[:, ::2] | mask[:, 1::2]
    return rows[:, :, ::2] | rows[:, :, 1::2]


@cache
def _turns() -> Array:
    """Cosine and sine over the scale, `[2, scales, orientations]`."""
    return np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])[:, None] / _SCALES[:, None]


@cache
def _offsets() -> Array:
    """Offsets `[32, 32]` of a window's lines from the centre, for every position on an axis.

    A line outside 3 to 60, which stays blank, is put out of reach of any shape.
    """
    line = _STARTS[:, None] + np.arange(_WINDOW)
    return np.where((line >= 3) & (line <= 60), line + 0.5 - _CENTRES[:, None], 1e6)
