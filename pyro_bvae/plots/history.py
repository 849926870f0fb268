"""What training measured, over its steps."""

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pyro_bvae.plots.style import BLUE, GREEN, GREY, INK, ORANGE, axes_of, label, legend

History = Mapping[str, Any]

_TITLES = {
    "loss": "Loss (falls)",
    "elbo": "ELBO at β = 1 (rises)",
    "reconstruction": "Reconstruction, −E log p(x|z)",
    "kl": "KL of q(z|x) from the prior",
    "beta": "β",
}
_COLOURS = {"loss": INK, "elbo": INK, "reconstruction": BLUE, "kl": ORANGE, "beta": GREEN}


def training_history(history: History) -> NDArray[Any]:
    """Draw loss, reconstruction and KL over the steps, side by side in a figure of their own.

    The ELBO joins them where there were validation data, and β where it changed.

    Args:
        history: `Fit.history`: "step" and "loss", "reconstruction", "kl", ... `[rows]`.

    Returns: the axes, one for each of `history_quantities(history)`.

    Raises:
        ValueError: no steps, or a quantity of another length.

    >>> history = {name: [1.0, 2.0] for name in ("step", "loss", "reconstruction", "kl")}
    >>> axes = training_history(history)
    >>> len(axes)
    3
    >>> plt.close(axes[0].figure)
    """
    quantities = history_quantities(history)
    size = (3.6 * len(quantities), 2.9)
    axes = plt.subplots(1, len(quantities), figsize=size, layout="constrained", squeeze=False)[1][0]
    for quantity, ax in zip(quantities, axes, strict=True):
        history_curve(history, quantity, ax=ax)
    return axes


def history_quantities(history: History) -> list[str]:
    """Return which quantities of a history are worth a picture.

    >>> history_quantities({"loss": [2.0], "reconstruction": [1.0], "kl": [1.0], "beta": [1.0]})
    ['loss', 'reconstruction', 'kl']
    """
    quantities = [name for name in ("loss", "reconstruction", "kl") if name in history]
    if "validation_elbo" in history:
        quantities.append("elbo")
    if len(np.unique(history.get("beta", []))) > 1:
        quantities.append("beta")
    return quantities


def history_curve(history: History, quantity: str, *, ax: Axes | None = None) -> Axes:
    """Draw one quantity over the steps: "loss", "elbo", "reconstruction", "kl" or "beta".

    The KL comes with that of each latent in grey, the ELBO with that of the validation data. The
    axis shows what comes after the first tenth of the training; where that leaves out the
    beginning, its value is written.

    Raises:
        ValueError: no such quantity, no steps, or unequal lengths.

    >>> ax = history_curve({"step": [1, 2], "loss": [5.0, 4.0]}, "loss")
    >>> ax.lines[0].get_ydata().tolist()
    [5.0, 4.0]
    >>> plt.close(ax.figure)
    """
    steps, values = _column(history, "step"), _column(history, quantity)
    ax = axes_of(ax, width=4.2, height=2.9)
    lines = _companions(history, quantity)
    for name, companion in lines.items():
        dashed = name == "validation"
        style = {"color": ORANGE, "ls": "--"} if dashed else {"color": GREY, "lw": 0.8}
        drawn = ax.plot(steps, companion, marker=_marker(steps), **style)
        drawn[0].set_label(name)
    main = {"kl": "all latents", "elbo": "training"}.get(quantity)
    ax.plot(steps, values, marker=_marker(steps), color=_COLOURS.get(quantity, INK), label=main)
    unit = "" if quantity == "beta" else "nats per datum"
    label(ax, title=_TITLES.get(quantity, quantity), x="step", y=unit)
    _look_at_what_follows(ax, values, [values, *lines.values()])
    if lines:
        legend(ax, loc="center right" if quantity == "elbo" else "best")
    return ax


def _companions(history: History, quantity: str) -> dict[str, NDArray[Any]]:
    """Return the lines that go with a quantity, by their label."""
    if quantity == "elbo" and "validation_elbo" in history:
        return {"validation": _column(history, "validation_elbo")}
    if quantity == "kl" and "kl_per_latent.z" in history:
        return {"each latent": _column(history, "kl_per_latent.z", ndim=2)}
    return {}


def _column(history: History, name: str, *, ndim: int = 1) -> NDArray[Any]:
    if name not in history:
        raise ValueError(f"history: expected {name!r}, got only {sorted(history)}")
    values = np.asarray(history[name], dtype=float)
    rows = len(history["step"]) if "step" in history else 0
    if values.ndim != ndim or len(values) != rows or rows == 0:
        raise ValueError(
            f"history: expected {name!r} with a row for each of the {rows} >= 1 steps, "
            f"got shape {list(values.shape)}"
        )
    return values


def _marker(steps: NDArray[Any]) -> str | None:
    return "o" if len(steps) == 1 else None


def _look_at_what_follows(ax: Axes, values: NDArray[Any], lines: list[NDArray[Any]]) -> None:
    """Set the limits by all but the first tenth, if the beginning dwarfs it."""
    late = np.concatenate([line[len(line) // 10 :].ravel() for line in lines])
    span = np.ptp(late)
    low, high = late.min() - 0.08 * span, late.max() + 0.08 * span
    if span > 0 and (values[0] > high + span or values[0] < low - span):
        ax.set_ylim(low, high)
        y, va = (0.97, "top") if values[0] > high else (0.03, "bottom")
        text = f"begins at {values[0]:.4g}".replace("-", "−")
        ax.text(0.97, y, text, transform=ax.transAxes, fontsize=9, color=INK, va=va, ha="right")
