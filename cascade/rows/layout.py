"""What the columns of a row mean, whatever format they came in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from cascade.errors import DataError, suggestion
from cascade.rows.files import RowFile
from cascade.rows.row import (
    SHOWN_CHARACTERS,
    BadRow,
    Columns,
    LabelNames,
    RefusedError,
    Row,
    json_text,
    kind_of,
    quoted,
)

_LISTED_COLUMNS = 20
# Searching for the nearest name takes milliseconds, and a wrong column can hold a million unknown ones.
_SUGGESTIONS_PER_FILE = 200
# Rows of one file have a handful of sets of columns; where each has its own, none is worth remembering.
_LAYOUTS_REMEMBERED = 1000
_FLAGS = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


class Record(NamedTuple):
    """The columns of one row, not yet understood; `raw` is None where they are all there is."""

    number: int
    fields: dict[str, Any]
    raw: str | None


class Layout(NamedTuple):
    """The columns of text, id and labels; `flags` are 0/1 columns, each with the label that it stands for."""

    text: str
    id: str | None
    labels: str | None
    flags: tuple[tuple[str, str], ...]


class _Suggestions:
    """The caller's names, with suggestions remembered and rationed."""

    def __init__(self, names: LabelNames) -> None:
        self.resolve = names.resolve
        self._suggest = names.suggest
        self._suggested: dict[str, str] = {}

    def unknown(self, name: str) -> str:
        return f"unknown label {quoted(name)}.{self._suggestion(name)}"

    def _suggestion(self, name: str) -> str:
        if name not in self._suggested:
            if len(self._suggested) >= _SUGGESTIONS_PER_FILE or len(name) > SHOWN_CHARACTERS:
                return ""
            self._suggested[name] = self._suggest(name)
        return self._suggested[name]


