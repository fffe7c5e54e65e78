"""A tree as Mermaid, as DOT for Graphviz, and as a page of HTML that needs nothing but a browser.

Mermaid and DOT draw the graph: each name once, with an edge from each of its parents. The page is the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files

from cascade.tree import TreeNode, walk

_ENTITY_FREE = frozenset(" .,;:!?+*/=_-()%")
# From dark blue to yellow, told apart by the colour-blind as well (cividis of matplotlib, every fifth of it).
_SCALE = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")
_UNKNOWN = "#ffffff"


def mermaid(tree: TreeNode) -> str:
    """A flowchart of Mermaid, the groups as boxes and the labels rounded."""
    numbers = _numbers(tree)
    lines = ["flowchart LR"]
    for node, number in numbers.items():
        around = ('("', '")') if node[0] == "label" else ('["', '"]')
        lines.append(f"  n{number}{around[0]}{_for_mermaid(_named(_first(tree, node)))}{around[1]}")
    lines += [f"  n{numbers[parent]} --> n{numbers[child]}" for parent, child in _edges(tree)]
    return "\n".join(lines) + "\n"


def dot(tree: TreeNode) -> str:
    """A digraph for Graphviz; the brighter a node, the better its F1, which stands in it as well."""
    numbers = _numbers(tree)
    lines = [
        "digraph taxonomy {",
        "  rankdir=LR;",
        '  node [fontname="sans-serif", style="filled,rounded", shape=box];',
    ]
    for node, number in numbers.items():
        lines.append(f"  n{number} [{_attributes(_first(tree, node))}];")
    lines += [f"  n{numbers[parent]} -> n{numbers[child]};" for parent, child in _edges(tree)]
    return "\n".join([*lines, "}"]) + "\n"


Key = tuple[str, str]


def _key(node: TreeNode) -> Key:
    # A label may have the name of the whole taxonomy, which is that of the root.
    return node.kind, node.name


def _numbers(tree: TreeNode) -> dict[Key, int]:
    """A number for each name, in the order of the tree."""
    return {key: number for number, key in enumerate(dict.fromkeys(_keys(tree)))}


def _keys(tree: TreeNode) -> Iterator[Key]:
    yield "root", tree.name
    yield from (_key(node) for depth, node in walk(tree) if depth)


def _first(tree: TreeNode, key: Key) -> TreeNode:
    return next(node for depth, node in walk(tree) if (_key(node) if depth else ("root", node.name)) == key)


def _edges(tree: TreeNode, key: Key | None = None) -> Iterator[tuple[Key, Key]]:
    above = key or ("root", tree.name)
    for child in tree.children:
        yield above, _key(child)
        yield from _edges(child, _key(child))


def _named(node: TreeNode) -> str:
    """The name with what is known of it, on two lines."""
    facts = []
    if node.rows is not None:
        facts.append(f"{node.rows:,} rows")
    if node.f1 is not None:
        facts.append(f"F1 {node.f1:.2f}")
    return "\n".join([" ".join(node.name.split()), *([", ".join(facts)] if facts else [])])


def _for_mermaid(text: str) -> str:
    """The text with every character as its number that could mean something."""
    lines = ("".join(map(_mermaid_character, line)) for line in text.split("\n"))
    return "<br/>".join(lines) or " "


def _mermaid_character(letter: str) -> str:
    return letter if letter.isalnum() or letter in _ENTITY_FREE else f"#{ord(letter)};"


def _attributes(node: TreeNode) -> str:
    colour = _UNKNOWN if node.f1 is None else _SCALE[min(int(node.f1 * len(_SCALE)), len(_SCALE) - 1)]
    ink = "white" if node.f1 is not None and node.f1 < 0.5 else "black"
    look = f'fillcolor="{colour}", fontcolor={ink}'
    return f"label={_quoted(_named(node))}, {look}" + (", penwidth=2" if node.kind == "group" else "")


def _quoted(text: str) -> str:
    """A string of DOT: a backslash and a quote are the only characters that mean something in it."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(letter for letter in plain if letter.isprintable()) + '"'


# A page


def page(tree: TreeNode) -> str:
    """One page of HTML with the whole tree, to open and close, and to search; it asks for nothing else."""
    template = files("cascade").joinpath("tree.html").read_text("utf-8")
    parts = {"title": escape(tree.name), "tree": "\n".join(_items(tree, is_open=True))}
    for name, content in parts.items():
        template = template.replace(f"<!-- {name} -->", content)
    return template


def _items(node: TreeNode, *, is_open: bool) -> Iterator[str]:
    head = _head(node)
    if not node.children:
        yield f'<li data-name="{escape(node.name.casefold())}">{head}</li>'
        return
    opened = " open" if is_open else ""
    yield f'<li data-name="{escape(node.name.casefold())}"><details{opened}><summary>{head}</summary><ul>'
    for child in node.children:
        yield from _items(child, is_open=False)
    yield "</ul></details></li>"


def _head(node: TreeNode) -> str:
    """Name, figures and remarks of a node."""
    parts = [f'<b class="{node.kind}">{escape(node.name)}</b>']
    if node.rows is not None:
        parts.append(f"<span>{node.rows:,} rows</span>")
    if node.f1 is not None:
        parts.append(f'<meter min="0" max="1" value="{node.f1:.4f}"></meter><span>F1 {node.f1:.2f}</span>')
    parts += [f'<span class="more">{escape(fact)}</span>' for fact in _facts(node)]
    parts += [f'<em class="warning">{escape(warning)}</em>' for warning in node.warnings]
    if node.description:
        parts.append(f"<i>{escape(node.description)}</i>")
    return " ".join(parts)


def _facts(node: TreeNode) -> Iterator[str]:
    if node.kind == "group":
        yield f"{node.labels_below:,} labels{' (told above)' if node.repeated else ''}"
        yield ", ".join(filter(None, (node.backend, node.model, f"choose {node.choose}")))
    if node.threshold is not None:
        shown = f"{node.threshold:.2g}" if isinstance(node.threshold, float) else node.threshold
        yield f"{'route from' if node.kind == 'group' else 'threshold'} {shown}"
    if node.also_in:
        yield f"also in {', '.join(node.also_in)}"
