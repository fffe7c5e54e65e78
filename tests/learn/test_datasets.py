from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.learn.datasets import Dataset
from cascade.learn.truth import true_cells, unknown_cells
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

# `shared` stands in tax and in delivery, and courier in delivery and in people.
TAXONOMY = Taxonomy.from_dict(
    {
        "name": "feedback",
        "labels": ["spam"],
        "groups": {
            "billing": {"labels": ["refund"], "groups": {"tax": {"labels": ["vat", "shared"]}}},
            "delivery": {
                "labels": ["late", "shared"],
                "groups": {
                    "courier": {"labels": ["rude"], "also_in": ["people"]},
                    "tone": {"route": "always", "labels": ["angry"]},
                },
            },
            "people": {"labels": ["agent"]},
            "mood": {"route": "always", "labels": ["happy"]},
        },
    }
)
GRAPH = TAXONOMY.graph
ROWS = {
    "labels of two groups": ["vat", "late"],
    "none": [],
    "a group alone": ["billing"],
    "a group below another": ["tax"],
    "a group with a child": ["billing", "refund"],
    "a group and its subgroup": ["billing", "tax"],
    "in two groups": ["shared"],
    "below two groups": ["rude"],
    "right below the root": ["spam"],
    "a mood": ["happy"],
    "a mood alone": ["mood"],
    "delivery alone": ["delivery"],
    "delivery, angry": ["delivery", "angry"],
    "people alone": ["people"],
}
NUMBER = {name: place for place, name in enumerate(ROWS)}


@pytest.fixture
def dataset():
    return Dataset.make(TAXONOMY, list(ROWS), list(ROWS.values()))


def names(rows):
    return {name for name in ROWS if NUMBER[name] in set(np.asarray(rows).tolist())}


def true_nodes(truth, row):
    return {name for name in GRAPH.nodes if NUMBER[row] in truth.of(GRAPH.column[name])}


def unknown_nodes(dataset, row):
    return {name for name in GRAPH.nodes if NUMBER[row] in dataset.unknown.of(GRAPH.column[name])}


def test_truth_holds_labels_and_all_groups_above_them_over_every_parent(dataset):
    assert true_nodes(dataset.truth, "labels of two groups") == {"vat", "tax", "billing", "late", "delivery"}
    assert true_nodes(dataset.truth, "in two groups") == {"shared", "tax", "billing", "delivery"}
    assert true_nodes(dataset.truth, "below two groups") == {"rude", "courier", "delivery", "people"}
    assert true_nodes(dataset.truth, "none") == set()
    assert true_nodes(dataset.truth, "right below the root") == {"spam"}


@given(st.lists(st.lists(st.sampled_from(GRAPH.nodes), max_size=4), max_size=8))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_truth_is_closed_under_ancestors_and_holds_nothing_else(labels):
    truth = true_cells(GRAPH, labels).dense()
    assert truth.shape == (len(labels), len(GRAPH.nodes))
    for row, given_names in zip(truth, labels, strict=True):
        assert {name for name in GRAPH.nodes if row[GRAPH.column[name]]} == GRAPH.closure(given_names)


@given(st.lists(st.lists(st.sampled_from(GRAPH.nodes), max_size=4), max_size=8))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_unknown_is_what_stands_below_a_named_group_none_of_whose_children_is_true(labels):
    cells = unknown_cells(TAXONOMY, true_cells(GRAPH, labels), labels).dense()
    for row, given_names in enumerate(labels):
        true = GRAPH.closure(given_names)
        bare = {name for name in given_names if name in GRAPH.groups and not true & set(GRAPH.children[name])}
        unknown = {name for name in GRAPH.nodes if GRAPH.ancestors(name) & bare} - true
        assert {name for name in GRAPH.nodes if cells[row, GRAPH.column[name]]} == unknown


def test_an_unknown_name_is_an_error():
    with pytest.raises(KeyError, match="refnud"):
        true_cells(GRAPH, [["refnud"]])


def test_nothing_is_known_below_a_group_that_is_named_alone(dataset):
    assert unknown_nodes(dataset, "a group alone") == {"refund", "tax", "vat", "shared"}
    assert unknown_nodes(dataset, "a group below another") == {"vat", "shared"}
    assert unknown_nodes(dataset, "a group and its subgroup") == {"vat", "shared"}
    assert unknown_nodes(dataset, "a mood alone") == {"happy"}


def test_all_is_known_where_labels_or_nothing_are_named(dataset):
    for row in ("labels of two groups", "none", "a group with a child", "in two groups", "a mood"):
        assert unknown_nodes(dataset, row) == set()


