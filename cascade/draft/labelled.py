"""Rows whose labels no taxonomy names yet, and where in them text and labels stand."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.draft.concepts import Path as LabelPath
from cascade.draft.concepts import clean_name
from cascade.draft.paths import separator_of, split_path
from cascade.draft.tables import WORKBOOKS, read_table, text_of
from cascade.errors import DataError, suggestion
from cascade.rows.files import RowFile, opened
from cascade.rows.reading import read_rows
from cascade.rows.row import BadRow, Columns, Row, quoted

TEXTS = (
    "text",
    "comment",
    "message",
    "utterance",
    "body",
    "query",
    "sentence",
    "question",
    "content",
    "review",
)
LABELS = (
    "labels",
    "label",
    "category",
    "categories",
    "topic",
    "topics",
    "intent",
    "intents",
    "tags",
    "tag",
    "class",
)
_LEVEL = re.compile(r"(?:level|lvl|tier|category|label|topic|l)[ _-]?(\d)", re.IGNORECASE)
_DELIMITERS = (";", "|", "#", "\n", ",")
_NO_LABEL = frozenset(("", "none", "n/a", "na", "null", "nan", "-"))


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
    read = _read(path, asked)
    for row, own in zip(read.rows, read.paths, strict=True):
        for one in own:
            if not all(one):
                shown = " > ".join(part or "..." for part in one)
                where = f"{path} row {row.number}: a path with an empty part, {shown!r}"
                raise DataError(f"{where}; expected a name at each level")
    return read


def _read(path: Path, asked: Asked) -> LabelledRows:
    columns = columns_of(path, asked.sheet)
    text = asked.text or _only(path, columns, TEXTS, "text")
    read = list(read_rows(path, Columns(text=text), None))
    rows = [row for row in read if isinstance(row, Row)]
    refused = [row for row in read if isinstance(row, BadRow)]
    labels = asked.labels or _label_columns(path, [column for column in columns if column != text])
    if len(labels) > 1:
        return _of_columns(rows, refused, text, labels)
    cells = [row.source.get(labels[0]) for row in rows]
    delimiter = asked.delimiter or _delimiter(cells)
    named = [_names(cell, delimiter) for cell in cells]
    separator = separator_of(list(dict.fromkeys(name for own in named for name in own)))
    paths = [[split_path(name, separator) if separator else (name,) for name in own] for own in named]
    data: dict[str, Any] = {"text": text, "labels": labels[0]}
    told = f"labels in {quoted(labels[0])}"
    if delimiter:
        told += f", separated by {delimiter!r}"
        if delimiter != ";":
            data["labels_delimiter"] = delimiter
    if separator:
        told += f", as paths with {separator!r}"
    return LabelledRows(rows, paths, refused, data, told)


def _of_columns(rows: list[Row], refused: list[BadRow], text: str, labels: tuple[str, ...]) -> LabelledRows:
    """Columns with a level each, or, where they share names, with one label each."""
    found = [_cells(row, labels) for row in rows]
    columns = [set(filter(None, column)) for column in zip(*found, strict=True)]
    is_levels = len(set().union(*columns)) == sum(map(len, columns))
    named = ", ".join(map(quoted, labels))
    data = {"text": text, "labels": list(labels)}
    if is_levels:
        paths = [[own] if (own := _of_levels(cells)) else [] for cells in found]
        return LabelledRows(rows, paths, refused, data, f"a level of labels in each of {named}")
    paths = [[(name,) for name in dict.fromkeys(filter(None, cells))] for cells in found]
    return LabelledRows(rows, paths, refused, data, f"a label in each of {named}")


def columns_of(path: Path, sheet: str | None = None) -> list[str]:
    """The names of the columns of a file: of its header, or of its first object."""
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if suffix in WORKBOOKS or (suffix in (".csv", ".tsv") and path.suffix.lower() != ".gz"):
        rows = read_table(path, sheet).rows if suffix in WORKBOOKS else _head(path)
        return next((row for row in rows if any(row)), [])
    file = RowFile.at(path)
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_schema(path).names)
    with opened(file) as stream:
        line = next((line for line in stream if line.strip()), b"{}")
    if file.is_table:
        return [clean_name(cell) for cell in re.split(r"[,;\t]", line.decode("utf-8-sig", "replace"))]
    try:
        first = json.loads(line)
    except ValueError:
        return []
    return list(first) if isinstance(first, dict) else []


def _head(path: Path) -> list[list[str]]:
    import csv

    text = text_of(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    return [next(csv.reader(text.splitlines(), delimiter=delimiter), [])]


def _only(path: Path, columns: Sequence[str], usual: Sequence[str], use: str) -> str:
    plain = {column.strip().casefold(): column for column in columns}
    for name in usual:
        if name in plain:
            return plain[name]
    there = ", ".join(quoted(column) for column in columns[:20]) or "none"
    hint = suggestion(usual[0], columns)
    raise DataError(
        f"{path}: no column is plainly the {use}; there are {there}.{hint} Name it with --{use} COLUMN."
    )


def _label_columns(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    levels = sorted((found[1], column) for column in columns if (found := _LEVEL.fullmatch(column.strip())))
    if len(levels) > 1:
        return tuple(column for _, column in levels)
    return (_only(path, columns, LABELS, "labels"),)


def _cells(row: Row, columns: Iterable[str]) -> list[str]:
    """The names in these columns, empty where there is none."""
    cells = [clean_name("" if (cell := row.source.get(column)) is None else cell) for column in columns]
    return ["" if cell.casefold() in _NO_LABEL else cell for cell in cells]


def _of_levels(cells: Sequence[str]) -> LabelPath:
    last = max((at for at, cell in enumerate(cells) if cell), default=-1)
    return tuple(cells[: last + 1])


def _names(cell: Any, delimiter: str | None) -> list[str]:
    if isinstance(cell, str) and cell.strip().startswith("["):
        cell = _list_of(cell)
    parts = cell if isinstance(cell, list) else str("" if cell is None else cell).split(delimiter or "\0")
    names = (clean_name(part) for part in parts if part is not None)
    return list(dict.fromkeys(name for name in names if name.casefold() not in _NO_LABEL))


def _list_of(cell: str) -> Any:
    try:
        found = json.loads(cell)
    except ValueError:
        return cell
    return found if isinstance(found, list) else cell


def _delimiter(cells: Sequence[Any]) -> str | None:
    """The mark between labels: one whose parts occur elsewhere too, so that labels are fewer than cells."""
    texts = Counter(cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()[:1] != "[")
    for mark in _DELIMITERS:
        parted = [text for text in texts if mark in text]
        parts = {part.strip() for text in texts for part in text.split(mark)}
        # A semicolon is the mark of our own files.
        if parted and (mark == ";" or len(parts) < len(texts)):
            return mark
    return None
