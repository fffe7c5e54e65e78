"""The embedded backend: TF-IDF of words and character n-grams, one linear SVM for each child."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from cascade.arrays import read_array, read_json, write_array, write_json
from cascade.backends.base import (
    BoolArray,
    FittedNode,
    FloatArray,
    IntArray,
    NodeProblem,
    Texts,
    most_frequent_children,
)
from cascade.backends.features import VERSION, WIDTH, hashed_counts
from cascade.backends.solver import fit_columns
from cascade.calibrate import fit_calibration, log_loss, sigmoid
from cascade.errors import ModelError
from cascade.folds import stratified_folds

FOLDS = 3
PENALTIES = (1.0, 3.0, 0.3, 0.1)
# A feature of one row alone teaches little, and there are many of them.
LEAST_ROWS = 2
# log(1 + n_texts) + 1 stays below for any number of texts that memory holds.
MOST_RARE = 50.0
# So many children tell which penalty suits a group.
MOST_CHILDREN = 12


def counts_of(texts: Texts) -> csr_matrix:
    """The hashed counts of these texts, computed once for all nodes that share the batch."""
    counts: csr_matrix = texts.features(("hashed_counts", VERSION), hashed_counts)
    return counts


class Weighting:
    """Which features count at a node, and how much: idf, then unit length.

    Attributes
    ----------
    columns
        int32, shape (n_features,), ascending: the hashed columns in use.
    idf
        float32, shape (n_features,): log((1 + n_texts) / (1 + n_texts_with_it)) + 1.
    rare
        The same for a feature that is not in use: it lengthens the text, so that strange texts score low.
    """

    def __init__(self, columns: NDArray[np.int32], idf: FloatArray, rare: float) -> None:
        self.columns, self.idf, self.rare = columns, idf, rare

    @classmethod
    def learn(cls, counts: csr_matrix) -> Weighting:
        n_texts = counts.shape[0]
        frequency = np.bincount(counts.indices, minlength=WIDTH)
        columns = np.flatnonzero(frequency >= LEAST_ROWS).astype(np.int32)
        idf = np.log((1 + n_texts) / (1 + frequency[columns])) + 1
        return cls(columns, idf.astype(np.float32), float(np.log(1 + n_texts) + 1))

    def apply(self, counts: csr_matrix) -> csr_matrix:
        """Rows of unit length, shape (n_texts, n_features), float32; one without any feature stays empty."""
        n_texts, n_features = counts.shape[0], len(self.columns)
        if not n_features:
            return csr_matrix((n_texts, 0), dtype=np.float32)
        place = np.minimum(np.searchsorted(self.columns, counts.indices), n_features - 1)
        known = self.columns[place] == counts.indices
        values = counts.data * np.where(known, self.idf[place], np.float32(self.rare))
        row = np.repeat(np.arange(n_texts), np.diff(counts.indptr))
        length = np.sqrt(np.bincount(row, weights=values.astype(np.float64) ** 2, minlength=n_texts))
        kept = np.concatenate([[0], np.cumsum(known)])[counts.indptr]
        unit = (values[known] / length[row[known]]).astype(np.float32)
        return csr_matrix(
            (unit, place[known].astype(np.int32), kept.astype(np.int32)), shape=(n_texts, n_features)
        )


class LinearModel:
    """The fitted model of one group; its scores are sigmoid(2 * margin)."""

    def __init__(self, weighting: Weighting, weights: FloatArray, biases: FloatArray) -> None:
        self.weighting, self.weights, self.biases = weighting, weights, biases

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1]."""
        return _scores(self.weighting.apply(counts_of(texts)), self.weights, self.biases)

    def save(self, folder: Path) -> None:
        write_json(folder / "linear.json", {"features": VERSION, "rare": self.weighting.rare})
        write_array(folder / "columns.npy", self.weighting.columns)
        write_array(folder / "idf.npy", self.weighting.idf)
        write_array(folder / "weights.npy", self.weights)
        write_array(folder / "biases.npy", self.biases)


def _scores(X: csr_matrix, weights: FloatArray, biases: FloatArray) -> FloatArray:
    return sigmoid(2 * (np.asarray(X @ weights) + biases)).astype(np.float32)


