"""UDR of copies, of strangers, and against scikit-learn and SciPy used directly."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso

from pyro_bvae.metrics import udr
from pyro_bvae.metrics.score import jackknife_interval

KINDS = ["lasso", "spearman"]


@pytest.fixture
def whitened():
    """Codes whose correlations are exactly 0 in the sample."""
    codes = np.random.default_rng(0).normal(size=(800, 4))
    return np.linalg.qr(codes - codes.mean(0))[0] * 30.0


def informative(*codes):
    return [np.ones(c.shape[1]) for c in codes]


def copy(codes):
    return 5.0 - codes[:, [2, 0, 3, 1]] * np.array([1.0, -2.0, 0.5, -1.0])


@pytest.mark.parametrize(("kind", "ceiling"), [("lasso", 0.9), ("spearman", 1.0)])
def test_permuted_flipped_copies_agree_fully(kind, ceiling, whitened):
    models = [whitened, copy(whitened), -whitened]
    result = udr(models, informative(*models), correlation=kind)
    # ranks keep a correlation of sd 1/√800 = .035 where values have none: 3 · .028 at most of 1
    tolerance = 1e-9 if kind == "lasso" else 0.12
    assert result.model_scores == pytest.approx([ceiling] * 3, abs=tolerance)
    assert result.ceiling == pytest.approx(ceiling)


@pytest.mark.parametrize("kind", KINDS)
def test_independent_noise_agrees_in_nothing(kind):
    rng = np.random.default_rng(0)
    models = [rng.normal(size=(2000, 5)) for _ in range(3)]
    # max² / Σ of five |r| of sd 1/√2000 = .022 stays below their maximum, 4 sd
    assert udr(models, informative(*models), correlation=kind).score < 0.09


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_equal_their_definition(kind, mixed):
    rng = np.random.default_rng(0)
    first = mixed.codes[:, :4]
    second = first @ rng.normal(size=(4, 3)) + rng.normal(size=(len(first), 3))
    a, b = ((c - c.mean(0)) / c.std(0) for c in (first, second))
    if kind == "lasso":
        table = np.abs(Lasso(alpha=0.1).fit(a, b).coef_).T
    else:
        table = np.abs([[spearmanr(x, y).statistic for y in b.T] for x in a.T])
    rows = np.mean(table.max(1) ** 2 / table.sum(1))
    columns = np.mean(table.max(0) ** 2 / table.sum(0))
    result = udr([first, second], informative(first, second), correlation=kind)
    np.testing.assert_allclose(result.similarity[0][1], table, atol=1e-9)
    assert result.pairs[0, 1] == pytest.approx((rows + columns) / 2)
    assert result.model_scores[1] == result.pairs[0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_latents_of_little_kl_are_left_out(kind, whitened):
    noisy = np.concatenate([whitened, np.random.default_rng(1).normal(size=(800, 2))], axis=1)
    kl = np.array([1.0, 1.0, 1.0, 1.0, 0.01, 0.001])
    alone = udr([whitened, copy(whitened)], informative(whitened, whitened), correlation=kind)
    result = udr([noisy, copy(whitened)], [kl, np.ones(4)], correlation=kind)
    assert result.score == pytest.approx(alone.score)


@pytest.mark.parametrize("kind", KINDS)
def test_collapsed_and_constant_models_score_zero(kind, whitened):
    still = np.full((800, 2), 0.1)
    assert udr([whitened, still], informative(whitened, still), correlation=kind).score == 0.0
    assert udr([whitened, still], [np.ones(4), np.zeros(2)], correlation=kind).score == 0.0


@pytest.mark.parametrize(
    ("codes", "kl", "message"),
    [
        ([np.eye(4)], [np.ones(4)], "codes and kl: expected those of two models"),
        ([np.eye(4)] * 2, [np.ones(4)], "got 2 and 1"),
        ([np.eye(4)] * 2, [np.ones(4), np.ones(3)], r"kl\[1\]: expected one mean KL for each of 4"),
        ([np.eye(4), np.eye(5)], [np.ones(4), np.ones(5)], "the same points"),
        ([np.eye(4), np.eye(4) * np.nan], [np.ones(4)] * 2, r"codes\[1\]: expected finite"),
    ],
)
def test_bad_arguments_are_refused(codes, kl, message):
    with pytest.raises(ValueError, match=message):
        udr(codes, kl)


def test_another_correlation_is_refused():
    with pytest.raises(ValueError, match="correlation: expected 'lasso' or 'spearman'"):
        udr([np.eye(4)] * 2, [np.ones(4)] * 2, correlation="pearson")


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).uniform(0.4, 0.6, size=9)
    without = (values.sum() - values) / 8
    low, high = jackknife_interval(without, score=values.mean())
    error = 1.959964 * values.std(ddof=1) / 3
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error))


def test_interval_is_the_jackknife_over_models(mixed):
    rng = np.random.default_rng(0)
    first = mixed.codes[:, :4]
    models = [first @ (np.eye(4) + s * rng.normal(size=(4, 4))) for s in (0.0, 0.3, 0.3, 1.0)]
    result = udr(models, informative(*models))
    without = [
        udr(rest, informative(*rest)).score
        for rest in ([m for m in models if m is not left] for left in models)
    ]
    deviation = np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
    assert result.interval[1] - result.score == pytest.approx(1.959964 * deviation)
    assert udr(models[:2], informative(*models[:2])).interval is None
