"""Where each tier of a group hands on, settled on rows that no model of it knew when it scored them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cascade.nodes.contract import NodeProblem
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.validation.calibration import Calibration, fit_calibration
from cascade.validation.doubts import (
    LEAST_SHARE,
    ONE_LABEL,
    best_cut,
    expected_errors,
    greatest_doubt,
    micro_f1_lost,
)

# Where fewer rows have any child, as where a model learns from the rows of all groups, a text for which none
# is found is no reason for doubt.
USUALLY = 0.5


@dataclass(frozen=True, eq=False)
class Handover:
    """How a tier answers, and up to where its answer stands.

    Attributes
    ----------
    calibration
        Makes probabilities of its scores, so that those of all tiers are of one kind.
    cut
        The least probability of a child that counts as chosen; infinite where nothing is.
    doubt
        The greatest number of children expected to be wrong at which its answer stands.
    exclusive
        Whether a text has one of the children at most.
    may_be_none
        Whether to have none of them is an answer like others.
    """

    calibration: Calibration
    cut: float
    doubt: float
    exclusive: bool
    may_be_none: bool

    def chosen(self, probabilities: FloatArray) -> BoolArray:
        """What counts as chosen, bool, shape of the calibrated `probabilities`, (n_texts, n_children)."""
        found: BoolArray = probabilities >= self.cut
        return found & _is_best(probabilities) if self.exclusive else found

    def doubts(self, probabilities: FloatArray) -> NDArray[np.float64]:
        """How many children of each text are expected to be wrong, float64, shape (n_texts,).

        Infinite where nothing is chosen, if it `may_be_none` not: what one tier does not find the next may.
        """
        found = np.empty(len(probabilities), dtype=np.float64)
        expected_errors(probabilities, self.chosen(probabilities), 0, self.may_be_none, found)
        return found


@dataclass(frozen=True, eq=False)
class Settled:
    """What came of the tiers of a group.

    Attributes
    ----------
    handovers
        Of each tier; None of one that is not worth it, and answers nothing. That of the last answers all.
    answered_by
        int64, shape (n_rows,): the tier that answers each row.
    scores
        float32, shape (n_rows, n_children): what it answers.
    lost
        The micro F1 of the children that this loses among these rows, below 0 where it wins some.
    """

    handovers: tuple[Handover | None, ...]
    answered_by: IntArray
    scores: FloatArray
    lost: float


def settle(scores: Sequence[FloatArray], problem: NodeProblem, most_lost: float) -> Settled:
    """What each tier may answer, from the last to the first: each is held against what comes after it.

    The loss that may be is shared alike by those before the last. Where none of them is worth it the scores
    are those of the last one as they came.

    Parameters
    ----------
    scores
        Of each tier, the cheapest first, float32, shape (n_rows, n_children): by models that never saw the
        row.
    problem
        These rows.
    most_lost
        So much micro F1 of the group's children may be lost against the last tier for all rows.
    """
    targets, last = problem.targets, len(scores) - 1
    if not last:
        return Settled((None,), np.zeros(len(targets), dtype=np.int64), scores[0], 0.0)
    exclusive = problem.description.choose == "one" or bool((targets.sum(axis=1) <= 1).all())
    may_be_none = bool(targets.any(axis=1).mean() < USUALLY)
    ready = [_ready(one, targets, exclusive=exclusive, may_be_none=may_be_none) for one in scores]
    probabilities = [one.calibration.apply(own) for one, own in zip(ready, scores, strict=True)]
    chosen = [one.chosen(own) for one, own in zip(ready, probabilities, strict=True)]
    found: list[Handover | None] = [None] * len(scores)
    answered_by, answers = np.full(len(targets), last, dtype=np.int64), chosen[last]
    for place in reversed(range(last)):
        doubts = ready[place].doubts(probabilities[place])
        lost, one_label = _lost(chosen[place], answers, problem)
        bound = greatest_doubt(doubts, lost, one_label, most_lost / last)
        if bound is None or np.mean(doubts <= bound) < LEAST_SHARE:
            continue
        sure = doubts <= bound
        found[place] = replace(ready[place], doubt=bound)
        answered_by[sure] = place
        answers = np.where(sure[:, None], chosen[place], answers)
    if all(one is None for one in found):
        return Settled(tuple(found), answered_by, scores[last], 0.0)
    found[last] = ready[last]
    joined = np.choose(answered_by[:, None], probabilities)
    lost, _ = _lost(answers, chosen[last], problem)
    return Settled(tuple(found), answered_by, joined, float(lost.sum()))


def _ready(scores: FloatArray, targets: BoolArray, *, exclusive: bool, may_be_none: bool) -> Handover:
    """A tier that answers everything."""
    calibration = fit_calibration(scores, targets)
    own = calibration.apply(scores)
    may_be = np.where(_is_best(own), own, np.float32(np.nan)) if exclusive else own
    return Handover(calibration, best_cut(may_be, targets)[0], float("inf"), exclusive, may_be_none)


def _is_best(probabilities: FloatArray) -> BoolArray:
    """The first child of the highest probability of each text, bool, shape (n_texts, n_children)."""
    found = np.zeros(probabilities.shape, dtype=np.bool_)
    found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
    return found


def _lost(cheap: BoolArray, dear: BoolArray, problem: NodeProblem) -> tuple[NDArray[np.float64], float]:
    """The micro F1 that each row loses where it gets the cheap answer, and that of one label."""
    hits = (cheap & problem.targets).sum(axis=1), (dear & problem.targets).sum(axis=1)
    counts = np.ones(len(problem.targets)) if problem.weights is None else problem.weights.astype(np.float64)
    chosen, given = (cheap.sum(axis=1), dear.sum(axis=1)), problem.targets.sum(axis=1)
    lost, total = micro_f1_lost(hits, chosen, given, counts)
    return lost / total, ONE_LABEL / total
