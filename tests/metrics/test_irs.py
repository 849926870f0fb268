"""IRS against its definition written out, and where it is known."""

import numpy as np
import pytest

from pyro_bvae.metrics import irs


def test_irs_equals_its_definition(sprites):
    codes, factors = sprites.rotated[0][:2000], sprites.factors[:2000]
    largest = np.abs(codes - codes.mean(0)).max(0)
    table = np.zeros((5, 5))
    for j, factor in enumerate(factors.T):
        groups = np.digitize(factor, np.histogram(factor, 20)[1][:-1])
        for i, code in enumerate(codes.T):
            spread = []
            for k in np.unique(groups):
                inside = code[groups == k]
                spread.append(np.quantile(np.abs(inside - inside.mean()), 0.99))
            table[i, j] = 1 - np.mean(spread) / largest[i]
    result = irs(codes, factors)
    np.testing.assert_allclose(result.robustness, table)
    assert result.score == pytest.approx(np.average(table.max(axis=1), weights=largest))


def test_perfect_code_of_few_classes_scores_one():
    factors = np.random.default_rng(0).integers(7, size=(500, 3))
    result = irs(10.0 * factors - 3.0, factors)
    assert result.score == pytest.approx(1.0, abs=1e-12)
    assert result.parents.tolist() == [0, 1, 2]


def test_factors_of_more_classes_than_bins_lower_the_ceiling(sprites):
    # Two classes share a bin, ±½: orientation 1 − ½/19.5; positions in 12 of 20 bins, so
    # 1 − .6 · ½/15.5; weights 19.5/σ = 1.689 and 15.5/σ = 1.679 of 7.72 in all.
    result = irs(sprites.perfect[0], sprites.factors)
    lost = (1.689 * 0.5 / 19.5 + 2 * 1.679 * 0.3 / 15.5) / 7.72
    assert result.ceiling == pytest.approx(1 - lost, abs=1e-3)


def test_noise_and_constants():
    rng = np.random.default_rng(0)
    factors = rng.integers(5, size=(4000, 2))
    codes = np.concatenate([rng.uniform(-1, 1, (4000, 1)), np.full((4000, 1), 0.1)], axis=1)
    # uniform noise: the .99 quantile of |z| is .99 of the largest, whatever is held
    result = irs(codes, factors)
    assert result.score == pytest.approx(0.01, abs=0.02)
    assert (result.parents[1], result.robustness[1].tolist()) == (-1, [0.0, 0.0])
    assert irs(codes[:, 1:], factors).score == 0.0


def test_interval_is_wide_enough_for_a_maximum_and_not_absurd():
    # Of normal codes the largest deviation scatters at n/10 as at n, or √10 more. Sd of 40 samples:
    # ±11 %; of 20 draws: ±16 %; their ratio within four of √(.11² + .16²) = .2.
    rng = np.random.default_rng(0)

    def sample():
        factors = rng.integers(5, size=(2000, 2))
        return factors + 0.5 * rng.normal(size=factors.shape), factors

    spread = np.std([irs(*sample()).score for _ in range(40)], ddof=1)
    low, high = irs(*sample()).interval
    assert 1 - 0.8 < (high - low) / (2 * 1.96 * spread) < 10**0.5 * (1 + 0.8)


def test_too_few_points_for_an_interval():
    factors = np.random.default_rng(0).integers(3, size=(199, 2))
    assert irs(factors, factors).interval is None


@pytest.mark.parametrize("quantile", [0.0, 1.5])
def test_bad_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="diff_quantile: expected a number in"):
        irs(np.eye(4), np.eye(4), diff_quantile=quantile)
