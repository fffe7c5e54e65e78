"""Rows whose labels no taxonomy names yet, and where in them text and labels stand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade.draft.concepts import Path as LabelPath
from cascade.draft.concepts import clean_name
from cascade.draft.label_cells import delimiter_of, names_in
from cascade.draft.label_columns import Found, label_columns
from cascade.draft.paths import separator_of, split_path
from cascade.errors import DataError
from cascade.rows.cells import flag_of
from cascade.rows.names import NONE_WORDS, folded
from cascade.rows.reading import read_rows
from cascade.rows.readings import DELIMITER, Columns, FileReading, Reading
from cascade.rows.row import BadRow, Row
from cascade.rows.shapes import as_columns, common_end, without_end

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """The columns that the user names; None where they are to be found."""

    text: str | None = None
    labels: tuple[str, ...] = ()
    delimiter: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class LabelledRows:
    """The usable rows of a file, with the labels of each as paths, most often of one name.

    `data` has the keys by which a taxonomy says how the file is to be read, `told` says it in words.
    """

    rows: list[Row]
    paths: list[list[LabelPath]]
    refused: list[BadRow]
    data: Mapping[str, Any]
    told: str


def read_labelled(path: Path, asked: Asked) -> LabelledRows:
    """The labelled rows of a file, whatever labels it has.

    Raises
    ------
    DataError
        The file cannot be read, which column holds text or labels is not plain, or a path has an empty part.
    """
    read, settled = _read(path, asked)
    rows = [row for row in read if isinstance(row, Row)]
    if not rows:
        raise DataError(f"{path}: holds no row that can be used")
    fields, base = _fields_of(rows, settled.reading)
    found = label_columns(str(path), fields, base, asked.labels)
    reading, paths = _read_labels(fields, replace(base, labels=found.columns), found, asked)
    for row, own in zip(rows, paths, strict=True):
        _refuse_gaps(row, own, path)
    told = ", ".join([reading.describe(), *settled.notes])
    refused = [row for row in read if isinstance(row, BadRow)]
    return LabelledRows(rows, paths, refused, _keys(reading, fields), told)


def _read(path: Path, asked: Asked) -> tuple[list[Row | BadRow], FileReading]:
    """All rows without labels, and where their texts are."""
    source = read_rows(path, Columns(text=asked.text, sheet=asked.sheet))
    try:
        return list(source), source.reading
    except DataError as error:
        # There is no taxonomy yet that could say it.
        words = str(error).partition(" The taxonomy can say under `data:`")
        raise DataError(f"{words[0]} Name it with --text COLUMN" if words[1] else words[0]) from error


def _fields_of(rows: Sequence[Row], reading: Reading) -> tuple[list[Fields], Reading]:
    """The columns of each row, those of text and labels among them, whatever tool the file is of."""
    fields = [as_columns(row.source, reading.format, reading.prompt_end) for row in rows]
    if reading.format != "prompt":
        return fields, reading
    end = common_end(one.get("labels") for one in fields)
    bare: list[Fields] = [{**one, "labels": without_end(one.get("labels"), end)} for one in fields]
    return bare, replace(reading, completion_end=end)


def _read_labels(
    fields: Sequence[Fields], reading: Reading, found: Found, asked: Asked
) -> tuple[Reading, list[list[LabelPath]]]:
    if found.are == "flags":
        flags = [[column for column in found.columns if flag_of(one.get(column))] for one in fields]
        paths: list[list[LabelPath]] = [[(clean_name(column),) for column in own] for own in flags]
        return replace(reading, labels_are="flags"), paths
    if found.are == "levels":
        levels = (_of_levels(one, found.columns) for one in fields)
        return replace(reading, labels_are="levels"), [[own] if own else [] for own in levels]
    cells = [one.get(column) for one in fields for column in found.columns]
    delimiter = asked.delimiter or delimiter_of(cells)
    named = [
        list(itertools.chain(*(names_in(one.get(column), delimiter) for column in found.columns)))
        for one in fields
    ]
    separator = separator_of(
        list(dict.fromkeys(name for own in named for name in own if isinstance(name, str)))
    )
    paths = [list(dict.fromkeys(_path(name, separator) for name in own)) for own in named]
    mark = separator.strip() if separator else None
    return replace(reading, delimiter=delimiter or DELIMITER, path_separator=mark), paths


def _path(name: str | LabelPath, separator: str | None) -> LabelPath:
    if isinstance(name, tuple):
        return name
    return split_path(name, separator) if separator else (name,)


def _of_levels(fields: Fields, columns: Sequence[str]) -> LabelPath:
    cells = ["" if (cell := fields.get(column)) is None else clean_name(cell) for column in columns]
    cells = ["" if folded(cell) in NONE_WORDS else cell for cell in cells]
    last = max((at for at, cell in enumerate(cells) if cell), default=-1)
    return tuple(cells[: last + 1])


def _refuse_gaps(row: Row, paths: Sequence[LabelPath], file: Path) -> None:
    for one in paths:
        if not all(one):
            shown = " > ".join(part or "..." for part in one)
            where = f"{file} row {row.number}: a path with an empty part, {shown!r}"
            raise DataError(f"{where}; expected a name at each level")


def _keys(reading: Reading, fields: Sequence[Fields]) -> dict[str, Any]:
    """What a taxonomy says under ``data``: all that has to be known of the file, and no more."""
    keys = reading.keys()
    if reading.delimiter == DELIMITER and not any(
        DELIMITER in cell for cell in _texts(fields, reading.labels)
    ):
        keys.pop("labels_delimiter", None)
    return keys


def _texts(fields: Sequence[Fields], columns: Sequence[str]) -> Iterator[str]:
    return (cell for one in fields for column in columns if isinstance(cell := one.get(column), str))
