"""Which latents carry what: bars of information, variances, and the parts of the ELBO."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes

from pyro_bvae.plots.latents import decreasing
from pyro_bvae.plots.style import BLUE, GREEN, GREY, INK, ORANGE, axes_of, label, legend

_NAMED = 32
_SHORT = {
    "mutual_information": "MI",
    "total_correlation": "TC",
    "dimension_wise_total": "off prior",
}


class Bracket(Protocol):
    """An estimate from two sides."""

    low: Any
    high: Any

    @property
    def middle(self) -> Any: ...  # noqa: D102


class Collapsed(Protocol):
    """What `diagnostics.collapse` returns."""

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def kl(self) -> Any: ...  # noqa: D102
    @property
    def active(self) -> Any: ...  # noqa: D102
    @property
    def information(self) -> Any: ...  # noqa: D102
    @property
    def mean_variance(self) -> Any: ...  # noqa: D102
    @property
    def posterior_variance(self) -> Any: ...  # noqa: D102
    @property
    def prior_variance(self) -> Any: ...  # noqa: D102


class Carved(Protocol):
    """What `diagnostics.elbo_surgery` returns."""

    @property
    def mutual_information(self) -> Any: ...  # noqa: D102
    @property
    def total_correlation(self) -> Any: ...  # noqa: D102
    @property
    def dimension_wise_total(self) -> Any: ...  # noqa: D102
    @property
    def kl(self) -> Any: ...  # noqa: D102


def latent_information(found: Collapsed, *, ax: Axes | None = None) -> Axes:
    """Draw the KL of each latent as a bar, and in it what it says of x; in decreasing order.

    What is left above the information, whose bracket is a line, is the distance of the latent's
    codes, over all data, from the prior. Names of inactive latents are in brackets.

    Args:
        found: from `diagnostics.collapse`.
        ax: where to draw; a figure of its own by default.

    >>> import matplotlib.pyplot as plt, torch
    >>> from types import SimpleNamespace as Found
    >>> one, told = torch.ones(1), Found(low=0.8 * torch.ones(1), high=torch.ones(1))
    >>> found = Found(names=("z",), kl=one, active=one > 0, information=told)
    >>> ax = latent_information(found)
    >>> ax.get_title(loc="left")
    'What each latent carries: 1 of 1 active'
    >>> plt.close(ax.figure)
    """
    order, names = _order(found)
    ax = axes_of(ax, width=_width(len(order)), height=3.2)
    places = np.arange(len(order))
    low, high = (np.asarray(end)[order] for end in (found.information.low, found.information.high))
    kl = ax.bar(places, np.asarray(found.kl)[order], color=GREY, alpha=0.35, label="KL")
    least = ax.bar(places, low, color=BLUE, width=0.5, label="of it information on x, at least")
    between = ax.vlines(places, low, high, color=INK, linewidth=1.4, label="to at most")
    active = int(np.asarray(found.active).sum())
    title = f"What each latent carries: {active} of {len(order)} active"
    label(ax, title=title, x="latent, in order of KL", y="nats per datum")
    _names(ax, places, names)
    legend(ax, loc="upper right", handles=[kl, least, between])
    return ax


def latent_variances(found: Collapsed, *, ax: Axes | None = None) -> Axes:
    """Draw the variance of each latent's mean and its mean variance, as shares of the prior's.

    They add up to 1 where the codes of all data have the prior's variance. A collapsed latent is
    all posterior variance. The order is that of `latent_information`.

    Args:
        found: from `diagnostics.collapse`.
        ax: where to draw; a figure of its own by default.

    >>> import matplotlib.pyplot as plt, torch
    >>> from types import SimpleNamespace as Found
    >>> parts = {"mean_variance": torch.tensor([0.9]), "posterior_variance": torch.tensor([0.1])}
    >>> one = torch.ones(1)
    >>> found = Found(names=("z",), kl=one, active=one > 0, prior_variance=one, **parts)
    >>> ax = latent_variances(found)
    >>> ax.get_ylabel()
    "share of the prior's variance"
    >>> plt.close(ax.figure)
    """
    order, names = _order(found)
    ax = axes_of(ax, width=_width(len(order)), height=3.2)
    places, prior = np.arange(len(order)), np.asarray(found.prior_variance)[order]
    means = np.asarray(found.mean_variance)[order] / prior
    widths = np.asarray(found.posterior_variance)[order] / prior
    ax.bar(places, means, color=BLUE, label="of the means over x")
    ax.bar(places, widths, bottom=means, color=ORANGE, alpha=0.7, label="of q(z|x), mean over x")
    ax.axhline(1.0, color=GREY, linewidth=1.0)
    title = "Where the variance of the codes is"
    label(ax, title=title, x="latent, in order of KL", y="share of the prior's variance")
    _names(ax, places, names)
    ax.set_ylim(0, 1.4 * max(1.0, float((means + widths).max())))
    legend(ax, loc="upper right")
    return ax


def surgery_bars(
    found: Carved | Mapping[str, Carved],
    *,
    title: str = "The parts of the KL",
    ax: Axes | None = None,
) -> Axes:
    """Draw mutual information, total correlation and dimension-wise KL of models as stacked bars.

    The parts are the middles of their brackets, drawn as they are where they are below 0; the
    brackets are written beside.

    Args:
        found: from `diagnostics.elbo_surgery`, or several by their names.
        title: of the picture.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: an empty dictionary.

    >>> import matplotlib.pyplot as plt, torch
    >>> from pyro_bvae.diagnostics import Bracketed
    >>> from types import SimpleNamespace as Found
    >>> part = Bracketed(torch.tensor(0.9), torch.tensor(1.1), torch.tensor(0.0))
    >>> names = ("mutual_information", "total_correlation", "dimension_wise_total", "kl")
    >>> ax = surgery_bars(Found(**dict.fromkeys(names, part)))
    >>> len(ax.patches)
    3
    >>> plt.close(ax.figure)
    """
    models = found if isinstance(found, Mapping) else {"": found}
    if not models:
        raise ValueError("found: expected at least one surgery, got an empty dictionary")
    ax = axes_of(ax, width=7.2, height=2.0 + 0.5 * len(models))
    parts = {
        "mutual_information": ("mutual information with x", BLUE),
        "total_correlation": ("total correlation", ORANGE),
        "dimension_wise_total": ("latents off the prior", GREEN),
    }
    above, below = np.zeros(len(models)), np.zeros(len(models))
    for name, (word, colour) in parts.items():
        values = np.array([float(getattr(model, name).middle) for model in models.values()])
        left = np.where(values >= 0, above, below)
        ax.barh(range(len(models)), values, left=left, color=colour, label=word, height=0.6)
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    for place, model in enumerate(models.values()):
        told = ", ".join(
            f"{short} {_range(getattr(model, name))}" for name, short in _SHORT.items()
        )
        at = (float(above[place]), float(place))
        ax.annotate(
            told, at, (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    label(ax, title=title, x="nats per datum")
    ax.set_yticks(range(len(models)), list(models))
    ax.invert_yaxis()
    ax.set_xlim(right=above.max() * 1.75)
    ax.axvline(0.0, color=GREY, linewidth=0.8)
    legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.15 - 0.3 / len(models)), ncols=3)
    return ax


def _range(part: Bracket) -> str:
    low, high = (round(float(end), 2) + 0.0 for end in (part.low, part.high))
    return f"{low:.2f}…{high:.2f}".replace("-", "−")


def _order(found: Collapsed) -> tuple[Any, list[str]]:
    """Return the latents in decreasing order of KL, and their names, in brackets if inactive."""
    order = decreasing(np.asarray(found.kl))
    active = np.asarray(found.active)
    return order, [found.names[j] if active[j] else f"({found.names[j]})" for j in order]


def _width(latents: int) -> float:
    return float(np.clip(1.2 + 0.42 * latents, 4.6, 9))


def _names(ax: Axes, places: Any, names: list[str]) -> None:
    if len(places) <= _NAMED:
        ax.set_xticks(places, names, rotation=90 if len(places) > 12 else 0, fontsize=8)
