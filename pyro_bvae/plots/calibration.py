"""Are the guide's intervals right: ranks, coverage and expected coverage, each with its band."""

from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pyro_bvae.plots.style import BLUE, GREY, INK, ORANGE, axes_of, label, legend

_LEVELS = np.linspace(0.05, 0.95, 19)
_NAMED = 2


class Uniform(Protocol):
    """What uniform ranks look like: `diagnostics.ranks.Uniformity`."""

    points: NDArray[np.float64]

    def distribution(self, ranks: Any) -> NDArray[np.float64]: ...  # noqa: D102
    def band(self, level: float = ...) -> tuple[Any, Any]: ...  # noqa: D102


class Calibrated(Protocol):
    """What `diagnostics.calibration` returns."""

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def ranks(self) -> Any: ...  # noqa: D102
    @property
    def distance_ranks(self) -> Any: ...  # noqa: D102
    @property
    def num_samples(self) -> int: ...  # noqa: D102
    @property
    def p_value(self) -> float: ...  # noqa: D102
    @property
    def distance_p_value(self) -> float: ...  # noqa: D102
    @property
    def uniformity(self) -> Any: ...  # noqa: D102
    def shapes(self) -> list[str]: ...  # noqa: D102
    def coverage(self, levels: Any = ...) -> Any: ...  # noqa: D102


def rank_distribution(found: Calibrated, *, ax: Axes | None = None) -> Axes:
    """Draw how far the share of ranks below each point is from that of uniform ranks.

    A latent's line, the empirical distribution function of its ranks less the uniform one, stays
    in the band at all points, and for all latents, with a probability of 95 % if the guide is the
    posterior. A guide that is too narrow rises first and falls then; one that is too wide falls
    first; one that is too high stays below 0. Latents whose p-value is small are orange,
    the two furthest off by name.

    Args:
        found: from `diagnostics.calibration`.
        ax: where to draw; a figure of its own by default.

    References:
        Säilynoja, Bürkner, Vehtari (2022), Graphical Test for Discrete Uniformity and Its
        Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison.

    >>> import matplotlib.pyplot as plt, torch
    >>> from pyro_bvae.diagnostics.calibration import summarise
    >>> ranks = torch.arange(100)[:, None] % 10
    >>> ax = rank_distribution(summarise(ranks, ranks[:, 0], num_samples=9, names=["z"]))
    >>> ax.get_title(loc="left")
    'Ranks of truths among draws: p = 1'
    >>> plt.close(ax.figure)
    """
    ax = axes_of(ax, width=5.4, height=4.0)
    uniformity, latents = found.uniformity, len(found.names)
    level = 1 - 0.05 / latents
    _difference(ax, uniformity.points, uniformity.band(level), "band of all latents, 95 %")
    lines = uniformity.distribution(found.ranks) - uniformity.points[:, None]
    _latent_lines(ax, uniformity.points, lines, found)
    label(
        ax,
        title=f"Ranks of truths among draws: p = {_p(found.p_value)}",
        x="rank of the truth, as a share of the draws",
        y="share of ranks below,\nless the uniform one",
    )
    return ax


def coverage_curve(found: Calibrated, *, ax: Axes | None = None) -> Axes:
    """Draw how often central intervals hold the truth against how often they should.

    A line below the diagonal is a guide whose intervals are too narrow. The grey band is that of
    95 % of calibrated latents, one level at a time.

    Args:
        found: from `diagnostics.calibration`.
        ax: where to draw; a figure of its own by default.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian Inference
        Algorithms with Simulation-Based Calibration.

    >>> import matplotlib.pyplot as plt, torch
    >>> from pyro_bvae.diagnostics.calibration import summarise
    >>> ranks = torch.arange(100)[:, None] % 10
    >>> ax = coverage_curve(summarise(ranks, ranks[:, 0], num_samples=9, names=["z"]))
    >>> ax.get_xlabel()
    'level of the central interval'
    >>> plt.close(ax.figure)
    """
    ax = axes_of(ax, width=4.2, height=5.2)
    table = found.coverage(_LEVELS)
    table = table.drop_duplicates(["latent", "level"]).pivot(index="level", columns="latent")
    levels = table.index.to_numpy()
    error = 1.96 * np.sqrt(levels * (1 - levels) / len(found.ranks))
    _diagonal(ax, levels, levels - error, levels + error, "95 % of calibrated latents")
    _latent_lines(ax, levels, table["coverage"][list(found.names)].to_numpy(), found)
    label(
        ax,
        title="Coverage of central intervals",
        x="level of the central interval",
        y="share that holds the truth",
    )
    return ax


