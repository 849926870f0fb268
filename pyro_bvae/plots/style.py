"""The look all pictures share, set on their own axes: nothing global is touched."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8f98"
"""Four colours of Okabe and Ito (2008), Color Universal Design, told apart by all eyes."""

INK = "#22262b"


def axes_of(ax: Axes | None, *, width: float, height: float) -> Axes:
    """Return the given axes, or those of a new figure of this size in inches."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def label(ax: Axes, *, title: str, x: str = "", y: str = "") -> None:
    """Write title and axis labels, and take away what says nothing."""
    ax.set_title(title, fontsize=11, color=INK, loc="left")
    ax.set_xlabel(x, fontsize=10, color=INK)
    ax.set_ylabel(y, fontsize=10, color=INK)
    ax.tick_params(labelsize=9, colors=INK, width=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)


def legend(ax: Axes, **where: Any) -> None:
    """Explain the lines and bars that carry a label."""
    ax.legend(frameon=False, fontsize=9, labelcolor=INK, **where)


def bare(ax: Axes) -> None:
    """Take away the frame and the tick marks, and keep the ticks' labels."""
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
