"""What rules look at: a taxonomy with its rows, and the indexes that rules share."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import PurePath
from typing import Any

from cascade.backends import KINDS, complaints, service_of
from cascade.checks.findings import SHOWN_ROWS, first_few
from cascade.checks.redaction import blanked
from cascade.errors import Place
from cascade.hosted.settings import Settings
from cascade.hosted.shutdowns import ShutdownDates
from cascade.rows.row import BadRow, Row
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.members import Group

SHOWN_CHARACTERS = 60


def is_hosted(group: Group) -> bool:
    """Whether the group's model lives at a service."""
    kind, options = group.backend.kind, group.backend.options
    return not any(complaints(kind, options)) and KINDS[kind].hosted


@dataclass(frozen=True)
class Subject:
    """A taxonomy with its rows, and the indexes that rules share; each index is made once, when asked for."""

    taxonomy: Taxonomy
    train: tuple[Row, ...]
    test: tuple[Row, ...]
    bad_rows: tuple[BadRow, ...]
    told: ShutdownDates = field(default_factory=dict)
    today: date = field(default_factory=date.today)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Training rows, then test rows."""
        return self.train + self.test

    @cached_property
    def by_labels(self) -> Mapping[tuple[str, ...], tuple[Row, ...]]:
        """Training rows by the names that they carry, in whatever order these stand."""
        return grouped(self.train, lambda row: tuple(sorted(row.labels)))

    @cached_property
    def by_text(self) -> Mapping[str, tuple[Row, ...]]:
        """Training rows by their texts, save blank ones; most texts have one row."""
        return grouped((row for row in self.train if not is_blank(row.text)), lambda row: row.text)

    @cached_property
    def rows_with(self) -> Mapping[str, int]:
        """How many training rows carry a label or group, by itself or through something in it."""
        counts: Counter[str] = Counter()
        for names, rows in self.by_labels.items():
            for name in self.taxonomy.graph.closure(names):
                counts[name] += len(rows)
        return counts

    @cached_property
    def unknown(self) -> Mapping[str, tuple[BadRow, ...]]:
        """Bad rows by the unknown name, in quotes, that had them refused; the most frequent name first."""
        names: dict[str, list[BadRow]] = defaultdict(list)
        for bad in self.bad_rows:
            if found := UNKNOWN_LABEL.fullmatch(bad.reason):
                names[found["quoted"]].append(bad)
        ordered = sorted(names, key=lambda name: -len(names[name]))
        return {name: tuple(names[name]) for name in ordered}

    @cached_property
    def hosted(self) -> Mapping[str, Settings]:
        """The settings of each group whose model lives at a service."""
        groups = [group for group in self.taxonomy.groups.values() if is_hosted(group)]
        found = {group.name: service_of(group.backend.kind, group.backend.options) for group in groups}
        return {name: settings for name, settings in found.items() if settings is not None}

    @cached_property
    def _files(self) -> Mapping[str, str]:
        everything: tuple[Row | BadRow, ...] = (*self.rows, *self.bad_rows)
        paths = dict.fromkeys(row.file for row in everything)
        shared = Counter(PurePath(path).name for path in paths)
        return {path: name if shared[name := PurePath(path).name] == 1 else path for path in paths}

    def at(self, row: Row | BadRow) -> str:
        """``FILE row 7``, the file without its folders where that is enough."""
        return one_line(f"{self._files[row.file]} row {row.number}")

    def at_all(self, rows: Sequence[Row | BadRow]) -> list[str]:
        """The first few rows, one example each, and how many more there are."""
        return first_few([self.at(row) for row in rows[:SHOWN_ROWS]], len(rows), SHOWN_ROWS)

    def quoted_at(self, rows: Sequence[Row]) -> list[str]:
        """The first few rows, each with the start of its text."""
        shown = [f"{self.at(row)}: {quoted(row.text)}" for row in rows[:SHOWN_ROWS]]
        return first_few(shown, len(rows), SHOWN_ROWS)

    def named(self, name: str) -> str:
        """``'refund' (taxonomy.yaml:12)`` for a label or a group."""
        if name == ROOT:
            return "the top level"
        taxonomy = self.taxonomy
        node = taxonomy.groups[name] if name in taxonomy.groups else taxonomy.labels[name]
        return f"{quoted(name)} ({line_of(node.places[0])})" if node.places else quoted(name)


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, tuple[Row, ...]]:
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return {one: tuple(members) for one, members in found.items()}


def is_blank(text: str) -> bool:
    return not text or text.isspace()


def quoted(text: str) -> str:
    """The start of a text on one line, in quotes, with personal data blanked out."""
    # Blanked before it is cut, so that no half of an address is left; what comes later is cut anyway.
    start = one_line(blanked(text[: 10 * SHOWN_CHARACTERS]))
    return f"'{start}'" if len(start) <= SHOWN_CHARACTERS else f"'{start[:SHOWN_CHARACTERS]}…'"


def one_line(text: str) -> str:
    """Without line breaks and whatever else could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def line_of(place: Place) -> str:
    file = PurePath(place.file).name or place.file
    return one_line(f"{file}:{place.line}" if place.line else file)


def labels_of(names: Sequence[str]) -> str:
    if not names:
        return "no label"
    return ", ".join(first_few([quoted(name) for name in names[:SHOWN_ROWS]], len(names), SHOWN_ROWS))


# Names stand in a reason as Python writes strings, with either quote.
QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
UNKNOWN_LABEL = re.compile(rf"unknown label (?P<quoted>{QUOTED})\.(?P<hint>.*)", re.DOTALL)
