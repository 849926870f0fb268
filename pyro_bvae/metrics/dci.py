"""Disentanglement, completeness, informativeness."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from joblib import Parallel, cpu_count, delayed
from sklearn.ensemble import RandomForestClassifier

from pyro_bvae.metrics.boosting import Fitted, boost
from pyro_bvae.metrics.histograms import HistogramGrower
from pyro_bvae.metrics.information import count_entropy
from pyro_bvae.metrics.inputs import Array, ArrayLike, as_matrix, training_and_test
from pyro_bvae.metrics.score import (
    Interval,
    Score,
    around,
    bootstrap_interval,
    check_seed,
    subsampling_deviations,
)

_WORTH_PROCESSES = 300_000


@dataclass(frozen=True, kw_only=True, eq=False)
class DCIScore(Score):
    """Disentanglement (the score), completeness and informativeness.

    Attributes:
        completeness: weighted mean over factors of 1 − entropy of the latents that predict it.
        completeness_interval: as `interval`, None where that is.
        informativeness: accuracy on the test points, mean over factors.
        informativeness_interval: 95 % bootstrap interval over test points, the trees held fixed.
        train_informativeness: accuracy on the points the trees were fitted on.
        importance: of each latent in predicting each factor, columns sum to 1,
            `[latents, factors]`.
        disentanglements: of each latent, `[latents]`.
        completenesses: of each factor, `[factors]`.
    """

    completeness: float
    completeness_interval: Interval | None
    informativeness: float
    informativeness_interval: Interval
    train_informativeness: float
    importance: Array
    disentanglements: Array
    completenesses: Array


def dci(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    refits: int = 0,
    seed: int = 0,
) -> DCIScore:
    """Disentanglement, completeness and informativeness from gradient-boosted trees.

    `boosting` predicts each factor from all latents; R_ij is the importance of latent i for factor
    j. D = Σ_i ρ_i (1 − H_F(R_i·)), C = Σ_j ρ_j (1 − H_L(R_·j)), H the entropy of the normalised row
    (column) in base F factors (L latents), ρ its share of Σ R; I is the test accuracy. A perfect
    code has the identity for R: the ceilings are 1, I's only where images tell all classes apart.
    Invariant to permuting, shifting, scaling and flipping latents, but for the seed's choice
    between equally good splits (a few thousandths), and as long as float32 and 1e-7 tell their
    values apart. The intervals of D and C cost refits: ask for them with `refits`. Large
    samples are fitted by a process for each core, one factor at a time, with the same result.

    Args:
        codes: `[n, latents]`, at least 2 latents, usually posterior means of 10,000 points.
        factors: `[n, factors]`, class indices, at least 2 factors.
        test_codes: `[m, latents]`, usually of 5,000 points.
        test_factors: `[m, factors]`.
        refits: to random quarters of the points, for the intervals of D and C; 0 for none, else
            2 or more: eight cost about twice the rest.
        seed: of the choice between equally good splits, and of the intervals.

    Returns: `DCIScore`, all between 0 and 1.

    Raises:
        ValueError: arrays that are not 2-d and finite or do not belong together, fewer than two
            latents or factors, a factor that is not whole or has one class, a class that only the
            test sample has.

    References:
        Eastwood, Williams (2018), A Framework for the Quantitative Evaluation of Disentangled
        Representations. Estimated as by Locatello et al. (2019).

    >>> factors = np.random.default_rng(0).integers(0, 3, size=(300, 2))
    >>> result = dci(factors[:200], factors[:200], factors[200:], factors[200:])
    >>> round(result.score, 6), round(result.completeness, 6), result.informativeness
    (1.0, 1.0, 1.0)
    """
    return _dci(codes, factors, test_codes, test_factors, fit=boost, refits=refits, seed=seed)


def dci_forest(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    refits: int = 0,
    seed: int = 0,
) -> DCIScore:
    """`dci` with random forests of 100 trees in place of boosting; not comparable with it.

    Arguments, result and errors as `dci`.

    References:
        Breiman (2001), Random Forests.

    >>> factors = np.random.default_rng(0).integers(0, 3, size=(300, 2))
    >>> dci_forest(factors[:200], factors[:200], factors[200:], factors[200:]).score > 0.8
    True
    """
    return _dci(codes, factors, test_codes, test_factors, fit=_forest, refits=refits, seed=seed)


def dci_histogram(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    refits: int = 0,
    seed: int = 0,
) -> DCIScore:
    """`dci` with each latent cut into 128 quantile bins: faster, and nearly the same.

    Equal to `dci` where no latent has more than 128 values. Arguments, result and errors as `dci`.

    References:
        Ke et al. (2017), LightGBM: A Highly Efficient Gradient Boosting Decision Tree.

    >>> factors = np.random.default_rng(0).integers(0, 3, size=(300, 2))
    >>> result = dci_histogram(factors[:200], factors[:200], factors[200:], factors[200:])
    >>> round(result.score, 6), round(result.completeness, 6), result.informativeness
    (1.0, 1.0, 1.0)
    """
    fit = partial(boost, growing=HistogramGrower)
    return _dci(codes, factors, test_codes, test_factors, fit=fit, refits=refits, seed=seed)


def disentanglement(importance: ArrayLike) -> float:
    """Σ_i ρ_i (1 − H(row i)) of an importance matrix `[latents, factors]`, 0 if it is all 0.

    The completeness is the disentanglement of the transposed matrix.

    >>> round(disentanglement(np.eye(3)), 6), round(disentanglement(np.ones((4, 3))), 6)
    (1.0, 0.0)
    """
    matrix = as_matrix(importance, "importance", rows=1)
    if matrix.shape[1] < 2 or (matrix < 0).any():
        raise ValueError(
            "importance: expected numbers >= 0 in at least two columns, got shape "
            f"{matrix.shape} and a least value of {matrix.min():.3g}"
        )
    total = matrix.sum()
    weights = matrix.sum(axis=1) / total if total > 0 else np.full(len(matrix), 1 / len(matrix))
    return float(np.clip(weights @ _row_disentanglements(matrix), 0.0, 1.0))


def _dci(
    codes: ArrayLike,
    factors: ArrayLike,
    test_codes: ArrayLike,
    test_factors: ArrayLike,
    *,
    fit: Callable[..., Fitted],
    refits: int,
    seed: int,
) -> DCIScore:
    x, y, test_x, test_y = training_and_test(codes, factors, test_codes, test_factors, latents=2)
    if y.shape[1] < 2:
        raise ValueError("factors: expected at least 2 factors to compare, got 1")
    check_seed(seed)
    if isinstance(refits, bool) or not isinstance(refits, int) or refits < 0 or refits == 1:
        raise ValueError(f"refits: expected 0, or a whole number >= 2, got {refits!r}")
    fits = _fit_each(partial(fit, x, test_points=test_x, seed=seed), y)
    importance = _importance(fits)
    hits = np.stack([f.test_predicted for f in fits], axis=1) == test_y
    train_hits = np.stack([f.predicted for f in fits], axis=1) == y
    accuracy = float(hits.mean())
    both = [disentanglement(importance), disentanglement(importance.T)]
    intervals = _intervals(fit, x, y, both, refits=refits, seed=seed)
    return DCIScore(
        score=both[0],
        interval=intervals[0],
        ceiling=1.0,
        completeness=both[1],
        completeness_interval=intervals[1],
        informativeness=accuracy,
        informativeness_interval=bootstrap_interval(
            lambda counts: float(counts @ hits.mean(axis=1) / len(hits)),
            len(hits),
            score=accuracy,
            seed=seed,
        ),
        train_informativeness=float(train_hits.mean()),
        importance=importance,
        disentanglements=_row_disentanglements(importance),
        completenesses=_row_disentanglements(importance.T),
    )


def _fit_each(fit: Callable[..., Fitted], factors: Array) -> list[Fitted]:
    """Fit each factor, that of most classes first, in processes where the work is worth them."""
    classes = np.array([len(np.unique(column)) for column in factors.T])
    order = np.argsort(-classes, kind="stable")
    worth = len(factors) * int(classes.sum()) >= _WORTH_PROCESSES
    fits = Parallel(n_jobs=min(cpu_count(), len(order)) if worth else 1, max_nbytes=None)(
        delayed(fit)(classes=factors[:, j]) for j in order
    )
    return [fits[place] for place in np.argsort(order)]


def _intervals(
    fit: Callable[..., Fitted], x: Array, y: Array, scores: list[float], *, refits: int, seed: int
) -> list[Interval | None]:
    """The intervals of D and C from trees refitted to quarters of the points."""
    if not refits:
        return [None, None]

    def of_part(part: Array) -> list[float]:
        fits = _fit_each(partial(fit, x[part], test_points=x[:1], seed=seed), y[part])
        importance = _importance(fits)
        return [disentanglement(importance), disentanglement(importance.T)]

    deviations = subsampling_deviations(
        of_part, len(x), part=max(len(x) // 4, 1), replicates=refits, seed=seed
    )
    return [around(*pair) for pair in zip(scores, deviations, strict=True)]


def _importance(fits: list[Fitted]) -> Array:
    return np.stack([f.importance for f in fits], axis=1)


def _row_disentanglements(importance: Array) -> Array:
    return 1.0 - count_entropy(importance + 1e-11) / np.log(importance.shape[1])


def _forest(points: Array, classes: Array, *, test_points: Array, seed: int) -> Fitted:
    model = RandomForestClassifier(n_estimators=100, random_state=seed).fit(points, classes)
    return Fitted(model.feature_importances_, model.predict(points), model.predict(test_points))
