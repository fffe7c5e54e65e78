"""Parquet files and spreadsheets with other labels; what no label stands in stays as it was."""

from __future__ import annotations

import datetime
import html
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from cascade.errors import DataError
from cascade.rows.files import RowFile
from cascade.rows.layout import Record
from cascade.rows.parquet import arrow_batches, arrow_table, class_names, parquet_table
from cascade.rows.row import BadRow
from cascade.rows.row_edits import RowEdits
from cascade.rows.sheets import SheetPlaces, sheet_places
from cascade.rows.workbooks import column_letters, sheet_part

_GROUP_ROWS = 1 << 16
_CREATED = datetime.datetime(2000, 1, 1)  # spreadsheets know no zones
_ROW = re.compile(r"<row\b([^>]*?)(?:/>|>(.*?)</row>)", re.DOTALL)
_CELL = re.compile(r"<c\b([^>]*?)(?:/>|>(.*?)</c>)", re.DOTALL)
_PLACE = re.compile(r'\br="([A-Z]*)(\d+)"')
_TYPE = re.compile(r'\s*\bt="(\w+)"')

# Parquet


def write_parquet(file: RowFile, edits: RowEdits, out: FilePath, max_row_mb: int) -> None:
    """Write the rows of a Parquet or an Arrow file as Parquet, with the types that their columns have.

    Columns of numbers that stand for names hold the names afterwards.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with (
        arrow_batches(file) as (schema, batches),
        (
            parquet_table(file, max_row_mb, None)
            if file.format == "parquet"
            else arrow_table(file, max_row_mb)
        ) as table,
    ):
        making = _NewTable(schema, edits, table.header or ())
        with pq.ParquetWriter(out, making.schema, compression=_compression(file)) as writer:
            held: list[Any] = []
            for batch in batches:
                held.append(making.batch(batch, table.records))
                if sum(one.num_rows for one in held) >= _GROUP_ROWS:
                    writer.write_table(pa.Table.from_batches(held, making.schema))
                    held = []
            if held:
                writer.write_table(pa.Table.from_batches(held, making.schema))


def _compression(file: RowFile) -> str:
    import pyarrow.parquet as pq

    if file.format != "parquet":
        return "snappy"
    found = pq.read_metadata(file.path)
    codec = found.row_group(0).column(0).compression if found.num_row_groups and found.num_columns else ""
    return {"UNCOMPRESSED": "none"}.get(codec, codec.lower()) or "snappy"


class _NewTable:
    """Batches with other labels."""

    def __init__(self, schema: Any, edits: RowEdits, header: Sequence[str]) -> None:
        import pyarrow as pa

        self._edits, self._old, self._header = edits, schema, header
        self._columns = edits.rewriter.columns
        self._named = [one for one in class_names(schema) if one in edits.rewriter.reading.labels]
        fields = []
        for field in schema:
            name = self._columns.names.get(field.name, field.name)
            if name is not None:
                fields.append(field.with_name(name).with_type(self._type_of(field)))
        flags = [schema.field(one).type for one in header if one in edits.rewriter.flag_columns]
        added = [pa.field(name, flags[0] if flags else pa.int8()) for name in self._columns.added]
        metadata = dict(schema.metadata or {})
        if self._named or not self._columns.is_same:
            metadata = {key: one for key, one in metadata.items() if key not in (b"huggingface", b"pandas")}
        self.schema = pa.schema([*fields, *added], metadata or None)

    def _type_of(self, field: Any) -> Any:
        import pyarrow as pa

        if field.name not in self._named:
            return field.type
        return pa.list_(pa.string()) if pa.types.is_nested(field.type) else pa.string()

    def batch(self, batch: Any, records: Iterator[Record | BadRow]) -> Any:
        """The batch whose rows are the next of `records`."""
        import pyarrow as pa

        rows = [next(records) for _ in range(batch.num_rows)]
        values = [self._edits.of(row) for row in rows]
        arrays = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            new = self._columns.names.get(name, name)
            if new is None:
                continue
            changed = {place: one[new,] for place, one in enumerate(values) if (new,) in one}
            if name in self._named:
                changed = {
                    place: row.fields.get(name) for place, row in enumerate(rows) if isinstance(row, Record)
                } | changed
                arrays.append(
                    pa.array([changed.get(place) for place in range(len(rows))], self.schema.field(new).type)
                )
            else:
                arrays.append(_with_values(column, changed))
        for name in self._columns.added:
            kind = self.schema.field(name).type
            arrays.append(
                pa.concat_arrays([_one(one.get((name,)), kind) for one in values])
                if values
                else pa.array([], kind)
            )
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _with_values(column: Any, values: Mapping[int, Any]) -> Any:
    """The column with other values at some places; all others as they are, whatever they hold."""
    import pyarrow as pa

    if not values:
        return column
    pieces, start = [], 0
    for place, value in values.items():
        pieces += [column.slice(start, place - start), _one(value, column.type)]
        start = place + 1
    return pa.concat_arrays([*pieces, column.slice(start)])


def _one(value: Any, kind: Any) -> Any:
    """An array of one value, as text where the column holds text."""
    import pyarrow as pa

    if value is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        value = value if isinstance(value, str) else str(value)
    elif isinstance(value, bool) and pa.types.is_integer(kind):
        value = int(value)
    elif isinstance(value, int) and pa.types.is_boolean(kind):
        value = bool(value)
    if pa.types.is_dictionary(kind):
        return pa.array([value], kind.value_type).cast(kind)
    return pa.array([value], kind)


# Spreadsheets


@dataclass
class _NewCells:
    """Cells of a sheet with other values, by row and column; columns whose cells go."""

    values: dict[int, dict[str, str]]
    dropped: frozenset[str]
    top: int


def write_sheet(
    file: RowFile, edits: RowEdits, out: FilePath, sheet: str | None, max_row_mb: int
) -> list[str]:
    """Write a workbook with other cells of labels in one sheet, and all else as it was.

    One that is no .xlsx, or is built otherwise than usual, becomes a new workbook with this sheet alone, its
    cells as text; what is worth telling of it is returned.

    Raises
    ------
    DataError
        It is damaged, or has a row that is too long to be held.
    """
    with sheet_places(file, sheet, max_row_mb) as places:
        if _can_stay(file, edits):
            content = _member(file, places.name)
            cells = _new_cells(places, edits)
            edited = _edited(content, cells)
            if edited is not None:
                _write_archive(file, places.name, edited, out)
                return []
            raise DataError(
                f"{file.name}: the cells of sheet {places.name!r} have no places that can be read; open and "
                "save it in a spreadsheet, or save it as CSV"
            )
        _write_anew(places, edits, out)
    return [f"{file.name}: written as a new workbook, with the cells of this sheet as text"]


def _can_stay(file: RowFile, edits: RowEdits) -> bool:
    if file.path.suffix.lower() not in (".xlsx", ".xlsm"):
        return False
    with zipfile.ZipFile(file.path) as archive:
        has_tables = any(name.startswith("xl/tables/") for name in archive.namelist())
    return edits.rewriter.columns.is_same or not has_tables


def _member(file: RowFile, sheet: str) -> str:
    with zipfile.ZipFile(file.path) as archive:
        return archive.read(_part(archive, sheet, file.name)).decode()


def _part(archive: zipfile.ZipFile, sheet: str, name: str) -> str:
    part = sheet_part(archive, sheet)
    if part is None:
        raise DataError(f"{name}: does not tell where its sheet {sheet!r} lies: the file is damaged")
    return part


def _new_cells(places: SheetPlaces, edits: RowEdits) -> _NewCells:
    columns = edits.rewriter.columns
    letters = {
        str(columns.names.get(name, name)): letter
        for name, letter in zip(places.header, places.columns, strict=True)
        if columns.names.get(name, name) is not None
    }
    letters |= {name: column_letters(places.free + place) for place, name in enumerate(columns.added)}
    dropped = [
        letter
        for name, letter in zip(places.header, places.columns, strict=True)
        if columns.names.get(name, name) is None
    ]
    renamed = [name for name in (*columns.names.values(), *columns.added) if name is not None]
    found = {places.top: {letters[name]: name for name in renamed}} if renamed else {}
    for row, record in places.records:
        if values := edits.of(record):
            found[row] = {letters[str(path[0])]: str(value) for path, value in values.items()}
    return _NewCells(found, frozenset(dropped), places.top)


def _edited(content: str, cells: _NewCells) -> str | None:
    """The XML of a sheet with other cells; None where rows and cells do not tell their places."""
    left = set(cells.values)
    is_usual = True

    def row(found: re.Match[str]) -> str:
        nonlocal is_usual
        place = _PLACE.search(found.group(1))
        inside = found.group(2) or ""
        if place is None or any(not _PLACE.search(one.group(1)) for one in _CELL.finditer(inside)):
            is_usual = False
            return found.group()
        number = int(place.group(2))
        left.discard(number)
        new, dropped = cells.values.get(number, {}), cells.dropped if number >= cells.top else frozenset()
        if not new and not dropped:
            return found.group()
        return f"<row{found.group(1)}>{_row_cells(inside, number, new, dropped)}</row>"

    edited = _ROW.sub(row, content)
    if cells.dropped or any(cells.values.get(cells.top, {})):
        edited = re.sub(r"<dimension\b[^>]*/>", "", edited, count=1)
    return edited if is_usual and not left else None


def _row_cells(inside: str, row: int, new: Mapping[str, str], dropped: frozenset[str]) -> str:
    found: dict[str, str] = {}
    for one in _CELL.finditer(inside):
        place = _PLACE.search(one.group(1))
        letters = place.group(1) if place else ""
        if letters not in dropped:
            found[letters] = (
                _cell(one.group(1), one.group(2) or "", new[letters]) if letters in new else one.group()
            )
    for letters, value in new.items():
        if letters not in found:
            found[letters] = _cell(f' r="{letters}{row}"', "", value)
    ordered = sorted(found, key=lambda letters: (len(letters), letters))
    return "".join(found[letters] for letters in ordered)


def _cell(attributes: str, inside: str, value: str) -> str:
    """A cell with these attributes and another value: a number or a truth where it was one, else text."""
    kind = found.group(1) if (found := _TYPE.search(attributes)) else "n"
    attributes = _TYPE.sub("", attributes).rstrip("/")
    if value == "":
        return f"<c{attributes}/>"
    if kind == "b" and value.casefold() in ("true", "false"):
        return f'<c{attributes} t="b"><v>{int(value.casefold() == "true")}</v></c>'
    if kind == "n" and value in ("0", "1") and ("<v>" in inside or not inside):
        return f"<c{attributes}><v>{value}</v></c>"
    text = html.escape(value, quote=False)
    return f'<c{attributes} t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def _write_archive(file: RowFile, sheet: str, content: str, out: FilePath) -> None:
    """The same archive with another sheet, in the order and with the times that it has."""
    with zipfile.ZipFile(file.path) as old, zipfile.ZipFile(out, "w") as new:
        member = _part(old, sheet, file.name)
        for info in old.infolist():
            data = content.encode() if info.filename == member else old.read(info)
            new.writestr(info, data, info.compress_type)


def _write_anew(places: SheetPlaces, edits: RowEdits, out: FilePath) -> None:
    import xlsxwriter

    header = edits.rewriter.columns.header(places.header)
    with xlsxwriter.Workbook(str(out), {"constant_memory": True, "tmpdir": str(out.parent)}) as book:
        book.set_properties({"created": _CREATED})
        sheet = book.add_worksheet(places.name)
        for place, name in enumerate(header):
            sheet.write_string(0, place, name)
        for number, (_, record) in enumerate(places.records, 1):
            if isinstance(record, BadRow):
                raise DataError(f"{record.file} row {record.number}: {record.reason}")
            values = edits.of(record)
            row = edits.rewriter.rewritten(record.fields, values)
            for place, name in enumerate(header):
                if (cell := row.get(name)) not in (None, ""):
                    sheet.write_string(number, place, str(cell))
