"""MIG and modularity on whole grids, where they are known, and on samples of dSprites' factors."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from pyro_bvae.metrics import mig, mig_knn, modularity


def grid(*sizes):
    return np.stack([axis.ravel() for axis in np.indices(sizes)], axis=1)


def test_perfect_code_on_the_whole_grid():
    # 20 bins keep ln 20 of ln 40 nats. 32 values fill 12 bins twice, 8 once: (12/16 4 + 8/32 5)/5.
    factors = grid(3, 6, 40)
    np.testing.assert_allclose(mig(factors, factors).gaps, [1, 1, np.log(20) / np.log(40)])
    positions = grid(32, 32)
    np.testing.assert_allclose(mig(positions, positions).gaps, [0.85, 0.85], atol=1e-12)
    assert np.mean([1, 1, np.log(20) / np.log(40), 0.85, 0.85]) == pytest.approx(0.9024196)


def test_perfect_code_on_a_sample(sprites):
    # .8955 ± .0008: measured mean and sd of 30 samples of 10,000 points
    result = mig(sprites.perfect[0], sprites.factors)
    assert result.score == pytest.approx(0.8955, abs=0.0032)
    assert result.score == result.ceiling
    assert result.ceiling == mig(sprites.noise[0], sprites.factors).ceiling


def test_rotated_code_loses_the_rotated_factors(sprites):
    # x and y are told equally well by x + y and x - y: (1 + 1 + ln 20 / ln 40) / 5 is left.
    result = mig(sprites.rotated[0], sprites.factors)
    assert result.score == pytest.approx((2 + np.log(20) / np.log(40)) / 5, abs=4e-3)
    assert result.gaps[3:].max() < 0.01


def test_noise_constant_and_duplicated_codes_have_no_gap(sprites):
    factors = sprites.factors
    assert mig(sprites.noise[0], factors).score < 1e-3
    assert mig(np.full((10_000, 3), 0.1), factors).score == 0.0
    twice = np.concatenate([factors, factors], axis=1)
    assert mig(twice, factors).score == pytest.approx(0.0, abs=1e-12)


def test_mig_and_modularity_equal_their_formulas_on_scikit_learn_information(mixed):
    codes, factors = mixed.codes[:, :5], mixed.factors
    binned = [np.digitize(c, np.histogram(c, 20)[1][:-1]) for c in codes.T]
    table = np.array([[mutual_info_score(f, b) for f in factors.T] for b in binned])
    entropies = [mutual_info_score(f, f) for f in factors.T]
    top = np.sort(table, axis=0)[::-1]
    result = mig(codes, factors)
    assert result.score == pytest.approx(np.mean((top[0] - top[1]) / entropies), abs=1e-12)
    np.testing.assert_allclose(result.mutual_information, table, atol=1e-12)
    np.testing.assert_allclose(result.entropy, entropies)
    squares = table**2
    template = squares.max(axis=1)
    expected = 1 - (squares.sum(axis=1) - template) / (2 * template)
    np.testing.assert_allclose(modularity(codes, factors).modularities, expected, atol=1e-12)


def test_modularity_of_perfect_rotated_and_dead_codes(sprites):
    # one sd is below .001 by the bootstrap interval of either score
    assert modularity(sprites.perfect[0], sprites.factors).score == pytest.approx(0.99996, abs=2e-5)
    rotated = modularity(sprites.rotated[0], sprites.factors)
    assert rotated.score == pytest.approx(0.9010, abs=4e-3)
    assert rotated.ceiling == pytest.approx(0.99996, abs=2e-5)
    assert modularity(np.zeros((10_000, 4)), sprites.factors).score == 0.0


def test_modularity_of_a_code_of_two_factors_by_hand():
    # z = x + 4y tells all of x and of y, 4 classes each: m = 1 − 1 = 0; of x alone: m = 1
    factors = grid(4, 4)
    codes = np.stack([factors[:, 0] + 4 * factors[:, 1], factors[:, 0]], axis=1)
    np.testing.assert_allclose(modularity(codes, factors).modularities, [0.0, 1.0], atol=1e-12)


@pytest.mark.parametrize(("metric", "tolerance"), [(mig, 0.52), (mig_knn, 0.78)])
def test_interval_has_the_width_of_the_spread_over_samples(metric, tolerance):
    # sd of 40 samples: ±11 %; of 100 replicates: ±7 %, of 20 subsamples ±16 %; their ratio within
    # four of √(.11² + .07²), √(.11² + .16²)
    rng = np.random.default_rng(2)

    def sample():
        factors = rng.integers(4, size=(1000, 2))
        return factors + 0.5 * rng.normal(size=factors.shape), factors

    spread = np.std([metric(*sample()).score for _ in range(40)], ddof=1)
    low, high = metric(*sample()).interval
    assert (high - low) / (2 * 1.96 * spread) == pytest.approx(1.0, abs=tolerance)


def test_neighbours_measure_overlapping_classes_exactly():
    # Class 0 is uniform on [0, 1], class 1 on [½, 3/2]: half of the points tell, I = ½ ln 2.
    # The estimate scatters by .004 (sd of 20 seeds at 8000 points), 4 sd are allowed.
    rng = np.random.default_rng(0)
    classes = rng.integers(2, size=(8000, 1))
    code = rng.uniform(size=(8000, 1)) + 0.5 * classes
    result = mig_knn(np.concatenate([code, rng.normal(size=(8000, 1))], axis=1), classes)
    assert result.mutual_information[0, 0] == pytest.approx(0.5 * np.log(2), abs=0.016)
    assert result.mutual_information[1, 0] < 0.016
    assert result.score == pytest.approx(0.5, abs=0.035)


def test_neighbours_mind_neither_warps_nor_many_classes():
    # A code that steps through 40 classes: bins lose most of it once it is warped by exp.
    rng = np.random.default_rng(0)
    classes = rng.integers(40, size=(4000, 1))
    codes = np.concatenate([classes + rng.uniform(size=(4000, 1)), rng.normal(size=(4000, 1))], 1)
    warped = np.exp(codes / 4)
    assert mig_knn(codes, classes).score > 0.97
    assert mig_knn(warped, classes).score == pytest.approx(mig_knn(codes, classes).score, abs=0.01)
    assert mig(warped, classes).score < 0.6 < mig(codes, classes).score < 0.85


def test_neighbours_see_no_gap_in_noise_constant_and_duplicated_codes(sprites):
    factors, noise = sprites.factors[:1000], sprites.noise[0][:1000]
    assert mig_knn(noise, factors).score < 0.03
    assert mig_knn(np.full((1000, 3), 0.1), factors).score == 0.0
    assert mig_knn(np.tile(factors, 2), factors).score < 0.01


@pytest.mark.parametrize("neighbours", [0, 1.5, True])
def test_no_neighbours_are_refused(neighbours):
    with pytest.raises(ValueError, match="neighbours: expected a whole number >= 1"):
        mig_knn(grid(3, 3), grid(3, 3), neighbours=neighbours)
