"""What every metric returns, and the bootstrap interval it carries."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.inputs import Array

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Score:
    """A number with its uncertainty and the value to hold it against.

    Attributes:
        score: the metric.
        interval: 95 % bootstrap interval of `score`, or None where none would be honest.
        ceiling: the score of a perfect code on this data: the factors themselves, one latent each,
            their class indices as values (standardised where the metric minds the scale). Rarely
            1. An encoder of images that show several classes alike (a square turned by 90°) cannot
            reach it.
    """

    score: float
    interval: Interval | None
    ceiling: float


def bootstrap_interval(
    statistic: Callable[[Array], float],
    points: int,
    *,
    score: float,
    bounds: Interval = (0.0, 1.0),
    seed: int = 0,
    replicates: int = 100,
) -> Interval:
    """95 % interval of a statistic of `points` exchangeable points, from resampling them.

    score ± 1.96 sd of `statistic(counts)` over `replicates` draws of how often each point occurs,
    cut to `bounds`. The standard deviation, not the percentiles, because the replicates of a
    plug-in information are biased upwards.

    Raises: ValueError if `seed` is not a whole number ≥ 0.

    References:
        Efron, Tibshirani (1993), An Introduction to the Bootstrap, chapter 6.

    >>> values = np.arange(100.0)
    >>> low, high = bootstrap_interval(
    ...     lambda counts: float(counts @ values / 100), 100, score=49.5, bounds=(0.0, 99.0)
    ... )
    >>> 43 < low < 45 and 54 < high < 56
    True
    """
    draws = np.random.default_rng(check_seed(seed)).multinomial(
        points, np.full(points, 1.0 / points), size=replicates
    )
    width = 1.959964 * float(np.std([statistic(counts) for counts in draws], ddof=1))
    return max(bounds[0], score - width), min(bounds[1], score + width)


def perfect_code(factors: Array) -> Array:
    """The code that scores the ceiling: one latent for each factor, holding its class index.

    A single factor gets a constant latent beside it, for metrics that compare two.

    >>> perfect_code(np.array([[2], [3]])).tolist()
    [[2.0, 0.0], [3.0, 0.0]]
    """
    code = factors.astype(np.float64)
    return code if code.shape[1] > 1 else np.concatenate([code, np.zeros_like(code)], axis=1)


def check_seed(seed: int) -> int:
    """Return `seed` if it is a whole number ≥ 0, else raise ValueError."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: expected a whole number >= 0, got {seed!r}")
    return seed
