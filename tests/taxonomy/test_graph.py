from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.taxonomy.graph import ROOT, Graph, find_cycles

# root -> a, b, loose; tax lies in a and in b; x lies in a and in tax.
GROUPS = {
    ROOT: ["a", "b", "loose"],
    "a": ["tax", "x"],
    "b": ["y", "tax"],
    "tax": ["x", "vat"],
}


@pytest.fixture
def graph() -> Graph:
    return Graph.build(GROUPS)


def test_root_comes_first_and_groups_follow_all_of_their_parents(graph):
    assert graph.groups == (ROOT, "a", "b", "tax")


def test_groups_keep_the_given_order_where_edges_leave_a_choice():
    shuffled = {ROOT: ["a", "c", "b"], "c": ["x"], "b": ["y"], "a": ["z"]}
    assert Graph.build(shuffled).groups == (ROOT, "c", "b", "a")


def test_a_group_given_before_its_parent_waits_for_it():
    groups = {"low": ["x"], ROOT: ["high", "b"], "high": ["low"], "b": ["y"]}
    assert Graph.build(groups).groups == (ROOT, "high", "low", "b")


def test_labels_come_in_order_of_first_appearance(graph):
    assert graph.labels == ("loose", "x", "y", "vat")


def test_order_of_labels_can_be_given():
    graph = Graph.build(GROUPS, ["vat", "y", "x", "loose"])
    assert graph.labels == ("vat", "y", "x", "loose")
    assert graph.descendant_labels("a") == ("vat", "x")


def test_columns_are_groups_without_the_root_then_labels(graph):
    assert graph.nodes == ("a", "b", "tax", "loose", "x", "y", "vat")
    assert [graph.column[name] for name in graph.nodes] == list(range(7))


def test_children_and_parents_keep_the_given_order(graph):
    assert graph.children["b"] == ("y", "tax")
    assert graph.parents["tax"] == ("a", "b")
    assert graph.parents["x"] == ("a", "tax")
    assert graph.parents["loose"] == (ROOT,)
    assert graph.parents[ROOT] == ()


def test_ancestors_leave_out_the_root_and_the_node_itself(graph):
    assert graph.ancestors("vat") == {"tax", "a", "b"}
    assert graph.ancestors("a") == frozenset()
    assert graph.ancestors(ROOT) == frozenset()


def test_descendant_labels_are_found_at_any_depth_and_once(graph):
    assert graph.descendant_labels("a") == ("x", "vat")
    assert graph.descendant_labels(ROOT) == graph.labels


def test_a_label_has_no_descendant_labels(graph):
    with pytest.raises(KeyError, match="vat"):
        graph.descendant_labels("vat")


def test_depth_is_that_of_the_longest_path(graph):
    depths = {name: graph.depth(name) for name in ("", "a", "loose", "tax", "x")}
    assert depths == {"": 0, "a": 1, "loose": 1, "tax": 2, "x": 3}


def test_closure_adds_all_ancestors(graph):
    assert graph.closure(["y", "vat"]) == {"y", "vat", "tax", "a", "b"}
    assert graph.closure([]) == frozenset()


def test_closure_of_an_unknown_name_is_an_error(graph):
    with pytest.raises(KeyError, match="nobody"):
        graph.closure(["nobody"])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({ROOT: ["a"], "a": ["b", "x"], "b": ["a"]}, "cycle: a -> b -> a"),
        ({ROOT: ["a"], "a": ["x", "x"]}, "group 'a' names its child 'x' twice"),
        ({ROOT: ["x"], "a": ["y"]}, "group 'a' is no child of any group"),
        ({"a": ["x"]}, "the root group is missing"),
        ({ROOT: ["a"], "a": [ROOT]}, "group 'a' has the root as its child"),
    ],
)
def test_unusable_edges_are_refused_by_name(groups, message):
    with pytest.raises(ValueError, match=message):
        Graph.build(groups)


@pytest.mark.parametrize("labels", [["x"], ["x", "y", "z"], ["x", "x", "y"], ["x", "x"]])
def test_given_labels_must_be_the_leaves(labels):
    with pytest.raises(ValueError, match="labels are not the leaves"):
        Graph.build({ROOT: ["x", "y"]}, labels)


