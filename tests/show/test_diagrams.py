from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from trees import HOSTILE, a_shop, expected_edges, manifest_of, taxonomies

from cascade.show.diagrams import dot, exceeds_mermaid, mermaid
from cascade.show.tree import TreeNode, pruned, subtree, tree_of_model, tree_of_taxonomy
from cascade.taxonomy.definition import Taxonomy

PLAIN = re.compile(r"[0-9A-Za-z\u00c0-\ufb01 ]|#[0-9]+;|<br/>")


def read_mermaid(text):
    """Names of nodes by id, and edges; whatever else stands in it is a fault."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    names, edges = {}, []
    for line in lines:
        if found := re.fullmatch(r'(n\d+)(?:\["([^"\n]*)"\]|\(\["([^"\n]*)"\]\))', line):
            shown = found[2] or found[3] or ""
            assert PLAIN.sub("", shown) == "", line
            assert found[1] not in names
            names[found[1]] = re.sub(r"#(\d+);", lambda one: chr(int(one[1])), shown.split("<br/>")[0])
        else:
            edge = re.fullmatch(r"(n\d+) --> (n\d+)", line)
            assert edge, line
            edges.append(edge.groups())
    return names, edges


def read_dot(text):
    """The same of a graph in Graphviz's language."""
    head, *lines, last = text.splitlines()
    assert (head, last) == ("digraph {", "}")
    assert lines[:2] == ["  rankdir=LR;", '  node [fontname="sans-serif"];']
    names, edges = {}, []
    for line in lines[2:]:
        if found := re.fullmatch(r'  (n\d+) \[shape=\w+, label="((?:[^"\\\n]|\\["\\n])*)"\];', line):
            assert found[1] not in names
            names[found[1]] = unescaped(found[2])
        else:
            edge = re.fullmatch(r"  (n\d+) -> (n\d+);", line)
            assert edge, line
            edges.append(edge.groups())
    return names, edges


def unescaped(label):
    """The first line of a label as Graphviz shows it."""
    parts = re.findall(r"\\.|[^\\]", label)
    first = parts[: parts.index(r"\n")] if r"\n" in parts else parts
    text = "".join(part[1] if part.startswith("\\") else part for part in first)
    assert re.fullmatch(r"([^&]|&amp;)*", text), text
    return text.replace("&amp;", "&")


READERS = [(mermaid, read_mermaid), (dot, read_dot)]


@pytest.mark.parametrize(("write", "read"), READERS)
@given(taxonomies())
@settings(deadline=None, derandomize=True)
def test_every_name_is_a_node_once_and_every_edge_is_drawn_once(write, read, taxonomy):
    for tree in (tree_of_taxonomy(taxonomy), tree_of_model(taxonomy, manifest_of(taxonomy))):
        names, edges = read(write(tree))
        assert Counter(names.values()) == Counter([taxonomy.name, *taxonomy.graph.nodes])
        assert Counter((names[above], names[below]) for above, below in edges) == expected_edges(taxonomy)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pydot calls its parser by old names
def test_other_readers_of_dot_see_the_same_graph():
    pydot = pytest.importorskip("pydot", reason="pydot is not installed")
    taxonomy = Taxonomy.from_dict(
        {
            "name": "end",
            "groups": {'a"': {"labels": list(HOSTILE[:20])}, "b\\": {"labels": list(HOSTILE[15:])}},
        }
    )
    (graph,) = pydot.graph_from_dot_data(dot(tree_of_taxonomy(taxonomy)))
    names = {
        one.get_name(): unescaped(one.get("label")[1:-1]) for one in graph.get_nodes() if one.get("label")
    }
    assert Counter(names.values()) == Counter(["end", *taxonomy.graph.nodes])
    edges = Counter((names[one.get_source()], names[one.get_destination()]) for one in graph.get_edges())
    assert edges == expected_edges(taxonomy)


@pytest.mark.parametrize(("write", "read"), READERS)
@pytest.mark.parametrize(
    "name", ["two\nlines", "tab\there", "nul\x00", "line\u2028end", "half \ud83d", "\r\n"]
)
def test_what_is_no_letter_becomes_a_blank(write, read, name):
    """No taxonomy has such names; a tree from elsewhere might."""
    names, edges = read(write(TreeNode("top", "group", labels_below=1, children=(TreeNode(name, "label"),))))
    shown = names["n1"]
    assert shown.isprintable()
    assert len(shown) == len(name)
    assert edges == [("n0", "n1")]
    write(TreeNode(name, "group")).encode("utf-8")


@pytest.mark.parametrize(("write", "read"), READERS)
def test_figures_stand_below_the_name(write, read):
    shop = a_shop()
    text = write(tree_of_model(shop, manifest_of(shop)))
    assert "delivery" in read(text)[0].values()
    assert "1234 rows" in re.sub("#44;|,", "", text)


@pytest.mark.parametrize(("write", "read"), READERS)
def test_a_group_whose_children_are_left_out_says_how_many_labels_it_has(write, read):
    text = write(pruned(tree_of_taxonomy(a_shop()), 1))
    names, edges = read(text)
    assert sorted(names.values()) == ["billing", "delivery", "mood", "shop", "spam"]
    assert len(edges) == 4
    assert "5 labels" in text


@pytest.mark.parametrize(("write", "read"), READERS)
def test_part_of_a_tree_has_its_own_edges_only(write, read):
    names, edges = read(write(subtree(tree_of_taxonomy(a_shop()), "delivery")))
    assert sorted(names.values()) == ["broken", "courier", "delivery", "kind", "late", "refund", "rude"]
    assert len(edges) == 6


def test_what_mermaid_refuses_by_default_is_known():
    few, many = ({"name": "n", "labels": [f"l{place}" for place in range(count)]} for count in (500, 501))
    assert not exceeds_mermaid(mermaid(tree_of_taxonomy(Taxonomy.from_dict(few))))
    assert exceeds_mermaid(mermaid(tree_of_taxonomy(Taxonomy.from_dict(many))))
