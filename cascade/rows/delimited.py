"""CSV and TSV to rows."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, TextIO

from cascade.errors import DataError
from cascade.rows.files import RowFile, refuse_foreign
from cascade.rows.layout import Record, RowReader, as_data_error, is_well_formed
from cascade.rows.row import BadRow, Row, shown

_CSV_DELIMITERS = (",", ";", "\t", "|")
# The greatest C long on every platform; what a file may hold is for its owner to say.
_FIELD_LIMIT = 2**31 - 1


# CSV and TSV


class _Lines:
    """Lines of a file; those of the row in hand are kept."""

    def __init__(self, lines: Iterable[str], skipped: int) -> None:
        self._lines = iter(lines)
        self._first = skipped + 1
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def start_row(self) -> None:
        self._first += len(self._taken)
        self._taken = []

    def raw(self) -> str:
        return "".join(self._taken).rstrip("\r\n")

    def span(self) -> str:
        last = self._first + len(self._taken) - 1
        return f"line {last}" if last == self._first else f"lines {self._first} to {last}"


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row of a table, blank line or header; `fault` is empty where the cells can be trusted."""

    cells: list[str]
    raw: str
    fault: str


def csv_rows(stream: BinaryIO, file: RowFile, rules: RowReader) -> Iterator[Row | BadRow]:
    # Bytes that are not UTF-8 become lone surrogates, which no proper text holds: rows with one are refused.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines, delimiter = _headed_lines(text, file)
        rows = _csv_cells(lines, delimiter)
        header = _csv_header(next(rows), file.name)
        with as_data_error(file.name):
            layout = rules.layout(header)
        for record in _csv_records(rows, header, file.name, delimiter):
            yield rules.understood(record, layout)


def _headed_lines(text: TextIO, file: RowFile) -> tuple[_Lines, str]:
    """All lines from the header on, and the delimiter that the header shows."""
    for skipped, line in enumerate(text):
        if line.strip():
            refuse_foreign(line[:4].encode("utf-8", "surrogateescape"), file.name)
            delimiter = "\t" if file.suffix == ".tsv" else _sniffed(line)
            return _Lines(itertools.chain([line], text), skipped), delimiter
    raise DataError(f"{file.name}: is empty; expected a header line with the names of the columns")


def _sniffed(header: str) -> str:
    def fields(delimiter: str) -> int:
        return len(_next_row(csv.reader([header], delimiter=delimiter)) or ())

    return max(_CSV_DELIMITERS, key=fields)


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    # The limit is the process's, not the reader's: it is ours only while a row is read.
    previous = csv.field_size_limit(_FIELD_LIMIT)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(previous)


def _csv_cells(lines: _Lines, delimiter: str) -> Iterator[_Cells]:
    # Strict, since a lenient reader lets a stray quote swallow rows up to the next quote without a word.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        try:
            cells = _next_row(reader)
        except csv.Error as error:
            yield _Cells([], _escaped(lines.raw()), f"{lines.span()}: {_csv_fault(error)}")
            continue
        if cells is None:
            return
        raw = lines.raw()
        fault = "" if is_well_formed(raw) else f"{lines.span()}: bytes that are not UTF-8"
        yield _Cells(cells, _escaped(raw) if fault else raw, fault)


def _csv_fault(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quote is opened and never closed"
    if "expected after" in str(error):
        return 'a closing quote in the middle of a field; inside quotes a quote is written as ""'
    return str(error)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _csv_header(first: _Cells, file: str) -> list[str]:
    if first.fault:
        raise DataError(f"{file}: the header cannot be read: {first.fault}")
    header = [name.strip() for name in first.cells]
    refuse_duplicates(header, file)
    return header


def refuse_duplicates(header: Sequence[str], file: str) -> None:
    places: dict[str, list[str]] = {}
    for place, name in enumerate(header, start=1):
        places.setdefault(name, []).append(str(place))
    for name, found in places.items():
        if len(found) > 1:
            raise DataError(
                f"{file}: columns {' and '.join(found)} are both named {shown(name)}; give each its own name"
            )


def _csv_records(
    rows: Iterator[_Cells], header: Sequence[str], file: str, delimiter: str
) -> Iterator[Record | BadRow]:
    number = 0
    for row in rows:
        if not row.fault and _is_blank(row, len(header)):
            continue
        number += 1
        fault = row.fault or _count_fault(row.cells, header, delimiter)
        if fault:
            yield BadRow(number, None, fault, row.raw, file)
        else:
            yield Record(number, dict(zip(header, row.cells, strict=True)), row.raw)


def _is_blank(row: _Cells, n_columns: int) -> bool:
    return not row.cells or (len(row.cells) == 1 < n_columns and not row.raw.strip())


def _count_fault(cells: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    if len(cells) == len(header):
        return ""
    return f"{len(cells)} fields; the header has {len(header)}. A field with {delimiter!r} in it needs quotes"
