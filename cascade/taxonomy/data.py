"""Where the labelled rows are, and which columns to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from yaml.nodes import Node, SequenceNode

from cascade.errors import DataError, Place, suggestion
from cascade.system.shapes import FILLED, NAMES, Key, either, listed, whole
from cascade.taxonomy.patterns import TooManyError, files_matching, has_wildcard, kind_of
from cascade.taxonomy.reader import Reader
from cascade.taxonomy.yaml_nodes import in_words, names_in, number_of

MOST_ROW_MB = 1024
"""What is to be a row has to fit into memory several times over."""
DATA: Mapping[str, Key] = {
    "train": Key("Labelled rows: a path relative to this file, a pattern, or a list of them.", NAMES),
    "test": Key("Rows to compare answers with: a path, a pattern, or a list of them.", NAMES),
    "text": Key("The column of the text.", FILLED),
    "labels": Key("The column of labels, or a list of 0/1 columns.", either(FILLED, listed(FILLED))),
    "labels_delimiter": Key("What stands between labels in one cell; ; by default.", FILLED),
    "id": Key("The column of the id.", FILLED),
    "max_row_mb": Key("How many MB a row may have; 64 by default.", whole(1, MOST_ROW_MB)),
}
DATA_KEYS = tuple(DATA)


@dataclass(frozen=True)
class DataSpec:
    """Where the labelled rows are and which columns to read; `train` and `test` are kept as written."""

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    text: str | None = None
    labels: str | tuple[str, ...] | None = None
    labels_delimiter: str = ";"
    id: str | None = None
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
        if path.is_file() or not has_wildcard(pattern):
            return [path] if path.is_file() else []
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
        text=_read_column(data, "text", reader),
        labels=_read_label_columns(data, reader),
        labels_delimiter=_read_delimiter(data, reader),
        id=_read_column(data, "id", reader),
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


def _read_label_columns(data: Mapping[str, Node], reader: Reader) -> str | tuple[str, ...] | None:
    node = data.get("labels")
    if not isinstance(node, SequenceNode):
        return _read_column(data, "labels", reader)
    columns = [_read_column({"labels": each}, "labels", reader) for each in node.value]
    if not columns:
        reader.complain(node, "data.labels is an empty list; expected a column, or a list of 0/1 columns")
    for index, column in enumerate(columns):
        if column in columns[:index]:
            reader.complain(node.value[index], f"data.labels names the column {column!r} twice; keep one")
    return tuple(column for column in columns if column is not None)


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


def _read_delimiter(data: Mapping[str, Node], reader: Reader) -> str:
    if "labels_delimiter" not in data:
        return ";"
    delimiter = reader.text(data["labels_delimiter"], "data.labels_delimiter")
    if delimiter == "":
        reader.complain(data["labels_delimiter"], "data.labels_delimiter is empty; expected for instance ';'")
    return delimiter or ";"
