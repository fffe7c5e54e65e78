"""A tree as a graph for other programs to draw: Mermaid and Graphviz.

Here a name with several parents is one node, with an edge from each. Nodes are called ``n0``, ``n1``, ...:
the names of groups and labels stand in quotes only, with whatever could mean something escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cascade.show.tree import TreeNode, walk

MERMAID_EDGES = 500
MERMAID_CHARACTERS = 50_000
"""What Mermaid draws at most, unless the page that it is in allows it more."""

DOT_NODES = 450
"""So many boxes below each other fill the 32,767 pixels that a bitmap of Graphviz can have."""

# Beyond these: what Mermaid means something by, some letters that it uses inside, and the rarest.
_NOT_PLAIN = re.compile(r"[^0-9A-Za-z\u00c0-\ufb01 ]")
# What is no character of a line of text, and what none of these formats can hold.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class _Diagram:
    """Each name once, in the order of the tree, and each edge between their places once."""

    nodes: tuple[TreeNode, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, tree: TreeNode) -> _Diagram:
        below = [node for depth, node in walk(tree) if depth]
        names = dict.fromkeys(node.name for node in below)
        found = {node.name: node for node in sorted(below, key=lambda node: bool(node.children))}
        place = {name: index for index, name in enumerate(names, 1)}  # the top may be called like one below
        edges = [(0, place[child.name]) for child in tree.children]
        edges += [(place[node.name], place[child.name]) for node in below for child in node.children]
        return cls((tree, *(found[name] for name in names)), tuple(edges))


def mermaid(tree: TreeNode) -> str:
    """A flowchart in Mermaid's language; a group is a box, a label has round ends.

    Every letter of a name that is not plain is written as ``#N;``, which Mermaid shows as the letter.
    """
    diagram = _Diagram.of(tree)
    lines = ["flowchart LR", *(_mermaid_node(place, node) for place, node in enumerate(diagram.nodes))]
    lines += [f"n{parent} --> n{child}" for parent, child in diagram.edges]
    return "\n".join(lines) + "\n"


def exceeds_mermaid(text: str) -> bool:
    """Whether a flowchart is more than Mermaid draws unless it is told to."""
    return len(text) > MERMAID_CHARACTERS or text.count(" --> ") > MERMAID_EDGES


def _mermaid_node(place: int, node: TreeNode) -> str:
    start, end = ("[", "]") if node.kind == "group" else ("([", "])")
    text = "<br/>".join(_mermaid_text(part) for part in _parts(node))
    return f'n{place}{start}"{text}"{end}'


def _mermaid_text(text: str) -> str:
    return _NOT_PLAIN.sub(lambda found: f"#{ord(found[0])};", text)


def dot(tree: TreeNode) -> str:
    """A directed graph in Graphviz's language; a group is a box, a label has none."""
    diagram = _Diagram.of(tree)
    head = ["digraph {", "  rankdir=LR;", '  node [fontname="sans-serif"];']
    nodes = (_dot_node(place, node) for place, node in enumerate(diagram.nodes))
    edges = (f"  n{parent} -> n{child};" for parent, child in diagram.edges)
    return "\n".join([*head, *nodes, *edges, "}"]) + "\n"


def exceeds_bitmap(text: str) -> bool:
    """Whether a graph has more nodes than can be read in a bitmap."""
    return text.count("[shape=") > DOT_NODES


def _dot_node(place: int, node: TreeNode) -> str:
    shape = "box" if node.kind == "group" else "plaintext"
    text = r"\n".join(_dot_text(part) for part in _parts(node))
    return f'  n{place} [shape={shape}, label="{text}"];'


def _dot_text(text: str) -> str:
    # An ampersand would begin an entity, a backslash an escape such as \N, the name of the node.
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _parts(node: TreeNode) -> Iterator[str]:
    """The lines that stand in a node, the name first."""
    yield _one_line(node.shown)
    figures = [] if node.rows is None else [f"{node.rows:,} rows"]
    if node.f1 is not None:
        figures.append(f"F1 {node.f1:.2f}")
    if node.kind == "group" and not node.children:
        figures.append(f"{node.labels_below:,} labels")
    if figures:
        yield ", ".join(figures)


def _one_line(name: str) -> str:
    return _CONTROL.sub(" ", name)
