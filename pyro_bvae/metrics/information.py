"""How much each single latent tells of each factor: R² and mutual information matrices."""

import numpy as np

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
    return information(joint_counts(discretise(x, bins), y))


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
    return np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in columns])


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


def joint_counts(first: Array, second: Array, counts: Array | None = None) -> list[list[Array]]:
    """Contingency tables of every column of `first` with every column of `second`.

    Args:
        first: classes `[n, a]`.
        second: classes `[n, b]`.
        counts: how often each row is counted, `[n]`; once each if None.

    Returns: a list of `a` lists of `b` tables `[classes, classes]`.

    >>> joint_counts(np.array([[0], [1]]), np.array([[7], [7]]))[0][0].tolist()
    [[1], [1]]
    """
    left, right = _ranked(first), _ranked(second)
    return [[_table(a, b, counts) for b in right] for a in left]


def information(tables: list[list[Array]]) -> Array:
    """Mutual information of each contingency table, H(row) + H(column) − H(both), in nats."""
    return np.array(
        [
            [max(0.0, _entropy(t.sum(0)) + _entropy(t.sum(1)) - _entropy(t)) for t in row]
            for row in tables
        ]
    )


def _ranked(classes: Array) -> list[Array]:
    return [np.unique(column, return_inverse=True)[1] for column in classes.T]


def _table(first: Array, second: Array, counts: Array | None) -> Array:
    rows, columns = int(first.max()) + 1, int(second.max()) + 1
    flat = np.bincount(first * columns + second, counts, minlength=rows * columns)
    return flat.reshape(rows, columns)


def _entropy(counts: Array) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(p * np.log(p)).sum()))


def _unit_columns(values: Array) -> Array:
    varying = np.ptp(values, axis=0) > 0
    centred = np.where(varying, values - values.mean(0), 0.0)
    centred /= np.where(varying, np.abs(centred).max(0), 1.0)
    norm = np.sqrt((centred**2).sum(0))
    return centred / np.where(norm > 0, norm, 1.0)
