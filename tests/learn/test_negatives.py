from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.learn.datasets import Dataset
from cascade.learn.negatives import (
    DEAREST,
    F1_FOR_A_MILLION,
    FEWEST_ROWS,
    FIRST_TRIALS,
    LEAST_GAIN,
    MOST_CHILDREN,
    MOST_TRIALS,
    Trials,
    matched,
    nearest,
    price_of,
    rows_of,
    settle,
)
from cascade.nodes.contract import NodeProblem, sampled
from cascade.nodes.linear import make
from cascade.taxonomy.definition import Taxonomy
from cascade.testing import KeywordBackend
from cascade.text.texts import Texts


def trials_of(n_groups):
    """A level of so many groups; the first has one row more than the second, and so on."""
    names = [f"g{number}" for number in range(n_groups)]
    tree = {"name": "t", "groups": {name: {"labels": [f"{name}a", f"{name}b"]} for name in names}}
    rows = [[f"{name}a"] for at, name in enumerate(names) for _ in range(n_groups - at)]
    return names, Trials(Dataset.make(Taxonomy.from_dict(tree), ["x"] * len(rows), rows), 0, frozenset())


def test_first_few_groups_of_all_sizes_are_tried():
    names, trials = trials_of(60)
    found = trials.tried(names, {})
    assert len(found) == FIRST_TRIALS
    assert [names.index(name) for name in found] == sorted(names.index(name) for name in found)
    assert {names[0], names[-1]} <= set(found)
    assert trials.tried(names[:5], {}) == names[:5]
    assert trials.tried([], {}) == []


@pytest.mark.parametrize(("both", "more"), [(0, 0), (1, 0), (2, 30), (5, 30), (8, 30), (9, 0), (10, 0)])
def test_more_groups_are_tried_where_the_first_few_do_not_agree(both, more):
    names, trials = trials_of(60)
    first = trials.tried(names, {})
    settled = {name: "both" if at < both else "siblings" for at, name in enumerate(first)}
    found = trials.tried(names, settled)
    assert not set(found) & set(first)
    assert bool(found) == bool(more)
    assert len(found) <= MOST_TRIALS
    assert not found or len(found) >= more
    assert trials.tried(names, {**dict.fromkeys(found, "both"), **settled}) == []


@pytest.mark.parametrize(
    ("both", "expected"), [(22, "siblings"), (26, "siblings"), (27, "both"), (40, "both")]
)
def test_groups_that_were_not_tried_have_second_models_where_two_thirds_of_the_tried_do(both, expected):
    names, trials = trials_of(60)
    settled = {name: "both" if at < both else "siblings" for at, name in enumerate(names[:40])}
    found = trials.policies(names, names, settled)
    assert {found[name] for name in names[40:]} == {expected}
    assert {name: found[name] for name in names[:40]} == settled


class Remembering:
    """Scores by keyword, and remembers which rows it learned from and was asked about."""

    def __init__(self, backend):
        self.backend, self.calls = backend, []

    def fit_and_score(self, problem, train, test):
        self.calls.append((problem, train, test))
        return self.backend.fit_and_score(problem, train, test)


class NeedsNegatives(KeywordBackend):
    """Scores by keyword, but takes a stranger for anything as long as it has seen none."""

    def fit_and_score(self, problem, train, test):
        scores = super().fit_and_score(problem, train, test)
        if problem.own[train].all():
            strangers = np.array(["stranger" in text for text in problem.texts.take(test)])
            scores[strangers] = 0.95
        return scores


def problem_of(own, strangers, children=("late", "early")):
    """Rows of the group with one child each, then rows that were let in by mistake."""
    texts = [f"{children[row % len(children)]} order {row}" for row in range(own)]
    texts += [f"stranger {row}" for row in range(strangers)]
    targets = np.zeros((len(texts), len(children)), dtype=bool)
    targets[np.arange(own), np.arange(own) % len(children)] = True
    reached = np.arange(len(texts)) < own
    return NodeProblem(tuple(children), Texts(texts), targets, reached, seed=3)


def ones(problem):
    return np.ones(len(problem.texts), dtype=np.float32)


