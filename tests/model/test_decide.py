from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.model.decide import Ranked, contenders, contending, decide
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

NAN = float("nan")


def tree(**settings_of):
    """Root with the groups `one` (x, y, z) and `other` (u, and the group `low` with v and w)."""
    low = {"labels": ["v", "w"], **settings_of.get("low", {})}
    groups = {
        "one": {"labels": ["x", "y", "z"], **settings_of.get("one", {})},
        "other": {"labels": ["u"], "groups": {"low": low}, **settings_of.get("other", {})},
    }
    return Taxonomy.from_dict({"name": "tree", "defaults": settings_of.get("defaults", {}), "groups": groups})


def paths_of(taxonomy, **named):
    """One row of path probabilities by name; NaN for the others."""
    return np.array([[named.get(name, NAN) for name in taxonomy.graph.nodes]], dtype=np.float32)


def half(taxonomy):
    return dict.fromkeys(taxonomy.graph.nodes, 0.5)


def answered(taxonomy, thresholds=None, **named):
    chosen = decide(taxonomy, thresholds or half(taxonomy), paths_of(taxonomy, **named))
    return {name for name, yes in zip(taxonomy.graph.nodes, chosen[0], strict=True) if yes}


def test_labels_at_or_above_their_thresholds_are_chosen_and_groups_never():
    taxonomy = tree()
    thresholds = half(taxonomy) | {"x": 0.3}
    found = answered(
        taxonomy, thresholds, one=0.9, other=0.9, low=0.9, x=0.3, y=0.5, z=0.49, u=0.6, v=0.1, w=0.2
    )
    assert found == {"x", "y", "u"}


def test_a_threshold_that_float32_cannot_hold_meets_a_score_written_the_same_way():
    taxonomy = tree()
    for value in (0.1, 0.3, 0.7, 1 / 3):
        assert answered(taxonomy, dict.fromkeys(taxonomy.graph.labels, value), one=0.9, x=value) == {"x"}


def test_what_was_not_visited_is_never_chosen_even_at_threshold_zero():
    taxonomy = tree(one={"choose": "one"})
    thresholds = dict.fromkeys(taxonomy.graph.nodes, 0.0)
    assert answered(taxonomy, thresholds) == set()
    assert answered(taxonomy, thresholds, one=0.0, x=0.0) == {"x"}


def test_choose_one_keeps_the_child_with_the_greatest_path():
    taxonomy = tree(one={"choose": "one"})
    assert answered(taxonomy, one=1, x=0.6, y=0.8, z=0.7, other=1, u=0.9) == {"y", "u"}


def test_choose_one_answers_nothing_where_the_best_child_is_below_its_threshold():
    taxonomy = tree(one={"choose": "one"})
    thresholds = half(taxonomy) | {"y": 0.9}
    assert answered(taxonomy, thresholds, one=1, x=0.6, y=0.8) == set()


def test_of_equal_children_choose_one_keeps_the_first():
    taxonomy = tree(one={"choose": "one"})
    assert answered(taxonomy, one=1, x=0.6, y=0.8, z=0.8) == {"y"}


def test_choose_one_looks_past_children_that_were_not_visited():
    taxonomy = tree(other={"choose": "one"})
    assert answered(taxonomy, other=1, low=NAN, u=0.6) == {"u"}


def test_choose_one_over_groups_rules_out_all_that_stands_below_the_others():
    taxonomy = tree(other={"choose": "one"})
    assert answered(taxonomy, other=1, u=0.7, low=0.8, v=0.75, w=0.6) == {"v", "w"}
    assert answered(taxonomy, other=1, u=0.8, low=0.7, v=0.65, w=0.6) == {"u"}


def test_choose_one_at_the_root_leaves_one_group():
    taxonomy = tree(defaults={"choose": "one"}, one={"choose": "many"}, other={"choose": "many"})
    assert answered(taxonomy, one=0.9, x=0.8, y=0.7, other=0.8, u=0.75) == {"x", "y"}
    assert answered(taxonomy, one=0.7, x=0.65, other=0.8, u=0.75, low=0.8, v=0.79) == {"u", "v"}


