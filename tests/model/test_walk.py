from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade.model.walk import MOST_CELLS, batches, cells, edges, levels, walk
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.testing import KeywordModel
from cascade.text.texts import Texts

# Three levels and uneven: `deep` stands below `middle`, `loose` right below the root, `shared` in two groups.
UNEVEN = {
    "name": "uneven",
    "labels": ["loose"],
    "groups": {
        "wide": {"labels": ["a", "b", "shared"]},
        "middle": {"labels": ["c"], "groups": {"deep": {"labels": ["d", "shared"]}}},
        "mood": {"route": "always", "labels": ["happy"]},
    },
}


def shared(draw, name, groups):
    """Some of the groups as parents of a name, at least one."""
    return draw(st.lists(st.sampled_from(groups), min_size=1, max_size=3, unique=True), label=name)


@st.composite
def taxonomies(draw):
    """Up to five groups and eight labels, most of which may have several parents."""
    names = [f"g{number}" for number in range(draw(st.integers(0, 5)))]
    specs: dict = {ROOT: {"labels": [], "groups": {}}}
    for place, name in enumerate(names):
        first, *others = shared(draw, name, [ROOT, *names[:place]])
        specs[name] = {
            "labels": [f"of_{name}"],
            "groups": {},
            "route": draw(st.sampled_from(["model", "always"])),
        }
        extra = [other for other in others if other != ROOT]
        if first == ROOT or not others or ROOT not in others:
            specs[name]["also_in"] = extra
        specs[first]["groups"][name] = specs[name]
    for number in range(draw(st.integers(1, 3))):
        for parent in shared(draw, f"l{number}", [ROOT, *names]):
            specs[parent]["labels"].append(f"l{number}")
    top = specs[ROOT] | {"name": "random", "combine": draw(st.sampled_from(["max", "noisy_or"]))}
    return Taxonomy.from_dict(top)


class Scores:
    """Conditional scores drawn beforehand for each edge and row; remembers who was asked together."""

    def __init__(self, taxonomy, n_texts, seed):
        random = np.random.default_rng(seed)
        grid = np.array([0, 0.25, 0.5, 0.9, 1], dtype=np.float32)
        self.taxonomy = taxonomy
        self.of = {edge: random.choice(grid, n_texts) for edge in edges(taxonomy.graph)}
        rough = {edge: random.random(n_texts, dtype=np.float32) for edge in self.of}
        if seed % 2:
            self.of = rough
        self.routes = {group: np.float32(random.choice([0, 0.1, 0.25, 0.5])) for group in taxonomy.groups}
        self.marginal = {group for group in taxonomy.groups if random.random() < 0.3}
        self.calls: list[list[str]] = []

    def is_marginal(self, group):
        return group in self.marginal

    def score(self, asked):
        self.calls.append(list(asked))
        return {
            group: np.column_stack(
                [self.of[group, child][rows] for child in self.taxonomy.scored_children(group)]
            )
            for group, rows in asked.items()
        }

    def enter(self, group, _, path):
        return path >= self.routes[group]

    def conditional(self, parent, child, row):
        return np.float32(1) if self.taxonomy.is_always_visited(child) else self.of[parent, child][row]


def all_paths(graph, name):
    """Every way from the root down to a node, as lists of names."""
    if name == ROOT:
        return [[ROOT]]
    return [[*way, name] for parent in graph.parents[name] for way in all_paths(graph, parent)]


def by_all_paths(taxonomy, scores, row):
    """Path probabilities of one row by going down every path of the graph on its own (``combine: max``).

    A group that is not entered is NaN, like what no entered parent leads to.
    """
    found = {}
    for name in taxonomy.graph.nodes:
        arrived = []
        for way in all_paths(taxonomy.graph, name):
            between = way[1:-1]
            if not any(np.isnan(found[group]) for group in between):
                product = np.float32(1)
                for parent, child in pairwise(way):
                    product = product * scores.conditional(parent, child, row)
                arrived.append(product)
        found[name] = max(arrived, default=np.float32(np.nan))
        if name in taxonomy.groups and not found[name] >= scores.routes[name]:
            found[name] = np.float32(np.nan)
    return [found[name] for name in taxonomy.graph.nodes]


