"""The interventional robustness score."""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.information import discretise
from pyro_bvae.metrics.inputs import Array, ArrayLike, codes_and_classes, standardise
from pyro_bvae.metrics.score import Score, perfect_code, subsampling_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class IRSScore(Score):
    """The interventional robustness score.

    Attributes:
        robustness: of each latent to changes of every factor but one, `[latents, factors]`; 0 for
            a constant latent.
        parents: the factor that each latent follows, `[latents]`; −1 for a constant latent.
        largest_deviation: of each latent from its mean, `[latents]`, the weight of its robustness.
    """

    robustness: Array
    parents: Array
    largest_deviation: Array


def irs(
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    bins: int = 20,
    diff_quantile: float = 0.99,
    seed: int = 0,
) -> IRSScore:
    """Interventional robustness: how little a latent moves when its own factor is held.

    R_ij = 1 − mean_k Q_.99{|z_i − E(z_i | f_j = k)| : f_j = k} / max |z_i − E z_i|; the score is
    Σ_i d_i max_j R_ij / Σ_i d_i with d_i = max |z_i − E z_i|, over latents that vary; 0 if none
    does. The classes k are the factor's, cut into `bins` bins of equal width: a factor of more
    classes than bins keeps a perfect code below 1. Invariant to permuting, shifting and flipping
    latents, and to scaling them all together; scaling one changes its weight d_i. The maximum over
    factors and the sample's maximum d_i give noise a score well above 0 (.36 for a normal
    code on the factors of dSprites). As the bootstrap fails for a sample's maximum, the interval is
    that of a sample a tenth as large: wider than it need be.

    Args:
        codes: `[n, latents]`, usually posterior means of 10,000 points.
        factors: `[n, factors]`, class indices, drawn independently of each other.
        bins: of equal width, in each factor.
        diff_quantile: in (0, 1]; 1 is the maximum, the paper's definition.
        seed: of the subsamples of the interval.

    Returns: `IRSScore`, the score at most 1.

    Raises:
        ValueError: arrays that are not 2-d, finite and of one length, a factor that is not whole
            or has one class, `bins` < 2, a quantile outside (0, 1].

    References:
        Suter, Miladinović, Schölkopf, Bauer (2019), Robustly Disentangled Causal Mechanisms.
        Estimated as by Locatello et al. (2019).

    >>> factors = np.random.default_rng(0).integers(0, 8, size=(2000, 2))
    >>> irs(factors, factors).score
    1.0
    """
    x, y = codes_and_classes(codes, factors)
    if not 0.0 < diff_quantile <= 1.0:
        raise ValueError(f"diff_quantile: expected a number in (0, 1], got {diff_quantile!r}")
    groups = discretise(y.astype(np.float64), bins)
    largest = _largest_deviation(x)
    robustness = _robustness(x, groups, largest, diff_quantile)
    score = _weighted(robustness, largest)
    perfect = perfect_code(y)
    perfect = standardise(perfect, perfect)
    perfect_largest = _largest_deviation(perfect)

    def of_part(part: Array) -> float:
        deviation = _largest_deviation(x[part])
        return _weighted(_robustness(x[part], groups[part], deviation, diff_quantile), deviation)

    return IRSScore(
        score=score,
        interval=subsampling_interval(of_part, len(x), score=score, shrinks=False, seed=seed),
        ceiling=_weighted(
            _robustness(perfect, groups, perfect_largest, diff_quantile), perfect_largest
        ),
        robustness=robustness,
        parents=np.where(largest > 0, robustness.argmax(axis=1), -1),
        largest_deviation=largest,
    )


def _largest_deviation(codes: Array) -> Array:
    return np.where(np.ptp(codes, axis=0) > 0, np.abs(codes - codes.mean(0)).max(0), 0.0)


def _robustness(codes: Array, groups: Array, largest: Array, quantile: float) -> Array:
    spread = np.stack([_mean_spread(codes, group, quantile) for group in groups.T], axis=1)
    varying = largest[:, None] > 0
    return np.where(varying, 1.0 - spread / np.where(varying, largest[:, None], 1.0), 0.0)


def _mean_spread(codes: Array, group: Array, quantile: float) -> Array:
    """Mean over groups of the quantile of distances to the group's mean, `[latents]`."""
    spreads = []
    for k in np.unique(group):
        members = codes[group == k]
        spreads.append(np.quantile(np.abs(members - members.mean(0)), quantile, axis=0))
    return np.mean(spreads, axis=0)


def _weighted(robustness: Array, largest: Array) -> float:
    total = largest.sum()
    return float(robustness.max(axis=1) @ largest / total) if total > 0 else 0.0
