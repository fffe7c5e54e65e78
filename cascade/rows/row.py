"""A row as everybody else sees it: usable or refused, and as it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

SHOWN_CHARACTERS = 80
_KINDS = {
    type(None): "null",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}


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


def too_long(max_row_mb: int, hint: str = "") -> str:
    """Why a row is refused that is longer than rows may be."""
    larger = "A larger `max_row_mb` under `data:` in the taxonomy would admit it"
    return f"longer than {max_row_mb} MB{hint}. {larger}"


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
