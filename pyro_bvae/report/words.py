"""What the numbers say, in plain words."""

import math
from collections.abc import Sequence

import numpy as np

from pyro_bvae.plots.history import History
from pyro_bvae.report.summary import Summary

FOLLOWS, PARTLY = 0.5, 0.2


def overall(measured: Summary) -> list[str]:
    """Say what the model reaches."""
    return [
        f"Measured on {measured.data:,} data, the model reaches an ELBO of "
        f"{number(measured.elbo)} nats per datum at β = 1: it pays "
        f"{number(measured.reconstruction)} nats for the reconstruction and "
        f"{number(measured.kl)} nats of KL.",
        "The ELBO is a lower bound on log p(x) (with a Bernoulli likelihood on grey values, on "
        "a cross-entropy), so higher is better; it compares models of the same data and kind of "
        "likelihood only.",
    ]


def latents(measured: Summary) -> list[str]:
    """Say how many latents are active and what they carry."""
    active, kl = measured.active_latents, measured.kl_per_latent
    if not active:
        return [
            f"None of the {len(kl)} latents is active: each posterior q(z|x) is almost the prior, "
            "whatever x is, so the decoder draws the same for every datum (posterior collapse). "
            "A smaller β, a slower start of β, or longer training may open some."
        ]
    nats = kl[active].sum()
    words = [
        f"{len(active)} of {len(kl)} latents {'is' if len(active) == 1 else 'are'} active, with "
        f"more than 0.01 nats: {names(active)}.",
        f"Together they carry at most {nats:.2f} nats ({nats / math.log(2):.1f} bits) of "
        "information about a datum.",
    ]
    if len(active) < len(kl):
        words.append(
            "For the others q(z|x) is almost the prior, whatever x is: the decoder has nothing to "
            "learn from them, and moving them should change nothing."
        )
    return words


def training(history: History) -> list[str]:
    """Say how the training went."""
    loss, kl = np.asarray(history["loss"]), np.asarray(history["kl"])
    words = [
        f"Over {int(history['step'][-1]):,} steps the loss went from {number(loss[0])} to "
        f"{number(loss[-1])} nats per datum, and the KL from {number(kl[0])} to {number(kl[-1])}."
    ]
    beta = np.unique(history.get("beta", []))
    if len(beta) > 1:
        words.append(
            f"β moved between {beta[0]:.3g} and {beta[-1]:.3g}, so losses of different steps do "
            "not compare; reconstruction and KL do."
        )
    elif len(loss) >= 8:
        words.append(_trend(loss))
    if "validation_elbo" in history:
        held_out, seen = history["validation_elbo"][-1], history["elbo"][-1]
        words.append(
            f"At the end the ELBO was {number(seen)} on training data and {number(held_out)} on "
            "validation data; a gap that grows is over-fitting."
        )
    return words


def _trend(loss: np.ndarray) -> str:
    before, last = np.array_split(loss, 4)[2:]
    fell = float(before.mean() - last.mean())
    if fell > last.std():
        return (
            f"In the last quarter it was on average {fell:.2f} lower than in the quarter before, "
            "more than it scatters: it was still falling, and more steps would likely help."
        )
    return "In the last quarter it no longer fell by more than it scatters."


def factors(measured: Summary) -> list[str]:
    """Say of each factor which latent follows it, if any."""
    return [_factor(measured, j) for j in range(len(measured.factor_names))]


def followers(measured: Summary) -> list[str]:
    """Say of each active latent which factors it follows."""
    return [f"{names([z])} {_what_follows(measured, z)}." for z in measured.active_latents]


def missed(measured: Summary) -> list[str]:
    """Return the factors that no active latent tells of."""
    return [
        name
        for j, name in enumerate(measured.factor_names)
        if max(_r2(measured, j), _share(measured, j)) < PARTLY
    ]


def caveats(measured: Summary) -> list[str]:
    """Say what the factor numbers do not mean."""
    chance = measured.chance_information.max()
    words = [
        "R² reads the classes of a factor as numbers on a line. It is 1 for a latent that moves "
        "in step with the factor, and misses what is no line: an angle that comes round again, "
        "or a kind, such as a shape, whose numbers are only names. Mutual information sees these.",
        "Mutual information is counted in 20 bins of each latent; from codes shuffled among the "
        f"data, which tell nothing, it would still come out as up to {chance:.2f} nats.",
        "Both look at one latent at a time, so a factor that several latents share is known to "
        "the model although no latent follows it.",
        "Both read the mean of q(z|x) and not its width, and neither feels how little a mean "
        "varies: numbers of inactive latents are mostly noise, and are left white.",
    ]
    lowered = {name.lower() for name in measured.factor_names}
    if {"orientation", "shape"} <= lowered:
        words.append(
            "Orientations repeat: a square looks the same every 90°, an ellipse every 180°. No "
            "code can tell such orientations apart, so no model reaches the full score there."
        )
    return words


def number(value: float, form: str = ".2f") -> str:
    """Write a number, with two decimals unless told otherwise, and a true minus sign.

    >>> number(-1.5)
    '−1.50'
    """
    return format(value, form).replace("-", "−")


def names(latents: Sequence[int]) -> str:
    """Name latents in a sentence, at most ten of them.

    >>> names([3, 0, 1])
    'z3, z0 and z1'
    >>> names(range(40))
    'z0, z1, z2, z3, z4, z5, z6, z7, z8 and 31 others'
    """
    words = [f"z{latent}" for latent in latents]
    if len(words) > 10:
        words = [*words[:9], f"{len(words) - 9} others"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _factor(measured: Summary, j: int) -> str:
    name, z = measured.factor_names[j], measured.best_latent[j]
    knows = measured.most_informative_latent[j]
    r2 = _r2(measured, j)
    if z is None or knows is None:
        return f"{name}: not captured, as no latent is active."
    if r2 >= PARTLY:
        verb = "follows it" if r2 >= FOLLOWS else "follows it in part"
        return f"{name}: {names([z])} {verb} (R² {r2:.2f})."
    if _share(measured, j) >= PARTLY:
        nats = measured.mutual_information[knows, j]
        return (
            f"{name}: {names([knows])} tells {nats:.2f} of its {measured.entropy[j]:.2f} nats, "
            f"but not along a line (best R² {r2:.2f})."
        )
    return f"{name}: not captured by any single latent (best R² {r2:.2f}, of {names([z])})."


def _what_follows(measured: Summary, z: int) -> str:
    r2 = measured.r2[z]
    order = np.argsort(-r2, kind="stable")
    found = [f"{measured.factor_names[j]} (R² {r2[j]:.2f})" for j in order if r2[j] >= PARTLY]
    if not found:
        return "follows no known factor along a line"
    verb = "mixes" if len(found) > 1 else "follows" if r2.max() >= FOLLOWS else "follows in part"
    return f"{verb} {' and '.join(found)}"


def _r2(measured: Summary, j: int) -> float:
    z = measured.best_latent[j]
    return 0.0 if z is None else float(measured.r2[z, j])


def _share(measured: Summary, j: int) -> float:
    """Return the share of a factor's entropy that one active latent tells, chance taken off."""
    z = measured.most_informative_latent[j]
    if z is None or measured.entropy[j] == 0:
        return 0.0
    told = measured.mutual_information[z, j] - measured.chance_information[z, j]
    return float(told / measured.entropy[j])
