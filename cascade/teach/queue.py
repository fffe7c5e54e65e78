"""A queue of rows for a person to look at: a file with one text a row and what a model proposes for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cascade.errors import DataError
from cascade.predict.answers import Model, prediction_rows
from cascade.predict.extras import Style
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.rows.row import Row, summarise_bad
from cascade.rows.writing import row_line
from cascade.system.files import atomic_write
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.selection import SPLIT, Doubt, Selection, doubts_about

QUEUE, ANSWERS, SKIPPED = ".review.jsonl", ".reviewed.jsonl", ".skipped.jsonl"
_SCORES = 12
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """A row to be looked at.

    Attributes
    ----------
    id, text
        As they were read.
    proposed
        What the model chose, the most probable first.
    scores
        Path probabilities of what it chose, of what is in doubt, and of the best others.
    doubts
        Why it is asked, the greatest doubt first.
    model
        Digest of the model.
    """

    id: str | int
    text: str
    proposed: tuple[str, ...]
    scores: Mapping[str, float]
    doubts: tuple[Doubt, ...]
    model: str

    @property
    def key(self) -> str:
        """The same for the same id and text, and for no others."""
        return row_key(self.id, self.text)

    def row(self) -> dict[str, Any]:
        """As it stands in a queue."""
        return {
            "id": self.id,
            "text": self.text,
            "proposed": list(self.proposed),
            "scores": dict(self.scores),
            "doubts": [doubt._asdict() for doubt in self.doubts],
            "model": self.model,
        }


def row_key(id: str | int, text: str) -> str:  # noqa: A002
    """What a row is known by: hex, the same for the same id and text."""
    return digest(id, text)[:32]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def queue_rows(model: Model, selection: Selection) -> list[QueuedRow]:
    """The rows that were picked, with what the model proposes.

    Raises
    ------
    RowsError
        A service did not answer.
    """
    texts, ids = [one.row.text for one in selection.selected], [one.row.id for one in selection.selected]
    answers = prediction_rows(model, ids, texts, Style(scores="all"))
    return [
        _queued_row(model, answer, one.row.text, one.doubts)
        for one, answer in zip(selection.selected, answers, strict=True)
    ]


def proposed_by(model: Model, row: QueuedRow) -> QueuedRow:
    """The same row with what a model proposes for it and doubts about it; raises as `queue_rows` does.

    A row that is asked about because a label was split keeps what a person said of it: that is proposed, and
    what the label became is in doubt still.
    """
    [answer] = prediction_rows(model, [row.id], [row.text], Style(scores="all"))
    names = model.taxonomy.graph.column
    asked = [doubt for doubt in row.doubts if doubt.reason == SPLIT and doubt.label in names]
    found = _queued_row(model, answer, row.text, [*asked, *doubts_about(model, row.text)])
    said = tuple(name for name in row.proposed if name in names)
    return replace(found, proposed=said) if asked else found


def _queued_row(model: Model, answer: Mapping[str, Any], text: str, doubts: Sequence[Doubt]) -> QueuedRow:
    return QueuedRow(
        id=answer["id"],
        text=text,
        proposed=tuple(answer["labels"]),
        scores=scores_to_show(answer, doubts),
        doubts=tuple(doubt._replace(size=round(doubt.size, _DIGITS)) for doubt in doubts),
        model=model.digest,
    )


def scores_to_show(answer: Mapping[str, Any], doubts: Sequence[Doubt]) -> dict[str, float]:
    """Of the scores of a prediction row the best, and those of what was chosen or is in doubt."""
    named = {*answer["labels"], *(doubt.label for doubt in doubts)}
    scores = list(answer["scores"].items())
    return {
        name: round(score, _DIGITS)
        for place, (name, score) in enumerate(scores)
        if place < _SCORES or name in named
    }


def write_queue(path: Path, rows: Sequence[QueuedRow]) -> None:
    """Write a queue, whole or not at all."""
    with atomic_write(path) as file:
        for queued_row in rows:
            file.write(row_line(queued_row.row()))


def read_queue(path: Path, taxonomy: Taxonomy, digest: str | None = None) -> list[QueuedRow]:
    """The rows of a queue.

    Parameters
    ----------
    digest
        Of a model: what others proposed, which may have had other names, is not compared with the taxonomy.

    Raises
    ------
    DataError
        There is no such file, it is no queue, or it proposes what the taxonomy does not have.
    """
    found = [_parse_row(path, row) for row in rows_of_file(path, Columns(), None)]
    named = ((number, row) for number, row in enumerate(found, 1) if digest in (None, row.model))
    for number, queued_row in named:
        for name in (*queued_row.proposed, *queued_row.scores):
            if taxonomy.resolve(name) != name:
                raise DataError(
                    f"{path} row {number}: {name!r} is proposed, and is not in the taxonomy of the model."
                    f"{taxonomy.suggest(name)} Write the queue anew with `cascade review`, or name the model "
                    "it was made with"
                )
    if not found:
        raise DataError(f"{path}: an empty queue: nothing to look at")
    return found


def is_queue(path: Path) -> bool:
    """Whether the first row of a file is one of a queue."""
    if path.suffix != ".jsonl" or not path.exists():
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"proposed", "scores", "doubts"} <= row.keys()


def _parse_row(path: Path, row: Row) -> QueuedRow:
    found = row.source
    try:
        return QueuedRow(
            id=row.id,
            text=row.text,
            proposed=tuple(_strings(found["proposed"])),
            scores={str(name): float(score) for name, score in found["scores"].items()},
            doubts=tuple(
                Doubt(one["reason"], str(one["label"]), float(one["size"])) for one in found["doubts"]
            ),
            model=str(found["model"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} row {row.number}: no row of a queue: expected id, text, proposed, scores, doubts and "
            "model. `cascade review TEXTS` writes one"
        ) from error


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError("expected a list of names")
    return value


def path_beside(queue: Path, suffix: str) -> Path:
    """Where answers to a queue go by default: ``a.review.jsonl`` to ``a.reviewed.jsonl``."""
    name = queue.name.removesuffix(QUEUE) if queue.name.endswith(QUEUE) else queue.stem
    return queue.with_name(f"{name}{suffix}")


def rows_of_file(path: Path, columns: Columns, names: Taxonomy | None) -> list[Row]:
    """All rows of a file; DataError that lists those that cannot be read, if any."""
    rows, refused, _ = read_all([path], columns, names)
    if refused:
        raise DataError(f"{summarise_bad(refused)}\n{path}: mend these rows, or name another file")
    return rows
