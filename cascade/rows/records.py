"""Rows of text and labels, read from JSONL, CSV, TSV and Parquet files, and the rows that had to be refused.

Rows come one at a time, however long the file is. Whatever cannot be used is handed on as a `BadRow`, so
rows and bad rows together are always the whole file; a file that cannot be read as such raises `DataError`.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TextIO, cast

from cascade.errors import DataError, suggestion

if TYPE_CHECKING:
    from cascade.system.array_types import IntArray

STANDARD_INPUT = "<stdin>"

_BOM = b"\xef\xbb\xbf"
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_CSV_DELIMITERS = (",", ";", "\t", "|")
# The greatest C long on every platform; what a file may hold is for its owner to say.
_FIELD_LIMIT = 2**31 - 1
_PARQUET_BATCH_ROWS = 1000
_PARQUET_BUFFER_BYTES = 1 << 20
_LISTED_COLUMNS = 20
_SHOWN_CHARACTERS = 80
# Searching for the nearest name takes milliseconds, and a wrong column can hold a million unknown ones.
_SUGGESTIONS_PER_FILE = 200
# Rows of one file have a handful of sets of columns; where each has its own, none is worth remembering.
_LAYOUTS_REMEMBERED = 1000
_BLOCK_BYTES = 1 << 20
_BLANK_STARTS = b" \t\r\n\v\f" + _BOM[:1]

_FOREIGN_STARTS = {
    b"\x1f\x8b": "gzip data: give the file a name that ends in .gz",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"PK\x03\x04": "a spreadsheet or zip archive: export it as CSV in UTF-8",
}
_KINDS = {
    type(None): "null",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}
_FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; None means the usual names, see `read_rows`."""

    text: str | None = None
    labels: str | tuple[str, ...] | None = None
    id: str | None = None
    delimiter: str = ";"


class Row(NamedTuple):
    """A usable row: `labels` hold canonical names, `source` every column as it was read."""

    number: int
    id: str | int
    text: str
    labels: tuple[str, ...]
    source: Mapping[str, Any]
    file: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A refused row: `raw` is all of it as it stood, with escapes for bytes that are not UTF-8.

    `id` is None where the row could not be taken apart.
    """

    number: int
    id: str | int | None
    reason: str
    raw: str
    file: str


class LabelNames(Protocol):
    """The names that labels may have; a taxonomy is one."""

    def resolve(self, name: str) -> str | None:
        """Canonical name for a name or an alias, None when unknown."""

    def suggest(self, name: str) -> str:
        """`` Did you mean 'x'?``, or an empty string."""


def read_rows(path: str | Path, columns: Columns, names: LabelNames | None = None) -> Iterator[Row | BadRow]:
    """Rows of one file in its order, read as they are asked for.

    The suffix tells the format: .jsonl, .ndjson and .json (one object a line), .csv, .tsv, each also with
    .gz, and .parquet; ``-`` is standard input as JSONL.

    * Rows are numbered from 1; headers and blank lines are no rows and are not counted.
    * The id is the value of `columns.id` (else of a column ``id``) where that is text or a whole number,
      else the row's number.
    * The text stands in `columns.text`, else in ``text``; else, if `names` are given, in the one column that
      is neither id nor labels. In JSONL the first usable row settles that for the file.
    * Labels stand in the column `columns.labels` as a list or as delimited names, or in several 0/1 columns
      where it is a tuple; else in ``labels``, else in every column named like a label. Null, absent, NaN and
      empty mean no labels, and 0 in a 0/1 column.

    Parameters
    ----------
    names : LabelNames, optional
        Without it labels are not read: every row has ``labels=()``.

    Raises
    ------
    DataError
        At once for a file that is missing or of an unknown kind and for wrong settings; while reading for
        a damaged file and for a table without the columns needed.
    """
    file = _File.at(path)
    rules = _Rules.of(file, columns, names)
    return _rows_of(file, rules)


def read_all(
    paths: Sequence[str | Path], columns: Columns, names: LabelNames | None
) -> tuple[list[Row], list[BadRow]]:
    """Usable rows and refused rows of several files, each in order; see `read_rows`."""
    rows: list[Row] = []
    refused: list[BadRow] = []
    for path in paths:
        for row in read_rows(path, columns, names):
            if isinstance(row, Row):
                rows.append(row)
            else:
                refused.append(row)
    return rows, refused


def plain_row(columns: Columns, id: str | int, text: str) -> dict[str, Any]:  # noqa: A002
    """A row without labels, from which `read_rows` without label names reads the same."""
    return {columns.id or "id": id, columns.text or "text": text}


def labelled_row(
    columns: Columns,
    names: LabelNames,
    id: str | int,  # noqa: A002
    text: str,
    labels: Sequence[str],
) -> dict[str, Any]:
    """A row to be written as a line of JSONL, from which `read_rows` with the same arguments reads the same.

    Raises
    ------
    DataError
        Labels stand in 0/1 columns, and there is none for one of these.
    """
    row = plain_row(columns, id, text)
    if columns.labels is None or isinstance(columns.labels, str):
        return row | {columns.labels or "labels": list(labels)}
    flags = {column: names.resolve(column) for column in columns.labels}
    for label in labels:
        if label not in flags.values():
            raise DataError(
                f"label {_shown(label)}: the taxonomy's `data: labels:` lists 0/1 columns, and none for it. "
                "List it there too, or leave the list out"
            )
    return row | {column: int(label in labels) for column, label in flags.items()}


def row_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSONL."""
    return f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode()