def by_noisy_or(taxonomy, scores, row):
    """Path probabilities of one row in float64, straight from the definition of ``noisy_or``."""
    found = {ROOT: 1.0}
    for name in taxonomy.graph.nodes:
        above = [parent for parent in taxonomy.graph.parents[name] if not np.isnan(found[parent])]
        ways = {parent: found[parent] * float(scores.conditional(parent, name, row)) for parent in above}
        causes = [parent for parent in above if not scores.is_marginal(parent) or one_parent(taxonomy, name)]
        joined = min(
            1 - np.prod([1 - ways[parent] for parent in causes]),
            max((found[parent] for parent in causes), default=0),
        )
        whole = [ways[parent] for parent in above if parent not in causes]
        found[name] = max(joined, *whole) if whole else joined if above else np.nan
        if name in taxonomy.groups and not found[name] >= scores.routes[name]:
            found[name] = np.nan
    return [found[name] for name in taxonomy.graph.nodes]


def one_parent(taxonomy, name):
    return len(taxonomy.graph.parents[name]) == 1


def walked(taxonomy, scores, n_texts):
    return walk(taxonomy, n_texts, scores.score, scores.enter, is_marginal=scores.is_marginal)


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_paths_are_those_of_brute_force_over_all_paths(taxonomy, seed):
    scores = Scores(taxonomy, 4, seed)
    paths = walked(taxonomy, scores, 4).paths
    assert paths.dtype == np.float32
    if taxonomy.combine == "max":
        expected = [by_all_paths(taxonomy, scores, row) for row in range(4)]
        np.testing.assert_array_equal(paths, np.array(expected, dtype=np.float32))
    elif not near_a_route(taxonomy, scores, paths):
        expected = [by_noisy_or(taxonomy, scores, row) for row in range(4)]
        np.testing.assert_allclose(paths, expected, rtol=1e-5, atol=1e-7)


def near_a_route(taxonomy, scores, paths):
    """Whether rounding to float32 may settle who is entered."""
    open_wide = Scores(taxonomy, len(paths), 0)
    open_wide.of, open_wide.routes = scores.of, dict.fromkeys(scores.routes, np.float32(0))
    gaps = [
        np.abs(seen[:, taxonomy.graph.column[group]] - scores.routes[group])
        for group in taxonomy.groups
        if group != ROOT and scores.routes[group]
        for seen in (paths, walked(taxonomy, open_wide, len(paths)).paths)
    ]
    return bool(gaps) and np.nanmin([*np.ravel(gaps), 1.0]) < 1e-6


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_nan_stands_exactly_where_no_parent_was_entered_or_a_group_itself_was_not(taxonomy, seed):
    graph, scores = taxonomy.graph, Scores(taxonomy, 4, seed)
    told = {}

    def enter(group, rows, path):
        inside = scores.enter(group, rows, path)
        told[group] = np.isin(np.arange(4), rows[inside])
        return inside

    paths = walk(taxonomy, 4, scores.score, enter).paths
    assert set(told) == set(graph.groups[1:])
    entered = {ROOT: np.ones(4, dtype=bool)}
    for name in graph.nodes:
        reached = np.any([entered[parent] for parent in graph.parents[name]], axis=0)
        entered[name] = reached & told[name] if name in told else reached
        np.testing.assert_array_equal(~np.isnan(paths[:, graph.column[name]]), entered[name])


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_a_child_is_never_above_its_greatest_entered_parent(taxonomy, seed):
    graph, scores = taxonomy.graph, Scores(taxonomy, 6, seed)
    paths = walked(taxonomy, scores, 6).paths
    for name in graph.nodes:
        above = [
            paths[:, graph.column[parent]] if parent else np.ones(6, dtype=np.float32)
            for parent in graph.parents[name]
        ]
        visited = ~np.isnan(paths[:, graph.column[name]])
        assert (paths[visited, graph.column[name]] <= np.fmax.reduce(above)[visited]).all()
        assert (paths[visited, graph.column[name]] >= 0).all()


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_a_row_alone_gets_what_it_gets_in_a_batch(taxonomy, seed):
    scores = Scores(taxonomy, 5, seed)
    together = walked(taxonomy, scores, 5)
    for row in range(5):
        scores_alone = Scores(taxonomy, 5, seed)
        scores_alone.of = {edge: values[[row]] for edge, values in scores.of.items()}
        alone = walked(taxonomy, scores_alone, 1)
        np.testing.assert_array_equal(alone.paths[0], together.paths[row])
        np.testing.assert_array_equal(alone.conditionals[0], together.conditionals[row])


