"""Are the guide's intervals right? Truths drawn from the model, ranked among the guide's draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import beta as beta_distribution
from torch import Tensor

from pyro_bvae.checks import check_count
from pyro_bvae.diagnostics.draws import Sampler
from pyro_bvae.diagnostics.ranks import Uniformity, uniformity_of
from pyro_bvae.diagnostics.simulation import example, names_of, ranked, truths
from pyro_bvae.diagnostics.target import Target, as_target
from pyro_bvae.types import PairLike

LEVELS = (0.5, 0.8, 0.9, 0.95)
_REFERENCES = 256


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of truths among the guide's draws: uniform where the guide is p(z|x).

    Attributes:
        names: of the latents: "z[0]", "z[1]", ...
        ranks: of z*_j among the draws of z_j, `[simulations, latents]`, 0 to `num_samples`.
        distance_ranks: of the distance of z* to a reference point among those of the draws,
            `[simulations]`: TARP, which sees all latents together.
        num_samples: draws for each truth.
        p_values: of uniform ranks, for each latent `[latents]`.
        p_value: of all latents together: the least of these times their number, at most 1.
        distance_p_value: of uniform distance ranks.
        uniformity: what uniform ranks look like.
        target: the density that the guide is held against.
    """

    names: tuple[str, ...]
    ranks: Tensor
    distance_ranks: Tensor
    num_samples: int
    p_values: NDArray[np.float64]
    p_value: float
    distance_p_value: float
    uniformity: Uniformity
    target: Target

    @property
    def simulations(self) -> int:
        """How many truths were drawn."""
        return len(self.ranks)

    def coverage(self, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
        """Return how often central intervals hold the truth, for each latent and level.

        Columns "latent", "level" (what a calibrated guide covers), "coverage", and its 95 %
        interval "low" to "high" (Clopper, Pearson 1934). An interval goes from one rank to
        another, so that the level is the one closest to the one asked for.

        Raises: ValueError if a level is not within 0 and 1.
        """
        rows = []
        for level in levels:
            edge = self._edge(level)
            inside = ((self.ranks >= edge) & (self.ranks <= self.num_samples - edge)).sum(0)
            reached = 1 - 2 * edge / (self.num_samples + 1)
            for name, count in zip(self.names, inside.tolist(), strict=True):
                low, high = _clopper_pearson(count, self.simulations)
                rows.append((name, reached, count / self.simulations, low, high))
        return pd.DataFrame(rows, columns=["latent", "level", "coverage", "low", "high"])

    def shapes(self) -> list[str]:
        """Say of each latent how its ranks are off: "calibrated", or what the guide is.

        "too narrow", "too wide", "too low", "too high", or "misshapen", by which of the ranks'
        mean and mean distance from the middle is further from that of uniform ranks; only where
        the p-value is below 0.05 over the number of latents.
        """
        u = (self.ranks.double() + 0.5) / (self.num_samples + 1)
        root = self.simulations**0.5
        shift = ((u.mean(0) - 0.5) * 12**0.5 * root).tolist()
        spread = (((u - 0.5).abs().mean(0) - 0.25) * 48**0.5 * root).tolist()
        return [
            "calibrated" if p >= 0.05 / len(self.names) else _shape(a, b)
            for p, a, b in zip(self.p_values, shift, spread, strict=True)
        ]

    def table(self, level: float = 0.9) -> pd.DataFrame:
        """Return a row for each latent: "p_value", "guide", and its coverage at a level."""
        found = self.coverage([level]).set_index("latent")
        found.insert(0, "p_value", self.p_values)
        found.insert(1, "guide", self.shapes())
        return found

    def __str__(self) -> str:
        counts = self.coverage([0.9])
        words = ", ".join(
            f"{name} {shape}"
            for name, shape in zip(self.names, self.shapes(), strict=True)
            if shape != "calibrated"
        )
        return (
            f"guide against {self.target} of {self.simulations} data drawn from the model: "
            f"{words or 'no latent is seen to be off'}; {counts['level'][0]:.0%} intervals hold "
            f"the truth {counts['coverage'].min():.1%} to {counts['coverage'].max():.1%} of the "
            f"time; p = {self.p_value:.2g} for the latents, {self.distance_p_value:.2g} for all "
            "of them together"
        )

    def _edge(self, level: float) -> int:
        if not 0 < level < 1:
            raise ValueError(f"levels: expected numbers between 0 and 1, got {level!r}")
        return round((1 - level) / 2 * (self.num_samples + 1))


@torch.no_grad()
def calibration(
    pair: PairLike,
    x: Any = None,
    *,
    num_simulations: int = 1000,
    num_samples: int = 199,
    target: str = "model",
    beta: float | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> Calibration:
    """Rank truths among the guide's draws: z* ~ p(z), x* ~ p(x|z*), z ~ q(z|x*). Nothing is refit.

    If q is p(z|x), then z* given x* is one more draw of q, and its rank among the others uniform.
    A guide that is too narrow has too many ranks at both ends (∪), one that is too wide too many
    in the middle (∩). The ranks of distances to random points (TARP) hold all latents at once, so
    that they see a guide whose latents are right one by one and wrong together.

    The data are the model's own draws, noise included; on data that look otherwise (grey values
    for a Bernoulli likelihood, or a decoder's means) the encoder may do better or worse. The prior
    itself passes as a guide: `collapse` tells. Latents that are no datum's own, such as a prior's
    σ, are held at the medians of what the guide draws for them. Discrete latents, such as classes,
    are drawn with the others and have no ranks: those of the others see them.

    Args:
        pair: a `VAE`, a `Pair` or any `(model, guide)`; tempered or not, it is read at β = 1.
        x: example data, as `datasets.as_source` takes them, of which the shapes count and what
            is no data of the model, such as a context; None for a model that runs without data and
            returns what it draws, as a `VAE` does. Other models are given x and drawn from as
            `poutine.uncondition` would.
        num_simulations: how many truths, ≥ 2.
        num_samples: draws from the guide for each; 199 have exact intervals of 50, 80, 90, 95 %.
        target: "model" only, p(z|x). Data of which a tempered posterior is the posterior cannot
            be drawn from the model, and a guide trained at β ≠ 1 is not calibrated for the data
            that can, which is what this test then finds. For a normal likelihood of fixed σ_x the
            tempered posterior is the posterior of the model with σ_x √β: ask that model. For
            others hold the guide against it with `importance`.
        beta: none.
        batch_size: the most data that go through the pair at once.
        seed: of the draws; torch's own random state is left as it was.

    Raises:
        ValueError: target="tempered", draws that are not finite, no continuous latent, or a pair
            without a plate of the data.
        TypeError: no x, and a model that needs it.

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman (2018), Validating Bayesian Inference
        Algorithms with Simulation-Based Calibration.
        Lemos, Coogan, Hezaveh, Perreault-Levasseur (2023), Sampling-Based Accuracy Testing of
        Posterior Estimators for General Inference, for TARP.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("x", dist.Normal(pyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=x)
    >>> def narrow(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.3))
    >>> found = calibration((model, narrow), torch.zeros(3))
    >>> found.shapes(), found.p_value < 0.001
    (['too narrow'], True)
    """
    if as_target(target, beta).beta != 1:
        raise ValueError(
            "target: calibration needs data whose posterior is the target, and the model draws "
            "data of p(z|x) alone; for a normal likelihood of fixed scale give the model with the "
            "scale times √β, else use importance(..., target='tempered', beta=β)"
        )
    if check_count(num_simulations, "num_simulations") < 2:
        raise ValueError("num_simulations: expected at least 2, got 1")
    check_count(num_samples, "num_samples")
    sampler = Sampler(pair, example(pair) if x is None else x, batch_size=batch_size)
    indices = torch.arange(num_simulations) % len(sampler)
    with sampler.running(seed):
        few = indices[:_REFERENCES].split(batch_size)
        points = torch.cat([truths(sampler, i)[0] for i in few])
        parts = [ranked(sampler, i, num_samples, points) for i in indices.split(batch_size)]
    marginal, distance = (torch.cat(some).cpu() for some in zip(*parts, strict=True))
    given = Target().given(sampler.layout.observed)
    return summarise(
        marginal, distance, num_samples=num_samples, names=names_of(sampler), target=given
    )


def summarise(
    marginal: Tensor,
    distance: Tensor,
    *,
    num_samples: int,
    names: Sequence[str],
    target: Target | None = None,
) -> Calibration:
    """Test ranks `[simulations, latents]` and distance ranks `[simulations]` for uniformity."""
    uniformity = uniformity_of(len(marginal), num_samples)
    p_values = uniformity.p_values(marginal)
    return Calibration(
        names=tuple(names),
        ranks=marginal,
        distance_ranks=distance,
        num_samples=num_samples,
        p_values=p_values,
        p_value=min(1.0, len(p_values) * float(p_values.min())),
        distance_p_value=uniformity.p_values(distance[:, None]).item(),
        uniformity=uniformity,
        target=target or Target(),
    )


def _shape(shift: float, spread: float) -> str:
    """Name a deviation from uniform ranks by the z-scores of their mean and spread."""
    if max(abs(shift), abs(spread)) < 2:
        return "misshapen"
    if abs(spread) > abs(shift):
        return "too narrow" if spread > 0 else "too wide"
    return "too low" if shift > 0 else "too high"


def _clopper_pearson(count: int, number: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a binomial share."""
    tail = (1 - level) / 2
    low = beta_distribution.ppf(tail, count, number - count + 1) if count else 0.0
    high = beta_distribution.isf(tail, count + 1, number - count) if count < number else 1.0
    return float(low), float(high)