def test_a_group_that_is_always_visited_is_beside_the_choice():
    taxonomy = tree(defaults={"choose": "one"}, other={"route": "always"})
    assert answered(taxonomy, one=0.9, x=0.8, other=1, u=0.7) == {"x", "u"}


def test_a_node_with_two_parents_stays_while_one_of_them_lets_it():
    groups = {"one": {"choose": "one", "labels": ["x", "both"]}, "two": {"labels": ["both", "z"]}}
    taxonomy = Taxonomy.from_dict({"name": "dag", "groups": groups})
    assert answered(taxonomy, one=0.9, two=0.9, x=0.8, both=0.7) == {"x", "both"}


def test_a_node_with_two_parents_goes_when_both_rule_it_out():
    groups = {
        "one": {"choose": "one", "labels": ["x", "both"]},
        "two": {"choose": "one", "labels": ["both", "z"]},
    }
    taxonomy = Taxonomy.from_dict({"name": "dag", "groups": groups})
    assert answered(taxonomy, one=0.9, two=0.9, x=0.8, both=0.7, z=0.75) == {"x", "z"}
    assert answered(taxonomy, one=0.9, two=0.9, x=0.8, both=0.7, z=0.6) == {"x", "both"}


def test_a_group_that_was_not_visited_does_not_bring_back_what_the_visited_one_ruled_out():
    groups = {"one": {"choose": "one", "labels": ["x", "both"]}, "two": {"labels": ["both", "z"]}}
    taxonomy = Taxonomy.from_dict({"name": "dag", "groups": groups})
    assert answered(taxonomy, one=0.9, x=0.8, both=0.7) == {"x"}


def test_back_off_answers_with_a_sure_group_only_where_nothing_below_is_chosen():
    taxonomy = tree(other={"back_off": True}, low={"back_off": False})
    assert answered(taxonomy, other=0.8, u=0.4, low=0.4, v=0.3) == {"other"}
    assert answered(taxonomy, other=0.8, u=0.4, low=0.8, v=0.6) == {"v"}
    assert answered(taxonomy, other=0.4, u=0.3) == set()


def test_back_off_names_the_deepest_sure_group():
    taxonomy = tree(defaults={"back_off": True})
    assert answered(taxonomy, one=0.6, other=0.9, low=0.8, v=0.3) == {"one", "low"}
    assert answered(taxonomy, other=0.9, low=0.4, v=0.3) == {"other"}


def test_back_off_sees_what_is_answered_any_number_of_levels_below():
    deepest = {"back_off": True, "labels": ["x"]}
    middle = {"back_off": False, "groups": {"deepest": deepest}}
    top = {"back_off": True, "groups": {"middle": middle}}
    taxonomy = Taxonomy.from_dict({"name": "deep", "groups": {"top": top}})
    assert answered(taxonomy, top=0.9, middle=0.8, deepest=0.7, x=0.6) == {"x"}
    assert answered(taxonomy, top=0.9, middle=0.8, deepest=0.7, x=0.4) == {"deepest"}
    assert answered(taxonomy, top=0.9, middle=0.8, deepest=0.4) == {"top"}


def test_back_off_is_not_answered_beside_a_sibling_that_choose_one_preferred():
    taxonomy = tree(defaults={"choose": "one", "back_off": True})
    assert answered(taxonomy, one=0.6, other=0.9, low=0.3) == {"other"}


def test_contenders_of_a_taxonomy_without_choose_one_are_the_paths_themselves():
    taxonomy = tree()
    paths = paths_of(taxonomy, one=0.9, x=0.2)
    np.testing.assert_array_equal(contenders(taxonomy, paths), paths)


def test_no_rows_give_no_answers():
    taxonomy = tree(defaults={"choose": "one", "back_off": True})
    nothing = np.empty((0, len(taxonomy.graph.nodes)), dtype=np.float32)
    assert decide(taxonomy, half(taxonomy), nothing).shape == nothing.shape
    assert contenders(taxonomy, nothing).shape == nothing.shape


