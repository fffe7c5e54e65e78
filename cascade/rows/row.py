"""A row as everybody else sees it: usable or refused, and as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.taxonomy.data import DataSpec

SHOWN_CHARACTERS = 80
_KINDS = {
    type(None): "null",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; None means the usual names, see `read_rows`."""

    text: str | None = None
    labels: str | tuple[str, ...] | None = None
    id: str | None = None
    delimiter: str = ";"
    max_row_mb: int = 64

    @classmethod
    def of(cls, data: DataSpec, *, text: str | None = None, id: str | None = None) -> Columns:  # noqa: A002
        """What a taxonomy says of its rows; a `text` or `id` column named here counts instead."""
        most = data.max_row_mb or cls.max_row_mb
        return cls(text or data.text, data.labels, id or data.id, data.labels_delimiter, most)

    @property
    def max_row_bytes(self) -> int:
        """The largest size of a row; of text that is decoded as it is read, in characters."""
        return self.max_row_mb << 20


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

    `id` is None where the row could not be taken apart. Of a row that is too long, `raw` is the beginning.
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
                f"label {quoted(label)}: the taxonomy's `data: labels:` lists 0/1 columns, and none for it. "
                "List it there too, or leave the list out"
            )
    return row | {column: int(label in labels) for column, label in flags.items()}


def row_line(row: Mapping[str, Any]) -> bytes:
    """A row as a line of JSONL."""
    return f"{json.dumps(row, ensure_ascii=False, allow_nan=False)}\n".encode()


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


START_BYTES = 1000
"""So much is shown of a row that is too long to be held."""


def too_long(columns: Columns, hint: str = "") -> str:
    """Why a row is refused that is longer than rows may be."""
    return (
        f"longer than {columns.max_row_mb} MB{hint}. A larger `max_row_mb` under `data:` in the taxonomy "
        "would admit it"
    )


class RefusedError(Exception):
    """A row or a header that cannot be used; the message is the reason."""


def json_text(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, default=str)


def kind_of(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = repr(value)
        return f"the number {number}" if len(number) <= SHOWN_CHARACTERS else "a number"
    return _KINDS.get(type(value), f"a value of type {type(value).__name__}")


def quoted(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
