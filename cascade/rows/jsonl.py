"""Lines of JSON to rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

from cascade.errors import DataError
from cascade.rows.files import BOM, LongLine, refuse_foreign, rest_skipped
from cascade.rows.layout import Record, RowReader
from cascade.rows.row import BadRow, Row, kind_of, too_long


def json_rows(stream: BinaryIO, reader: RowReader, first: int = 1) -> Iterator[Row | BadRow]:
    # Without labels no column is ever guessed.
    is_settled = reader.columns.text is not None or reader.names is None
    for record in _json_records(stream, reader, first):
        row = reader.to_row(record)
        if not is_settled and isinstance(row, Row):
            # A later row without this column is a fault of that row, not an invitation to guess anew.
            layout = reader.layout(list(row.source))
            reader = replace(reader, columns=replace(reader.columns, text=layout.text), layouts={})
            is_settled = True
        yield row


def _json_records(stream: BinaryIO, reader: RowReader, first: int) -> Iterator[Record | BadRow]:
    file, most = reader.file, reader.columns.max_row_bytes
    number = first - 1
    for line in iter(partial(stream.readline, most + 1), b""):
        if len(line) > most:
            number += 1
            yield long_record(rest_skipped(stream, line), number, reader)
            continue
        if is_blank_line(line):
            continue
        line = line.removeprefix(BOM).rstrip(b"\r\n")  # noqa: PLW2901
        number += 1
        if number == 1:
            refuse_foreign(line, file)
            _refuse_array(line, file)
        yield _json_record(line, number, file)


def long_record(line: LongLine, number: int, reader: RowReader) -> BadRow:
    """The row of a line that is too long to be held."""
    if number == 1:
        refuse_foreign(line.start, reader.file)
        _refuse_array(line.start, reader.file)
    start = line.start.decode("utf-8", "backslashreplace")
    return BadRow(number, None, too_long(reader.columns), start, reader.file)


def is_blank_line(line: bytes) -> bool:
    line = line.removeprefix(BOM)
    return not line or line.isspace()


def _refuse_array(line: bytes, file: str) -> None:
    inside = line.strip().removeprefix(b"[").lstrip()
    if line.lstrip().startswith(b"[") and inside[:1] in (b"", b"{"):
        raise DataError(
            f"{file}: holds one JSON array; expected one object a line. "
            "`jq -c '.[]' FILE > FILE.jsonl` turns one into the other"
        )


def _json_record(line: bytes, number: int, file: str) -> Record | BadRow:
    try:
        text = line.decode()
        fields = _parsed(text)
    except (ValueError, RecursionError) as error:
        raw = line.decode("utf-8", "backslashreplace")
        return BadRow(number, None, _json_fault(error), raw, file)
    if not isinstance(fields, dict):
        return BadRow(number, None, f"{kind_of(fields)}; expected a JSON object", text, file)
    return Record(number, fields, text)


# `json.loads` searches for blanks around the value, which takes half as long again as a short row.
_decoded = json.JSONDecoder().raw_decode


def _parsed(text: str) -> Any:
    """What `json.loads` gives; most rows have no blanks around them."""
    try:
        value, end = _decoded(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def _json_fault(error: ValueError | RecursionError) -> str:
    match error:
        case UnicodeDecodeError():
            return f"not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
        case json.JSONDecodeError():
            return f"not JSON: {error.msg} at character {error.pos + 1}"
        case RecursionError():
            return "nested too deeply"
        case _:
            return "a number with too many digits"
