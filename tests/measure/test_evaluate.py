from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from small_evaluations import (
    NAN,
    NO_GROUPS,
    TREE,
    Answers,
    error_kinds,
    evaluate,
    flags_of,
    micro_f1,
    scored,
    truth_of,
    unknown_nodes,
    with_ancestors,
)

from cascade.taxonomy.graph import ROOT, Graph


def kinds_of_one(truth, answer, oracle, always=NO_GROUPS, graph=TREE):
    """Errors of one text as ``{label: kind}``."""
    kinds = error_kinds(
        graph, truth_of(graph, truth), scored(graph, answer), scored(graph, oracle), always=always
    )
    return {
        label: kind
        for index, label in enumerate(graph.labels)
        for kind, mask in kinds.items()
        if mask[0, index]
    }


# Errors by hand


def test_missed_label_that_was_not_visited_is_the_routers_error():
    answer = (set(), {"b": 0.9, "y": 0.1, "w": 0.1})
    assert kinds_of_one({"x"}, answer, (set(), {"a": 1, "x": 0.2})) == {"x": "router"}


def test_missed_label_that_perfect_routing_would_choose_is_the_routers_error():
    answer = (set(), {"a": 0.5, "x": 0.35})
    assert kinds_of_one({"x"}, answer, ({"x"}, {"a": 1, "x": 0.7})) == {"x": "router"}


def test_missed_label_that_the_model_believes_is_the_thresholds_error():
    answer = (set(), {"a": 0.9, "x": 0.45})
    assert kinds_of_one({"x"}, answer, (set(), {"a": 1, "x": 0.5})) == {"x": "threshold"}


def test_missed_label_that_the_model_does_not_believe_is_its_own_error():
    answer = (set(), {"a": 0.9, "x": 0.4})
    assert kinds_of_one({"x"}, answer, (set(), {"a": 1, "x": 0.49})) == {"x": "leaf"}


def test_wrong_label_in_a_group_that_the_text_does_not_belong_to_is_the_routers_error():
    answer = ({"x", "y"}, {"a": 0.9, "x": 0.8, "b": 0.9, "y": 0.9, "w": 0.1})
    assert kinds_of_one({"y"}, answer, ({"y"}, {"b": 1, "y": 1, "w": 0.1})) == {"x": "router"}


def test_wrong_label_is_not_the_routers_error_where_one_of_its_parents_is_true():
    answer = ({"y", "w"}, {"b": 0.9, "y": 0.9, "w": 0.8})
    assert kinds_of_one({"y"}, answer, ({"y"}, {"b": 1, "y": 1, "w": 0.9})) == {"w": "leaf"}


def test_wrong_label_is_the_routers_error_where_only_a_group_far_above_it_is_true():
    answer = ({"x", "w"}, {"a": 0.9, "x": 0.9, "c": 0.7, "w": 0.6})
    assert kinds_of_one({"x"}, answer, ({"x"}, {"a": 1, "x": 1})) == {"w": "router"}


def test_wrong_label_that_the_model_believes_is_its_own_error():
    answer = ({"w", "y"}, {"b": 1, "y": 0.5, "w": 0.9})
    assert kinds_of_one({"w"}, answer, ({"w", "y"}, {"b": 1, "y": 0.5, "w": 1})) == {"y": "leaf"}


def test_wrong_label_that_only_a_low_threshold_let_in_is_the_thresholds_error():
    answer = ({"w", "y"}, {"b": 1, "y": 0.4, "w": 0.9})
    assert kinds_of_one({"w"}, answer, ({"w", "y"}, {"b": 1, "y": 0.4, "w": 1})) == {"y": "threshold"}


def test_groups_visited_for_every_text_are_reached_by_every_text():
    answer = ({"y"}, {"b": 1, "y": 0.9, "w": 0.1})
    oracle = (set(), {"b": 1, "y": 0.9, "w": 0.1})
    assert kinds_of_one(set(), answer, oracle, frozenset({"b"})) == {"y": "leaf"}
    assert kinds_of_one(set(), answer, oracle) == {"y": "router"}


def test_root_is_reached_by_every_text():
    graph = Graph.build({ROOT: ["a", "top"], "a": ["x"]})
    answer = ({"top"}, {"top": 0.4})
    assert kinds_of_one(set(), answer, answer, graph=graph) == {"top": "threshold"}


