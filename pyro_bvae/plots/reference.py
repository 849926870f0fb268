"""A guide beside reference chains: their draws, and how far apart they are."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_bvae.plots.posterior import numbers
from pyro_bvae.plots.style import BLUE, GREY, INK, axes_of, bare, label


def guide_and_reference(
    guide: ArrayLike,
    reference: ArrayLike,
    *,
    data: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
) -> NDArray[Any]:
    """Draw the guide's draws over those of reference chains: a row per datum, a column per latent.

    Args:
        guide: `[draws, data, latents]`, of `Comparison`.
        reference: `[chains, draws, data, latents]`, of `Reference`.
        data: which data; the first four by default.
        names: of the latents.

    Returns: the axes `[rows, latents]` of a figure of their own.

    Raises:
        ValueError: shapes that do not fit, or numbers that are not finite.

    >>> rng = np.random.default_rng(0)
    >>> axes = guide_and_reference(rng.normal(size=(99, 1, 2)), rng.normal(size=(2, 50, 1, 2)))
    >>> axes.shape
    (1, 2)
    >>> plt.close(axes[0, 0].figure)
    """
    drawn, chains = numbers(guide, "guide"), numbers(reference, "reference")
    if drawn.ndim != 3 or chains.ndim != 4 or drawn.shape[1:] != chains.shape[2:]:
        raise ValueError(
            "reference: expected [chains, draws, data, latents] for a guide [draws, data, latents] "
            f"of the same data and latents, got {list(chains.shape)} and {list(drawn.shape)}"
        )
    rows = list(range(min(4, drawn.shape[1])) if data is None else data)
    latents = drawn.shape[2]
    size = (1.9 * latents + 0.6, 1.5 * len(rows) + 0.5)
    grid = plt.subplots(len(rows), latents, figsize=size, layout="constrained", squeeze=False)
    pooled = chains.reshape(-1, *chains.shape[2:])
    for row, datum in enumerate(rows):
        for column in range(latents):
            ax, both = grid[1][row, column], (pooled[:, datum, column], drawn[:, datum, column])
            bins = np.histogram_bin_edges(np.concatenate(both), bins=30)
            ax.hist(both[0], bins, density=True, color=GREY, alpha=0.6, label="chains")
            ax.hist(both[1], bins, density=True, color=BLUE, histtype="step", lw=1.4, label="guide")
            title = (names[column] if names else f"latent {column}") if row == 0 else ""
            label(ax, title=title, y=f"datum {datum}" if column == 0 else "")
            ax.set_yticks([])
    handles = grid[1][0, 0].get_legend_handles_labels()
    grid[0].legend(*handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return grid[1]


def distance_to_reference(
    wasserstein: ArrayLike,
    scale: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw W₁ of guide and chains in standard deviations of the chains, as a heat map.

    Args:
        wasserstein: `[data, latents]`, of `Comparison`.
        scale: `reference_scale` `[data, latents]`, > 0.
        names: of the latents.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: shapes that differ, or numbers that are not finite or not positive.

    >>> ax = distance_to_reference([[0.1, 1.0]], [[1.0, 0.5]])
    >>> [text.get_text() for text in ax.texts]
    ['0.10', '2.00']
    >>> plt.close(ax.figure)
    """
    distance, unit = numbers(wasserstein, "wasserstein"), numbers(scale, "scale")
    if distance.ndim != 2 or distance.shape != unit.shape or (unit <= 0).any():
        raise ValueError(
            f"scale: expected positive numbers [data, latents] as wasserstein, "
            f"{list(distance.shape)}, got {list(unit.shape)}"
        )
    table = distance / unit
    data, latents = table.shape
    ax = axes_of(ax, width=max(3.6, 1.2 + 0.6 * latents), height=0.9 + 0.28 * data)
    ax.imshow(mpl.colormaps["Blues"](np.clip(table, 0, 1)), aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        ink = "white" if value > 0.55 else INK
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    label(ax, title="W₁ of guide and chains, in deviations", y="datum")
    ax.set_xticks(range(latents), list(names) if names else [f"z{i}" for i in range(latents)])
    ax.set_yticks(range(data))
    bare(ax)
    return ax
