"""A row with other labels, in the columns and the spelling that it has.

A row whose labels stay as they are, and are read so by the new names, is left as it stands. Every other one
is read again after it was written: what the new names do not read from it just so is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.errors import DataError
from cascade.rows.cells import flag_of, is_missing
from cascade.rows.json_edits import Path
from cascade.rows.layout import RowReader
from cascade.rows.names import KnownNames, LabelNames, folded
from cascade.rows.readings import Reading
from cascade.rows.row import RefusedError, quoted
from cascade.rows.shapes import without_end
from cascade.rows.spelling import CellSpelling, NewLabels, is_empty, spelled_like, usual
from cascade.taxonomy.definition import Taxonomy

_NUMBER = re.compile(r"[\s_.-]*\d+$")
_MOST_VARIANTS = 24


@dataclass(frozen=True)
class NewColumns:
    """What becomes of the columns of a file.

    Attributes
    ----------
    names
        Columns with another name than before; None for one that goes.
    added
        Columns that come at the end.
    """

    names: Mapping[str, str | None] = field(default_factory=dict)
    added: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        return not self.names and not self.added

    def header(self, old: Sequence[str]) -> list[str]:
        """The columns of a table that had those of `old`."""
        new = (self.names.get(column, column) for column in old)
        return [*(name for name in new if name is not None), *self.added]


class RowRewriter:
    """Rows of one file with other labels.

    Parameters
    ----------
    names
        The old names, by which the file was read.
    """

    def __init__(
        self, file: str, reading: Reading, names: LabelNames, old: Taxonomy, new: Taxonomy, *, is_table: bool
    ) -> None:
        self.reading = reading
        self._file, self._is_table = file, is_table
        self._before, self._after = KnownNames(names), KnownNames(new)
        self._taxonomy, self._old = new, old
        self._spelling = CellSpelling(reading, self._before, self._after, new, self._last_name)
        self._reader = RowReader(file, reading, self._before, is_table)
        self._flags: dict[str, str] = {}
        self._kept: dict[str, str] = {}  # 0/1 columns that stay -> their new label
        self._joined: dict[str, str] = {}  # 0/1 columns that go -> the one that speaks for them
        self.columns = NewColumns()
        self.new_reading = reading
        self.new_reader = RowReader(file, reading, self._after, is_table)

    def _last_name(self, name: str) -> str:
        return self._old.last_name(name) if name in self._old.graph.column else name

    @property
    def flag_columns(self) -> tuple[str, ...]:
        """0/1 columns that stay, as they were called."""
        return tuple(self._kept)

    # Before anything is written

    def look_at(self, fields: Mapping[str, Any]) -> None:
        """Learn from a row how the file writes what a single cell does not show."""
        if self.reading.labels_are == "flags":
            for column, label in self._flags_of(fields):
                self._flags.setdefault(column, label)
                self._look_at_flag(fields.get(column))
            return
        columns = self._columns_of(fields)
        for column in self.reading.labels:
            self._spelling.look_at(columns.get(column))

    def _look_at_flag(self, cell: Any) -> None:
        flag = None if is_missing(cell) else flag_of(cell)
        if flag is not None:
            (self._spelling.habits.yes if flag else self._spelling.habits.no)[_spelled_flag(cell)] += 1

    def _columns_of(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._reader.columns(fields)
        except RefusedError:
            return fields

    def _flags_of(self, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        taken = (*self.reading.text, self.reading.id)
        for column in self.reading.labels or [one for one in fields if one not in taken]:
            label = self._before.resolve(column)
            if label is not None:
                yield column, label

    def settle_columns(
        self, header: Sequence[str], became: Mapping[str, Sequence[str]], wanted: Iterable[str]
    ) -> None:
        """Settle the 0/1 columns of the new labels; nothing changes where labels stand otherwise.

        Parameters
        ----------
        header
            All columns of the file.
        became
            Each old label -> what surely stands in its place.
        wanted
            All labels that a row of the file will have.

        Raises
        ------
        DataError
            A new column would have the name of another one.
        """
        if self.reading.labels_are != "flags":
            return
        flags = dict(self._flags)
        flags |= {
            column: label for column, label in self._flags_of(dict.fromkeys(header)) if column not in flags
        }
        stay = {column: old for column, old in flags.items() if self._is_kept(column, old, became)}
        self._kept = dict(stay)
        names: dict[str, str | None] = {}
        for column, old in flags.items():
            if column not in stay:
                names[column] = self._new_name(column, old, tuple(became.get(old, ())))
        present = set(self._kept.values())
        added = tuple(label for label in self._taxonomy.graph.nodes if label in set(wanted) - present)
        names = {column: new for column, new in names.items() if new != column}
        self.columns = NewColumns(names, added)
        self._refuse_twice(header)
        self._use_columns()

    def _is_kept(self, column: str, old: str, became: Mapping[str, Sequence[str]]) -> bool:
        return tuple(became.get(old, ())) == (old,) and self._after.resolve(column) == old

    def _new_name(self, column: str, old: str, new: tuple[str, ...]) -> str | None:
        """What a 0/1 column is called for its new label; None where it goes, or another one speaks for it."""
        twin = next((one for one, label in self._kept.items() if label in new), None)
        if new and twin is None:
            self._kept[column] = new[0]
            return spelled_like(column, old, new[0])
        if twin is not None:
            self._joined[column] = twin
        return None

    def _refuse_twice(self, header: Sequence[str]) -> None:
        for name, count in Counter(self.columns.header(header)).items():
            if count > 1:
                raise DataError(
                    f"{self._file}: a 0/1 column for the label {quoted(name)} would have the name of another "
                    "column; give that one another name first"
                )

    def _use_columns(self) -> None:
        told = self.reading.labels
        if told:
            self.new_reading = replace(self.reading, labels=tuple(self.columns.header(told)))
        self.new_reader = RowReader(self._file, self.new_reading, self._after, self._is_table)

    # Row by row

    def values(self, fields: Mapping[str, Any], new: NewLabels) -> dict[Path, Any]:
        """What to put where for the new labels; empty where the row stays as it stands.

        Paths lead through the columns as they are called afterwards.

        Raises
        ------
        RefusedError
            The columns have no room for the new labels.
        """
        if self._stays(fields, new):
            return {}
        reason = ""
        for place, values in enumerate(self._variants(fields, new)):
            reason = self._fault(fields, values, new)
            if not reason:
                return values
            if place > _MOST_VARIANTS:
                break
        raise RefusedError(reason or "its labels cannot be written")

    def _stays(self, fields: Mapping[str, Any], new: NewLabels) -> bool:
        if new.is_other or not self.columns.is_same:
            return False
        return not self._fault(fields, {}, new)

    def carried(self, fields: Mapping[str, Any]) -> dict[Path, Any]:
        """What to put where in a row that cannot be read, so that nothing of it goes with a column."""
        found: dict[Path, Any] = {}
        for column, kept in self._joined.items():
            value = fields.get(column)
            says_more = not is_missing(value) and flag_of(value) is not False
            if says_more and flag_of(fields.get(kept)) is not None:
                found[self._named(kept),] = value
        return found

    def _fault(self, fields: Mapping[str, Any], values: Mapping[Path, Any], new: NewLabels) -> str:
        """Why the row, so written, does not say the new labels; empty where it does."""
        written = self.rewritten(fields, values) if values or not self.columns.is_same else fields
        try:
            found = self.new_reader.labels(self.new_reader.columns(written))
        except RefusedError as refusal:
            return f"cannot be written in its columns: {refusal}"
        if set(found) == set(new.labels):
            return ""
        wanted = ", ".join(map(repr, new.labels)) or "none"
        return f"its columns have no room for the labels {wanted}"

    def rewritten(self, fields: Mapping[str, Any], values: Mapping[Path, Any]) -> dict[str, Any]:
        """The row with its new columns and values."""
        names = self.columns.names
        found = {
            str(names.get(column, column)): value
            for column, value in fields.items()
            if names.get(column, column) is not None
        }
        for path, value in values.items():
            found = _put(found, path, value)
        return found

    def _variants(self, fields: Mapping[str, Any], new: NewLabels) -> Iterator[dict[Path, Any]]:
        reading = self.reading
        if reading.labels_are == "flags":
            yield self._flag_values(fields, new)
        elif reading.format == "chat":
            path, content = _answer_in(fields)
            for cell in self._spelling.cells(content, new):
                yield {path: cell}
        elif reading.format == "prompt":
            for text in self._completions(fields.get("completion"), new):
                yield {("completion",): text}
        elif reading.labels_are == "levels":
            yield from self._levels(fields, new)
        elif len(reading.labels) == 1:
            column = reading.labels[0]
            for cell in self._spelling.cells(fields.get(column), new):
                yield {(column,): cell}
        else:
            yield from self._several(fields, new)

    def _completions(self, value: Any, new: NewLabels) -> Iterator[str]:
        """The completion with what stands before and behind its labels."""
        whole = value if isinstance(value, str) else ""
        inside = str(without_end(whole, self.reading.completion_end))
        start = whole.find(inside) if inside else len(whole) - len(whole.lstrip())
        lead, tail = whole[:start], whole[start + len(inside) :]
        for cell in self._spelling.cells(inside, new):
            yield f"{lead}{cell}{tail}"
            yield f"{lead}{cell} {tail.lstrip()}"

    def _flag_values(self, fields: Mapping[str, Any], new: NewLabels) -> dict[Path, Any]:
        """Cells that say something else than before; of columns that were joined, a yes if there is one."""
        found: dict[Path, Any] = {}
        for column, label in self._kept.items():
            value = fields.get(column)
            wanted = label in new.labels
            if column not in fields:
                if wanted:
                    found[self._named(column),] = self._flag(wanted=True, like=value)
            elif flag_of(value) is not wanted:
                found[self._named(column),] = self._flag(wanted=wanted, like=value)
        if self._is_table:
            found |= {
                (label,): self._flag(wanted=label in new.labels, like=None) for label in self.columns.added
            }
        else:
            found |= {
                (one,): self._flag(wanted=True, like=None) for one in self.columns.added if one in new.labels
            }
        return found

    def _named(self, column: str) -> str:
        return self.columns.names.get(column) or column

    def _flag(self, *, wanted: bool, like: Any) -> Any:
        habits = self._spelling.habits
        word = usual(habits.yes if wanted else habits.no, "1" if wanted else "0")
        return _flag_like(like, word, wanted=wanted)

    def _several(self, fields: Mapping[str, Any], new: NewLabels) -> Iterator[dict[Path, Any]]:
        """Columns that hold names: each keeps what comes of its own; the rest goes into free ones."""
        columns = self.reading.labels
        left = dict.fromkeys(new.labels)
        cells: list[Any] = []
        for column in columns:
            value = fields.get(column)
            mine = [one for old in self._spelling.labels(value) for one in new.became.get(old, ())]
            mine = [one for one in dict.fromkeys(mine) if one in left]
            for one in mine:
                del left[one]
            became = {old: tuple(one for one in now if one in mine) for old, now in new.became.items()}
            cells.append(next(self._spelling.cells(value, NewLabels(tuple(mine), became))))
        if _is_series(columns):
            cells = self._moved_up(cells)
        for label in left:
            cells = self._placed(cells, label)
        yield {(column,): cell for column, cell in zip(columns, cells, strict=True)}

    def _moved_up(self, cells: list[Any]) -> list[Any]:
        filled = [cell for cell in cells if not self._says_none(cell)]
        return [*filled, *(cell for cell in cells if self._says_none(cell))]

    def _says_none(self, cell: Any) -> bool:
        return is_empty(cell) or (isinstance(cell, str) and self._before.is_none(cell.strip()))

    def _placed(self, cells: list[Any], label: str) -> list[Any]:
        for place, cell in enumerate(cells):
            if self._says_none(cell):
                return [*cells[:place], label, *cells[place + 1 :]]
        joined = f"{cells[-1]}{self.reading.delimiter}{label}"
        return [*cells[:-1], joined]

    def _levels(self, fields: Mapping[str, Any], new: NewLabels) -> Iterator[dict[Path, Any]]:
        """A level of the one path in each column."""
        columns = self.reading.labels
        written = [str(one) for column in columns if not self._says_none(one := fields.get(column))]
        if len(new.labels) > 1:
            raise RefusedError("its labels cannot be written in columns of levels, which hold one path")
        steps = self._steps(written, new)
        room = len(columns)
        if len(steps) <= room:
            yield self._level_values(columns, steps, fields)
        if steps:  # a level is left out, or the whole path stands in the last column
            gap = [""] * (room - len(steps))
            yield self._level_values(columns, [*steps[: min(room, len(steps)) - 1], *gap, steps[-1]], fields)
            whole = (self.reading.path_separator or "/").join(steps)
            yield self._level_values(columns, [*([""] * (room - 1)), whole], fields)

    def _steps(self, written: Sequence[str], new: NewLabels) -> list[str]:
        for label in new.labels:
            old = next((one for one, now in new.became.items() if label in now), label)
            return self._spelling.steps(label, written, old)
        return []

    def _level_values(
        self, columns: Sequence[str], steps: Sequence[str], fields: Mapping[str, Any]
    ) -> dict[Path, Any]:
        found: dict[Path, Any] = {}
        for place, column in enumerate(columns):
            old = fields.get(column)
            if place < len(steps) and steps[place]:
                found[column,] = steps[place]
            else:
                found[column,] = old if self._says_none(old) else self._spelling.none
        return found


def _put(fields: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The same with another value at a path; what lies on the way is copied."""
    top, *rest = path
    if not rest:
        return {**fields, str(top): value}
    return {**fields, str(top): _put_inside(fields[str(top)], rest, value)}


