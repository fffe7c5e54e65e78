"""A tree drawn for the terminal: one line a node, figures in columns, what is long is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cascade.show.tree import TreeNode, pruned, walk

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text


_F1_CELLS = 5
_NAME_LEAST = 16
_NOTE_MOST = 15
_GAP = "  "
_SETTINGS = ("model", "tiers", "choose", "route", "negatives", "back_off")
_LEGEND = "F1 of a group: the mean of its labels. Threshold of a group: to enter it."


def render_tree(tree: TreeNode, depth: int | None = None) -> RenderableType:
    """A drawing for `rich` as wide as the console.

    A setting that most groups have is told once, above them, and no more at each.

    Parameters
    ----------
    depth : levels below the root to draw, all of them by default
    """
    return _TreeDrawing(tree, tree if depth is None else pruned(tree, depth))


@dataclass(frozen=True)
class _Line:
    guide: str
    node: TreeNode


@dataclass(frozen=True)
class _TreeDrawing:
    whole: TreeNode
    tree: TreeNode

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [_Line("", self.tree), *_lines(self.tree.children, "", ascii_only=options.ascii_only)]
        usual = usual_settings(self.whole)
        columns = _Layout.of(lines, options.max_width, usual, ascii_only=options.ascii_only)
        for text in (*self._head(usual, columns), *(columns.line(line) for line in lines)):
            text.truncate(options.max_width, overflow=_overflow(ascii_only=options.ascii_only))
            text.no_wrap = True
            yield text

    def _head(self, usual: Mapping[str, str], columns: _Layout) -> Iterator[Text]:
        from rich.text import Text  # `--help` does without

        yield Text(size_of(self.whole), style="dim")
        if usual:
            yield Text(f"unless another is said: {', '.join(usual.values())}", style="dim")
        if columns.is_fitted:
            yield Text(_LEGEND, style="dim")
            yield Text(" " * columns.name_cells + _figures_heading(), style="dim")


def _overflow(*, ascii_only: bool) -> Literal["crop", "ellipsis"]:
    return "crop" if ascii_only else "ellipsis"


def _lines(children: Sequence[TreeNode], indent: str, *, ascii_only: bool) -> Iterator[_Line]:
    tee, corner, bar = ("|-- ", "`-- ", "|   ") if ascii_only else ("├── ", "└── ", "│   ")
    for index, child in enumerate(children):
        is_last = index == len(children) - 1
        yield _Line(indent + (corner if is_last else tee), child)
        yield from _lines(child.children, indent + ("    " if is_last else bar), ascii_only=ascii_only)


def size_of(tree: TreeNode) -> str:
    """How many groups and labels a tree has, and how many rows it was fitted on: a line to stand above it."""
    groups = {node.name for depth, node in walk(tree) if node.kind == "group" and depth}
    parts = [counted(len(groups), "group"), counted(tree.labels_below, "label")]
    if tree.rows is not None:
        parts.append(counted(tree.rows, "training row"))
    return ", ".join(parts)


def counted(count: int, noun: str) -> str:
    return f"{count:,} {noun if count == 1 else noun + 's'}"


# Settings of groups


def _settings_of(node: TreeNode) -> dict[str, str]:
    """What a group is set to, in words, by the name of the setting."""
    settings = {
        "model": str(node.model) if node.model == node.backend else f"{node.backend} {node.model}",
        "choose": f"choose {node.choose}",
        "route": f"route {node.route}",
        "negatives": f"negatives {node.negatives}",
        "back_off": f"back off from {_cut(node.back_off)}",
        "tiers": f"tiers {', '.join(_tier(*one) for one in (node.tiers or {}).items())}",
    }
    absent = [name for name in ("route", "back_off", "tiers") if getattr(node, name) is None]
    return {name: words for name, words in settings.items() if name not in absent}


def usual_settings(tree: TreeNode) -> dict[str, str]:
    """The settings that more than half of the groups have, in words, by the name of the setting."""
    groups = [node for _, node in walk(tree) if node.kind == "group" and not node.repeated]
    counts = Counter(item for node in groups for item in _settings_of(node).items())
    found = {name: words for (name, words), count in counts.items() if 2 * count > len(groups)}
    return {name: found[name] for name in _SETTINGS if name in found}


def unusual_settings(node: TreeNode, usual: Mapping[str, str]) -> list[str]:
    """What a group or label is set to that is not the usual thing and has no column of its own."""
    if node.kind == "label":
        return (
            [f"threshold {node.threshold}"]
            if node.rows is None and node.threshold not in {None, "auto"}
            else []
        )
    own = {name: words for name, words in _settings_of(node).items() if usual.get(name) != words}
    return [words for name, words in own.items() if name != "route" or node.rows is None]


def _tier(name: str, share: float | None) -> str:
    return name if share is None else f"{name} {share:.0%}"


def _cut(threshold: float | str | None) -> str:
    return f"{threshold:.2g}" if isinstance(threshold, float) else str(threshold)


# Lines


@dataclass(frozen=True)
class _Layout:
    """How wide the names are, and whether figures stand beside them."""

    name_cells: int
    is_fitted: bool
    ascii_only: bool
    usual: Mapping[str, str]

    @classmethod
    def of(cls, lines: Sequence[_Line], width: int, usual: Mapping[str, str], *, ascii_only: bool) -> _Layout:
        from rich.cells import cell_len

        is_fitted = any(line.node.rows is not None for line in lines)
        widest = max((cell_len(line.guide + line.node.shown) for line in lines), default=0)
        notes = max((cell_len(note) for line in lines for note, _ in _notes(line.node, usual)), default=0)
        figures = len(_figures_heading()) + min(notes, _NOTE_MOST) if is_fitted else 0
        return cls(max(_NAME_LEAST, min(widest, width - figures)), is_fitted, ascii_only, usual)

    def line(self, line: _Line) -> Text:
        from rich.cells import cell_len
        from rich.text import Text

        node = line.node
        text = Text(line.guide, style="none").append(node.shown, style="bold" if node.kind == "group" else "")
        text.truncate(self.name_cells, overflow=_overflow(ascii_only=self.ascii_only))
        if self.is_fitted:
            text.append(" " * (self.name_cells - cell_len(text.plain)))
            self._figures(text, node)
        for note, style in _notes(node, self.usual):
            text.append(note, style=style)
        text.rstrip()
        return text

    def _figures(self, text: Text, node: TreeNode) -> None:
        rows = "" if node.rows is None else f"{node.rows:,}"
        text.append(f"{_GAP}{rows:>6}{_GAP}")
        style, bar, number = _bar(node.f1, ascii_only=self.ascii_only)
        text.append(bar, style=style).append(f" {number:>4}")
        text.append(f"{_GAP}{_threshold(node):>9}", style="dim")


def _figures_heading() -> str:
    return f"{_GAP}{'rows':>6}{_GAP}{'F1':<{_F1_CELLS + 5}}{_GAP}{'threshold':>9}"


def _threshold(node: TreeNode) -> str:
    if node.route == "always":
        return "always"
    if not isinstance(node.threshold, float):
        return ""
    return f"{node.threshold:.2f}" if node.kind == "label" else f"{node.threshold:.2g}"


def _notes(node: TreeNode, usual: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What stands at the end of a line, each with its style; what matters most first, as the last is cut."""
    if node.warnings:
        yield _GAP + ", ".join(map(_brief, node.warnings)), "yellow"
    if node.kind == "group" and not node.children:
        yield f"{_GAP}{counted(node.labels_below, 'label')} {'told above' if node.repeated else 'below'}", ""
    if node.also_in:
        yield f"{_GAP}also in {', '.join(node.also_in)}", "cyan"
    if settings := ", ".join(unusual_settings(node, usual)):
        yield _GAP + settings, "dim"
    if node.description and node.rows is None:
        yield _GAP + " ".join(node.description.split()), "dim"


def _brief(warning: str) -> str:
    return warning.removesuffix(" row").removesuffix(" rows") if "suspicious" in warning else warning


def _bar(f1: float | None, *, ascii_only: bool) -> tuple[str, str, str]:
    """Style, bar and number of an F1, the bar always as wide."""
    if f1 is None:
        return "dim", " " * _F1_CELLS, "-"
    style = "blue" if f1 >= 0.8 else "cyan" if f1 >= 0.5 else "yellow"  # these differ for every eye
    if ascii_only:
        return style, ("#" * round(f1 * _F1_CELLS)).ljust(_F1_CELLS), f"{f1:.2f}"
    eighths = round(f1 * _F1_CELLS * 8)
    part = "" if eighths % 8 == 0 else chr(0x2590 - eighths % 8)  # U+258F is one eighth, U+2589 seven
    return style, ("█" * (eighths // 8) + part).ljust(_F1_CELLS), f"{f1:.2f}"
