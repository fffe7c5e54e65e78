"""What people said of the rows of a queue.

Answers go to a file of labelled rows, each as it is given, and every row in it is one that `fit` can read.
What was skipped stands in a file beside it. To take an answer back is to take its row out of the file, which
appears anew, whole.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascade.errors import CascadeError, DataError
from cascade.rows.readings import Columns
from cascade.rows.row import Row
from cascade.rows.writing import labelled_row, plain_row, row_line
from cascade.system.files import LockedFile
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.answer_file import AnswerFile
from cascade.teach.queue import SKIPPED, QueuedRow, digest, row_key, rows_of_file

_ABOUT = "review"

Verdict = Literal["accepted", "corrected", "skipped"]


@dataclass(frozen=True, slots=True)
class ReviewAnswer:
    """What a person said of a row.

    Attributes
    ----------
    verdict
        ``accepted`` where the labels are those that were proposed, ``corrected`` where not, or ``skipped``.
    labels
        Names of labels, or of groups of which no more is known; none where it was skipped.
    note
        What else was said.
    at
        When, in UTC (ISO 8601); empty where a row came from elsewhere.
    """

    verdict: Verdict
    labels: tuple[str, ...]
    note: str = ""
    at: str = ""

    @property
    def revision(self) -> str:
        """Another for each thing that may be said."""
        return digest(self.verdict, self.labels, self.note, self.at)[:16]


class ConflictError(CascadeError):
    """Somebody else has answered meanwhile; `found` is what they said, None where they took it back."""

    def __init__(self, found: ReviewAnswer | None) -> None:
        super().__init__("somebody else has answered this row meanwhile")
        self.found = found


class Review:
    """The answers to a queue, on the disk before anybody is told that they are taken.

    One process has the files of a review at a time; what is changed in them from outside is heeded.

    Parameters
    ----------
    rows
        The queue.
    path
        Where answers go. What is skipped goes beside it, to ``a.skipped.jsonl`` for ``a.reviewed.jsonl``.
    taxonomy
        Says what names there are.
    columns
        Which columns hold what.
    now
        Gives the time.

    Attributes
    ----------
    questions
        The rows of the queue by their keys, in its order; the same row twice is one.
    notes
        What has to be told about the files as they were found.

    Raises
    ------
    DataError
        Another process has the files, they cannot be written, or there is something in them that is no row.
    """

    def __init__(
        self,
        rows: Sequence[QueuedRow],
        path: Path,
        taxonomy: Taxonomy,
        columns: Columns,
        *,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self.path, self._taxonomy, self._columns, self._now = path, taxonomy, columns, now
        self.queued = {queued_row.key: queued_row for queued_row in rows}
        self._keys = {queued_row.text: queued_row.key for queued_row in rows}
        self._lock = LockedFile(path.with_name(f".{path.name}.lock"))
        try:
            self._answers = AnswerFile(path, self._read_answers)
            self._skips = AnswerFile(skipped_beside(path), self._read_skips)
            self.notes = [*self._answers.open(), *self._skips.open()]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes have the files."""
        self._lock.discard()
        self._lock.close()

    @property
    def names(self) -> tuple[str, ...]:
        """What answers are made of: groups and labels, as far as they have a column."""
        return self.names_in(self._taxonomy)

    def names_in(self, taxonomy: Taxonomy) -> tuple[str, ...]:
        """What answers would be made of with another taxonomy."""
        columns = self._columns.labels
        if columns is None or isinstance(columns, str):
            return taxonomy.graph.nodes
        return tuple(name for name in map(taxonomy.resolve, columns) if name is not None)

    def use(self, taxonomy: Taxonomy) -> list[str]:
        """Take the names of another taxonomy from now on; lists answers that it cannot read, which stay."""
        self._taxonomy = taxonomy
        try:
            self._answers.reread()
        except DataError as error:
            return [str(error)]
        return []

    def answers(self) -> dict[str, ReviewAnswer]:
        """What was said of each row of which anything was, of this queue or of another one."""
        self._answers.refresh()
        self._skips.refresh()
        return self._skips.found | self._answers.found

    def answer(
        self, key: str, labels: Sequence[str], note: str, seen: str, proposal: QueuedRow | None = None
    ) -> ReviewAnswer:
        """Take in what a person chose for a row.

        Parameters
        ----------
        labels
            Names of labels and groups, none for none of them.
        seen
            `ReviewAnswer.revision` of what stood there when they chose, empty where nothing did.
        proposal
            The row as they saw it, where that is not as it stands in the queue.

        Raises
        ------
        ConflictError
            Something else stands there by now.
        DataError
            A name is not in the taxonomy or has no column, or the file cannot be written.
        KeyError
            There is no such row.
        """
        queued_row = proposal or self.queued[key]
        names = tuple(dict.fromkeys(self._resolved(name) for name in labels))
        verdict: Verdict = "accepted" if set(names) == set(queued_row.proposed) else "corrected"
        self._check_seen(key, seen)
        answer = ReviewAnswer(verdict, names, note, self._time())
        row = labelled_row(self._columns, self._taxonomy, queued_row.id, queued_row.text, names)
        self._answers.put(key, answer, row_line(self._about(queued_row, answer) | row))
        self._skips.remove(key)
        return answer

    def skip(self, key: str, note: str, seen: str, proposal: QueuedRow | None = None) -> ReviewAnswer:
        """Put a row aside without an answer; raises as `answer` does."""
        queued_row = proposal or self.queued[key]
        self._check_seen(key, seen)
        answer = ReviewAnswer("skipped", (), note, self._time())
        row = plain_row(self._columns, queued_row.id, queued_row.text)
        self._skips.put(key, answer, row_line(self._about(queued_row, answer) | row))
        self._answers.remove(key)
        return answer

    def undo(self, key: str, seen: str) -> None:
        """Have nothing said of a row; raises as `answer` does."""
        if key not in self.queued:
            raise KeyError(key)
        self._check_seen(key, seen)
        self._answers.remove(key)
        self._skips.remove(key)

    def _check_seen(self, key: str, seen: str) -> None:
        answer = self.answers().get(key)
        if (answer.revision if answer else "") != seen:
            raise ConflictError(answer)

    def _resolved(self, name: str) -> str:
        found = self._taxonomy.resolve(name)
        if found is None:
            raise DataError(f"unknown label {name!r}.{self._taxonomy.suggest(name)}")
        return found

    def _time(self) -> str:
        return self._now().isoformat(timespec="milliseconds")

    def _about(self, queued_row: QueuedRow, answer: ReviewAnswer) -> dict[str, Any]:
        told = {
            "verdict": answer.verdict,
            "note": answer.note,
            "at": answer.at,
            "proposed": list(queued_row.proposed),
            "model": queued_row.model,
        }
        return {_ABOUT: told}

    def _read_answers(self, path: Path) -> Iterator[tuple[str, ReviewAnswer]]:
        for row in rows_of_file(path, self._columns, self._taxonomy):
            verdict, note, at = _metadata(row)
            known: Verdict = "accepted" if verdict == "accepted" else "corrected"
            yield self._key(row), ReviewAnswer(known, row.labels, note, at)

    def _read_skips(self, path: Path) -> Iterator[tuple[str, ReviewAnswer]]:
        for row in rows_of_file(path, self._columns, None):
            _, note, at = _metadata(row)
            yield self._key(row), ReviewAnswer("skipped", (), note, at)

    def _key(self, row: Row) -> str:
        """The key of a row of the files; by its text alone where no column has ids."""
        found = row_key(row.id, row.text)
        has_id = self._columns.id is not None or self._columns.text != "id"
        return found if has_id else self._keys.get(row.text, found)


def skipped_beside(answers: Path) -> Path:
    """Where rows go that were skipped."""
    return answers.with_name(f"{answers.name.removesuffix('.jsonl').removesuffix('.reviewed')}{SKIPPED}")


def _metadata(row: Row) -> tuple[str, str, str]:
    """Verdict, note and time of a row, each empty where the row does not tell."""
    about = row.source.get(_ABOUT)
    found = about if isinstance(about, dict) else {}
    verdict, note, at = (str(found.get(name, "")) for name in ("verdict", "note", "at"))
    return verdict, note, at
