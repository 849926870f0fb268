"""The FactorVAE score: does one latent stand still when a factor is held?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_bvae.metrics.inputs import Array
from pyro_bvae.metrics.interventions import (
    Batches,
    Codebook,
    Encode,
    check_counts,
    check_grid,
    held_batches,
    uniform_points,
)
from pyro_bvae.metrics.score import Score, bootstrap_interval, check_seed


@dataclass(frozen=True, kw_only=True, eq=False)
class FactorVAEScore(Score):
    """The FactorVAE score: accuracy on the evaluation votes.

    Attributes:
        train_accuracy: on the votes that made the classifier.
        votes: evaluation votes of each latent for each factor, `[latents, factors]`.
        active: which latents vary enough to vote, `[latents]`.
    """

    train_accuracy: float
    votes: Array
    active: Array


def factor_vae_score(
    encode: Encode,
    factor_sizes: Sequence[int],
    *,
    train: int = 10_000,
    evaluation: int = 5_000,
    batch_size: int = 64,
    variance_points: int = 10_000,
    seed: int = 0,
) -> FactorVAEScore:
    """Accuracy of telling which factor a batch shares from the latent that varies least in it.

    A batch draws a factor uniformly and `batch_size` points on the grid that share its class; it
    votes for argmin_i Var(z_i in the batch) / Var(z_i), both with divisor n − 1, over active
    latents (standard deviation ≥ .05); latent i stands for the factor with most of its `train`
    votes; the score is the share of `evaluation` votes that come out right, 0 if no latent is
    active. A perfect code scores 1, chance is 1 / factors. Invariant to permuting, shifting and
    flipping latents, and to scaling them as long as the same ones stay active.

    Args:
        encode: class indices `[n, factors]` (an int64 tensor of distinct rows) to codes
            `[n, latents]`. Each distinct point is encoded once, in large batches.
        factor_sizes: the number of classes of each factor, ≥ 2; the grid is drawn uniformly.
        train: votes that make the classifier.
        evaluation: votes to score it on.
        batch_size: points in a batch, ≥ 2.
        variance_points: points that estimate the latents' variances.
        seed: of all draws and of the bootstrap over evaluation votes, the classifier held fixed.

    Returns: `FactorVAEScore`, the score between 0 and 1.

    Raises:
        ValueError: a factor of one class, counts too small, codes that are not finite
            `[n, latents]`.

    References:
        Kim, Mnih (2018), Disentangling by Factorising. Estimated as by Locatello et al. (2019).

    >>> factor_vae_score(lambda rows: rows, (3, 4), train=200, evaluation=100).score
    1.0
    """
    sizes = check_grid(factor_sizes)
    check_counts(train=train, evaluation=evaluation)
    check_counts(2, batch_size=batch_size, variance_points=variance_points)
    rng = np.random.default_rng(check_seed(seed))
    anywhere = uniform_points(sizes, variance_points, rng)
    batches = held_batches(sizes, train + evaluation, batch_size, rng)
    book = Codebook(encode, sizes, np.concatenate([anywhere, batches.points.ravel()]))
    variances = book.codes(anywhere).var(axis=0, ddof=1)
    active = np.sqrt(variances) >= 0.05
    if not active.any():
        nothing = np.zeros((len(active), len(sizes)), dtype=np.int64)
        return FactorVAEScore(
            score=0.0, interval=None, ceiling=1.0, train_accuracy=0.0, votes=nothing, active=active
        )
    winners = _winners(book, batches, np.where(active, variances, np.nan))
    table = _vote_table(winners[:train], batches.held[:train], len(active), len(sizes))
    hits = (table.argmax(axis=1)[winners] == batches.held).astype(np.float64)
    score = float(hits[train:].mean())
    return FactorVAEScore(
        score=score,
        interval=bootstrap_interval(
            lambda counts: float(counts @ hits[train:] / evaluation),
            evaluation,
            score=score,
            seed=seed,
        ),
        ceiling=1.0,
        train_accuracy=float(hits[:train].mean()),
        votes=_vote_table(winners[train:], batches.held[train:], len(active), len(sizes)),
        active=active,
    )


def _winners(book: Codebook, batches: Batches, variances: Array, chunk: int = 500) -> Array:
    """The latent of least relative variance in each batch, `[batches]`."""
    parts = []
    for i in range(0, len(batches.held), chunk):
        local = book.codes(batches.points[i : i + chunk]).var(axis=1, ddof=1)
        parts.append(np.nanargmin(local / variances, axis=1))
    return np.concatenate(parts)


def _vote_table(winners: Array, held: Array, latents: int, factors: int) -> Array:
    votes = np.zeros((latents, factors), dtype=np.int64)
    np.add.at(votes, (winners, held), 1)
    return votes
