"""Parquet to rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

from cascade.errors import DataError
from cascade.rows.delimited import refuse_duplicates
from cascade.rows.files import RowFile
from cascade.rows.layout import Record, RowReader, as_data_error
from cascade.rows.row import BadRow, Row, json_text, shown

_PARQUET_BATCH_ROWS = 1000
_PARQUET_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RowSlice:
    """So many rows of a Parquet file from the row numbered `first` on."""

    first: int
    rows: int


# Parquet


def parquet_rows(file: RowFile, rules: RowReader, part: RowSlice | None) -> Iterator[Row | BadRow]:
    with parquet_file(file) as table:
        header = list(table.schema_arrow.names)
        refuse_duplicates(header, file.name)
        with as_data_error(file.name):
            layout = rules.layout(header)
        part = part or RowSlice(1, table.metadata.num_rows)
        for record in _parquet_records(_batches(table, part), part.first, file.name):
            yield rules.understood(record, layout)


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
    for batch in table.iter_batches(_PARQUET_BATCH_ROWS, row_groups=groups):
        lower, upper = max(start - position, 0), min(stop - position, batch.num_rows)
        if lower < upper:
            yield batch.slice(lower, upper - lower)
        position += batch.num_rows
        if position >= stop:
            return


def _parquet_records(batches: Iterable[Any], first: int, file: str) -> Iterator[Record | BadRow]:
    number = first - 1
    for batch in batches:
        rows = _batch_rows(batch)
        for place in range(batch.num_rows):
            number += 1
            if rows is None:
                yield _parquet_record(batch, place, number, file)
            else:
                yield Record(number, rows[place], None)


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
            faults.append(f"column {shown(name)} cannot be read: {error}")
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
