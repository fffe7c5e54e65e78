"""Readings that the columns of some rows allow, and what each makes of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cascade.rows.cells import flag_of, is_missing
from cascade.rows.layout import RowReader
from cascade.rows.names import KnownNames, folded
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import RefusedError
from cascade.rows.shapes import possible_ends, without_end

DELIMITERS = (";", ",", "|", "#", "/", "\n", "\t", "&")
PATH_SEPARATORS = ("->", ">", "::", "→", "»", "|", "/", "\\", ":", " - ", ".")
USUAL_LABELS = (
    *("labels", "label", "categories", "category", "topics", "topic", "intents", "intent", "tags", "tag"),
    *("classes", "class", "cats", "targets", "target", "codes", "code", "annotation", "annotations"),
    *("label text", "label name", "category name", "choices", "sentiment", "emotions", "emotion", "theme"),
    *("themes", "subject area", "accept", "kategorie", "thema", "etikett", "catégorie", "étiquette"),
    *("categoría", "etiqueta", "categoria"),
)
_SERIES = re.compile(r"(.*?)(?:[\s_.\-]*\d+|[\s_.\-]+[a-z])")
_MOSTLY = 0.9
_TRIED_BEFORE_GIVING_UP = 50
_LONG_CHARACTERS = 300


@dataclass(frozen=True)
class Candidate:
    """A reading with what it makes of each row: its labels, or None where it refuses them.

    `rank` orders readings that say the same: the usual before the unusual, the simple before the odd.
    """

    reading: Reading
    rank: tuple[int, ...]
    labels: tuple[frozenset[str] | None, ...] = field(repr=False)
    faults: Mapping[int, str] = field(repr=False)

    @property
    def labelled(self) -> int:
        """Rows that it gives labels, or would if these were known."""
        return sum(found is None or bool(found) for found in self.labels)

    @property
    def share(self) -> float:
        """Of those rows, the part that it can read."""
        return 1 - len(self.faults) / self.labelled if self.labelled else 0.0

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self.reading.labels)

    def agrees(self, other: Candidate) -> bool:
        """Whether both give the same labels wherever both can read a row."""
        pairs = zip(self.labels, other.labels, strict=True)
        return all(mine == theirs for mine, theirs in pairs if mine is not None and theirs is not None)


@dataclass(frozen=True)
class Looked:
    """Rows that are looked at, as columns and with their numbers, and what is told of them."""

    file: str
    rows: Sequence[Mapping[str, Any]]
    numbers: Sequence[int]
    present: tuple[str, ...]
    columns: Columns
    names: KnownNames
    base: Reading
    is_table: bool

    def candidates(self) -> Iterator[Candidate]:
        """Readings of the labels; those that are hopeless are left out early."""
        yield from self._of_one_column()
        yield from self._of_several_columns()
        yield from self._of_flags()

    def _of_one_column(self) -> Iterator[Candidate]:
        if len(self.columns.label_columns) > 1 or self.columns.labels_are in ("flags", "levels"):
            return
        for column in self.columns.label_columns or self._unflagged:
            for reading, rank in self._ways(Reading(labels=(column,))):
                yield from self.tried(reading, (usual_rank(column, USUAL_LABELS), 0, *rank))

    def _of_several_columns(self) -> Iterator[Candidate]:
        wanted = self.columns.labels_are
        for group in self._column_groups:
            kinds = [kind for kind in ("levels", "names") if wanted in (None, kind)]
            for place, kind in enumerate(kinds, 1):
                several = Reading(labels=group, labels_are="levels" if kind == "levels" else "names")
                for reading, rank in self._ways(several):
                    best = min(usual_rank(_stem(column), USUAL_LABELS) for column in group)
                    yield from self.tried(reading, (best, place, *rank))

    def _of_flags(self) -> Iterator[Candidate]:
        if self.columns.labels_are not in (None, "flags") or len(self.columns.label_columns) == 1:
            return
        columns = self.columns.label_columns
        if columns or any(self._names_label(column) for column in self._free):
            yield from self.tried(Reading(labels=columns, labels_are="flags"), (len(USUAL_LABELS), 3, 0, 0))

    def _ways(self, reading: Reading) -> Iterator[tuple[Reading, tuple[int, int]]]:
        """The reading with each delimiter, path separator and end that its columns have."""
        cells = [cell for column in reading.labels for cell in self._texts(column)]
        joined = "\n\x00".join(dict.fromkeys(cells))
        told = self.columns.delimiter
        between = (
            [told] if told else [";", *(one for one in DELIMITERS[1:] if one in joined.replace("\n\x00", ""))]
        )
        path = self.columns.path_separator
        paths = [path] if path else [None, *(one for one in PATH_SEPARATORS if one in joined)]
        for (i, delimiter), (j, separator) in itertools.product(enumerate(between), enumerate(paths)):
            if delimiter != separator:
                for end in self._ends:
                    yield (
                        replace(reading, delimiter=delimiter, path_separator=separator, completion_end=end),
                        (j, i),
                    )

    @cached_property
    def _ends(self) -> list[str]:
        """What may follow each completion of a file of fine-tunes."""
        if self.base.format != "prompt":
            return [""]
        told = self.columns.completion_end
        return [told] if told is not None else possible_ends(self._texts("completion"))

    def tried(self, reading: Reading, rank: tuple[int, ...] = (0,)) -> Iterator[Candidate]:
        reading = replace(
            self.base,
            labels=reading.labels,
            labels_are=reading.labels_are,
            delimiter=reading.delimiter,
            path_separator=reading.path_separator,
            completion_end=reading.completion_end,
        )
        reader = RowReader(self.file, reading, self.names, self.is_table)
        faults: dict[int, str] = {}
        labels: list[frozenset[str] | None] = []
        said = 0
        for place, row in enumerate(self.rows):
            fields = row
            if reading.completion_end:
                fields = {**row, "labels": without_end(row.get("labels"), reading.completion_end)}
            try:
                labels.append(frozenset(reader.labels(fields)))
            except RefusedError as refusal:
                faults[place] = str(refusal)
                labels.append(None)
            said += labels[-1] is None or bool(labels[-1])
            if said > _TRIED_BEFORE_GIVING_UP and len(faults) > said * _MOSTLY:
                labels += [None] * (len(self.rows) - len(labels))
                faults.update((at, faults[place]) for at in range(place + 1, len(self.rows)))
                break
        yield Candidate(reading, rank, tuple(labels), faults)

    @cached_property
    def _free(self) -> tuple[str, ...]:
        """Columns that may hold labels: neither those of text and id nor an index."""
        taken = {*self.columns.text_columns, self.base.id, *self._surely_text}
        return tuple(one for one in self.present if one not in taken and not is_index(one))

    @cached_property
    def _unflagged(self) -> tuple[str, ...]:
        """Those that are no 0/1 columns of a label."""
        return tuple(column for column in self._free if not self.is_flag(column))

    def is_flag(self, column: str) -> bool:
        """Whether a column is named like a label and holds 0 and 1."""
        if not self._names_label(column):
            return False
        told = [value for fields in self.rows if not is_missing(value := fields.get(column))]
        return 2 * sum(flag_of(value) is not None for value in told) >= len(told)

    @cached_property
    def _surely_text(self) -> tuple[str, ...]:
        """A column that is called text, or is too long to be anything else."""
        found = [one for one in self.present if folded(one) == "text"]
        for column in self.present:
            cells = self._texts(column)
            if cells and sum(map(len, cells)) > _LONG_CHARACTERS * len(cells) and not _is_usual(column):
                found.append(column)
        return tuple(found)

    @cached_property
    def _column_groups(self) -> tuple[tuple[str, ...], ...]:
        """Sets of columns that may hold the labels together, in the order of the file."""
        if len(self.columns.label_columns) > 1:
            are_flags = all(map(self.is_flag, self.columns.label_columns))
            return () if are_flags else (self.columns.label_columns,)
        if self.columns.labels is not None:
            return ()
        known = tuple(column for column in self._unflagged if self._holds_names(column))
        series: dict[str, list[str]] = {}
        for column in known:
            series.setdefault(_stem(column), []).append(column)
        for column in self._free:
            if _stem(column) in series and self._is_empty(column):
                series[_stem(column)].append(column)
        groups = [known, *map(tuple, series.values())]
        return tuple(dict.fromkeys(group for group in groups if len(group) > 1))

    def _holds_names(self, column: str) -> bool:
        """Whether the cells of a column are names, or parts of paths, and not all empty."""
        cells = [cell for cell in self._texts(column) if cell.strip() and not self.names.is_none(cell)]
        distinct = dict.fromkeys(cells)
        known = sum(self._is_known(cell) for cell in distinct)
        return bool(distinct) and known >= _MOSTLY * len(distinct)

    def _is_empty(self, column: str) -> bool:
        return all(self.names.is_none(cell.strip()) for cell in self._texts(column))

    def _is_known(self, cell: str) -> bool:
        if self.names.is_part(cell.strip()):
            return True
        parts = re.split(r"[;,|#/\n>]|::|->", cell)
        return all(self.names.is_part(part.strip()) for part in parts)

    def _texts(self, column: str) -> list[str]:
        """The cells of a column as text, without those that are missing."""
        cached = self._cells.get(column)
        if cached is None:
            values = (fields.get(column) for fields in self.rows)
            cached = [_as_text(value) for value in values if not is_missing(value)]
            self._cells[column] = cached
        return cached

    @cached_property
    def _cells(self) -> dict[str, list[str]]:
        return {}

    def _names_label(self, column: str) -> bool:
        return self.names.of_flag(column) is not None

    def name_in(self, fields: Mapping[str, Any], column: str) -> str:
        """The name that a cell is, empty where it is none."""
        value = fields.get(column)
        name = "" if is_missing(value) else str(value).strip()
        return "" if self.names.is_none(name) else self.names.resolve(name) or name

    def is_series(self, group: frozenset[str]) -> bool:
        """Whether columns are numbered: label1, label2."""
        return len({_stem(column) for column in group}) == 1


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(str(one) for one in value if isinstance(one, str))
    return value if isinstance(value, str) else str(value)


def _stem(column: str) -> str:
    name = folded(column)
    found = _SERIES.fullmatch(name)
    return found.group(1) if found and found.group(1) else name


def usual_rank(column: str, usual: Sequence[str]) -> int:
    """The place of a column's name among the usual ones; their number if it is none of them."""
    name = folded(column)
    return usual.index(name) if name in usual else len(usual)


def _is_usual(column: str) -> bool:
    return usual_rank(column, USUAL_LABELS) < len(USUAL_LABELS)


def is_index(column: str) -> bool:
    """Whether pandas wrote this column on its own account."""
    return not column or column.startswith(("__index_level_", "Unnamed: "))
