"""dSprites, rendered from its geometry instead of read from its file."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pyro_bvae.datasets.bits import unpacked
from pyro_bvae.datasets.factors import FactorDataset
from pyro_bvae.datasets.rendering import placed, windows

NAMES = ("color", "shape", "scale", "orientation", "posX", "posY")
SIZES = (1, 3, 6, 40, 32, 32)
_CHUNK = 4096


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

    @property
    def nbytes(self) -> int:
        """How many bytes the images held in memory take: none on the fly."""
        return 0 if self._stored is None else self._stored.nbytes

    def images(self, indices: Tensor) -> Tensor:
        """The images `[n, 1, size, size]` at `indices` `[n]`, zeros and ones."""
        factors = self.factors(indices).numpy()
        return unpacked(placed(self._windows(indices), factors, size=self.size), self.shape)

    def counts(self, indices: Tensor) -> Tensor:
        """How many pixels `[n]` are on in the images at `indices` `[n]`, without making them."""
        counts = np.bitwise_count(self._windows(indices)).sum(1, dtype=np.int64)
        return torch.from_numpy(counts)

    def _windows(self, indices: Tensor) -> np.ndarray:
        if self._stored is not None:
            return self._stored[self._checked(indices).numpy()]
        return windows(self.factors(indices).numpy(), size=self.size)

    def _render_all(self) -> np.ndarray:
        parts = torch.arange(len(self)).split(_CHUNK)
        return np.concatenate([self._windows(part) for part in parts])