@given(taxonomies(), st.integers(0, 2**20), st.permutations(range(5)))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_rows_in_another_order_give_the_same_in_that_order(taxonomy, seed, order):
    scores = Scores(taxonomy, 5, seed)
    before = walked(taxonomy, scores, 5)
    scores.of = {edge: values[list(order)] for edge, values in scores.of.items()}
    after = walked(taxonomy, scores, 5)
    np.testing.assert_array_equal(after.paths, before.paths[list(order)])


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_conditionals_are_what_was_scored_and_nan_where_the_parent_was_not_entered(taxonomy, seed):
    graph, scores = taxonomy.graph, Scores(taxonomy, 4, seed)
    result = walked(taxonomy, scores, 4)
    for column, (parent, child) in enumerate(edges(graph)):
        path = result.paths[:, graph.column[parent]] if parent else np.ones(4, dtype=np.float32)
        entered = ~np.isnan(path)
        scored = [scores.conditional(parent, child, row) for row in range(4)]
        expected = np.where(entered, scored, np.nan).astype(np.float32)
        np.testing.assert_array_equal(result.conditionals[:, column], expected)


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_with_max_every_path_probability_is_a_parent_times_a_conditional_of_the_trace(taxonomy, seed):
    graph, scores = taxonomy.graph, Scores(taxonomy, 4, seed)
    result = walked(taxonomy, scores, 4)
    if taxonomy.combine == "noisy_or":
        return
    place = {edge: column for column, edge in enumerate(edges(graph))}
    for name in graph.nodes:
        products = [
            (result.paths[:, graph.column[parent]] if parent else np.float32(1))
            * result.conditionals[:, place[parent, name]]
            for parent in graph.parents[name]
        ]
        path, greatest = result.paths[:, graph.column[name]], np.fmax.reduce(products)
        visited = ~np.isnan(path)
        np.testing.assert_array_equal(path[visited], greatest[visited])
        if name in taxonomy.groups:
            assert not (greatest[~visited] >= scores.routes[name]).any()
        else:
            assert np.isnan(greatest[~visited]).all()


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_score_is_called_at_most_once_a_level_with_all_groups_that_have_rows(taxonomy, seed):
    graph, scores = taxonomy.graph, Scores(taxonomy, 4, seed)
    paths = walked(taxonomy, scores, 4).paths
    expected = []
    for level in levels(graph):
        asked = [
            group
            for group in level
            if taxonomy.scored_children(group)
            and (group == ROOT or not np.isnan(paths[:, graph.column[group]]).all())
        ]
        expected += [asked] if asked else []
    assert scores.calls == expected


@given(taxonomies())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_every_parent_stands_in_an_earlier_level_than_its_child(taxonomy):
    graph, found = taxonomy.graph, levels(taxonomy.graph)
    assert sorted(group for level in found for group in level) == sorted(graph.groups)
    number = {group: place for place, level in enumerate(found) for group in level}
    assert all(number[parent] < number[child] for parent, child in edges(graph) if child in number)


def keyword_models(taxonomy):
    return {
        group: KeywordModel([[child] for child in taxonomy.scored_children(group)], found=0.5, missing=0.125)
        for group in taxonomy.groups
    }


def keyword_walk(taxonomy, texts, route, **options):
    models, batch = keyword_models(taxonomy), Texts(texts)

    def score(asked):
        return {group: models[group].scores(batch.take(rows)) for group, rows in asked.items()}

    return walk(taxonomy, len(batch), score, lambda _group, _rows, path: path >= np.float32(route), **options)