def test_cycles_are_shortest_and_begin_with_the_first_group():
    groups = {
        ROOT: ["p"],
        "self": ["self"],
        "p": ["o", "n", "x"],
        "o": ["m"],
        "n": ["p"],
        "m": ["p", "l"],
        "l": ["m"],
    }
    assert find_cycles(groups) == [["self", "self"], ["p", "n", "p"]]


def test_a_graph_without_cycles_has_none():
    assert find_cycles(GROUPS) == []


def test_a_graph_without_cycles_is_built_without_what_is_slow_to_import():
    code = (
        "import sys; from cascade.taxonomy.graph import Graph, find_cycles;"
        "sound = {'': ['a', 'b'], 'b': ['a', 'x'], 'a': ['y']};"
        "print(Graph.build(sound).groups, find_cycles(sound), 'networkx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('', 'b', 'a') [] False\n"


def test_cycles_and_order_are_the_same_in_every_process():
    code = (
        "from cascade.taxonomy.graph import Graph, find_cycles\n"
        "names = [f'g{i}' for i in range(30)]\n"
        "ring = {'': names, **{n: [names[(i + k) % 30] for k in (1, 2, 7)] for i, n in enumerate(names)}}\n"
        "tree = {'': names, **{n: [f'{n}x', 'shared'] for n in names}}\n"
        "print(find_cycles(ring), Graph.build(tree).nodes)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().startswith(b"[['g0', ")


@st.composite
def dags(draw):
    """Groups in which each may hold those after it, so that there is no cycle, and labels shared at will."""
    names = [ROOT, *(f"g{index}" for index in range(draw(st.integers(0, 6))))]
    members: dict[str, list[str]] = {name: [] for name in names}
    for index, name in enumerate(names[1:], start=1):
        for above in draw(st.sets(st.integers(0, index - 1), min_size=1, max_size=3)):
            members[names[above]].append(name)
    for name in names:
        members[name] += draw(st.lists(st.sampled_from("uvwxyz"), unique=True, min_size=1, max_size=3))
    order = draw(st.permutations(names))
    return {name: draw(st.permutations(members[name])) for name in order}


def paths_to_root(groups, name):
    """All paths from the root down to `name`, by brute force."""
    if name == ROOT:
        return [[ROOT]]
    above = [group for group, members in groups.items() if name in members]
    return [[*path, name] for group in above for path in paths_to_root(groups, group)]


@given(dags())
@settings(deadline=None, derandomize=True)
def test_every_index_agrees_with_all_paths(groups):
    graph = Graph.build(groups)
    assert sorted(graph.groups) == sorted(groups)
    for name in graph.nodes:
        paths = paths_to_root(groups, name)
        assert graph.depth(name) == max(len(path) for path in paths) - 1
        above = {step for path in paths for step in path} - {ROOT, name}
        assert graph.ancestors(name) == above
        assert graph.closure([name]) == above | {name}
    for group in graph.groups:
        below = [name for name in graph.labels if group in {ROOT, *graph.ancestors(name)}]
        assert list(graph.descendant_labels(group)) == below


@given(dags())
@settings(deadline=None, derandomize=True)
def test_order_is_topological_and_else_the_given_one(groups):
    graph = Graph.build(groups)
    position = {name: index for index, name in enumerate(graph.groups)}
    given_at = {name: index for index, name in enumerate(groups)}
    for group in graph.groups:
        assert all(position[child] > position[group] for child in groups[group] if child in position)
    for before, after in pairwise(graph.groups):
        assert given_at[before] < given_at[after] or before in graph.parents[after]


@given(dags())
@settings(deadline=None, derandomize=True)
def test_closure_is_closed_and_grows_by_union(groups):
    graph = Graph.build(groups)
    half = graph.nodes[::2]
    closed = graph.closure(half)
    assert graph.closure(closed) == closed
    assert closed == frozenset().union(*(graph.closure([name]) for name in half))


@given(
    st.dictionaries(st.sampled_from("abcde"), st.lists(st.sampled_from("abcdex"), unique=True), max_size=5)
)
@settings(deadline=None, derandomize=True)
def test_cycles_found_are_real_and_none_is_missed(groups):
    cycles = find_cycles(groups)
    for cycle in cycles:
        assert cycle[0] == cycle[-1]
        assert all(below in groups[above] for above, below in pairwise(cycle))
        assert len(set(cycle)) == len(cycle) - 1
    left = dict(groups)
    while free := [name for name, members in left.items() if not left.keys() & set(members)]:
        for name in free:
            del left[name]
    assert bool(cycles) == bool(left)
