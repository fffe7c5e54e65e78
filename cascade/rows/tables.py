"""Rows, as lines of JSON, to a spreadsheet, a Parquet file or a table of text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascade.errors import DataError
from cascade.rows.writing import DELIMITERS, evidence_cell, label_cell, table_lines
from cascade.system.files import atomic_write, writing

_BATCH_ROWS = 2000
_SHEET_ROWS = 1 << 20
_SHEET_COLUMNS = 1 << 14
_CELL_CHARACTERS = (1 << 15) - 1
_EXACT_INTEGERS = 1 << 53
_WIDTHS = {"id": 10, "labels": 32, "scores": 32, "evidence": 48}
_TEXT_WIDTH, _FLAG_WIDTH = 48, 9
SHEET = "predictions"

Rows = Callable[[], Iterator[dict[str, Any]]]
Kind = Literal["names", "numbers by name", "flag", "number", "evidence"]


@dataclass(frozen=True)
class TableShape:
    """The columns of a table: some that every row has, before and behind those that rows have besides.

    `kinds` tells what columns hold of which that is known; `has_more` whether there are any others.
    """

    before: tuple[str, ...]
    behind: tuple[str, ...]
    kinds: Mapping[str, Kind]
    has_more: bool = False


def write_table(path: Path, parts: Sequence[Path], shape: TableShape, folder: Path) -> list[str]:
    """Make the file from all of its rows; it appears whole, and what is worth telling of it is returned.

    Raises
    ------
    DataError
        It cannot be written, or a sheet has not as many columns.
    """

    def rows() -> Iterator[dict[str, Any]]:
        return itertools.chain.from_iterable(map(_rows_in, parts))

    columns = _columns(rows, shape)
    match path.suffix.lower():
        case ".xlsx":
            return _write_sheet(path, _readable(rows(), shape), columns, folder)
        case ".parquet":
            _write_parquet(path, rows, columns, shape.kinds, folder)
        case suffix:
            _write_text(path, _readable(rows(), shape), columns, DELIMITERS[suffix], folder)
    return []


def _rows_in(part: Path) -> Iterator[dict[str, Any]]:
    with part.open("rb") as lines:
        yield from map(json.loads, lines)


def _columns(rows: Rows, shape: TableShape) -> list[str]:
    """All columns that some row has."""
    fixed = frozenset((*shape.before, *shape.behind))
    more = dict.fromkeys(name for row in rows() for name in row) if shape.has_more else {}
    return [*shape.before, *(name for name in more if name not in fixed), *shape.behind]


def _readable(rows: Iterable[dict[str, Any]], shape: TableShape) -> Iterator[dict[str, Any]]:
    """The rows with evidence as people read it."""
    told = [column for column, kind in shape.kinds.items() if kind == "evidence"]
    for row in rows:
        yield row | {column: evidence_cell(row[column]) for column in told if column in row}


def _cell(value: Any) -> Any:
    """A value as text, number or nothing."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return label_cell(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _write_text(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], delimiter: str, folder: Path
) -> None:
    with atomic_write(path, folder) as file:
        file.write(table_lines([columns], delimiter))
        for batch in _batches(rows):
            cells = ([_cell(row.get(column)) for column in columns] for row in batch)
            file.write(table_lines(cells, delimiter))


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, _BATCH_ROWS)):
        yield batch


def _write_sheet(
    path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], folder: Path
) -> list[str]:
    """Rows to sheets of a workbook, every text as text: nothing in a cell is run."""
    import xlsxwriter

    if len(columns) > _SHEET_COLUMNS:
        raise DataError(
            f"{path}: {len(columns):,} columns; a sheet holds {_SHEET_COLUMNS:,}. Write .parquet or .csv, or "
            "leave --wide out"
        )
    making = folder / f"{SHEET}.xlsx"
    with writing(path):
        with xlsxwriter.Workbook(str(making), {"constant_memory": True, "tmpdir": str(folder)}) as book:
            sheets = _Sheets(book, columns)
            for row in rows:
                sheets.add([_cell(row.get(column)) for column in columns])
            sheets.finish()
        making.replace(path)
    return sheets.notes(path)


