"""SAP and explicitness against scikit-learn used directly, and on samples of dSprites' factors."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from pyro_bvae.metrics import explicitness, sap
from pyro_bvae.metrics.explicitness import RankedClasses


def arrays(data):
    return data.codes, data.factors, data.test_codes, data.test_factors


def case(sprites, name, points=10_000):
    codes, test_codes = getattr(sprites, name)
    rows, test_rows = slice(points), slice(points // 2)
    return (
        codes[rows],
        sprites.factors[rows],
        test_codes[test_rows],
        sprites.test_factors[test_rows],
    )


def test_sap_equals_linear_classifiers_on_one_latent_each(mixed):
    x, y, test_x, test_y = arrays(mixed)
    expected = np.zeros((6, 3))
    for i in range(6):
        for j in range(3):
            model = LinearSVC(C=0.01, class_weight="balanced").fit(x[:, [i]], y[:, j])
            expected[i, j] = model.score(test_x[:, [i]], test_y[:, j])
    result = sap(x, y, test_x, test_y)
    np.testing.assert_allclose(result.accuracy, expected)
    ordered = np.sort(expected, axis=0)
    assert result.score == pytest.approx(np.mean(ordered[-1] - ordered[-2]))


def test_sap_of_a_perfect_code_is_far_below_one(sprites):
    # .246 ± .005: measured mean and sd of 30 samples
    result = sap(*case(sprites, "noise", 4000))
    assert result.ceiling == pytest.approx(0.246, abs=0.02)
    assert result.score < 0.01


def test_sap_of_duplicated_latents_is_zero(mixed):
    x, y, test_x, test_y = arrays(mixed)
    twice, test_twice = np.tile(x, 2), np.tile(test_x, 2)
    assert sap(twice, y, test_twice, test_y).score == 0.0


def test_explicitness_equals_scikit_learn_roc_areas(mixed):
    x, y, test_x, test_y = arrays(mixed)
    x, test_x = x[:, :5], test_x[:, :5]
    mean, deviation = x.mean(0), x.std(0)
    expected = []
    for j in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LogisticRegression().fit((x - mean) / deviation, y[:, j])
        scores = model.predict_proba((test_x - mean) / deviation)
        expected.append(roc_auc_score(test_y[:, [j]] == model.classes_, scores))
    np.testing.assert_allclose(explicitness(x, y, test_x, test_y).areas, expected, atol=1e-12)


def test_explicitness_of_perfect_rotated_and_noise_codes(sprites):
    # chance is ½; one area of p positives has sd about 1/√(12p), p ≥ 20, and 113 are averaged:
    # .006
    perfect = explicitness(*case(sprites, "perfect", 2000))
    rotated = explicitness(*case(sprites, "rotated", 2000))
    assert 0.95 < perfect.score == perfect.ceiling < 1.0
    assert rotated.score == pytest.approx(perfect.score, abs=5e-3)
    noise = explicitness(*case(sprites, "noise", 2000))
    assert noise.score == pytest.approx(0.5, abs=0.024)


def test_roc_areas_with_ties_and_counts_are_those_of_repeated_points():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(6, size=(60, 2)), rng.random((60, 2)) < 0.3
    counts = rng.integers(3, size=60)
    areas = RankedClasses(scores * 1.0, labels).areas(counts)
    repeated = np.repeat(labels, counts, axis=0), np.repeat(scores, counts, axis=0)
    np.testing.assert_allclose(areas, roc_auc_score(*repeated, average=None))


def test_a_class_without_positives_has_no_area():
    areas = RankedClasses(np.ones((4, 1)), np.zeros((4, 1), dtype=bool)).areas(np.ones(4))
    assert np.isnan(areas).tolist() == [True]