def test_an_uneven_tree_of_three_levels_by_hand():
    taxonomy = Taxonomy.from_dict(UNEVEN)
    paths = keyword_walk(taxonomy, ["middle deep d", "wide a loose happy", "nothing"], route=0.2).paths
    seen = [
        {name: float(value) for name, value in zip(taxonomy.graph.nodes, row, strict=True) if value >= 0}
        for row in paths
    ]
    assert seen == [
        # 0.5 for a keyword, 0.125 without; `mood` is always 1; below 0.2 no group is entered.
        {
            "middle": 0.5, "mood": 1.0, "deep": 0.25, "loose": 0.125,
            "shared": 0.25 * 0.125, "c": 0.5 * 0.125, "d": 0.25 * 0.5, "happy": 0.125,
        },
        {
            "wide": 0.5, "mood": 1.0, "loose": 0.5,
            "a": 0.25, "b": 0.5 * 0.125, "shared": 0.5 * 0.125, "happy": 0.5,
        },
        {"mood": 1.0, "loose": 0.125, "happy": 0.125},
    ]  # fmt: skip


def test_the_best_leaf_is_found_on_the_third_level():
    taxonomy = Taxonomy.from_dict(UNEVEN)
    labels = [taxonomy.graph.column[label] for label in taxonomy.graph.labels]
    for label, text in (("d", "middle deep d"), ("a", "wide a"), ("c", "middle c")):
        paths = keyword_walk(taxonomy, [text], route=0.0).paths[0, labels]
        left = {
            name: value for name, value in zip(taxonomy.graph.labels, paths, strict=True) if name != "happy"
        }
        assert max(left, key=lambda name: (left[name], name == label)) == label


def test_a_wide_route_leaves_nothing_unvisited_and_changes_no_visited_path():
    taxonomy = Taxonomy.from_dict(UNEVEN)
    texts = ["middle deep d", "wide a loose happy", "nothing"]
    wide, narrow = (
        keyword_walk(taxonomy, texts, route=0).paths,
        keyword_walk(taxonomy, texts, route=0.2).paths,
    )
    assert not np.isnan(wide).any()
    alone = [name for name in taxonomy.graph.nodes if len(taxonomy.graph.parents[name]) == 1]
    for name in alone:
        column = taxonomy.graph.column[name]
        visited = ~np.isnan(narrow[:, column])
        np.testing.assert_array_equal(narrow[visited, column], wide[visited, column])


def test_no_texts_give_an_empty_walk_and_ask_nobody():
    taxonomy, calls = Taxonomy.from_dict(UNEVEN), []
    result = walk(taxonomy, 0, lambda asked: calls.append(asked) or {}, lambda _group, _rows, path: path >= 0)
    assert result.paths.shape == (0, len(taxonomy.graph.nodes))
    assert result.conditionals.shape == (0, len(edges(taxonomy.graph)))
    assert calls == []


def three_parents(first, combine="noisy_or"):
    """One label in three groups, which are written in the order given."""
    groups = {name: {"labels": ["x"]} for name in first}
    return Taxonomy.from_dict({"name": "three", "combine": combine, "groups": groups})


@pytest.mark.parametrize("order", ["abc", "cab", "bca", "cba"])
def test_noisy_or_does_not_depend_on_the_order_of_parents(order):
    taxonomy = three_parents(order)
    groups, leaf = {"a": 0.5, "b": 0.5, "c": 0.9}, {"a": 1.0, "b": 1.0, "c": 0.1}

    def score(asked):
        answers = {}
        for group in asked:
            values = [leaf[group]] if group else [groups[name] for name in order]
            answers[group] = np.array([values], dtype=np.float32)
        return answers

    paths = walk(taxonomy, 1, score, lambda _group, _rows, path: path >= 0).paths
    assert paths[0, taxonomy.graph.column["x"]] == pytest.approx(1 - 0.5 * 0.5 * 0.91, rel=1e-6)


