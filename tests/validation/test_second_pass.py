"""How much answers count beside what was known before."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from cascade.validation.second_pass import fit_second_pass


def drawn(n_cells, weights, of_labels, seed=0):
    random = np.random.default_rng(seed)
    before, answers = random.normal(size=n_cells), random.normal(size=n_cells)
    labels = random.integers(0, len(of_labels), n_cells)
    raised = weights[0] + weights[1] * before + (weights[2] + np.array(of_labels)[labels]) * answers
    return before, answers, labels, random.random(n_cells) < 1 / (1 + np.exp(-raised))


def test_the_weights_that_made_the_truth_are_found():
    shared, of_labels = fit_second_pass(*drawn(40_000, (-0.5, 0.8, 1.2), [0.0, 0.0, 0.0]), 3)
    assert shared == pytest.approx((-0.5, 0.8, 1.2), abs=0.1)
    assert of_labels == pytest.approx([0, 0, 0], abs=0.1)


def test_a_label_about_which_answers_are_worthless_has_them_count_for_nothing():
    shared, of_labels = fit_second_pass(*drawn(40_000, (0.0, 1.0, 1.5), [0.0, 0.0, -1.5]), 3)
    own = shared[2] + of_labels
    assert own[:2] == pytest.approx([1.5, 1.5], abs=0.1)
    assert own[2] == pytest.approx(0, abs=0.1)


def test_a_few_answers_move_little_and_none_move_nothing():
    shared, of_labels = fit_second_pass(*drawn(3, (0.0, 1.0, 5.0), [0.0, 0.0]), 2)
    assert abs(shared[0]) < 0.7
    assert abs(shared[1] - 1) < 0.3
    assert 0 <= shared[2] < 1.2
    nothing = np.empty(0)
    shared, of_labels = fit_second_pass(nothing, nothing, np.empty(0, np.int64), np.empty(0, bool), 4)
    assert shared == (0.0, 1.0, 0.0)
    assert of_labels.tolist() == [0.0] * 4


def test_answers_that_always_lie_get_a_weight_below_nothing():
    before, answers, labels, targets = drawn(2_000, (0.0, 1.0, -1.0), [0.0])
    shared, _ = fit_second_pass(before, answers, labels, targets, 1)
    assert shared[2] < -0.8


def test_it_is_the_least_that_a_general_optimizer_finds_too():
    before, answers, labels, targets = drawn(200, (0.3, 1.0, 0.7), [0.0, 0.4], seed=3)
    shared, of_labels = fit_second_pass(before, answers, labels, targets, 2)

    def loss(weights):
        raised = weights[0] + weights[1] * before + (weights[2] + weights[3:][labels]) * answers
        pulls = np.array([1.0, 4.0, 1.0, 10.0, 10.0]) * (weights - np.array([0, 1, 0, 0, 0])) ** 2
        return np.logaddexp(0, raised).sum() - raised[targets].sum() + pulls.sum() / 2

    best = minimize(loss, np.array([0.0, 1.0, 0.0, 0.0, 0.0]), method="BFGS").x
    assert [*shared, *of_labels] == pytest.approx(best, abs=1e-4)