class _Sheets:
    """As many sheets as the rows need, each with the header."""

    def __init__(self, book: Any, columns: Sequence[str]) -> None:
        self._book, self._columns = book, columns
        self._bold = book.add_format({"bold": True})
        self._count, self._row, self._cut = 0, _SHEET_ROWS, 0

    def add(self, cells: Sequence[Any]) -> None:
        if self._row == _SHEET_ROWS:
            self._begin()
        for place, cell in enumerate(cells):
            self._write(place, cell)
        self._row += 1

    def finish(self) -> None:
        if not self._count:
            self._begin()
        self._sheet.autofilter(0, 0, max(self._row - 1, 1), len(self._columns) - 1)

    def notes(self, path: Path) -> list[str]:
        found = []
        if self._count > 1:
            found.append(f"{path}: a sheet holds {_SHEET_ROWS:,} rows, so there are {self._count} sheets")
        if self._cut:
            found.append(
                f"{path}: a cell holds {_CELL_CHARACTERS:,} characters, so {self._cut:,} were cut; .csv and "
                ".parquet keep them whole"
            )
        return found

    def _begin(self) -> None:
        self._count, self._row = self._count + 1, 1
        self._sheet = self._book.add_worksheet(SHEET if self._count == 1 else f"{SHEET} {self._count}")
        self._sheet.freeze_panes(1, 0)
        for place, column in enumerate(self._columns):
            self._sheet.set_column(place, place, _WIDTHS.get(column, _FLAG_WIDTH))
            self._sheet.write_string(0, place, column, self._bold)

    def _write(self, place: int, cell: Any) -> None:
        if cell is None or cell == "":
            return
        if isinstance(cell, bool):
            self._sheet.write_boolean(self._row, place, cell)
        elif isinstance(cell, int | float) and abs(cell) < _EXACT_INTEGERS:
            self._sheet.write_number(self._row, place, cell)
        else:
            text = str(cell)
            self._cut += len(text) > _CELL_CHARACTERS
            self._sheet.write_string(self._row, place, text[:_CELL_CHARACTERS])


def _write_parquet(
    path: Path, rows: Rows, columns: Sequence[str], kinds: Mapping[str, Kind], folder: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = {"start": pa.int64(), "end": pa.int64(), "text": pa.string(), "share": pa.float64()}
    spans = pa.list_(pa.struct(place.items()))
    known = {
        "evidence": pa.list_(pa.struct([("label", pa.string()), ("by", pa.string()), ("spans", spans)])),
        "names": pa.list_(pa.string()),
        "numbers by name": pa.map_(pa.string(), pa.float64()),
        "flag": pa.int8(),
        "number": pa.float64(),
    }
    types = [known[kinds[column]] if column in kinds else _type_of(column, rows) for column in columns]
    schema = pa.schema(list(zip(columns, types, strict=True)))
    making = folder / f"{SHEET}.parquet"
    with writing(path):
        with pq.ParquetWriter(making, schema) as file:
            for batch in _batches(rows()):
                file.write_batch(pa.RecordBatch.from_pylist([_typed(row, schema) for row in batch], schema))
        making.replace(path)


def _type_of(column: str, rows: Rows) -> Any:
    """A type that holds all values of a column as they are, else text."""
    import pyarrow as pa

    kinds = {type(value) for row in rows() if (value := row.get(column)) is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int} and all(abs(row.get(column) or 0) < 1 << 63 for row in rows()):
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _typed(row: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    import pyarrow as pa

    found = {}
    for field in schema:
        value = row.get(field.name)
        if pa.types.is_map(field.type):
            value = list((value or {}).items())
        elif pa.types.is_string(field.type) and value is not None and not isinstance(value, str):
            value = json.dumps(value, ensure_ascii=False)
        found[field.name] = value
    return found
