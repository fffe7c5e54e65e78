"""How many rows are held out: all, or a part where labels have plenty."""

from __future__ import annotations

import numpy as np

from cascade.learn.datasets import Dataset
from cascade.learn.groups import MANY_ROWS, PLENTY, THIRDS, enough_rows
from cascade.taxonomy.definition import Taxonomy

LABELS = [f"l{number}" for number in range(20)]
TAXONOMY = Taxonomy.from_dict({"name": "wide", "groups": {"a": {"labels": LABELS}}})


def dataset(n_rows, rare=()):
    """A label a row, by turns; `rare` ones have a row each."""
    common = [label for label in LABELS if label not in rare]
    labels = [[common[row % len(common)]] for row in range(n_rows)]
    for row, label in enumerate(rare):
        labels[row] = [label]
    return Dataset.make(TAXONOMY, [f"text {row // 2}" for row in range(n_rows)], labels)


def test_a_third_is_enough_where_nine_labels_of_ten_have_plenty_of_rows_in_it():
    found = enough_rows(dataset(MANY_ROWS, rare=LABELS[:1]), seed=0)
    assert abs(found.mean() - 1 / THIRDS) < 0.02
    counts = [found[row :: len(LABELS) - 1].sum() for row in range(len(LABELS) - 1)]
    assert min(counts) > PLENTY


def test_equal_texts_are_held_out_together():
    found = enough_rows(dataset(MANY_ROWS), seed=0)
    np.testing.assert_array_equal(found[::2], found[1::2])


def test_more_rows_change_nothing_for_those_that_were_there():
    few, many = (enough_rows(dataset(MANY_ROWS + more), seed=0) for more in (0, 2000))
    np.testing.assert_array_equal(many[:MANY_ROWS], few)
    assert enough_rows(dataset(MANY_ROWS), seed=1).tolist() != few.tolist()


def test_all_rows_are_held_out_where_some_labels_are_rare_or_rows_are_few():
    assert enough_rows(dataset(MANY_ROWS, rare=LABELS[:4]), seed=0) is None
    assert enough_rows(dataset(MANY_ROWS - 1), seed=0) is None
