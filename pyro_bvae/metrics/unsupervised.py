"""How far the latents are from independent, with no factors known. Lower is better."""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.information import Contingency, discretise, table_information
from pyro_bvae.metrics.inputs import Array, ArrayLike, as_matrix, standardise
from pyro_bvae.metrics.score import Score, bootstrap_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class TotalCorrelationScore(Score):
    """Total correlation of a Gaussian with the codes' covariance, nats; 0 at best.

    Attributes:
        correlation: of the latents that vary, `[varying, varying]`.
    """

    correlation: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class PairwiseInformationScore(Score):
    """Mean mutual information of two latents, nats; 0 at best.

    Attributes:
        mutual_information: nats, `[latents, latents]`, the diagonal that of each with itself.
    """

    mutual_information: Array


def total_correlation_score(codes: ArrayLike, *, seed: int = 0) -> TotalCorrelationScore:
    """Total correlation of the Gaussian that has the covariance of the codes.

    TC = ½ (Σ_i ln C_ii − ln det C) = −½ ln det R, C the covariance and R the correlation of the
    latents; constant latents count as independent; infinite if one latent is a linear function of
    the others. Lower is better: 0 for uncorrelated latents, hence `ceiling` 0. Invariant to
    permuting, shifting, scaling and flipping latents.

    Args:
        codes: `[n, latents]`, usually posterior means of 10,000 points.
        seed: of the bootstrap over points.

    Returns: `TotalCorrelationScore`, nats; no interval where the score is infinite.

    Raises:
        ValueError: the array is not 2-d and finite.

    References:
        Watanabe (1960), Information Theoretical Analysis of Multivariate Correlation; as a score
        by Locatello et al. (2019).

    >>> codes = np.random.default_rng(0).normal(size=(2000, 1)) * np.array([1.0, 0.0])
    >>> total_correlation_score(codes).score
    0.0
    """
    x = as_matrix(codes, "codes")
    x = x[:, np.ptp(x, axis=0) > 0]
    x = standardise(x, x)
    everyone = np.ones(len(x))
    score = _total_correlation(_correlation(x, everyone))
    return TotalCorrelationScore(
        score=score,
        interval=None
        if np.isinf(score)
        else bootstrap_interval(
            lambda counts: _total_correlation(_correlation(x, counts)),
            len(x),
            score=score,
            bounds=(0.0, np.inf),
            seed=seed,
        ),
        ceiling=0.0,
        correlation=_correlation(x, everyone),
    )


def pairwise_information_score(
    codes: ArrayLike, *, bins: int = 20, seed: int = 0
) -> PairwiseInformationScore:
    """Mean mutual information of two different latents, both cut into bins.

    Σ_{i≠j} I_ij / (L (L − 1)), I as in `mutual_information_matrix`. Lower is better, hence
    `ceiling` 0; independent latents get about (bins − 1)² / 2n by its bias. Invariant as `mig`.

    Args:
        codes: `[n, latents]`, at least 2 latents, usually posterior means of 10,000 points.
        bins: of equal width, in each latent.
        seed: of the bootstrap over points, the edges of the bins held fixed.

    Returns: `PairwiseInformationScore`, nats.

    Raises:
        ValueError: the array is not 2-d and finite, has one latent, or `bins` < 2.

    References:
        Locatello et al. (2019), Challenging Common Assumptions in the Unsupervised Learning of
        Disentangled Representations.

    >>> column = np.arange(4000)[:, None]
    >>> score = pairwise_information_score(np.concatenate([column, -column], axis=1)).score
    >>> round(score, 3) == round(float(np.log(20)), 3)
    True
    """
    x = as_matrix(codes, "codes")
    if x.shape[1] < 2:
        raise ValueError("codes: expected at least 2 latents to compare, got 1")
    binned = discretise(x, bins)
    contingency = Contingency(binned, binned)
    information = table_information(contingency.tables())
    score = _off_diagonal_mean(information)
    return PairwiseInformationScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: _off_diagonal_mean(table_information(contingency.tables(counts))),
            len(x),
            score=score,
            bounds=(0.0, np.inf),
            seed=seed,
        ),
        ceiling=0.0,
        mutual_information=information,
    )


def _correlation(codes: Array, counts: Array) -> Array:
    weights = counts[:, None] / counts.sum()
    centred = codes - (weights * codes).sum(0)
    covariance = centred.T @ (weights * centred)
    deviation = np.sqrt(np.maximum(covariance.diagonal(), np.finfo(np.float64).tiny))
    return covariance / deviation / deviation[:, None]


def _total_correlation(correlation: Array) -> float:
    if not correlation.size:
        return 0.0
    spectrum = np.linalg.eigvalsh(correlation)
    if spectrum[0] < 100 * len(spectrum) * np.finfo(np.float64).eps:
        return float(np.inf)
    return max(0.0, -0.5 * float(np.log(spectrum).sum()))


def _off_diagonal_mean(matrix: Array) -> float:
    size = len(matrix)
    return float((matrix.sum() - matrix.trace()) / (size * (size - 1)))
