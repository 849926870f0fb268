"""Pictures of data: grids, reconstructions and traversals, each one mosaic on one axes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_bvae.plots.latents import check_kl, decreasing, latent_names
from pyro_bvae.plots.style import axes_of, bare, label

Images = Tensor | ArrayLike
_GAP = 0.75


def are_images(shape: Sequence[int]) -> bool:
    """Whether data of this shape can be shown: `(channels, height, width)`, 1 or 3 channels.

    >>> are_images((1, 64, 64)), are_images((10,))
    (True, False)
    """
    return len(shape) == 3 and shape[0] in (1, 3)


def image_grid(
    images: Images, *, columns: int | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw images `[n, channels, height, width]` in [0, 1], row by row, in a grid.

    Args:
        images: 1 or 3 channels; values outside [0, 1] are clipped.
        columns: how many in a row; by default as many as make the grid about square.
        title: what they are.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: another shape, no image, or values that are not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = image_grid(np.zeros((4, 1, 8, 8)), title="Nothing")
    >>> ax.images[0].get_array().shape
    (17, 17, 3)
    >>> plt.close(ax.figure)
    """
    pixels = _as_pixels(images, "images")
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    ax = _draw(pixels, columns, ax, inches=0.5)
    label(ax, title=title)
    ax.set_xticks([])
    ax.set_yticks([])
    bare(ax)
    return ax


def reconstructions(
    originals: Images, reconstructed: Images, *, columns: int = 8, ax: Axes | None = None
) -> Axes:
    """Draw each original over its reconstruction, `columns` pairs in a row.

    Args:
        originals: `[n, channels, height, width]` in [0, 1].
        reconstructed: of the same shape.
        columns: how many pairs side by side.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: shapes that differ or are not of images, or values that are not finite.
    """
    above, below = _as_pixels(originals, "originals"), _as_pixels(reconstructed, "reconstructed")
    if above.shape != below.shape:
        raise ValueError(
            f"reconstructed: expected {len(above)} images of the originals' size, "
            f"got {len(below)} of another size or number"
        )
    columns = min(columns, len(above))
    rows = []
    for first in range(0, len(above), columns):
        for pixels in (above, below):
            row = pixels[first : first + columns]
            rows.append(np.pad(row, [(0, columns - len(row))] + 3 * [(0, 0)], constant_values=1))
    ax = _draw(np.concatenate(rows), columns, ax, inches=0.5)
    label(ax, title="Originals, and below each its reconstruction")
    ax.set_yticks(_centres(len(rows), above.shape[1]), ["original", "decoded"] * (len(rows) // 2))
    ax.set_xticks([])
    bare(ax)
    return ax


def traversals(
    images: Images,
    values: ArrayLike,
    kl: ArrayLike,
    *,
    rows: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what moves with each latent: a row per latent in decreasing order of its KL.

    Args:
        images: `[latents, values, channels, height, width]`, from `traverse` for every latent.
        values: where each column stands, `[values]`, in standard deviations of the prior.
        kl: nats of each latent, `[latents]`, which orders and labels the rows.
        rows: how many latents to draw; all by default.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: shapes that do not belong together.
    """
    nats, places = check_kl(kl), np.asarray(values, dtype=float)
    tiles = _as_array(images)
    given = tiles.shape
    if len(given) != 5 or given[:2] != (len(nats), places.size):
        raise ValueError(
            f"images: expected shape [{len(nats)} latents, {places.size} values, channels, "
            f"height, width], got {list(given)}"
        )
    order = decreasing(nats)[:rows]
    pixels = _as_pixels(tiles[order].reshape(-1, *given[2:]), "images")
    ax = _draw(pixels, places.size, ax, inches=0.5)
    title = "One latent moves, the others stay"
    label(ax, title=title, x="value, in standard deviations of the prior", y="latent and its nats")
    ax.set_yticks(_centres(len(order), pixels.shape[1]), latent_names(order, nats))
    ax.set_xticks(_centres(places.size, pixels.shape[2]), [_number(v) for v in places])
    bare(ax)
    return ax


def _as_array(images: Images) -> NDArray[Any]:
    return np.asarray(images.detach().cpu() if isinstance(images, Tensor) else images, dtype=float)


def _as_pixels(images: Images, name: str) -> NDArray[Any]:
    """Return `[n, height, width, 3]`, clipped to [0, 1]."""
    pixels = _as_array(images)
    if pixels.ndim != 4 or not are_images(pixels.shape[1:]) or pixels.size == 0:
        raise ValueError(
            f"{name}: expected shape [n, channels, height, width] with 1 or 3 channels, "
            f"got {list(pixels.shape)}"
        )
    if not np.isfinite(pixels).all():
        raise ValueError(f"{name}: expected finite values, got NaN or infinity")
    colours = np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:]))
    return np.clip(colours, 0.0, 1.0).transpose(0, 2, 3, 1)


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _gap(size: int) -> int:
    return max(1, size // 16)


def _centres(count: int, size: int) -> NDArray[Any]:
    """Return the centres of `count` tiles of `size` pixels."""
    return (size - 1) / 2 + np.arange(count) * (size + _gap(size))


def _draw(pixels: NDArray[Any], columns: int, ax: Axes | None, *, inches: float) -> Axes:
    """Show the tiles `[n, height, width, 3]` as one image, `inches` for the width of each."""
    n, height, width, _ = pixels.shape
    rows, down, right = math.ceil(n / columns), height + _gap(height), width + _gap(width)
    mosaic = np.full((rows * down - _gap(height), columns * right - _gap(width), 3), _GAP)
    for index, tile in enumerate(pixels):
        top, left = index // columns * down, index % columns * right
        mosaic[top : top + height, left : left + width] = tile
    size = max(inches * columns, 2.0)
    ax = axes_of(ax, width=size + 0.9, height=size / columns * rows * height / width + 0.7)
    ax.imshow(mosaic, interpolation="nearest")
    return ax
