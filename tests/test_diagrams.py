from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import SHOP, manifest_of

from cascade.diagrams import dot, mermaid, page
from cascade.taxonomy import Taxonomy
from cascade.tree import TreeNode, of_model, of_taxonomy, ordered, walk

HOSTILE = [
    'a"b',
    "a]b",
    "end",
    "x --> y",
    "<script>alert(1)</script>",
    "a\\",
    "#35;",
    "\N{GRINNING FACE}",
    ";",
]
names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(str.strip),
)


@st.composite
def trees(draw):
    """Trees such as taxonomies give: names stand for one thing each, and have one or several parents."""
    drawn = draw(st.lists(names, min_size=3, max_size=14, unique=True))
    half = len(drawn) // 2
    groups, labels = drawn[:half], drawn[half:]
    members = {name: [] for name in groups}
    for label in labels:
        for parent in draw(st.lists(st.sampled_from(groups), min_size=1, max_size=2, unique=True)):
            members[parent].append(label)
    leaves = {label: TreeNode(label, "label", rows=7) for label in labels}
    inner = [(name, tuple(leaves[label] for label in members[name])) for name in groups]
    children = tuple(TreeNode(name, "group", f1=0.4, children=below) for name, below in inner)
    return TreeNode("the root", "group", children=children)


def edges_of(tree):
    """Pairs of names, as often as they stand in the tree."""
    return Counter(pair for pair in pairs(tree))


def pairs(tree):
    for child in tree.children:
        yield tree.name, child.name
        yield from pairs(child)


def shown(name):
    return " ".join(name.split())


# Mermaid


def read_mermaid(text):
    """Names by number and edges of a flowchart; every line must be one or the other."""
    head, *lines = text.splitlines()
    assert head == "flowchart LR"
    found, edges = {}, []
    for line in lines:
        node = re.fullmatch(r'  n(\d+)[\[(]"([^"\[\]<>]*(?:<br/>[^"\[\]<>]*)?)"[\])]', line)
        edge = re.fullmatch(r"  n(\d+) --> n(\d+)", line)
        assert node or edge, line
        if node:
            written = node[2].partition("<br/>")[0]
            found[node[1]] = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), written)
        else:
            edges.append((edge[1], edge[2]))
    return found, Counter((found[parent], found[child]) for parent, child in edges)


@settings(max_examples=80, deadline=None)
@given(trees())
def test_mermaid_has_each_node_once_and_each_edge_as_often_as_the_tree(tree):
    found, edges = read_mermaid(mermaid(tree))
    assert sorted(found.values()) == sorted({shown(node.name) for _, node in walk(tree)})
    assert edges == Counter({(shown(a), shown(b)): count for (a, b), count in edges_of(tree).items()})


# DOT

TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|->|[\[\]{};=,]|[\w.]+)', re.DOTALL)


def read_dot(text):
    """Names by number and edges, by the grammar of DOT for what is used here."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        token = TOKEN.match(text, at)
        assert token, text[at : at + 40]
        tokens.append(token[1])
        at = token.end()
    statements = " ".join("\0" if one == ";" else one for one in tokens[3:-1]).split("\0")
    assert tokens[:3] == ["digraph", "taxonomy", "{"]
    assert tokens[-1] == "}"
    found, edges = {}, []
    for statement in statements:
        if node := re.match(r'\s*n(\d+) \[ label = "((?:[^"\\]|\\.)*)"', statement, re.DOTALL):
            plain = node[2].partition("\\n")[0]
            found[node[1]] = re.sub(r"\\(.)", r"\1", plain)
        elif edge := re.match(r"\s*n(\d+) -> n(\d+)", statement):
            edges.append((edge[1], edge[2]))
    return found, Counter((found[parent], found[child]) for parent, child in edges)


def printable(name):
    return "".join(letter for letter in shown(name) if letter.isprintable())


@settings(max_examples=80, deadline=None)
@given(trees())
def test_dot_has_each_node_once_and_each_edge_as_often_as_the_tree(tree):
    if any("\\n" in node.name for _, node in walk(tree)):
        return  # the reader above takes it for the end of a line
    found, edges = read_dot(dot(tree))
    assert len(found) == len({(node.kind, node.name) for _, node in walk(tree)})
    assert sum(edges.values()) == sum(edges_of(tree).values())
    assert set(found.values()) == {printable(node.name) for _, node in walk(tree)}


# HTML


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.names, self.loaded, self._is_name = Counter(), [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags[tag] += 1
        self.loaded += [given[name] for name in ("src", "href", "action") if name in given]
        self._is_name = tag == "b"
        if self._is_name:
            self.names.append("")

    def handle_endtag(self, tag):
        self._is_name = self._is_name and tag != "b"

    def handle_data(self, data):
        if self._is_name:
            self.names[-1] += data


@settings(max_examples=50, deadline=None)
@given(trees())
def test_the_page_has_every_node_of_the_tree_and_nothing_else(tree):
    seen = Page(page(tree))
    assert seen.names == [node.name for _, node in walk(tree)]
    assert seen.loaded == []
    assert (seen.tags["script"], seen.tags["style"]) == (1, 1)
    assert seen.tags["details"] == sum(bool(node.children) for _, node in walk(tree))


# Of a model


def test_figures_stand_in_all_of_them():
    shop = Taxonomy.from_dict(SHOP)
    tree = of_model(shop, manifest_of(shop))
    for text in (mermaid(tree), dot(tree), page(tree)):
        assert "1,234 rows" in text
        assert "F1 0.80" in text
    assert "also in" in page(tree)
    assert "few rows" in page(tree)
    assert page(of_taxonomy(shop)).count("<meter") == 0


def test_the_order_is_that_of_the_tree():
    shop = Taxonomy.from_dict(SHOP)
    tree = ordered(of_model(shop, manifest_of(shop)), "f1")
    found, _ = read_mermaid(mermaid(tree))
    assert list(found.values()) == list(dict.fromkeys(node.name for _, node in walk(tree)))
