"""Rows to be written: the other way round than `cascade.rows.reading`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cascade.errors import DataError
from cascade.rows.names import LabelNames
from cascade.rows.readings import DELIMITER, Columns
from cascade.rows.row import quoted

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""Tables of text, by the suffix of the file."""


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


_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


def guarded(cell: str) -> str:
    """A cell of a table of text that no spreadsheet takes for a formula.

    One that begins with ``= + - @``, a tab or a carriage return, and is no number, gets the apostrophe before
    it by which spreadsheets mark text (OWASP, CSV Injection); `unguarded` takes it away again.
    """
    inside = cell.lstrip("'")
    if not inside.startswith(_RUN_BY_SPREADSHEETS) or (inside == cell and _is_number(cell)):
        return cell
    return "'" + cell


def unguarded(cell: str) -> str:
    """A cell without the apostrophe that marks it as text."""
    inside = cell.lstrip("'")
    return cell[1:] if inside != cell and inside.startswith(_RUN_BY_SPREADSHEETS) else cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def label_cell(labels: Sequence[str]) -> str:
    """Names with ; between them; as a JSON list where a name would not come back from that."""
    if any(DELIMITER in label for label in labels) or (labels and labels[0].startswith("[")):
        return json.dumps(list(labels), ensure_ascii=False)
    return DELIMITER.join(labels)


def evidence_cell(evidence: Sequence[Mapping[str, Any]]) -> str:
    """What carries each label, for people: ``nobody answers ... my emails [no_reply]; took twice [charge]``.

    A label of which nothing tells is left out.
    """
    told = (
        (" ... ".join(" ".join(span["text"].split()) for span in one["spans"]), one["label"])
        for one in evidence
    )
    return "; ".join(f"{said} [{label}]" for said, label in told if said)


class _Lines(list[str]):
    write = list.append


def table_lines(rows: Iterable[Sequence[Any]], delimiter: str) -> bytes:
    """Lines of a table, as UTF-8; cells that a spreadsheet would run are marked as text, see `guarded`."""
    lines = _Lines()
    # A lone carriage return is quoted only by a writer that ends its own lines with one.
    csv.writer(lines, delimiter=delimiter, lineterminator="\r\n").writerows(map(_guarded_row, rows))
    return "".join([line.removesuffix("\r\n") + "\n" for line in lines]).encode()


def _guarded_row(row: Sequence[Any]) -> list[Any]:
    return [guarded(cell) if isinstance(cell, str) else cell for cell in row]