def test_other_rows_serve_where_they_keep_strangers_out():
    problem = problem_of(60, 60)
    assert settle(NeedsNegatives(), problem, ones(problem), price=0) == "both"


def test_other_rows_that_bring_less_than_their_price_are_left_out():
    problem = problem_of(300, 8)  # strangers lower F1 by little more than one in a hundred
    assert settle(NeedsNegatives(), problem, ones(problem), price=LEAST_GAIN) == "both"
    assert settle(NeedsNegatives(), problem, ones(problem), price=DEAREST) == "siblings"


def test_what_hardly_helps_is_left_out_even_if_it_costs_nothing():
    problem = problem_of(2000, 1)
    assert settle(NeedsNegatives(), problem, ones(problem), price=0) == "siblings"


def test_there_is_no_trial_of_what_is_too_dear():
    backend, problem = Remembering(NeedsNegatives()), problem_of(60, 60)
    assert settle(backend, problem, ones(problem), price=DEAREST * 1.01) == "siblings"
    assert backend.calls == []


def test_the_price_goes_by_the_characters_of_other_rows():
    texts = Texts(["a" * 1000, "b" * 500_000, "c", "d" * 1_500_000])
    assert price_of(texts, np.array([1, 3])) == pytest.approx(2 * F1_FOR_A_MILLION)
    assert price_of(texts.take(np.array([3, 0])), np.array([1])) == pytest.approx(F1_FOR_A_MILLION / 1000)
    assert price_of(texts, np.array([], dtype=np.int64)) == 0


def test_siblings_win_where_other_rows_add_nothing():
    problem = problem_of(60, 60)
    assert settle(KeywordBackend(), problem, ones(problem), price=0) == "siblings"


def test_siblings_win_where_routing_already_tells_strangers_apart():
    """Each one's path is so low that no cut would choose it."""
    problem = problem_of(60, 60)
    path = np.where(problem.own, 1.0, 0.01).astype(np.float32)
    assert settle(NeedsNegatives(), problem, path, price=0) == "siblings"


@pytest.mark.parametrize(("own", "strangers"), [(60, 0), (FEWEST_ROWS - 1, 60), (0, 60), (0, 0)])
def test_there_is_no_trial_without_strangers_or_with_few_rows(own, strangers):
    backend, problem = Remembering(NeedsNegatives()), problem_of(own, strangers)
    assert settle(backend, problem, ones(problem), price=0) == "siblings"
    assert backend.calls == []


def test_no_row_is_scored_by_a_model_that_learned_from_it_and_each_is_scored_under_both_policies():
    backend, problem = Remembering(KeywordBackend()), problem_of(40, 25)
    settle(backend, problem, ones(problem), price=0)
    asked = [row for _, train, test in backend.calls for row in test.tolist() if not set(train) & set(test)]
    assert sorted(asked) == sorted([*range(65), *range(65)])


def test_siblings_learn_from_own_rows_and_all_from_every_row_of_the_other_half():
    backend, problem = Remembering(KeywordBackend()), problem_of(40, 25)
    settle(backend, problem, ones(problem), price=0)
    only_own = [bool(problem.own[train].all()) for _, train, _ in backend.calls]
    assert sorted(only_own) == [False, False, True, True]
    for own, (_, train, test) in zip(only_own, backend.calls, strict=True):
        others = np.setdiff1d(np.arange(65), test)
        assert train.tolist() == (others[problem.own[others]] if own else others).tolist()


def test_a_wide_group_is_tried_out_on_its_most_frequent_children():
    children = [f"child{number}" for number in range(MOST_CHILDREN + 4)]
    problem = problem_of(200, 50, children)
    targets = problem.targets.copy()
    targets[:30, 2] = False
    targets[:30, 9] = True
    backend = Remembering(KeywordBackend())
    settle(backend, replace(problem, targets=targets), ones(problem), price=0)
    tried = backend.calls[0][0]
    assert len(tried.children) == MOST_CHILDREN
    assert "child9" in tried.children
    assert "child2" not in tried.children
    for column, child in enumerate(tried.children):
        np.testing.assert_array_equal(tried.targets[:, column], targets[:, children.index(child)])


