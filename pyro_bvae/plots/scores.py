"""Scores with their intervals, each against what a perfect code would score."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pyro_bvae.plots.style import BLUE, GREY, INK, axes_of, label, legend

Scored = Sequence[Any]
"""Name, score, low and high end of its interval (or None), ceiling; what follows is not drawn."""


def metric_scores(
    rows: Sequence[Scored], *, title: str = "Scores of the metrics", ax: Axes | None = None
) -> Axes:
    """Draw scores between 0 and 1 as dots, their intervals as lines, their ceilings as ticks.

    Args:
        rows: name, score, low, high, ceiling of each, from the top, such as the rows of
            `DisentanglementScores`; `low` and `high` may be None.
        title: of the picture.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: no rows, or a score or ceiling that is not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = metric_scores([("MIG", 0.2, 0.18, 0.22, 0.9), ("IRS", 0.6, None, None, 1.0)])
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['MIG', 'IRS']
    >>> plt.close(ax.figure)
    """
    values = np.array([[row[1], row[4]] for row in rows], dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("rows: expected at least one row, of finite scores and ceilings")
    ax = axes_of(ax, width=6.4, height=1.1 + 0.27 * len(rows))
    places = np.arange(len(rows))
    ax.barh(places, values[:, 1], height=0.62, color=GREY, alpha=0.16)
    ticks: dict[str, Any] = {"color": GREY, "markersize": 13, "markeredgewidth": 2}
    ax.plot(values[:, 1], places, "|", label="perfect code", **ticks)
    for place, row in zip(places, rows, strict=True):
        low, high = row[2], row[3]
        if low is not None and high is not None:
            ax.plot(
                [low, high],
                [place, place],
                color=BLUE,
                alpha=0.45,
                linewidth=9,
                solid_capstyle="butt",
            )
    ax.plot(values[:, 0], places, "o", color=BLUE, markersize=4, label="score, 95 % interval")
    beside = ax.get_yaxis_transform()
    for height, score in enumerate(values[:, 0].tolist()):
        ax.text(1.03, height, f"{score:.2f}", transform=beside, va="center", fontsize=9, color=INK)
    label(ax, title=title)
    ax.set_yticks(places, [row[0] for row in rows])
    ax.invert_yaxis()
    ax.set_xlim(0.0, max(1.02, values.max()))
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.12 - 0.5 / len(rows)), ncols=2)
    return ax
