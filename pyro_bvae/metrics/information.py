"""How much each single latent tells of each factor: R² and mutual information matrices."""

import math
from dataclasses import InitVar, dataclass, field

import numpy as np
from scipy.special import xlogy

from pyro_bvae.metrics.inputs import Array, ArrayLike, as_classes, as_matrix, same_length


def r2_matrix(codes: ArrayLike, factors: ArrayLike) -> Array:
    """R² of the linear regression of each factor on each single latent.

    R²_ij = corr(code_i, factor_j)², the factor's class indices read as numbers; 0 where a column
    is constant. Invariant to shifting, scaling and flipping columns; a relation that is not
    monotone (an angle, a shape) is largely missed.

    Args:
        codes: `[n, latents]`, usually posterior means.
        factors: `[n, factors]`.

    Returns: `[latents, factors]`, between 0 and 1.

    Raises:
        ValueError: an array is not 2-d and finite, or the lengths differ.

    References:
        Galton, Pearson (1896), Mathematical Contributions to the Theory of Evolution III.

    >>> codes = np.array([[0.0, 1.0], [1.0, -1.0], [2.0, -1.0], [3.0, 1.0]])
    >>> r2_matrix(codes, np.arange(4)[:, None]).round(3).tolist()
    [[1.0], [0.0]]
    """
    x, y = as_matrix(codes, "codes"), as_matrix(factors, "factors")
    same_length(x, y)
    return np.clip(_unit_columns(x).T @ _unit_columns(y), -1.0, 1.0) ** 2


def mutual_information_matrix(codes: ArrayLike, factors: ArrayLike, bins: int = 20) -> Array:
    """Mutual information of each latent, cut into bins, with each factor, in nats.

    I_ij = Σ_bk p(b, k) ln[p(b, k) / (p(b) p(k))] over `bins` bins of equal width between the least
    and the greatest value of the latent, closed on the left, the last closed on both sides.
    Invariant to shifting and scaling a latent, and to flipping it but for values on a bin's edge;
    not to a warped latent.

    Args:
        codes: `[n, latents]`, usually posterior means.
        factors: `[n, factors]`, class indices.
        bins: the number of bins, ≥ 2.

    Returns: `[latents, factors]`, nats. Biased upwards by about (bins − 1)(classes − 1) / 2n.

    Raises:
        ValueError: an array is not 2-d and finite, a factor is not whole, the lengths differ, or
            `bins` < 2.

    References:
        Chen, Li, Grosse, Duvenaud (2018), Isolating Sources of Disentanglement in Variational
        Autoencoders; discretised as by Locatello et al. (2019), Challenging Common Assumptions in
        the Unsupervised Learning of Disentangled Representations.

    >>> sides = np.array([[0], [1], [0], [1]])
    >>> mutual_information_matrix(10.0 * sides, sides).round(4).tolist()
    [[0.6931]]
    """
    x, y = as_matrix(codes, "codes"), as_classes(factors)
    same_length(x, y)
    return table_information(Contingency(discretise(x, bins), y).tables())


def entropy(factors: ArrayLike) -> Array:
    """Entropy of each column of classes in the sample, H_j = −Σ_k p_k ln p_k, in nats.

    Args:
        factors: `[n, factors]`, class indices.

    Returns: `[factors]`, nats.

    Raises:
        ValueError: the array is not 2-d and finite, or a value is not whole.

    References:
        Shannon (1948), A Mathematical Theory of Communication.

    >>> entropy(np.array([[0, 5], [1, 5]])).round(4).tolist()
    [0.6931, 0.0]
    """
    columns = as_classes(factors).T
    return np.array([count_entropy(np.unique(column, return_counts=True)[1]) for column in columns])


def discretise(codes: Array, bins: int = 20) -> Array:
    """Index of each value's bin, `[n, latents]` in 0 … bins − 1, over the column's own range.

    Raises: ValueError if `bins` is not a whole number ≥ 2.

    >>> discretise(np.array([[0.0], [0.5], [1.0]]), bins=2).ravel().tolist()
    [0, 1, 1]
    """
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 2:
        raise ValueError(f"bins: expected a whole number of bins >= 2, got {bins!r}")
    binned = np.zeros(codes.shape, dtype=np.int64)
    for i, column in enumerate(codes.T):
        low, high = column.min(), column.max()
        if low < high:
            inner = np.linspace(low, high, bins + 1)[1:-1]
            binned[:, i] = np.searchsorted(inner, column, side="right")
    return binned


@dataclass(frozen=True, eq=False)
class Contingency:
    """The tables of every column of one array of classes with every column of another.

    Kept as the cell each point falls into, so that the tables of a resampled data set are cheap.

    Args:
        first: classes `[n, a]`.
        second: classes `[n, b]`.

    >>> Contingency(np.array([[0], [1]]), np.array([[7], [7]])).tables()[0, 0].tolist()
    [[1], [1]]
    """

    first: InitVar[Array]
    second: InitVar[Array]
    cells: Array = field(init=False)
    shape: tuple[int, int, int, int] = field(init=False)

    def __post_init__(self, first: Array, second: Array) -> None:
        left, right = _ranked(first), _ranked(second)
        rows, columns = int(left.max()) + 1, int(right.max()) + 1
        shape = (len(left), len(right), rows, columns)
        table = np.arange(len(left) * len(right)).reshape(len(left), len(right), 1)
        cells = (table * rows + left[:, None]) * columns + right[None]
        object.__setattr__(self, "cells", cells.ravel())
        object.__setattr__(self, "shape", shape)

    def tables(self, counts: Array | None = None) -> Array:
        """Tables `[a, b, rows, columns]`, each point counted once, or `counts` `[n]` times."""
        weights = None if counts is None else np.tile(counts, self.shape[0] * self.shape[1])
        flat = np.bincount(self.cells, weights, minlength=math.prod(self.shape))
        return flat.reshape(self.shape)


def table_information(tables: Array) -> Array:
    """Mutual information of tables `[..., rows, columns]`, H(rows) + H(columns) − H(both), nats."""
    rows, columns = count_entropy(tables.sum(-1)), count_entropy(tables.sum(-2))
    both = count_entropy(tables.reshape(*tables.shape[:-2], -1))
    return np.maximum(rows + columns - both, 0.0)


def count_entropy(counts: Array) -> Array:
    """Entropy of counts `[..., classes]`, in nats."""
    p = counts / counts.sum(-1, keepdims=True)
    return np.maximum(-xlogy(p, p).sum(-1), 0.0)


def _ranked(classes: Array) -> Array:
    return np.stack([np.unique(column, return_inverse=True)[1] for column in classes.T])


def _unit_columns(values: Array) -> Array:
    varying = np.ptp(values, axis=0) > 0
    centred = np.where(varying, values - values.mean(0), 0.0)
    centred /= np.where(varying, np.abs(centred).max(0), 1.0)
    norm = np.sqrt((centred**2).sum(0))
    return centred / np.where(norm > 0, norm, 1.0)
