"""A taxonomy, or a fitted model, as a tree to look at: what stands where, on how many rows, and how good.

A taxonomy is a graph and a tree is not, so a name with several parents stands under each of them. What is
below such a group is told once, where the group comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import DataError, suggestion
from cascade.graph import ROOT
from cascade.taxonomy import Taxonomy, Threshold

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

    from cascade.store import GroupRecord, Manifest

TOP_LEVEL = "top level"
"""What the root is called where it is the parent of something."""

_FEW_ROWS = 10
"""As in `check`: with fewer rows a label has about three in each of three folds."""


@dataclass(frozen=True)
class TreeNode:
    """A group or a label at one place of the tree.

    Attributes
    ----------
    rows : training rows that carry the name or something below it; None for a taxonomy that is not fitted
    backend, negatives, choose, route : of a group, None for a label; once fitted, what was used
    threshold : least path probability at which a label is chosen, or a group is entered; as the taxonomy has
        it (``auto``, ``precision 0.9``) where nothing is fitted, None where no number applies
    f1 : out-of-fold F1 of a label; None where there is none
    also_in : the other parents, the root as `TOP_LEVEL`
    repeated : whether this group was told before, so that its children are left out here
    labels_below : how many labels stand below a group, at any depth and whether they are told here or not
    """

    name: str
    kind: Literal["group", "label"]
    description: str = ""
    rows: int | None = None
    backend: str | None = None
    negatives: str | None = None
    choose: str | None = None
    route: str | None = None
    threshold: float | str | None = None
    f1: float | None = None
    also_in: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    repeated: bool = False
    labels_below: int = 0
    children: tuple[TreeNode, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The tree as a JSON object; a label has fewer keys than a group."""
        keys = _GROUP_KEYS if self.kind == "group" else _LABEL_KEYS
        plain = {key: _plain(getattr(self, key)) for key in keys}
        if self.kind == "group":
            plain["children"] = [child.to_json() for child in self.children]
        return plain


_COMMON_KEYS = ("name", "kind", "description", "rows", "threshold", "also_in", "warnings")
_LABEL_KEYS = (*_COMMON_KEYS, "f1")
_GROUP_KEYS = (*_COMMON_KEYS, "backend", "negatives", "choose", "route", "labels_below", "repeated")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def walk(tree: TreeNode, depth: int = 0) -> Iterator[tuple[int, TreeNode]]:
    """Each node with its depth, from the top down, children in their order."""
    yield depth, tree
    for child in tree.children:
        yield from walk(child, depth + 1)


# Making one


def of_taxonomy(taxonomy: Taxonomy) -> TreeNode:
    """The tree of a taxonomy that nothing was fitted to; its root has the taxonomy's name."""
    return _Maker(taxonomy, None).group(ROOT, ROOT)


def of_model(taxonomy: Taxonomy, manifest: Manifest) -> TreeNode:
    """The tree of a fitted model, with rows, thresholds and out-of-fold figures."""
    return _Maker(taxonomy, manifest).group(ROOT, ROOT)


@dataclass
class _Maker:
    """Makes nodes from the top down and remembers which groups it has told."""

    taxonomy: Taxonomy
    manifest: Manifest | None
    told: set[str] = field(default_factory=set)

    def group(self, name: str, parent: str) -> TreeNode:
        group = self.taxonomy.groups[name]
        repeated = name in self.told
        self.told.add(name)
        record = self.manifest.groups.get(name) if self.manifest else None
        node = TreeNode(
            name=name or self.taxonomy.name,
            kind="group",
            description=group.description if name else self.taxonomy.description,
            rows=record.rows if record else None,
            backend=str(record.backend["kind"]) if record else group.backend.kind,
            negatives=record.negatives if record else group.negatives,
            choose=group.choose,
            route=group.route if name else None,
            threshold=self.route_threshold(name, record),
            also_in=self.others(name, parent),
            warnings=_group_warnings(record),
            labels_below=len(self.taxonomy.graph.descendant_labels(name)),
            repeated=repeated,
        )
        return (
            node
            if repeated
            else replace(node, children=tuple(self.child(child, name) for child in group.children))
        )

    def child(self, name: str, parent: str) -> TreeNode:
        return self.group(name, parent) if name in self.taxonomy.groups else self.label(name, parent)

    def label(self, name: str, parent: str) -> TreeNode:
        rows = self.positives[parent, name] if self.manifest else None
        return TreeNode(
            name=name,
            kind="label",
            description=self.taxonomy.labels[name].description,
            rows=rows,
            threshold=self.label_threshold(name),
            f1=self.f1(name),
            also_in=self.others(name, parent),
            warnings=(*_label_warnings(rows), *self.suspicious(name)),
        )

    def others(self, name: str, parent: str) -> tuple[str, ...]:
        parents = self.taxonomy.graph.parents[name]
        return tuple(other or TOP_LEVEL for other in parents if other != parent)

    def route_threshold(self, name: str, record: GroupRecord | None) -> float | None:
        routed = bool(name) and self.taxonomy.groups[name].route == "model"
        return record.route_threshold if record and routed else None

    def label_threshold(self, name: str) -> float | str | None:
        if self.manifest:
            return self.manifest.thresholds.get(name)
        return _written(self.taxonomy.threshold_of(name))

    def f1(self, name: str) -> float | None:
        figures: Mapping[str, float] = self.manifest.metrics.get("f1", {}) if self.manifest else {}
        return figures.get(name)

    def suspicious(self, name: str) -> tuple[str, ...]:
        found = self.doubted[name]
        return (f"{found} suspicious {'row' if found == 1 else 'rows'}",) if found else ()

    @cached_property
    def positives(self) -> Mapping[tuple[str, str], int]:
        """Training rows of each child that the model of a group scores."""
        from cascade.walk import modelled  # NumPy comes with it

        records = self.manifest.groups if self.manifest else {}
        return {
            (name, child): rows
            for name, record in records.items()
            for child, rows in zip(modelled(self.taxonomy, name), record.positives, strict=True)
        }

    @cached_property
    def doubted(self) -> Counter[str]:
        return Counter(str(one["label"]) for one in (self.manifest.suspicious if self.manifest else ()))