@st.composite
def taxonomies(draw, *, trees=False):
    """Up to four nested groups with random policies; labels stand in several of them unless `trees`."""
    names = [f"g{number}" for number in range(draw(st.integers(1, 4)))]
    specs: dict = {ROOT: {"labels": [], "groups": {}}}
    for place, name in enumerate(names):
        parent = draw(st.sampled_from([ROOT, *names[:place]]))
        also = (
            []
            if trees
            else draw(st.lists(st.sampled_from([*names[:place]]), unique=True) if place else st.just([]))
        )
        specs[name] = {
            "labels": [f"of_{name}", f"too_{name}"],
            "groups": {},
            "choose": draw(st.sampled_from(["one", "many"])),
            "back_off": draw(st.booleans()),
            "also_in": [one for one in also if one != parent],
        }
        specs[parent]["groups"][name] = specs[name]
    for number in range(0 if trees else 3):
        for parent in draw(st.lists(st.sampled_from([ROOT, *names]), min_size=1, max_size=3, unique=True)):
            specs[parent]["labels"].append(f"l{number}")
    choose = draw(st.sampled_from(["one", "many"]))
    return Taxonomy.from_dict({"name": "random", "defaults": {"choose": choose}, **specs[ROOT]})


def random_paths(taxonomy, seed, rows=6):
    """Path probabilities on a coarse grid, so that ties and exact thresholds come up, some of them NaN.

    As in a walk, what has no visited parent is NaN.
    """
    random = np.random.default_rng(seed)
    grid = np.array([NAN, 0, 0.2, 0.4, 0.6, 0.8, 1], dtype=np.float32)
    paths = random.choice(grid, (rows, len(taxonomy.graph.nodes)))
    for column, name in enumerate(taxonomy.graph.nodes):
        above = [taxonomy.graph.column[parent] for parent in taxonomy.graph.parents[name] if parent != ROOT]
        if ROOT not in taxonomy.graph.parents[name]:
            paths[np.isnan(paths[:, above]).all(axis=1), column] = NAN
    return paths


def best_child(taxonomy, group, path):
    visited = [child for child in taxonomy.graph.children[group] if not np.isnan(path[child])]
    return max(visited, key=path.__getitem__) if visited else None


def stays(taxonomy, name, path):
    """Whether some visited parent that itself stays lets `name` stay, straight from the definition."""
    if name == ROOT:
        return True
    return any(
        stays(taxonomy, parent, path)
        and (parent == ROOT or not np.isnan(path[parent]))
        and (taxonomy.groups[parent].choose == "many" or best_child(taxonomy, parent, path) == name)
        for parent in taxonomy.graph.parents[name]
    )


def expected_answers(taxonomy, thresholds, path):
    graph = taxonomy.graph
    able = {name for name in graph.nodes if stays(taxonomy, name, path) and path[name] >= thresholds[name]}
    found = {label for label in graph.labels if label in able}
    deepest_first = sorted(graph.groups[1:], key=graph.depth, reverse=True)
    for group in deepest_first:
        nothing_below = not any(group in graph.ancestors(name) for name in found)
        if taxonomy.groups[group].back_off and group in able and nothing_below:
            found.add(group)
    return found


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_answers_are_those_of_the_rules_row_by_row(taxonomy, seed):
    paths = random_paths(taxonomy, seed)
    levels = np.random.default_rng(seed + 1).choice([0.0, 0.4, 0.5, 0.6], len(taxonomy.graph.nodes))
    thresholds = {name: float(np.float32(x)) for name, x in zip(taxonomy.graph.nodes, levels, strict=True)}
    chosen = decide(taxonomy, thresholds, paths)
    assert chosen.dtype == np.bool_
    for row, answers in zip(paths, chosen, strict=True):
        path = dict(zip(taxonomy.graph.nodes, row, strict=True))
        named = {name for name, yes in zip(taxonomy.graph.nodes, answers, strict=True) if yes}
        assert named == expected_answers(taxonomy, thresholds, path)


