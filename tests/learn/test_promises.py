"""Promises of precision that rows to come keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from cascade.learn.promises import (
    CONFIDENCE,
    Promise,
    fewest_rows,
    kept_cut,
    lower_bound,
    promise_lines,
)
from cascade.learn.thresholds import Curve


@given(st.integers(1, 400), st.data())
def test_the_bound_is_where_so_many_hits_become_unlikely(chosen, data):
    hits = data.draw(st.integers(0, chosen))
    bound = lower_bound(hits, chosen)
    assert 0 <= bound <= hits / chosen
    if hits:
        assert binom.sf(hits - 1, chosen, bound) == pytest.approx(1 - CONFIDENCE, rel=1e-6)


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.9, 0.99])
def test_the_fewest_rows_are_just_enough_when_all_are_right(precision):
    rows = fewest_rows(precision)
    scores = np.linspace(0.9, 0.99, rows).astype(np.float32)
    assert kept_cut(Curve.of(scores, np.ones(rows, dtype=bool)), precision) is not None
    assert kept_cut(Curve.of(scores[1:], np.ones(rows - 1, dtype=bool)), precision) is None


def rows_of(seed, n_rows=4000):
    """Scores of one label, and its truth, where a score is a true probability."""
    random = np.random.default_rng(seed)
    scores = random.beta(0.1, 0.4, n_rows).astype(np.float32)
    return scores, random.random(n_rows) < scores


def test_promises_are_kept_on_other_rows_by_nearly_all_labels():
    kept, made = 0, 0
    for seed in range(120):
        scores, truth = rows_of(seed)
        found = kept_cut(Curve.of(scores, truth), 0.8)
        if found is not None:
            other_scores, other_truth = rows_of(1000 + seed)
            chosen = other_scores >= np.float32(found[0])
            made += 1
            kept += not chosen.any() or other_truth[chosen].mean() >= 0.8
    assert made >= 60
    assert kept >= 0.95 * made


def test_of_the_cuts_that_keep_it_the_lowest_is_taken():
    scores = np.linspace(0.01, 0.99, 1000).astype(np.float32)
    truth = np.arange(1000) >= 500
    cut, bound = kept_cut(Curve.of(scores, truth), 0.9)
    chosen = scores >= np.float32(cut)
    assert truth[chosen].mean() >= 0.9
    assert chosen.sum() >= 0.8 * truth.sum()
    assert bound >= 0.9


def test_what_is_wrong_too_often_is_promised_nothing():
    scores, truth = rows_of(3)
    assert kept_cut(Curve.of(scores, np.roll(truth, 7)), 0.9) is None
    assert kept_cut(Curve.of(scores, truth), 1.0) is None


def test_what_cannot_be_promised_is_said_once_for_each_precision():
    promises = {"late": Promise(0.9, None), "lost": Promise(0.9, 0.95), "rude": Promise(0.8, None)}
    nine, eight = promise_lines(promises)
    assert nine.startswith("a precision of 0.9 cannot be promised for 1 of 3 labels")
    assert nine.endswith(": 'late'")
    assert eight.endswith(": 'rude'")
    assert list(promise_lines({"lost": Promise(0.9, 0.95)})) == []
