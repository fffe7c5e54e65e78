from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.validation.folds import stratified_folds


def distinct(rows):
    """A cluster for each row."""
    return np.arange(rows)


def counts_by_fold(targets, fold_of, folds):
    """int, shape (folds, n_children)."""
    return np.array([targets[fold_of == fold].sum(axis=0) for fold in range(folds)])


@given(st.lists(st.integers(0, 7), max_size=80), st.integers(2, 5), st.integers(0, 1000))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_rows_of_exclusive_labels_are_spread_within_one_of_even(labels, folds, seed):
    """Label 0 stands for none."""
    targets = np.array([[label == column for column in range(1, 8)] for label in labels], dtype=bool).reshape(
        -1, 7
    )
    fold_of = stratified_folds(targets, distinct(len(labels)), folds, seed)
    counts = counts_by_fold(targets, fold_of, folds)
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_independent_labels_are_spread_nearly_evenly(seed):
    random = np.random.default_rng(seed)
    targets = random.random((1000, 10)) < np.geomspace(0.3, 0.01, 10)
    counts = counts_by_fold(targets, stratified_folds(targets, distinct(1000), 3, seed), 3)
    even = targets.sum(axis=0) / 3
    assert (np.abs(counts - even).max(axis=0) <= np.maximum(1, 0.05 * even)).all()


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_nearly_of_one_size(seed):
    random = np.random.default_rng(seed)
    targets = random.random((600, 20)) < 0.05
    sizes = np.bincount(stratified_folds(targets, distinct(600), 3, seed), minlength=3)
    assert sizes.max() - sizes.min() <= 6


def test_rare_labels_are_spread_far_better_than_by_chance():
    random = np.random.default_rng(0)
    targets = random.random((900, 60)) < 0.008
    fold_of = stratified_folds(targets, distinct(900), 3, 0)
    by_chance = [uneven(targets, random.integers(0, 3, 900)) for _ in range(20)]
    assert uneven(targets, fold_of) < min(by_chance) / 2


def uneven(targets, fold_of):
    """Mean over labels of the gap between the fold with most of its rows and the one with fewest."""
    counts = counts_by_fold(targets, fold_of, 3)
    return float((counts.max(axis=0) - counts.min(axis=0)).mean())


@pytest.mark.parametrize("seed", range(6))
def test_a_label_with_as_many_rows_as_folds_stands_once_in_each(seed):
    random = np.random.default_rng(seed)
    targets = random.random((200, 4)) < 0.3
    rare = np.zeros((200, 1), dtype=bool)
    rare[[3, 77, 150]] = targets[[3, 77, 150], :2] = True
    fold_of = stratified_folds(np.hstack([targets, rare]), distinct(200), 3, seed)
    assert sorted(fold_of[[3, 77, 150]].tolist()) == [0, 1, 2]


@given(
    st.lists(
        st.sampled_from(["a b", "A  b", " a\tB\n", "a\u00a0b", "ab", "STRASSE", "straße", "", "  "]),
        max_size=40,
    ),
    st.integers(0, 100),
)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_texts_equal_but_for_case_and_blanks_stand_in_one_fold(texts, seed):
    random = np.random.default_rng(seed)
    fold_of = stratified_folds(random.random((len(texts), 3)) < 0.4, clusters_of(Texts(texts)), 3, seed)
    same = {}
    for text, fold in zip(texts, fold_of.tolist(), strict=True):
        same.setdefault("".join(text.split()).casefold() if text != "ab" else "one word", set()).add(fold)
    assert all(len(folds) == 1 for folds in same.values())


@given(st.integers(0, 30), st.integers(0, 6), st.integers(1, 5), st.integers(0, 1000))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_every_row_has_a_fold_and_the_same_one_each_time(rows, labels, folds, seed):
    targets = np.random.default_rng(seed).random((rows, labels)) < 0.4
    fold_of = stratified_folds(targets, distinct(rows), folds, seed)
    assert fold_of.dtype == np.int64
    assert fold_of.shape == (rows,)
    assert ((fold_of >= 0) & (fold_of < folds)).all()
    np.testing.assert_array_equal(fold_of, stratified_folds(targets, distinct(rows), folds, seed))


def test_another_seed_gives_other_folds():
    targets = np.random.default_rng(0).random((100, 3)) < 0.3
    first, second = (stratified_folds(targets, distinct(100), 3, seed) for seed in (0, 1))
    assert (first != second).any()


def test_the_targets_are_left_as_they_were():
    targets = np.random.default_rng(0).random((50, 3)) < 0.3
    before = targets.copy()
    stratified_folds(targets, distinct(50), 3, 0)
    np.testing.assert_array_equal(targets, before)


def test_rows_without_labels_fill_the_folds_evenly():
    fold_of = stratified_folds(np.zeros((10, 2), dtype=bool), distinct(10), 3, 0)
    assert sorted(np.bincount(fold_of).tolist()) == [3, 3, 4]


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(2, 4), st.integers(0, 100))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_rows_of_one_cluster_stand_in_one_fold_whatever_its_number(clusters, folds, seed):
    targets = np.random.default_rng(seed).random((len(clusters), 4)) < 0.3
    fold_of = stratified_folds(targets, np.array(clusters, dtype=np.int64), folds, seed)
    together = set(zip(clusters, fold_of.tolist(), strict=True))
    assert len(together) == len(set(clusters))
    spread = 1000 + 77 * np.array(clusters, dtype=np.int64)
    np.testing.assert_array_equal(stratified_folds(targets, spread, folds, seed), fold_of)


@pytest.mark.parametrize("seed", range(5))
def test_a_cluster_counts_as_many_times_as_it_has_rows_with_a_label(seed):
    """Six rows of one text have the label, and six others have it one by one."""
    clusters = np.array([0] * 6 + list(range(1, 25)))
    targets = (np.arange(30) < 12)[:, None]
    counts = counts_by_fold(targets, stratified_folds(targets, clusters, 2, seed), 2)
    assert counts.tolist() == [[6], [6]]


@pytest.mark.parametrize("seed", range(5))
def test_rows_of_which_each_has_a_label_to_itself_fill_the_folds_evenly(seed):
    fold_of = stratified_folds(np.eye(30, dtype=bool), distinct(30), 3, seed)
    assert np.bincount(fold_of).tolist() == [10, 10, 10]


@pytest.mark.parametrize("seed", range(5))
def test_clusters_of_all_sizes_are_evened_out(seed):
    clusters = np.repeat(np.arange(40), np.random.default_rng(seed).integers(1, 30, 40))
    sizes = np.bincount(stratified_folds(np.ones((len(clusters), 1), dtype=bool), clusters, 3, seed))
    assert sizes.max() - sizes.min() <= 2


def test_a_cluster_of_equal_texts_is_outweighed_by_the_others():
    clusters = np.array([0] * 10 + list(range(1, 21)))
    fold_of = stratified_folds(np.zeros((30, 1), dtype=bool), clusters, 3, 0)
    assert len(set(fold_of[:10].tolist())) == 1
    assert np.bincount(fold_of).tolist() == [10, 10, 10]


def test_with_fewer_clusters_than_folds_each_has_a_fold_of_its_own():
    fold_of = stratified_folds(np.ones((2, 1), dtype=bool), distinct(2), 3, 0)
    assert fold_of[0] != fold_of[1]
