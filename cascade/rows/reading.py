"""Rows of text and labels, read from any labelled file, and the rows that had to be refused.

Rows come one at a time, however long the file is. Whatever cannot be used is handed on as a `BadRow`, so
rows and bad rows together are always the whole file; a file that cannot be read as such raises `DataError`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cascade.errors import DataError
from cascade.rows.delimited import csv_table
from cascade.rows.documents import document_records
from cascade.rows.encodings import UTF_8
from cascade.rows.fasttext import fasttext_records
from cascade.rows.files import RowFile, opened
from cascade.rows.jsonl import array_records, json_records
from cascade.rows.layout import Record, RowReader, as_data_error, flag_label
from cascade.rows.names import KnownNames, LabelNames
from cascade.rows.parquet import arrow_table, parquet_table
from cascade.rows.readings import Columns, FileReading, Reading
from cascade.rows.row import BadRow, Row
from cascade.rows.settle import has_usual_text, settle
from cascade.rows.sheets import sheet_table
from cascade.rows.table import Table

_SAMPLE_ROWS = 1000
_SAMPLE_TEXTS = 100
_SAMPLE_CHARACTERS = 16 << 20
_EXAMPLES = 3
_MOST_UNNAMED = 20
_BETWEEN = re.compile(r"[;,|#]")


def read_rows(
    path: str | Path,
    columns: Columns | None = None,
    names: LabelNames | None = None,
    known: Sequence[Reading] = (),
) -> RowIterator:
    """Rows of one file in its order, read as they are asked for; `.reading` tells how they are read.

    The suffix tells the format: .jsonl, .ndjson, .json (an array, or one object a line), .csv, .tsv and .txt
    (fastText's lines as well), each also with .gz, .bz2, .xz, .zst or .zip; .parquet, .arrow and a folder of
    the library datasets; .xlsx, .xls and .ods; ``-`` is standard input as JSONL. Text may be in UTF-8,
    UTF-16, Windows-1252 or Latin-1.

    * Rows are numbered from 1; headers and blank lines are no rows and are not counted.
    * The id is the value of `columns.id` (else of a column ``id``) where that is text or a whole number,
      else the row's number.
    * How text and labels are written is settled once for the file, on its first thousand rows: what `columns`
      tells counts, and for the rest the one reading is taken under which `names` has all labels. Names count
      whatever their case, with blanks for underscores, and with words such as NONE for no label.
    * A label that is unknown then, or a row that the reading does not fit, is a `BadRow`.

    Parameters
    ----------
    columns
        What is told of the file. By default nothing.
    names
        Without it labels are not read: every row has ``labels=()``, and of the text nothing but the names of
        columns is looked at.
    known
        Readings of files before this one, which are tried first.

    Raises
    ------
    DataError
        At once for a file that is missing or of an unknown kind and for wrong settings; while reading for
        a damaged file, for one without the columns needed, and for one whose labels no reading fits, or
        several that differ.
    """
    columns = columns or Columns()
    file = RowFile.at(path, columns.encoding)
    if columns.delimiter == "":
        raise DataError(f"{file.name}: the delimiter of labels is empty; expected a character such as ;")
    known_names = None if names is None else KnownNames(names)
    if known_names is not None and columns.labels_are == "flags":
        with as_data_error(file.name):
            for column in columns.label_columns:
                flag_label(column, known_names)
    return RowIterator(_Source(file, columns, known_names, tuple(known)))


class RowIterator(Iterator[Row | BadRow]):
    """The rows of a file, and how they are read."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._rows = source.rows()

    def __iter__(self) -> Iterator[Row | BadRow]:
        return self._rows  # a generator, which is faster than anything around it

    def __next__(self) -> Row | BadRow:
        return next(self._rows)

    def close(self) -> None:
        self._rows.close()  # type: ignore[attr-defined]

    @property
    def header(self) -> tuple[str, ...] | None:
        """The columns of a table; None where each row has its own."""
        self.reading  # noqa: B018  # looks at the file
        return self._source.header

    @property
    def reading(self) -> FileReading:
        """What was settled; the file is looked at for it if that was not done yet."""
        if self._source.settled is None:
            first = next(self._rows, None)
            self._rows = _put_before(first, self._rows)
        assert self._source.settled is not None, "it is settled before the first row"  # noqa: S101
        return self._source.settled


def _put_before(first: Row | BadRow | None, rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    if first is not None:
        yield first
    yield from rows


@dataclass
class _Source:
    file: RowFile
    columns: Columns
    names: KnownNames | None
    known: tuple[Reading, ...] = ()
    settled: FileReading | None = field(default=None, init=False)
    header: tuple[str, ...] | None = field(default=None, init=False)

    def rows(self) -> Iterator[Row | BadRow]:
        has_header = self.columns.header is not False
        if self.columns.header is None and self._can_be_read_again and self._lacks_header():
            has_header = False
        with table_of(self.file, self.columns, has_header=has_header) as table:
            self.header = None if table.header is None else tuple(table.header)
            head, rest = self._sample(table)
            reader = self._settle(table, head, has_header=has_header)
            for record in itertools.chain(head, rest):
                yield reader.to_row(record)

    @property
    def _can_be_read_again(self) -> bool:
        return self.file.format in ("csv", "tsv") and self.file.path.is_file()

    def _lacks_header(self) -> bool:
        """Whether the first line of a table is a row: a label stands where the name of its column should."""
        with table_of(self.file, self.columns, has_header=True) as table:
            first = tuple(table.header or ())
        if self.names is None:
            kept = [one for one in self.known if not one.header]
            named = any(set(one.text) <= set(first) for one in self.known if one.header)
            width = max((int(column.rpartition(" ")[2]) for one in kept for column in one.text), default=0)
            return bool(kept) and not named and width <= len(first) and not has_usual_text(first)
        told = {*self.columns.text_columns, *self.columns.label_columns, self.columns.id}
        if told & set(first) or has_usual_text(first) or not 1 < len(first) <= _MOST_UNNAMED:
            return False
        return any(self._is_label(cell) for cell in first) and any(" " in cell.strip() for cell in first)

    def _is_label(self, cell: str) -> bool:
        names = self.names
        return names is not None and any(names.resolve(part.strip()) for part in re.split(_BETWEEN, cell))

    def _sample(self, table: Table) -> tuple[list[Record | BadRow], Iterator[Record | BadRow]]:
        """The records that are looked at; of a stream, which may wait for more, the first one alone."""
        head: list[Record | BadRow] = []
        size, most = 0, self._most_looked_at
        while most and size < _SAMPLE_CHARACTERS:
            record = next(table.records, None)
            if record is None:
                break
            head.append(record)
            size += _size(record)
            most -= isinstance(record, Record)
        return head, table.records

    @property
    def _most_looked_at(self) -> int:
        if self.names is not None:
            return _SAMPLE_ROWS
        return _SAMPLE_TEXTS if self.file.path.is_file() else 1

    def _settle(self, table: Table, head: Sequence[Record | BadRow], *, has_header: bool) -> RowReader:
        rows = [record for record in head if isinstance(record, Record)]
        with as_data_error(self.file.name):
            reading, chosen = settle(self.file.name, table.header, rows, self.columns, self.names, self.known)
        encoding = self.file.encoding if self.file.encoding != UTF_8 else None
        reading = replace(reading, encoding=encoding, sheet=self.columns.sheet, header=has_header)
        reader = RowReader(self.file.name, reading, self.names, self.file.is_table)
        notes = (
            *(() if has_header else ("no header",)),
            *((f"encoded in {encoding}",) if encoding else ()),
            *table.notes,
        )
        self.settled = FileReading(
            self.file.name,
            reading,
            rows=0 if self.names is None else len(rows),
            unlabelled=0 if chosen is None else sum(found == frozenset() for found in chosen.labels),
            is_guessed=self._is_guessed(reading) or bool(table.notes),
            notes=notes,
            examples=_examples(reader, head),
        )
        return reader

    @property
    def _plain_labels(self) -> tuple[str, ...]:
        told = self.columns
        by_name = told.labels_are == "flags" and told.labels is None
        return () if self.names is None or by_name else told.label_columns or ("labels",)

    def _is_guessed(self, reading: Reading) -> bool:
        """Whether something counts that neither was told nor is the documented form."""
        told, plain = self.columns, Reading(id=reading.id)
        plain = replace(
            plain,
            text=told.text_columns or plain.text,
            labels=self._plain_labels,
            labels_are=told.labels_are or plain.labels_are,
            delimiter=told.delimiter or plain.delimiter,
            path_separator=told.path_separator,
            format=told.format or plain.format,
            prompt_end=told.prompt_end or "",
            completion_end=told.completion_end or "",
            encoding=reading.encoding if told.encoding else None,
            sheet=told.sheet,
            header=told.header is not False,
        )
        return reading != plain


def _size(record: Record | BadRow) -> int:
    if record.raw is not None:
        return len(record.raw)
    return sum(len(value) for value in record.fields.values() if isinstance(value, str | list))


def _examples(reader: RowReader, head: Sequence[Record | BadRow]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if reader.names is None:
        return ()
    rows = (reader.to_row(record) for record in head)
    found = [(row.text, row.labels) for row in itertools.islice(rows, 50) if isinstance(row, Row)]
    return tuple(sorted(found, key=lambda pair: not pair[1])[:_EXAMPLES])


@contextmanager
def table_of(file: RowFile, columns: Columns, *, has_header: bool) -> Iterator[Table]:
    """The records of a file, whatever its format; the file is open as long as they are read."""
    most = columns.max_row_mb
    match file.format:
        case "parquet":
            with parquet_table(file, most, None) as table:
                yield table
        case "arrow":
            with arrow_table(file, most) as table:
                yield table
        case "sheet":
            with sheet_table(file, columns.sheet, most) as table:
                yield table
        case _:
            with opened(file) as stream, _text_table(stream, file, most, has_header=has_header) as table:
                yield table


def _text_table(
    stream: BinaryIO, file: RowFile, max_row_mb: int, *, has_header: bool
) -> AbstractContextManager[Table]:
    if file.format in ("csv", "tsv"):
        return csv_table(stream, file, max_row_mb, has_header=has_header)
    read = {"json": array_records, "document": document_records, "fasttext": fasttext_records}
    records = read.get(file.format, json_records)(stream, file.name, max_row_mb)
    return nullcontext(Table(None, records))


class ReadRows(NamedTuple):
    """Usable rows and refused rows of several files, each in order, and how each file was read."""

    rows: list[Row]
    refused: list[BadRow]
    readings: list[FileReading]


def read_all(
    paths: Sequence[str | Path],
    columns: Columns | None = None,
    names: LabelNames | None = None,
    known: Sequence[Reading] = (),
) -> ReadRows:
    """All rows of several files; see `read_rows`. Each reading is tried on the files after it as well."""
    found = ReadRows([], [], [])
    for path in paths:
        earlier = [*known, *(one.reading for one in found.readings)]
        rows = read_rows(path, columns, names, earlier)
        for row in rows:
            if isinstance(row, Row):
                found.rows.append(row)
            else:
                found.refused.append(row)
        found.readings.append(rows.reading)
    return found
