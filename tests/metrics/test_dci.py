"""DCI: importance matrices known by hand, and trees held to scikit-learn's."""

from importlib import import_module

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from pyro_bvae.metrics import boosting, dci, dci_histogram, disentanglement
from pyro_bvae.metrics.histograms import HistogramGrower


def test_disentanglement_and_completeness_of_known_matrices():
    # 1e-11 inside the entropy moves these by less than 1e-8.
    assert disentanglement(np.eye(5)) == pytest.approx(1.0, abs=1e-8)
    assert disentanglement(np.full((10, 5), 0.2)) == pytest.approx(0.0, abs=1e-12)
    assert disentanglement(np.zeros((4, 3))) == pytest.approx(0.0, abs=1e-12)
    split = np.repeat(np.eye(5), 2, axis=0) / 2
    assert disentanglement(split) == pytest.approx(1.0, abs=1e-8)
    assert disentanglement(split.T) == pytest.approx(1 - np.log10(2), abs=1e-8)


def test_disentanglement_weighs_latents_by_their_importance():
    # 2/3 of the importance sits in a latent of one factor, 1/3 in one shared by both.
    assert disentanglement(np.array([[2.0, 0.0], [0.5, 0.5]])) == pytest.approx(2 / 3, abs=1e-8)


@pytest.mark.parametrize("matrix", [np.ones((3, 1)), -np.eye(2)])
def test_matrices_that_are_no_importances_are_refused(matrix):
    with pytest.raises(ValueError, match="importance: expected numbers >= 0 in at least two"):
        disentanglement(matrix)


@pytest.mark.parametrize("classes", [2, 4])
def test_trees_are_those_of_scikit_learn(classes, monkeypatch):
    # Five stages: later ones single out points that several features single out equally well.
    monkeypatch.setattr(boosting, "_STAGES", 5)
    rng = np.random.default_rng(3)
    points, test_points = rng.normal(size=(1500, 4)), rng.normal(size=(500, 4))
    points[:, 3], test_points[:, 3] = rng.integers(3, size=1500), rng.integers(3, size=500)
    signal = points[:, 0] + points[:, 1] ** 2 + points[:, 3] + rng.normal(size=1500)
    labels = 7 + np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes))
    model = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(points, labels)
    ours = boosting.boost(points, labels, test_points, seed=1)
    np.testing.assert_allclose(ours.importance, model.feature_importances_, atol=1e-9)
    np.testing.assert_array_equal(ours.predicted, model.predict(points))
    np.testing.assert_array_equal(ours.test_predicted, model.predict(test_points))


def test_all_stages_differ_from_scikit_learn_no_more_than_its_own_seeds(mixed):
    arguments = mixed.codes, mixed.factors[:, 0]
    ours = boosting.boost(*arguments, mixed.test_codes, seed=0).importance
    theirs = np.array(
        [
            GradientBoostingClassifier(random_state=seed).fit(*arguments).feature_importances_
            for seed in range(4)
        ]
    )
    # five draws of one distribution: ours within four sd of the mean of the others
    spread = theirs.std(axis=0, ddof=1) + 1e-6
    assert (np.abs(ours - theirs.mean(axis=0)) < 4 * spread * np.sqrt(1 + 1 / 4)).all()


def test_boosting_nothing_gives_no_importance():
    labels = np.array([0, 0, 1, 2, 2])
    result = boosting.boost(np.zeros((5, 2)), labels, np.zeros((3, 2)), seed=0)
    assert result.importance.tolist() == [0.0, 0.0]
    assert result.test_predicted.tolist() == [0, 0, 0]


def sample(points, seed=0, sizes=(3, 6)):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=points) for size in sizes], axis=1)


def test_perfect_code_scores_one():
    y, test_y = sample(500), sample(200, 1)
    result = dci(y, y, test_y, test_y)
    np.testing.assert_allclose(result.importance, np.eye(2), atol=1e-9)
    assert result.score == pytest.approx(result.ceiling, abs=1e-8)
    assert (result.completeness, result.informativeness) == (pytest.approx(1.0), 1.0)


def test_duplicated_code_is_disentangled_and_incomplete():
    # The seed splits each factor's importance between the two copies: 1 − log_4 2 if evenly.
    y, test_y = sample(500), sample(200, 1)
    result = dci(np.tile(y, 2), y, np.tile(test_y, 2), test_y)
    assert result.score == pytest.approx(1.0, abs=1e-8)
    assert 0.4 < result.completeness < 0.65


