"""β and σ: rate against distortion, and where the two knobs go together and where they part."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_bvae.plots.style import BLUE, GREY, INK, ORANGE, axes_of, bare, label, legend


def rate_distortion(
    rate: ArrayLike,
    distortion: ArrayLike,
    beta: ArrayLike,
    *,
    theory: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw distortion against rate, with a line of slope −β through each point.

    Along the best curve dDist/dR = −β, so that the lines are its tangents; where they cut through
    the points, training has not come to the optimum.

    Args:
        rate: KL(q‖p) `[points]`, nats per datum.
        distortion: −E log p(x|z) `[points]`, nats per datum.
        beta: what each point was trained at `[points]`.
        theory: rate and distortion `[any]` of the exact curve, where it is known.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: no points, unequal lengths, or numbers that are not finite.

    References:
        Alemi et al. (2018), Fixing a Broken ELBO.

    >>> import matplotlib.pyplot as plt
    >>> ax = rate_distortion([1.0, 2.0], [5.0, 3.0], [4.0, 1.0])
    >>> ax.get_xlabel()
    'rate KL(q‖p), nats per datum'
    >>> plt.close(ax.figure)
    """
    columns = {"rate": rate, "distortion": distortion, "beta": beta}
    rates, distortions, betas = _equal(columns)
    ax = axes_of(ax, width=5.2, height=3.8)
    if theory is not None:
        exact = _equal({"theory rate": theory[0], "theory distortion": theory[1]})
        ax.plot(*exact, color=GREY, lw=1.2, label="exact optimum", zorder=1)
    spread = max(float(np.ptp(distortions)), 1e-9), max(float(np.ptp(rates)), 1e-9)
    reach = 0.12 / np.sqrt((1 / spread[1]) ** 2 + (betas / spread[0]) ** 2)
    for r, d, b, half in zip(rates, distortions, betas, reach, strict=True):
        line = ax.plot([r - half, r + half], [d + b * half, d - b * half], color=ORANGE, lw=1.8)
        ax.annotate(f"{b:g}", (r, d), (5, 5), textcoords="offset points", fontsize=8, color=INK)
    line[0].set_label("slope −β")
    ax.plot(rates, distortions, "o", color=BLUE, ms=5, label="trained, with its β")
    label(
        ax,
        title="Rate and distortion: β is what a nat may cost",
        x="rate KL(q‖p), nats per datum",
        y="distortion −E log p(x|z)",
    )
    legend(ax)
    return ax


