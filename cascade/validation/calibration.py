"""Scores to probabilities: Platt's sigmoid for each child, drawn to the group's own where rows are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, FloatArray
from cascade.system.compiled import kernel

# A child with this many pseudo-observations' worth of evidence weighs as much as the group's curve.
SHRINKAGE = 20.0
# Scores are taken as logits; this keeps them finite.
NEAR = 1e-6
STEPS = 100
HALVINGS = 40
# Newton's own forecast of what is left to gain, in nats over all rows.
GOOD_ENOUGH = 1e-12
# A slope must be above 0, as order is kept; a child whose scores run the wrong way gets this one.
LEAST_SLOPE = 1e-3
# Logits in one such part of their range are taken for their mean. Over all scores that is a width of 0.007,
# which moves slopes and offsets in their fifth digit at most, and spares most work where rows are many.
BINS = 4096
STEEPEST_LOGIT = 35.0


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """1 / (1 + exp(-x)), of the type that came in, without overflow."""
    inside: NDArray[np.floating] = np.clip(logits, -STEEPEST_LOGIT, STEEPEST_LOGIT)
    return np.asarray(1 / (1 + np.exp(-inside)))


def logit(scores: NDArray[np.floating]) -> NDArray[np.floating]:
    """log(p / (1 - p)), of the type that came in, of p kept in [1e-6, 1 - 1e-6]."""
    inside = np.clip(scores, NEAR, 1 - NEAR)
    return np.asarray(np.log(inside / (1 - inside)))


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
        return sigmoid(self.slopes.astype(np.float32) * logit(scores) + self.offsets.astype(np.float32))


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
    if not targets.any() or targets.all():
        return Calibration.identity(scores.shape[1])
    # Columns are read one at a time.
    logits, goals = np.ascontiguousarray(logit(scores).T), np.ascontiguousarray(targets.T)
    group = _platt(logits.ravel(), goals.ravel(), None)
    curves = [_platt(*column, group) for column in zip(logits, goals, strict=True)]
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


def _platt(logits: FloatArray, target: BoolArray, prior: tuple[float, float] | None) -> tuple[float, float]:
    """Slope and offset of one curve; `prior` is where it is drawn to, None for a free one."""
    positives = int(target.sum())
    negatives = len(target) - positives
    low, high = 1 / (negatives + 2), (positives + 1) / (positives + 2)
    sums, counts, true_sum, false_sum = _binned(logits, target, float(logits.min()), float(logits.max()))
    some = counts > 0
    places, counts = sums[some] / counts[some], counts[some]
    goals = (high * true_sum + low * false_sum, high * positives + low * negatives)
    centre = prior if prior is not None else (1.0, float(np.log((positives + 1) / (negatives + 1))))
    pull = SHRINKAGE if prior is not None else 1e-6
    slope, offset = _newton(places, counts, *goals, *centre, pull, False)
    if slope < LEAST_SLOPE:  # the offset that went with another slope would be far off
        slope, offset = _newton(places, counts, *goals, LEAST_SLOPE, centre[1], pull, True)
    return float(slope), float(offset)


@kernel
def _binned(
    logits: FloatArray, target: BoolArray, least: float, most: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float, float]:
    """Sum of the logits and number of the rows of each bin; sums of the logits of true and of false rows.

    A bin are the rows whose logits lie in one of `BINS` equal parts of the way from `least` to `most`.
    """
    to_bin = (BINS - 1) / max(most - least, 1e-12)
    sums, counts = np.zeros(BINS), np.zeros(BINS)
    true_sum = false_sum = 0.0
    for row in range(len(logits)):
        logit = np.float64(logits[row])
        place = (logit - least) * to_bin
        at = int(place) if 0 <= place < BINS else 0  # NaN has no place
        sums[at] += logit
        counts[at] += 1
        if target[row]:
            true_sum += logit
        else:
            false_sum += logit
    return sums, counts, true_sum, false_sum


@kernel
def _newton(
    places: NDArray[np.float64],
    counts: NDArray[np.float64],
    goal_up: float,
    goal_along: float,
    slope: float,
    offset: float,
    pull: float,
    slope_is_fixed: bool,
) -> tuple[float, float]:
    """The curve with the least log loss of sigmoid(slope * logit + offset).

    `goal_up` and `goal_along` are the sums over all rows of goal * logit and of the goal. To the loss comes
    pull / 2 * |curve - start|^2. Newton's method with step halving, without which it can run in circles
    far from the minimum.
    """
    at_slope, at_offset = slope, offset
    reached, up, along, upup, upalong, alongalong = _terms(places, counts, slope, offset)
    reached -= slope * goal_up + offset * goal_along
    for _ in range(STEPS):
        up += pull * (at_slope - slope) - goal_up
        along += pull * (at_offset - offset) - goal_along
        upup += pull
        alongalong += pull
        if slope_is_fixed:
            up = upalong = 0.0
        determinant = upup * alongalong - upalong * upalong
        step_up = (alongalong * up - upalong * along) / determinant
        step_along = (upup * along - upalong * up) / determinant
        promised = up * step_up + along * step_along
        if promised < GOOD_ENOUGH:
            break
        length, better = 1.0, False
        for _ in range(HALVINGS):
            to_slope, to_offset = at_slope - length * step_up, at_offset - length * step_along
            loss, up, along, upup, upalong, alongalong = _terms(places, counts, to_slope, to_offset)
            loss -= to_slope * goal_up + to_offset * goal_along
            loss += pull / 2 * ((to_slope - slope) ** 2 + (to_offset - offset) ** 2)
            if loss < reached - 1e-4 * length * promised:
                better = True
                break
            length /= 2
        if not better:
            break
        at_slope, at_offset, reached = to_slope, to_offset, loss
    return at_slope, at_offset


@kernel
def _terms(
    places: NDArray[np.float64], counts: NDArray[np.float64], slope: float, offset: float
) -> tuple[float, float, float, float, float, float]:
    """Sum of softplus(slope * logit + offset), its gradient by slope and offset, and second derivatives."""
    loss = up = along = upup = upalong = alongalong = 0.0
    for at in range(len(places)):
        logit, count = places[at], counts[at]
        raw = slope * logit + offset
        small = np.exp(-abs(raw))
        chance = 1 / (1 + small) if raw >= 0 else small / (1 + small)
        bend = count * max(chance * (1 - chance), 1e-12)
        loss += count * (max(raw, 0.0) + np.log1p(small))
        up += count * chance * logit
        along += count * chance
        upup += bend * logit * logit
        upalong += bend * logit
        alongalong += bend
    return loss, up, along, upup, upalong, alongalong
