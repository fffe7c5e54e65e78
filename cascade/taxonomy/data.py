"""Where the labelled rows are, and which columns to read."""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from yaml.nodes import Node, SequenceNode

from cascade.errors import DataError, Place, suggestion
from cascade.system.shapes import FILLED, FLAG, NAMES, Key, either, listed, one_of, whole
from cascade.taxonomy.patterns import TooManyError, files_matching, has_wildcard, is_dataset_folder, kind_of
from cascade.taxonomy.reader import Reader
from cascade.taxonomy.yaml_nodes import in_words, names_in, number_of

MOST_ROW_MB = 1024
"""What is to be a row has to fit into memory several times over."""
LabelsAre = Literal["names", "flags", "levels"]
"""Cells hold names; or 0 and 1, in a column for each label; or a level of one path each."""
RowFormat = Literal["plain", "chat", "prompt", "label_studio", "prodigy", "argilla"]
"""What a row is: columns; messages of a chat; prompt and completion; a task of an annotation tool."""
_COLUMNS = either(FILLED, listed(FILLED))

DATA: Mapping[str, Key] = {
    "train": Key("Labelled rows: a path relative to this file, a pattern, or a list of them.", NAMES),
    "test": Key("Rows to compare answers with: a path, a pattern, or a list of them.", NAMES),
    "format": Key("What a row is, where it is more than columns.", one_of(get_args(RowFormat))),
    "text": Key("The column of the text, or columns whose texts are put below each other.", _COLUMNS),
    "labels": Key("The column of labels, or a list of columns.", _COLUMNS),
    "labels_are": Key(
        "What columns of labels hold: names, flags (0 and 1, a column for each label), or levels of a path.",
        one_of(get_args(LabelsAre)),
    ),
    "labels_delimiter": Key("What stands between labels in one cell.", FILLED),
    "path_separator": Key("What stands between a label and the group it is in.", FILLED),
    "id": Key("The column of the id.", FILLED),
    "prompt_end": Key("What follows each prompt and is no part of the text.", FILLED),
    "completion_end": Key("What follows each completion and is no part of the labels.", FILLED),
    "encoding": Key("The encoding of text files: utf-8, utf-16, cp1252 ...", FILLED),
    "sheet": Key("The sheet of a spreadsheet.", FILLED),
    "header": Key(
        "Whether tables of text begin with the names of the columns; else those are column 1, column 2 ...",
        FLAG,
    ),
    "max_row_mb": Key("How many MB a row may have; 64 by default.", whole(1, MOST_ROW_MB)),
}
DATA_KEYS = tuple(DATA)


@dataclass(frozen=True)
class DataSpec:
    """Where the labelled rows are and how they are written; `train` and `test` are kept as written.

    What is None is not told, and is seen from the rows themselves.

    Attributes
    ----------
    text
        The column of the text, or several, whose texts are put below each other.
    labels
        The column of the labels, or several.
    labels_are
        What columns of labels hold: ``names``, ``flags`` (0 and 1, in a column for each label) or ``levels``
        (a column for each level of a path).
    labels_delimiter
        Stands between names in a cell.
    path_separator
        Stands between a name and the group it is in.
    format
        ``chat`` and ``prompt`` are files of fine-tunes, others exports of annotation tools.
    prompt_end, completion_end
        What follows each prompt and completion and belongs to neither text nor labels.
    encoding
        Of a text file, by a name that Python knows.
    sheet
        Of a spreadsheet.
    header
        Whether tables of text begin with the names of their columns; else these are ``column 1`` and so on.
    """

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    format: RowFormat | None = None
    text: str | tuple[str, ...] | None = None
    labels: str | tuple[str, ...] | None = None
    labels_are: LabelsAre | None = None
    labels_delimiter: str | None = None
    path_separator: str | None = None
    id: str | None = None
    prompt_end: str | None = None
    completion_end: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    header: bool | None = None
    max_row_mb: int | None = None
    base: Path = field(default=Path(), compare=False)
    train_places: tuple[Place, ...] = field(default=(), compare=False, repr=False)
    test_places: tuple[Place, ...] = field(default=(), compare=False, repr=False)

    def files(self, which: Literal["train", "test"]) -> tuple[Path, ...]:
        """The files of `which`, relative ones taken from `base`, each once; those of a glob are sorted.

        Raises
        ------
        DataError
            For the first pattern without a file, or with far too many, with its place in the taxonomy.
        """
        patterns, places = (
            (self.train, self.train_places) if which == "train" else (self.test, self.test_places)
        )
        found: dict[Path, None] = {}
        for index, pattern in enumerate(patterns):
            where = f"{places[index]}: " if index < len(places) else ""
            try:
                files = self._matching(pattern)
            except TooManyError as error:
                raise DataError(
                    f"{where}data.{which} {pattern!r} {error}; expected fewer. Name the folder more exactly, "
                    "such as 'data/*.jsonl'."
                ) from error
            if not files:
                raise DataError(f"{where}{self._missing(which, pattern)}")
            found.update(dict.fromkeys(files))
        return tuple(found)

    def _matching(self, pattern: str) -> list[Path]:
        path = self.base / os.path.expanduser(pattern)  # noqa: PTH111  # the method raises for an unknown user
        is_there = path.is_file() or is_dataset_folder(path)
        if is_there or not has_wildcard(pattern):
            return [path] if is_there else []
        return files_matching(self.base, pattern)

    def _missing(self, which: str, pattern: str) -> str:
        base = self.base.absolute()
        if has_wildcard(pattern):
            return f"no file matches data.{which} {pattern!r}, looked for from {base}."
        path = self.base / os.path.expanduser(pattern)  # noqa: PTH111  # the method raises for an unknown user
        if path.is_dir():
            inside = pattern.rstrip("/") + "/*.jsonl"
            return f"data.{which} {pattern!r} is a folder; expected a file or a pattern such as {inside!r}."
        if kind := kind_of(path):
            return f"data.{which} {pattern!r} is {kind}; expected a file."
        hint = suggestion(path.name, names_in(path.parent))
        return f"data.{which} {pattern!r} does not exist, looked for from {base}.{hint}"