def test_the_linear_backend_learns_strangers_from_other_rows():
    """Two children that differ by one word, and strangers that have the word of one of them too."""
    random = np.random.default_rng(0)
    filler = [f"filler{number}" for number in range(30)]

    def text(words):
        return " ".join([*words, *random.choice(filler, 4)])

    texts = [text(["parcel", "late"]) for _ in range(60)] + [text(["parcel", "broken"]) for _ in range(60)]
    texts += [text(["invoice", "late"]) for _ in range(120)]
    targets = np.zeros((240, 2), dtype=bool)
    targets[:60, 0] = targets[60:120, 1] = True
    problem = NodeProblem(("late", "broken"), Texts(texts), targets, np.arange(240) < 120, seed=0)
    assert settle(make(), problem, ones(problem), price=0) == "both"


def test_settling_is_the_same_twice():
    problem = problem_of(60, 60)
    assert len({settle(NeedsNegatives(), problem, ones(problem), price=0) for _ in range(3)}) == 1


def test_a_sample_keeps_order_and_repeats_itself():
    rows = np.arange(100, 200, dtype=np.int64)
    few = sampled(rows, 10, seed=1)
    assert len(few) == 10
    assert (np.diff(few) > 0).all()
    assert set(few.tolist()) <= set(rows.tolist())
    np.testing.assert_array_equal(few, sampled(rows, 10, seed=1))
    assert few.tolist() != sampled(rows, 10, seed=2).tolist()


def test_a_sample_of_no_more_rows_than_asked_for_is_all_of_them():
    rows = np.array([4, 8, 15], dtype=np.int64)
    assert sampled(rows, 3, seed=0).tolist() == [4, 8, 15]
    assert sampled(rows[:0], 3, seed=0).tolist() == []


def near_and_far(n_own, n_entered, n_far):
    """Own rows, those that enter by mistake, and all others; every fifth row is not to be learned from."""
    n_rows = n_own + n_entered + n_far
    rows = np.flatnonzero(np.arange(n_rows) % 5)
    return rows, np.arange(n_rows) < n_own, np.arange(n_own // 2, n_own + n_entered)


def test_rows_that_reach_a_group_are_learned_from_and_of_the_others_as_many_as_may_be():
    rows, own, entered = near_and_far(20, 30, 500)
    found = matched(rows, own, entered, 100, seed=0)
    assert (np.diff(found) > 0).all()
    assert set(found.tolist()) <= set(rows.tolist())
    assert found[found < 50].tolist() == rows[rows < 50].tolist()
    assert (found >= 50).sum() == 100
    np.testing.assert_array_equal(found, matched(rows, own, entered, 100, seed=0))
    assert found.tolist() != matched(rows, own, entered, 100, seed=1).tolist()


def test_of_many_rows_that_enter_by_mistake_the_likeliest_are_learned_from():
    _, own, entered = near_and_far(10, 500, 20)
    path = np.random.default_rng(0).random(len(entered)).astype(np.float32)
    path[own[entered]] = 1
    found = nearest(own, entered, path, 5, 100)
    assert len(found) == 10
    assert len(nearest(own, entered, path, 100, 200)) == 100
    assert len(nearest(own, entered, path, 2, 7)) == 7
    assert (np.diff(found) > 0).all()
    assert not own[found].any()
    taken = np.isin(entered, found)
    assert path[taken].min() >= path[~taken & ~own[entered]].max()


def test_few_rows_that_enter_by_mistake_are_all_learned_from():
    _, own, entered = near_and_far(40, 30, 60)
    np.testing.assert_array_equal(nearest(own, entered, np.ones(len(entered)), 5, 100), np.arange(40, 70))


def test_there_are_no_others_where_none_may_be():
    rows, own, entered = near_and_far(20, 30, 500)
    np.testing.assert_array_equal(matched(rows, own, entered, 0, seed=0), rows[rows < 50])


def test_few_others_are_all_learned_from():
    rows, own, entered = near_and_far(20, 30, 60)
    np.testing.assert_array_equal(matched(rows, own, entered, 100, seed=0), rows)


def test_rows_are_counted_by_their_characters():
    assert rows_of(Texts(["a" * 10, "b" * 30]), 1000) == 50
    assert rows_of(Texts(["", ""]), 1000) == 1000
