"""Codes and factors of the dSprites grid, without its images."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

SIZES = (3, 6, 40, 32, 32)


@dataclass(frozen=True, eq=False)
class Sample:
    factors: np.ndarray
    test_factors: np.ndarray
    codes: np.ndarray
    test_codes: np.ndarray


def draw(points, rng, sizes=SIZES):
    return np.stack([rng.integers(size, size=points) for size in sizes], axis=1)


@pytest.fixture(scope="session")
def sprites():
    """A training and a test sample of factors, and codes that are perfect, rotated, noise."""
    rng = np.random.default_rng(0)
    factors, test_factors = draw(10_000, rng), draw(5_000, rng)
    turn = np.eye(5)
    turn[3:, 3:] = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)
    noise, test_noise = rng.normal(size=(10_000, 10)), rng.normal(size=(5_000, 10))
    return SimpleNamespace(
        sizes=SIZES,
        factors=factors,
        test_factors=test_factors,
        turn=turn,
        perfect=(factors * 1.0, test_factors * 1.0),
        rotated=(factors @ turn, test_factors @ turn),
        noise=(noise, test_noise),
    )


@pytest.fixture(scope="session")
def mixed():
    """A small sample whose six codes mix three factors with noise: factors of 3, 2 and 5 classes.

    The last code is a constant.
    """
    rng = np.random.default_rng(1)
    sizes = (3, 2, 5)
    factors, test_factors = draw(300, rng, sizes), draw(200, rng, sizes)
    mixing = rng.normal(size=(3, 6))

    def encode(rows):
        codes = rows @ mixing + 1.5 * rng.normal(size=(len(rows), 6))
        codes[:, 5] = 0.1
        return codes

    return Sample(factors, test_factors, encode(factors), encode(test_factors))