def test_noise_informs_of_nothing():
    # accuracy by chance (1/3 + 1/6)/2 = .25, sd of 500 × 2 answers below .014
    rng = np.random.default_rng(0)
    codes, test_codes = rng.normal(size=(500, 4)), rng.normal(size=(500, 4))
    result = dci(codes, sample(500), test_codes, sample(500, 1))
    assert result.score < 0.1
    assert result.informativeness == pytest.approx(0.25, abs=0.056)
    low, high = result.informativeness_interval
    assert low < result.informativeness < high


def test_intervals_are_those_of_subsampling():
    rng = np.random.default_rng(0)
    factors = sample(400)
    codes = factors @ np.eye(2, 3) + 0.5 * rng.normal(size=(400, 3))
    result = dci_histogram(codes, factors, codes, factors, refits=3, seed=5)
    draws = np.random.default_rng(5)
    parts = [draws.permutation(400)[:100] for _ in range(3)]
    refitted = [dci_histogram(codes[p], factors[p], codes[p], factors[p], seed=5) for p in parts]
    for interval, score, name in [
        (result.interval, result.score, "score"),
        (result.completeness_interval, result.completeness, "completeness"),
    ]:
        deviation = np.std([getattr(r, name) for r in refitted], ddof=1) * np.sqrt(100 / 300)
        assert interval == pytest.approx(
            (score - 1.959964 * deviation, score + 1.959964 * deviation)
        )
    assert dci_histogram(codes, factors, codes, factors).interval is None


@pytest.mark.parametrize("refits", [-1, 1, 2.0, True])
def test_a_number_of_refits_that_gives_no_interval_is_refused(refits):
    with pytest.raises(ValueError, match=r"refits: expected 0, or a whole number >= 2, got"):
        dci(sample(50), sample(50), sample(50), sample(50), refits=refits)


def test_histograms_grow_the_same_trees_where_no_bin_holds_two_values(monkeypatch):
    # Five stages: later ones single out points that several features single out equally well.
    monkeypatch.setattr(boosting, "_STAGES", 5)
    rng = np.random.default_rng(3)
    points, test_points = rng.integers(100, size=(2000, 4)), rng.integers(100, size=(500, 4))
    signal = points[:, 0] + 0.01 * points[:, 1] ** 2 + 20 * rng.normal(size=2000)
    labels = np.digitize(signal, [30, 80, 120])
    exact = boosting.boost(points, labels, test_points, seed=0)
    fast = boosting.boost(points, labels, test_points, seed=0, growing=HistogramGrower)
    np.testing.assert_allclose(fast.importance, exact.importance, atol=1e-9)
    np.testing.assert_array_equal(fast.predicted, exact.predicted)
    # A test value between two of a node's own may go to another side, were it not among them.
    assert (fast.test_predicted == exact.test_predicted).mean() > 0.98


def test_histograms_of_continuous_codes_give_nearly_the_same_dci():
    # 128 bins move a threshold by less than 1/128 of the points, and a shared tie with it.
    rng = np.random.default_rng(0)
    y, test_y = sample(1500), sample(500, 1)
    mixing = rng.normal(size=(2, 4))
    codes, test_codes = (f @ mixing + rng.normal(size=(len(f), 4)) for f in (y, test_y))
    exact, fast = (f(codes, y, test_codes, test_y) for f in (dci, dci_histogram))
    np.testing.assert_allclose(fast.importance, exact.importance, atol=0.03)
    assert fast.score == pytest.approx(exact.score, abs=0.02)
    assert fast.informativeness == pytest.approx(exact.informativeness, abs=0.03)


def test_processes_change_nothing(mixed, monkeypatch):
    alone = dci_histogram(mixed.codes, mixed.factors, mixed.test_codes, mixed.test_factors)
    module = import_module("pyro_bvae.metrics.dci")
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(module, "cpu_count", lambda: 2)
    shared = dci_histogram(mixed.codes, mixed.factors, mixed.test_codes, mixed.test_factors)
    np.testing.assert_array_equal(shared.importance, alone.importance)
    assert shared.informativeness == alone.informativeness