def read_data(given: Mapping[str, Node], reader: Reader, base: Path) -> DataSpec:
    if "data" not in given:
        return DataSpec(base=base)
    data = reader.section(given["data"], "data", DATA_KEYS)
    train = reader.names(data["train"], "data.train") if "train" in data else []
    test = reader.names(data["test"], "data.test") if "test" in data else []
    return DataSpec(
        train=tuple(named.name for named in train),
        test=tuple(named.name for named in test),
        format=_read_choice(data, "format", get_args(RowFormat), reader),
        text=_read_columns(data, "text", reader),
        labels=_read_columns(data, "labels", reader),
        labels_are=_read_choice(data, "labels_are", get_args(LabelsAre), reader),
        labels_delimiter=_read_separator(data, "labels_delimiter", reader),
        path_separator=_read_separator(data, "path_separator", reader),
        id=_read_column(data, "id", reader),
        prompt_end=_read_separator(data, "prompt_end", reader),
        completion_end=_read_separator(data, "completion_end", reader),
        encoding=_read_encoding(data, reader),
        sheet=_read_column(data, "sheet", reader),
        header=reader.flag(data["header"], "data.header") if "header" in data else None,
        max_row_mb=_read_size(data, reader),
        base=base,
        train_places=tuple(named.place for named in train),
        test_places=tuple(named.place for named in test),
    )


def _read_column(data: Mapping[str, Node], key: str, reader: Reader) -> str | None:
    """A column name as written: that of a real file may begin with a blank, but is never empty."""
    if key not in data:
        return None
    column = reader.text(data[key], f"data.{key}")
    if column == "":
        reader.complain(data[key], f"data.{key} is empty; expected the name of a column")
    return column


def _read_columns(data: Mapping[str, Node], key: str, reader: Reader) -> str | tuple[str, ...] | None:
    node = data.get(key)
    if not isinstance(node, SequenceNode):
        return _read_column(data, key, reader)
    columns = [_read_column({key: each}, key, reader) for each in node.value]
    if not columns:
        several = "several columns" if key == "text" else "a list of 0/1 columns"
        reader.complain(node, f"data.{key} is an empty list; expected a column, or {several}")
    for index, column in enumerate(columns):
        if column in columns[:index]:
            reader.complain(node.value[index], f"data.{key} names the column {column!r} twice; keep one")
    return tuple(column for column in columns if column is not None)


_Choice = TypeVar("_Choice", bound=str)


def _read_choice(
    data: Mapping[str, Node], key: str, choices: tuple[_Choice, ...], reader: Reader
) -> _Choice | None:
    if key not in data:
        return None
    found = reader.choice(data[key], f"data.{key}", choices)
    return next((choice for choice in choices if choice == found), None)


def _read_encoding(data: Mapping[str, Node], reader: Reader) -> str | None:
    name = _read_column(data, "encoding", reader)
    if name is not None:
        try:
            codecs.lookup(name)
        except LookupError:
            reader.complain(
                data["encoding"], f"data.encoding is {name!r}; expected such as utf-8, utf-16 or cp1252"
            )
            return None
    return name


def _read_size(data: Mapping[str, Node], reader: Reader) -> int | None:
    if "max_row_mb" not in data:
        return None
    size = number_of(data["max_row_mb"])
    if isinstance(size, int) and 1 <= size <= MOST_ROW_MB:
        return size
    found = in_words(data["max_row_mb"])
    reader.complain(
        data["max_row_mb"], f"data.max_row_mb is {found}; expected a whole number from 1 to {MOST_ROW_MB}"
    )
    return None


def _read_separator(data: Mapping[str, Node], key: str, reader: Reader) -> str | None:
    if key not in data:
        return None
    separator = reader.text(data[key], f"data.{key}")
    if separator == "":
        such = "';'" if key == "labels_delimiter" else "' > '"
        reader.complain(data[key], f"data.{key} is empty; expected for instance {such}")
    return separator or None
