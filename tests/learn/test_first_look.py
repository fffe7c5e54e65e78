"""What words alone may answer: the bound of doubt, and the model that comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.learn.first_look import Answers, keeps_promises, losses
from cascade.learn.truth import Cells
from cascade.validation.doubts import ONE_LABEL, greatest_doubt

ROWS = 4000
ONE = ONE_LABEL / (2 * ROWS)  # a row has one label, and is answered one


def bound_of(lost, most_lost=0.002):
    return greatest_doubt(np.linspace(0, 1, len(lost)), np.asarray(lost, dtype=float), ONE, most_lost)


def test_rows_are_answered_by_words_up_to_where_they_lose_too_much():
    lost = np.zeros(ROWS)
    lost[2000::10] = ONE
    bound = bound_of(lost)
    answered = np.linspace(0, 1, ROWS) <= bound
    assert 0.5 < bound < 0.52
    assert lost[answered].sum() < 0.002


def test_more_may_be_answered_where_more_may_be_lost():
    lost = np.tile([0.0, 0.0, 0.0, ONE], ROWS // 4)
    bounds = [bound_of(lost, most) for most in (0.002, 0.01, 0.05)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[1] < bounds[2]


def test_what_is_won_later_does_not_pay_for_what_was_lost_first():
    lost = np.zeros(ROWS)
    lost[100:140], lost[200:400] = ONE, -ONE
    assert bound_of(lost) < 120 / ROWS


def test_few_rows_without_any_loss_say_too_little():
    few = greatest_doubt(np.linspace(0, 1, 200), np.zeros(200), ONE_LABEL / 400, 0.002)
    many = greatest_doubt(np.linspace(0, 1, 2000), np.zeros(2000), ONE_LABEL / 4000, 0.002)
    assert few is None
    assert many == 1


def test_equal_doubts_are_answered_alike():
    doubts = np.repeat([0.1, 0.2, 0.3], 1000)
    lost = np.zeros(3000)
    lost[1500:1600] = ONE_LABEL / 6000
    assert greatest_doubt(doubts, lost, ONE_LABEL / 6000, 0.002) == 0.1


def test_who_doubts_without_end_answers_nothing():
    doubts = np.where(np.arange(3000) < 2000, 0.5, np.inf)
    assert greatest_doubt(doubts, np.zeros(3000), ONE_LABEL / 6000, 0.002) == 0.5
    assert greatest_doubt(np.full(3000, np.inf), np.zeros(3000), ONE_LABEL / 6000, 0.002) is None


@given(st.integers(0, 2**32 - 1), st.floats(0.0005, 0.05))
def test_no_more_is_lost_than_may_be_whatever_the_order_of_rows(seed, most_lost):
    random = np.random.default_rng(seed)
    doubts = random.random(3000).round(3)
    lost = random.choice([0, ONE, -ONE], 3000, p=[0.8, 0.15, 0.05]) * doubts
    bound = greatest_doubt(doubts, lost, ONE, most_lost)
    order = random.permutation(3000)
    assert greatest_doubt(doubts[order], lost[order], ONE, most_lost) == bound
    if bound is not None:
        assert lost[doubts <= bound].sum() <= most_lost


# What a row loses


def cells(table):
    table = np.array(table, dtype=bool)
    return Cells.of_columns(len(table), [np.flatnonzero(column) for column in table.T])


def answers(truth, chosen):
    truth, chosen = np.array(truth, dtype=bool), np.array(chosen, dtype=bool)
    return Answers((truth & chosen).sum(axis=1), chosen.sum(axis=1), cells(truth), cells(chosen))


def micro_f1(truth, chosen, counts):
    truth, chosen = np.array(truth, dtype=bool), np.array(chosen, dtype=bool)
    hits, both = ((truth & chosen) * counts[:, None]).sum(), ((truth * 1 + chosen) * counts[:, None]).sum()
    return 2 * hits / both


def test_what_a_row_loses_is_the_change_of_micro_f1():
    random = np.random.default_rng(0)
    truth = random.random((2000, 4)) < 0.3
    second = truth ^ (random.random(truth.shape) < 0.05)
    first = second.copy()
    first[7] = ~truth[7]
    counts = np.ones(2000, dtype=np.int64)
    lost, total = losses(answers(truth, first), answers(truth, second), counts)
    assert (lost != 0).sum() == 1
    change = micro_f1(truth, second, counts) - micro_f1(truth, first, counts)
    assert lost.sum() / total == pytest.approx(change, rel=0.01)
    counts[7] = 10
    lost, total = losses(answers(truth, first), answers(truth, second), counts)
    change = micro_f1(truth, second, counts) - micro_f1(truth, first, counts)
    assert lost.sum() / total == pytest.approx(change, rel=0.02)


def test_a_promise_that_only_the_second_look_keeps_counts():
    truth = np.ones((400, 1), dtype=bool)
    truth[:40] = False
    right, all_of_them = answers(truth, truth), answers(truth, np.ones_like(truth))
    promises = {"late": {"precision": 0.9, "bound": 0.98}}
    by_first = np.arange(400) < 200
    assert keeps_promises(by_first, right, right, ("late",), promises)
    assert not keeps_promises(by_first, all_of_them, right, ("late",), promises)
    assert keeps_promises(
        by_first, all_of_them, right, ("late",), {"late": {"precision": 0.9, "bound": None}}
    )
    assert keeps_promises(by_first, all_of_them, right, ("late",), {})
