"""Changes in the text of a taxonomy file: what they do not touch stays as it was, letter by letter.

Nodes know where they stand in the text, so that a label is cut out with its comment lines and put in
elsewhere. To write the whole file anew from values would reflow what nobody changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from cascade.taxonomy.edits import TAKEN_OVER, Edit, MergeLabels, MoveLabel, SplitGroup, names_left_behind
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import Names, joined
from cascade.taxonomy.yaml_nodes import TAG, compose

_PLAIN = re.compile(r"[^\W\d_][\w./-]*(?: [\w./-]+)*")


def edited_text(text: str, edits: Sequence[Edit], names: Names) -> str:
    """The text of a taxonomy file after some changes, which name things as they are called before all.

    Labels keep their form and their comment lines; aliases that are added make a short form long. What the
    text then means should be held against `cascade.taxonomy.edits.edited`: anchors may stand in the way.

    Raises
    ------
    KeyError
        A change names what the file does not have.
    """
    if "\r\n" in text:
        return edited_text(text.replace("\r\n", "\n"), edits, names).replace("\n", "\r\n")
    for edit in edits:
        if isinstance(edit, MergeLabels):
            text = _merged(text, edit, names)
        elif isinstance(edit, MoveLabel):
            text = _moved(text, edit, names)
        else:
            text = _split(text, edit, names)
    return text


def _merged(text: str, edit: MergeLabels, names: Names) -> str:
    gone, into = _Text(text, names).label(edit.label), _Text(text, names).label(edit.into)
    more = (
        [gone.last_name, *gone.aliases]
        if names == "plain"
        else names_left_behind(gone.last_name, gone.aliases, gone.group, into.group)
    )
    text, _ = _without(text, edit.label, names)
    return _with_aliases(text, edit.into, more, names)


def _moved(text: str, edit: MoveLabel, names: Names) -> str:
    label = _Text(text, names).label(edit.label)
    text, item = _without(text, edit.label, names)
    labels = _value(_Text(text, names).group(edit.target).node, "labels")
    if not isinstance(labels, SequenceNode) or not labels.value:
        raise KeyError(edit.target)
    end = _end(labels.value[-1])
    if labels.flow_style:
        text = _put(text, end, end, f", {item.flow}")
    else:
        text = _put_lines(text, end, _indented(item.block, _column(labels)))
    return _known_by_old_paths(text, [label], edit.target, names)


def _split(text: str, edit: SplitGroup, names: Names) -> str:
    labels = [_Text(text, names).label(one) for one in edit.labels]
    items = []
    for one in edit.labels:
        text, item = _without(text, one, names)
        items.append(item)
    group = _Text(text, names).group(edit.group)
    end = _end(group.node)
    if group.above.flow_style:
        text = _put(text, end, end, f", {_written(edit.new)}: {_flow_group(text, group, items)}")
    elif group.node.flow_style:
        line = f"{_written(edit.new)}: {_flow_group(text, group, items)}\n"
        text = _put_lines(text, end, _indented(line, _column(group.key)))
    else:
        text = _put_lines(text, end, _block_group(text, group, edit.new, items))
    target = joined(group.within, edit.new) if names == "path" else edit.new
    return _known_by_old_paths(text, labels, target, names)


def _known_by_old_paths(text: str, labels: Sequence[_Label], target: str, names: Names) -> str:
    """With the paths that labels had before they came to `target` as aliases, where names are paths."""
    for label in labels if names == "path" else ():
        if label.group != ROOT:
            more = names_left_behind(label.last_name, label.aliases, label.group, None)
            text = _with_aliases(text, joined(target, label.last_name), more, names)
    return text


@dataclass(frozen=True)
class _Group:
    name: str
    within: str
    key: Node
    node: MappingNode
    above: MappingNode


@dataclass(frozen=True)
class _Label:
    last_name: str
    group: str
    node: Node
    place: int
    labels: SequenceNode

    @property
    def aliases(self) -> list[str]:
        given = _value(self.node, "aliases") if isinstance(self.node, MappingNode) else None
        if isinstance(given, SequenceNode):
            return [str(one.value) for one in given.value]
        return [] if given is None else [str(given.value)]


@dataclass(frozen=True)
class _Item:
    """A label that was cut out: as lines of a block without indentation, and for a list in brackets."""

    block: str
    flow: str


class _Text:
    """A text with its nodes."""

    def __init__(self, text: str, names: Names) -> None:
        self.top, self.names = compose(text, "<text>"), names

    def group(self, name: str) -> _Group:
        return next((one for one in self.groups() if one.name == name), None) or _missing(name)

    def label(self, name: str) -> _Label:
        for group, section in [(ROOT, self.top), *((one.name, one.node) for one in self.groups())]:
            labels = _value(section, "labels")
            for place, node in enumerate(labels.value if isinstance(labels, SequenceNode) else ()):
                named = node if isinstance(node, ScalarNode) else _value(node, "name")
                last_name = str(named.value) if named is not None else ""
                if self.full_name(group, last_name) == name and isinstance(labels, SequenceNode):
                    return _Label(last_name, group, node, place, labels)
        raise KeyError(name)

    def full_name(self, group: str, last_name: str) -> str:
        return joined(group, last_name) if self.names == "path" else last_name

    def groups(self) -> Iterator[_Group]:
        yield from self._below(ROOT, self.top)

    def _below(self, name: str, section: Node) -> Iterator[_Group]:
        above = _value(section, "groups")
        for key, child in above.value if isinstance(above, MappingNode) else ():
            if isinstance(child, MappingNode) and isinstance(above, MappingNode):
                own = self.full_name(name, key.value)
                yield _Group(own, name, key, child, above)
                yield from self._below(own, child)


def _missing(name: str) -> _Group:
    raise KeyError(name)


def _without(text: str, label: str, names: Names) -> tuple[str, _Item]:
    """The text without a label, and the label."""
    found = _Text(text, names).label(label)
    if found.labels.flow_style:
        flow = " ".join(text[_start(found.node) : _end(found.node)].split())
        start, end = _start(found.node), _end(found.node)
        if found.place + 1 < len(found.labels.value):
            end = _start(found.labels.value[found.place + 1])
        elif found.place:
            start = _end(found.labels.value[found.place - 1])
        return _put(text, start, end, ""), _Item(f"- {flow}\n", flow)
    start, end = _lines_of_item(text, found)
    block = _dedented(text[start:end], _column(found.labels))
    return _put(text, start, end, ""), _Item(block, _flow(text, found.node))


def _lines_of_item(text: str, label: _Label) -> tuple[int, int]:
    """From the comment lines right above an item of a list to the end of its last line."""
    column = _column(label.labels)
    start = _line_start(text, _start(label.node))
    while not text[start + column :].startswith("-") or text[start : start + column].strip():
        start = _line_start(text, start - 1)
    while start:
        above = _line_start(text, start - 1)
        if not text[above:start].strip().startswith("#") or not text[above + column : start].startswith("#"):
            break
        start = above
    return start, _line_end(text, _end(label.node))


def _with_aliases(text: str, label: str, more: Sequence[str], names: Names) -> str:
    """The text with more names for a label."""
    node = _Text(text, names).label(label).node
    written = ", ".join(map(_written, more))
    if isinstance(node, ScalarNode):
        long = f"{{name: {_flow(text, node)}, aliases: [{written}]}}"
        return _put(text, _start(node), _end(node), long)
    aliases = _value(node, "aliases")
    if isinstance(aliases, ScalarNode):
        return _put(text, _start(aliases), _end(aliases), f"[{_flow(text, aliases)}, {written}]")
    if isinstance(aliases, SequenceNode):
        return _with_items(text, aliases, more)
    if isinstance(node, CollectionNode) and node.flow_style:
        end = _end(node.value[-1][1])
        return _put(text, end, end, f", aliases: [{written}]")
    return _put_lines(text, _end(node), " " * _column(node) + f"aliases: [{written}]\n")


def _with_items(text: str, names: SequenceNode, more: Sequence[str]) -> str:
    """The text with more names at the end of a list."""
    written = list(map(_written, more))
    if not names.value:
        return _put(text, _start(names), _end(names), f"[{', '.join(written)}]")
    end = _end(names.value[-1])
    if names.flow_style:
        return _put(text, end, end, "".join(f", {one}" for one in written))
    lines = "".join(f"- {one}\n" for one in written)
    return _put_lines(text, end, _indented(lines, _column(names)))


def _block_group(text: str, group: _Group, new: str, items: Sequence[_Item]) -> str:
    """The lines of a new group beside another one, with its settings and with these labels."""
    inner = " " * _column(group.node)
    lines = [" " * _column(group.key) + f"{_written(new)}:\n"]
    for key, value in group.node.value:
        if key.value in TAKEN_OVER:
            end = _line_end(text, _end(value))
            lines.append(_ended(text[_line_start(text, _start(key)) : end]))
    labels = _value(group.node, "labels")
    if isinstance(labels, SequenceNode) and labels.flow_style:
        lines.append(f"{inner}labels: [{', '.join(item.flow for item in items)}]\n")
    elif labels is not None:
        lines.append(f"{inner}labels:\n")
        lines += [_indented(item.block, _column(labels)) for item in items]
    return "".join(lines)


def _flow_group(text: str, group: _Group, items: Sequence[_Item]) -> str:
    kept = [
        f"{key.value}: {_flow(text, value)}" for key, value in group.node.value if key.value in TAKEN_OVER
    ]
    labels = f"labels: [{', '.join(item.flow for item in items)}]"
    return f"{{{', '.join([*kept, labels])}}}"


# Nodes and where they stand


def _value(node: Node, key: str) -> Node | None:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _start(node: Node) -> int:
    return int(node.start_mark.index)


def _column(node: Node) -> int:
    return int(node.start_mark.column)


def _end(node: Node) -> int:
    """Where the last letter of a node is; what follows a block, such as comments, is not its own."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _flow(text: str, node: Node) -> str:
    """A node as it can stand in brackets."""
    if isinstance(node, MappingNode):
        return f"{{{', '.join(f'{_flow(text, key)}: {_flow(text, value)}' for key, value in node.value)}}}"
    if isinstance(node, SequenceNode):
        return f"[{', '.join(_flow(text, one) for one in node.value)}]"
    if not isinstance(node, ScalarNode) or node.style in ("'", '"'):
        return " ".join(text[_start(node) : _end(node)].split("\n"))
    is_number = re.fullmatch(r"[-+.\w]+", node.value) is not None
    return str(node.value) if is_number else _written(node.value)


