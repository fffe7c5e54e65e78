"""A file of rows in slices that can be read in any order and anywhere."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cascade.errors import DataError
from cascade.rows.files import BOM, LongLine, RowFile, opened, printable, rest_skipped
from cascade.rows.jsonl import is_blank_line, json_records, long_record
from cascade.rows.layout import RowReader
from cascade.rows.parquet import RowSlice, parquet_file, parquet_table
from cascade.rows.reading import read_rows
from cascade.rows.readings import Columns, FileReading, Reading
from cascade.rows.row import BadRow, Row

if TYPE_CHECKING:
    from cascade.system.array_types import IntArray

_BLOCK_BYTES = 1 << 20
_BLANK_STARTS = b" \t\r\n\v\f" + BOM[:1]


@dataclass(frozen=True, slots=True)
class ByteSlice:
    """Whole lines of a JSONL file, from byte `start` up to `stop`; `first` is the number of the first row."""

    first: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class HeldSlice:
    """Rows that were read already, from what can only be read from its start; without their columns."""

    held: tuple[Row | BadRow, ...]


Slice = ByteSlice | RowSlice | HeldSlice


class SlicedFile:
    """The rows of one file, cut into slices that `read_slice` reads in any order and anywhere.

    A slice has `most_rows` rows, or fewer where those would be much longer than `most_bytes`; where it is cut
    depends on these and on the file alone. JSONL is looked through for line breaks, Parquet for its table of
    contents; all other files, what is compressed and what is no file are read here, as slices are asked for.

    Parameters
    ----------
    known
        Readings of earlier files, which are tried first.
    keeps_columns
        Whether rows that are read here keep their columns.

    Raises
    ------
    DataError
        As for `read_rows`.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Columns,
        most_rows: int,
        most_bytes: int,
        known: Sequence[Reading] = (),
        *,
        keeps_columns: bool = False,
    ) -> None:
        self._file = RowFile.at(path, columns.encoding)
        self._rows = read_rows(path, columns, None, known)
        self._max_row_mb = columns.max_row_mb
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._keeps_columns = keeps_columns

    @property
    def reading(self) -> FileReading:
        return self._rows.reading

    @property
    def header(self) -> tuple[str, ...] | None:
        """The columns of a table; None where each row has its own."""
        return self._rows.header

    def __iter__(self) -> Iterator[Slice]:
        if self._file.format == "parquet":
            return _row_slices(self._file, self._most_rows, self._most_bytes)
        if not self._file.can_be_cut:
            return _held_slices(self._rows, self._most_rows, self._most_bytes, keeps=self._keeps_columns)
        return _byte_slices(self._file, self._max_row_mb, self._most_rows, self._most_bytes)


def read_slice(
    path: Path, reading: Reading, max_row_mb: int, part: Slice, name: str
) -> Iterator[Row | BadRow]:
    """The rows of a slice, as `read_rows` gives them without label names.

    Rows and complaints call the file by its `name`, which is the same on whatever machine it is read.
    """
    if isinstance(part, HeldSlice):
        yield from part.held
        return
    # Only these are cut, and looking at the file anew for each slice would take longer than reading it.
    file = RowFile(path, printable(name), "parquet" if isinstance(part, RowSlice) else "jsonl")
    reader = RowReader(file.name, reading, None, file.is_table)
    if isinstance(part, RowSlice):
        with parquet_table(file, max_row_mb, part) as table:
            yield from map(reader.to_row, table.records)
    else:
        records = json_records(_bytes_of(file, part), file.name, max_row_mb, part.first)
        yield from map(reader.to_row, records)


def _held_slices(
    rows: Iterator[Row | BadRow], most_rows: int, most_bytes: int, *, keeps: bool
) -> Iterator[HeldSlice]:
    held: list[Row | BadRow] = []
    characters = 0
    for row in rows:
        if isinstance(row, Row):
            held.append(row if keeps else row._replace(source={}))
            characters += len(row.text)
        else:
            held.append(row)
            characters += len(row.raw)
        if len(held) >= most_rows or characters >= most_bytes:
            yield HeldSlice(tuple(held))
            held, characters = [], 0
    if held:
        yield HeldSlice(tuple(held))


def _byte_slices(
    file: RowFile, max_row_mb: int, most_rows: int, most_bytes: int
) -> Iterator[ByteSlice | HeldSlice]:
    first, rows, start, position = 1, 0, 0, 0
    for block, long_line in _blocks(file, max_row_mb << 20):
        ends = _row_ends(block)
        for cut in ends[most_rows - rows - 1 :: most_rows].tolist():
            yield ByteSlice(first, start, position + cut)
            first, start = first + most_rows, position + cut
        rows = (rows + len(ends)) % most_rows
        position += len(block)
        if rows and (long_line or position - start >= most_bytes):
            yield ByteSlice(first, start, position)
            first, rows, start = first + rows, 0, position
        if long_line:
            yield HeldSlice((long_record(long_line, first, file.name, max_row_mb),))
            position += long_line.size
            first, start = first + 1, position
    if rows:
        yield ByteSlice(first, start, position)


def _blocks(file: RowFile, most: int) -> Iterator[tuple[bytes, LongLine | None]]:
    """The file in pieces that end with a line, each with the line behind it if that has more than `most`."""
    with opened(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            head = block.rfind(b"\n") + 1
            begun = block[head:] + (stream.readline(most + 1) if head < len(block) else b"")
            if len(begun) > most:
                yield block[:head], rest_skipped(stream, begun)
            else:
                yield block[:head] + begun, None


def _row_ends(block: bytes) -> IntArray:
    """Where each line ends that is a row."""
    import numpy as np

    if not block:
        return np.empty(0, dtype=np.int64)
    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == ord("\n")) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.append(0, ends[:-1])
    # What stands at the start of a line tells of nearly all lines that they are not blank.
    doubtful = np.flatnonzero(np.isin(content[starts], np.frombuffer(_BLANK_STARTS, np.uint8)))
    blank = [line for line in doubtful.tolist() if is_blank_line(block[starts[line] : ends[line]])]
    rows: IntArray = np.delete(ends, blank)
    return rows


def _bytes_of(file: RowFile, part: ByteSlice) -> BinaryIO:
    with opened(file) as stream:
        stream.seek(part.start)
        content = stream.read(part.stop - part.start)
    if len(content) != part.stop - part.start:
        raise DataError(f"{file.name}: became shorter while it was read. Run the same again")
    return io.BytesIO(content)


def _row_slices(file: RowFile, most_rows: int, most_bytes: int) -> Iterator[RowSlice]:
    with parquet_file(file) as table:
        groups = [table.metadata.row_group(place) for place in range(table.metadata.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        row_bytes = sum(group.total_byte_size for group in groups) / max(rows, 1)
    step = int(min(most_rows, max(1, most_bytes // max(row_bytes, 1))))
    # An empty table has columns that may be wrong, so there is always a slice.
    for start in range(0, max(rows, 1), step):
        yield RowSlice(start + 1, min(step, rows - start))