# Slices


@dataclass(frozen=True, slots=True)
class ByteSlice:
    """Whole lines of a JSONL file, from byte `start` up to `stop`; `first` is the number of the first row."""

    first: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class RowSlice:
    """So many rows of a Parquet file from the row numbered `first` on."""

    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class HeldSlice:
    """Rows that were read already, from what can only be read from its start; without their columns."""

    held: tuple[Row | BadRow, ...]


Slice = ByteSlice | RowSlice | HeldSlice


def slices_of(path: str | Path, columns: Columns, most_rows: int, most_bytes: int) -> Iterator[Slice]:
    """The rows of one file, cut into slices that `read_slice` reads in any order and anywhere.

    A slice has `most_rows` rows, or fewer where those would be much longer than `most_bytes`; where it is cut
    depends on these and on the file alone. JSONL is looked through for line breaks, Parquet for its table of
    contents; tables of text, what is compressed and what is no file are read here, as slices are asked for.

    Raises
    ------
    DataError
        As for `read_rows`.
    """
    file = _File.at(path)
    rules = _Rules.of(file, columns, None)
    if file.suffix == ".parquet":
        return _row_slices(file, most_rows, most_bytes)
    if file.is_table or file.zipped or not file.path.is_file():
        return _held_slices(_rows_of(file, rules), most_rows, most_bytes)
    return _byte_slices(file, most_rows, most_bytes)


def read_slice(path: Path, columns: Columns, part: Slice, name: str) -> Iterator[Row | BadRow]:
    """The rows of a slice, as `read_rows` gives them without label names.

    Rows and complaints call the file by its `name`, which is the same on whatever machine it is read.
    """
    if isinstance(part, HeldSlice):
        return iter(part.held)
    file = replace(_File.at(path), name=_printable(name))
    rules = _Rules.of(file, columns, None)
    if isinstance(part, RowSlice):
        return _parquet_rows(file, rules, part)
    return _json_rows(_lines_of(file, part), rules, part.first)


def _held_slices(rows: Iterator[Row | BadRow], most_rows: int, most_bytes: int) -> Iterator[HeldSlice]:
    held: list[Row | BadRow] = []
    characters = 0
    for row in rows:
        if isinstance(row, Row):
            held.append(row._replace(source={}))
            characters += len(row.text)
        else:
            held.append(row)
            characters += len(row.raw)
        if len(held) >= most_rows or characters >= most_bytes:
            yield HeldSlice(tuple(held))
            held, characters = [], 0
    if held:
        yield HeldSlice(tuple(held))


def _byte_slices(file: _File, most_rows: int, most_bytes: int) -> Iterator[ByteSlice]:
    first, rows, start, position = 1, 0, 0, 0
    for block in _blocks(file):
        ends = _row_ends(block)
        for cut in ends[most_rows - rows - 1 :: most_rows].tolist():
            yield ByteSlice(first, start, position + cut)
            first, start = first + most_rows, position + cut
        rows = (rows + len(ends)) % most_rows
        position += len(block)
        if rows and position - start >= most_bytes:
            yield ByteSlice(first, start, position)
            first, rows, start = first + rows, 0, position
    if rows:
        yield ByteSlice(first, start, position)


