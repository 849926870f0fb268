"""dSprites, rendered from its geometry instead of read from its file."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.outlines import in_ellipse, in_heart, in_square

NAMES = ("color", "shape", "scale", "orientation", "posX", "posY")
SIZES = (1, 3, 6, 40, 32, 32)
_OUTLINES = (in_square, in_ellipse, in_heart)
_WINDOW = 32
_CHUNK = 30
"""Images rendered at once: buffers of 240 kB stay in the cache, and in the allocator's hands."""


def published_values() -> list[Tensor]:
    """The real value of every class of the six factors, as the published file lists them."""
    return [
        torch.ones(1),
        torch.arange(1, 4),
        torch.linspace(0.5, 1, 6, dtype=torch.float64),
        torch.linspace(0, 2 * math.pi, 40, dtype=torch.float64),
        torch.linspace(0, 1, 32, dtype=torch.float64),
        torch.linspace(0, 1, 32, dtype=torch.float64),
    ]


class Sprites(FactorDataset):
    r"""The 737,280 binary images of dSprites, on all combinations of six factors.

    Colour (1), shape (3: square, ellipse, heart), scale (6), orientation (40), posX (32) and
    posY (32), the last varying fastest. A pixel in row i and column j is on iff its centre
    $(j + ½, i + ½)$ lies strictly inside the shape. With centre
    $(16 + 32 k_x/31, 16 + 32 k_y/31)$, y down, angle $θ = 2πk/39$, counter-clockwise on the
    screen, and scale $s = ½ + k/10$, the offset $(δ_x, δ_y)$ of a pixel from the centre is

    $$u = (\cos θ\, δ_x - \sin θ\, δ_y)/s, \quad v = (\sin θ\, δ_x + \cos θ\, δ_y)/s$$

    in the coordinates of the outline. Fitted to published frames: 316 of 320 equal to the
    pixel, the rest off by a few pixels; .99976 times as many pixels are on as in the published
    file. Rows and columns 0–2 and 61–63 stay blank, as they are published: the rule alone would
    light the tip of a square there in 64 images. Orientations 0 and 39 are the same angle.

    Args:
        size: 64, or 32 for the 2×2 maximum of the 64-pixel image.
        in_memory: render the grid once, as 94 MB of bits (24 MB at 32 pixels), instead of
            rendering at every access.

    Raises:
        ValueError: another size.

    Reference:
        Matthey, Higgins, Hassabis, Lerchner 2017, "dSprites: Disentanglement testing Sprites
        dataset".

    Example:
        >>> sprites = Sprites()
        >>> hearts = sprites.subset(shape=[2], scale=[5], orientation=[0], posX=[0], posY=[0])
        >>> int(hearts[0].sum())
        222
        >>> sprites[torch.tensor([0, 737_279])].shape
        torch.Size([2, 1, 64, 64])
    """

    def __init__(self, size: int = 64, *, in_memory: bool = False) -> None:
        if size not in (32, 64):
            raise ValueError(f"size: expected 64 or 32 pixels, got {size!r}.")
        super().__init__(NAMES, SIZES, (1, size, size), factor_values=published_values())
        self.size = size
        self._stored: np.ndarray | None = None
        if in_memory:
            self._stored = self._render_all()

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 1, size, size]` at `indices` `[n]`, zeros and ones."""
        found = self._checked(indices)
        words, starts = self._windows(found), self._starts(found)
        out = torch.empty(len(found), *self.shape)
        for first in range(0, len(found), 2 * _CHUNK):
            part = slice(first, first + 2 * _CHUNK)
            out[part] = self._pixels(words[part], starts[part])
        return out

    def counts(self, indices: Tensor) -> Tensor:
        """How many pixels `[n]` are on in the images at `indices` `[n]`, without making them."""
        words = self._windows(self._checked(indices))
        return torch.from_numpy(np.bitwise_count(words).sum(1, dtype=np.int64))

    def _pixels(self, windows: np.ndarray, starts: np.ndarray) -> Tensor:
        """Images `[n, 1, size, size]` in bytes: each window put in its place on a blank."""
        canvas = np.zeros((len(windows), self.size), f"<u{self.size // 8}")
        left, top = starts[:, :1].astype(canvas.dtype), starts[:, 1:]
        lines = top + np.arange(self.size // 2)
        canvas[np.arange(len(windows))[:, None], lines] = windows.astype(canvas.dtype) << left
        bits = np.unpackbits(canvas.view(np.uint8), axis=1, bitorder="little")
        return torch.from_numpy(bits).view(-1, *self.shape)

    def _starts(self, indices: Tensor) -> np.ndarray:
        """The first column and row `[n, 2]` of the windows."""
        return (_lines()[0][self.factors(indices)[:, 4:]] * self.size // 64).numpy()

    def _windows(self, indices: Tensor) -> np.ndarray:
        """The windows `[n, size / 2]`, one word a row, its lowest bit the leftmost pixel."""
        if self._stored is not None:
            return self._stored[indices.numpy()]
        factors = self.factors(indices)
        words = np.empty((len(factors), self.size // 2), f"<u{self.size // 16}")
        for shape, inside in enumerate(_OUTLINES):
            chosen = (factors[:, 1] == shape).nonzero()[:, 0]
            for part in chosen.split(_CHUNK):
                mask = inside(*_shape_coordinates(factors[part]))
                packed = _packed(mask.numpy(), halve=self.size == 32)
                words[part.numpy()] = packed.view(words.dtype)[..., 0]
        return words

    def _render_all(self) -> np.ndarray:
        every = np.empty((len(self), self.size // 2), f"<u{self.size // 16}")
        for part in torch.arange(len(self)).split(64 * _CHUNK):
            every[part[0] : part[-1] + 1] = self._windows(part)
        return every


@cache
def _lines() -> tuple[Tensor, Tensor]:
    """For every position on an axis, its window's first line `[32]` and all its lines' offsets
    from the centre `[32, 32]`, which a line outside 3 to 60 has beyond the reach of any shape.
    """
    centre = 16 + 32 * torch.arange(SIZES[-1], dtype=torch.float64) / 31
    start = ((centre - 15) / 2).floor().long() * 2
    line = start[:, None] + torch.arange(_WINDOW)
    offset = line + 0.5 - centre[:, None]
    return start, offset.where((line >= 3) & (line <= 60), 1e6)


@cache
def _turns() -> Tensor:
    """The cosine and sine over the scale, `[scales, orientations, 2]`."""
    scale = 0.5 + 0.1 * torch.arange(SIZES[2], dtype=torch.float64)
    angle = 2 * math.pi * (torch.arange(SIZES[3]) % 39).double() / 39
    return torch.stack([angle.cos(), angle.sin()], dim=-1) / scale[:, None, None]


def _shape_coordinates(factors: Tensor) -> tuple[Tensor, Tensor]:
    """(u, v), each `[n, 32, 32]`: the pixel centres of the windows, in the shape's coordinates."""
    _, _, scale, orientation, x, y = factors.unbind(1)
    cos, sin = _turns()[scale, orientation][:, None].unbind(-1)
    dx, dy = _lines()[1][x], _lines()[1][y]
    u = (cos * dx)[:, None, :] - (sin * dy)[:, :, None]
    v = (sin * dx)[:, None, :] + (cos * dy)[:, :, None]
    return u, v


def _packed(mask: np.ndarray, *, halve: bool) -> np.ndarray:
    """Masks `[n, 32, 32]` as bits, after a 2×2 maximum where `halve`."""
    if halve:
        mask = mask[:, ::2] | mask[:, 1::2]
        mask = mask[:, :, ::2] | mask[:, :, 1::2]
    return np.packbits(mask, axis=-1, bitorder="little")