@given(taxonomies(trees=True), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_in_a_tree_choose_one_leaves_answers_below_at_most_one_child(taxonomy, seed):
    graph = taxonomy.graph
    chosen = decide(taxonomy, dict.fromkeys(graph.nodes, 0.2), random_paths(taxonomy, seed))
    for group in graph.groups:
        if taxonomy.groups[group].choose == "one":
            answered_below = [
                chosen[
                    :, [graph.column[name] for name in graph.nodes if child in {name, *graph.ancestors(name)}]
                ]
                for child in graph.children[group]
            ]
            assert (np.sum([below.any(axis=1) for below in answered_below], axis=0) <= 1).all()


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_rows_are_decided_one_by_one(taxonomy, seed):
    paths, thresholds = random_paths(taxonomy, seed), half(taxonomy)
    together = decide(taxonomy, thresholds, paths)
    alone = [decide(taxonomy, thresholds, paths[[row]])[0] for row in range(len(paths))]
    np.testing.assert_array_equal(together, alone)


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_contenders_are_what_the_rules_leave_and_the_paths_are_left_alone(taxonomy, seed):
    paths = random_paths(taxonomy, seed)
    before = paths.copy()
    left = contenders(taxonomy, paths)
    assert left.dtype == np.float32
    np.testing.assert_array_equal(paths, before)
    for row, found in zip(paths, left, strict=True):
        path = dict(zip(taxonomy.graph.nodes, row, strict=True))
        expected = [path[name] if stays(taxonomy, name, path) else NAN for name in taxonomy.graph.nodes]
        np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_contenders_of_a_walk_are_those_of_its_paths(taxonomy, seed):
    random = np.random.default_rng(seed)
    grid = np.array([0, 0.25, 0.5, 0.9], dtype=np.float32)

    def score(asked):
        return {
            group: random.choice(grid, (len(rows), len(taxonomy.scored_children(group))))
            for group, rows in asked.items()
        }

    walked = walk(taxonomy, 7, score, lambda _group, _rows, path: path >= 0.25)
    before = walked.paths.copy()
    left = contending(taxonomy, walked)
    np.testing.assert_array_equal(left.paths, contenders(taxonomy, before))
    np.testing.assert_array_equal(walked.paths, before)
    for name in taxonomy.graph.nodes:
        rows, values = left.node(name)
        column = left.paths[:, taxonomy.graph.column[name]]
        np.testing.assert_array_equal(rows, np.flatnonzero(~np.isnan(column)))
        np.testing.assert_array_equal(values, column[rows])


def test_a_missing_threshold_is_named():
    taxonomy = tree()
    with pytest.raises(KeyError, match="w"):
        decide(taxonomy, dict.fromkeys("xyzuv", 0.5), paths_of(taxonomy))


@given(st.integers(0, 2**20), st.integers(0, 5), st.integers(1, 4), st.integers(1, 6))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_cells_are_ranked_text_by_text_the_most_probable_first(seed, n_texts, n_nodes, most):
    random = np.random.default_rng(seed)
    grid = np.array([0, 1e-45, 1e-7, 0.3, np.nextafter(np.float32(0.3), 1), 1], dtype=np.float32)
    paths = random.choice(grid, (n_texts, n_nodes))
    shown = random.random(paths.shape) < 0.6
    paths[~shown & (random.random(paths.shape) < 0.5)] = NAN
    ranked = Ranked.of(paths, shown)
    expected = [
        sorted(np.flatnonzero(cells), key=lambda column: (-path[column], column))
        for path, cells in zip(paths, shown, strict=True)
    ]
    assert list(ranked.by_text(ranked.columns.tolist())) == expected
    assert ranked.rows.tolist() == [row for row, columns in enumerate(expected) for _ in columns]
    np.testing.assert_array_equal(ranked.paths, paths[ranked.rows, ranked.columns])
    first = ranked.first(most)
    assert list(first.by_text(first.columns.tolist())) == [columns[:most] for columns in expected]
    kept = ranked.where(ranked.paths > 0.2)
    likely = [[c for c in columns if path[c] > 0.2] for path, columns in zip(paths, expected, strict=True)]
    assert list(kept.by_text(kept.columns.tolist())) == likely


def test_each_text_gets_its_own_values_those_without_a_cell_none():
    shown = np.array([[False, False], [True, True], [False, False], [False, True], [False, False]])
    ranked = Ranked.of(np.full(shown.shape, 0.5, dtype=np.float32), shown)
    assert list(ranked.by_text(["a", "b", "c"])) == [[], ["a", "b"], [], ["c"], []]
