"""Changes in the text of a taxonomy file: what they do not touch stays as it was, letter by letter.

Nodes know where they stand in the text, so that a label is cut out with its comment lines and put in
elsewhere. To write the whole file anew from values would reflow what nobody changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yaml.nodes import CollectionNode, ScalarNode, SequenceNode

from cascade.taxonomy.described_text import described
from cascade.taxonomy.edits import (
    TAKEN_OVER,
    Describe,
    Edit,
    MergeLabels,
    MoveLabel,
    SplitGroup,
    names_left_behind,
)
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import Names, joined
from cascade.taxonomy.placed_nodes import (
    PlacedGroup,
    PlacedLabel,
    PlacedText,
    column_of,
    dedented,
    end_of,
    ended,
    in_brackets,
    in_yaml,
    indented,
    line_end,
    line_start,
    put,
    put_lines,
    start_of,
    value_of,
)


def edited_text(text: str, edits: Sequence[Edit | Describe], names: Names) -> str:
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
        elif isinstance(edit, Describe):
            text = described(text, edit, names)
        else:
            text = _split(text, edit, names)
    return text


def _merged(text: str, edit: MergeLabels, names: Names) -> str:
    gone, into = PlacedText(text, names).label(edit.label), PlacedText(text, names).label(edit.into)
    more = (
        [gone.last_name, *gone.aliases]
        if names == "plain"
        else names_left_behind(gone.last_name, gone.aliases, gone.group, into.group)
    )
    text, _ = _without(text, edit.label, names)
    return _with_aliases(text, edit.into, more, names)


def _moved(text: str, edit: MoveLabel, names: Names) -> str:
    label = PlacedText(text, names).label(edit.label)
    text, item = _without(text, edit.label, names)
    labels = value_of(PlacedText(text, names).group(edit.target).node, "labels")
    if not isinstance(labels, SequenceNode) or not labels.value:
        raise KeyError(edit.target)
    end = end_of(labels.value[-1])
    if labels.flow_style:
        text = put(text, end, end, f", {item.flow}")
    else:
        text = put_lines(text, end, indented(item.block, column_of(labels)))
    return _known_by_old_paths(text, [label], edit.target, names)


def _split(text: str, edit: SplitGroup, names: Names) -> str:
    labels = [PlacedText(text, names).label(one) for one in edit.labels]
    items = []
    for one in edit.labels:
        text, item = _without(text, one, names)
        items.append(item)
    group = PlacedText(text, names).group(edit.group)
    end = end_of(group.node)
    if group.above.flow_style:
        text = put(text, end, end, f", {in_yaml(edit.new)}: {_flow_group(text, group, items)}")
    elif group.node.flow_style:
        line = f"{in_yaml(edit.new)}: {_flow_group(text, group, items)}\n"
        text = put_lines(text, end, indented(line, column_of(group.key)))
    else:
        text = put_lines(text, end, _block_group(text, group, edit.new, items))
    target = joined(group.within, edit.new) if names == "path" else edit.new
    return _known_by_old_paths(text, labels, target, names)


def _known_by_old_paths(text: str, labels: Sequence[PlacedLabel], target: str, names: Names) -> str:
    """With the paths that labels had before they came to `target` as aliases, where names are paths."""
    for label in labels if names == "path" else ():
        if label.group != ROOT:
            more = names_left_behind(label.last_name, label.aliases, label.group, None)
            text = _with_aliases(text, joined(target, label.last_name), more, names)
    return text


@dataclass(frozen=True)
class _Item:
    """A label that was cut out: as lines of a block without indentation, and for a list in brackets."""

    block: str
    flow: str


def _without(text: str, label: str, names: Names) -> tuple[str, _Item]:
    """The text without a label, and the label."""
    found = PlacedText(text, names).label(label)
    if found.labels.flow_style:
        flow = " ".join(text[start_of(found.node) : end_of(found.node)].split())
        start, end = start_of(found.node), end_of(found.node)
        if found.place + 1 < len(found.labels.value):
            end = start_of(found.labels.value[found.place + 1])
        elif found.place:
            start = end_of(found.labels.value[found.place - 1])
        return put(text, start, end, ""), _Item(f"- {flow}\n", flow)
    start, end = _lines_of_item(text, found)
    block = dedented(text[start:end], column_of(found.labels))
    return put(text, start, end, ""), _Item(block, in_brackets(text, found.node))


def _lines_of_item(text: str, label: PlacedLabel) -> tuple[int, int]:
    """From the comment lines right above an item of a list to the end of its last line."""
    column = column_of(label.labels)
    start = line_start(text, start_of(label.node))
    while not text[start + column :].startswith("-") or text[start : start + column].strip():
        start = line_start(text, start - 1)
    while start:
        above = line_start(text, start - 1)
        if not text[above:start].strip().startswith("#") or not text[above + column : start].startswith("#"):
            break
        start = above
    return start, line_end(text, end_of(label.node))


def _with_aliases(text: str, label: str, more: Sequence[str], names: Names) -> str:
    """The text with more names for a label."""
    node = PlacedText(text, names).label(label).node
    written = ", ".join(map(in_yaml, more))
    if isinstance(node, ScalarNode):
        long = f"{{name: {in_brackets(text, node)}, aliases: [{written}]}}"
        return put(text, start_of(node), end_of(node), long)
    aliases = value_of(node, "aliases")
    if isinstance(aliases, ScalarNode):
        return put(text, start_of(aliases), end_of(aliases), f"[{in_brackets(text, aliases)}, {written}]")
    if isinstance(aliases, SequenceNode):
        return _with_items(text, aliases, more)
    if isinstance(node, CollectionNode) and node.flow_style:
        end = end_of(node.value[-1][1])
        return put(text, end, end, f", aliases: [{written}]")
    return put_lines(text, end_of(node), " " * column_of(node) + f"aliases: [{written}]\n")


def _with_items(text: str, names: SequenceNode, more: Sequence[str]) -> str:
    """The text with more names at the end of a list."""
    written = list(map(in_yaml, more))
    if not names.value:
        return put(text, start_of(names), end_of(names), f"[{', '.join(written)}]")
    end = end_of(names.value[-1])
    if names.flow_style:
        return put(text, end, end, "".join(f", {one}" for one in written))
    lines = "".join(f"- {one}\n" for one in written)
    return put_lines(text, end, indented(lines, column_of(names)))


def _block_group(text: str, group: PlacedGroup, new: str, items: Sequence[_Item]) -> str:
    """The lines of a new group beside another one, with its settings and with these labels."""
    inner = " " * column_of(group.node)
    lines = [" " * column_of(group.key) + f"{in_yaml(new)}:\n"]
    for key, value in group.node.value:
        if key.value in TAKEN_OVER:
            end = line_end(text, end_of(value))
            lines.append(ended(text[line_start(text, start_of(key)) : end]))
    labels = value_of(group.node, "labels")
    if isinstance(labels, SequenceNode) and labels.flow_style:
        lines.append(f"{inner}labels: [{', '.join(item.flow for item in items)}]\n")
    elif labels is not None:
        lines.append(f"{inner}labels:\n")
        lines += [indented(item.block, column_of(labels)) for item in items]
    return "".join(lines)


def _flow_group(text: str, group: PlacedGroup, items: Sequence[_Item]) -> str:
    kept = [
        f"{key.value}: {in_brackets(text, value)}"
        for key, value in group.node.value
        if key.value in TAKEN_OVER
    ]
    labels = f"labels: [{', '.join(item.flow for item in items)}]"
    return f"{{{', '.join([*kept, labels])}}}"
