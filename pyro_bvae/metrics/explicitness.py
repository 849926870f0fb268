"""Explicitness: can each factor be read from the latents by a linear classifier?"""

from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.classifiers import logistic_regression
from pyro_bvae.metrics.inputs import Array, ArrayLike, standardise, training_and_test
from pyro_bvae.metrics.score import Score, bootstrap_interval


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplicitnessScore(Score):
    """Explicitness.

    Attributes:
        areas: the mean area under the ROC curve of each factor's classes, `[factors]`.
    """

    areas: Array


def explicitness(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    seed: int = 0,
) -> ExplicitnessScore:
    """Explicitness: how well a linear classifier on all latents ranks the classes of each factor.

    Mean over factors, and over the classes of each, of the area under the one-against-rest ROC
    curve of multinomial logistic regression (scikit-learn's `LogisticRegression()`, 100
    iterations at most) on latents standardised by the first sample. Chance is .5. Invariant to
    permuting, shifting, scaling and flipping latents.

    Args:
        codes: `[n, latents]`, to fit the classifier on.
        factors: `[n, factors]`, class indices.
        test_codes: `[m, latents]`, to score it on.
        test_factors: `[m, factors]`.
        seed: of the bootstrap over test points, the classifiers held fixed.

    Returns: `ExplicitnessScore`, the score between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d and finite or do not belong together, a factor that is
            not whole or has one class, a class that only the test sample has.

    References:
        Ridgeway, Mozer (2018), Learning Deep Disentangled Embeddings with the F-Statistic Loss.
        Estimated as by Locatello et al. (2019).

    >>> rng = np.random.default_rng(0)
    >>> factors = rng.integers(0, 3, size=(600, 2))
    >>> result = explicitness(factors[:400], factors[:400], factors[400:], factors[400:])
    >>> result.score == result.ceiling > 0.95
    True
    """
    x, y, test_x, test_y = training_and_test(codes, factors, test_codes, test_factors)
    curves = _curves(x, y, test_x, test_y)
    areas = _areas(curves, np.ones(len(test_x)))
    score = float(areas.mean())
    return ExplicitnessScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(_areas(curves, counts).mean()),
            len(test_x),
            score=score,
            seed=seed,
        ),
        ceiling=float(_areas(_curves(y, y, test_y, test_y), np.ones(len(test_x))).mean()),
        areas=areas,
    )


class RankedClasses:
    """Test points ranked by the scores of several one-against-rest classifiers.

    Args:
        scores: of each class, `[n, classes]`.
        positive: which points are of each class, boolean `[n, classes]`.

    >>> positive = np.array([[False], [True], [False]])
    >>> ranked = RankedClasses(np.array([[0.1], [0.2], [0.2]]), positive)
    >>> ranked.areas(np.ones(3)).tolist()
    [0.75]
    """

    def __init__(self, scores: Array, positive: Array) -> None:
        self.positive = positive
        self.levels = np.stack([np.unique(s, return_inverse=True)[1] for s in scores.T], axis=1)
        self.cells = (self.levels + len(scores) * np.arange(scores.shape[1])).ravel()

    def areas(self, counts: Array) -> Array:
        """Area under each ROC curve `[classes]`, NaN for one without positives or negatives.

        The share of pairs of a positive and a negative that are ranked rightly, ties half, each
        point counted `counts` `[n]` times.
        """
        weights = np.broadcast_to(counts[:, None], self.positive.shape)
        positive = self._by_level(weights * self.positive)
        negative = self._by_level(weights * ~self.positive)
        right = (positive * (negative.cumsum(1) - 0.5 * negative)).sum(1)
        pairs = positive.sum(1) * negative.sum(1)
        return np.divide(right, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    def _by_level(self, weights: Array) -> Array:
        points, classes = self.positive.shape
        flat = np.bincount(self.cells, weights.ravel(), minlength=points * classes)
        return flat.reshape(classes, points)


def _curves(
    codes: Array, factors: Array, test_codes: Array, test_factors: Array
) -> list[RankedClasses]:
    x, test_x = standardise(codes, codes), standardise(test_codes, codes)
    curves = []
    for classes, test_classes in zip(factors.T, test_factors.T, strict=True):
        classifier = logistic_regression(x, classes)
        scores = classifier.predict_proba(test_x)
        curves.append(RankedClasses(scores, test_classes[:, None] == classifier.classes_))
    return curves


def _areas(curves: list[RankedClasses], counts: Array) -> Array:
    """Mean area of each factor's classes; chance where a small sample holds one class only."""
    areas = [ranked.areas(counts) for ranked in curves]
    return np.array([np.nanmean(a) if np.isfinite(a).any() else 0.5 for a in areas])
