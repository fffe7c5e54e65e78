"""A tree as one page of HTML that needs nothing else: groups that open and close, and a search.

The page loads nothing and may run its own script only, which its policy holds by the hash. What comes from a
taxonomy is escaped, and stands in texts only, never in an attribute.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from cascade.show.terminal import size_of, unusual_settings, usual_settings
from cascade.show.tree import TreeNode

_OPEN_LABELS = 60
"""Of larger trees only the first level is open at first."""

_LEGEND = (
    "<p>Counted are training rows, of those of the group above. F1 is out of fold; that of a group is the "
    "mean of its labels. A label is chosen, and a group entered, from its threshold on.</p>"
)
_NOT_IN_HTML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render_html(tree: TreeNode) -> str:
    """The whole page, to be written as UTF-8."""
    usual = usual_settings(tree)
    script = _resource("tree.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_resource("tree.html")).substitute(
        title=_text(tree.name),
        size=_text(size_of(tree)),
        legend=_LEGEND if tree.rows is not None else "",
        usual=_text(f"Unless another is said: {', '.join(usual.values())}."),
        tree="\n".join(_ListItems(usual, tree.labels_below <= _OPEN_LABELS).of(tree, None)),
        script=script,
        digest=digest,
    )


def _resource(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _text(text: str) -> str:
    return escape(_NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", text))


@dataclass(frozen=True)
class _ListItems:
    """Makes list items: nodes with what is below them."""

    usual: Mapping[str, str]
    all_open: bool

    def of(self, node: TreeNode, parent: TreeNode | None) -> Iterator[str]:
        if not node.children:
            yield f'<li class="label"><div class="node">{self.inside(node, parent)}</div></li>'
            return
        yield f"<li><details{' open' if self.all_open or parent is None else ''}>"
        yield f'<summary class="node">{self.inside(node, parent)}</summary><ul>'
        for child in node.children:
            yield from self.of(child, node)
        yield "</ul></details></li>"

    def inside(self, node: TreeNode, parent: TreeNode | None) -> str:
        figures = "" if node.rows is None else f'<span class="figures">{_figures(node, parent)}</span>'
        notes = " · ".join(_notes(node, self.usual))
        told = f'<span class="notes">{notes}</span>' if notes else ""
        return f'<span class="name">{_text(node.shown)}</span>{figures}{told}'


def _figures(node: TreeNode, parent: TreeNode | None) -> str:
    of = f" of {parent.rows:,}" if parent is not None and parent.rows is not None else ""
    rows = f'<span class="rows">{node.rows:,}{of}</span>'
    return f'{rows}{_f1(node.f1)}<span class="threshold">{_text(_threshold(node))}</span>'


def _f1(f1: float | None) -> str:
    if f1 is None:
        return '<span class="f1">no F1</span>'
    style = "strong" if f1 >= 0.8 else "middle" if f1 >= 0.5 else "weak"
    drawn = f'<rect class="{style}" width="{100 * f1:.1f}" height="10"/>'
    svg = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
    return f'<span class="f1">F1 {f1:.2f} {svg}</span>'


def _threshold(node: TreeNode) -> str:
    if node.route == "always":
        return "always"
    if not isinstance(node.threshold, float):
        return ""
    return f"from {node.threshold:.2f}" if node.kind == "label" else f"from {node.threshold:.2g}"


def _notes(node: TreeNode, usual: Mapping[str, str]) -> Iterator[str]:
    yield from (f'<span class="warning">{_text(warning)}</span>' for warning in node.warnings)
    if node.kind == "group" and not node.children:
        yield f"{node.labels_below:,} labels {'told above' if node.repeated else 'below'}"
    also_in = [f"also in {', '.join(node.also_in)}"] if node.also_in else []
    settings = [", ".join(found)] if (found := unusual_settings(node, usual)) else []
    yield from map(_text, (*also_in, *settings, *([node.description] if node.description else [])))
