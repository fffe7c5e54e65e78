"""Parquet to rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from cascade.errors import DataError
from cascade.rows.files import RowFile
from cascade.rows.layout import Record, RowReader
from cascade.rows.row import BadRow, Row, json_text, quoted, too_long

_PARQUET_BATCH_ROWS = 1000
_PARQUET_BUFFER_BYTES = 1 << 20
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RowSlice:
    """So many rows of a Parquet file from the row numbered `first` on."""

    first: int
    rows: int


def parquet_rows(file: RowFile, reader: RowReader, part: RowSlice | None) -> Iterator[Row | BadRow]:
    with parquet_file(file) as table:
        header = list(table.schema_arrow.names)
        layout = reader.table_layout(header)
        part = part or RowSlice(1, table.metadata.num_rows)
        for record in _parquet_records(_batches(table, part), part.first, reader):
            yield reader.to_row(record, layout)


@contextmanager
def parquet_file(file: RowFile) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By default a whole row group is held at once, which may be the whole file.
        with pq.ParquetFile(file.path, buffer_size=_PARQUET_BUFFER_BYTES, pre_buffer=False) as table:
            yield table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a Parquet file, or a damaged one: {error}") from error


def _batches(table: Any, part: RowSlice) -> Iterator[Any]:
    """The rows of a slice; other row groups are not read, other rows of the same ones are skipped."""
    sizes = [table.metadata.row_group(place).num_rows for place in range(table.metadata.num_row_groups)]
    offsets = list(itertools.accumulate(sizes, initial=0))
    start, stop = part.first - 1, part.first - 1 + part.rows
    groups = [place for place in range(len(sizes)) if offsets[place] < stop and offsets[place + 1] > start]
    position = offsets[groups[0]] if groups else stop
    for batch in table.iter_batches(_batch_size(table.metadata), row_groups=groups):
        lower, upper = max(start - position, 0), min(stop - position, batch.num_rows)
        if lower < upper:
            yield batch.slice(lower, upper - lower)
        position += batch.num_rows
        if position >= stop:
            return


def _parquet_records(batches: Iterable[Any], first: int, reader: RowReader) -> Iterator[Record | BadRow]:
    number = first - 1
    for batch in batches:
        long_rows = _long_rows(batch, reader.columns.max_row_bytes)
        rows = None if long_rows else _batch_rows(batch)
        for place in range(batch.num_rows):
            number += 1
            if place in long_rows:
                yield BadRow(number, None, too_long(reader.columns), "", reader.file)
            elif rows is None:
                yield _parquet_record(batch, place, number, reader.file)
            else:
                yield Record(number, rows[place], None)


def _long_rows(batch: Any, most: int) -> frozenset[int]:
    """The places in a batch of rows whose cells of text have more than `most` bytes in all."""
    import pyarrow as pa
    from pyarrow import compute

    if batch.nbytes <= most:
        return frozenset()
    sizes = [0] * batch.num_rows
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            lengths = compute.binary_length(column).fill_null(0).to_pylist()
            sizes = [size + length for size, length in zip(sizes, lengths, strict=True)]
    return frozenset(place for place, size in enumerate(sizes) if size > most)


def _batch_size(metadata: Any) -> int:
    """So many rows at a time that they are about as much as one buffer, where rows are alike."""
    groups = (metadata.row_group(place) for place in range(metadata.num_row_groups))
    row_bytes = sum(group.total_byte_size for group in groups) / max(metadata.num_rows, 1)
    return int(min(_PARQUET_BATCH_ROWS, max(1, _BATCH_BYTES // max(row_bytes, 1))))


def _batch_rows(batch: Any) -> list[dict[str, Any]] | None:
    """All rows of a batch, None if there is a cell in it for which Python has no value."""
    with suppress(ValueError, OverflowError):
        return cast("list[dict[str, Any]]", batch.to_pylist())
    return None


def _parquet_record(batch: Any, place: int, number: int, file: str) -> Record | BadRow:
    fields: dict[str, Any] = {}
    faults = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        cell = column[place]
        try:
            fields[name] = cell.as_py()
        except (ValueError, OverflowError) as error:
            fields[name] = _cell_text(cell)
            faults.append(f"column {quoted(name)} cannot be read: {error}")
    if not faults:
        return Record(number, fields, None)
    return BadRow(number, None, "; ".join(faults), json_text(fields), file)


def _cell_text(cell: Any) -> Any:
    """What a cell without a Python value holds, as text: wrong UTF-8 escaped, a date far off written out."""
    import pyarrow as pa

    if not cell.is_valid:
        return None
    if isinstance(cell, pa.ListScalar):
        return [_cell_text(element) for element in cell.values]
    value = cell.value if isinstance(cell, pa.DictionaryScalar) else cell
    try:
        stored = value.cast(pa.string()).cast(pa.binary()).as_py()
    except pa.ArrowException:
        return f"(a value of type {cell.type})"
    return stored.decode("utf-8", "backslashreplace")
