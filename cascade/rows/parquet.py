"""Parquet, Arrow and folders of the library datasets to records."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cascade.errors import DataError
from cascade.rows.files import RowFile, printable
from cascade.rows.layout import Record, refuse_duplicates
from cascade.rows.row import BadRow, json_text, quoted, too_long
from cascade.rows.table import Table

_PARQUET_BATCH_ROWS = 1000
_PARQUET_BUFFER_BYTES = 1 << 20
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class RowSlice:
    """So many rows of a Parquet file from the row numbered `first` on."""

    first: int
    rows: int


@contextmanager
def parquet_table(file: RowFile, max_row_mb: int, part: RowSlice | None) -> Iterator[Table]:
    """The rows of a Parquet file, or some of them."""
    with parquet_file(file) as table:
        schema = table.schema_arrow
        part = part or RowSlice(1, table.metadata.num_rows)
        yield _table(schema, _batches(table, part), part.first, file.name, max_row_mb)


def _table(schema: Any, batches: Iterable[Any], first: int, file: str, max_row_mb: int) -> Table:
    refuse_duplicates(schema.names, file)
    records = _records(batches, first, file, max_row_mb << 20)
    names = class_names(schema)
    return Table(list(schema.names), _with_names(records, names) if names else records)


@contextmanager
def arrow_table(file: RowFile, max_row_mb: int) -> Iterator[Table]:
    """The rows of an Arrow file, or of a data set that the library datasets has saved in a folder."""
    with arrow_batches(file) as (schema, batches):
        yield _table(schema, batches, 1, file.name, max_row_mb)


@contextmanager
def arrow_batches(file: RowFile) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The schema of a Parquet or an Arrow file, and its rows as batches of Arrow.

    Raises
    ------
    DataError
        It is damaged, or no such file.
    """
    import pyarrow as pa

    if file.format == "parquet":
        with parquet_file(file) as table:
            yield table.schema_arrow, table.iter_batches(_batch_size(table.metadata))
        return
    paths = _arrow_files(file) if file.path.is_dir() else [file.path]
    try:
        readers = [_arrow_reader(path) for path in paths]
        yield readers[0].schema, (batch for reader in readers for batch in _in_pieces(reader))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.name}: not an Arrow file, or a damaged one: {error}") from error


def _arrow_files(file: RowFile) -> list[Path]:
    """The files of a data set, in order; DataError where the folder has several data sets or none."""
    folder = file.path
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise DataError(
            f"{file.name}: holds {', '.join(map(repr, splits))}; name one of them, such as "
            f"{printable(folder / (splits[0] if splits else 'train'))!r}"
        )
    try:
        state = json.loads((folder / "state.json").read_bytes())
        names = [one["filename"] for one in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{file.name}: state.json does not name the files of a data set") from error
    if any(not isinstance(name, str) or Path(name).name != name for name in names) or not names:
        raise DataError(f"{file.name}: state.json names files outside of the folder, or none")
    if state.get("_indices_data_files"):
        raise DataError(f"{file.name}: rows were selected but not written; save it after `flatten_indices()`")
    return [folder / name for name in names]


def _arrow_reader(path: Path) -> Any:
    """Batches of an Arrow file, which datasets writes as a stream and Feather as a file."""
    import pyarrow as pa

    source = pa.memory_map(str(path)) if path.stat().st_size else pa.OSFile(str(path))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_file(source)


def _in_pieces(reader: Any) -> Iterator[Any]:
    batches = (
        (reader.get_batch(place) for place in range(reader.num_record_batches))
        if hasattr(reader, "num_record_batches")
        else reader
    )
    for batch in batches:
        for start in range(0, batch.num_rows, _PARQUET_BATCH_ROWS):
            yield batch.slice(start, _PARQUET_BATCH_ROWS)


def class_names(schema: Any) -> dict[str, list[str]]:
    """Columns of numbers that stand for names, as the library datasets notes them."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        told = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _names_of(feature) for column, feature in told.items()}
        return {column: names for column, names in found.items() if names}
    return {}


def _names_of(feature: Any) -> list[str]:
    if isinstance(feature, list):
        feature = feature[0]
    if feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature["feature"]
    return list(map(str, feature["names"])) if feature.get("_type") == "ClassLabel" else []


def _with_names(
    records: Iterator[Record | BadRow], names: Mapping[str, Sequence[str]]
) -> Iterator[Record | BadRow]:
    for record in records:
        if isinstance(record, Record):
            for column, known in names.items():
                record.fields[column] = _as_names(record.fields.get(column), known)
        yield record


def _as_names(value: Any, known: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_as_names(one, known) for one in value]
    if isinstance(value, int) and value < len(known):
        return known[value] if value >= 0 else None  # -1 stands for none
    return value


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


def _records(batches: Iterable[Any], first: int, file: str, most: int) -> Iterator[Record | BadRow]:
    number = first - 1
    for batch in batches:
        long_rows = _long_rows(batch, most)
        rows = None if long_rows else _batch_rows(batch)
        for place in range(batch.num_rows):
            number += 1
            if place in long_rows:
                yield BadRow(number, None, too_long(most >> 20), "", file)
            elif rows is None:
                yield _parquet_record(batch, place, number, file)
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
