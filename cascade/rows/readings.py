"""How a file says its texts and labels: what is told of it, and what was settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, get_args

from cascade.errors import DataError
from cascade.rows.row import json_text
from cascade.taxonomy.data import DataSpec, LabelsAre, RowFormat

MAX_ROW_MB = 64
DELIMITER = ";"
"""What stands between labels where nothing else is told or seen."""
_MOST_LISTED = 6


@dataclass(frozen=True)
class Columns:
    """What is told of a file before it is looked at, None is not told; see `DataSpec` of the taxonomy.

    Of `optional`, some of ``text``, ``labels`` and ``id``, columns count only where the file has them: they
    were told of other files.
    """

    text: str | tuple[str, ...] | None = None
    labels: str | tuple[str, ...] | None = None
    id: str | None = None
    delimiter: str | None = None
    max_row_mb: int = MAX_ROW_MB
    labels_are: LabelsAre | None = None
    path_separator: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    header: bool | None = None
    format: RowFormat | None = None
    prompt_end: str | None = None
    completion_end: str | None = None
    optional: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: DataSpec) -> Columns:
        """What a taxonomy says of its rows."""
        return cls(
            text=data.text,
            labels=data.labels,
            id=data.id,
            delimiter=data.labels_delimiter,
            max_row_mb=data.max_row_mb or MAX_ROW_MB,
            labels_are=data.labels_are,
            path_separator=data.path_separator,
            encoding=data.encoding,
            sheet=data.sheet,
            header=data.header,
            format=data.format,
            prompt_end=data.prompt_end,
            completion_end=data.completion_end,
        )

    @classmethod
    def of_others(
        cls,
        data: DataSpec,
        *,
        text: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> Columns:
        """The same for files that the taxonomy does not name; a column named here has to be there."""
        optional = ("labels", *(["text"] if text is None else []), *(["id"] if id is None else []))
        told = cls.of(data)
        return replace(told, text=text or told.text, id=id or told.id, optional=optional)

    def present(self, columns: Sequence[str]) -> Columns:
        """The same without what is optional and not among the columns of a file."""
        there, found = frozenset(columns), self
        if "text" in self.optional and not there.issuperset(self.text_columns):
            found = replace(found, text=None)
        if "id" in self.optional and self.id not in there:
            found = replace(found, id=None)
        if "labels" in self.optional and not there.issuperset(self.label_columns):
            found = replace(found, labels=None, labels_are=None, delimiter=None, path_separator=None)
        return found

    @property
    def text_columns(self) -> tuple[str, ...]:
        return _as_tuple(self.text)

    @property
    def label_columns(self) -> tuple[str, ...]:
        return _as_tuple(self.labels)


def _as_tuple(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True)
class Reading:
    """How the rows of a file are read, every one in the same way.

    Attributes
    ----------
    text
        The columns of the text; those of several are put below each other.
    labels
        The columns of the labels. None at all: with `labels_are` ``flags`` every column that is named like a
        label, else there are no labels.
    delimiter
        Stands between names in a cell.
    path_separator
        Stands between a name and the group it is in, None where names stand alone.
    prompt_end, completion_end
        What follows each prompt and completion and belongs to neither text nor labels.
    header
        Whether a table of text begins with the names of its columns.
    """

    text: tuple[str, ...] = ("text",)
    labels: tuple[str, ...] = ("labels",)
    labels_are: LabelsAre = "names"
    delimiter: str = DELIMITER
    path_separator: str | None = None
    id: str | None = None
    format: RowFormat = "plain"
    prompt_end: str = ""
    completion_end: str = ""
    encoding: str | None = None
    sheet: str | None = None
    header: bool = True

    def keys(self) -> dict[str, Any]:
        """The keys of ``data:`` in a taxonomy that settle this reading."""
        told: dict[str, Any] = {}
        if self.format != "plain":
            told["format"] = self.format
        else:
            told["text"] = self.text[0] if len(self.text) == 1 else list(self.text)
        if self.format == "plain" or self.labels != ("labels",):
            told |= self._label_keys()
        if self.labels_are == "names" and (self.delimiter != DELIMITER or self.format == "plain"):
            told["labels_delimiter"] = self.delimiter
        optional = ("path_separator", "id", "prompt_end", "completion_end", "encoding", "sheet")
        told |= {key: value for key in optional if (value := getattr(self, key))}
        return told if self.header else told | {"header": False}

    def _label_keys(self) -> dict[str, Any]:
        told: dict[str, Any] = {}
        if self.labels:
            told["labels"] = self.labels[0] if len(self.labels) == 1 else list(self.labels)
        if self.labels_are != "names" or len(self.labels) > 1:
            told["labels_are"] = self.labels_are
        return told

    def yaml(self, indent: str = "  ") -> str:
        """The same as lines of YAML, below ``data:``."""
        lines = [f"{key}: {json_text_of(value)}" for key, value in self.keys().items()]
        return "\n".join(["data:", *(indent + line for line in lines)])

    def to_dict(self) -> dict[str, Any]:
        """Of JSON's types only; `from_dict` of it is equal to this one."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Reading:
        """The reading that `to_dict` wrote.

        Raises
        ------
        DataError
            It is none.
        """
        known = {one.name for one in fields(cls)}
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()
        }
        texts = all(isinstance(one, str) for key in ("text", "labels") for one in given.get(key, ()))
        kinds = (given.get("labels_are", "names"), given.get("format", "plain"))
        if not (known >= given.keys() and texts and kinds[0] in get_args(LabelsAre)):
            raise DataError(f"not a reading of rows: {json_text(dict(plain))[:80]}")
        if kinds[1] not in get_args(RowFormat):
            raise DataError(f"not a reading of rows: {json_text(dict(plain))[:80]}")
        return cls(**given)

    def describe(self) -> str:
        """In words: where text and labels are, and how names are told apart."""
        labels = self.describe_labels().replace(f", separated by {DELIMITER!r}", "")
        return f"{self.describe_text()}, {labels}"

    def describe_text(self) -> str:
        """In words: where the text is."""
        words = {"chat": "text in the user's message", "prompt": "text in the prompt"}
        return words.get(self.format) or f"text in {_named(self.text)}"

    def describe_labels(self) -> str:
        """In words: where labels are, and how names are told apart."""
        words = {"chat": "labels in the assistant's answer", "prompt": "labels in the completion"}
        where = words.get(self.format) or self._label_words()
        if self.labels_are == "names" and self.labels:
            where += f", separated by {self.delimiter!r}"
        return where + (f", paths with {self.path_separator!r}" if self.path_separator else "")

    def _label_words(self) -> str:
        if self.labels_are == "flags":
            return f"0/1 in {_named(self.labels)}" if self.labels else "0/1 in columns named like labels"
        if self.labels_are == "levels":
            return f"a level in each of {_named(self.labels)}"
        return f"labels in {_named(self.labels)}" if self.labels else "no labels"