def expected_coverage(found: Calibrated, *, ax: Axes | None = None) -> Axes:
    """Draw the expected coverage of random regions (TARP), of all latents together.

    The region of level α holds the share α of draws that are closest to a random point. Where the
    guide is the posterior, it holds the truth with probability α.

    Args:
        found: from `diagnostics.calibration`.
        ax: where to draw; a figure of its own by default.

    References:
        Lemos, Coogan, Hezaveh, Perreault-Levasseur (2023), Sampling-Based Accuracy Testing of
        Posterior Estimators for General Inference.

    >>> import matplotlib.pyplot as plt, torch
    >>> from pyro_bvae.diagnostics.calibration import summarise
    >>> ranks = torch.arange(100)[:, None] % 10
    >>> ax = expected_coverage(summarise(ranks, ranks[:, 0], num_samples=9, names=["z"]))
    >>> ax.get_title(loc="left")
    'Expected coverage (TARP): p = 1'
    >>> plt.close(ax.figure)
    """
    ax = axes_of(ax, width=4.2, height=5.2)
    uniformity = found.uniformity
    low, high = uniformity.band(0.95)
    _diagonal(ax, uniformity.points, low, high, "band, 95 %")
    line = uniformity.distribution(found.distance_ranks[:, None])[:, 0]
    ax.plot(uniformity.points, line, color=BLUE, linewidth=1.6, label="all latents together")
    _below(ax)
    label(
        ax,
        title=f"Expected coverage (TARP): p = {_p(found.distance_p_value)}",
        x="share of draws in the region",
        y="share of regions with the truth",
    )
    return ax


def _difference(ax: Axes, points: Any, band: tuple[Any, Any], name: str) -> None:
    low, high = (edge - points for edge in band)
    ax.fill_between(points, low, high, color=GREY, alpha=0.25, linewidth=0, label=name)
    ax.axhline(0.0, color=GREY, linewidth=0.8)


def _diagonal(ax: Axes, points: Any, low: Any, high: Any, name: str) -> None:
    ax.fill_between(points, low, high, color=GREY, alpha=0.25, linewidth=0, label=name)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_aspect("equal")


def _latent_lines(ax: Axes, points: Any, lines: Any, found: Calibrated) -> None:
    """Draw a line for each latent: those that are off coloured, the first few of them named."""
    off = [shape != "calibrated" for shape in found.shapes()]
    style = {True: (ORANGE, "off"), False: (BLUE, "not seen to be off")}
    for which, (colour, word) in style.items():
        chosen = [j for j, is_off in enumerate(off) if is_off is which]
        if not chosen:
            continue
        shown = f"{len(chosen)} of {len(off)} latents {word}"
        ax.plot(points, lines[:, chosen], color=colour, linewidth=1.2, alpha=0.85)
        ax.plot([], [], color=colour, label=shown)
        away = np.abs(lines - _straight(ax, points)[:, None])
        for j in sorted(chosen, key=lambda j: -away[:, j].max())[:_NAMED] if which else ():
            at = int(away[:, j].argmax())
            ax.annotate(found.names[j], (points[at], lines[at, j]), fontsize=8, color=INK)
    _below(ax)


def _below(ax: Axes) -> None:
    """Explain the lines below the picture, where they cannot be in the way."""
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=1)


def _straight(ax: Axes, points: Any) -> Any:
    """What a calibrated latent's line is: the diagonal in a square picture, else 0."""
    return points if ax.get_aspect() != "auto" else 0 * points


def _p(value: float) -> str:
    return f"{value:.2g}"
