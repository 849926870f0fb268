"""The mutual information gap."""

from dataclasses import dataclass

import numpy as np
from sklearn.feature_selection import mutual_info_classif

from pyro_bvae.metrics.information import (
    Contingency,
    count_entropy,
    discretise,
    entropy,
    table_information,
)
from pyro_bvae.metrics.inputs import Array, ArrayLike, codes_and_classes
from pyro_bvae.metrics.score import (
    Score,
    bootstrap_interval,
    check_seed,
    perfect_code,
    subsampling_interval,
)


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


def mig_knn(
    codes: ArrayLike, factors: ArrayLike, *, neighbours: int = 3, seed: int = 0
) -> MIGScore:
    """`mig` with nearest neighbours in place of bins; not comparable with it.

    I_ij = ψ(n) + ψ(k) − ⟨ψ(n_class)⟩ − ⟨ψ(m)⟩, where m counts the points no farther from a point
    than the k-th nearest of its own class. No bins, so a smooth monotone warp of a latent hardly
    matters, a factor of many classes loses nothing, and noise tells nothing but for a variance.
    Meant for continuous latents: of one that takes few values it keeps less. The interval is from
    subsamples, as a point drawn twice would have itself for a neighbour.

    Args:
        codes: `[n, latents]`, at least 2 latents.
        factors: `[n, factors]`, class indices.
        neighbours: k; classes of k points or fewer are estimated with fewer.
        seed: of the jitter of 1e-10 that parts equal values, and of the subsamples.

    Returns: `MIGScore`, the score between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d, finite and of one length, fewer than two latents, a
            factor that is not whole or has one class, `neighbours` < 1.

    References:
        Ross (2014), Mutual Information between Discrete and Continuous Data Sets.

    >>> rng = np.random.default_rng(0)
    >>> factors = rng.integers(0, 8, size=(500, 2))
    >>> result = mig_knn(factors + 0.1 * rng.uniform(size=(500, 2)), factors)
    >>> 0.9 < result.score <= 1.0
    True
    """
    x, y = codes_and_classes(codes, factors, latents=2)
    if isinstance(neighbours, bool) or not isinstance(neighbours, int) or neighbours < 1:
        raise ValueError(f"neighbours: expected a whole number >= 1, got {neighbours!r}")
    check_seed(seed)
    nats = entropy(y)
    information = _knn_information(x, y, neighbours, seed)
    gaps = _knn_gaps(information, nats)
    score = float(gaps.mean())
    perfect = _knn_information(perfect_code(y), y, neighbours, seed)

    def of_part(part: Array) -> float:
        return float(_knn_gaps(_knn_information(x[part], y[part], neighbours, seed), nats).mean())

    return MIGScore(
        score=score,
        interval=subsampling_interval(of_part, len(x), score=score, seed=seed),
        ceiling=float(_knn_gaps(perfect, nats).mean()),
        gaps=gaps,
        mutual_information=information,
        entropy=nats,
    )


def top_two_gap(matrix: Array) -> Array:
    """Largest entry less the second largest of each column of `[latents, factors]`."""
    ordered = np.sort(matrix, axis=0)
    return ordered[-1] - ordered[-2]


def _gaps(tables: Array) -> Array:
    gaps, nats = top_two_gap(table_information(tables)), _factor_entropy(tables)
    return np.divide(gaps, nats, out=np.zeros_like(gaps), where=nats > 0)


def _knn_gaps(information: Array, nats: Array) -> Array:
    return np.minimum(top_two_gap(information) / nats, 1.0)


def _factor_entropy(tables: Array) -> Array:
    return count_entropy(tables[0].sum(-2))


def _ceiling(factors: Array, bins: int) -> float:
    tables = Contingency(discretise(perfect_code(factors), bins), factors).tables()
    return float(_gaps(tables).mean())


def _knn_information(codes: Array, factors: Array, neighbours: int, seed: int) -> Array:
    """Nats `[latents, factors]`; 0 for a constant latent, which jitter would make noise."""
    information = np.zeros((codes.shape[1], factors.shape[1]))
    varying = np.ptp(codes, axis=0) > 0
    if varying.any():
        information[varying] = np.stack(
            [
                mutual_info_classif(
                    codes[:, varying],
                    classes,
                    discrete_features=False,
                    n_neighbors=neighbours,
                    random_state=seed,
                )
                for classes in factors.T
            ],
            axis=1,
        )
    return information
