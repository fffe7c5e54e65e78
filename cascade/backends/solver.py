"""One linear classifier for each child: the solver of the embedded model."""

from __future__ import annotations

import warnings

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from cascade.backends.base import BoolArray, FloatArray

# Dual coordinate descent is far past the accuracy that text needs at liblinear's own default tolerance.
TOLERANCE = 0.1
MAX_PASSES = 300
# The margin of a child that no row, or every row, has: P = sigmoid(2 * 4) and its complement.
SURE = 4.0


def fit_columns(X: csr_matrix, targets: BoolArray, C: float, seed: int) -> tuple[FloatArray, FloatArray]:
    """Weights (n_features, n_children) and biases (n_children,), float32, one L2 squared-hinge SVM a child.

    Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM", ICML 2008. A column that
    never varies gets no weights and a bias of plus or minus `SURE`; without any feature, a child gets the
    bias at which its score is its share of the rows, with one row for and one against added.

    Parameters
    ----------
    X
        float64, shape (n_texts, n_features).
    targets
        bool, shape (n_texts, n_children).
    C
        Weight of the losses against the norm, above 0.
    seed
        Fixes the order in which rows are visited.

    Notes
    -----
    Columns are spread over as many processes as ``joblib.parallel_config`` says around the call, else fitted
    one after the other, with the same result. They cannot be threads: liblinear draws from one generator.
    """
    if not X.shape[1]:
        return np.zeros((0, targets.shape[1]), dtype=np.float32), _bare_biases(targets)
    weights = np.zeros((X.shape[1], targets.shape[1]), dtype=np.float32)
    biases = np.where(targets.any(axis=0), SURE, -SURE).astype(np.float32)
    varying = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    fits = Parallel()(delayed(_fit_one)(X, targets[:, column], C, seed) for column in varying)
    for column, (weight, bias) in zip(varying, fits, strict=True):
        weights[:, column], biases[column] = weight, bias
    return weights, biases


def _bare_biases(targets: BoolArray) -> FloatArray:
    """Without any feature all that can be learned is how frequent each child is."""
    share = (targets.sum(axis=0) + 1) / (len(targets) + 2)
    return np.asarray(np.log(share / (1 - share)) / 2, dtype=np.float32)


def _fit_one(X: csr_matrix, target: BoolArray, C: float, seed: int) -> tuple[FloatArray, float]:
    machine = LinearSVC(C=C, tol=TOLERANCE, max_iter=MAX_PASSES, random_state=seed)
    with warnings.catch_warnings():
        # A label that two rows with one text contradict never converges; what was reached is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine.fit(X, target)
    return machine.coef_[0].astype(np.float32), float(machine.intercept_[0])
