"""How much an answer about a label counts beside the probability that it had before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, IntArray
from cascade.validation.calibration import GOOD_ENOUGH, HALVINGS, STEPS, sigmoid

# Pseudo-observations that speak for no change: of the offset, of the weight of the probability before, of
# that of an answer, and of what is different for a label.
_PULLS = (1.0, 4.0, 1.0, 10.0)
_NO_CHANGE = (0.0, 1.0, 0.0)

Floats = NDArray[np.float64]


def fit_second_pass(
    before: Floats, answers: Floats, labels: IntArray, targets: BoolArray, n_labels: int
) -> tuple[tuple[float, float, float], Floats]:
    """The weights of sigmoid(offset + own * before + (answer + of_label) * answers) that fit the truth best.

    Logistic regression with a Gaussian prior around no change, that is around the weights (0, 1, 0) and 0 for
    each label, by Newton's method with step halving: a few answers move little, and a label with few of them
    has nearly the weight of all.

    Parameters
    ----------
    before, answers
        float64, shape (n_cells,): log odds of the probability before, and of the answer yes.
    labels
        int64, shape (n_cells,): the label of each, from 0.
    targets
        bool, shape (n_cells,): whether it is true.

    Returns
    -------
    The weights of 1, of the probability before and of an answer; and what of the last is different for each
    label, float64, shape (n_labels,), 0 for those without an answer.
    """
    occurring = np.unique(labels)
    each = np.zeros((len(before), len(occurring)))
    each[np.arange(len(labels)), np.searchsorted(occurring, labels)] = answers
    inputs = np.column_stack([np.ones_like(before), before, answers, each])
    centre = np.array([*_NO_CHANGE, *np.zeros(len(occurring))])
    pulls = np.array([*_PULLS[:3], *np.full(len(occurring), _PULLS[3])])
    found = _newton(inputs, targets, centre, pulls)
    of_labels = np.zeros(n_labels)
    of_labels[occurring] = found[3:]
    return (float(found[0]), float(found[1]), float(found[2])), of_labels


def _newton(inputs: Floats, targets: BoolArray, centre: Floats, pulls: Floats) -> Floats:
    """The weights with the least log loss and pull to the centre."""
    weights = centre.copy()
    reached = _loss(inputs, targets, weights, centre, pulls)
    for _ in range(STEPS):
        chances = sigmoid(inputs @ weights)
        gradient = inputs.T @ (chances - targets) + pulls * (weights - centre)
        bend = np.maximum(chances * (1 - chances), 1e-12)
        step = np.linalg.solve((inputs * bend[:, None]).T @ inputs + np.diag(pulls), gradient)
        promised = float(gradient @ step)
        if promised < GOOD_ENOUGH:
            break
        for halving in range(HALVINGS):
            length = 0.5**halving
            moved = weights - length * step
            loss = _loss(inputs, targets, moved, centre, pulls)
            if loss < reached - 1e-4 * length * promised:
                weights, reached = moved, loss
                break
        else:
            break
    return weights


def _loss(inputs: Floats, targets: BoolArray, weights: Floats, centre: Floats, pulls: Floats) -> float:
    raised = inputs @ weights
    wrong = np.logaddexp(0, raised) - np.where(targets, raised, 0)
    return float(wrong.sum() + (pulls * (weights - centre) ** 2).sum() / 2)
