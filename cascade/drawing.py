"""A tree for a terminal: one line a node, figures in columns, as wide as there is room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cascade.tree import TreeNode, pruned, walk

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

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
    if node.f1 is not None:
        yield f"F1 {node.f1:.2f}"
    yield f"choose {node.choose}"
    if isinstance(node.threshold, float):
        yield f"route from {node.threshold:.2g}"
    elif node.route:
        yield f"route {node.route}"
    yield f"negatives {node.negatives}"
    if node.model:
        yield node.model


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