def _written(threshold: Threshold) -> float | str:
    if threshold.kind == "auto" or threshold.value is None:
        return "auto"
    return threshold.value if threshold.kind == "value" else f"{threshold.kind} {threshold.value:g}"


def _label_warnings(rows: int | None) -> tuple[str, ...]:
    if rows is None or rows >= _FEW_ROWS:
        return ()
    return ("no rows",) if rows == 0 else ("few rows",)


def _group_warnings(record: GroupRecord | None) -> tuple[str, ...]:
    if record is None or record.backend["kind"] != "constant":
        return ()
    return ("answers the same for every text",)


# Looking at part of one


def subtree(tree: TreeNode, group: str) -> TreeNode:
    """The part of the tree at the first place of `group`.

    Raises
    ------
    DataError
        When the tree has no such group; it names the nearest one.
    """
    groups = {node.name: node for depth, node in reversed(list(walk(tree))) if node.kind == "group" and depth}
    if group not in groups:
        hint = suggestion(group, groups) or f" It has: {_listed(sorted(groups)) or 'no groups'}."
        raise DataError(f"{tree.name!r} has no group {group!r}.{hint}")
    return groups[group]


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def pruned(tree: TreeNode, depth: int) -> TreeNode:
    """The tree down to `depth` levels below its root."""
    if depth <= 0:
        return replace(tree, children=())
    return replace(tree, children=tuple(pruned(child, depth - 1) for child in tree.children))


# Drawing one

_F1_CELLS = 5
_NAME_LEAST = 16
_NOTE_MOST = 10
_GAP = "  "


@dataclass(frozen=True)
class _Line:
    guide: str
    node: TreeNode


def render(tree: TreeNode, depth: int | None = None) -> RenderableType:
    """A drawing for `rich` as wide as the console, one line a node: figures in columns, what is long is cut.

    Parameters
    ----------
    depth : levels below the root to draw, all of them by default
    """
    return _Drawing(_size(tree), tree if depth is None else pruned(tree, depth))


@dataclass(frozen=True)
class _Drawing:
    size: str
    tree: TreeNode

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text  # `--help` does without

        lines = [_Line("", self.tree), *_lines(self.tree.children, "", ascii_only=options.ascii_only)]
        columns = _Columns.of(lines, options.max_width, ascii_only=options.ascii_only)
        yield self._fitted(Text(self.size, style="dim"), options)
        if heading := columns.heading():
            yield self._fitted(heading, options)
        for line in lines:
            yield self._fitted(columns.line(line), options)

    @staticmethod
    def _fitted(text: Text, options: ConsoleOptions) -> Text:
        text.truncate(options.max_width, overflow=_overflow(ascii_only=options.ascii_only))
        text.no_wrap = True
        return text


def _overflow(*, ascii_only: bool) -> Literal["crop", "ellipsis"]:
    return "crop" if ascii_only else "ellipsis"


def _lines(children: Sequence[TreeNode], indent: str, *, ascii_only: bool) -> Iterator[_Line]:
    tee, corner, bar = ("|-- ", "`-- ", "|   ") if ascii_only else ("├── ", "└── ", "│   ")
    for index, child in enumerate(children):
        is_last = index == len(children) - 1
        yield _Line(indent + (corner if is_last else tee), child)
        yield from _lines(child.children, indent + ("    " if is_last else bar), ascii_only=ascii_only)


