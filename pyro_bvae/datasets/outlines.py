"""The three outlines of dSprites, in the coordinates of the shape: pixels at scale 1, v down.

The geometry was fitted to published frames of the data set (see `pyro_bvae.datasets.sprites`).
Every function takes float64 coordinates of any shape, and says which points lie strictly inside.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

HALF_SIDE = 9.5967
SEMI_AXES = (12.76, 7.215)
HEART_REACH = 9.68
_CELLS_PER_PIXEL = 1000


def in_square(u: Array, v: Array) -> Mask:
    r"""Whether points lie in the square: $\max(|u|, |v|) < 9.5967$."""
    return np.maximum(abs(u), abs(v)) < HALF_SIDE


def in_ellipse(u: Array, v: Array) -> Mask:
    r"""Whether points lie in the ellipse: $(u/12.76)^2 + (v/7.215)^2 < 1$."""
    return (u / SEMI_AXES[0]) ** 2 + (v / SEMI_AXES[1]) ** 2 < 1


def in_heart(u: Array, v: Array) -> Mask:
    r"""Whether points lie in the heart: $\text{top}(|u|) < v < \text{bottom}(|u|)$.

    Along the half outline $|u|$ rises to its maximum and falls again, so the heart is one
    interval of $v$ at every $|u|$. Every corner's $|u|$ is a multiple of .001; both ends of
    the interval are tabulated there, and linear in between, so nothing is approximated.
    """
    near = np.flatnonzero(np.maximum(abs(u), abs(v)) < HEART_REACH)
    ends = _heart_ends()
    part = np.minimum(abs(u.reshape(-1)[near]) * _CELLS_PER_PIXEL, ends.shape[1] - 1)
    cell = part.astype(np.intp)
    part -= cell
    top, top_slope, bottom, bottom_slope = (end.take(cell) for end in ends)
    height = v.reshape(-1)[near]
    inside = np.zeros(u.size, np.bool_)
    inside[near] = (top + part * top_slope < height) & (height < bottom + part * bottom_slope)
    return inside.reshape(u.shape)


def heart_half_outline() -> Array:
    """The corners `[121, 2]` of half the heart, as (|u|, v) from its notch down to its tip."""
    source = files("pyro_bvae.datasets") / "data" / "heart_half_polygon.csv"
    with source.open(encoding="utf-8") as lines:
        return np.loadtxt(lines, delimiter=",", comments="#")


@cache
def _heart_ends() -> Array:
    """Rows `[4, cells + 1]`: v at the start of a cell and its rise over it, top then bottom.

    The last cell stands for everything beyond the outline, where the interval is empty.
    """
    corners = heart_half_outline()
    widest = int(corners[:, 0].argmax())
    upper, lower = corners[: widest + 1], corners[:widest:-1]
    nodes = np.arange(round(corners[widest, 0] * _CELLS_PER_PIXEL) + 1) / _CELLS_PER_PIXEL
    top = np.interp(nodes, upper[:, 0], upper[:, 1])
    bottom = np.interp(nodes, lower[:, 0], lower[:, 1])
    rows = [[*top[:-1], np.inf], [*np.diff(top), 0], [*bottom[:-1], -np.inf], [*np.diff(bottom), 0]]
    return np.array(rows)
