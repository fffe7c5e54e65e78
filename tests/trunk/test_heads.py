"""Heads: lessons, what competing children make of logits, and a head that is taught alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cascade.nodes.contract import GroupDescription, NodeProblem
from cascade.text.texts import Texts
from cascade.trunk.heads import MOST_WEIGHT, SCALE, Lesson, Weights, competing, taught

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(-60, 60))


def problem_of(targets, choose="many"):
    targets = np.array(targets, dtype=bool)
    names = tuple(f"child {number}" for number in range(targets.shape[1]))
    texts = Texts([f"text {row}" for row in range(len(targets))])
    return NodeProblem(
        names, texts, targets, np.ones(len(targets), dtype=bool), description=GroupDescription(choose=choose)
    )


@given(LOGITS)
def test_competing_children_share_what_is_certain_with_none_of_them(logits):
    odds = competing(logits)
    shares = 1 / (1 + np.exp(-odds))
    expected = np.exp(logits - np.logaddexp.reduce(np.c_[logits, np.zeros(len(logits))], axis=1)[:, None])
    np.testing.assert_allclose(shares, expected, atol=1e-9)
    assert (shares.sum(axis=1) <= 1 + 1e-9).all()


@given(LOGITS)
def test_competition_keeps_the_order_of_children(logits):
    odds = competing(logits)
    order = np.argsort(logits, axis=1, kind="stable")
    ranked = np.take_along_axis(odds, order, axis=1)
    assert (np.diff(ranked, axis=1) >= -1e-9).all()


def test_children_compete_where_no_row_has_two_of_them():
    rows = np.arange(3)
    assert Lesson.of(problem_of([[1, 0], [0, 1], [0, 0]]), rows).exclusive
    assert not Lesson.of(problem_of([[1, 1], [0, 1], [0, 0]]), rows).exclusive
    assert not Lesson.of(problem_of([[1], [1], [0]]), rows).exclusive
    assert Lesson.of(problem_of([[1], [1], [0]], choose="one"), rows).exclusive


def test_a_head_begins_with_the_share_of_each_child():
    many = Lesson.of(problem_of([[1, 1], [1, 0], [0, 0], [1, 0]]), np.arange(4)).first_biases()
    np.testing.assert_allclose(1 / (1 + np.exp(-many)), [0.75, 0.25], rtol=1e-5)
    one = Lesson.of(problem_of([[1, 0], [1, 0], [0, 1], [0, 0]]), np.arange(4)).first_biases()
    np.testing.assert_allclose(
        1 / (1 + np.exp(-competing(one[None, :].astype(float))))[0], [0.5, 0.25], rtol=1e-4
    )


def test_rare_children_count_for_more_up_to_a_bound_and_common_ones_for_no_less():
    targets = np.zeros((1000, 5), dtype=bool)
    for child, count in enumerate((400, 100, 100, 25, 1)):
        targets[:count, child] = True
    found = Lesson(np.arange(1000), targets, exclusive=False).weights
    np.testing.assert_allclose(found, [1, 1, 1, 2, MOST_WEIGHT])


def test_a_lesson_leaves_out_rows():
    lesson = Lesson(np.array([2, 5, 7]), np.eye(3, dtype=bool), exclusive=True)
    left = lesson.without(np.isin(np.arange(9), [5]))
    assert left.rows.tolist() == [2, 7]
    assert left.targets.tolist() == [[True, False, False], [False, False, True]]


def clouds(count, seed):
    """Vectors of unit length around one direction for each of three classes, and the class of each."""
    random = np.random.default_rng(seed)
    classes = random.integers(3, size=count)
    found = np.eye(3)[classes] + 0.2 * random.normal(size=(count, 3))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32), classes


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("children", [2, 3])
def test_a_head_alone_learns_what_vectors_tell(exclusive, children):
    vectors, classes = clouds(300, seed=0)
    targets = classes[:, None] == np.arange(children)
    lesson = Lesson(np.arange(300), targets, exclusive)
    weights = taught(lesson, vectors, seed=0)
    others, truth = clouds(200, seed=1)
    answered = weights.log_odds(others) > 0
    assert (answered == (truth[:, None] == np.arange(children))).mean() > 0.97
    assert weights.exclusive == exclusive


def test_a_child_without_rows_is_never_answered():
    vectors, classes = clouds(200, seed=0)
    targets = np.c_[classes == 0, np.zeros(200, dtype=bool), classes == 1]
    for exclusive in (True, False):
        odds = taught(Lesson(np.arange(200), targets, exclusive), vectors, seed=0).log_odds(vectors)
        assert (odds[:, 1] < 0).all()


def test_a_head_of_one_class_alone_keeps_to_its_share():
    vectors, _ = clouds(20, seed=0)
    for exclusive in (True, False):
        lesson = Lesson(np.arange(20), np.ones((20, 1), dtype=bool), exclusive)
        assert (taught(lesson, vectors, seed=0).log_odds(vectors) > 3).all()


def test_weights_are_for_vectors_of_unit_length():
    values = np.array([[1.0], [2.0]], dtype=np.float32)
    found = Weights(values * SCALE, np.array([0.5], dtype=np.float32), exclusive=False)
    np.testing.assert_allclose(found.log_odds(np.array([[0.6, 0.8]], dtype=np.float32)), [[22.5]], rtol=1e-5)
