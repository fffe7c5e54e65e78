"""Indented text, Markdown lists and plain lists of names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cascade.draft.concepts import Outline, PathEntry, clean_name, tree_of
from cascade.draft.paths import separator_of, split_path
from cascade.errors import DataError

_BULLET = re.compile("(?:[-*+\u2022\u2023\u25e6\u2013]|\\d{1,4}[.)])\\s+")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
# A name that is marked may be followed by what it means.
_MARKED = re.compile(r"(\*\*|__|`)(?P<name>.+?)\1\s*(?:[:\u2013\u2014-]\s*(?P<said>.*))?$")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_TAB_WIDTH = 4


@dataclass(frozen=True)
class _Line:
    number: int
    indent: int
    heading: int
    text: str


def read_outline(text: str, source: str, *, markdown: bool) -> Outline:
    """The names of a text, those that are indented more below those before them.

    Bullets and numbers before a name are dropped. With `markdown`, headings are groups of what follows,
    and a name in bold or code may be followed by a colon and its description. Where no line is indented,
    lines may be paths.

    Raises
    ------
    DataError
        With the line at which the indentation fits none of those above, or a path has an empty part.
    """
    lines = list(_lines(text, markdown))
    if not any(line.indent or line.heading for line in lines):
        return Outline(tree_of(_flat(lines, source)))
    title, lines = _title(lines) if markdown else ("", lines)
    return Outline(tree_of(_nested(lines, source)), name=title)


def _lines(text: str, markdown: bool) -> Iterator[_Line]:
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.expandtabs(_TAB_WIDTH).rstrip()
        stripped = line.lstrip(" \u00a0")
        if not stripped or re.fullmatch(r"[-=*_]{3,}", stripped):
            continue
        found = _HEADING.match(stripped) if markdown else None
        if found:
            yield _Line(number, 0, len(found[1]), found[2])
        else:
            yield _Line(number, len(line) - len(stripped), 0, _BULLET.sub("", stripped, count=1))


def _title(lines: Sequence[_Line]) -> tuple[str, list[_Line]]:
    """A first heading that is above all others names the whole."""
    first = lines[0]
    levels = [line.heading for line in lines if line.heading]
    if (
        first.heading
        and levels.count(first.heading) == 1
        and min(levels) == first.heading
        and len(levels) > 1
    ):
        return clean_name(first.text), list(lines[1:])
    return "", list(lines)


def _flat(lines: Sequence[_Line], source: str) -> Iterator[PathEntry]:
    separator = separator_of([line.text for line in lines])
    for line in lines:
        name, said = _named(line.text)
        path = split_path(name, separator) if separator else (name,)
        yield PathEntry(path, f"{source}:{line.number}", said)


def _nested(lines: Sequence[_Line], source: str) -> Iterator[PathEntry]:
    headings: list[tuple[int, str]] = []
    above: list[tuple[int, str]] = []
    for line in lines:
        name, said = _named(line.text)
        if line.heading:
            headings = [*(one for one in headings if one[0] < line.heading), (line.heading, name)]
            above = []
        else:
            above = [*_still_open(above, line, source), (line.indent, name)]
        path = tuple(name for _, name in (*headings, *above))
        yield PathEntry(path, f"{source}:{line.number}", said)


def _still_open(above: Sequence[tuple[int, str]], line: _Line, source: str) -> list[tuple[int, str]]:
    kept = [one for one in above if one[0] < line.indent]
    dedented = len(kept) < len(above)
    if dedented and above[len(kept)][0] != line.indent:
        known = ", ".join(str(indent) for indent, _ in above)
        raise DataError(
            f"{source}:{line.number}: {line.text!r} is indented by {line.indent}; expected one of {known}, "
            "as the lines above, or more than the last"
        )
    return kept


def _named(text: str) -> tuple[str, str]:
    """A name and what is said of it."""
    found = _MARKED.match(text)
    name, said = (found["name"], found["said"] or "") if found else (text, "")
    return clean_name(_LINK.sub(r"\1", name)), clean_name(said)
