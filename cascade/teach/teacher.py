"""What a model says of texts without labels: asked once, those that teach a student most first, and kept.

Answers go to a file as they come, so that who is stopped goes on with what is missing. Each of its lines is a
row as any other: a text with the labels that were chosen, and beside them the probabilities.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import DataError
from cascade.learn.distil import LEAST, TaughtText
from cascade.model.decide import Ranked
from cascade.model.walk import MOST_CELLS, Walked
from cascade.predict.answers import Model
from cascade.rows.row import Row
from cascade.system.files import LockedFile, writing
from cascade.taxonomy.graph import Graph
from cascade.teach.answer_file import AnswerFile
from cascade.teach.queue import digest
from cascade.teach.selection import select_rows

ANSWERS = ".answers.jsonl"
"""Behind the name of a student's folder."""
# What embedded models answer at once, and what is in flight to a service and would be asked again.
AT_ONCE, AT_ONCE_HOSTED = 4_000, 64
# Each text that is picked is compared with all others that are left: beyond so many chance is as good.
MOST_PICKED = 5_000
_DIGITS = 4


class TeacherAnswers:
    """The answers of one teacher, in a file beside its student; use it within `opened`.

    Parameters
    ----------
    path
        The file.
    teacher
        The digest of the model that answers.
    graph
        Of its taxonomy.
    """

    def __init__(self, path: Path, teacher: str, graph: Graph) -> None:
        self.path, self.teacher = path, teacher
        self._nodes = frozenset(graph.nodes)
        self._file = AnswerFile[TaughtText](path, self._read)

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[str]]:
        """Have the file alone; what had to be mended in it, as lines.

        Raises
        ------
        DataError
            Another run has it, it has answers of another teacher, or a line of it is none.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        held = LockedFile(self.path.with_name(f".{self.path.name}.lock"))
        try:
            yield self._file.open()
        finally:
            held.discard()
            held.close()

    def of(self, text: str) -> TaughtText | None:
        """The answer to a text, if it was asked about."""
        return self._file.found.get(digest(text))

    def put(self, answers: Sequence[TaughtText]) -> None:
        """Keep answers to texts that were not asked about before."""
        self._file.put_new([(digest(one.text), one, self._line(one)) for one in answers])

    def _line(self, answer: TaughtText) -> bytes:
        told = {
            "text": answer.text,
            "labels": answer.chosen,
            "probabilities": answer.probabilities,
            "teacher": self.teacher,
        }
        return (json.dumps(told, ensure_ascii=False) + "\n").encode()

    def _read(self, path: Path) -> Iterator[tuple[str, TaughtText]]:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    answer = self._answer(line, f"{path}:{number}")
                    yield digest(answer.text), answer

    def _answer(self, line: str, place: str) -> TaughtText:
        try:
            told = json.loads(line)
            answer = TaughtText(told["text"], tuple(told["labels"]), dict(told["probabilities"]))
            teacher = told["teacher"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._unusable(place, "is no answer of a teacher") from error
        if teacher != self.teacher:
            raise self._unusable(
                place, "is the answer of another model than this one, or of an older fit of it"
            )
        if not self._is_sound(answer):
            raise self._unusable(place, "is no answer of a teacher")
        return answer

    def _is_sound(self, answer: TaughtText) -> bool:
        values = answer.probabilities.values()
        return (
            isinstance(answer.text, str)
            and self._nodes >= {*answer.chosen, *answer.probabilities}
            and all(isinstance(value, float | int) and 0 <= value <= 1 for value in values)
        )

    def _unusable(self, place: str, what: str) -> DataError:
        return DataError(f"{place}: {what}. Remove {self.path}, or name another student with --out")


@dataclass(frozen=True)
class Taught:
    """What came of asking.

    Attributes
    ----------
    answers
        In the order in which texts teach most.
    asked
        How many of them were asked about now; the others were answered before.
    failed
        Rows that a service did not answer for, and why.
    is_short
        Whether money was spent before all were asked about.
    """

    answers: list[TaughtText]
    asked: int
    failed: list[tuple[Row, str]]
    is_short: bool


def most_useful(student: Model | None, rows: Sequence[Row], most: int | None, seed: int) -> list[Row]:
    """At most so many rows, those that teach most first: what a student of the labelled rows doubts.

    Where all are wanted, they stand as they came; who has no student takes them by chance.
    """
    if most is None or most >= len(rows):
        return list(rows)
    picked: list[Row] = []
    if student is not None:
        picked = [one.row for one in select_rows(student, rows, min(most, MOST_PICKED)).selected]
    taken = {(row.file, row.number) for row in picked}
    others = [row for row in rows if (row.file, row.number) not in taken]
    drawn = np.random.default_rng(seed).permutation(len(others))[: most - len(picked)]
    return [*picked, *(others[place] for place in drawn.tolist())]


def teach(
    model: Model,
    rows: Sequence[Row],
    kept: TeacherAnswers,
    *,
    may_ask: Callable[[], bool] = lambda: True,
    at_once: int | None = None,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> Taught:
    """Ask a model about the rows that it was not asked about yet, in their order, and keep what it says.

    Parameters
    ----------
    rows
        With texts that all differ.
    may_ask
        Whether there is money left; asked before each batch.
    at_once
        Rows of a batch, which are asked about again where a run is killed; None for what suits the model.
    report
        Told how many of the rows are answered.
    """
    todo = [row for row in rows if kept.of(row.text) is None]
    usual = AT_ONCE_HOSTED if model.asks_services else AT_ONCE
    step = max(1, min(at_once or usual, MOST_CELLS // len(model.graph.nodes)))
    failed: list[tuple[Row, str]] = []
    asked, is_short = 0, False
    report(len(rows) - len(todo), len(rows))
    for start in range(0, len(todo), step):
        if not may_ask():
            is_short = True
            break
        some = todo[start : start + step]
        walked = model.walk([row.text for row in some])
        failed += [(some[place], why) for place, why in walked.failed.items()]
        found = answers_of(model, [row.text for row in some], walked)
        kept.put(found)
        asked += len(found)
        report(len(rows) - len(todo) + start + len(some), len(rows))
    answers = [answer for row in rows if (answer := kept.of(row.text)) is not None]
    return Taught(answers, asked, failed, is_short)


def answers_of(model: Model, texts: Sequence[str], walked: Walked) -> list[TaughtText]:
    """What a walk says of its texts, but for those that it failed on."""
    nodes, paths = model.graph.nodes, np.nan_to_num(walked.paths)
    chosen = Ranked.of(walked.paths, model.decide(walked))
    labels = list(chosen.by_text([nodes[column] for column in chosen.columns.tolist()]))
    return [
        TaughtText(text, tuple(labels[place]), _probable(nodes, paths[place]))
        for place, text in enumerate(texts)
        if place not in walked.failed
    ]


def _probable(nodes: Sequence[str], paths: Any) -> dict[str, float]:
    columns = np.flatnonzero(paths >= LEAST)
    return {nodes[column]: round(float(paths[column]), _DIGITS) for column in columns.tolist()}
