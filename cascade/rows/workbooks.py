"""Workbooks of spreadsheets: opened, a sheet found in them, and the names and faults of cells."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cascade.errors import DataError, suggestion

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_SHEET = re.compile(rb"<sheet\s[^>]*>")
_RELATIONS, _RELATION = "xl/_rels/workbook.xml.rels", re.compile(rb"<Relationship\s[^>]*>")
_ATTRIBUTE = re.compile(rb'([\w:]+)="([^"]*)"')
# A formula that no program has computed yet, or that has come to a fault: its cell holds no value.
_WITHOUT_VALUE = re.compile(
    rb'<c r="([A-Z]+)([0-9]+)"'
    rb'(?:[^>]*><f[^>]*?(?:/>|>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>|[^>]*\st="(e)")'
)
_MOST_SHEET_BYTES = 256 << 20


@contextmanager
def opened_workbook(path: Path, name: str) -> Iterator[Any]:
    """The workbook, as python-calamine has it; `name` is what complaints call it.

    Raises
    ------
    DataError
        It is empty, has a password, is damaged, or is none.
    """
    import python_calamine

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name}: is empty: there is not even a workbook without rows in it")
        with python_calamine.CalamineWorkbook.from_path(str(path)) as workbook:
            yield workbook
    except python_calamine.PasswordError as error:
        raise DataError(f"{name}: has a password; save it without one") from error
    except python_calamine.WorksheetNotFound as error:
        raise DataError(
            f"{name}: names a sheet {str(error)!r} and does not hold it: the file is damaged or cut off"
        ) from error
    except python_calamine.CalamineError as error:
        if "password" in str(error).lower():
            raise DataError(f"{name}: has a password; save it without one") from error
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: not a spreadsheet, or a damaged one: {why}") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


def named_sheet(workbook: Any, wanted: str, name: str) -> Any:
    """The sheet of that name; DataError where there is none."""
    names = list(workbook.sheet_names)
    if wanted not in names:
        listed = ", ".join(map(repr, names))
        raise DataError(f"{name}: no sheet {wanted!r}; there are {listed}.{suggestion(wanted, names)}")
    return workbook.get_sheet_by_name(wanted)


def column_letters(column: int) -> str:
    """What a spreadsheet calls the column of that number, from 0."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_range(first: tuple[int, int], last: tuple[int, int]) -> str:
    """What a spreadsheet calls the cells between two, each a row and a column from 0."""
    return ":".join(f"{column_letters(column)}{row + 1}" for row, column in (first, last))


class ValuelessCell(NamedTuple):
    """A cell with a formula and no value, as its formula was never computed or has come to a fault."""

    name: str
    row: int
    is_fault: bool


def valueless_cells(path: Path, sheet: str) -> Iterator[ValuelessCell]:
    """Such cells of a sheet of an .xlsx; none of other formats, and of a sheet too large for that."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        part = sheet_part(archive, sheet)
        if part is None or archive.getinfo(part).file_size > _MOST_SHEET_BYTES:
            return
        for found in _WITHOUT_VALUE.finditer(archive.read(part)):
            letters, row, fault = found.groups()
            yield ValuelessCell(f"{letters.decode()}{int(row)}", int(row), fault is not None)


def sheet_part(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """The part of an .xlsx that holds a sheet; None where it is not told, and of other formats."""
    if not {"xl/workbook.xml", _RELATIONS} <= set(archive.namelist()):
        return None
    told = [dict(_ATTRIBUTE.findall(tag)) for tag in _SHEET.findall(archive.read("xl/workbook.xml"))]
    ids = {html.unescape(one.get(b"name", b"").decode()): one.get(b"r:id") for one in told}
    for found in _RELATION.findall(archive.read(_RELATIONS)):
        relation = dict(_ATTRIBUTE.findall(found))
        if relation.get(b"Id") == ids.get(sheet, b""):
            part = "xl/" + relation.get(b"Target", b"").decode().removeprefix("/").removeprefix("xl/")
            return part if part in archive.namelist() else None
    return None
