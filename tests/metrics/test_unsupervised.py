"""Total correlation and pairwise information of codes against closed forms."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from pyro_bvae.metrics import pairwise_information_score, total_correlation_score


def with_covariance(covariance, points=500):
    """Codes whose covariance in the sample is exactly the one given."""
    codes = np.random.default_rng(0).normal(size=(points, len(covariance)))
    codes -= codes.mean(0)
    white = codes @ np.linalg.inv(np.linalg.cholesky(np.cov(codes.T))).T
    return white @ np.linalg.cholesky(covariance).T


def test_total_correlation_of_two_latents():
    # ½ (ln C₁₁ + ln C₂₂ − ln det C) = −½ ln(1 − ρ²)
    for rho in (0.0, 0.6, -0.99):
        codes = with_covariance(np.array([[4.0, 2 * rho], [2 * rho, 1.0]])) + 5.0
        expected = -0.5 * np.log(1 - rho**2)
        assert total_correlation_score(codes).score == pytest.approx(expected, abs=1e-12)


def test_total_correlation_of_the_linear_gaussian_case():
    # A = V Σ Vᵀ + S with V = diag(.9, .8), S = diag(.19, .36), Σ = [[1, .6], [.6, 1]]
    covariance = np.array([[1.0, 0.432], [0.432, 1.0]])
    result = total_correlation_score(with_covariance(covariance))
    assert result.score == pytest.approx(0.1032808959, abs=1e-10)
    assert result.interval[0] < result.score < result.interval[1]
    np.testing.assert_allclose(result.correlation, covariance, atol=1e-12)


def test_total_correlation_interval_has_its_known_width():
    # sd of −½ ln(1 − r²) is ρ/√n for Gaussian codes; 100 replicates know it to 7 %, four of them
    low, high = total_correlation_score(with_covariance(np.array([[1, 0.6], [0.6, 1]]))).interval
    assert (high - low) / (2 * 1.96) == pytest.approx(0.6 / np.sqrt(500), rel=0.28)


def test_dependent_and_constant_latents():
    codes = np.random.default_rng(0).normal(size=(100, 2))
    dependent = np.concatenate([codes, codes @ np.array([[1.0], [-2.0]])], axis=1)
    result = total_correlation_score(dependent)
    assert (result.score, result.interval) == (np.inf, None)
    with_constant = np.concatenate([codes, np.full((100, 1), 0.1)], axis=1)
    alone = total_correlation_score(codes).score
    assert total_correlation_score(with_constant).score == pytest.approx(alone, abs=1e-12)
    assert total_correlation_score(np.zeros((10, 3))).score == 0.0


def test_pairwise_information_equals_scikit_learn(mixed):
    codes = mixed.codes[:, :3]
    binned = [np.digitize(c, np.histogram(c, 20)[1][:-1]) for c in codes.T]
    pairs = [mutual_info_score(binned[i], binned[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    result = pairwise_information_score(codes)
    assert result.score == pytest.approx(np.mean(pairs), abs=1e-12)
    assert result.interval[0] < result.score < result.interval[1]


def test_pairwise_information_of_copies_and_of_independent_latents():
    column = np.arange(4000.0)[:, None]
    copies = pairwise_information_score(np.concatenate([column, 2 * column], axis=1))
    assert copies.score == pytest.approx(np.log(20), abs=1e-9)
    grid = np.stack([axis.ravel() for axis in np.indices((20, 20))], axis=1)
    assert pairwise_information_score(grid).score == pytest.approx(0.0, abs=1e-12)
