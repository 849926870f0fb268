"""How many nats each latent carries."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_bvae.plots.style import BLUE, GREY, INK, axes_of, label, legend

ACTIVE_ABOVE = 0.01
"""From how many nats of KL on a latent counts as active."""

_NUMBERED = 24


def kl_per_latent(
    kl: ArrayLike, *, active_above: float = ACTIVE_ABOVE, ax: Axes | None = None
) -> Axes:
    """Draw KL(q(z_j|x) ‖ p(z_j)) as bars in decreasing order; inactive latents are grey.

    Args:
        kl: `[latents]`, nats per datum.
        active_above: the KL in nats from which on a latent counts as active.
        ax: where to draw; a figure of its own by default.

    Raises:
        ValueError: kl is not of shape `[latents]`, empty, or not finite.

    >>> import matplotlib.pyplot as plt
    >>> ax = kl_per_latent([0.001, 2.0])
    >>> ax.get_title(loc="left")
    'KL per latent: 1 of 2 active, 2.00 nats in all'
    >>> plt.close(ax.figure)
    """
    values = check_kl(kl)
    order = decreasing(values)
    ordered = values[order]
    active = ordered > active_above
    ax = axes_of(ax, width=float(np.clip(0.34 * len(values), 5.2, 9)), height=3.2)
    places = np.arange(len(values))
    for shown, colour, name in ((active, BLUE, "active"), (~active, GREY, "inactive")):
        if shown.any():
            limit = f"{'>' if name == 'active' else '≤'} {active_above:g} nats"
            bars = ax.bar(places[shown], ordered[shown], color=colour, label=f"{name}, {limit}")
            if len(values) <= _NUMBERED:
                ax.bar_label(bars, fmt=_short, fontsize=8, color=INK, padding=1)
    title = f"KL per latent: {active.sum()} of {len(values)} active, {values.sum():.2f} nats in all"
    label(ax, title=title, x="latent, in order of KL", y="nats per datum")
    names = np.array(latent_names(order))
    if len(values) <= _NUMBERED:
        ax.set_xticks(places, names)
    else:
        ax.set_xticks(places[active], names[active], rotation=90, fontsize=7)
    ax.margins(x=0.02, y=0.28)
    legend(ax, loc="upper right")
    return ax


def decreasing(kl: NDArray[Any]) -> NDArray[Any]:
    """Return the latents in decreasing order of KL; equals keep their order.

    >>> decreasing(np.array([0.0, 2.0, 1.0])).tolist()
    [1, 2, 0]
    """
    return np.argsort(-kl, kind="stable")


def latent_names(order: NDArray[Any], kl: NDArray[Any] | None = None) -> list[str]:
    """Return the name of each latent in this order, with its nats if given.

    >>> latent_names(np.array([1, 0]), np.array([0.0, 2.5]))
    ['z1  2.50', 'z0  0.00']
    """
    return [f"z{latent}" if kl is None else f"z{latent}  {kl[latent]:.2f}" for latent in order]


def check_kl(kl: ArrayLike) -> NDArray[Any]:
    """Return the KL per latent as an array; ValueError unless `[latents]` and finite."""
    values = np.asarray(kl, dtype=float)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(
            f"kl: expected finite nats of shape [latents], got shape {list(values.shape)}"
            + ("" if np.isfinite(values).all() else " with NaN or infinity")
        )
    return values


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}".replace("e-0", "e-")
