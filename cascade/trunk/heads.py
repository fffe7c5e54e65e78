"""Heads: what each child of a group makes of the vector of a text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.contract import Encoder
from cascade.nodes.contract import NodeProblem
from cascade.system.array_types import BoolArray, FloatArray, IntArray

SCALE = 10.0
"""Vectors are so long where heads are trained on them: at length 1 the weights would have far to go."""
MOST_WEIGHT = 3.0
_LEAST_SHARE = 1e-3
_CERTAIN = 10.0


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one head has to learn.

    Attributes
    ----------
    rows
        int64, shape (n_rows,): which of the texts that all heads share teach it.
    targets
        bool, shape (n_rows, n_children).
    exclusive
        Whether a text has one of the children at most: they compete then.
    """

    rows: IntArray
    targets: BoolArray
    exclusive: bool

    @classmethod
    def of(cls, problem: NodeProblem, rows: IntArray) -> Lesson:
        """The lesson of a problem, whose texts are these rows of all.

        Children compete where the taxonomy says so, and where no row has two of them.
        """
        one_at_most = bool((problem.targets.sum(axis=1) <= 1).all())
        is_one = problem.description.choose == "one" or (one_at_most and len(problem.children) > 1)
        return cls(rows, problem.targets, is_one and one_at_most)

    def without(self, rows: BoolArray) -> Lesson:
        """The lesson without the rows of a mask over all texts."""
        kept = ~rows[self.rows]
        return Lesson(self.rows[kept], self.targets[kept], self.exclusive)

    def first_biases(self) -> FloatArray:
        """Where a head begins that knows nothing of a text: the log odds of each child."""
        share = np.clip(self.targets.mean(axis=0) if len(self.rows) else 0.5, _LEAST_SHARE, 1 - _LEAST_SHARE)
        if not self.exclusive:
            return np.asarray(np.log(share / (1 - share)), dtype=np.float32)
        rest = max(1 - float(share.sum()), _LEAST_SHARE)
        return np.asarray(np.log(share / rest), dtype=np.float32)

    @cached_property
    def weights(self) -> FloatArray:
        """What a row of each child counts for, float32, shape (n_children,): rare ones up to `MOST_WEIGHT`.

        It is the root of how often half of the children are seen, over how often this one is.
        """
        counts = np.maximum(self.targets.sum(axis=0), 1)
        return np.asarray(np.clip(np.sqrt(np.median(counts) / counts), 1, MOST_WEIGHT), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Weights:
    """The numbers of a head.

    Attributes
    ----------
    values
        float32, shape (dims, n_children), for vectors of length 1.
    biases
        float32, shape (n_children,).
    exclusive
        Whether children compete: with each other, and with none of them, whose log odds are 0.
    """

    values: FloatArray
    biases: FloatArray
    exclusive: bool

    def log_odds(self, vectors: FloatArray) -> NDArray[np.float64]:
        """Those of each child, shape (n_texts, n_children), of vectors of shape (n_texts, dims)."""
        found = vectors.astype(np.float64) @ self.values.astype(np.float64) + self.biases
        return competing(found) if self.exclusive else np.asarray(found)

    def digest(self) -> str:
        """The sha256 of the numbers, in hex."""
        made_of = hashlib.sha256(b"one" if self.exclusive else b"many")
        made_of.update(np.ascontiguousarray(self.values).tobytes())
        made_of.update(np.ascontiguousarray(self.biases).tobytes())
        return made_of.hexdigest()


def competing(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The log odds of each child against all others and none, of logits with 0 for none."""
    most = np.maximum(logits.max(axis=1, keepdims=True), 0.0)
    powers = np.exp(logits - most)
    everything = powers.sum(axis=1, keepdims=True) + np.exp(-most)
    others = np.maximum(everything - powers, np.finfo(np.float64).tiny)
    return np.asarray(logits - most - np.log(others))


@dataclass(frozen=True, eq=False)
class Head:
    """A head of a trunk, ready to be asked."""

    encoder: Encoder
    weights: Weights

    @property
    def digest(self) -> str:
        """What tells it from any other head."""
        return hashlib.sha256(f"{self.encoder.sha256} {self.weights.digest()}".encode()).hexdigest()


def taught(lesson: Lesson, vectors: FloatArray, seed: int) -> Weights:
    """A head alone, on a trunk that stays as it is: logistic regression on the vectors of its rows.

    Parameters
    ----------
    vectors
        float32, shape (n_rows, dims): those of the rows of the lesson.
    seed
        Fixes the order in which rows are gone through.
    """
    X, dims = vectors.astype(np.float64) * SCALE, vectors.shape[1]
    values = np.zeros((dims, lesson.targets.shape[1]))
    biases = lesson.first_biases().astype(np.float64)
    if lesson.exclusive:
        _teach_competing(lesson, X, values, biases, seed)
    else:
        for column in range(values.shape[1]):
            _teach(lesson.targets[:, column], X, values, biases, column, seed)
    return Weights(
        np.asarray(values * SCALE, dtype=np.float32), np.asarray(biases, dtype=np.float32), lesson.exclusive
    )


def _teach_competing(
    lesson: Lesson,
    X: NDArray[np.float64],
    values: NDArray[np.float64],
    biases: NDArray[np.float64],
    seed: int,
) -> None:
    from sklearn.linear_model import LogisticRegression  # predictions do without

    n_children = lesson.targets.shape[1]
    classes = np.where(lesson.targets.any(axis=1), lesson.targets.argmax(axis=1), n_children)
    found = np.unique(classes)
    if len(found) < 2:
        return
    model = LogisticRegression(max_iter=1000, random_state=seed).fit(X, classes)
    weights, offsets = model.coef_, model.intercept_
    if len(found) == 2:  # one row of weights, for the second class
        weights, offsets = np.stack([-weights[0], weights[0]]) / 2, np.array([-offsets[0], offsets[0]]) / 2
    none = np.flatnonzero(found == n_children)
    if len(none):
        weights, offsets = weights - weights[none[0]], offsets - offsets[none[0]]
    else:  # no row has none of them, so that is not to compete
        offsets = offsets + _CERTAIN
    for weight, offset, child in zip(weights, offsets, found.tolist(), strict=True):
        if child < n_children:
            values[:, child], biases[child] = weight, offset


def _teach(
    target: BoolArray,
    X: NDArray[np.float64],
    values: NDArray[np.float64],
    biases: NDArray[np.float64],
    column: int,
    seed: int,
) -> None:
    from sklearn.linear_model import LogisticRegression

    if target.any() and not target.all():
        model = LogisticRegression(max_iter=1000, random_state=seed).fit(X, target)
        values[:, column], biases[column] = model.coef_[0], model.intercept_[0]
