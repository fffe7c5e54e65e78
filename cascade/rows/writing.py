"""Rows to be written: the other way round than `cascade.rows.reading`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.errors import DataError
from cascade.rows.names import LabelNames
from cascade.rows.readings import Columns
from cascade.rows.row import quoted


def plain_row(columns: Columns, id: str | int, text: str) -> dict[str, Any]:  # noqa: A002
    """A row without labels, from which `read_rows` without label names reads the same."""
    return {columns.id or "id": id, (columns.text_columns or ("text",))[-1]: text}


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
    several = columns.label_columns if columns.labels_are in (None, "flags") else ()
    flags = {column: names.resolve(column) for column in several}
    if len(several) < 2 or None in flags.values():
        return row | {(columns.label_columns or ("labels",))[-1]: list(labels)}
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