def _size(tree: TreeNode) -> str:
    groups = {node.name for depth, node in walk(tree) if node.kind == "group" and depth}
    parts = [_counted(len(groups), "group"), _counted(tree.labels_below, "label")]
    if tree.rows is not None:
        parts.append(_counted(tree.rows, "training row"))
    return ", ".join(parts)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"


@dataclass(frozen=True)
class _Columns:
    """How wide the names of labels are, and whether figures stand beside them."""

    name_cells: int
    is_fitted: bool
    ascii_only: bool

    @classmethod
    def of(cls, lines: Sequence[_Line], width: int, *, ascii_only: bool) -> _Columns:
        from rich.cells import cell_len

        is_fitted = any(line.node.rows is not None for line in lines)
        labels = [line for line in lines if line.node.kind == "label"]
        widest = max((cell_len(line.guide + line.node.name) for line in labels), default=0)
        notes = max((cell_len(note) for line in labels for note, _ in _notes(line.node)), default=0)
        figures = len(_figures_heading()) + min(notes, _NOTE_MOST) if is_fitted else 0
        return cls(max(_NAME_LEAST, min(widest, width - figures)), is_fitted, ascii_only)

    def heading(self) -> Text | None:
        from rich.text import Text

        if not self.is_fitted:
            return None
        return Text(" " * self.name_cells + _figures_heading(), style="dim")

    def line(self, line: _Line) -> Text:
        return self._group(line) if line.node.kind == "group" else self._label(line)

    def _group(self, line: _Line) -> Text:
        from rich.text import Text

        text = Text(line.guide, style="none").append(line.node.name, style="bold")
        text.append(_GAP + ", ".join(_settings(line.node)), style="dim")
        return _with_notes(text, line.node)

    def _label(self, line: _Line) -> Text:
        from rich.cells import cell_len
        from rich.text import Text

        text = Text(line.guide).append(line.node.name)
        text.truncate(self.name_cells, overflow=_overflow(ascii_only=self.ascii_only))
        if self.is_fitted:
            text.append(" " * (self.name_cells - cell_len(text.plain)))
            self._figures(text, line.node)
        elif line.node.threshold not in {None, "auto"}:
            text.append(f"{_GAP}threshold {line.node.threshold}", style="dim")
        return _with_notes(text, line.node)

    def _figures(self, text: Text, node: TreeNode) -> None:
        rows = "" if node.rows is None else f"{node.rows:,}"
        text.append(f"{_GAP}{rows:>6}{_GAP}")
        style, bar, number = _bar(node.f1, ascii_only=self.ascii_only)
        text.append(bar, style=style).append(f" {number:>4}")
        threshold = f"{node.threshold:.2f}" if isinstance(node.threshold, float) else ""
        text.append(f"{_GAP}{threshold:>9}", style="dim")


def _figures_heading() -> str:
    return f"{_GAP}{'rows':>6}{_GAP}{'F1':<{_F1_CELLS + 5}}{_GAP}threshold"


def _settings(node: TreeNode) -> Iterator[str]:
    """What is known of a group, what matters least last: it is cut first."""
    if node.rows is not None:
        yield _counted(node.rows, "row")
    if not node.children:
        yield f"{_counted(node.labels_below, 'label')} {'told above' if node.repeated else 'below'}"
    if node.also_in:
        yield f"also in {', '.join(node.also_in)}"
    yield str(node.backend)
    yield f"choose {node.choose}"
    if isinstance(node.threshold, float):
        yield f"route from {node.threshold:.2g}"
    elif node.route:
        yield f"route {node.route}"
    yield f"negatives {node.negatives}"


def _notes(node: TreeNode) -> Iterator[tuple[str, str]]:
    """What stands at the end of a line, each with its style."""
    if node.also_in and node.kind == "label":
        yield f"{_GAP}also in {', '.join(node.also_in)}", "cyan"
    if node.warnings:
        yield f"{_GAP}{', '.join(node.warnings)}", "yellow"
    if node.description and node.rows is None:
        yield _GAP + " ".join(node.description.split()), "dim"


def _with_notes(text: Text, node: TreeNode) -> Text:
    for note, style in _notes(node):
        text.append(note, style=style)
    return text


def _bar(f1: float | None, *, ascii_only: bool) -> tuple[str, str, str]:
    """Style, bar and number of an F1, the bar always as wide."""
    if f1 is None:
        return "dim", " " * _F1_CELLS, "-"
    style = "green" if f1 >= 0.8 else "yellow" if f1 >= 0.5 else "red"
    if ascii_only:
        return style, ("#" * round(f1 * _F1_CELLS)).ljust(_F1_CELLS), f"{f1:.2f}"
    eighths = round(f1 * _F1_CELLS * 8)
    part = "" if eighths % 8 == 0 else chr(0x2590 - eighths % 8)  # U+258F is one eighth, U+2589 seven
    return style, ("█" * (eighths // 8) + part).ljust(_F1_CELLS), f"{f1:.2f}"
