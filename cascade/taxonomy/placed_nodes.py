"""The nodes of a taxonomy file with where they stand in its text, so that the text can be changed there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode

from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import Names, joined
from cascade.taxonomy.yaml_nodes import TAG, compose

_PLAIN = re.compile(r"[^\W\d_][\w./-]*(?: [\w./-]+)*")


@dataclass(frozen=True)
class PlacedGroup:
    """A group with its key and its section, and the section that lists the groups it stands among."""

    name: str
    within: str
    key: Node
    node: MappingNode
    above: MappingNode


@dataclass(frozen=True)
class PlacedLabel:
    """A label with its node, and its place in the list of its group."""

    last_name: str
    group: str
    node: Node
    place: int
    labels: SequenceNode

    @property
    def aliases(self) -> list[str]:
        given = value_of(self.node, "aliases") if isinstance(self.node, MappingNode) else None
        if isinstance(given, SequenceNode):
            return [str(one.value) for one in given.value]
        return [] if given is None else [str(given.value)]


class PlacedText:
    """A text with its nodes."""

    def __init__(self, text: str, names: Names) -> None:
        self.top, self.names = compose(text, "<text>"), names

    def group(self, name: str) -> PlacedGroup:
        return next((one for one in self.groups() if one.name == name), None) or _missing(name)

    def label(self, name: str) -> PlacedLabel:
        for group, section in [(ROOT, self.top), *((one.name, one.node) for one in self.groups())]:
            labels = value_of(section, "labels")
            for place, node in enumerate(labels.value if isinstance(labels, SequenceNode) else ()):
                named = node if isinstance(node, ScalarNode) else value_of(node, "name")
                last_name = str(named.value) if named is not None else ""
                if self.full_name(group, last_name) == name and isinstance(labels, SequenceNode):
                    return PlacedLabel(last_name, group, node, place, labels)
        raise KeyError(name)

    def full_name(self, group: str, last_name: str) -> str:
        return joined(group, last_name) if self.names == "path" else last_name

    def groups(self) -> Iterator[PlacedGroup]:
        yield from self._below(ROOT, self.top)

    def _below(self, name: str, section: Node) -> Iterator[PlacedGroup]:
        above = value_of(section, "groups")
        for key, child in above.value if isinstance(above, MappingNode) else ():
            if isinstance(child, MappingNode) and isinstance(above, MappingNode):
                own = self.full_name(name, key.value)
                yield PlacedGroup(own, name, key, child, above)
                yield from self._below(own, child)


def _missing(name: str) -> PlacedGroup:
    raise KeyError(name)


# Nodes and where they stand


def value_of(node: Node, key: str) -> Node | None:
    """The value of a key in a mapping, None where there is none."""
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def start_of(node: Node) -> int:
    """Where the first letter of a node is."""
    return int(node.start_mark.index)


def column_of(node: Node) -> int:
    """The column of its first letter, from 0."""
    return int(node.start_mark.column)


def end_of(node: Node) -> int:
    """Where the last letter of a node is; what follows a block, such as comments, is not its own."""
    if isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def in_brackets(text: str, node: Node) -> str:
    """A node as it can stand in brackets."""
    if isinstance(node, MappingNode):
        pairs = (f"{in_brackets(text, key)}: {in_brackets(text, value)}" for key, value in node.value)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(node, SequenceNode):
        return f"[{', '.join(in_brackets(text, one) for one in node.value)}]"
    if not isinstance(node, ScalarNode) or node.style in ("'", '"'):
        return " ".join(text[start_of(node) : end_of(node)].split("\n"))
    is_number = re.fullmatch(r"[-+.\w]+", node.value) is not None
    return str(node.value) if is_number else in_yaml(node.value)


def in_yaml(name: str) -> str:
    """A name as it can stand anywhere: in quotes unless that is plainly not needed."""
    is_plain = _PLAIN.fullmatch(name) and compose(name, "<text>").tag == f"{TAG}str"
    return name if is_plain else json.dumps(name, ensure_ascii=False)


# Lines


def put(text: str, start: int, end: int, new: str) -> str:
    """The text with something in the place of what stands from `start` to `end`."""
    return text[:start] + new + text[end:]


def put_lines(text: str, after: int, lines: str) -> str:
    """Whole lines after the line that a letter stands in."""
    place = line_end(text, after)
    return ended(text[:place]) + lines + text[place:]


def ended(lines: str) -> str:
    """Lines with a line break at their end."""
    return lines if lines.endswith("\n") or not lines else lines + "\n"


def line_start(text: str, at: int) -> int:
    """Where the line of a letter begins."""
    return text.rfind("\n", 0, max(at, 0)) + 1


def line_end(text: str, at: int) -> int:
    """The end of the line in which the letter before `at` stands, with its line break."""
    if at and text[at - 1] == "\n":
        return at
    return text.find("\n", at) + 1 or len(text)


def dedented(lines: str, column: int) -> str:
    """Lines without their first `column` blanks."""
    cut = (line[column:] if not line[:column].strip() else line for line in lines.splitlines(keepends=True))
    return ended("".join(cut))


def indented(lines: str, column: int) -> str:
    """Lines behind so many blanks."""
    return "".join(" " * column + line if line.strip() else line for line in lines.splitlines(keepends=True))