def test_right_answers_are_no_errors():
    answer = ({"y"}, {"b": 0.9, "y": 0.9, "w": 0.1})
    assert kinds_of_one({"y"}, answer, answer) == {}


# One test set by hand


def test_head_figures_are_those_counted_by_hand(evaluation):
    found = evaluation.to_json()
    assert (found["rows"], found["labels"], found["labels_in_truth"], found["group_only_rows"]) == (
        5,
        3,
        3,
        0,
    )
    # 5 true and 4 chosen labels; x in the first text, y in the third and fourth are right.
    assert found["micro_f1"] == pytest.approx(2 * 3 / 9)
    # x: 1 of 2 and 2; y: 2 of 2 and 2; w: none of 1 and 0.
    assert found["macro_f1"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["precision_at_1"] == pytest.approx(3 / 4)
    assert found["none_recall"] == 1.0
    assert found["exact_match"] == pytest.approx(2 / 5)
    # True nodes 2 + 4 + 2 + 4 = 12, chosen ones 2 + 1 + 4 + 2 = 9, of which 2 + 1 + 2 + 2 are right.
    assert found["hierarchical_f1"] == pytest.approx(2 * 7 / 21)
    # True pairs: a in 1, 2, 4; b in 2, 3, 4; c in 2. Text 2 was sent to a alone.
    assert found["router_recall"] == pytest.approx(5 / 7)
    # The oracle misses x in the fourth text only.
    assert found["oracle_router_micro_f1"] == pytest.approx(2 * 4 / 9)
    assert found["errors"] == {"router": 2, "leaf": 0, "threshold": 1}


def test_label_figures_are_those_counted_by_hand(evaluation):
    x, w = (evaluation.to_json()["per_label"][name] for name in "xw")
    assert [x[key] for key in ("rows", "predicted", "precision", "recall", "f1")] == [2, 2, 0.5, 0.5, 0.5]
    assert [w[key] for key in ("rows", "predicted", "precision", "recall", "f1")] == [1, 0, None, 0.0, 0.0]
    assert x["parents"] == ["a"]
    assert sorted(w["parents"]) == ["b", "c"]


def test_group_figures_are_those_counted_by_hand(evaluation):
    a, b, c = (evaluation.to_json()["per_group"][name] for name in "abc")
    assert (a["rows"], a["visited"], a["router_recall"]) == (3, 5, 1.0)
    assert (b["rows"], b["visited"], b["router_recall"]) == (3, 2, pytest.approx(2 / 3))
    assert (c["rows"], c["visited"], c["router_recall"]) == (1, 0, 0.0)
    # w stands below all three groups, and its router error counts in each.
    assert a["micro_f1"] == pytest.approx(2 * 1 / (3 + 2))
    assert b["micro_f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert c["micro_f1"] == 0.0
    assert a["oracle_micro_f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert c["oracle_micro_f1"] == 1.0
    assert a["errors"] == {"router": 2, "leaf": 0, "threshold": 1}
    assert b["errors"] == c["errors"] == {"router": 1, "leaf": 0, "threshold": 0}


def test_every_f1_has_an_interval_that_holds_it(evaluation):
    found = evaluation.to_json()
    pairs = [(found[name], found[f"{name}_interval"]) for name in ("micro_f1", "macro_f1", "hierarchical_f1")]
    pairs.append((found["oracle_router_micro_f1"], found["oracle_router_micro_f1_interval"]))
    pairs += [(label["f1"], label["f1_interval"]) for label in found["per_label"].values()]
    pairs += [(group["micro_f1"], group["f1_interval"]) for group in found["per_group"].values()]
    assert all(low <= value <= high for value, (low, high) in pairs)
    assert any(low < high for _, (low, high) in pairs)


def test_json_comes_back_as_it_went(evaluation):
    found = evaluation.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_names_stand_in_the_order_of_the_graph(evaluation):
    assert tuple(evaluation.per_label) == TREE.labels
    assert tuple(evaluation.per_group) == TREE.groups[1:]


def test_seed_moves_the_intervals_and_nothing_else():
    truth, answers, oracle = random_case(TREE, 0, n_texts=40)
    first, again, other = (
        evaluate(TREE, truth, answers, oracle, always=NO_GROUPS, seed=seed).to_json() for seed in (1, 1, 2)
    )
    assert first == again
    assert first["micro_f1_interval"] != other["micro_f1_interval"]
    assert first["micro_f1"] == other["micro_f1"]


# Groups that every text visits


def test_always_visited_groups_say_nothing_about_the_router():
    truth = truth_of(TREE, {"x", "y"}, {"y"})
    row = {"b": 1, "y": 0.9, "w": 0.1}
    answers = scored(TREE, ({"y"}, row), ({"y"}, row))
    found = evaluate(TREE, truth, answers, answers, always=frozenset({"b"}))
    assert found.router_recall == 0.0
    assert found.per_group["b"].router_recall is None
    assert found.per_group["a"].router_recall == 0.0


def test_flat_taxonomy_has_no_router_recall():
    graph = Graph.build({ROOT: ["x", "y"]})
    answers = scored(graph, ({"x"}, {"x": 0.9, "y": 0.1}))
    found = evaluate(graph, truth_of(graph, {"x"}), answers, answers, always=NO_GROUPS)
    assert found.router_recall is None
    assert found.per_group == {}
    assert found.per_label["x"].parents == ()
    assert found.micro_f1 == found.hierarchical_f1 == 1.0


# Rows of which only a group is known


def test_label_below_a_group_of_which_no_more_is_known_is_neither_right_nor_wrong():
    answers = scored(TREE, ({"x"}, {"a": 0.9, "x": 0.9}), ({"x"}, {"a": 0.9, "x": 0.9}))
    found = evaluate(TREE, truth_of(TREE, {"x"}, {"a"}), answers, answers, always=NO_GROUPS)
    assert found.group_only_rows == 1
    assert found.micro_f1 == found.macro_f1 == found.exact_match == found.precision_at_1 == 1.0
    assert found.per_label["x"].predicted == 1
    assert found.errors.router == found.errors.leaf == found.errors.threshold == 0
    assert found.oracle_router_micro_f1 == 1.0
    assert found.hierarchical_f1 == 1.0
    assert found.router_recall == 1.0
    assert found.none_recall is None


def test_label_outside_the_only_group_that_is_known_is_wrong():
    answers = scored(TREE, ({"y"}, {"b": 0.9, "y": 0.9, "w": 0.1}))
    found = evaluate(TREE, truth_of(TREE, {"a"}), answers, answers, always=NO_GROUPS)
    assert found.errors.router == 1
    assert found.per_label["y"].predicted == 1
    assert found.micro_f1 == found.hierarchical_f1 == 0.0
    assert found.exact_match is found.none_recall is None


def test_backing_off_to_the_group_counts_in_the_hierarchical_f1_only():
    answers = scored(TREE, ({"a"}, {"a": 0.9, "x": 0.3}), ({"a"}, {"a": 0.9, "x": 0.3}))
    found = evaluate(TREE, truth_of(TREE, {"x"}, {"a"}), answers, answers, always=NO_GROUPS)
    assert found.micro_f1 == 0.0
    assert found.hierarchical_f1 == pytest.approx(2 * 2 / (3 + 2))
    assert found.per_group["a"].micro_f1 == 0.0


def test_label_that_is_known_keeps_its_group_from_being_open():
    # c is true and nothing in it, a has the child c: open is c alone.
    unknown = unknown_nodes(TREE, truth_of(TREE, {"c"}, {"c", "y"}, {"w"}, {"a"}, set()))
    names = [{name for name in TREE.nodes if row[TREE.column[name]]} for row in unknown]
    assert names == [{"w"}, {"w"}, set(), {"c", "x", "w"}, set()]


def test_unknown_label_of_the_greatest_score_does_not_spoil_precision_at_1():
    answers = scored(TREE, ({"y"}, {"a": 0.9, "x": 0.9, "b": 0.9, "y": 0.7, "w": 0.1}))
    found = evaluate(TREE, truth_of(TREE, {"y", "a"}), answers, answers, always=NO_GROUPS)
    assert found.group_only_rows == 0
    assert found.precision_at_1 == 1.0


# Anything at all


@st.composite
def graphs(draw):
    names = [ROOT, *(f"g{index}" for index in range(draw(st.integers(0, 3))))]
    children = {name: [] for name in names}
    for index, name in enumerate(names[1:], start=1):
        for parent in draw(st.sets(st.sampled_from(names[:index]), min_size=1, max_size=2)):
            children[parent].append(name)
    for index in range(draw(st.integers(1, 4))):
        for parent in draw(st.sets(st.sampled_from(names), min_size=1, max_size=2)):
            children[parent].append(f"l{index}")
    for name, members in children.items():
        if not members:
            members.append(f"only_{name}")
    return Graph.build(children)


def random_walk(graph, rng, n_texts):
    """Groups entered at random, each label visited where one of its parents was entered."""
    entered = {ROOT: np.ones(n_texts, dtype=np.bool_)}
    paths = np.full((n_texts, len(graph.nodes)), NAN, dtype=np.float32)
    for name in graph.nodes:
        visited = np.any([entered[parent] for parent in graph.parents[name]], axis=0)
        if name in graph.children:
            visited &= rng.random(n_texts) < 0.7
            entered[name] = visited
        paths[visited, graph.column[name]] = rng.random(int(visited.sum()))
    return Answers(paths, (rng.random(paths.shape) < 0.5) & ~np.isnan(paths))


def random_case(graph, seed, n_texts, with_group_only=True):
    rng = np.random.default_rng(seed)
    truth = rng.random((n_texts, len(graph.nodes))) < 0.3
    if not with_group_only:
        truth[:, [graph.column[group] for group in graph.groups[1:]]] = False
    return with_ancestors(graph, truth), random_walk(graph, rng, n_texts), random_walk(graph, rng, n_texts)


def names_of(graph, row):
    return {name for name in graph.nodes if row[graph.column[name]]}


def expected_kind(graph, label, truth, answer, oracle, *, always):
    """Kind of one cell by the rules as they are written down, None where there is no error."""
    (paths, chosen), (oracle_paths, oracle_chosen) = answer, oracle
    column = graph.column[label]
    open_groups = {name for name in truth & graph.children.keys() if not truth & set(graph.children[name])}
    if (label in truth) == (label in chosen) or (label not in truth and graph.ancestors(label) & open_groups):
        return None
    if label in truth:
        if np.isnan(paths[column]) or label in oracle_chosen:
            return "router"
        return "threshold" if oracle_paths[column] >= 0.5 else "leaf"
    if not set(graph.parents[label]) & ({ROOT} | always | truth):
        return "router"
    return "leaf" if oracle_paths[column] >= 0.5 else "threshold"


@settings(deadline=None, derandomize=True)
@given(graphs(), st.integers(0, 2**32 - 1), st.data())
def test_errors_are_those_of_the_rules_cell_by_cell(graph, seed, data):
    always = data.draw(st.frozensets(st.sampled_from(graph.groups[1:]))) if graph.groups[1:] else NO_GROUPS
    truth, answers, oracle = random_case(graph, seed, n_texts=8)
    kinds = error_kinds(graph, truth, answers, oracle, always=always)
    for row in range(8):
        sides = [(side.paths[row], names_of(graph, side.chosen[row])) for side in (answers, oracle)]
        for index, label in enumerate(graph.labels):
            found = [kind for kind, mask in kinds.items() if mask[row, index]]
            expected = expected_kind(graph, label, names_of(graph, truth[row]), *sides, always=always)
            assert found == ([expected] if expected else [])


@settings(deadline=None, derandomize=True)
@given(graphs(), st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_errors_add_up_to_all_that_is_missed_and_all_that_is_wrong(graph, seed, n_texts):
    truth, answers, oracle = random_case(graph, seed, n_texts)
    found = evaluate(graph, truth, answers, oracle, always=NO_GROUPS).to_json()
    hits = sum(round(label["rows"] * (label["recall"] or 0)) for label in found["per_label"].values())
    rows = sum(label["rows"] for label in found["per_label"].values())
    predicted = sum(label["predicted"] for label in found["per_label"].values())
    assert sum(found["errors"].values()) == rows + predicted - 2 * hits
    json.dumps(found, allow_nan=False)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(graphs(), st.integers(0, 2**32 - 1))
def test_figures_are_those_of_scikit_learn_where_all_labels_are_known(graph, seed):
    truth, answers, oracle = random_case(graph, seed, n_texts=20, with_group_only=False)
    found = evaluate(graph, truth, answers, oracle, always=NO_GROUPS)
    at = [graph.column[label] for label in graph.labels]
    true, chosen = truth[:, at], answers.chosen[:, at]

    def pooled_f1(columns, answer=chosen):
        return reference.f1_score(true[:, columns].ravel(), answer[:, columns].ravel(), zero_division=0)

    everything = list(range(len(at)))
    assert found.micro_f1 == pytest.approx(pooled_f1(everything))
    assert found.oracle_router_micro_f1 == pytest.approx(pooled_f1(everything, oracle.chosen[:, at]))
    assert found.exact_match == pytest.approx((true == chosen).all(axis=1).mean())
    assert found.hierarchical_f1 == pytest.approx(micro_f1(truth, with_ancestors(graph, answers.chosen)))
    assert found.group_only_rows == 0
    for index, label in enumerate(graph.labels):
        precision, recall, f1, _ = reference.precision_recall_fscore_support(
            true[:, index], chosen[:, index], average="binary", zero_division=0
        )
        figures = found.per_label[label]
        assert (figures.precision or 0, figures.recall or 0, figures.f1) == pytest.approx(
            (precision, recall, f1)
        )
    for group, figures in found.per_group.items():
        below = [graph.labels.index(label) for label in graph.descendant_labels(group)]
        assert figures.micro_f1 == pytest.approx(pooled_f1(below))
        assert figures.oracle_micro_f1 == pytest.approx(pooled_f1(below, oracle.chosen[:, at]))


# Odd input


def test_no_rows_give_figures_of_nothing():
    nothing = scored(TREE)
    found = evaluate(TREE, truth_of(TREE), nothing, nothing, always=NO_GROUPS)
    assert (found.rows, found.micro_f1, found.micro_f1_interval) == (0, 0.0, (0.0, 0.0))
    assert found.precision_at_1 is found.none_recall is found.router_recall is found.exact_match is None
    assert found.per_group["a"].visited == 0
    json.dumps(found.to_json(), allow_nan=False)


def test_texts_without_any_label_give_a_recall_of_none():
    answers = scored(TREE, (set(), {}), ({"y"}, {"b": 0.9, "y": 0.9, "w": 0.1}))
    found = evaluate(
        TREE, truth_of(TREE, set(), set()), answers, scored(TREE, *[(set(), {})] * 2), always=NO_GROUPS
    )
    assert (found.none_recall, found.exact_match, found.micro_f1, found.macro_f1) == (0.5, 0.5, 0.0, 0.0)
    assert found.router_recall is None
    assert found.errors.router == 1


def test_truth_without_its_groups_is_completed():
    answers = scored(TREE, ({"x"}, {"a": 0.9, "x": 0.9}))
    found = evaluate(TREE, flags_of(TREE, [{"x"}]), answers, answers, always=NO_GROUPS)
    assert found.per_group["a"].rows == 1
    assert found.hierarchical_f1 == 1.0


def test_array_of_another_shape_is_named():
    truth, answers = truth_of(TREE, {"x"}), scored(TREE, (set(), {}))
    narrow = Answers(answers.paths[:, 1:], answers.chosen)
    with pytest.raises(ValueError, match=r"oracle.paths has shape \(1, 5\); expected \(1, 6\)"):
        evaluate(TREE, truth, answers, narrow, always=NO_GROUPS)
    with pytest.raises(ValueError, match=r"scored.paths has shape \(1, 6\); expected \(2, 6\)"):
        evaluate(TREE, np.vstack([truth, truth]), answers, answers, always=NO_GROUPS)


def test_group_that_was_scored_and_not_entered_is_refused():
    answers = scored(TREE, (set(), {"a": 0.9, "x": 0.2}), (set(), {"a": 0.1}))
    with pytest.raises(ValueError, match="text 1: group 'a' has a path probability and its label 'x' none"):
        evaluate(TREE, truth_of(TREE, {"x"}, {"x"}), answers, answers, always=NO_GROUPS)


def test_rich_is_imported_only_where_it_is_needed():
    program = (
        "import sys, cascade.measure.evaluate; "
        "print([name for name in sys.modules if name.split('.')[0] == 'rich'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
