"""Where a tier hands on: what it loses against the next, and what is not worth it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.nodes.contract import GroupDescription, NodeProblem
from cascade.text.texts import Texts
from cascade.tiers.settle import settle
from cascade.validation.doubts import best_cut

ROWS = 3000


def problem_of(targets, choose="many", weights=None):
    texts = Texts([str(row) for row in range(len(targets))])
    children = tuple(f"c{column}" for column in range(targets.shape[1]))
    own, about = np.ones(len(targets), dtype=bool), GroupDescription(choose=choose)
    return NodeProblem(children, texts, targets, own, description=about, weights=weights)


def one_of(rows, children=3, seed=0):
    """One child for each row."""
    truth = np.random.default_rng(seed).integers(0, children, rows)
    return np.eye(children, dtype=bool)[truth]


def says(targets, unsure=None, wrong=None):
    """Scores that are right and sure, but for `unsure` rows, which are a toss-up, and `wrong` ones."""
    scores = np.where(targets, 0.98, 0.02).astype(np.float32)
    if unsure is not None:
        scores[unsure] = np.random.default_rng(1).uniform(0.3, 0.6, (int(unsure.sum()), targets.shape[1]))
    if wrong is not None:
        scores[wrong] = np.roll(scores[wrong], 1, axis=1)
    return scores


def every(number, rows=ROWS, first=0):
    found = np.zeros(rows, dtype=bool)
    found[first::number] = True
    return found


def test_a_tier_answers_what_it_is_sure_of_and_hands_on_the_rest():
    targets, unsure = one_of(ROWS), every(3)
    found = settle([says(targets, unsure), says(targets)], problem_of(targets), 0.002)
    assert (found.answered_by[~unsure] == 0).all()
    assert np.mean(found.answered_by[unsure] == 1) > 0.95
    assert ((found.scores > 0.5) == targets).mean() > 0.99
    assert found.lost <= 0.002


def test_a_tier_that_is_wrong_where_it_is_sure_answers_nothing_and_scores_stay_as_they_came():
    targets = one_of(ROWS)
    dear = says(targets)
    found = settle([says(targets, wrong=every(10)), dear], problem_of(targets), 0.002)
    assert found.handovers == (None, None)
    assert (found.answered_by == 1).all()
    assert found.scores is dear


def test_the_same_tier_answers_where_more_may_be_lost():
    targets, wrong = one_of(ROWS), every(50)
    tiers = [says(targets, wrong=wrong), says(targets)]
    assert settle(tiers, problem_of(targets), 0.002).handovers[0] is None
    assert (settle(tiers, problem_of(targets), 0.1).answered_by == 0).all()


def test_few_rows_prove_nothing():
    targets = one_of(300)
    tiers = [says(targets), says(targets)]
    assert settle(tiers, problem_of(targets), 0.002).handovers[0] is None
    assert settle(tiers, problem_of(targets), 0.02).handovers[0] is not None


def test_each_of_three_tiers_answers_its_own():
    targets = one_of(ROWS)
    first, second = every(2), every(4)
    tiers = [says(targets, first), says(targets, second), says(targets)]
    found = settle(tiers, problem_of(targets), 0.004)
    assert (found.answered_by[~first] == 0).all()
    assert np.mean(found.answered_by[first & ~second] == 1) > 0.95
    assert np.mean(found.answered_by[second] == 2) > 0.9


def test_two_tiers_before_the_last_share_what_may_be_lost():
    targets = one_of(ROWS)
    same = says(targets)
    # So many rows prove 0.00055 where nothing is lost.
    assert settle([same, same], problem_of(targets), 0.0008).handovers[0] is not None
    assert settle([same, same, same], problem_of(targets), 0.0008).handovers == (None, None, None)
    assert settle([same, same, same], problem_of(targets), 0.0012).handovers[0] is not None


def test_a_tier_in_the_middle_that_is_not_worth_it_is_left_out():
    targets = one_of(ROWS)
    tiers = [says(targets, every(3)), says(targets, wrong=every(5)), says(targets)]
    found = settle(tiers, problem_of(targets), 0.004)
    assert [one is None for one in found.handovers] == [False, True, False]
    assert set(found.answered_by.tolist()) == {0, 2}


def test_a_tier_that_finds_nothing_doubts_without_end_where_rows_have_a_child():
    targets = one_of(ROWS)
    nothing = every(4)
    scores = says(targets)
    scores[nothing] = 0.02
    found = settle([scores, says(targets)], problem_of(targets), 0.5)
    assert (found.answered_by[nothing] == 1).all()
    assert (found.answered_by[~nothing] == 0).all()


def test_to_find_nothing_is_an_answer_where_most_rows_have_nothing():
    targets = one_of(ROWS)
    targets[every(10) | every(2) | every(3)] = False
    found = settle([says(targets), says(targets)], problem_of(targets), 0.02)
    assert (found.answered_by == 0).all()


def test_where_one_is_chosen_at_most_only_the_best_counts():
    targets = one_of(ROWS)
    scores = says(targets)
    close = every(2)
    scores[close] = np.where(targets[close], 0.95, 0.9)
    [handover, _] = settle([scores, scores], problem_of(targets, "one"), 0.5).handovers
    assert (handover.chosen(handover.calibration.apply(scores)) == targets).all()


def test_rows_count_for_what_they_weigh():
    targets, wrong = one_of(ROWS), every(20)
    tiers = [says(targets, wrong=wrong), says(targets)]
    light = np.where(wrong, 1e-4, 1.0).astype(np.float32)
    assert settle(tiers, problem_of(targets), 0.004).handovers[0] is None
    assert settle(tiers, problem_of(targets, weights=light), 0.004).handovers[0] is not None


scores = st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 2), min_size=1, max_size=30)


@settings(max_examples=60)
@given(scores, st.integers(0, 2**20))
def test_the_best_cut_is_as_good_as_any(drawn, seed):
    values = np.array(drawn, dtype=np.float32)
    targets = np.random.default_rng(seed).random(values.shape) < 0.4

    def f1(cut):
        chosen = values >= cut
        return 2 * (chosen & targets).sum() / max(chosen.sum() + targets.sum(), 1)

    cut, figure = best_cut(values, targets)
    assert figure == pytest.approx(max([f1(value) for value in np.unique(values)], default=0))
    assert f1(cut) == pytest.approx(figure)
