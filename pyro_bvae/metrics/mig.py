"""The mutual information gap."""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.information import (
    Contingency,
    count_entropy,
    discretise,
    table_information,
)
from pyro_bvae.metrics.inputs import Array, ArrayLike, codes_and_classes
from pyro_bvae.metrics.score import Score, bootstrap_interval, perfect_code


@dataclass(frozen=True, kw_only=True, eq=False)
class MIGScore(Score):
    """The mutual information gap.

    Attributes:
        gaps: of each factor, as a share of its entropy, `[factors]`.
        mutual_information: nats, `[latents, factors]`.
        entropy: of each factor in the sample, nats, `[factors]`.
    """

    gaps: Array
    mutual_information: Array
    entropy: Array


def mig(codes: ArrayLike, factors: ArrayLike, *, bins: int = 20, seed: int = 0) -> MIGScore:
    """Mutual information gap: how far each factor's best latent is ahead of its second.

    MIG = mean over factors j of (I_(1)j − I_(2)j) / H_j, where I_(1)j ≥ I_(2)j are the two largest
    entries of column j of `mutual_information_matrix`. Invariant to permuting, shifting and
    scaling latents, and to flipping them but for values on a bin's edge; not to warping or
    rotating them. The ceiling is below 1 where a factor has more classes than there are bins: .9024
    for dSprites (the class count 40 in 20 bins keeps ln 20 / ln 40).

    Args:
        codes: `[n, latents]`, at least 2 latents, usually posterior means of 10,000 points.
        factors: `[n, factors]`, class indices.
        bins: of equal width, in each latent.
        seed: of the bootstrap over points, the edges of the bins held fixed.

    Returns: `MIGScore`, the score between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d, finite and of one length, fewer than two latents, a
            factor that is not whole or has one class, `bins` < 2.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in Variational
        Autoencoders. Estimated as by Locatello et al. (2019).

    >>> rng = np.random.default_rng(0)
    >>> factors = rng.integers(0, 8, size=(2000, 2))
    >>> result = mig(factors + 0.1 * rng.normal(size=(2000, 2)), factors)
    >>> 0.8 < result.score < result.ceiling <= 1.0
    True
    """
    x, y = codes_and_classes(codes, factors, latents=2)
    contingency = Contingency(discretise(x, bins), y)
    tables = contingency.tables()
    gaps = _gaps(tables)
    score = float(gaps.mean())
    return MIGScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(_gaps(contingency.tables(counts)).mean()),
            len(x),
            score=score,
            seed=seed,
        ),
        ceiling=_ceiling(y, bins),
        gaps=gaps,
        mutual_information=table_information(tables),
        entropy=_factor_entropy(tables),
    )


def top_two_gap(matrix: Array) -> Array:
    """Largest entry less the second largest of each column of `[latents, factors]`."""
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - ordered[-2]


def _gaps(tables: Array) -> Array:
    gaps, nats = top_two_gap(table_information(tables)), _factor_entropy(tables)
    return np.divide(gaps, nats, out=np.zeros_like(gaps), where=nats > 0)


def _factor_entropy(tables: Array) -> Array:
    return count_entropy(tables[0].sum(-2))


def _ceiling(factors: Array, bins: int) -> float:
    tables = Contingency(discretise(perfect_code(factors), bins), factors).tables()
    return float(_gaps(tables).mean())