def _written(name: str) -> str:
    """A name as it can stand anywhere: in quotes unless that is plainly not needed."""
    is_plain = _PLAIN.fullmatch(name) and compose(name, "<text>").tag == f"{TAG}str"
    return name if is_plain else json.dumps(name, ensure_ascii=False)


# Lines


def _put(text: str, start: int, end: int, new: str) -> str:
    return text[:start] + new + text[end:]


def _put_lines(text: str, after: int, lines: str) -> str:
    """Whole lines after the line that a letter stands in."""
    place = _line_end(text, after)
    return _ended(text[:place]) + lines + text[place:]


def _ended(lines: str) -> str:
    return lines if lines.endswith("\n") or not lines else lines + "\n"


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, max(at, 0)) + 1


def _line_end(text: str, at: int) -> int:
    """The end of the line in which the letter before `at` stands, with its line break."""
    if at and text[at - 1] == "\n":
        return at
    return text.find("\n", at) + 1 or len(text)


def _dedented(lines: str, column: int) -> str:
    cut = (line[column:] if not line[:column].strip() else line for line in lines.splitlines(keepends=True))
    return _ended("".join(cut))


def _indented(lines: str, column: int) -> str:
    return "".join(" " * column + line if line.strip() else line for line in lines.splitlines(keepends=True))
