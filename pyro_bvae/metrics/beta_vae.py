"""The β-VAE score: can the held factor be told from how little the latents differ?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.classifiers import logistic_regression
from pyro_bvae.metrics.inputs import Array
from pyro_bvae.metrics.interventions import (
    Batches,
    Codebook,
    Encode,
    check_counts,
    check_grid,
    held_pairs,
)
from pyro_bvae.metrics.score import Score, bootstrap_interval, check_seed


@dataclass(frozen=True, kw_only=True, eq=False)
class BetaVAEScore(Score):
    """The β-VAE score: accuracy on the evaluation batches.

    Attributes:
        train_accuracy: on the batches the classifier was fitted on.
        confusion: how many evaluation batches held factor j and were told as factor k,
            `[factors, factors]`.
    """

    train_accuracy: float
    confusion: Array


def beta_vae_score(
    encode: Encode,
    factor_sizes: Sequence[int],
    *,
    train: int = 10_000,
    evaluation: int = 5_000,
    batch_size: int = 64,
    seed: int = 0,
) -> BetaVAEScore:
    """Accuracy of telling which factor pairs of points share from how much their codes differ.

    A batch draws a factor uniformly and `batch_size` pairs on the grid that share its class; its
    features are mean |z₁ − z₂|, `[latents]`. Logistic regression (scikit-learn's
    `LogisticRegression()`) is fitted to `train` batches and scored on `evaluation` others. A
    perfect code scores 1, chance is 1 / factors. Invariant to permuting, shifting and flipping
    latents; **not to scaling them**, as the regression is regularised; easily near 1 for rotated
    codes of few factors.

    Args:
        encode: class indices `[n, factors]` (an int64 tensor of distinct rows) to codes
            `[n, latents]`. Each distinct point is encoded once, in large batches.
        factor_sizes: the number of classes of each factor, ≥ 2; the grid is drawn uniformly.
        train: batches to fit the classifier on.
        evaluation: batches to score it on.
        batch_size: pairs in a batch.
        seed: of the batches and of the bootstrap over evaluation batches, the classifier held
            fixed.

    Returns: `BetaVAEScore`, the score between 0 and 1.

    Raises:
        ValueError: a factor of one class, counts below 1, codes that are not finite `[n, latents]`.

    References:
        Higgins et al. (2017), beta-VAE: Learning Basic Visual Concepts with a Constrained
        Variational Framework. Estimated as by Locatello et al. (2019).

    >>> beta_vae_score(lambda rows: rows, (3, 4), train=200, evaluation=100).score
    1.0
    """
    sizes = check_grid(factor_sizes)
    check_counts(train=train, evaluation=evaluation, batch_size=batch_size)
    rng = np.random.default_rng(check_seed(seed))
    first, second = held_pairs(sizes, train + evaluation, batch_size, rng)
    book = Codebook(encode, sizes, np.concatenate([first.points, second.points]))
    features = _differences(book, first, second)
    classifier = logistic_regression(features[:train], first.held[:train])
    told, held = classifier.predict(features), first.held
    hits = (told == held)[train:].astype(np.float64)
    score = float(hits.mean())
    confusion = np.zeros((len(sizes), len(sizes)), dtype=np.int64)
    np.add.at(confusion, (held[train:], told[train:]), 1)
    return BetaVAEScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(counts @ hits / evaluation), evaluation, score=score, seed=seed
        ),
        ceiling=1.0,
        train_accuracy=float((told == held)[:train].mean()),
        confusion=confusion,
    )


def _differences(book: Codebook, first: Batches, second: Batches, chunk: int = 500) -> Array:
    """Mean absolute difference of the pairs of each batch, `[batches, latents]`."""
    parts = []
    for i in range(0, len(first.held), chunk):
        rows = slice(i, i + chunk)
        apart = book.codes(first.points[rows]) - book.codes(second.points[rows])
        parts.append(np.abs(apart).mean(axis=1))
    return np.concatenate(parts)
