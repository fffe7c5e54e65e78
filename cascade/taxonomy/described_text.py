"""Words for groups and labels that have none, put into the text of a taxonomy file."""

from __future__ import annotations

from yaml.nodes import MappingNode, Node, ScalarNode

from cascade.taxonomy.edits import Describe
from cascade.taxonomy.names import Names
from cascade.taxonomy.placed_nodes import (
    PlacedLabel,
    PlacedText,
    column_of,
    end_of,
    in_brackets,
    in_yaml,
    put,
    put_lines,
    start_of,
    value_of,
)

_DEEPER = 4


def described(text: str, edit: Describe, names: Names) -> str:
    """The text with a description and aliases where a group or label has none; all else as it was.

    A label of a list in brackets begins a line of its own then, as such lines get long.

    Raises
    ------
    KeyError
        There is no such group or label.
    """
    group = next((one for one in PlacedText(text, names).groups() if one.name == edit.name), None)
    if group is None:
        return _described_label(text, edit, names)
    text = _filled(text, group.node, edit)
    group = PlacedText(text, names).group(edit.name)
    missing = _missing(group.node, edit)
    if not missing:
        return text
    first = group.node.value[0][0]
    if group.node.flow_style:
        return put(text, start_of(first), start_of(first), f"{_pairs(missing)}, ")
    return put_lines(text, end_of(group.key), _lines(missing, column_of(first)))


def _described_label(text: str, edit: Describe, names: Names) -> str:
    label = PlacedText(text, names).label(edit.name)
    if isinstance(label.node, ScalarNode):
        return _long_form(text, label, edit)
    text = _filled(text, label.node, edit)
    label = PlacedText(text, names).label(edit.name)
    missing, name = _missing(label.node, edit), value_of(label.node, "name")
    if not missing or not isinstance(label.node, MappingNode) or name is None:
        return text
    if not label.node.flow_style:
        return put_lines(text, end_of(name), _lines(missing, column_of(label.node.value[0][0])))
    text = put(text, end_of(name), end_of(name), f", {_pairs(missing)}")
    return _on_own_line(text, label) if label.labels.flow_style else text


def _long_form(text: str, label: PlacedLabel, edit: Describe) -> str:
    """The text with a mapping in the place of a name."""
    node, words = label.node, _missing(label.node, edit)
    if not words:
        return text
    start, end = start_of(node), end_of(node)
    if label.labels.flow_style or "\n" in text[start:end]:
        text = put(text, start, end, f"{{name: {in_brackets(text, node)}, {_pairs(words)}}}")
        return _on_own_line(text, label) if label.labels.flow_style else text
    text = put_lines(text, end, _lines(words, column_of(node)))
    return put(text, start, start, "name: ")


def _on_own_line(text: str, label: PlacedLabel) -> str:
    """The text with a line break before an item of a list in brackets."""
    start = start_of(label.node)
    before = text[:start].rstrip(" ")
    if before.endswith("\n"):
        return text
    line = before[before.rfind("\n") + 1 :]
    # Items after the first stand under it.
    depth = len(line) - len(line.lstrip(" ")) + (0 if line.lstrip(" ").startswith("{name:") else _DEEPER)
    return put(text, len(before), start, "\n" + " " * depth)


def _filled(text: str, node: Node, edit: Describe) -> str:
    """The text with words in the place of empty ones: ``description:``, ``aliases: []``."""
    places = [
        (value, words)
        for key, words in _words(edit).items()
        if (value := value_of(node, key)) is not None and not value.value
    ]
    for value, words in sorted(places, key=lambda place: -start_of(place[0])):
        start, end = start_of(value), end_of(value)
        blank = "" if text[start - 1] in " \n" else " "
        text = put(text, start, end, blank + words)
    return text


def _missing(node: Node, edit: Describe) -> dict[str, str]:
    """The words that have no key yet."""
    return {key: words for key, words in _words(edit).items() if value_of(node, key) is None}


def _words(edit: Describe) -> dict[str, str]:
    """What there is to say, as YAML on one line."""
    aliases = f"[{', '.join(map(in_yaml, edit.aliases))}]" if edit.aliases else ""
    description = in_yaml(edit.description) if edit.description else ""
    return {key: value for key, value in (("description", description), ("aliases", aliases)) if value}


def _pairs(words: dict[str, str]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in words.items())


def _lines(words: dict[str, str], column: int) -> str:
    return "".join(f"{' ' * column}{key}: {value}\n" for key, value in words.items())
