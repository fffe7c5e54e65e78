"""A draft as the YAML that a person would have written: plain names, comments, no more than is needed."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cascade.draft.concepts import Concept, Outline, Path

SCHEMA = "taxonomy.schema.json"
"""What editors check the file against, as its first line names it."""
WIDTH = 100
_INDENT = "  "
_FEW = 10
# What YAML takes for text without quotes, whatever version it is read by.
_PLAIN = re.compile(r"[^\W\d_](?:[\w .()/+&'<>-]|,(?=\w))*", re.UNICODE)
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Head:
    """What goes into the file above the groups."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    comments: Sequence[str] = ()
    paths: bool = False
    """Whether labels are named by their paths."""


def written(outline: Outline, head: Head) -> str:
    """The text of the taxonomy file."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA}",
        *_comment(head.comments),
        f"name: {scalar(head.name)}",
    ]
    if outline.description:
        lines.append(f"description: {scalar(outline.description)}")
    if head.paths:
        lines.append("names: path  # a label is its whole path, so that one name may stand in several groups")
    if head.data:
        lines += ["data:", *(f"{_INDENT}{key}: {_value(value)}" for key, value in head.data.items())]
    return "\n".join([*lines, *_Tree(outline.top, head.paths).lines(), ""])


def _comment(paragraphs: Sequence[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        indent = " " * (len(paragraph) - len(paragraph.lstrip()))
        for number, line in enumerate(
            textwrap.wrap(paragraph.strip(), WIDTH - 4, break_on_hyphens=False) or [""]
        ):
            yield f"# {indent}{'  ' if number and indent else ''}{line}".rstrip()


def scalar(text: str) -> str:
    """A text as YAML: without quotes where no reader could take it for anything else."""
    if _PLAIN.fullmatch(text) and text.casefold() not in _WORDS and not text.endswith(" "):
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return scalar(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_in_list(one) for one in value)}]"
    return json.dumps(value)


def _in_list(text: str) -> str:
    return scalar(text) if "," not in text else json.dumps(text, ensure_ascii=False)


class _Tree:
    def __init__(self, top: Sequence[Concept], paths: bool) -> None:
        self._top, self._paths = top, paths
        self._places: dict[int, list[Path]] = {}
        self._note_places(top, ())
        self._told: set[int] = set()

    def _note_places(self, concepts: Sequence[Concept], above: Path) -> None:
        """Each concept's places; those below it are looked at once, as that is where they are written."""
        for concept in concepts:
            places = self._places.setdefault(id(concept), [])
            places.append(above)
            if len(places) == 1:
                self._note_places(concept.children, (*above, concept.name))

    def lines(self) -> Iterator[str]:
        yield from self._children(self._top, 0, ())

    def _children(self, concepts: Sequence[Concept], depth: int, path: Path) -> Iterator[str]:
        labels = [one for one in concepts if not one.is_group and self._is_written(one)]
        groups = [one for one in concepts if one.is_group and id(one) not in self._told]
        indent = _INDENT * depth
        if groups and depth == 0:
            yield from self._groups(groups, indent, depth, path)
        if labels:
            yield f"{indent}labels:"
            yield from _aligned([line for one in labels for line in self._label(one, indent + _INDENT, path)])
        if groups and depth:
            yield from self._groups(groups, indent, depth, path)

    def _is_written(self, label: Concept) -> bool:
        """A plain label stands wherever it is; one named by its path, once."""
        return not self._paths or id(label) not in self._told

    def _groups(self, groups: Sequence[Concept], indent: str, depth: int, path: Path) -> Iterator[str]:
        yield f"{indent}groups:"
        for group in groups:
            if id(group) in self._told:
                continue
            self._told.add(id(group))
            inner = indent + 2 * _INDENT
            yield f"{indent}{_INDENT}{scalar(group.name)}:{_rows_of(group)}"
            yield from (f"{inner}{line}" for line in self._about(group, (*path, group.name)))
            yield from self._children(group.children, depth + 2, (*path, group.name))

    def _about(self, concept: Concept, path: Path) -> Iterator[str]:
        if concept.description:
            yield f"description: {scalar(concept.description)}"
        if concept.aliases:
            yield f"aliases: {_value(concept.aliases)}"
        yield from (f"{key}: {value}" for key, value in concept.settings.items())
        others = [place for place in self._places[id(concept)] if place != path[:-1] and place]
        if others and (concept.is_group or self._paths):
            yield f"also_in: {_value([self._name(place) for place in others])}"

    def _name(self, place: Path) -> str:
        return "/".join(place) if self._paths else place[-1]

    def _label(self, label: Concept, indent: str, path: Path) -> Iterator[str]:
        first = id(label) not in self._told
        self._told.add(id(label))
        about = list(self._about(label, (*path, label.name))) if first else []
        key = "name: " if about else ""
        yield f"{indent}- {key}{scalar(label.name)}{_rows_of(label)}"
        yield from (f"{indent}{_INDENT}{line}" for line in about)


_MARK = "\0"
_MOST_ALIGNED = 48


def _rows_of(concept: Concept) -> str:
    if concept.rows is None:
        return ""
    few = ", few" if not concept.is_group and concept.rows < _FEW else ""
    count = "1 row" if concept.rows == 1 else f"{concept.rows:,} rows"
    return f"{'' if concept.is_group else _MARK}  # {count}{few}"


def _aligned(lines: Sequence[str]) -> Iterator[str]:
    """Comments of a group's labels below each other."""
    width = max((len(line.split(_MARK)[0]) for line in lines if _MARK in line), default=0)
    for line in lines:
        before, mark, after = line.partition(_MARK)
        yield f"{before.ljust(min(width, _MOST_ALIGNED))}{after}" if mark else line