def beta_scale_map(
    values: ArrayLike,
    betas: Sequence[float],
    prior_scales: Sequence[float],
    *,
    title: str,
    fmt: str = ".1f",
    ax: Axes | None = None,
) -> Axes:
    """Draw one quantity over β and σ_z as a heat map with the number in every cell.

    Args:
        values: `[betas, prior_scales]`, finite.
        betas: one per row.
        prior_scales: σ_z, one per column.
        title: what the numbers are, with their unit.
        fmt: how a number is written.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: values of another shape, or not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = beta_scale_map([[1.0, 2.0]], [4.0], [0.5, 1.0], title="rate, nats")
    >>> [text.get_text() for text in ax.texts]
    ['1.0', '2.0']
    >>> plt.close(ax.figure)
    """
    table = _grid(values, betas, prior_scales)
    size = 1.6 + 0.75 * len(prior_scales), 1.1 + 0.4 * len(betas)
    ax = axes_of(ax, width=max(size[0], 3.6), height=size[1])
    shares = (table - table.min()) / max(float(np.ptp(table)), 1e-12)
    ax.imshow(mpl.colormaps["Blues"](0.85 * shares + 0.05), aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        ink = "white" if shares[row, column] > 0.55 else INK
        ax.text(column, row, f"{value:{fmt}}", ha="center", va="center", fontsize=9, color=ink)
    label(ax, title=title, x="σ_z of the prior", y="β")
    ax.set_xticks(range(len(prior_scales)), [f"{scale:g}" for scale in prior_scales])
    ax.set_yticks(range(len(betas)), [f"{beta:g}" for beta in betas])
    bare(ax)
    return ax


def equal_mean_curves(
    values: ArrayLike,
    betas: Sequence[float],
    prior_scales: Sequence[float],
    *,
    title: str = "E μ²: the same where β/σ_z² is (dashed)",
    ax: Axes | None = None,
) -> Axes:
    """Draw how far the means of q are from 0, over β and 1/σ_z², with the lines of equal β/σ_z².

    With a fixed linear decoder the means depend on β/σ_z² alone, so that the colours follow the
    dashed lines; with a free one they do not.

    Args:
        values: `[betas, prior_scales]`, finite: the mean square of the means of q.
        betas: > 0, rising.
        prior_scales: σ_z > 0, falling, so that 1/σ_z² rises.
        title: of the picture.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: values of another shape or not finite, fewer than two rows or columns, or
            β and 1/σ_z² that are not positive and rising.

    >>> import matplotlib.pyplot as plt
    >>> ax = equal_mean_curves([[3.0, 2.0], [2.0, 1.0]], [1.0, 2.0], [1.0, 0.5**0.5])
    >>> ax.get_xscale(), ax.get_yscale()
    ('log', 'log')
    >>> plt.close(ax.figure)
    """
    table = _grid(values, betas, prior_scales)
    y, x = np.asarray(betas, dtype=float), np.asarray(prior_scales, dtype=float) ** -2
    rising = all(len(axis) > 1 and axis[0] > 0 and (np.diff(axis) > 0).all() for axis in (x, y))
    if not rising:
        raise ValueError(
            f"betas, prior_scales: expected two or more rising β and falling σ_z, all > 0, got "
            f"{list(betas)} and {list(prior_scales)}"
        )
    ax = axes_of(ax, width=4.8, height=3.8)
    filled = ax.contourf(x, y, table, levels=12, cmap="Blues")
    ax.figure.colorbar(filled, ax=ax).ax.tick_params(labelsize=9, colors=INK)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ends = x[[0, -1]]
    for product in np.geomspace(x[0] * y[0], x[-1] * y[-1], 9)[1:-1]:
        ax.plot(ends, product / ends, "--", color=ORANGE, lw=1)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    label(ax, title=title, x="1/σ_z²", y="β")
    return ax


def beta_against_prior(
    knob: ArrayLike,
    by_beta: ArrayLike,
    by_prior: ArrayLike,
    *,
    quantity: str,
    theory: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a quantity against β (at σ_z = 1) and against 1/σ_z² (at β = 1), on one axis.

    Args:
        knob: the common axis `[points]`, > 0: β, and 1/σ_z².
        by_beta: the quantity at (β = knob, σ_z = 1), `[points]` or `[points, latents]`.
        by_prior: the same at (β = 1, σ_z = knob^−½).
        quantity: its name, for the title.
        theory: "knob", "by_beta" and "by_prior", the exact lines, where they are known.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: no points, unequal lengths, numbers that are not finite, or a knob ≤ 0.

    >>> import matplotlib.pyplot as plt
    >>> ax = beta_against_prior([1.0, 4.0], [0.2, 0.5], [0.2, 0.1], quantity="variance of q")
    >>> ax.get_title(loc="left")
    'variance of q'
    >>> plt.close(ax.figure)
    """
    measured = {"knob": knob, "by_beta": by_beta, "by_prior": by_prior}
    ax = axes_of(ax, width=4.6, height=3.4)
    exact = _equal(theory) if theory is not None else None
    points = dict(zip(measured, _equal(measured), strict=True))
    if (points["knob"] <= 0).any():
        raise ValueError(f"knob: expected numbers > 0, got {points['knob'].tolist()}")
    styles = (("by_beta", BLUE, "o", "β, σ_z = 1"), ("by_prior", ORANGE, "x", "1/σ_z², β = 1"))
    for name, colour, marker, text in styles:
        if exact is not None and theory is not None:
            lines = dict(zip(theory, exact, strict=True))
            ax.plot(lines["knob"], lines[name], color=colour, lw=1.2)
        drawn = ax.plot(points["knob"], points[name], marker, color=colour, ms=5)
        if exact is None:
            for line in drawn:
                line.set_linestyle("-")
        drawn[0].set_label(text)
    ax.set_xscale("log", base=2)
    label(ax, title=quantity, x="β, or 1/σ_z²")
    legend(ax)
    return ax


def _equal(columns: Mapping[str, ArrayLike]) -> list[NDArray[Any]]:
    arrays = [np.asarray(column, dtype=float) for column in columns.values()]
    rows = len(arrays[0]) if arrays and arrays[0].ndim else 0
    for name, array in zip(columns, arrays, strict=True):
        if rows == 0 or array.ndim == 0 or len(array) != rows or not np.isfinite(array).all():
            raise ValueError(
                f"{name}: expected {rows} >= 1 rows of finite numbers, as {next(iter(columns))} "
                f"has, got shape {list(array.shape)}"
                + ("" if np.isfinite(array).all() else " with NaN or infinity")
            )
    return arrays


def _grid(values: ArrayLike, betas: Sequence[float], prior_scales: Sequence[float]) -> NDArray[Any]:
    table = np.asarray(values, dtype=float)
    expected = (len(betas), len(prior_scales))
    if table.shape != expected or 0 in expected or not np.isfinite(table).all():
        raise ValueError(
            f"values: expected finite numbers [{expected[0]} betas, {expected[1]} prior_scales], "
            f"got shape {list(table.shape)}"
        )
    return table
