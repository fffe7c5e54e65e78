"""Lines of JSON to records, and arrays of JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, TextIO

from cascade.errors import DataError
from cascade.rows.files import BOM, LongLine, refuse_foreign, rest_skipped
from cascade.rows.layout import Record
from cascade.rows.row import BadRow, kind_of, too_long

_PIECE_CHARACTERS = 1 << 18


def json_records(stream: BinaryIO, file: str, max_row_mb: int, first: int = 1) -> Iterator[Record | BadRow]:
    """The objects of a file with one on each line, those from the row numbered `first` on."""
    most = max_row_mb << 20
    number = first - 1
    for line in iter(partial(stream.readline, most + 1), b""):
        if len(line) > most:
            number += 1
            yield long_record(rest_skipped(stream, line), number, file, max_row_mb)
            continue
        if is_blank_line(line):
            continue
        line = line.removeprefix(BOM).rstrip(b"\r\n")  # noqa: PLW2901
        number += 1
        if number == 1:
            refuse_foreign(line, file)
        yield json_record(line, number, file)


def long_record(line: LongLine, number: int, file: str, max_row_mb: int) -> BadRow:
    """The row of a line that is too long to be held."""
    if number == 1:
        refuse_foreign(line.start, file)
    start = line.start.decode("utf-8", "backslashreplace")
    return BadRow(number, None, too_long(max_row_mb), start, file)


def is_blank_line(line: bytes) -> bool:
    line = line.removeprefix(BOM)
    return not line or line.isspace()


def json_record(line: bytes, number: int, file: str) -> Record | BadRow:
    """The object that a line without its end holds."""
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


def array_records(stream: BinaryIO, file: str, max_row_mb: int) -> Iterator[Record | BadRow]:
    """The objects of a file that is one array of them, one at a time.

    Raises
    ------
    DataError
        It is no JSON: what follows a fault cannot be told apart.
    """
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        for number, (value, raw) in enumerate(_Array(text, file, max_row_mb << 20), 1):
            if isinstance(value, dict):
                yield Record(number, value, raw)
            else:
                yield BadRow(number, None, f"{kind_of(value)}; expected a JSON object", raw, file)


class _Array:
    """The elements of an array with their text, read piece by piece."""

    def __init__(self, text: TextIO, file: str, most: int) -> None:
        self._text, self._file, self._most = text, file, most
        self._held, self._at, self._line = "", 0, 1
        self._is_ended = False

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        self._expect("[")
        while self._next_character() != "]":
            yield self._element()
            if self._next_character() == ",":
                self._at += 1
                if self._next_character() == "]":
                    raise self._fault("a comma without a row behind it")
            elif self._next_character() != "]":
                raise self._fault("expected , or ]")
        self._at += 1
        if self._next_character():
            raise self._fault("expected nothing after the array")

    def _element(self) -> tuple[Any, str]:
        # Twice as much is read each time an element is longer, so that it is parsed a few times only.
        while True:
            try:
                value, end = _decoded(self._held, self._at)
            except (ValueError, RecursionError) as error:
                if self._is_ended or isinstance(error, RecursionError):
                    raise self._fault(_json_fault(error)) from None
                if len(self._held) - self._at > self._most:
                    raise self._fault(too_long(self._most >> 20)) from None
                self._read_on(max(len(self._held) - self._at, _PIECE_CHARACTERS))
                continue
            if end == len(self._held) and not self._is_ended:
                self._read_on(_PIECE_CHARACTERS)  # a number may go on
                continue
            raw, self._at = self._held[self._at : end], end
            return value, raw

    def _next_character(self) -> str:
        """The next one that is no blank, where it stands; empty at the end."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._held):
                return self._held[self._at]
            if self._is_ended:
                return ""
            self._read_on(_PIECE_CHARACTERS)

    def _expect(self, character: str) -> None:
        if self._next_character() != character:
            raise self._fault(f"expected {character}")
        self._at += 1

    def _read_on(self, characters: int) -> None:
        self._line += self._held.count("\n", 0, self._at)
        piece = self._text.read(characters)
        self._held, self._at, self._is_ended = self._held[self._at :] + piece, 0, not piece

    def _fault(self, what: str) -> DataError:
        line = self._line + self._held.count("\n", 0, self._at)
        return DataError(
            f"{self._file}:{line}: not a JSON array of rows: {what}. What follows cannot be read; write the "
            "file again, or one object a line (.jsonl), where a fault costs one row"
        )