def test_a_row_with_a_group_alone_teaches_the_router_and_nothing_below(dataset):
    row = NUMBER["a group alone"]
    assert row in dataset.rows(ROOT, "siblings")
    assert dataset.targets(ROOT)[row].tolist() == [
        False,
        True,
        False,
        False,
    ]  # spam, billing, delivery, people
    for group in ("billing", "tax"):
        for negatives in ("siblings", "all"):
            assert row not in dataset.rows(group, negatives)


def test_a_row_with_a_subgroup_teaches_every_group_above_it(dataset):
    row = NUMBER["a group below another"]
    assert row in dataset.rows(ROOT, "siblings")
    assert row in dataset.rows("billing", "siblings")
    assert row not in dataset.rows("tax", "all")


def test_a_row_whose_group_is_unknown_is_no_negative_of_another_group_that_shares_a_label(dataset):
    """`shared` may be true of it, for all that was looked at."""
    assert NUMBER["a group alone"] not in dataset.rows("delivery", "all")
    assert NUMBER["a group alone"] in dataset.rows("people", "all")


def test_rows_without_labels_reach_the_root_and_what_is_always_visited(dataset):
    row = NUMBER["none"]
    reached = {group for group in GRAPH.groups if dataset.reaching(group)[row]}
    assert reached == {ROOT, "mood"}
    assert not dataset.targets(ROOT)[row].any()


def test_always_groups_are_reached_wherever_a_parent_is(dataset):
    assert dataset.reaching("mood").all()
    np.testing.assert_array_equal(dataset.reaching("tone"), dataset.reaching("delivery"))


def test_other_groups_are_reached_by_rows_that_have_them(dataset):
    assert names(np.flatnonzero(dataset.reaching("tax"))) == {
        "labels of two groups",
        "a group below another",
        "a group and its subgroup",
        "in two groups",
    }
    assert names(np.flatnonzero(dataset.reaching("courier"))) == {"below two groups"}
    assert names(np.flatnonzero(dataset.reaching("people"))) == {"below two groups", "people alone"}


def test_asking_who_reaches_a_group_changes_nothing(dataset):
    before = dataset.truth.rows.copy()
    first = dataset.reaching("tone")
    np.testing.assert_array_equal(first, dataset.reaching("tone"))
    np.testing.assert_array_equal(dataset.truth.rows, before)


def test_targets_leave_out_children_that_are_always_visited(dataset):
    assert dataset.targets(ROOT).shape == (len(ROWS), 4)
    assert dataset.targets("delivery").shape == (len(ROWS), 3)
    assert dataset.targets("delivery")[NUMBER["in two groups"]].tolist() == [False, True, False]


def test_siblings_are_rows_of_the_group_and_all_means_every_row_that_is_known(dataset):
    assert names(dataset.rows("tax", "siblings")) == {"labels of two groups", "in two groups"}
    unknown = {"a group alone", "a group below another", "a group and its subgroup", "delivery alone"}
    assert names(dataset.rows("tax", "all")) == set(ROWS) - unknown
    assert names(dataset.rows(ROOT, "siblings")) == set(ROWS)


def test_below_delivery_alone_its_always_group_learns_nothing(dataset):
    assert NUMBER["delivery alone"] not in dataset.rows("tone", "siblings")
    assert NUMBER["delivery, angry"] in dataset.rows("tone", "siblings")


def test_rows_come_in_order_as_positions(dataset):
    rows = dataset.rows("tax", "all")
    assert rows.dtype == np.int64
    assert (np.diff(rows) > 0).all()


def test_a_problem_has_the_texts_targets_and_own_rows_that_were_asked_for(dataset):
    rows = np.array([NUMBER["none"], NUMBER["in two groups"], NUMBER["labels of two groups"]])
    problem = dataset.problem("tax", rows, seed=7)
    assert problem.children == ("vat", "shared")
    assert list(problem.texts) == ["none", "in two groups", "labels of two groups"]
    assert problem.targets.tolist() == [[False, False], [False, True], [True, False]]
    assert problem.own.tolist() == [False, True, True]
    assert problem.seed == 7


def test_problems_share_what_was_computed_from_the_texts(dataset):
    computed = []

    def lengths(texts):
        computed.append(len(texts))
        return np.array([len(text) for text in texts])

    for group in ("tax", "delivery"):
        problem = dataset.problem(group, dataset.rows(group, "siblings"), 0)
        assert problem.texts.features("lengths", lengths).tolist() == [len(text) for text in problem.texts]
    assert computed == [len(ROWS)]


def test_a_negative_row_has_none_of_the_children(dataset):
    for group in GRAPH.groups:
        problem = dataset.problem(group, dataset.rows(group, "all"), 0)
        assert not problem.targets[~problem.own].any()


def test_no_rows_at_all_are_an_empty_data_set():
    empty = Dataset.make(TAXONOMY, [], [])
    assert empty.rows("tax", "all").shape == (0,)
    assert empty.problem("tax", empty.rows("tax", "all"), 0).targets.shape == (0, 2)
