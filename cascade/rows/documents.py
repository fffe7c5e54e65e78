"""JSON files that are one object with the rows somewhere in it, to records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from cascade.errors import DataError
from cascade.rows.layout import Record
from cascade.rows.row import BadRow, kind_of, too_long

_FORMS = (
    "one array of objects, one object a line, an object with such an array in it, or what pandas writes "
    "(orient records, columns, index, split or table)"
)


def is_document(head: bytes) -> bool:
    """Whether a file that begins with `head` and an opening brace is one object with rows in it."""
    first, _, rest = head.partition(b"\n")
    try:
        value = json.loads(first)
    except ValueError:
        # Only where the line goes on with the members of one object is it more than a damaged line.
        return first.strip() == b"{" or not rest.strip()
    return not rest.strip() and isinstance(value, dict) and _rows_in(value) is not None


def document_records(stream: BinaryIO, file: str, max_row_mb: int) -> Iterator[Record | BadRow]:
    """The rows of an object, which has to be held whole.

    Raises
    ------
    DataError
        It is no JSON, has no rows in it, or is larger than a row may be.
    """
    content = stream.read((max_row_mb << 20) + 1)
    if len(content) > max_row_mb << 20:
        raise DataError(f"{file}: one JSON object, {too_long(max_row_mb)}, or one object a line")
    try:
        value = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON: {error}. Expected {_FORMS}") from error
    rows = _rows_in(value) if isinstance(value, dict) else None
    if rows is None:
        raise DataError(f"{file}: one JSON object without rows in it; expected {_FORMS}")
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield Record(number, row, json.dumps(row, ensure_ascii=False))
        else:
            yield BadRow(number, None, f"{kind_of(row)}; expected a JSON object", json.dumps(row), file)


def _rows_in(value: Mapping[str, Any]) -> list[Any] | None:
    """The one list of objects in an object, or the rows of a frame of pandas; None where there are none."""
    columns, data = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data]
    lists = [one for one in value.values() if isinstance(one, list) and one and isinstance(one[0], dict)]
    if "schema" in value and isinstance(data, list):
        return data
    if len(lists) == 1 and not isinstance(value.get("text"), str):
        return lists[0]
    members = list(value.values())
    if members and all(isinstance(one, dict) for one in members):
        return _frame_rows(value)
    return None


def _frame_rows(value: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Rows of columns by index, or of an index by columns: indexes count, columns have names."""
    inner = list(next(iter(value.values())))
    if inner and all(key.isdecimal() for key in inner):
        return [{column: cells.get(index) for column, cells in value.items()} for index in inner]
    return list(map(dict, value.values())) if all(key.isdecimal() for key in value) else None