class LinearBackend:
    """Fits `LinearModel`; the penalty is the best of a short grid on held-out rows."""

    def __init__(self, penalties: Sequence[float] = PENALTIES) -> None:
        self.penalties = tuple(penalties)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The model and its out-of-fold scores of every row; `notes` has the penalty ``C``."""
        counts = counts_of(problem.texts)
        weighting = Weighting.learn(counts)
        X = csr_matrix(weighting.apply(counts), dtype=np.float64)
        held_out, C = self._held_out(X, problem)
        weights, biases = fit_columns(X, problem.targets, C, problem.seed)
        model = LinearModel(weighting, weights, biases)
        return FittedNode(model, np.arange(len(problem.texts), dtype=np.int64), held_out, {"C": C})

    def _held_out(self, X: csr_matrix, problem: NodeProblem) -> tuple[FloatArray, float]:
        """Scores of every row by models of the other folds, and the penalty that the first fold settles."""
        fold_of = stratified_folds(problem.targets, problem.texts, FOLDS, problem.seed)
        sides = [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(FOLDS)]
        C = self._settle(X, problem, *sides[0])
        held_out = np.zeros(problem.targets.shape, dtype=np.float32)
        for train, test in sides:
            held_out[test] = _fit_and_score(X, problem, train, test, C)
        return held_out, C

    def _settle(self, X: csr_matrix, problem: NodeProblem, train: IntArray, test: IntArray) -> float:
        """The penalty with the least log loss on held-out rows, after calibration.

        The grid is walked from its first value upwards, and downwards only when the next larger one is no
        better; the most frequent children stand for all of them. So this stays a small part of a fit.
        """
        problem = most_frequent_children(problem, MOST_CHILDREN)

        def loss(C: float) -> float:
            scores = _fit_and_score(X, problem, train, test, C)
            return _loss(scores, problem.targets[test])

        start = self.penalties[0]
        larger = sorted(C for C in self.penalties if start < C)
        smaller = sorted((C for C in self.penalties if start > C), reverse=True)
        if not larger and not smaller:
            return start
        first = loss(start)
        chosen = _downhill(loss, start, first, larger)
        return chosen if chosen != start else _downhill(loss, start, first, smaller)

    def prepare(self, texts: Texts) -> None:
        """Hash the texts, once for all nodes."""
        counts_of(texts)

    def fit_and_score(self, problem: NodeProblem, train: IntArray, test: IntArray) -> FloatArray:
        """Scores of the `test` rows by one fit of the `train` rows with the first penalty of the grid."""
        counts = counts_of(problem.texts)
        weighting = Weighting.learn(counts[train])
        X = csr_matrix(weighting.apply(counts), dtype=np.float64)
        return _fit_and_score(X, problem, train, test, self.penalties[0])

    def load(self, folder: Path) -> LinearModel:
        """The model that was saved there, memory-mapped.

        Raises
        ------
        ModelError
            A file is missing, is not of the right type or size, or holds impossible values.
        """
        settings = read_json(folder / "linear.json")
        if not isinstance(settings, dict) or settings.get("features") != VERSION:
            raise ModelError(f"{folder / 'linear.json'}: made by another version. Run `cascade fit` again.")
        rare = settings.get("rare")
        if not isinstance(rare, float) or not 0 < rare < MOST_RARE:
            raise ModelError(
                f"{folder / 'linear.json'}: expected 'rare' above 0 and below {MOST_RARE:g}, found {rare!r}. "
                "Run `cascade fit` again."
            )
        columns = read_array(folder / "columns.npy", np.int32, (None,))
        biases = read_array(folder / "biases.npy", np.float32, (None,))
        idf = read_array(folder / "idf.npy", np.float32, columns.shape)
        weights = read_array(folder / "weights.npy", np.float32, (len(columns), len(biases)))
        _check_columns(folder, columns)
        for name, array in (("idf", idf), ("weights", weights), ("biases", biases)):
            if not np.isfinite(array).all():
                raise ModelError(f"{folder / name}.npy: expected finite numbers. Run `cascade fit` again.")
        return LinearModel(Weighting(columns, idf, rare), weights, biases)


def _downhill(loss: Callable[[float], float], start: float, first: float, further: Sequence[float]) -> float:
    """The last of the penalties, in this order, before the loss stops falling."""
    chosen, least = start, first
    for C in further:
        reached = loss(C)
        if reached >= least:
            break
        chosen, least = C, reached
    return chosen


def _check_columns(folder: Path, columns: NDArray[np.int32]) -> None:
    ascending = bool((columns[1:] > columns[:-1]).all())  # differences of int32 could wrap round
    if len(columns) and not (ascending and columns[0] >= 0 and columns[-1] < WIDTH):
        raise ModelError(
            f"{folder / 'columns.npy'}: expected ascending columns below {WIDTH}. Run `cascade fit` again."
        )


def _fit_and_score(
    X: csr_matrix, problem: NodeProblem, train: IntArray, test: IntArray, C: float
) -> FloatArray:
    weights, biases = fit_columns(X[train], problem.targets[train], C, problem.seed)
    return _scores(X[test], weights, biases)


def _loss(scores: FloatArray, targets: BoolArray) -> float:
    return log_loss(fit_calibration(scores, targets).apply(scores), targets)


def make(C: float | Sequence[float] = PENALTIES) -> LinearBackend:
    """The backend with these penalties: one number, or a grid whose first value is tried first."""
    return LinearBackend([C] if isinstance(C, int | float) else list(C))
