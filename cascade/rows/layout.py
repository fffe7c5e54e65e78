"""Records to rows, all of a file by one reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from cascade.errors import DataError, suggestion
from cascade.rows.cells import LabelParser, flag_of, is_missing
from cascade.rows.names import KnownNames, folded
from cascade.rows.readings import Reading
from cascade.rows.row import BadRow, RefusedError, Row, json_text, kind_of, quoted
from cascade.rows.shapes import as_columns

_LISTED_COLUMNS = 20
# Rows of one file have a handful of sets of columns; where each has its own, none is worth remembering.
_FLAGS_REMEMBERED = 1000


class Record(NamedTuple):
    """The columns of one row, not yet understood; `raw` is None where they are all there is."""

    number: int
    fields: dict[str, Any]
    raw: str | None


@dataclass(frozen=True)
class RowReader:
    """Rows by one reading; `names` is None where labels are not read."""

    file: str
    reading: Reading
    names: KnownNames | None
    is_table: bool
    _flags: dict[tuple[str, ...], tuple[tuple[str, str], ...]] = field(default_factory=dict, repr=False)

    def to_row(self, record: Record | BadRow) -> Row | BadRow:
        """The row that a record stands for."""
        if isinstance(record, BadRow):
            return record
        try:
            return self._usable_row(record)
        except RefusedError as refusal:
            return self._bad_row(record, str(refusal))

    def _usable_row(self, record: Record) -> Row:
        number, fields, _ = record
        columns: Mapping[str, Any] = fields if self._is_plain else self.columns(fields)
        text = None if self._text_column is None else columns.get(self._text_column)
        if type(text) is not str or not text.isascii():
            text = self._text(columns)
        labels = () if self.names is None else self.labels(columns)
        identity = _identity(fields, self._id_column, number)
        if type(identity) is str and not is_well_formed(identity):
            raise RefusedError("the id holds half of a surrogate pair, which UTF-8 cannot carry")
        return Row(number, identity, text, labels, fields, self.file)

    # What every row needs is looked up once.

    @cached_property
    def _is_plain(self) -> bool:
        return self.reading.format == "plain"

    @cached_property
    def _text_column(self) -> str | None:
        return self.reading.text[0] if len(self.reading.text) == 1 else None

    @cached_property
    def _id_column(self) -> str | None:
        return self.reading.id

    @cached_property
    def _one_column(self) -> str | None:
        """The column of labels where all names stand in one."""
        is_one = self.reading.labels_are == "names" and len(self.reading.labels) == 1
        return self.reading.labels[0] if is_one else None

    def columns(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The columns of a row, whatever its format."""
        reading = self.reading
        return as_columns(fields, reading.format, reading.prompt_end, reading.completion_end)

    def _bad_row(self, record: Record, reason: str) -> BadRow:
        raw = record.raw
        if raw is None:
            raw = json_text(record.fields)
        identity: str | int | None = _identity(record.fields, self.reading.id, record.number)
        if isinstance(identity, str) and not is_well_formed(identity):
            identity = None
        return BadRow(record.number, identity, reason, raw, self.file)

    def _text(self, columns: Mapping[str, Any]) -> str:
        wanted = self.reading.text
        if len(wanted) == 1:
            return _text_in(columns, wanted[0])
        present = [column for column in wanted if column in columns]
        if not present:
            require_column(wanted[0], "text", tuple(columns))
        found = [_text_in(columns, one) for one in present if not is_missing(columns[one])]
        return "\n".join(text for text in found if text.strip())

    def labels(self, columns: Mapping[str, Any]) -> tuple[str, ...]:
        """The labels that the columns of a row hold, each once.

        Raises
        ------
        RefusedError
            One of them is unknown, or a cell holds none.
        """
        if self._one_column is not None:
            return self._parser.labels(columns.get(self._one_column), self._one_column)
        match self.reading.labels_are:
            case "flags":
                flags = self._flags_of(columns)
                return tuple(dict.fromkeys(label for column, label in flags if _is_flagged(columns, column)))
            case "levels":
                return self._of_levels(columns)
        found = [self._parser.labels(columns.get(column), column) for column in self.reading.labels]
        return tuple(dict.fromkeys(label for each in found for label in each))

    @cached_property
    def _parser(self) -> LabelParser:
        assert self.names is not None, "labels are read with names alone"  # noqa: S101
        return LabelParser(self.names, self.reading.delimiter, self.reading.path_separator)

    def _of_levels(self, columns: Mapping[str, Any]) -> tuple[str, ...]:
        """The name at the end of the levels; the last may hold several names, or the whole path."""
        names = self.names
        assert names is not None, "labels are read with names alone"  # noqa: S101
        cells = [columns.get(column) for column in self.reading.labels]
        steps = [_level(cell, names) for cell in cells]
        last = max((place for place, step in enumerate(steps) if step is not None), default=None)
        if last is None:
            return ()
        above = [step for step in steps[:last] if isinstance(step, str)]
        if len(above) < last and any(step is None for step in steps[:last]) and self.is_table:
            raise RefusedError("a path with an empty part: a level is empty and one below it is not")
        end = steps[last]
        if isinstance(end, str) and above:
            return (self._below(names, above, end),)
        return self._parser.labels(end, self.reading.labels[last])

    def _below(self, names: KnownNames, above: Sequence[str], end: str) -> str:
        try:
            return names.find([*above, end])
        except RefusedError as refusal:
            # Each level may repeat the path so far.
            try:
                found = self._parser.labels(end, self.reading.labels[-1])
            except RefusedError:
                raise refusal from None
            if len(found) == 1 and self._stands_in(names, found[0], above[-1]):
                return found[0]
            raise

    def _stands_in(self, names: KnownNames, name: str, above: str) -> bool:
        try:
            group = self._parser.labels(above, "")
        except RefusedError:
            return False
        return len(group) == 1 and names.is_below(name, group[0])

    def _flags_of(self, columns: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Columns of 0 and 1 with the labels that they stand for."""
        names, present = self.names, tuple(columns)
        assert names is not None, "labels are read with names alone"  # noqa: S101
        found = self._flags.get(present)
        if found is None:
            wanted = self.reading.labels or [one for one in present if self._may_be_flag(one, names)]
            found = tuple((column, flag_label(column, names)) for column in wanted)
            if len(self._flags) < _FLAGS_REMEMBERED:
                self._flags[present] = found
        return found

    def _may_be_flag(self, column: str, names: KnownNames) -> bool:
        return column not in (*self.reading.text, self.reading.id) and names.of_flag(column) is not None


def flag_label(column: str, names: KnownNames) -> str:
    """The label that a 0/1 column is named like; RefusedError if there is none."""
    label = names.of_flag(column)
    if label is None:
        raise RefusedError(f"a 0/1 column has the name of an {names.unknown(column)}")
    return label


def _level(cell: Any, names: KnownNames) -> Any:
    """A step of a path; None where there is none."""
    if is_missing(cell):
        return None
    if isinstance(cell, int) and not isinstance(cell, bool):
        cell = str(cell)
    if isinstance(cell, str):
        cell = cell.strip()
        return None if names.is_none(cell) else cell
    return cell or None


def _text_in(columns: Mapping[str, Any], column: str) -> str:
    require_column(column, "text", columns)
    text = columns[column]
    if not (isinstance(text, str) and is_well_formed(text)):
        raise _unusable_text(text, column)
    return text


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


def require_column(column: str, use: str, present: Sequence[str] | Mapping[str, Any]) -> None:
    if column not in present:
        raise RefusedError(
            f"no column {quoted(column)} for the {use}; there {listed_columns(tuple(present))}."
            f"{suggestion(column, tuple(present))}"
        )


def listed_columns(columns: Sequence[str]) -> str:
    if not columns:
        return "are no columns"
    verb = "is" if len(columns) == 1 else "are"
    named = ", ".join(quoted(column) for column in columns[:_LISTED_COLUMNS])
    more = len(columns) - _LISTED_COLUMNS
    return f"{verb} {named}" + (f" and {more} more" if more > 0 else "")


def id_column(told: str | None, present: Sequence[str], text: Sequence[str]) -> str | None:
    """The column of the id: the one that was told, else the one called so."""
    if told is not None:
        return told
    found = [column for column in present if folded(column) == "id" and column not in text]
    return "id" if "id" in found else (found[0] if found else None)


def _identity(fields: Mapping[str, Any], column: str | None, number: int) -> str | int:
    value = None if column is None else fields.get(column)
    if type(value) is str and value:
        return value
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


def _is_flagged(fields: Mapping[str, Any], column: str) -> bool:
    value = fields.get(column)
    flag = flag_of(value)
    if flag is None:
        found = quoted(value) if isinstance(value, str) else kind_of(value)
        raise RefusedError(f"column {quoted(column)} holds {found}; expected 0 or 1")
    return flag


def is_well_formed(text: str) -> bool:
    """Whether text can be written as UTF-8, that is, holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
