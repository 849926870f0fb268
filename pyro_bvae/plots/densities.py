"""Densities of two latents as regions that hold given shares of them, and codes on top."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.plots.posterior import numbers
from pyro_bvae.plots.style import BLUE, GREY, INK, axes_of, label, legend

Array = NDArray[Any]
LogDensity = Callable[[Tensor], Tensor]

GRID = 161


def density_regions(
    log_density: LogDensity,
    extent: Sequence[float],
    *,
    shares: Sequence[float] = (0.5, 0.9),
    colour: str = BLUE,
    filled: bool = False,
    name: str = "",
    grid: int = GRID,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the smallest regions that hold given shares of a density of two latents.

    The region of share :math:`\alpha` is :math:`\{z : p(z) \ge c\}` with
    :math:`\int_{p \ge c} p = \alpha`, the integrals being sums over a grid on `extent`: what
    lies outside is not counted, and p need not be normalised.

    Args:
        log_density: from points `[n, 2]` to log p `[n]`, such as a distribution's `log_prob`.
        extent: left, right, bottom, top.
        shares: in (0, 1); a line, or with `filled` a shade, for each.
        colour: of lines and shades.
        filled: shade the regions instead of drawing their edges.
        name: for the legend.
        grid: points along each side, ≥ 2.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: an extent of no area, shares outside (0, 1), a density of another shape or
            without a finite value.

    Reference:
        Hyndman 1996, "Computing and Graphing Highest Density Regions".

    >>> import matplotlib.pyplot as plt
    >>> from pyro_bvae.priors import NormalPrior
    >>> ax = density_regions(NormalPrior(2)().log_prob, (-3, 3, -3, 3), name="p(z)")
    >>> ax.get_legend_handles_labels()[1]
    ['p(z)']
    >>> plt.close(ax.figure)
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares: expected numbers in (0, 1), got {list(shares)}")
    x, y, values = _on_grid(log_density, extent, grid)
    levels = np.unique([_level(values, share) for share in shares])
    ax = axes_of(ax, width=4.6, height=4.2)
    if filled:
        shades = [to_rgba(colour, alpha) for alpha in np.linspace(0.18, 0.42, len(levels))]
        ax.contourf(x, y, values, levels=[*levels, np.inf], colors=shades)
        ax.add_patch(Rectangle((extent[0], extent[2]), 0, 0, color=shades[-1], label=name))
    else:
        widths = np.linspace(0.9, 1.6, len(levels))
        ax.contour(x, y, values, levels, colors=colour, linewidths=widths, linestyles="solid")
        ax.plot([], [], color=colour, lw=1.4, label=name)
    left, right, bottom, top = extent
    ax.set(xlim=(left, right), ylim=(bottom, top))
    label(ax, title="", x="z0", y="z1")
    return ax


def aggregate_and_prior(
    codes: ArrayLike,
    log_prior: LogDensity,
    *,
    classes: ArrayLike | None = None,
    extent: Sequence[float] | None = None,
    title: str = "Codes of all data, and the prior",
    ax: Axes | None = None,
) -> Axes:
    """Draw draws of the aggregate posterior q(z) = E q(z|x) over regions of a prior of two latents.

    The prior's regions hold 50 and 90 % of it; the share of the codes in each is in the legend,
    and would be the same if the aggregate posterior were the prior.

    Args:
        codes: `[data, 2]`, a draw from q(z|x) for each datum. Their means would look narrower.
        log_prior: from points `[n, 2]` to log p `[n]`: `vae.trained_prior().log_prob`.
        classes: whole numbers `[data]`, written in the middle of their codes and colouring them.
        extent: left, right, bottom, top; what holds the codes, with a margin, by default.
        title: of the picture.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: codes that are no finite numbers `[data, 2]`, or classes of another length; as
            `density_regions`.

    Reference:
        Hoffman, Johnson 2016, "ELBO surgery: yet another way to carve up the variational evidence
        lower bound".

    >>> import matplotlib.pyplot as plt
    >>> from pyro_bvae.priors import NormalPrior
    >>> prior = NormalPrior(2)()
    >>> ax = aggregate_and_prior(prior.sample((500,)), prior.log_prob)
    >>> len(ax.get_legend().get_texts())
    1
    >>> plt.close(ax.figure)
    """
    points = numbers(codes, "codes")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"codes: expected shape [data, 2], got {list(points.shape)}")
    colours, palette = (BLUE, None) if classes is None else (np.asarray(classes), "tab10")
    if classes is not None and np.shape(colours) != points.shape[:1]:
        raise ValueError(
            f"classes: expected one for each of {len(points)} codes, got {np.shape(colours)}"
        )
    box = _around(points) if extent is None else extent
    _, _, values = _on_grid(log_prior, box, GRID)
    own = _evaluate(log_prior, points)
    half, most = (f"{(own >= _level(values, share)).mean():.0%}" for share in (0.5, 0.9))
    told = f"50% and 90% of p(z),\nwith {half} and {most} of the codes"
    ax = density_regions(log_prior, box, colour=GREY, filled=True, name=told, ax=ax)
    ax.scatter(points[:, 0], points[:, 1], s=5, c=colours, cmap=palette, linewidths=0, alpha=0.8)
    density_regions(log_prior, box, colour=INK, ax=ax)
    if classes is not None:
        _write_classes(ax, points, np.asarray(classes))
    label(ax, title=title, x="z0", y="z1")
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    return ax


def _write_classes(ax: Axes, points: Array, classes: Array) -> None:
    """Write the number of each class in the middle of its codes."""
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for name in np.unique(classes):
        x, y = np.median(points[classes == name], axis=0)
        ax.text(x, y, f"{name}", ha="center", va="center", weight="bold", path_effects=halo)


def _on_grid(log_density: LogDensity, extent: Sequence[float], grid: int) -> tuple[Array, ...]:
    """Return the axes `[grid]` and log p `[grid, grid]`, rows along the second latent."""
    box = np.asarray(extent, dtype=float)
    if box.shape != (4,) or not np.isfinite(box).all() or box[0] >= box[1] or box[2] >= box[3]:
        raise ValueError(f"extent: expected left < right and bottom < top, got {tuple(extent)}")
    if check_count(grid, "grid") < 2:
        raise ValueError(f"grid: expected at least 2, got {grid}")
    x, y = np.linspace(box[0], box[1], grid), np.linspace(box[2], box[3], grid)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    values = _evaluate(log_density, points)
    if np.isnan(values).any() or not np.isfinite(values.max()):
        raise ValueError("log_density: expected numbers < ∞, some finite, got NaN or infinity")
    lowest = values[np.isfinite(values)].min()
    return x, y, values.clip(min=lowest).reshape(grid, grid)


@torch.no_grad()
def _evaluate(log_density: LogDensity, points: Array) -> Array:
    values = log_density(torch.as_tensor(points, dtype=torch.get_default_dtype()))
    if values.shape != points.shape[:1]:
        raise ValueError(
            f"log_density: expected a number for each of {len(points)} points, "
            f"got shape {list(values.shape)}"
        )
    return values.double().cpu().numpy()


def _level(values: Array, share: float) -> float:
    """Return the log p from which on the points hold this share of them all."""
    falling = np.sort(values, axis=None)[::-1]
    held = np.cumsum(np.exp(falling - falling[0]))
    return float(falling[np.searchsorted(held, share * held[-1])])


def _around(points: Array) -> tuple[float, float, float, float]:
    low, high = points.min(0), points.max(0)
    margin = 0.15 * (high - low) + 1e-3
    return (*(low - margin)[:1], *(high + margin)[:1], *(low - margin)[1:], *(high + margin)[1:])
