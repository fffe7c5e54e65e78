"""Spreadsheets to records, every cell as the text that is shown in it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cascade.errors import DataError
from cascade.rows.files import RowFile
from cascade.rows.layout import Record, refuse_duplicates
from cascade.rows.row import BadRow, too_long
from cascade.rows.table import Table
from cascade.rows.workbooks import cell_range, column_letters, named_sheet, opened_workbook, valueless_cells


@contextmanager
def sheet_table(file: RowFile, sheet: str | None, max_row_mb: int) -> Iterator[Table]:
    """The rows of one sheet under its header: the named one, else the only one that holds rows.

    Raises
    ------
    DataError
        It is no spreadsheet or has a password; several sheets hold rows; cells are merged, or hold a formula
        whose value the file does not tell.
    """
    with opened_workbook(file.path, file.name) as workbook:
        yield _table(file, _chosen_sheet(workbook, sheet, file.name), len(workbook.sheet_names), max_row_mb)


@dataclass(frozen=True)
class SheetPlaces:
    """One sheet with where its cells are.

    Attributes
    ----------
    name
        Of the sheet.
    header, columns
        Names of the columns, and their letters.
    free
        The number, from 0, of the first column behind all.
    top
        The row of the header, from 1.
    records
        Rows of the sheet, from 1, with what they hold.
    """

    name: str
    header: Sequence[str]
    columns: Sequence[str]
    free: int
    top: int
    records: Iterator[tuple[int, Record | BadRow]]


@contextmanager
def sheet_places(file: RowFile, sheet: str | None, max_row_mb: int) -> Iterator[SheetPlaces]:
    """The sheet that `sheet_table` reads, with the places of its cells; raises as that does."""
    with opened_workbook(file.path, file.name) as workbook:
        chosen = _chosen_sheet(workbook, sheet, file.name)
        rows = enumerate(chosen.iter_rows(), (chosen.start or (0, 0))[0] + 1)
        top, cells = _header_row(rows, file.name, chosen.width)
        left, used = (chosen.start or (0, 0))[1], _used_columns(chosen, cells)
        header = _header(cells, used)
        letters = [column_letters(left + place) for place in used]
        records = _numbered(rows, header, used, file.name, max_row_mb)
        yield SheetPlaces(chosen.name, header, letters, left + chosen.width, top, records)


def _chosen_sheet(workbook: Any, wanted: str | None, file: str) -> Any:
    if wanted is not None:
        return named_sheet(workbook, wanted, file)
    sheets = [workbook.get_sheet_by_name(name) for name in workbook.sheet_names]
    filled = [sheet for sheet in sheets if sheet.height > 1] or [sheet for sheet in sheets if sheet.height]
    wide = [sheet for sheet in filled if sheet.width > 1] or filled
    if len(wide) > 1:
        listed = ", ".join(repr(sheet.name) for sheet in wide)
        raise DataError(
            f"{file}: the sheets {listed} hold rows; say which under `data:` in the taxonomy, such as "
            f"`sheet: {wide[0].name}`"
        )
    if not wide:
        raise DataError(
            f"{file}: is empty; expected a sheet with the names of the columns and rows below them"
        )
    return wide[0]


def _table(file: RowFile, sheet: Any, n_sheets: int, max_row_mb: int) -> Table:
    rows = enumerate(sheet.iter_rows(), (sheet.start or (0, 0))[0] + 1)
    top, cells = _header_row(rows, file.name, sheet.width)
    _refuse_merged(sheet, top, file.name)
    _refuse_formulas(file, sheet.name, top)
    used = _used_columns(sheet, cells)
    header = _header(cells, used)
    refuse_duplicates(header, file.name)
    notes = (f"sheet {sheet.name!r}",) if n_sheets > 1 else ()
    records = (record for _, record in _numbered(rows, header, used, file.name, max_row_mb))
    return Table(header, records, notes)


def _header(cells: Sequence[Any], used: Sequence[int]) -> list[str]:
    names = [_text(cell).strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
    return [names[place] for place in used]


def _header_row(rows: Iterator[tuple[int, list[Any]]], file: str, width: int) -> tuple[int, list[Any]]:
    """The first row with several cells filled: above it there may be a title."""
    least = min(width, 2)
    for number, cells in rows:
        if sum(cell != "" for cell in cells) >= least:
            return number, cells
    raise DataError(f"{file}: no row has the names of the columns; expected them above the rows")


def _used_columns(sheet: Any, header: Sequence[Any]) -> list[int]:
    """Columns that have a name, or at least a cell that is not empty."""
    unnamed = {place for place, name in enumerate(header) if name == ""}
    filled: set[int] = set()
    if unnamed:
        for cells in sheet.iter_rows():
            filled |= {place for place in unnamed if cells[place] != ""}
    return [place for place in range(len(header)) if place not in unnamed or place in filled]


def _numbered(
    rows: Iterator[tuple[int, list[Any]]],
    header: Sequence[str],
    used: Sequence[int],
    file: str,
    max_row_mb: int,
) -> Iterator[tuple[int, Record | BadRow]]:
    """The rows that are not empty, each with its place in the sheet."""
    number = 0
    for place_in_sheet, cells in rows:
        texts = [_text(cells[place]) for place in used]
        if not any(texts):
            continue
        number += 1
        if sum(map(len, texts)) > max_row_mb << 20:
            yield place_in_sheet, BadRow(number, None, too_long(max_row_mb), "", file)
        else:
            yield place_in_sheet, Record(number, dict(zip(header, texts, strict=True)), None)


def _text(cell: Any) -> str:
    """What a cell shows: whole numbers without a point, dates as ISO 8601 has them."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return str(cell)


def _refuse_merged(sheet: Any, top: int, file: str) -> None:
    for first, last in sheet.merged_cell_ranges or ():
        if last[0] + 1 >= top:
            raise DataError(
                f"{file}: sheet {sheet.name!r}: the cells {cell_range(first, last)} are merged, so that rows "
                "have no values of their own; unmerge them and fill each"
            )


def _refuse_formulas(file: RowFile, sheet: str, top: int) -> None:
    """DataError for a formula without its value, as programs other than spreadsheets write it.

    A formula that has come to a fault is left alone: it may stand in a column that nobody reads.
    """
    for cell in valueless_cells(file.path, sheet):
        if cell.row > top and not cell.is_fault:
            raise DataError(
                f"{file.name}: sheet {sheet!r}: cell {cell.name} holds a formula without its value; open and "
                "save the file in a spreadsheet, or put values in place of formulas"
            )