def json_text_of(value: Any) -> str:
    """A value as YAML and JSON write it alike."""
    import json

    return json.dumps(value, ensure_ascii=False)


def _named(columns: Iterable[str]) -> str:
    quoted = [repr(column) for column in columns]
    if len(quoted) > _MOST_LISTED:
        return f"{', '.join(quoted[:_MOST_LISTED])} and {len(quoted) - _MOST_LISTED} more columns"
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


@dataclass(frozen=True)
class FileReading:
    """What was settled for one file, and from what.

    Attributes
    ----------
    rows, unlabelled
        Rows that were looked at, and those of them that have no label; no rows where labels are not read.
    is_guessed
        Whether something was settled by looking that nobody had told.
    notes
        What else is worth telling: an encoding that is not UTF-8, a sheet among others.
    examples
        Some of the rows: text and labels.
    """

    file: str
    reading: Reading
    rows: int = 0
    unlabelled: int = 0
    is_guessed: bool = False
    notes: tuple[str, ...] = ()
    examples: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object, with the keys of ``data:`` that settle the reading."""
        examples = [{"text": text, "labels": list(labels)} for text, labels in self.examples]
        counts = {"rows": self.rows, "unlabelled": self.unlabelled}
        return {"file": self.file, "data": self.reading.keys(), **counts, "examples": examples}

    def describe(self) -> str:
        """One line: the file, where its texts and labels are, how many rows have none."""
        none = f"; {self.unlabelled:,} of {self.rows:,} rows have none" if self.rows else ""
        words = self.reading.describe() if self.rows else self.reading.describe_text()
        return f"{self.file}: {', '.join((words, *self.notes))}{none}"
