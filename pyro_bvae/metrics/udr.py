"""Unsupervised disentanglement ranking: do models of other seeds find the same latents?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Lasso

from pyro_bvae.metrics.inputs import Array, ArrayLike, as_matrix, standardise
from pyro_bvae.metrics.score import Score, jackknife_interval

_LASSO_PENALTY = 0.1
_LEAST_KL = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class UDRScore(Score):
    """Unsupervised disentanglement ranking; the score is the mean over models.

    Attributes:
        model_scores: the median of each model's pairs, `[models]`: what ranks the models.
        pairs: agreement of each ordered pair, first model predicting second, `[models, models]`,
            0 on the diagonal.
        similarity: of the informative latents of each pair, `similarity[i][j]` of shape
            `[informative in i, informative in j]`; None for a model with itself.
    """

    model_scores: Array
    pairs: Array
    similarity: tuple[tuple[Array | None, ...], ...]


def udr(
    codes: Sequence[ArrayLike],
    kl: Sequence[ArrayLike],
    *,
    correlation: Literal["lasso", "spearman"] = "lasso",
) -> UDRScore:
    """Agreement of models that differ by seed only, from their codes of the same points.

    Similarity R of two models' latents: |coefficients| of the lasso (penalty .1) that predicts
    one's standardised latents from the other's, or |Spearman's correlation|. A pair scores the
    mean of r_a = max_b R_ab² / Σ_b R_ab over its rows and its columns, halved between the two (0
    for an empty row); a model scores the median over its pairs. Latents with a mean KL of .01 nats
    or less are left out; two models of which one has none left score 0. Invariant to permuting,
    shifting, scaling and flipping latents. The ceiling, that of equal models with uncorrelated
    latents, is 1 for Spearman and .9 for the lasso, whose penalty shrinks every coefficient by .1.
    The interval is the jackknife's over models: what other seeds could have given; None for two.

    Args:
        codes: of the same points by each of 2 or more models, `[n, latents]` each.
        kl: of each model's latents, mean over data, nats, `[latents]` each.
        correlation: "lasso" or "spearman".

    Returns: `UDRScore`, the score between 0 and 1.

    Raises:
        ValueError: fewer than two models, lists or rows that do not belong together, arrays that
            are not finite, another word for `correlation`.

    References:
        Duan, Matthey, Saraiva, Watters, Burgess, Lerchner, Higgins (2020), Unsupervised Model
        Selection for Variational Disentangled Representation Learning.

    >>> codes = np.random.default_rng(0).normal(size=(500, 3))
    >>> copy = -2.0 * codes[:, [2, 0, 1]]
    >>> round(udr([codes, copy], [np.ones(3), np.ones(3)]).score, 2)
    0.9
    """
    if correlation not in ("lasso", "spearman"):
        raise ValueError(f"correlation: expected 'lasso' or 'spearman', got {correlation!r}")
    latents = _informative(codes, kl)
    similar = _lasso if correlation == "lasso" else _spearman
    similarity = tuple(tuple(None if a is b else similar(a, b) for b in latents) for a in latents)
    pairs = np.array([[0.0 if r is None else _agreement(r) for r in row] for row in similarity])
    model_scores = _model_scores(pairs)
    score = float(model_scores.mean())
    return UDRScore(
        score=score,
        interval=jackknife_interval(_without_each(pairs), score=score),
        ceiling=1.0 - _LASSO_PENALTY if correlation == "lasso" else 1.0,
        model_scores=model_scores,
        pairs=pairs,
        similarity=similarity,
    )


def _model_scores(pairs: Array) -> Array:
    others = ~np.eye(len(pairs), dtype=bool)
    return np.array([np.median(pairs[others[:, j], j]) for j in range(len(pairs))])


def _without_each(pairs: Array) -> Array:
    """The score without each model; empty for two, of which one leaves no pair."""
    if len(pairs) < 3:
        return np.empty(0)
    left = (np.delete(np.delete(pairs, m, axis=0), m, axis=1) for m in range(len(pairs)))
    return np.array([_model_scores(rest).mean() for rest in left])


def _informative(codes: Sequence[ArrayLike], kl: Sequence[ArrayLike]) -> list[Array]:
    """The standardised informative latents of each model."""
    if len(codes) < 2 or len(codes) != len(kl):
        raise ValueError(
            "codes and kl: expected those of two models or more, one of each per model, got "
            f"{len(codes)} and {len(kl)}"
        )
    kept = []
    for m, (values, nats) in enumerate(zip(codes, kl, strict=True)):
        x, divergence = as_matrix(values, f"codes[{m}]"), as_matrix(nats[None], f"kl[{m}]", rows=1)
        if divergence.shape[1] != x.shape[1]:
            raise ValueError(
                f"kl[{m}]: expected one mean KL for each of {x.shape[1]} latents, "
                f"got {divergence.shape[1]}"
            )
        x = x[:, divergence[0] > _LEAST_KL]
        kept.append(standardise(x, x))
    if len({len(x) for x in kept}) > 1:
        raise ValueError(
            f"codes: expected the same points in the same order, got {[len(x) for x in kept]} rows"
        )
    return kept


def _lasso(first: Array, second: Array) -> Array:
    if not first.shape[1] or not second.shape[1]:
        return np.zeros((first.shape[1], second.shape[1]))
    fitted = Lasso(alpha=_LASSO_PENALTY).fit(first, second)
    return np.abs(fitted.coef_.reshape(second.shape[1], first.shape[1]).T)


def _spearman(first: Array, second: Array) -> Array:
    left, right = _unit_ranks(first), _unit_ranks(second)
    return np.minimum(np.abs(left.T @ right), 1.0)


def _unit_ranks(codes: Array) -> Array:
    ranks = rankdata(codes, axis=0) - (len(codes) + 1) / 2
    norm = np.sqrt((ranks**2).sum(0))
    return ranks / np.where(norm > 0, norm, 1.0)


def _agreement(similarity: Array) -> float:
    if not similarity.size:
        return 0.0
    return float((_strength(similarity).mean() + _strength(similarity.T).mean()) / 2)


def _strength(similarity: Array) -> Array:
    total = similarity.sum(axis=0)
    return np.divide(similarity.max(axis=0) ** 2, total, out=np.zeros_like(total), where=total > 0)