def _put_inside(held: Any, path: Sequence[Any], value: Any) -> Any:
    if not path:
        return value
    if isinstance(held, list):
        return [
            _put_inside(one, path[1:], value) if place == path[0] else one for place, one in enumerate(held)
        ]
    return {**held, path[0]: _put_inside(held.get(path[0]), path[1:], value)}


def _answer_in(fields: Mapping[str, Any]) -> tuple[Path, Any]:
    """Where the last answer of the assistant stands in a chat, and the text of it."""
    key = "messages" if "messages" in fields else "conversations"
    for place, one in reversed(list(enumerate(fields[key]))):
        if one.get("role", one.get("from")) in ("assistant", "gpt"):
            name = "content" if "content" in one else "value"
            content = one.get(name)
            if isinstance(content, list) and content and isinstance(content[0], dict):
                return (key, place, name, 0, "text"), content[0].get("text")
            return (key, place, name), content if isinstance(content, str) else ""
    raise RefusedError("a chat without an answer of the assistant")


def _is_series(columns: Sequence[str]) -> bool:
    return len({_NUMBER.sub("", folded(column)) for column in columns}) == 1


def _spelled_flag(cell: Any) -> str:
    return cell.strip() if isinstance(cell, str) else str(cell)


def _flag_like(like: Any, word: str, *, wanted: bool) -> Any:
    """Yes or no as a value of the type that `like` is; as text where that is text or not known."""
    if isinstance(like, bool):
        return wanted
    if isinstance(like, int | float) and not is_missing(like):
        return type(like)(wanted)
    if like is None and word in ("True", "False", "1", "0", "1.0", "0.0"):
        return {"True": True, "False": False, "1": 1, "0": 0, "1.0": 1.0, "0.0": 0.0}[word]
    return word
