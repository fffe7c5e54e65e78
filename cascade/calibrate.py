"""Scores to probabilities: Platt's sigmoid for each child, drawn to the group's own where rows are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.backends.base import BoolArray, FloatArray

# A child with this many pseudo-observations' worth of evidence weighs as much as the group's curve.
SHRINKAGE = 20.0
# Scores are taken as logits; this keeps them finite.
NEAR = 1e-6
STEPS = 100
HALVES = tuple(0.5**times for times in range(40))
# Newton's own forecast of what is left to gain, in nats over all rows.
GOOD_ENOUGH = 1e-12
# A slope must be above 0, as order is kept; a child whose scores run the wrong way gets this one.
LEAST_SLOPE = 1e-3
STEEPEST_LOGIT = 35.0


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """1 / (1 + exp(-x)), of the type that came in, without overflow."""
    inside: NDArray[np.floating] = np.clip(logits, -STEEPEST_LOGIT, STEEPEST_LOGIT)
    return np.asarray(1 / (1 + np.exp(-inside)))


def logit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """log(p / (1 - p)), float64, of p kept in [1e-6, 1 - 1e-6]."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), NEAR, 1 - NEAR)
    return np.log(inside) - np.log1p(-inside)


def log_loss(probabilities: FloatArray, targets: BoolArray) -> float:
    """Mean over all cells of -log P(what was true); 0 where there are no cells."""
    if not targets.size:
        return 0.0
    inside = np.clip(probabilities.astype(np.float64), NEAR, 1 - NEAR)
    return float(-np.where(targets, np.log(inside), np.log1p(-inside)).mean())


@dataclass(frozen=True)
class Calibration:
    """P(child) = sigmoid(slope * logit(score) + offset); slopes are above 0, so that order is kept.

    Attributes
    ----------
    slopes, offsets
        float64, shape (n_children,).
    """

    slopes: NDArray[np.float64]
    offsets: NDArray[np.float64]

    @classmethod
    def identity(cls, n_children: int) -> Calibration:
        return cls(np.ones(n_children), np.zeros(n_children))

    def apply(self, scores: FloatArray) -> FloatArray:
        """Probabilities, float32, shape of `scores` (n_texts, n_children), each in [0, 1]."""
        return sigmoid(self.slopes * logit(scores) + self.offsets).astype(np.float32)


def fit_calibration(scores: FloatArray, targets: BoolArray) -> Calibration:
    """One sigmoid for each child, from held-out scores of rows that truly reach the group.

    Platt (1999) with his smoothed targets, by the Newton's method of Lin, Lin and Weng
    (Machine Learning 68, 2007).
    The curve of a child is drawn to the one of all children together by a Gaussian prior of weight
    `SHRINKAGE`, so that a child with few rows has nearly the group's curve.

    Parameters
    ----------
    scores
        float32, shape (n_texts, n_children), each in [0, 1].
    targets
        bool, of the same shape.
    """
    logits = logit(scores)
    if not targets.any() or targets.all():
        return Calibration.identity(scores.shape[1])
    group = _platt(logits.ravel(), targets.ravel(), None)
    curves = [_platt(logits[:, child], targets[:, child], group) for child in range(scores.shape[1])]
    return Calibration(np.array([slope for slope, _ in curves]), np.array([offset for _, offset in curves]))


def conditional(probabilities: FloatArray, negatives: str, path: FloatArray) -> FloatArray:
    """P(child | the text belongs to the group), float32, shape (n_texts, n_children), each in [0, 1].

    A model that learned from the rows of its group only (``siblings``) answers just that. One that learned
    from every row (``all``) answers P(child), and P(child | group) = P(child) / P(group): the path
    probability of the child is then P(child) itself, kept at or below that of the group.

    Parameters
    ----------
    probabilities
        float32, shape (n_texts, n_children): calibrated scores.
    negatives
        What the model learned from.
    path
        float32, shape (n_texts,): path probability of the group.
    """
    if negatives != "all":
        return probabilities
    return np.minimum(1, probabilities / np.maximum(path[:, None], np.float32(NEAR))).astype(np.float32)


def _platt(
    logits: NDArray[np.float64], target: BoolArray, prior: tuple[float, float] | None
) -> tuple[float, float]:
    """Slope and offset of one curve; `prior` is where it is drawn to, None for a free one."""
    positives, negatives = int(target.sum()), int((~target).sum())
    goal = np.where(target, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre = np.array(prior if prior is not None else (1.0, np.log((positives + 1) / (negatives + 1))))
    pull = SHRINKAGE if prior is not None else 1e-6
    ones = np.ones((len(logits), 1))
    slope, offset = _minimum(np.column_stack([logits, ones]), np.zeros(len(logits)), goal, centre, pull)
    if slope < LEAST_SLOPE:  # the offset that went with another slope would be far off
        slope, (offset,) = LEAST_SLOPE, _minimum(ones, LEAST_SLOPE * logits, goal, centre[1:], pull)
    return float(slope), float(offset)


def _minimum(
    design: NDArray[np.float64],
    base: NDArray[np.float64],
    goal: NDArray[np.float64],
    centre: NDArray[np.float64],
    pull: float,
) -> NDArray[np.float64]:
    """The curve, shape (n_terms,), with the least log loss of sigmoid(base + design @ curve) against `goal`.

    To the loss comes pull / 2 * |curve - centre|^2. Newton's method with step halving, without which it
    can run in circles far from the minimum.
    """

    def loss(curve: NDArray[np.float64]) -> float:
        raw = base + design @ curve
        return float((np.logaddexp(0, raw) - goal * raw).sum() + pull / 2 * ((curve - centre) ** 2).sum())

    curve, reached = centre.copy(), loss(centre)
    for _ in range(STEPS):
        chance = sigmoid(base + design @ curve)
        gradient = design.T @ (chance - goal) + pull * (curve - centre)
        weight = np.maximum(chance * (1 - chance), 1e-12)
        hessian = (design * weight[:, None]).T @ design + pull * np.eye(len(curve))
        step = np.linalg.solve(hessian, gradient)
        promised = float(gradient @ step)
        if promised < GOOD_ENOUGH:
            break
        length = next(
            (half for half in HALVES if loss(curve - half * step) < reached - 1e-4 * half * promised), 0
        )
        if not length:
            break
        curve = curve - length * step
        reached = loss(curve)
    return curve
