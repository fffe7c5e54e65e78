"""Text files of rows with other labels: every byte that need not change is as it was."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import itertools
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import Any, BinaryIO, cast

from cascade.errors import DataError
from cascade.rows.delimited import Dialect, Piece, csv_pieces
from cascade.rows.encodings import UTF_8
from cascade.rows.fasttext import MARK, fasttext_columns
from cascade.rows.files import BOM, LongLine, RowFile, head_bytes, opened
from cascade.rows.json_edits import Path, with_keys, with_values
from cascade.rows.jsonl import array_records, is_blank_line, json_record, long_record
from cascade.rows.layout import Record
from cascade.rows.row import START_BYTES, BadRow
from cascade.rows.row_edits import RowEdits
from cascade.rows.writing import guarded

_HEAD_CHARACTERS = 1 << 20
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    BOM: UTF_8,
}
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_text(file: RowFile, edits: RowEdits, out: FilePath, max_row_mb: int, encoding: str) -> None:
    """Write the rows of a text file to `out`, packed as `file` is.

    Raises
    ------
    UnicodeEncodeError
        A new label cannot be written in this encoding.
    DataError
        The file has bytes that are no text in its own encoding and cannot be carried over.
    """
    with packed(out, file) as stream:
        for piece in _encoded(_pieces(file, edits, max_row_mb), file, encoding):
            stream.write(piece)


def _pieces(file: RowFile, edits: RowEdits, max_row_mb: int) -> Iterator[str]:
    """The new file as text; bytes that are not UTF-8 are lone surrogates in it."""
    with opened(file) as stream:
        if file.format in ("csv", "tsv"):
            with csv_pieces(stream, file, max_row_mb, has_header=edits.reader.reading.header) as (
                header,
                dialect,
                pieces,
            ):
                yield from _table(header, dialect, pieces, edits)
        elif file.format == "json":
            yield from _array(file, stream, edits, max_row_mb)
        else:
            line_of = _fasttext_line if file.format == "fasttext" else _json_line
            yield from _lines(file, stream, edits, line_of, max_row_mb)


# Encodings


def _encoded(pieces: Iterator[str], file: RowFile, encoding: str) -> Iterator[bytes]:
    mark, name = _mark_of(file)
    if encoding != file.encoding:
        mark, name = b"", encoding
    errors = "surrogatepass" if name.startswith(("utf-16", "utf-32")) else "surrogateescape"
    yield mark
    for piece in pieces:
        yield piece.encode(name, errors)


def _mark_of(file: RowFile) -> tuple[bytes, str]:
    """The byte order mark of a file, empty where it has none, and the encoding of what follows."""
    head = head_bytes(file)[:4]
    mark = next((one for one in _MARKS if head.startswith(one)), b"")
    known = mark and (file.encoding == UTF_8) == (mark == BOM)
    return (mark, _MARKS[mark]) if known else (b"", file.encoding)


@contextmanager
def packed(out: FilePath, like: RowFile) -> Iterator[BinaryIO]:
    """A file to write, compressed as another one, without the time in it."""
    with contextlib.ExitStack() as held:
        if like.packing == ".zip":
            archive = held.enter_context(zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED))
            yield held.enter_context(_member(archive, like))
            return
        raw = held.enter_context(out.open("wb"))
        yield held.enter_context(_PACKERS[like.packing](raw))


def _member(archive: zipfile.ZipFile, like: RowFile) -> Any:
    with zipfile.ZipFile(like.path) as found:
        inside = [one for one in found.infolist() if not one.is_dir() and "__MACOSX" not in one.filename]
    info = zipfile.ZipInfo(inside[0].filename, _ZIP_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w")


def _zstandard(raw: BinaryIO) -> Any:
    import pyarrow as pa

    return pa.CompressedOutputStream(raw, "zstd")


_PACKERS: dict[str, Callable[[BinaryIO], Any]] = {
    "": contextlib.nullcontext,
    ".gz": lambda raw: gzip.GzipFile("", "wb", fileobj=raw, mtime=0),
    ".bz2": lambda raw: bz2.BZ2File(raw, "wb"),
    ".xz": lambda raw: lzma.LZMAFile(raw, "wb"),  # noqa: SIM115  # whoever asks closes it
    ".zst": _zstandard,
}

# Lines


LineOf = Callable[[str, dict[Path, Any], RowEdits], str]


def _lines(
    file: RowFile, stream: BinaryIO, edits: RowEdits, line_of: LineOf, max_row_mb: int
) -> Iterator[str]:
    number = 0
    for line in stream:
        body = line.removeprefix(BOM) if number == 0 and file.encoding == UTF_8 else line
        if is_blank_line(body):
            yield _decoded(body, file)
            continue
        number += 1
        inside = body.rstrip(b"\r\n")
        is_long = len(line) > max_row_mb << 20
        record = _too_long(file, line, number, max_row_mb) if is_long else _record(file, inside, number)
        values = edits.of(record)
        if isinstance(record, Record) and (values or not edits.rewriter.columns.is_same):
            yield line_of(inside.decode(), values, edits) + _decoded(body[len(inside) :], file)
        else:
            yield _decoded(body, file)


def _record(file: RowFile, line: bytes, number: int) -> Record | BadRow:
    if file.format != "fasttext":
        return json_record(line, number, file.name)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raw = line.decode("utf-8", "backslashreplace")
        return BadRow(number, None, "bytes that are not UTF-8", raw, file.name)
    return Record(number, fasttext_columns(text), text)


def _too_long(file: RowFile, line: bytes, number: int, max_row_mb: int) -> BadRow:
    return long_record(LongLine(line[:START_BYTES], len(line)), number, file.name, max_row_mb)


def _decoded(line: bytes, file: RowFile) -> str:
    if not file.encoding.startswith(("utf-16", "utf-32")):
        return line.decode("utf-8", "surrogateescape")
    try:
        return line.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.name}: holds bytes that are not {file.encoding}, which cannot be carried over; save the "
            "file as UTF-8 first"
        ) from error


def _json_line(text: str, values: dict[Path, Any], edits: RowEdits) -> str:
    return with_values(with_keys(text, edits.rewriter.columns.names), values)


def _fasttext_line(text: str, values: dict[Path, Any], _: RowEdits) -> str:
    """The line with new names in the places of the old ones."""
    found = values.get(("labels",))
    if not isinstance(found, list):
        return text
    names = [MARK + re.sub(r"\s+", "_", name) for name in found]
    words: list[str] = []
    last = 0
    for word in text.split(" "):
        if not word.startswith(MARK):
            words.append(word)
        elif names:
            words.append(names.pop(0))
            last = len(words)
    return " ".join([*words[:last], *names, *words[last:]])


# Arrays


def _array(file: RowFile, stream: BinaryIO, edits: RowEdits, max_row_mb: int) -> Iterator[str]:
    """The array with the blanks around its first elements around all of them."""
    records = array_records(stream, file.name, max_row_mb)
    first = next(records, None)
    if first is None:
        yield head_text(file)
        return
    lead, between, tail = _layout(file, _raw(first))
    yield lead
    for place, record in enumerate(itertools.chain([first], records)):
        raw = _raw(record)
        values = edits.of(record)
        new = _json_line(raw, values, edits) if isinstance(record, Record) else raw
        yield (between if place else "") + new
    yield tail


def _raw(record: Record | BadRow) -> str:
    return record.raw or ""


def head_text(file: RowFile) -> str:
    """The beginning of a file as text."""
    with opened(file) as stream:
        return stream.read(_HEAD_CHARACTERS).removeprefix(BOM).decode("utf-8", "ignore")


def _layout(file: RowFile, first: str) -> tuple[str, str, str]:
    """What stands before the first element of an array, between two, and behind the last."""
    head = head_text(file)
    start = head.index("[") + 1
    blanks = head[start : len(head) - len(head[start:].lstrip())] if head[start:].strip() else ""
    rest = head[start + len(blanks) + len(first) :]
    found = re.match(r"\s*,\s*", rest)
    between = found.group() if found else f",{blanks or ' '}"
    with opened(file) as stream:
        last = b""
        while block := stream.read(_HEAD_CHARACTERS):
            last = (last + block)[-_HEAD_CHARACTERS:]
    tail = re.search(r"\s*\]\s*$", last.decode("utf-8", "ignore"))
    return head[: start + len(blanks)], between, tail.group() if tail else "]"


# Tables


def _table(
    header: Sequence[str], dialect: Dialect, pieces: Iterator[Piece], edits: RowEdits
) -> Iterator[str]:
    """Cells that have another value are written anew, all others stand as they stood."""
    line = _TableLine(header, dialect, edits)
    for piece in pieces:
        if piece.is_header:
            yield line.header(piece.text)
        elif piece.record is None:
            yield piece.text
        else:
            yield line.row(piece)


class _TableLine:
    def __init__(self, header: Sequence[str], dialect: Dialect, edits: RowEdits) -> None:
        self._header, self._dialect, self._edits = header, dialect, edits
        self._columns = edits.rewriter.columns

    def header(self, text: str) -> str:
        renamed = {(new,): new for new in self._columns.names.values() if new is not None}
        added = {(name,): name for name in self._columns.added}
        return text if self._columns.is_same else self._with_cells(text, {**renamed, **added})

    def row(self, piece: Piece) -> str:
        record = piece.record
        assert record is not None, "blank lines are no rows"  # noqa: S101
        fields = self._fields_of(piece) if isinstance(record, BadRow) else None
        values = self._edits.of(record, fields)
        is_whole = isinstance(record, Record) or fields is not None
        if not is_whole or (not values and self._columns.is_same):
            return piece.text
        return self._with_cells(piece.text, values)

    def _fields_of(self, piece: Piece) -> dict[str, str] | None:
        """The cells of a row that cannot be read; None where there are not as many as columns."""
        cells = self._dialect.raw_cells(piece.text.rstrip("\r\n"))
        if len(cells) != len(self._header):
            return None
        return dict(zip(self._header, cells, strict=True))

    def _with_cells(self, text: str, values: dict[Any, Any]) -> str:
        body = text.rstrip("\r\n")
        cells = self._dialect.raw_cells(body)
        last = len(self._header) - 1
        if len(cells) > len(self._header):
            cells = [*cells[:last], self._dialect.delimiter.join(cells[last:])]
        found = []
        for column, cell in zip(self._header, cells, strict=True):
            name = self._columns.names.get(column, column)
            if name is not None:
                found.append(self._cell(values[name,], cell) if (name,) in values else cell)
        like = cells[-1] if cells else ""
        found += [self._cell(values.get((name,), ""), like) for name in self._columns.added]
        return self._dialect.delimiter.join(found) + text[len(body) :]

    def _cell(self, value: Any, like: str) -> str:
        text = value if isinstance(value, str) else _text(value)
        return self._dialect.raw_cell(guarded(text), like)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(cast("object", value))