def test_groups_that_learned_from_every_row_count_once_under_noisy_or():
    taxonomy = three_parents("abc")
    leaf = {"a": 0.8, "b": 1.0, "c": 0.4}

    def score(asked):
        groups = [0.5, 0.4, 0.5]
        return {group: np.array([[leaf[group]] if group else groups], dtype=np.float32) for group in asked}

    def of_x(*marginal):
        walked = walk(
            taxonomy, 1, score, lambda _group, _rows, path: path >= 0, is_marginal=marginal.__contains__
        )
        return walked.paths[0, taxonomy.graph.column["x"]]

    assert of_x() == pytest.approx(min(1 - 0.6 * 0.6 * 0.8, 0.5))
    assert of_x("a", "b") == pytest.approx(0.4)
    assert of_x("a", "b", "c") == pytest.approx(0.4)
    assert of_x("c") == pytest.approx(min(1 - 0.6 * 0.6, 0.5))


def test_noisy_or_over_one_entered_parent_keeps_tiny_probabilities():
    taxonomy = three_parents("abc")
    groups = np.array([[0.5, 0.0, 0.0]], dtype=np.float32)

    def score(asked):
        tiny = np.array([[1e-9]], dtype=np.float32)
        return {group: tiny if group else groups for group in asked}

    paths = walk(taxonomy, 1, score, lambda _group, _rows, path: path > 0).paths
    assert paths[0, taxonomy.graph.column["x"]] == np.float32(0.5) * np.float32(1e-9)


def test_an_always_group_below_a_closed_group_is_not_visited():
    nested = {"a": {"labels": ["x"], "groups": {"mood": {"route": "always", "labels": ["happy"]}}}}
    taxonomy = Taxonomy.from_dict({"name": "nested", "groups": nested})
    paths = keyword_walk(taxonomy, ["a happy", "happy"], route=0.2).paths
    column = taxonomy.graph.column
    assert paths[:, column["mood"]].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    assert paths[:, column["happy"]].tolist() == pytest.approx([0.25, np.nan], nan_ok=True)


def test_a_group_of_always_groups_alone_is_never_asked():
    groups = {
        "mood": {"route": "always", "labels": ["happy"]},
        "tone": {"route": "always", "labels": ["rude"]},
    }
    taxonomy = Taxonomy.from_dict({"name": "facets", "groups": groups})
    asked = []

    def score(wanted):
        asked.extend(wanted)
        return {group: np.full((len(rows), 1), 0.5, dtype=np.float32) for group, rows in wanted.items()}

    paths = walk(taxonomy, 2, score, lambda _group, _rows, path: path >= 0).paths
    assert asked == ["mood", "tone"]
    assert paths.tolist() == [[1, 1, 0.5, 0.5]] * 2


def test_a_group_that_nobody_answered_for_is_an_error_not_a_certainty():
    taxonomy = Taxonomy.from_dict(UNEVEN)
    root = KeywordModel([[child] for child in taxonomy.scored_children(ROOT)], found=0.9, missing=0.1)

    def forgetful(asked):
        return {ROOT: root.scores(Texts(["wide"]))} if ROOT in asked else {}

    with pytest.raises(KeyError, match="wide"):
        walk(taxonomy, 1, forgetful, lambda _group, _rows, path: path >= 0)


@given(st.integers(0, 100), st.integers(1, 30))
def test_batches_are_all_texts_in_order_each_of_the_most_that_is_allowed(n_texts, most_texts):
    found = list(batches(n_texts, Taxonomy.from_dict(UNEVEN).graph, most_texts))
    assert [text for batch in found for text in range(n_texts)[batch]] == list(range(n_texts))
    assert all(batch.stop - batch.start == most_texts for batch in found)


def test_batches_of_a_wide_taxonomy_are_smaller_but_never_empty():
    graph = Taxonomy.from_dict(UNEVEN).graph
    wide = replace(graph, nodes=range(MOST_CELLS // 50))
    assert [batch.stop - batch.start for batch in batches(120, wide, 10_000)] == [50, 50, 50]
    wider = replace(graph, nodes=range(2 * MOST_CELLS))
    assert list(batches(2, wider, 10_000)) == [slice(0, 1), slice(1, 2)]


@given(st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 4), unique=True))
@settings(derandomize=True)
@example([1, 3, 2, 4], [0, 2])
@example([2, 3, 4], [0, 2])
def test_cells_are_those_of_all_rows_and_columns(columns, rows):
    whole = np.arange(50).reshape(5, 10)
    found = whole[cells(np.array(sorted(rows), dtype=np.int64), columns)]
    assert found.tolist() == [[row * 10 + column for column in columns] for row in sorted(rows)]


