"""Which columns of rows hold labels, and what they hold, where no taxonomy says which labels there are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cascade.draft.concepts import clean_name
from cascade.errors import DataError
from cascade.rows.candidates import USUAL_LABELS, is_index, usual_rank
from cascade.rows.cells import flag_of, is_missing
from cascade.rows.names import NONE_WORDS, folded
from cascade.rows.readings import Reading
from cascade.rows.row import quoted
from cascade.taxonomy.data import LabelsAre

Fields = Mapping[str, Any]
LEVELS = ("level", "lvl", "tier", "l", "ebene", "niveau", "nivel")
_SERIES = re.compile(r"(.*?)[\s_.-]*(\d+|[a-z])")
_LOOKED_AT = 1000
_NAME_MOST = 80


class Found(NamedTuple):
    """The columns of labels, and what they hold."""

    columns: tuple[str, ...]
    are: LabelsAre


def label_columns(file: str, rows: Sequence[Fields], reading: Reading, asked: Sequence[str] = ()) -> Found:
    """The columns with the labels: those asked for, else one or several of a usual name, else 0/1 columns.

    Raises
    ------
    DataError
        A column that was asked for is not there, or none is plainly of labels.
    """
    looked = rows[:_LOOKED_AT]
    present = list(dict.fromkeys(column for fields in looked for column in fields))
    _require(asked, present, file)
    taken = {*reading.text, reading.id}
    free = [column for column in present if column not in taken and not is_index(column)]
    if reading.format != "plain":
        return Found(tuple(asked) or ("labels",), "names")
    for group in [tuple(asked)] if asked else _groups(free):
        if group:
            return Found(group, _held(group, looked))
    flags = tuple(column for column in free if _is_flag(column, looked))
    if len(flags) > 1:
        return Found(flags, "flags")
    named = [column for column in free if _holds_names(column, looked)]
    if len(named) == 1:
        return Found((named[0],), "names")
    there = ", ".join(quoted(column) for column in present[:20]) or "none"
    raise DataError(
        f"{file}: no column is plainly that of the labels; there are {there}. Name it with --labels COLUMN"
    )


def _require(asked: Sequence[str], present: Sequence[str], file: str) -> None:
    for column in asked:
        if column not in present:
            there = ", ".join(quoted(one) for one in present[:20]) or "none"
            raise DataError(f"{file}: no column {quoted(column)} for the labels; there are {there}")


def _groups(free: Sequence[str]) -> list[tuple[str, ...]]:
    """Columns that may hold the labels: a series of levels, a series of labels, the one of a usual name."""
    series: dict[str, list[str]] = defaultdict(list)
    for column in free:
        found = _SERIES.fullmatch(folded(column))
        if found:
            series[found[1].strip()].append(column)
    several = {stem: tuple(columns) for stem, columns in series.items() if len(columns) > 1}
    levels = [columns for stem, columns in several.items() if stem in LEVELS]
    labels = [
        columns for stem, columns in several.items() if usual_rank(stem, USUAL_LABELS) < len(USUAL_LABELS)
    ]
    usual = sorted(free, key=lambda column: usual_rank(column, USUAL_LABELS))[:1]
    one = [(column,) for column in usual if usual_rank(column, USUAL_LABELS) < len(USUAL_LABELS)]
    return [*levels, *one, *labels] if not labels else [*levels, *labels, *one]


def _held(columns: Sequence[str], rows: Sequence[Fields]) -> LabelsAre:
    """Flags where all cells are; levels where each column has names of its own; else names."""
    if len(columns) == 1:
        return "names"
    if all(_is_flag(column, rows) for column in columns):
        return "flags"
    cells = [[_name(fields.get(column)) for column in columns] for fields in rows]
    names = [set(filter(None, column)) for column in zip(*cells, strict=True)]
    are_apart = len(set().union(*names)) == sum(map(len, names))
    return "levels" if are_apart else "names"


def _name(value: Any) -> str:
    name = "" if is_missing(value) else clean_name(value)
    return "" if folded(name) in NONE_WORDS else name


def _is_flag(column: str, rows: Sequence[Fields]) -> bool:
    told = [value for fields in rows if not is_missing(value := fields.get(column))]
    return bool(told) and all(flag_of(value) is not None for value in told)


def _holds_names(column: str, rows: Sequence[Fields]) -> bool:
    """Whether cells are as short as names are, and repeat."""
    cells = [name for fields in rows if (name := _name(fields.get(column)))]
    return bool(cells) and max(map(len, cells)) <= _NAME_MOST and 2 * len(set(cells)) <= len(cells)
