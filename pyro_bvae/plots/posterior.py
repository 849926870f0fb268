"""How far a guide can be believed: its importance weights, its bounds, and chains beside it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_bvae.plots.images import Images, image_grid
from pyro_bvae.plots.style import BLUE, GREEN, GREY, INK, ORANGE, axes_of, label, legend

GOOD, USABLE = 0.5, 0.7
_NOTHING = 0.002


def pareto_shapes(k: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw k̂ of every datum, falling, with lines at 0.5 and 0.7; exact data have none.

    Args:
        k: `Importance.k` `[data]`; NaN where the weights are constant.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: k is not of shape `[data]`, or has no datum.

    >>> import matplotlib.pyplot as plt
    >>> ax = pareto_shapes([0.2, 0.9, float("nan")])
    >>> ax.get_title(loc="left")
    'Pareto k̂ of 3 data: 1 above 0.7, 1 exact'
    >>> plt.close(ax.figure)
    """
    values = np.asarray(k, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"k: expected shape [data], got {list(values.shape)}")
    exact, bad = int(np.isnan(values).sum()), int((values > USABLE).sum())
    shown = np.sort(values[np.isfinite(values)])[::-1]
    ax = axes_of(ax, width=5.2, height=3.2)
    places = np.arange(len(shown)) + int(np.isposinf(values).sum())
    zones = (
        (shown < GOOD, BLUE, "good"),
        ((shown >= GOOD) & (shown < USABLE), GREY, "usable by weights"),
        (shown >= USABLE, ORANGE, "not to be trusted"),
    )
    for zone, colour, name in zones:
        if zone.any():
            ax.plot(places[zone], shown[zone], ".", color=colour, ms=5, label=name)
    for line in (GOOD, USABLE):
        ax.axhline(line, color=INK, lw=0.8, ls="--")
        ax.annotate(f"{line:g}", (1, line), xycoords=("axes fraction", "data"), fontsize=8)
    title = f"Pareto k̂ of {len(values)} data: {bad} above 0.7"
    label(ax, title=title + (f", {exact} exact" if exact else ""), x="data, worst first", y="k̂")
    if len(shown):
        legend(ax)
    return ax


def worst_data(
    images: Images, k: ArrayLike, *, count: int = 16, columns: int = 8, ax: Axes | None = None
) -> Axes:
    """Show the images with the largest k̂, the worst first, each with its k̂.

    Args:
        images: `[data, channels, height, width]` in [0, 1].
        k: `Importance.k` `[data]`; data whose weights are constant, NaN, come last.
        count: how many.
        columns: in a row.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: numbers of images and of k̂ that differ, or what are no images.

    >>> import matplotlib.pyplot as plt
    >>> ax = worst_data(np.zeros((3, 1, 8, 8)), [0.1, 0.9, 0.3], count=2)
    >>> [text.get_text() for text in ax.texts]
    ['0.90', '0.30']
    >>> plt.close(ax.figure)
    """
    values, pixels = np.asarray(k, dtype=float), np.asarray(images, dtype=float)
    if values.shape != pixels.shape[:1]:
        raise ValueError(f"k: expected one for each of {len(pixels)} images, got {values.shape}")
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:count]
    columns = min(columns, len(order))
    ax = image_grid(pixels[order], columns=columns, title="The worst data, with k̂", ax=ax)
    height, width = pixels.shape[2:]
    for place, index in enumerate(order):
        row, column = divmod(place, columns)
        down, right = row * (height + max(1, height // 16)), column * (width + max(1, width // 16))
        text = "exact" if np.isnan(values[index]) else f"{values[index]:.2f}"
        ax.text(right, down, text, fontsize=7, color=ORANGE, va="top", ha="left", weight="bold")
    return ax


def evidence_gaps(
    values: Mapping[str, tuple[float, float]], *, target: str = "p(z|x)", ax: Axes | None = None
) -> Axes:
    """Draw log p(x) − ELBO in its two parts, nats per datum, with two standard errors.

    Args:
        values: "amortization" and "approximation", each (mean, error): `AmortizationGap.mean`.
        target: the density that the guide is held against.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: a part is missing or not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = evidence_gaps({"amortization": (0.5, 0.01), "approximation": (0.2, 0.02)})
    >>> [round(float(bar.get_width()), 2) for bar in ax.patches]
    [0.5, 0.2, 0.7]
    >>> plt.close(ax.figure)
    """
    parts = []
    for name in ("amortization", "approximation"):
        part = np.asarray(values.get(name, (np.nan, np.nan)), dtype=float)
        if part.shape != (2,) or not np.isfinite(part).all():
            raise ValueError(f"values: expected a finite mean and error of {name!r}, got {part}")
        parts.append(part)
    (first, e1), (second, e2) = parts
    ax = axes_of(ax, width=5.6, height=2.4)
    names = ["amortisation:\none network for all data", "approximation:\nthe family of q"]
    names.append("together:\nlog p(x) − ELBO")
    widths, errors = [first, second, first + second], [e1, e2, float(np.hypot(e1, e2))]
    colours = [BLUE, ORANGE, GREY]
    ax.barh(range(3), widths, left=[0.0, first, 0.0], color=colours, height=0.62)
    ends = [first, first + second, first + second]
    ax.errorbar(ends, range(3), xerr=2 * np.array(errors), fmt="none", ecolor=INK, lw=1, capsize=2)
    for place, (width, error) in enumerate(zip(widths, errors, strict=True)):
        text = f" {round(width, 3) + 0.0:.3f} ± {error:.3f}".replace("-", "−")
        right = max(*ends, 0.0) + 2 * max(errors)
        ax.text(right, place, text, va="center", fontsize=9, color=INK)
    ax.set_yticks(range(3), names)
    ax.invert_yaxis()
    ax.margins(x=0.3)
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, -_NOTHING), max(high, _NOTHING))
    label(ax, title=f"What the guide loses against {target}", x="nats per datum")
    return ax


def evidence_bounds(
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    exact: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw bounds on log p(x) from below and above, a line for each datum, in rising order.

    Args:
        lower, upper: `[data]`, nats: of `Sandwich`; or any two estimates.
        exact: log p(x) `[data]`, where it is known.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: no data, unequal lengths, or numbers that are not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = evidence_bounds([-2.0, -1.0], [-1.9, -1.0])
    >>> ax.get_title(loc="left")
    'Bounds on log p(x): 0.05 nats apart on average'
    >>> plt.close(ax.figure)
    """
    below, above = numbers(lower, "lower"), numbers(upper, "upper")
    if below.ndim != 1 or below.shape != above.shape:
        raise ValueError(
            f"upper: expected shape [{len(below)} data] as lower, got {list(above.shape)}"
        )
    order, places = np.argsort(below, kind="stable"), np.arange(len(below))
    ax = axes_of(ax, width=5.2, height=3.2)
    ax.vlines(places, below[order], above[order], color=GREY, lw=1.2)
    ax.plot(places, below[order], ".", color=BLUE, ms=4, label="from below")
    ax.plot(places, above[order], ".", color=ORANGE, ms=4, label="from above")
    if exact is not None:
        ax.plot(places, numbers(exact, "exact")[order], "_", color=GREEN, ms=6, label="exact")
    apart = f"{(above - below).mean():.2g}".replace("-", "−")
    title = f"Bounds on log p(x): {apart} nats apart on average"
    label(ax, title=title, x="data, in order of the lower bound", y="nats")
    legend(ax)
    return ax


def numbers(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return values as an array; ValueError unless there are some and all are finite."""
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got shape {list(array.shape)}")
    return array
