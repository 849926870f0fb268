"""R², mutual information and entropy, held to closed forms and to scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from pyro_bvae.metrics.information import entropy, mutual_information_matrix, r2_matrix


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_r2_is_the_squared_correlation(rng):
    codes, factors = rng.normal(size=(200, 4)), rng.integers(0, 7, size=(200, 3))
    expected = np.corrcoef(codes.T, factors.T)[:4, 4:] ** 2
    np.testing.assert_allclose(r2_matrix(codes, factors), expected, atol=1e-12)


def test_r2_ignores_shift_scale_flip_and_is_zero_for_a_constant(rng):
    codes, factors = rng.normal(size=(100, 2)), rng.normal(size=(100, 1))
    moved = codes * np.array([-3.0, 1e-200]) + np.array([5.0, 0.0])
    np.testing.assert_allclose(r2_matrix(moved, factors), r2_matrix(codes, factors), rtol=1e-9)
    assert r2_matrix(np.full((100, 1), 0.1), factors).tolist() == [[0.0]]


def test_mutual_information_of_a_table_by_hand():
    # p = [[3, 1], [1, 3]] / 8: I = 2 (3/8 ln 3/2 + 1/8 ln 1/2)
    factor = np.array([0, 0, 0, 0, 1, 1, 1, 1])[:, None]
    code = np.array([0, 0, 0, 1, 0, 1, 1, 1])[:, None]
    expected = 2 * (3 / 8 * np.log(3 / 2) + 1 / 8 * np.log(1 / 2))
    np.testing.assert_allclose(mutual_information_matrix(code, factor), [[expected]], rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_mutual_information_equals_scikit_learn_on_histogram_bins(seed, bins):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([rng.normal(size=(60, 2)), rng.integers(0, 32, size=(60, 1))], axis=1)
    factors = rng.integers(-2, 3, size=(60, 2))
    ours = mutual_information_matrix(codes, factors, bins)
    for i, code in enumerate(codes.T):
        binned = np.digitize(code, np.histogram(code, bins)[1][:-1])
        for j, factor in enumerate(factors.T):
            assert ours[i, j] == pytest.approx(mutual_info_score(factor, binned), abs=1e-12)


def test_entropy_of_uniform_and_constant_columns():
    columns = np.stack([np.arange(40), np.full(40, 3), np.arange(40) % 2], axis=1)
    np.testing.assert_allclose(entropy(columns), [np.log(40), 0.0, np.log(2)], atol=1e-12)


def test_perfect_code_has_the_entropy_of_its_bins():
    # 40 equally frequent values fill 20 bins evenly: ln 20 of ln 40 nats remain.
    values = np.arange(4000)[:, None] % 40
    np.testing.assert_allclose(mutual_information_matrix(values, values), [[np.log(20)]])
    assert mutual_information_matrix(np.zeros((4000, 1)), values).tolist() == [[0.0]]


def test_tensors_and_arrays_give_the_same(rng):
    codes, factors = rng.normal(size=(50, 3)), rng.integers(0, 4, size=(50, 2))
    tensor = torch.tensor(codes, requires_grad=True)
    for metric in (r2_matrix, mutual_information_matrix):
        np.testing.assert_array_equal(metric(tensor, torch.tensor(factors)), metric(codes, factors))


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.zeros(5), np.zeros((5, 1)), r"codes: expected an array \[n, columns\]"),
        (np.zeros((5, 2)), np.zeros((4, 1)), "got 5 and 4 rows"),
        (np.full((5, 2), np.nan), np.zeros((5, 1)), "codes: expected finite values, got 10"),
        (np.zeros((5, 2)), np.full((5, 1), 0.5), "factors: expected class indices"),
        (np.zeros((5, 2)), np.zeros((5, 1), dtype=complex), "factors: expected real numbers"),
    ],
)
def test_bad_arrays_are_refused_by_name(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_matrix(codes, factors)


@pytest.mark.parametrize("bins", [1, 2.0, True])
def test_bad_bins_are_refused(bins):
    with pytest.raises(ValueError, match="bins: expected a whole number"):
        mutual_information_matrix(np.zeros((5, 2)), np.zeros((5, 1)), bins)
