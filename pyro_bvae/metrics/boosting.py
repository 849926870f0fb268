"""Gradient-boosted trees for classification, with the importance of each feature.

The trees of scikit-learn's `GradientBoostingClassifier()` at its defaults (100 stages, learning
rate .1, depth 3, every feature, squared error), to rounding. Each feature is sorted once, and the
order handed down the tree, where scikit-learn sorts at every node of every tree; and only what the
importance and the predictions need is kept.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.special import expit, softmax

from pyro_bvae.metrics.inputs import Array

_STAGES, _LEARNING_RATE, DEPTH = 100, 0.1, 3
_SAME_VALUE = 1e-7


class Fitted(NamedTuple):
    """What a fit leaves: importances `[features]` that sum to 1, and the classes it predicts."""

    importance: Array
    predicted: Array
    test_predicted: Array


class Split(NamedTuple):
    """Points of at most `threshold` in `feature` go left; `gain` is the squared error saved.

    The threshold lies between float32 values and must not be rounded to one: a float64.
    """

    feature: int
    threshold: np.float64
    gain: float


class Leaf(NamedTuple):
    """The training points and the test points that end in one leaf."""

    points: Array
    test_points: Array


class Grower(Protocol):
    """Grows regression trees on one set of features, and adds up what their splits gain."""

    importance: Array

    def grow(self, residual: Array) -> list[Leaf]:
        """The leaves of a tree fitted to `residual` `[n]` by least squares."""


class SortedGrower:
    """Grows exact trees: every value of a feature may part the points.

    Args:
        points: `[n, features]`, read as float32.
        test_points: `[m, features]`, passed down the trees.
        seed: decides between features that split equally well.
    """

    def __init__(self, points: Array, test_points: Array, *, seed: int) -> None:
        self.values = np.ascontiguousarray(points.T, dtype=np.float32)
        self.test_values = np.ascontiguousarray(test_points.T, dtype=np.float32)
        self.order = np.argsort(self.values, axis=1, kind="stable")
        self.scratch = np.empty(self.values.size)
        self.importance = np.zeros(len(self.values))
        self.rng = np.random.default_rng(seed)

    def grow(self, residual: Array) -> list[Leaf]:
        """The leaves of a tree fitted to `residual` `[n]` by least squares."""
        return self._grow(residual, self.order, np.arange(self.test_values.shape[1]), DEPTH)

    def _grow(self, residual: Array, order: Array, tested: Array, depth: int) -> list[Leaf]:
        split = self._best_split(residual, order) if depth else None
        if split is None:
            return [Leaf(order[0], tested)]
        self.importance[split.feature] += split.gain
        carried = order if depth > 1 else order[:1]
        left = (self.values[split.feature] <= split.threshold).take(carried).ravel()
        test_left = self.test_values[split.feature, tested] <= split.threshold
        return [
            leaf
            for side, test_side in ((left, test_left), (~left, ~test_left))
            for leaf in self._grow(
                residual,
                np.compress(side, carried.ravel()).reshape(len(carried), -1),
                tested[test_side],
                depth - 1,
            )
        ]

    def _best_split(self, residual: Array, order: Array) -> Split | None:
        """The split of most gain, if the residuals differ and a feature does.

        With h the sum of the centred residuals of the c least of n points, the gain is
        h² n / (c (n − c)).
        """
        features, points = order.shape
        gains = self.scratch[: order.size].reshape(order.shape)
        residual.take(order, out=gains, mode="clip")
        gains -= gains[0].mean()
        if points < 2 or np.square(gains[0]).mean() <= np.finfo(np.float64).eps:
            return None
        torch.from_numpy(gains).cumsum_(dim=1)
        below = np.arange(1.0, points)
        gains = np.square(gains[:, :-1], out=gains[:, :-1])
        gains *= points / (below * (points - below))
        last = gains.argmax(axis=1)
        for tied in np.flatnonzero(self._same_value(order, last)):
            gains[tied, np.diff(self.values[tied, order[tied]]) <= _SAME_VALUE] = -1.0
            last[tied] = gains[tied].argmax()
        best = gains[np.arange(features), last]
        candidates = self.rng.permutation(features)
        f = int(candidates[best[candidates].argmax()])
        if best[f] < 0:
            return None
        low, high = self.values[f, order[f, last[f] : last[f] + 2]].astype(np.float64)
        return Split(f, low / 2 + high / 2, float(best[f]))

    def _same_value(self, order: Array, last: Array) -> Array:
        """Whether each feature's value at place `last` of its order equals the next, no split."""
        each = np.arange(len(order))
        low = self.values[each, order[each, last]]
        return self.values[each, order[each, last + 1]] - low <= _SAME_VALUE


def boost(
    points: Array,
    classes: Array,
    test_points: Array,
    *,
    seed: int,
    growing: Callable[..., Grower] = SortedGrower,
) -> Fitted:
    """Boost trees on `classes` `[n]` of `points` `[n, features]`; predict both sets of points.

    `growing(points, test_points, seed=...)` grows the trees.

    References:
        Friedman (2001), Greedy Function Approximation: A Gradient Boosting Machine.

    >>> points = np.arange(8.0)[:, None] * np.array([[1.0, 0.0]])
    >>> result = boost(points, np.array([0, 0, 0, 1, 1, 1, 2, 2]), points[::3], seed=0)
    >>> result.importance.tolist(), result.test_predicted.tolist()
    ([1.0, 0.0], [0, 1, 2])
    """
    names, labels = np.unique(classes, return_inverse=True)
    columns = np.arange(len(names)) if len(names) > 2 else np.array([1])
    target = np.asfortranarray(labels[:, None] == columns, dtype=np.float64)
    grower = growing(points, test_points, seed=seed)
    prior = _prior(target)
    raw = np.asfortranarray(np.repeat(prior, len(points), axis=0))
    test_raw = np.asfortranarray(np.repeat(prior, len(test_points), axis=0))
    shrinkage = 1.0 if len(names) == 2 else (len(names) - 1) / len(names)
    for _ in range(_STAGES):
        residual = np.asfortranarray(target - _probability(raw))
        for k in range(target.shape[1]):
            for leaf in grower.grow(residual[:, k]):
                step = shrinkage * _newton_step(residual[leaf.points, k], target[leaf.points, k])
                raw[leaf.points, k] += _LEARNING_RATE * step
                test_raw[leaf.test_points, k] += _LEARNING_RATE * step
    total = grower.importance.sum()
    importance = grower.importance / total if total > 0 else grower.importance
    return Fitted(importance, names[_decide(raw)], names[_decide(test_raw)])


def _prior(target: Array) -> Array:
    share = target.mean(axis=0, keepdims=True)
    return np.log(share) if target.shape[1] > 1 else np.log(share / (1 - share))


def _probability(raw: Array) -> Array:
    return softmax(raw, axis=1) if raw.shape[1] > 1 else expit(raw)


def _newton_step(residual: Array, target: Array) -> float:
    probability = target - residual
    curvature = float((probability * (1 - probability)).mean())
    return float(residual.mean()) / curvature if curvature > 1e-150 else 0.0


def _decide(raw: Array) -> Array:
    return raw.argmax(axis=1) if raw.shape[1] > 1 else (raw[:, 0] >= 0).astype(np.int64)
