"""What every metric returns, and the interval it carries."""

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
        interval: 95 % interval of `score`, or None where none would be honest. The metric's own
            docstring says what it was resampled from.
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
    deviation = float(np.std([statistic(counts) for counts in draws], ddof=1))
    return around(score, deviation, bounds)


def subsampling_interval(
    statistic: Callable[[Array], float],
    points: int,
    *,
    score: float,
    shrinks: bool = True,
    seed: int,
) -> Interval | None:
    """95 % interval in [0, 1] of a statistic that bears no repeated points, from a tenth of them.

    score ± 1.96 sd, by `subsampling_deviations` of 20 parts. A statistic whose sd falls slower than
    1/√n, as one of a sample's maximum does, is not to be shrunk to n points: that is wide. None
    below 200 points.

    >>> values = np.arange(1000) / 1000
    >>> mean = lambda indices: float(values[indices].mean())
    >>> low, high = subsampling_interval(mean, 1000, score=mean(slice(None)), seed=0)
    >>> bool(0.02 < high - low < 0.06)
    True
    """
    if points < 200:
        return None
    part = points // 10
    (deviation,) = subsampling_deviations(
        lambda indices: [statistic(indices)], points, part=part, replicates=20, seed=seed
    )
    return around(score, deviation if shrinks else deviation * np.sqrt((points - part) / part))


def subsampling_deviations(
    statistics: Callable[[Array], list[float]],
    points: int,
    *,
    part: int,
    replicates: int,
    seed: int,
) -> Array:
    """Standard deviations of statistics of `points` exchangeable points, from parts of them.

    s √(m / (n − m)), s their sd over `replicates` draws of m = `part` of n points without
    replacement.

    Raises: ValueError if `seed` is not a whole number ≥ 0.

    References:
        Politis, Romano, Wolf (1999), Subsampling, chapter 2.

    >>> values = np.arange(1000) / 1000
    >>> subsampling_deviations(
    ...     lambda indices: [values[indices].mean()], 1000, part=100, replicates=200, seed=0
    ... ).round(3)
    array([0.009])
    """
    rng = np.random.default_rng(check_seed(seed))
    draws = [statistics(rng.permutation(points)[:part]) for _ in range(replicates)]
    return np.std(draws, axis=0, ddof=1) * np.sqrt(part / (points - part))


def jackknife_interval(without_one: Array, *, score: float) -> Interval | None:
    """95 % interval in [0, 1] of a score of M units, from the scores without each one, `[M]`.

    score ± 1.96 s with s² = (M − 1)/M Σ (score without m − their mean)². None below three units.

    References:
        Efron, Tibshirani (1993), An Introduction to the Bootstrap, chapter 11.

    >>> low, high = jackknife_interval(np.array([0.5, 0.6, 0.7]), score=0.6)
    >>> round(low, 3), round(high, 3)
    (0.374, 0.826)
    """
    units = len(without_one)
    if units < 3:
        return None
    return around(score, float(np.sqrt((units - 1) * np.var(without_one))))


def around(score: float, deviation: float, bounds: Interval = (0.0, 1.0)) -> Interval:
    """score ± 1.96 sd, cut to `bounds`.

    >>> around(0.5, 0.5)
    (0.0, 1.0)
    """
    width = 1.959964 * deviation
    return float(max(bounds[0], score - width)), float(min(bounds[1], score + width))


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
