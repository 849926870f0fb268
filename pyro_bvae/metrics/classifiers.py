"""The linear classifiers that some definitions name, fitted as those definitions have them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from pyro_bvae.metrics.inputs import Array


def logistic_regression(points: Array, classes: Array) -> LogisticRegression:
    """Fit scikit-learn's `LogisticRegression()`; 100 iterations are the definition, so no warning.

    >>> import numpy as np
    >>> logistic_regression(np.array([[0.0], [1.0]]), np.array([3, 5])).predict([[2.0]]).tolist()
    [5]
    """
    with _as_defined():
        return LogisticRegression().fit(points, classes)


def linear_svc(points: Array, classes: Array) -> LinearSVC:
    """Fit `LinearSVC(C=0.01, class_weight="balanced")`, seeded for solvers that draw.

    >>> import numpy as np
    >>> linear_svc(np.array([[0.0], [9.0]]), np.array([3, 5])).predict([[9.0]]).tolist()
    [5]
    """
    with _as_defined():
        model = LinearSVC(C=0.01, class_weight="balanced", random_state=0)
        return model.fit(points, classes)


@contextmanager
def _as_defined() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
