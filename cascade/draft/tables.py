"""Tables of text as they lie in CSV files and workbooks; what no table of names may have is refused."""

from __future__ import annotations

import csv
import html
import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from cascade.draft.concepts import clean_name
from cascade.errors import DataError, suggestion
from cascade.rows.encodings import encoding_of_file

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_DELIMITERS = ",;\t|"
# A formula that no program has computed yet, or that has come to a fault: its cell holds no value.
_UNCOMPUTED = re.compile(
    rb'<c r="([A-Z]+[0-9]+)"(?:[^>]*><f[^>]*>[^<]*</f>(?:<v\s*/>|<v></v>)?</c>|[^>]*\st="(e)")'
)
_SHEET_ID = re.compile(r'<sheet [^>]*?name="([^"]*)"[^>]*?r:id="([^"]*)"')
_RELATIONS, _RELATION = "xl/_rels/workbook.xml.rels", re.compile(r"<Relationship [^>]*>")
_MOST_SHEET_BYTES = 256 << 20


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
    import python_calamine as calamine

    try:
        with calamine.CalamineWorkbook.from_path(path) as workbook:
            found = _sheet(workbook, sheet, str(path))
            return _of_sheet(found, f"{path}: sheet {found.name!r}", path)
    except calamine.PasswordError as error:
        raise DataError(f"{path}: has a password; save a copy without one") from error
    except calamine.WorksheetNotFound as error:
        raise DataError(
            f"{path}: the sheet {_first_line(error)!r} is listed and not there: a damaged file"
        ) from error
    except calamine.CalamineError as error:
        raise DataError(f"{path}: not a workbook that can be read: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _sheet(workbook: Any, wanted: str | None, source: str) -> Any:
    names = workbook.sheet_names
    if wanted is not None:
        if wanted not in names:
            listed = ", ".join(map(repr, names))
            raise DataError(f"{source}: no sheet {wanted!r}; there are {listed}.{suggestion(wanted, names)}")
        return workbook.get_sheet_by_name(wanted)
    sheets = [workbook.get_sheet_by_name(name) for name in names]
    return next((one for one in sheets if one.height), sheets[0])


def _of_sheet(sheet: Any, source: str, path: Path) -> Table:
    top, _ = sheet.start or (0, 0)
    _refuse_merged(sheet, source)
    _refuse_uncomputed(path, sheet.name, source)
    rows = [[_cell(value) for value in row] for row in sheet.to_python(skip_empty_area=True)]
    return _squared(rows, source, top + 1)


def _refuse_merged(sheet: Any, source: str) -> None:
    """Cells merged downwards are a name and blanks below it, which stand for the same name."""
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        if right > left:
            cells = f"{_name_of_cell(top, left)}:{_name_of_cell(bottom, right)}"
            raise DataError(
                f"{source}: cells {cells} are merged across columns, and which column their text belongs to "
                "is not known; unmerge them"
            )


def _refuse_uncomputed(path: Path, sheet: str, source: str) -> None:
    """Such cells read as empty ones, and a name would be lost."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        part = _part_of(archive, sheet)
        found = part and _UNCOMPUTED.search(archive.read(part))
    if found:
        fault = "has come to a fault" if found[2] else "was never computed"
        raise DataError(
            f"{source}: cell {found[1].decode()} holds a formula that {fault}; mend it in a spreadsheet "
            "program and save the file, or put in the value"
        )


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """The file in an .xlsx that has the cells of a sheet; None in other formats, or where it is too large."""
    parts = {part.filename: part.file_size for part in archive.infolist()}
    if "xl/workbook.xml" not in parts or _RELATIONS not in parts:
        return None
    ids = dict(_SHEET_ID.findall(archive.read("xl/workbook.xml").decode("utf-8", "replace")))
    wanted = next((ids[name] for name in ids if html.unescape(name) == sheet), None)
    for found in _RELATION.findall(archive.read(_RELATIONS).decode("utf-8", "replace")):
        target = re.search(r'Target="/?(?:xl/)?([^"]+)"', found)
        if target and f'Id="{wanted}"' in found:
            part = f"xl/{target[1]}"
            return part if parts.get(part, _MOST_SHEET_BYTES) < _MOST_SHEET_BYTES else None
    return None


def _name_of_cell(row: int, column: int) -> str:
    letters = ""
    number = column + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return f"{letters}{row + 1}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return clean_name(value)
