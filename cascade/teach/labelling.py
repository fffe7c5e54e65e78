"""Answers of a model as rows to learn from: those it is sure of, and a queue of the others for a person.

An answer is as sure as the least certain of its decisions: a label that was chosen is right with its
probability p, one that was looked at and not chosen with 1 - p, and so is a group that was not entered.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from cascade.errors import DataError
from cascade.predict.answers import Model
from cascade.rows.readings import Columns
from cascade.rows.row import Row
from cascade.rows.writing import labelled_row, row_line
from cascade.system.files import atomic_write
from cascade.taxonomy.graph import ROOT
from cascade.teach.queue import QueuedRow, scores_to_show, write_queue
from cascade.teach.selection import UNSURE, Doubt, greedy, likeness

_DIGITS = 4
# What a person sees first is picked among so many that are least sure: each pick looks at all of them.
_MOST_PICKED = 2_000
_DOUBTS = 5


@dataclass(frozen=True)
class Decision:
    """One decision of an answer: about which label or group, and with which probability it is right."""

    name: str
    right: float


@dataclass(frozen=True)
class Labelled:
    """What came of a file.

    Attributes
    ----------
    rows, queued
        How many rows were labelled, and how many a person is to look at.
    left_out
        How many texts are known already.
    least_sure
        The confidence from which on an answer is a row.
    """

    rows: int
    queued: int
    left_out: int
    least_sure: float


def decisions(answer: Mapping[str, Any]) -> list[Decision]:
    """The decisions of a prediction row with its trace, the least certain first.

    None for a text of which nothing is known, as nothing was decided.
    """
    found = []
    for entry in answer["trace"]:
        if "conditional" not in entry:  # what is told of the text as a whole
            continue
        is_chosen = entry.get("chosen", False)
        if not is_chosen and entry.get("entered", False):
            continue  # nothing was decided yet
        probability = entry.get("probability", entry["path"])
        found.append(Decision(entry["node"], probability if is_chosen else 1 - probability))
    return sorted(found, key=lambda one: one.right)


def confidence(answer: Mapping[str, Any]) -> float:
    """How sure an answer is, in [0, 1]: 0 where nothing was decided.

    That a model names no label, of which no row tells how sure it may be, decides nothing either: its 0 is no
    probability, but what it did not speak of.
    """
    found = decisions(answer)
    says_nothing = not answer["labels"] and answer.get("calibrated") is False
    knows_nothing = any("why" in entry for entry in answer["trace"])
    return 0.0 if says_nothing or knows_nothing or not found else round(found[0].right, _DIGITS)


def least_sure(confidences: Sequence[float], share: float) -> float:
    """The confidence of the least sure of the surest `share` of some answers, more than 0; 1 without any."""
    wanted = sorted(confidences, reverse=True)[: round(share * len(confidences))]
    return max(wanted[-1], 10.0**-_DIGITS) if wanted else 1.0


def answers_in(path: Path) -> Iterator[dict[str, Any]]:
    """The prediction rows of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def paired(
    rows: Iterable[Row], refused: Set[int], answers: Iterable[dict[str, Any]], source: str
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Each row that was answered with its answer, in the order of the input.

    Parameters
    ----------
    refused
        The numbers of rows without an answer.

    Raises
    ------
    DataError
        They do not fit together: the input became another one.
    """
    answered = iter(answers)
    for row in rows:
        if row.number in refused:
            continue
        answer = next(answered, None)
        if answer is None or answer["id"] != row.id:
            raise _changed(source)
        yield row, answer
    if next(answered, None) is not None:
        raise _changed(source)


def _changed(source: str) -> DataError:
    return DataError(f"{source}: changed while its rows were labelled. Give the same command again")


def write_labelled(
    model: Model,
    pairs: Iterable[tuple[Row, dict[str, Any]]],
    out: Path,
    queue: Path,
    sure: float,
    columns: Columns,
    known: Set[str] = frozenset(),
) -> Labelled:
    """Write answers as rows to learn from, and those less sure than `sure` as a queue.

    Without any of the latter there is no queue, and one that was there goes: it is of other answers.

    Parameters
    ----------
    columns
        Which columns hold what in the rows.
    known
        Texts, without blanks around them, that are left out of both.

    Raises
    ------
    DataError
        A file cannot be written, or labels stand in 0/1 columns and there is none for one of them.
    """
    n_rows = left_out = 0
    doubtful: list[QueuedRow] = []
    with atomic_write(out) as file:
        for row, answer in pairs:
            if row.text.strip() in known:
                left_out += 1
            elif (certain := confidence(answer)) >= sure:
                file.write(row_line(_training_row(model, columns, row, answer, certain)))
                n_rows += 1
            else:
                doubtful.append(_queued(model, row, answer, sure))
    if doubtful:
        write_queue(queue, in_order(doubtful))
    else:
        with contextlib.suppress(FileNotFoundError):
            queue.unlink()
    return Labelled(n_rows, len(doubtful), left_out, sure)


def _training_row(
    model: Model, columns: Columns, row: Row, answer: Mapping[str, Any], certain: float
) -> dict[str, Any]:
    told = labelled_row(columns, model.taxonomy, row.id, row.text, answer["labels"])
    chosen = {name: answer["scores"][name] for name in answer["labels"]}
    return {**told, **{k: v for k, v in (("confidence", certain), ("scores", chosen)) if k not in told}}


def _queued(model: Model, row: Row, answer: Mapping[str, Any], sure: float) -> QueuedRow:
    doubts: tuple[Doubt, ...] = tuple(
        Doubt(UNSURE, one.name, round(min(2 * (1 - one.right), 1.0), _DIGITS))
        for one in decisions(answer)[:_DOUBTS]
        if one.right < sure and one.name != ROOT
    )
    labels = tuple(answer["labels"])
    doubts += () if labels else (Doubt("nothing chosen", "", 1.0),)
    scores = answer["scores"] | {entry["node"]: entry["path"] for entry in answer["trace"] if "path" in entry}
    ranked = dict(sorted(scores.items(), key=lambda one: -one[1]))
    shown = scores_to_show({"labels": labels, "scores": ranked}, doubts)
    return QueuedRow(row.id, row.text, labels, shown, doubts, model.digest)


def in_order(rows: Sequence[QueuedRow]) -> list[QueuedRow]:
    """Rows of a queue in the order in which they teach most, as `select_rows` has them; all of them.

    That is settled among those with the greatest doubts, and the others come behind by their doubts.
    """
    ranked = sorted(rows, key=lambda row: -max((doubt.size for doubt in row.doubts), default=0.0))
    first = ranked[:_MOST_PICKED]
    names = {
        name: place for place, name in enumerate(dict.fromkeys(d.label for r in first for d in r.doubts))
    }
    cells = [(place, names[one.label], one.size) for place, row in enumerate(first) for one in row.doubts]
    if not cells:
        return ranked
    at, columns, sizes = map(np.array, zip(*cells, strict=True))
    table = sparse.csr_array((sizes, (at, columns)), shape=(len(first), len(names)))
    picked = greedy(table, np.ones(len(names)), likeness([row.text for row in first]), len(first))
    rest = sorted(set(range(len(first))) - set(picked))
    return [*(first[place] for place in [*picked, *rest]), *ranked[_MOST_PICKED:]]
