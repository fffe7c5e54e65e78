"""Rows for a person to look at, and what the person said of them.

A queue is a file that `cascade review` writes, a row a text, with what the model proposes. Answers go to a
file of labelled rows, each as it is given, and every row in it is one that `fit` can read. What was skipped
stands in a file beside it. To take an answer back is to take its row out of the file, which appears anew,
whole.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cascade.errors import CascadeError, DataError
from cascade.predict.answers import Style, prediction_rows
from cascade.predict.cascade import Cascade
from cascade.rows.reading import read_all
from cascade.rows.row import Columns, Row, labelled_row, plain_row, row_line, summarise_bad
from cascade.system.files import Locked, drafted, write_all, writing
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.selection import Doubt, Picking

QUEUE, ANSWERS, SKIPPED = ".review.jsonl", ".reviewed.jsonl", ".skipped.jsonl"
_SCORES = 12
_DIGITS = 4
_ABOUT = "review"

Verdict = Literal["accepted", "corrected", "skipped"]


@dataclass(frozen=True, slots=True)
class Question:
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
        return key_of(self.id, self.text)

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


@dataclass(frozen=True, slots=True)
class Reviewed:
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
        return _digest(self.verdict, self.labels, self.note, self.at)[:16]


class ConflictError(CascadeError):
    """Somebody else has answered meanwhile; `found` is what they said, None where they took it back."""

    def __init__(self, found: Reviewed | None) -> None:
        super().__init__("somebody else has answered this row meanwhile")
        self.found = found


def key_of(id: str | int, text: str) -> str:  # noqa: A002
    """What a row is known by: hex, the same for the same id and text."""
    return _digest(id, text)[:32]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# The queue


def questions(model: Cascade, picking: Picking) -> list[Question]:
    """The rows that were picked, with what the model proposes.

    Raises
    ------
    RowsError
        A service did not answer.
    """
    texts, ids = [one.row.text for one in picking.picked], [one.row.id for one in picking.picked]
    answers = prediction_rows(model, ids, texts, Style(scores="all"))
    return [
        Question(
            id=answer["id"],
            text=one.row.text,
            proposed=tuple(answer["labels"]),
            scores=_worth_a_look(answer, one.doubts),
            doubts=tuple(doubt._replace(size=round(doubt.size, _DIGITS)) for doubt in one.doubts),
            model=model.digest,
        )
        for one, answer in zip(picking.picked, answers, strict=True)
    ]


def _worth_a_look(answer: Mapping[str, Any], doubts: Sequence[Doubt]) -> dict[str, float]:
    named = {*answer["labels"], *(doubt.label for doubt in doubts)}
    scores = list(answer["scores"].items())
    return {
        name: round(score, _DIGITS)
        for place, (name, score) in enumerate(scores)
        if place < _SCORES or name in named
    }


def write_queue(path: Path, rows: Sequence[Question]) -> None:
    """Write a queue, whole or not at all."""
    with drafted(path) as file:
        for question in rows:
            file.write(row_line(question.row()))


def read_queue(path: Path, taxonomy: Taxonomy) -> list[Question]:
    """The rows of a queue.

    Raises
    ------
    DataError
        There is no such file, it is no queue, or it proposes what the taxonomy does not have.
    """
    found = [_question(path, row) for row in _rows(path, Columns(), None)]
    for number, question in enumerate(found, 1):
        for name in (*question.proposed, *question.scores):
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


def _question(path: Path, row: Row) -> Question:
    found = row.source
    try:
        return Question(
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


def beside(queue: Path, suffix: str) -> Path:
    """Where answers to a queue go by default: ``a.review.jsonl`` to ``a.reviewed.jsonl``."""
    name = queue.name.removesuffix(QUEUE) if queue.name.endswith(QUEUE) else queue.stem
    return queue.with_name(f"{name}{suffix}")


# Answers


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
        rows: Sequence[Question],
        path: Path,
        taxonomy: Taxonomy,
        columns: Columns,
        *,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self.path, self._taxonomy, self._columns, self._now = path, taxonomy, columns, now
        self.questions = {question.key: question for question in rows}
        self._keys = {question.text: question.key for question in rows}
        self._lock = Locked(path.with_name(f".{path.name}.lock"))
        try:
            self._answers = _Book(path, self._read_answers)
            self._skips = _Book(skipped_beside(path), self._read_skips)
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
        columns = self._columns.labels
        if columns is None or isinstance(columns, str):
            return self._taxonomy.graph.nodes
        return tuple(name for name in map(self._taxonomy.resolve, columns) if name is not None)

    def said(self) -> dict[str, Reviewed]:
        """What was said of each row of which anything was, of this queue or of another one."""
        self._answers.refresh()
        self._skips.refresh()
        return self._skips.found | self._answers.found

    def answer(self, key: str, labels: Sequence[str], note: str, seen: str) -> Reviewed:
        """Take in what a person chose for a row.

        Parameters
        ----------
        labels
            Names of labels and groups, none for none of them.
        seen
            `Reviewed.revision` of what stood there when they chose, empty where nothing did.

        Raises
        ------
        ConflictError
            Something else stands there by now.
        DataError
            A name is not in the taxonomy or has no column, or the file cannot be written.
        KeyError
            There is no such row.
        """
        question = self.questions[key]
        names = tuple(dict.fromkeys(self._resolved(name) for name in labels))
        verdict: Verdict = "accepted" if set(names) == set(question.proposed) else "corrected"
        self._check_seen(key, seen)
        said = Reviewed(verdict, names, note, self._time())
        row = labelled_row(self._columns, self._taxonomy, question.id, question.text, names)
        self._answers.put(key, said, row_line(self._about(question, said) | row))
        self._skips.remove(key)
        return said

    def skip(self, key: str, note: str, seen: str) -> Reviewed:
        """Put a row aside without an answer; raises as `answer` does."""
        question = self.questions[key]
        self._check_seen(key, seen)
        said = Reviewed("skipped", (), note, self._time())
        row = plain_row(self._columns, question.id, question.text)
        self._skips.put(key, said, row_line(self._about(question, said) | row))
        self._answers.remove(key)
        return said

    def undo(self, key: str, seen: str) -> None:
        """Have nothing said of a row; raises as `answer` does."""
        if key not in self.questions:
            raise KeyError(key)
        self._check_seen(key, seen)
        self._answers.remove(key)
        self._skips.remove(key)

    def _check_seen(self, key: str, seen: str) -> None:
        said = self.said().get(key)
        if (said.revision if said else "") != seen:
            raise ConflictError(said)

    def _resolved(self, name: str) -> str:
        found = self._taxonomy.resolve(name)
        if found is None:
            raise DataError(f"unknown label {name!r}.{self._taxonomy.suggest(name)}")
        return found

    def _time(self) -> str:
        return self._now().isoformat(timespec="milliseconds")

    def _about(self, question: Question, said: Reviewed) -> dict[str, Any]:
        told = {
            "verdict": said.verdict,
            "note": said.note,
            "at": said.at,
            "proposed": list(question.proposed),
            "model": question.model,
        }
        return {_ABOUT: told}

    def _read_answers(self, path: Path) -> Iterator[tuple[str, Reviewed]]:
        for row in _rows(path, self._columns, self._taxonomy):
            verdict, note, at = _told(row)
            known: Verdict = "accepted" if verdict == "accepted" else "corrected"
            yield self._key(row), Reviewed(known, row.labels, note, at)

    def _read_skips(self, path: Path) -> Iterator[tuple[str, Reviewed]]:
        for row in _rows(path, self._columns, None):
            _, note, at = _told(row)
            yield self._key(row), Reviewed("skipped", (), note, at)

    def _key(self, row: Row) -> str:
        """The key of a row of the files; by its text alone where no column has ids."""
        found = key_of(row.id, row.text)
        has_id = self._columns.id is not None or self._columns.text != "id"
        return found if has_id else self._keys.get(row.text, found)


def skipped_beside(answers: Path) -> Path:
    """Where rows go that were skipped."""
    return answers.with_name(f"{answers.name.removesuffix('.jsonl').removesuffix('.reviewed')}{SKIPPED}")


def _told(row: Row) -> tuple[str, str, str]:
    """Verdict, note and time of a row, each empty where the row does not tell."""
    about = row.source.get(_ABOUT)
    found = about if isinstance(about, dict) else {}
    verdict, note, at = (str(found.get(name, "")) for name in ("verdict", "note", "at"))
    return verdict, note, at


def _rows(path: Path, columns: Columns, names: Taxonomy | None) -> list[Row]:
    rows, refused = read_all([path], columns, names)
    if refused:
        raise DataError(f"{summarise_bad(refused)}\n{path}: mend these rows, or name another file")
    return rows


class _Book:
    """A file of rows, each known by a key. What `read` gives for it are its lines that are not blank."""

    def __init__(self, path: Path, read: Callable[[Path], Iterable[tuple[str, Reviewed]]]) -> None:
        self._path, self._read = path, read
        self._stamp: tuple[int, ...] | None = None
        self._lines: list[tuple[str, bytes]] = []
        self.found: dict[str, Reviewed] = {}

    def open(self) -> list[str]:
        """Read what there is, and tell what had to be mended: half a line that nobody was told is taken."""
        cut = self._without_torn_end()
        self.refresh()
        return [f"{self._path}: half a line at its end, left out: {cut!r}"] if cut else []

    def refresh(self) -> None:
        """Read the file if another hand changed it."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        entries = list(self._read(self._path)) if stamp else []
        lines = self._path.read_bytes().splitlines(keepends=True) if stamp else []
        rows = [line for line in lines if line.strip()]
        self._lines = [(key, line) for (key, _), line in zip(entries, rows, strict=True)]
        self.found = dict(entries)
        self._stamp = stamp

    def put(self, key: str, said: Reviewed, line: bytes) -> None:
        """Have this line alone for a key, on the disk when this returns."""
        if key in self.found:
            self._rewrite([*self._others(key), (key, line)])
        else:
            self._append(line)
            self._lines.append((key, line))
        self.found[key] = said
        self._stamp = _stamp(self._path)

    def _append(self, line: bytes) -> None:
        with writing(self._path), self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                write_all(file, line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # half a line would spoil the next one
                raise

    def remove(self, key: str) -> None:
        """Have nothing for a key."""
        if key not in self.found:
            return
        self._rewrite(self._others(key))
        del self.found[key]
        self._stamp = _stamp(self._path)

    def _others(self, key: str) -> list[tuple[str, bytes]]:
        return [(one, line) for one, line in self._lines if one != key]

    def _rewrite(self, lines: list[tuple[str, bytes]]) -> None:
        with drafted(self._path) as file:
            file.write(b"".join(line if line.endswith(b"\n") else line + b"\n" for _, line in lines))
        self._lines = lines

    def _without_torn_end(self) -> str:
        """What stood behind the last line break and was no row: the process died while it wrote."""
        with writing(self._path), contextlib.suppress(FileNotFoundError):
            content = self._path.read_bytes()
            end = content[content.rfind(b"\n") + 1 :]
            if not end.strip():
                return ""
            with self._path.open("r+b") as file:
                if _is_object(end):
                    file.seek(0, os.SEEK_END)
                    file.write(b"\n")
                    return ""
                file.truncate(len(content) - len(end))
            return end.decode("utf-8", "backslashreplace")
        return ""


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Changes whenever a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
