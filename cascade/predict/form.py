"""Prediction rows to bytes: lines of JSON or of a table, which is then the file or is made into one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import DataError
from cascade.predict.answers import Answer
from cascade.predict.extras import Style
from cascade.rows.writing import DELIMITERS, evidence_cell, label_cell, table_lines

_LINES = (".jsonl", ".ndjson")
_MADE = (".xlsx", ".parquet")


@dataclass(frozen=True, slots=True)
class Form:
    """What the rows of a file look like.

    Attributes
    ----------
    delimiter
        None for JSON lines.
    is_made
        Whether the file is made from lines of JSON when all are there, as its columns are known only then or
        it is no text.
    """

    delimiter: str | None
    style: Style
    is_made: bool = False

    @classmethod
    def of(cls, out: Path | None, style: Style) -> Form:
        """The form that the name of the output asks for; DataError where it is of no known kind."""
        if out is None:
            return cls(None, style)
        suffix = out.suffix.lower()
        if suffix in _LINES:
            return cls(None, style)
        if suffix in DELIMITERS and style.is_plain:
            return cls(DELIMITERS[suffix], style)
        if suffix not in (*DELIMITERS, *_MADE):
            raise DataError(
                f"{out}: unknown kind of output file; expected a name that ends in "
                f"{', '.join((*_LINES, *DELIMITERS, *_MADE))}, or none for JSON lines on standard output"
            )
        return cls(None, style, is_made=True)

    def head(self) -> bytes:
        """What stands before the first row."""
        mark = ["calibrated"] if self.style.uncalibrated else []
        more = [name for name in ("evidence", "trace") if getattr(self.style, name)]
        names = ["id", "labels", "scores", *mark, *more]
        return b"" if self.delimiter is None else table_lines([names], self.delimiter)

    def lines(self, answers: Iterable[Answer]) -> bytes:
        """One line for each answer, as UTF-8, with the line break after it."""
        if self.delimiter is None:
            return "".join(map(_json_line, answers)).encode()
        return table_lines(map(_table_row, answers), self.delimiter)


# An encoder of its own for each value would take longer than the encoding.
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_json_of_any = json.JSONEncoder(ensure_ascii=False, default=str).encode


def _json_line(answer: Answer) -> str:
    """What `json.dumps` makes of the row, and a line break."""
    if answer.extras is not None:
        return _json_of_any(plain_values(answer.row())) + "\n"
    identity = _json(answer.id) if isinstance(answer.id, str) else str(answer.id)
    labels = ", ".join([_json(name) for name in answer.labels])
    mark = "" if answer.calibrated is None else f', "calibrated": {_json(answer.calibrated)}'
    evidence = "" if answer.evidence is None else f', "evidence": {_json(answer.evidence)}'
    trace = "" if answer.trace is None else f', "trace": {_json(answer.trace)}'
    rest = f"{_json_scores(answer)}{mark}{evidence}{trace}"
    return f'{{"id": {identity}, "labels": [{labels}], "scores": {rest}}}\n'


def plain_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null for numbers that JSON has no words for."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _json_scores(answer: Answer) -> str:
    return "{" + ", ".join([f"{_json(name)}: {score!r}" for name, score in answer.scores]) + "}"


def _table_row(answer: Answer) -> list[str | int]:
    cells = [answer.id, label_cell(answer.labels), _json_scores(answer)]
    cells += [] if answer.calibrated is None else [_json(answer.calibrated)]
    cells += [] if answer.evidence is None else [evidence_cell(answer.evidence)]
    return cells if answer.trace is None else [*cells, _json(answer.trace)]
