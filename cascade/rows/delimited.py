"""CSV and TSV to records."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO, TextIO

from cascade.errors import DataError
from cascade.rows.files import RowFile, refuse_foreign
from cascade.rows.layout import Record, is_well_formed, refuse_duplicates
from cascade.rows.row import START_BYTES, BadRow, too_long
from cascade.rows.table import Table
from cascade.rows.writing import unguarded

_CSV_DELIMITERS = (",", ";", "\t", "|")
# The greatest C long on every platform; what a file may hold is for its owner to say.
_FIELD_LIMIT = 2**31 - 1
_SKIPPED_CHARACTERS = 1 << 20
_DIALECT_LINES = 200
_MARKED_AS_TEXT = re.compile(r"'[=+\-@\t\r]")
"""What `unguarded` may find; most apostrophes stand inside of words."""
_TOLD_DELIMITER = re.compile(r"""["']?sep=(.)["']?""", re.IGNORECASE)
"""What Excel writes above a table so that it opens it again."""


class _TooLongError(Exception):
    """The row in hand has more characters than a row may have."""


class _Lines:
    """Lines of a file; those of the row in hand are kept.

    Iterating raises `_TooLongError` where they become too many characters. Of a row that a quote holds open
    only the first line is refused then, and what was taken for its rest is read as rows of their own.
    """

    def __init__(self, text: TextIO, most: int) -> None:
        self._text, self._most = text, most
        self._lines = iter(partial(text.readline, most + 1), "")
        self._first, self._size, self.is_held_open = 1, 0, False
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        self._size += len(line)
        if self._size > self._most:
            self._give_up()
        return line

    def _give_up(self) -> None:
        self.is_held_open = len(self._taken) > 1
        last = self._taken[-1]
        while not self.is_held_open and last and not last.endswith(("\n", "\r")):
            last = self._text.readline(_SKIPPED_CHARACTERS)
        self._lines = itertools.chain(self._taken[1:], self._lines)
        del self._taken[1:]
        raise _TooLongError

    def peeked(self, most: int, most_characters: int) -> list[str]:
        """The next lines, which stay to be read; of one that is too long the first piece, and no more."""
        head: list[str] = []
        size = 0
        for line in itertools.islice(self._lines, most):
            head.append(line)
            size += len(line)
            if size > most_characters or not line.endswith(("\n", "\r")):
                break
        self._lines = itertools.chain(head, self._lines)
        return head

    def put_back(self) -> None:
        """Read the lines of the row in hand once more."""
        self._lines = itertools.chain(self._taken, self._lines)
        self._size, self._taken = 0, []

    def start_row(self) -> None:
        self._first += len(self._taken)
        self._size, self._taken = 0, []

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


@contextmanager
def csv_table(
    stream: BinaryIO, file: RowFile, max_row_mb: int, *, has_header: bool = True
) -> Iterator[Table]:
    """The rows of a table of text, in whatever dialect they are written, under its header if it has one."""
    # Bytes that are not UTF-8 become lone surrogates, which no proper text holds: rows with one are refused.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _Lines(text, max_row_mb << 20)
        delimiter = _delimiter(lines, file)
        dialect = _dialect(lines, delimiter) if file.path.is_file() else _Dialect(delimiter)
        rows = _csv_cells(lines, dialect, max_row_mb)
        first = next(rows)
        if has_header:
            header = _csv_header(first, file.name)
            refuse_duplicates(header, file.name)
        else:
            header = [f"column {place}" for place, _ in enumerate(first.cells, 1)]
            rows = itertools.chain([first], rows)
        yield Table(header, _csv_records(rows, header, file.name, dialect), notes=dialect.notes)


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How fields are told apart: in quotes with quotes doubled, with quotes escaped, or with none at all."""

    delimiter: str
    escape: str | None = None
    is_quoted: bool = True

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        # Strict, since a lenient reader lets a stray quote swallow rows up to the next quote without a word.
        if not self.is_quoted:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            doublequote=self.escape is None,
            escapechar=self.escape,
            strict=True,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        if self.escape is not None:
            return ("quotes escaped with a backslash",)
        return () if self.is_quoted else ("quotes read as they stand",)

    @property
    def joins_surplus(self) -> bool:
        """Whether fields beyond the last column belong to it: only of tabs can nothing else be meant."""
        return self.delimiter == "\t"


def _dialect(lines: _Lines, delimiter: str) -> _Dialect:
    """The first dialect under which the first lines have no fault; the usual one where none has."""
    head = lines.peeked(_DIALECT_LINES, _SKIPPED_CHARACTERS)
    usual = _Dialect(delimiter)
    others = []
    if any('\\"' in line for line in head):
        others.append(replace(usual, escape="\\"))
    if delimiter == "\t":  # tables with tabs are often written without any quoting
        others.append(replace(usual, is_quoted=False))
    return next((dialect for dialect in (usual, *others) if _is_sound(dialect, head)), usual)


def _is_sound(dialect: _Dialect, head: Sequence[str]) -> bool:
    """Whether all rows have as many fields as the header; a quote may stay open where `head` ends."""
    rows: list[list[str]] = []
    reader = dialect.reader(head)
    try:
        while (cells := _next_row(reader)) is not None:
            rows.append(cells)
    except csv.Error as error:
        if not (rows and "end of data" in str(error) and len(head) >= _DIALECT_LINES):
            return False
    if not dialect.is_quoted and any(cell[:1] == '"' == cell[-1:] for cells in rows for cell in cells):
        return False
    counts = {len(cells) for cells in rows if cells}
    first = len(rows[0]) if rows else 0
    return all(count == first or (dialect.joins_surplus and count > first) for count in counts)


def _delimiter(lines: _Lines, file: RowFile) -> str:
    """What the header has between its names; it is still to be read."""
    with suppress(_TooLongError):
        for line in lines:
            if told := _TOLD_DELIMITER.fullmatch(line.strip()):
                lines.start_row()
                return told[1]
            if line.strip():
                refuse_foreign(line[:4].encode("utf-8", "surrogateescape"), file.name)
                lines.put_back()
                return "\t" if file.format == "tsv" else _sniffed(line)
            lines.start_row()
        raise DataError(f"{file.name}: is empty; expected a header line with the names of the columns")
    raise DataError(f"{file.name}: the header is longer than a row may be; is this a table of text?")


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


def _csv_cells(lines: _Lines, dialect: _Dialect, max_row_mb: int) -> Iterator[_Cells]:
    reader = dialect.reader(lines)
    while True:
        lines.start_row()
        try:
            cells = _next_row(reader)
        except csv.Error as error:
            yield _Cells([], _escaped(lines.raw()), f"{lines.span()}: {_csv_fault(error)}")
            continue
        except _TooLongError:
            reason = too_long(
                max_row_mb, ", with a quote that is opened and never closed" * lines.is_held_open
            )
            yield _Cells([], _escaped(lines.raw()[:START_BYTES]), f"{lines.span()}: {reason}")
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
    return [name.strip() for name in first.cells]


def _csv_records(
    rows: Iterator[_Cells], header: Sequence[str], file: str, dialect: _Dialect
) -> Iterator[Record | BadRow]:
    number = 0
    for row in rows:
        if not row.fault and _is_blank(row, len(header)):
            continue
        number += 1
        cells = row.cells
        if "'" in row.raw and _MARKED_AS_TEXT.search(row.raw):
            cells = list(map(unguarded, cells))
        if len(cells) > len(header) and dialect.joins_surplus:
            last = len(header) - 1
            cells = [*cells[:last], dialect.delimiter.join(cells[last:])]
        fault = row.fault or _count_fault(cells, header, dialect.delimiter)
        if fault:
            yield BadRow(number, None, fault, row.raw, file)
        else:
            yield Record(number, dict(zip(header, cells, strict=True)), row.raw)


def _is_blank(row: _Cells, n_columns: int) -> bool:
    return not row.cells or (len(row.cells) == 1 < n_columns and not row.raw.strip())


def _count_fault(cells: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    if len(cells) == len(header):
        return ""
    return f"{len(cells)} fields; the header has {len(header)}. A field with {delimiter!r} in it needs quotes"
