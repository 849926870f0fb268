"""What the latents tell of known factors, as a table in colours."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_bvae.plots.latents import ACTIVE_ABOVE, check_kl, decreasing, latent_names
from pyro_bvae.plots.style import GREY, INK, axes_of, bare, label


def factor_matrix(
    values: ArrayLike,
    factor_names: Sequence[str],
    *,
    title: str = "R² of each latent with each factor",
    limit: float = 1.0,
    kl: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a matrix of latents × factors as a heat map with the number in every cell.

    Args:
        values: `[latents, factors]`, ≥ 0: `r2_matrix` or `mutual_information_matrix`.
        factor_names: one for every column.
        title: what the numbers are, with their unit.
        limit: the value of the darkest colour.
        kl: nats of each latent, `[latents]`: the rows go in decreasing order of it, and those of
            inactive latents, whose codes are mostly noise, are left white.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: arrays of another shape, not finite, or without a factor.

    >>> import matplotlib.pyplot as plt
    >>> ax = factor_matrix([[0.0], [0.9]], ["scale"], kl=[0.1, 2.0])
    >>> [text.get_text() for text in ax.texts]
    ['0.90', '0.00']
    >>> plt.close(ax.figure)
    """
    matrix = _check_matrix(values, factor_names)
    nats = np.full(len(matrix), np.inf) if kl is None else check_kl(kl)
    if len(nats) != len(matrix):
        raise ValueError(f"kl: expected nats of {len(matrix)} latents, got {len(nats)}")
    order = decreasing(nats)
    shown, active = matrix[order], nats[order] > ACTIVE_ABOVE
    width, height = 1.3 + 0.78 * len(factor_names), 0.9 + 0.28 * len(matrix)
    ax = axes_of(ax, width=max(width, 3.6), height=height)
    colours = mpl.colormaps["Blues"](np.clip(shown / limit, 0.0, 1.0))
    colours[~active] = 1.0
    ax.imshow(colours, aspect="auto")
    for (row, column), value in np.ndenumerate(shown):
        ink = "white" if value > 0.55 * limit else INK
        text = ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9)
        text.set_color(ink if active[row] else GREY)
    label(ax, title=title, y="latent" if kl is None else "latent and its nats")
    ax.set_xticks(range(len(factor_names)), list(factor_names))
    ax.set_yticks(range(len(order)), latent_names(order, None if kl is None else nats))
    bare(ax)
    return ax


def _check_matrix(values: ArrayLike, factor_names: Sequence[str]) -> NDArray[Any]:
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or 0 in matrix.shape or matrix.shape[1] != len(factor_names):
        raise ValueError(
            f"values: expected shape [latents, {len(factor_names)} factors], "
            f"got {list(matrix.shape)}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError("values: expected finite numbers, got NaN or infinity")
    return matrix