def test_children_in_any_order_get_their_own_probabilities():
    """Columns of a group's children need not follow each other, nor come in the order of its children."""
    groups = {"a": {"labels": ["x", "y", "z"]}, "b": {"labels": ["z", "w", "x"]}, "c": {"labels": ["w", "v"]}}
    taxonomy = Taxonomy.from_dict({"name": "mixed", "labels": ["y"], "groups": groups})
    texts = ["a x", "b z", "b w", "c v", "y", "a b x z"]
    paths = keyword_walk(taxonomy, texts, route=0.2).paths
    found = [
        {name: float(value) for name, value in zip(taxonomy.graph.nodes, row, strict=True) if value > 0.2}
        for row in paths
    ]
    assert found == [
        {"a": 0.5, "x": 0.25},
        {"b": 0.5, "z": 0.25},
        {"b": 0.5, "w": 0.25},
        {"c": 0.5, "v": 0.25},
        {"y": 0.5},
        {"a": 0.5, "b": 0.5, "x": 0.25, "z": 0.25},
    ]


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_a_node_has_the_texts_and_the_paths_of_its_column(taxonomy, seed):
    result = walked(taxonomy, Scores(taxonomy, 6, seed), 6)
    for name in taxonomy.graph.nodes:
        rows, values = result.node(name)
        column = result.paths[:, taxonomy.graph.column[name]]
        np.testing.assert_array_equal(rows, np.flatnonzero(~np.isnan(column)))
        np.testing.assert_array_equal(values, column[rows])


@given(taxonomies(), st.integers(0, 2**20))
@settings(deadline=None, derandomize=True, max_examples=60)
def test_blocks_hold_the_cells_of_the_whole_array(taxonomy, seed):
    graph = taxonomy.graph
    result = walked(taxonomy, Scores(taxonomy, 6, seed), 6)
    for group, block in result.blocks.items():
        assert (np.diff(block.rows) > 0).all()
        above = result.paths[block.rows, graph.column[group]] if group else np.ones(6, dtype=np.float32)
        np.testing.assert_array_equal(block.above, above)
        columns = [graph.column[child] for child in graph.children[group]]
        np.testing.assert_array_equal(block.paths, result.paths[np.ix_(block.rows, columns)])


@given(taxonomies(), st.integers(0, 2**20), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None, derandomize=True, max_examples=60)
@example(Taxonomy.from_dict(UNEVEN), 1, [False, True, True, True, False, False])
def test_some_texts_of_a_walk_are_as_they_were_in_the_whole(taxonomy, seed, kept):
    result = walked(taxonomy, Scores(taxonomy, 6, seed), 6)
    rows = np.flatnonzero(kept)
    some = replace(result, failed={2: "busy", 5: "lost"}).of(rows)
    np.testing.assert_array_equal(some.paths, result.paths[rows])
    np.testing.assert_array_equal(some.conditionals, result.conditionals[rows])
    assert some.failed == {rows.tolist().index(at): why for at, why in ((2, "busy"), (5, "lost")) if kept[at]}


def test_other_paths_take_the_place_of_a_blocks_own_and_the_first_walk_keeps_its():
    result = keyword_walk(Taxonomy.from_dict(UNEVEN), ["wide a", "middle c"], route=0.2)
    before = result.paths.copy()
    changed = result.with_paths({"wide": np.full_like(result.blocks["wide"].paths, 0.75)})
    of = result.graph.column
    assert changed.paths[0, [of["a"], of["b"], of["shared"]]].tolist() == [0.75] * 3
    assert np.isnan(changed.paths[1, [of["a"], of["b"], of["shared"]]]).all()
    np.testing.assert_array_equal(changed.paths[:, of["c"]], before[:, of["c"]])
    np.testing.assert_array_equal(result.paths, before)