@dataclass(frozen=True, slots=True)
class RowReader:
    file: str
    columns: Columns
    names: _Suggestions | None
    is_table: bool
    is_text_table: bool
    layouts: dict[tuple[str, ...], Layout]

    @classmethod
    def of(cls, file: RowFile, columns: Columns, names: LabelNames | None) -> RowReader:
        if not columns.delimiter:
            raise DataError(f"{file.name}: the delimiter of labels is empty; expected a character such as ;")
        known = None if names is None else _Suggestions(names)
        reader = cls(file.name, columns, known, file.is_table, file.is_text_table, {})
        with as_data_error(file.name):
            reader._declared_flags()
        return reader

    def to_row(self, record: Record | BadRow, layout: Layout | None = None) -> Row | BadRow:
        """The row that a record stands for; without a layout its own columns tell."""
        if isinstance(record, BadRow):
            return record
        try:
            return self._usable_row(record, layout or self._layout_of(record.fields))
        except RefusedError as refusal:
            return self._bad_row(record, str(refusal))

    def _layout_of(self, fields: Mapping[str, Any]) -> Layout:
        present = tuple(fields)
        layout = self.layouts.get(present)
        if layout is None:
            layout = self.layout(present)
            if len(self.layouts) < _LAYOUTS_REMEMBERED:
                self.layouts[present] = layout
        return layout

    def _usable_row(self, record: Record, layout: Layout) -> Row:
        number, fields, _ = record
        text = fields[layout.text]
        if not (isinstance(text, str) and is_well_formed(text)):
            raise _unusable_text(text, layout.text)
        labels = () if self.names is None else self._labels(self.names, fields, layout)
        identity = _identity(fields, layout.id, number)
        if isinstance(identity, str) and not is_well_formed(identity):
            raise RefusedError("the id holds half of a surrogate pair, which UTF-8 cannot carry")
        return Row(number, identity, text, labels, fields, self.file)

    def _bad_row(self, record: Record, reason: str) -> BadRow:
        raw = record.raw
        if raw is None:
            raw = json_text(record.fields)
        identity: str | int | None = _identity(record.fields, self._id_column(record.fields), record.number)
        if isinstance(identity, str) and not is_well_formed(identity):
            identity = None
        return BadRow(record.number, identity, reason, raw, self.file)

    def _labels(self, names: _Suggestions, fields: Mapping[str, Any], layout: Layout) -> tuple[str, ...]:
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
            raise RefusedError(
                f"column {quoted(column)} holds {kind_of(value)}; expected a list of labels, "
                f"or text with {self.columns.delimiter!r} between them"
            )
        listed = _json_list(value) if self.is_text_table else None
        if listed is not None:
            return listed
        return [name for part in value.split(self.columns.delimiter) if (name := part.strip())]

    def table_layout(self, header: Sequence[str]) -> Layout:
        """The layout of all rows of a table; DataError where it lacks a column, or has two of one name."""
        refuse_duplicates(header, self.file)
        with as_data_error(self.file):
            return self.layout(header)

    def layout(self, present: Sequence[str]) -> Layout:
        """What the columns `present` hold; refuses if one is missing that is needed."""
        if self.is_table and self.columns.id is not None:
            _require(self.columns.id, "id", present)
        labels, flags = self._label_columns(present)
        text = self._text_column(present, labels, flags)
        return Layout(text, self._id_column(present), labels, flags)

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
            raise RefusedError(
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
            raise RefusedError(f"a 0/1 column has the name of an {self.names.unknown(column)}")
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


def refuse_duplicates(header: Sequence[str], file: str) -> None:
    places: dict[str, list[str]] = {}
    for place, name in enumerate(header, start=1):
        places.setdefault(name, []).append(str(place))
    for name, found in places.items():
        if len(found) > 1:
            raise DataError(
                f"{file}: columns {' and '.join(found)} are both named {quoted(name)}; give each its own name"
            )


@contextmanager
def as_data_error(file: str) -> Iterator[None]:
    try:
        yield
    except RefusedError as refusal:
        raise DataError(
            f"{file}: {refusal} The taxonomy can say under `data:` which column holds what"
        ) from refusal


def _require(column: str, use: str, present: Sequence[str]) -> None:
    if column not in present:
        raise RefusedError(
            f"no column {quoted(column)} for the {use}; there {_listed(present)}."
            f"{suggestion(column, present)}"
        )


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "are no columns"
    verb = "is" if len(columns) == 1 else "are"
    named = ", ".join(quoted(column) for column in columns[:_LISTED_COLUMNS])
    more = len(columns) - _LISTED_COLUMNS
    return f"{verb} {named}" + (f" and {more} more" if more > 0 else "")


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


def _unusable_text(value: Any, column: str) -> RefusedError:
    if isinstance(value, str):
        return RefusedError(
            f"column {quoted(column)} holds half of a surrogate pair, which UTF-8 cannot carry"
        )
    return RefusedError(f"column {quoted(column)} holds {kind_of(value)}; expected text")


def _label(element: Any, names: _Suggestions) -> str:
    is_number = isinstance(element, int) and not isinstance(element, bool)
    name = str(element) if is_number else element
    if not isinstance(name, str):
        raise RefusedError(f"a label is {kind_of(element)}; expected a name")
    label = names.resolve(name)
    if label is None:
        raise RefusedError(names.unknown(name))
    return label


def _is_flagged(fields: Mapping[str, Any], column: str) -> bool:
    value = fields.get(column)
    if _is_missing(value):
        return False
    flag = _FLAGS.get(str(value).strip().casefold()) if isinstance(value, str | int | float) else None
    if flag is None:
        found = quoted(value) if isinstance(value, str) else kind_of(value)
        raise RefusedError(f"column {quoted(column)} holds {found}; expected 0 or 1")
    return flag


def _json_list(cell: str) -> list[Any] | None:
    """The list that a cell holds as JSON, None if it holds none."""
    if not cell.lstrip().startswith("["):
        return None
    with suppress(ValueError, RecursionError):
        value = json.loads(cell)
        return value if isinstance(value, list) else None
    return None


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_well_formed(text: str) -> bool:
    """Whether text can be written as UTF-8, that is, holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