def _blocks(file: _File) -> Iterator[bytes]:
    """The file in pieces that end with a line."""
    with _opened(file) as stream:
        while block := stream.read(_BLOCK_BYTES):
            yield block if block.endswith(b"\n") else block + stream.readline()


def _row_ends(block: bytes) -> IntArray:
    """Where each line ends that is a row."""
    import numpy as np

    content = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(content == ord("\n")) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    starts = np.append(0, ends[:-1])
    # What stands at the start of a line tells of nearly all lines that they are not blank.
    doubtful = np.flatnonzero(np.isin(content[starts], np.frombuffer(_BLANK_STARTS, np.uint8)))
    blank = [line for line in doubtful.tolist() if _is_blank_line(block[starts[line] : ends[line]])]
    rows: IntArray = np.delete(ends, blank)
    return rows


def _lines_of(file: _File, part: ByteSlice) -> Iterator[bytes]:
    with _opened(file) as stream:
        stream.seek(part.start)
        content = stream.read(part.stop - part.start)
    if len(content) != part.stop - part.start:
        raise DataError(f"{file.name}: became shorter while it was read. Run the same again")
    return iter(io.BytesIO(content))


def _row_slices(file: _File, most_rows: int, most_bytes: int) -> Iterator[RowSlice]:
    with _parquet_file(file) as table:
        groups = [table.metadata.row_group(place) for place in range(table.metadata.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        row_bytes = sum(group.total_byte_size for group in groups) / max(rows, 1)
    step = int(min(most_rows, max(1, most_bytes // max(row_bytes, 1))))
    # An empty table has columns that may be wrong, so there is always a slice.
    for start in range(0, max(rows, 1), step):
        yield RowSlice(start + 1, min(step, rows - start))


def refusal_line(bad: BadRow) -> str:
    """One JSON object without a line break: file, row, id, reason, raw."""
    fields = {"file": bad.file, "row": bad.number, "id": bad.id, "reason": bad.reason, "raw": bad.raw}
    return json.dumps(fields, ensure_ascii=False)


def summarise_bad(rows: Sequence[BadRow], limit: int = 20) -> str:
    """``FILE row 7: reason``, a line for each of the first `limit` rows, then how many more there are."""
    lines = [f"{bad.file} row {bad.number}: {bad.reason}" for bad in rows[:limit]]
    if len(rows) > limit:
        lines.append(f"... and {len(rows) - limit} more")
    return "\n".join(lines)


class _RefusedError(Exception):
    """A row or a header that cannot be used; the message is the reason."""


# Files


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    suffix: str
    zipped: bool

    @classmethod
    def at(cls, path: str | Path) -> _File:
        path = Path(path)
        if str(path) == "-":
            return cls(path, STANDARD_INPUT, ".jsonl", zipped=False)
        name = _printable(path)
        zipped = path.suffix.lower() == ".gz"
        suffix = (Path(path.stem) if zipped else path).suffix.lower()
        if suffix not in (*_JSON_SUFFIXES, ".csv", ".tsv") and (zipped or suffix != ".parquet"):
            _refuse_suffix(name)
        _refuse_absent(path, name)
        return cls(path, name, suffix, zipped)

    @property
    def is_table(self) -> bool:
        """Whether all rows have the same columns."""
        return self.suffix not in _JSON_SUFFIXES

    @property
    def is_text_table(self) -> bool:
        """Whether every cell is a string."""
        return self.suffix in (".csv", ".tsv")


def _printable(path: str | Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _refuse_suffix(name: str) -> None:
    raise DataError(
        f"{name}: unknown kind of file; expected a name that ends in .jsonl, .ndjson, .json, .csv or .tsv, "
        "each also with .gz, or in .parquet; or - for JSONL on standard input"
    )


def _refuse_absent(path: Path, name: str) -> None:
    with _explained(name):
        if path.is_dir():
            raise DataError(f"{name}: is a folder; name a file in it")
        if not path.exists():
            raise DataError(f"{name}: no such file.{_similar_file(path)}")


def _similar_file(path: Path) -> str:
    with suppress(OSError):
        neighbours = itertools.islice(path.parent.iterdir(), 1000)
        return suggestion(path.name, sorted(neighbour.name for neighbour in neighbours))
    return ""


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: damaged gzip data: {error}. Copy or compress the file again, or drop .gz from its name"
            " if it was never compressed"
        ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


@contextmanager
def _opened(file: _File) -> Iterator[BinaryIO]:
    with _explained(file.name):
        if file.name == STANDARD_INPUT:
            yield sys.stdin.buffer
        elif file.zipped:
            with gzip.open(file.path, "rb") as unzipped:
                yield cast("BinaryIO", unzipped)
        else:
            with file.path.open("rb") as plain:
                yield plain


def _refuse_foreign(start: bytes, file: str) -> None:
    for magic, advice in _FOREIGN_STARTS.items():
        if start.startswith(magic):
            raise DataError(f"{file}: looks like {advice}")


def _rows_of(file: _File, rules: _Rules) -> Iterator[Row | BadRow]:
    if file.suffix == ".parquet":
        yield from _parquet_rows(file, rules, None)
        return
    with _opened(file) as stream:
        yield from _csv_rows(stream, file, rules) if file.is_table else _json_rows(stream, rules)


# Rows: what the columns mean, whatever format they came in


class _Record(NamedTuple):
    """The columns of one row, not yet understood; `raw` is None where they are all there is."""

    number: int
    fields: dict[str, Any]
    raw: str | None


class _Layout(NamedTuple):
    """The columns of text, id and labels; `flags` are 0/1 columns, each with the label that it stands for."""

    text: str
    id: str | None
    labels: str | None
    flags: tuple[tuple[str, str], ...]


class _Names:
    """The caller's names, with suggestions remembered and rationed."""

    def __init__(self, names: LabelNames) -> None:
        self.resolve = names.resolve
        self._suggest = names.suggest
        self._suggested: dict[str, str] = {}

    def unknown(self, name: str) -> str:
        return f"unknown label {_shown(name)}.{self._suggestion(name)}"

    def _suggestion(self, name: str) -> str:
        if name not in self._suggested:
            if len(self._suggested) >= _SUGGESTIONS_PER_FILE or len(name) > _SHOWN_CHARACTERS:
                return ""
            self._suggested[name] = self._suggest(name)
        return self._suggested[name]


@dataclass(frozen=True, slots=True)
class _Rules:
    file: str
    columns: Columns
    names: _Names | None
    is_table: bool
    is_text_table: bool
    layouts: dict[tuple[str, ...], _Layout]

    @classmethod
    def of(cls, file: _File, columns: Columns, names: LabelNames | None) -> _Rules:
        if not columns.delimiter:
            raise DataError(f"{file.name}: the delimiter of labels is empty; expected a character such as ;")
        known = None if names is None else _Names(names)
        rules = cls(file.name, columns, known, file.is_table, file.is_text_table, {})
        with _as_data_error(file.name):
            rules._declared_flags()
        return rules

    def understood(self, record: _Record | BadRow, layout: _Layout | None = None) -> Row | BadRow:
        """The row that a record stands for; without a layout its own columns tell."""
        if isinstance(record, BadRow):
            return record
        try:
            return self._row(record, layout or self._layout_of(record.fields))
        except _RefusedError as refusal:
            return self._refused(record, str(refusal))

    def _layout_of(self, fields: Mapping[str, Any]) -> _Layout:
        present = tuple(fields)
        layout = self.layouts.get(present)
        if layout is None:
            layout = self.layout(present)
            if len(self.layouts) < _LAYOUTS_REMEMBERED:
                self.layouts[present] = layout
        return layout

    def _row(self, record: _Record, layout: _Layout) -> Row:
        number, fields, _ = record
        text = fields[layout.text]
        if not (isinstance(text, str) and _is_well_formed(text)):
            raise _unusable_text(text, layout.text)
        labels = () if self.names is None else self._labels(self.names, fields, layout)
        identity = _identity(fields, layout.id, number)
        if isinstance(identity, str) and not _is_well_formed(identity):
            raise _RefusedError("the id holds half of a surrogate pair, which UTF-8 cannot carry")
        return Row(number, identity, text, labels, fields, self.file)

    def _refused(self, record: _Record, reason: str) -> BadRow:
        raw = record.raw
        if raw is None:
            raw = _json_text(record.fields)
        identity: str | int | None = _identity(record.fields, self._id_column(record.fields), record.number)
        if isinstance(identity, str) and not _is_well_formed(identity):
            identity = None
        return BadRow(record.number, identity, reason, raw, self.file)

    def _labels(self, names: _Names, fields: Mapping[str, Any], layout: _Layout) -> tuple[str, ...]:
        if layout.labels is None:
            found = [label for column, label in layout.flags if _is_flagged(fields, column)]
        else:
            elements = self._elements(fields.get(layout.labels), layout.labels)
            found = [_label(element, names) for element in elements]
        return tuple(dict.fromkeys(found))

    def _elements(self, value: Any, column: str) -> list[Any]:
        if _is_missing(value):
            return []
        if isinstance(value, list):
            return value
        if not isinstance(value, str):
            raise _RefusedError(
                f"column {_shown(column)} holds {_kind(value)}; expected a list of labels, "
                f"or text with {self.columns.delimiter!r} between them"
            )
        listed = _json_list(value) if self.is_text_table else None
        if listed is not None:
            return listed
        return [name for part in value.split(self.columns.delimiter) if (name := part.strip())]

    def layout(self, present: Sequence[str]) -> _Layout:
        """What the columns `present` hold; refuses if one is missing that is needed."""
        if self.is_table and self.columns.id is not None:
            _require(self.columns.id, "id", present)
        labels, flags = self._label_columns(present)
        text = self._text_column(present, labels, flags)
        return _Layout(text, self._id_column(present), labels, flags)

    def _label_columns(self, present: Sequence[str]) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        wanted = self.columns.labels
        if self.names is None:
            return None, ()
        if wanted is None:
            return self._usual_label_columns(present)
        if self.is_table:
            for column in [wanted] if isinstance(wanted, str) else wanted:
                _require(column, "labels", present)
        return (wanted, ()) if isinstance(wanted, str) else (None, self._declared_flags())

    def _usual_label_columns(self, present: Sequence[str]) -> tuple[str | None, tuple[tuple[str, str], ...]]:
        taken = {self.columns.text or "text", self._id_column(present)}
        free = [column for column in present if column not in taken]
        if "labels" in free:
            return "labels", ()
        flags = self._flags(column for column in free if self._resolve(column) is not None)
        if self.is_table and not flags:
            raise _RefusedError(
                "no column of labels: expected one named 'labels', or 0/1 columns named like labels; "
                f"there {_listed(present)}."
            )
        return None, flags

    def _declared_flags(self) -> tuple[tuple[str, str], ...]:
        wanted = self.columns.labels
        return () if self.names is None or wanted is None or isinstance(wanted, str) else self._flags(wanted)

    def _flags(self, columns: Iterable[str]) -> tuple[tuple[str, str], ...]:
        return tuple((column, self._known(column)) for column in columns)

    def _known(self, column: str) -> str:
        label = self._resolve(column)
        if label is None and self.names is not None:
            raise _RefusedError(f"a 0/1 column has the name of an {self.names.unknown(column)}")
        return str(label)

    def _resolve(self, name: str) -> str | None:
        return None if self.names is None else self.names.resolve(name)

    def _id_column(self, present: Iterable[str]) -> str | None:
        if self.columns.id is not None:
            return self.columns.id
        return "id" if "id" in present and self.columns.text != "id" else None

    def _text_column(
        self, present: Sequence[str], labels: str | None, flags: tuple[tuple[str, str], ...]
    ) -> str:
        wanted = self.columns.text or "text"
        if wanted not in present and self.columns.text is None and self.names is not None:
            taken = {self._id_column(present), labels, *(column for column, _ in flags)}
            free = [column for column in present if column not in taken and not _is_index(column)]
            if len(free) == 1:
                return free[0]
        _require(wanted, "text", present)
        return wanted


@contextmanager
def _as_data_error(file: str) -> Iterator[None]:
    try:
        yield
    except _RefusedError as refusal:
        raise DataError(
            f"{file}: {refusal} The taxonomy can say under `data:` which column holds what"
        ) from refusal


def _require(column: str, use: str, present: Sequence[str]) -> None:
    if column not in present:
        raise _RefusedError(
            f"no column {_shown(column)} for the {use}; there {_listed(present)}."
            f"{suggestion(column, present)}"
        )


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "are no columns"
    shown = ", ".join(_shown(column) for column in columns[:_LISTED_COLUMNS])
    more = len(columns) - _LISTED_COLUMNS
    return f"{'is' if len(columns) == 1 else 'are'} {shown}" + (f" and {more} more" if more > 0 else "")


def _is_index(column: str) -> bool:
    """Whether pandas wrote this column on its own account."""
    return not column or column.startswith(("__index_level_", "Unnamed: "))


def _identity(fields: Mapping[str, Any], column: str | None, number: int) -> str | int:
    value = None if column is None else fields.get(column)
    # A column of whole numbers with gaps is a column of floats by the time pandas has written it.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return value
    return number


def _unusable_text(value: Any, column: str) -> _RefusedError:
    if isinstance(value, str):
        return _RefusedError(
            f"column {_shown(column)} holds half of a surrogate pair, which UTF-8 cannot carry"
        )
    return _RefusedError(f"column {_shown(column)} holds {_kind(value)}; expected text")


def _label(element: Any, names: _Names) -> str:
    is_number = isinstance(element, int) and not isinstance(element, bool)
    name = str(element) if is_number else element
    if not isinstance(name, str):
        raise _RefusedError(f"a label is {_kind(element)}; expected a name")
    label = names.resolve(name)
    if label is None:
        raise _RefusedError(names.unknown(name))
    return label


def _is_flagged(fields: Mapping[str, Any], column: str) -> bool:
    value = fields.get(column)
    if _is_missing(value):
        return False
    flag = _FLAGS.get(str(value).strip().casefold()) if isinstance(value, str | int | float) else None
    if flag is None:
        found = _shown(value) if isinstance(value, str) else _kind(value)
        raise _RefusedError(f"column {_shown(column)} holds {found}; expected 0 or 1")
    return flag


def _json_list(cell: str) -> list[Any] | None:
    """The list that a cell holds as JSON, None if it holds none."""
    if not cell.lstrip().startswith("["):
        return None
    with suppress(ValueError, RecursionError):
        value = json.loads(cell)
        return value if isinstance(value, list) else None
    return None


def _json_text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, default=str)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_well_formed(text: str) -> bool:
    """Whether text can be written as UTF-8, that is, holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = repr(value)
        return f"the number {number}" if len(number) <= _SHOWN_CHARACTERS else "a number"
    return _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


# JSONL


def _json_rows(lines: Iterable[bytes], rules: _Rules, first: int = 1) -> Iterator[Row | BadRow]:
    # Without labels no column is ever guessed.
    is_settled = rules.columns.text is not None or rules.names is None
    for record in _json_records(lines, rules.file, first):
        row = rules.understood(record)
        if not is_settled and isinstance(row, Row):
            # A later row without this column is a fault of that row, not an invitation to guess anew.
            layout = rules.layout(list(row.source))
            rules = replace(rules, columns=replace(rules.columns, text=layout.text), layouts={})
            is_settled = True
        yield row


def _json_records(lines: Iterable[bytes], file: str, first: int) -> Iterator[_Record | BadRow]:
    number = first - 1
    for line in lines:
        if _is_blank_line(line):
            continue
        line = line.removeprefix(_BOM).rstrip(b"\r\n")  # noqa: PLW2901
        number += 1
        if number == 1:
            _refuse_foreign(line, file)
            _refuse_array(line, file)
        yield _json_record(line, number, file)


def _is_blank_line(line: bytes) -> bool:
    line = line.removeprefix(_BOM)
    return not line or line.isspace()


def _refuse_array(line: bytes, file: str) -> None:
    inside = line.strip().removeprefix(b"[").lstrip()
    if line.lstrip().startswith(b"[") and inside[:1] in (b"", b"{"):
        raise DataError(
            f"{file}: holds one JSON array; expected one object a line. "
            "`jq -c '.[]' FILE > FILE.jsonl` turns one into the other"
        )


def _json_record(line: bytes, number: int, file: str) -> _Record | BadRow:
    try:
        text = line.decode()
        fields = _parsed(text)
    except (ValueError, RecursionError) as error:
        raw = line.decode("utf-8", "backslashreplace")
        return BadRow(number, None, _json_fault(error), raw, file)
    if not isinstance(fields, dict):
        return BadRow(number, None, f"{_kind(fields)}; expected a JSON object", text, file)
    return _Record(number, fields, text)


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


# CSV and TSV


class _Lines:
    """Lines of a file; those of the row in hand are kept."""

    def __init__(self, lines: Iterable[str], skipped: int) -> None:
        self._lines = iter(lines)
        self._first = skipped + 1
        self._taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken.append(line)
        return line

    def start_row(self) -> None:
        self._first += len(self._taken)
        self._taken = []

    def raw(self) -> str:
        return "".join(self._taken).rstrip("\r\n")

    def span(self) -> str:
        last = self._first + len(self._taken) - 1
        return f"line {last}" if last == self._first else f"lines {self._first} to {last}"


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row of a table, blank line or header; `fault` is empty where the cells can be trusted."""

    cells: list[str]
    raw: str
    fault: str


def _csv_rows(stream: BinaryIO, file: _File, rules: _Rules) -> Iterator[Row | BadRow]:
    # Bytes that are not UTF-8 become lone surrogates, which no proper text holds: rows with one are refused.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines, delimiter = _headed_lines(text, file)
        rows = _csv_cells(lines, delimiter)
        header = _csv_header(next(rows), file.name)
        with _as_data_error(file.name):
            layout = rules.layout(header)
        for record in _csv_records(rows, header, file.name, delimiter):
            yield rules.understood(record, layout)


def _headed_lines(text: TextIO, file: _File) -> tuple[_Lines, str]:
    """All lines from the header on, and the delimiter that the header shows."""
    for skipped, line in enumerate(text):
        if line.strip():
            _refuse_foreign(line[:4].encode("utf-8", "surrogateescape"), file.name)
            delimiter = "\t" if file.suffix == ".tsv" else _sniffed(line)
            return _Lines(itertools.chain([line], text), skipped), delimiter
    raise DataError(f"{file.name}: is empty; expected a header line with the names of the columns")


def _sniffed(header: str) -> str:
    def fields(delimiter: str) -> int:
        return len(_next_row(csv.reader([header], delimiter=delimiter)) or ())

    return max(_CSV_DELIMITERS, key=fields)


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    # The limit is the process's, not the reader's: it is ours only while a row is read.
    previous = csv.field_size_limit(_FIELD_LIMIT)
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(previous)


def _csv_cells(lines: _Lines, delimiter: str) -> Iterator[_Cells]:
    # Strict, since a lenient reader lets a stray quote swallow rows up to the next quote without a word.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.start_row()
        try:
            cells = _next_row(reader)
        except csv.Error as error:
            yield _Cells([], _escaped(lines.raw()), f"{lines.span()}: {_csv_fault(error)}")
            continue
        if cells is None:
            return
        raw = lines.raw()
        fault = "" if _is_well_formed(raw) else f"{lines.span()}: bytes that are not UTF-8"
        yield _Cells(cells, _escaped(raw) if fault else raw, fault)


def _csv_fault(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quote is opened and never closed"
    if "expected after" in str(error):
        return 'a closing quote in the middle of a field; inside quotes a quote is written as ""'
    return str(error)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _csv_header(first: _Cells, file: str) -> list[str]:
    if first.fault:
        raise DataError(f"{file}: the header cannot be read: {first.fault}")
    header = [name.strip() for name in first.cells]
    _refuse_duplicates(header, file)
    return header


def _refuse_duplicates(header: Sequence[str], file: str) -> None:
    places: dict[str, list[str]] = {}
    for place, name in enumerate(header, start=1):
        places.setdefault(name, []).append(str(place))
    for name, found in places.items():
        if len(found) > 1:
            raise DataError(
                f"{file}: columns {' and '.join(found)} are both named {_shown(name)}; give each its own name"
            )


def _csv_records(
    rows: Iterator[_Cells], header: Sequence[str], file: str, delimiter: str
) -> Iterator[_Record | BadRow]:
    number = 0
    for row in rows:
        if not row.fault and _is_blank(row, len(header)):
            continue
        number += 1
        fault = row.fault or _count_fault(row.cells, header, delimiter)
        if fault:
            yield BadRow(number, None, fault, row.raw, file)
        else:
            yield _Record(number, dict(zip(header, row.cells, strict=True)), row.raw)


def _is_blank(row: _Cells, n_columns: int) -> bool:
    return not row.cells or (len(row.cells) == 1 < n_columns and not row.raw.strip())


def _count_fault(cells: Sequence[str], header: Sequence[str], delimiter: str) -> str:
    if len(cells) == len(header):
        return ""
    return f"{len(cells)} fields; the header has {len(header)}. A field with {delimiter!r} in it needs quotes"


# Parquet


def _parquet_rows(file: _File, rules: _Rules, part: RowSlice | None) -> Iterator[Row | BadRow]:
    with _parquet_file(file) as table:
        header = list(table.schema_arrow.names)
        _refuse_duplicates(header, file.name)
        with _as_data_error(file.name):
            layout = rules.layout(header)
        part = part or RowSlice(1, table.metadata.num_rows)
        for record in _parquet_records(_batches(table, part), part.first, file.name):
            yield rules.understood(record, layout)


@contextmanager
def _parquet_file(file: _File) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By default a whole row group is held at once, which may be the whole file.
        with pq.ParquetFile(file.path, buffer_size=_PARQUET_BUFFER_BYTES, pre_buffer=False) as table:
            yield table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name}: not a Parquet file, or a damaged one: {error}") from error


def _batches(table: Any, part: RowSlice) -> Iterator[Any]:
    """The rows of a slice; other row groups are not read, other rows of the same ones are skipped."""
    sizes = [table.metadata.row_group(place).num_rows for place in range(table.metadata.num_row_groups)]
    offsets = list(itertools.accumulate(sizes, initial=0))
    start, stop = part.first - 1, part.first - 1 + part.rows
    groups = [place for place in range(len(sizes)) if offsets[place] < stop and offsets[place + 1] > start]
    position = offsets[groups[0]] if groups else stop
    for batch in table.iter_batches(_PARQUET_BATCH_ROWS, row_groups=groups):
        lower, upper = max(start - position, 0), min(stop - position, batch.num_rows)
        if lower < upper:
            yield batch.slice(lower, upper - lower)
        position += batch.num_rows
        if position >= stop:
            return


def _parquet_records(batches: Iterable[Any], first: int, file: str) -> Iterator[_Record | BadRow]:
    number = first - 1
    for batch in batches:
        rows = _batch_rows(batch)
        for place in range(batch.num_rows):
            number += 1
            if rows is None:
                yield _parquet_record(batch, place, number, file)
            else:
                yield _Record(number, rows[place], None)


def _batch_rows(batch: Any) -> list[dict[str, Any]] | None:
    """All rows of a batch, None if there is a cell in it for which Python has no value."""
    with suppress(ValueError, OverflowError):
        return cast("list[dict[str, Any]]", batch.to_pylist())
    return None


def _parquet_record(batch: Any, place: int, number: int, file: str) -> _Record | BadRow:
    fields: dict[str, Any] = {}
    faults = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        cell = column[place]
        try:
            fields[name] = cell.as_py()
        except (ValueError, OverflowError) as error:
            fields[name] = _cell_text(cell)
            faults.append(f"column {_shown(name)} cannot be read: {error}")
    if not faults:
        return _Record(number, fields, None)
    return BadRow(number, None, "; ".join(faults), _json_text(fields), file)


def _cell_text(cell: Any) -> Any:
    """What a cell without a Python value holds, as text: wrong UTF-8 escaped, a date far off written out."""
    import pyarrow as pa

    if not cell.is_valid:
        return None
    if isinstance(cell, pa.ListScalar):
        return [_cell_text(element) for element in cell.values]
    value = cell.value if isinstance(cell, pa.DictionaryScalar) else cell
    try:
        stored = value.cast(pa.string()).cast(pa.binary()).as_py()
    except pa.ArrowException:
        return f"(a value of type {cell.type})"
    return stored.decode("utf-8", "backslashreplace")
