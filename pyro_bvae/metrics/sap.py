"""Separated attribute predictability."""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.classifiers import linear_svc
from pyro_bvae.metrics.inputs import Array, ArrayLike, standardise, training_and_test
from pyro_bvae.metrics.mig import top_two_gap
from pyro_bvae.metrics.score import Score, bootstrap_interval, perfect_code


@dataclass(frozen=True, kw_only=True, eq=False)
class SAPScore(Score):
    """Separated attribute predictability.

    Attributes:
        gaps: best less second-best accuracy for each factor, `[factors]`.
        accuracy: on the test points, of predicting each factor from each latent alone,
            `[latents, factors]`.
    """

    gaps: Array
    accuracy: Array


def sap(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    seed: int = 0,
) -> SAPScore:
    """How much better each factor's best latent predicts it than its second-best latent.

    SAP = mean over factors j of A_(1)j − A_(2)j, A_ij the test accuracy of
    `LinearSVC(C=0.01, class_weight="balanced")` given latent i alone. Invariant to permuting and
    flipping latents. **Not to shifting or scaling them**: the classifier penalises its weight and
    its intercept. The ceiling, of a standardised perfect code, is low, about .246 for dSprites: a
    linear classifier of one latent cannot single out each of many classes.

    Args:
        codes: `[n, latents]`, at least 2 latents, to fit the classifiers on.
        factors: `[n, factors]`, class indices.
        test_codes: `[m, latents]`, to score them on.
        test_factors: `[m, factors]`.
        seed: of the bootstrap over test points, the classifiers held fixed.

    Returns: `SAPScore`, the score between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d and finite or do not belong together, fewer than two
            latents, a factor that is not whole or has one class, a class that only the test
            sample has.

    References:
        Kumar, Sattigeri, Balakrishnan (2018), Variational Inference of Disentangled Latent
        Concepts from Unlabeled Observations. Estimated as by Locatello et al. (2019).

    >>> rng = np.random.default_rng(0)
    >>> factors = rng.integers(0, 2, size=(600, 2))
    >>> codes = 4.0 * factors - 2.0
    >>> sap(codes[:400], factors[:400], codes[400:], factors[400:]).accuracy.diagonal().tolist()
    [1.0, 1.0]
    """
    x, y, test_x, test_y = training_and_test(codes, factors, test_codes, test_factors, latents=2)
    hits = _hits(x, y, test_x, test_y)
    perfect, test_perfect = perfect_code(y), perfect_code(test_y)
    perfect_hits = _hits(
        standardise(perfect, perfect), y, standardise(test_perfect, perfect), test_y
    )
    accuracy = hits.mean(axis=-1)
    gaps = top_two_gap(accuracy)
    score = float(gaps.mean())
    return SAPScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(top_two_gap(hits @ counts / len(test_x)).mean()),
            len(test_x),
            score=score,
            seed=seed,
        ),
        ceiling=float(top_two_gap(perfect_hits.mean(axis=-1)).mean()),
        gaps=gaps,
        accuracy=accuracy,
    )


def _hits(codes: Array, factors: Array, test_codes: Array, test_factors: Array) -> Array:
    """Which test points are predicted rightly, 0 or 1, `[latents, factors, m]`."""
    hits = np.empty((codes.shape[1], *test_factors.T.shape))
    for i in range(codes.shape[1]):
        for j in range(factors.shape[1]):
            classifier = linear_svc(codes[:, i : i + 1], factors[:, j])
            hits[i, j] = classifier.predict(test_codes[:, i : i + 1]) == test_factors[:, j]
    return hits
