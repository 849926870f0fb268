"""Modularity: does each latent tell of one factor only?"""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.information import Contingency, discretise, table_information
from pyro_bvae.metrics.inputs import Array, ArrayLike, codes_and_classes
from pyro_bvae.metrics.score import Score, bootstrap_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class ModularityScore(Score):
    """Modularity.

    Attributes:
        modularities: of each latent, `[latents]`; 0 for one that tells nothing.
        mutual_information: nats, `[latents, factors]`.
    """

    modularities: Array
    mutual_information: Array


def modularity(
    codes: ArrayLike, factors: ArrayLike, *, bins: int = 20, seed: int = 0
) -> ModularityScore:
    """Modularity: the share of a latent's squared information that one factor holds.

    m_i = 1 − (Σ_j I_ij² − max_j I_ij²) / ((F − 1) max_j I_ij²), 0 if I_i is 0 everywhere; the score
    is the mean over latents. Invariant as `mig`. A latent of pure noise still has a most
    informative factor by the bias of I, larger for factors of more classes: noise against the
    factors of dSprites scores .65, not 0.

    Args:
        codes: `[n, latents]`, usually posterior means of 10,000 points.
        factors: `[n, factors]`, class indices, at least 2 factors.
        bins: of equal width, in each latent.
        seed: of the bootstrap over points, the edges of the bins held fixed.

    Returns: `ModularityScore`, the score between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d, finite and of one length, fewer than two factors, a
            factor that is not whole or has one class, `bins` < 2.

    References:
        Ridgeway, Mozer (2018), Learning Deep Disentangled Embeddings with the F-Statistic Loss.
        Estimated as by Locatello et al. (2019).

    >>> factors = np.random.default_rng(0).integers(0, 8, size=(2000, 2))
    >>> modularity(factors, factors).score > 0.999
    True
    """
    x, y = codes_and_classes(codes, factors)
    if y.shape[1] < 2:
        raise ValueError("factors: expected at least 2 factors to compare, got 1")
    contingency = Contingency(discretise(x, bins), y)
    information = table_information(contingency.tables())
    modularities = _modularities(information)
    score = float(modularities.mean())
    return ModularityScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(
                _modularities(table_information(contingency.tables(counts))).mean()
            ),
            len(x),
            score=score,
            seed=seed,
        ),
        ceiling=_ceiling(y, bins),
        modularities=modularities,
        mutual_information=information,
    )


def _modularities(information: Array) -> Array:
    squared = information**2
    largest = squared.max(axis=1)
    rest = (squared.sum(axis=1) - largest) / (squared.shape[1] - 1)
    return np.where(largest > 0, 1.0 - rest / np.where(largest > 0, largest, 1.0), 0.0)


def _ceiling(factors: Array, bins: int) -> float:
    tables = Contingency(discretise(factors.astype(np.float64), bins), factors).tables()
    return float(_modularities(table_information(tables)).mean())
