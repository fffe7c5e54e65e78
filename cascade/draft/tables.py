"""Tables of text as they lie in CSV files and workbooks; what no table of names may have is refused."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from cascade.draft.concepts import clean_name
from cascade.errors import DataError
from cascade.rows.encodings import encoding_of_file
from cascade.rows.workbooks import WORKBOOKS, cell_range, named_sheet, opened_workbook, valueless_cells

_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Cells without blanks around them, a list for each row; all rows are as long as the longest."""

    rows: list[list[str]]
    source: str
    first: int = 1
    """The number of the first row in its file."""

    def place(self, row: int) -> str:
        return f"{self.source} row {row + self.first}"


def read_table(path: Path, sheet: str | None = None) -> Table:
    """The cells of a CSV or TSV file, or of one sheet of a workbook: the one of that name, else the first
    with cells.

    Raises
    ------
    DataError
        The file is no table, has a password, or has cells that hold no name: faults of formulas, formulas
        that were never computed, cells merged across columns.
    """
    if path.suffix.lower() in WORKBOOKS:
        return _of_workbook(path, sheet)
    return _of_text(text_of(path), str(path), path.suffix.lower() == ".tsv")


def text_of(path: Path) -> str:
    """The text of a file, whatever its encoding."""
    return path.read_bytes().decode(encoding_of_file(path), "replace").removeprefix("\ufeff")


def _of_text(text: str, source: str, tabs: bool) -> Table:
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = "\t" if tabs else max(_DELIMITERS, key=first.count)
    try:
        rows = [
            [clean_name(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)
        ]
    except csv.Error as error:
        raise DataError(f"{source}: not a table: {error}") from error
    return _squared(rows, source)


def _squared(rows: Sequence[Sequence[str]], source: str, first: int = 1) -> Table:
    width = max(map(len, rows), default=0)
    return Table([[*row, *[""] * (width - len(row))] for row in rows], source, first)


def _of_workbook(path: Path, sheet: str | None) -> Table:
    with opened_workbook(path, str(path)) as workbook:
        found = _sheet(workbook, sheet, str(path))
        return _of_sheet(found, f"{path}: sheet {found.name!r}", path)


def _sheet(workbook: Any, wanted: str | None, source: str) -> Any:
    if wanted is not None:
        return named_sheet(workbook, wanted, source)
    sheets = [workbook.get_sheet_by_name(name) for name in workbook.sheet_names]
    return next((one for one in sheets if one.height), sheets[0])


def _of_sheet(sheet: Any, source: str, path: Path) -> Table:
    top, _ = sheet.start or (0, 0)
    _refuse_merged(sheet, source)
    _refuse_uncomputed(path, sheet.name, source)
    rows = [[_cell(value) for value in row] for row in sheet.to_python(skip_empty_area=True)]
    return _squared(rows, source, top + 1)


def _refuse_merged(sheet: Any, source: str) -> None:
    """Cells merged downwards are a name and blanks below it, which stand for the same name."""
    for first, last in sheet.merged_cell_ranges or ():
        if last[1] > first[1]:
            raise DataError(
                f"{source}: cells {cell_range(first, last)} are merged across columns, and which column "
                "their text belongs to is not known; unmerge them"
            )


def _refuse_uncomputed(path: Path, sheet: str, source: str) -> None:
    """Such cells read as empty ones, and a name would be lost."""
    for cell in valueless_cells(path, sheet):
        fault = "has come to a fault" if cell.is_fault else "was never computed"
        raise DataError(
            f"{source}: cell {cell.name} holds a formula that {fault}; mend it in a spreadsheet program and "
            "save the file, or put in the value"
        )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return clean_name(value)
