"""Labelled rows of one taxonomy to rows of another, each file in its own format; nothing is lost.

All files are written before any of them gets its name. A row whose label became several keeps the group that
is sure, and stands in a queue for a person; the answers go into the same files when they are migrated again.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cascade.changes.decisions import Decision, Question, decisions_of, decisions_yaml, read_decisions
from cascade.changes.label_changes import Change, LabelChanges, count_changes
from cascade.changes.migration_report import MigratedFile, MigrationReport
from cascade.errors import DataError
from cascade.model.folder import read_manifest
from cascade.rows.reading import read_rows
from cascade.rows.readings import Columns, FileReading, Reading
from cascade.rows.rewritten_files import LabelledFile
from cascade.rows.row import BadRow, Row
from cascade.rows.spelling import NewLabels
from cascade.system.files import writing
from cascade.taxonomy.data import DataSpec
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.queue import QueuedRow, row_key, write_queue
from cascade.teach.selection import SPLIT, Doubt

QUEUE_NAME = "migration.review.jsonl"

Ask = Callable[[Sequence[Question]], Mapping[str, Decision]]
Tell = Callable[[FileReading], None]


class DecisionsNeededError(DataError):
    """Some labels may become several things; `yaml` is a file of decisions with what is proposed."""

    def __init__(self, questions: Sequence[Question], old: str, new: str) -> None:
        self.questions = tuple(questions)
        self.yaml = decisions_yaml(questions, old, new)
        names = ", ".join(repr(one.name) for one in questions[:5])
        more = f" and {len(questions) - 5} more" if len(questions) > 5 else ""
        super().__init__(
            f"nothing tells what becomes of {names}{more}. Say it in a file such as this one, and give it "
            f"with --decisions FILE (--write-decisions FILE writes it); nothing was written:\n\n{self.yaml}"
        )


def migrate(
    old: Taxonomy | str | Path,
    new: Taxonomy | str | Path,
    paths: Sequence[str | Path] = (),
    out: str | Path = "migrated",
    decisions: Mapping[str, Any] | str | Path | None = None,
    *,
    answers: str | Path | None = None,
    force: bool = False,
    ask: Ask | None = None,
    tell: Tell | None = None,
) -> MigrationReport:
    """Write files whose rows are labelled by the taxonomy `old` anew, labelled by `new`.

    Parameters
    ----------
    old, new
        Taxonomies, or their files; `old` may also be a model folder.
    paths
        Files of rows; by default all that ``data:`` of `old` names, train and test.
    out
        The folder for the new files, each under the name that it has.
    decisions
        What becomes of labels of which the taxonomies do not tell it: a file of YAML, or a mapping of old
        names to a new name, a list of names (one of them, which a person says), ``"review"`` or None.
    answers
        Reviewed rows of the queue that an earlier migration of the same files left.
    force
        Whether other files in `out` may be overwritten.
    ask
        Is asked what is still open, and gives decisions.
    tell
        Is told how each file is read.

    Raises
    ------
    DecisionsNeededError
        Nothing tells what becomes of some labels of the rows; nothing was written.
    DataError
        A file cannot be read, or written so that `new` reads it; nothing was written.
    TaxonomyError, ModelError
        A taxonomy or a model folder has faults.
    """
    known: tuple[Reading, ...] = ()
    if not isinstance(old, Taxonomy):
        old, known = _loaded(Path(old))
    new = new if isinstance(new, Taxonomy) else _loaded(Path(new))[0]
    told = _decided(decisions, old, new)
    job = _Migration(LabelChanges(old, new, told), Path(out), known, _answers(answers, new), force=force)
    return job.run(paths or [*old.data.files("train"), *old.data.files("test")], ask, tell)


def _loaded(path: Path) -> tuple[Taxonomy, tuple[Reading, ...]]:
    """A taxonomy file, or that of a model folder with how its rows were read."""
    if not path.is_dir():
        return Taxonomy.load(path), ()
    manifest = read_manifest(path)
    taxonomy = Taxonomy.from_dict(manifest.taxonomy, str(path))
    return taxonomy, tuple(map(Reading.from_dict, manifest.readings))


def _decided(
    given: Mapping[str, Any] | str | Path | None, old: Taxonomy, new: Taxonomy
) -> dict[str, Decision]:
    if not given:
        return {}
    return decisions_of(given, old, new) if isinstance(given, Mapping) else read_decisions(given, old, new)


def _answers(path: str | Path | None, new: Taxonomy) -> dict[str, tuple[str, ...]]:
    """What people said of rows, by the keys of these."""
    if path is None:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for row in read_rows(path, Columns.of(new.data), new):
        if isinstance(row, BadRow):
            raise DataError(f"{row.file} row {row.number}: {row.reason}")
        found[row_key(row.id, row.text)] = row.labels
    return found


class _Migration:
    def __init__(
        self,
        changes: LabelChanges,
        out: Path,
        known: Sequence[Reading],
        answers: Mapping[str, tuple[str, ...]],
        *,
        force: bool,
    ) -> None:
        self._changes, self._out, self._known, self._answers = changes, out, known, answers
        self._force = force
        self._queue: dict[str, QueuedRow] = {}
        self._used: set[str] = set()

    def run(self, paths: Sequence[str | Path], ask: Ask | None, tell: Tell | None) -> MigrationReport:
        if not paths:
            raise DataError(
                f"{self._changes.old.source}: names no rows under `data:`; name the files of rows"
            )
        folders = _folders(paths, self._out)
        files = self._opened(paths, tell)
        names = [folder / file.out_name for folder, file in zip(folders, files, strict=True)]
        _refuse_twice([*names, Path(QUEUE_NAME)])
        counts = [self._counted(file) for file in files]
        self._settle(sum(counts, Counter()), ask)
        with _workplace(self._out) as place:
            found = []
            for file, name, count in zip(files, names, counts, strict=True):
                file.settle_columns(self._changes.became(), self._wanted(count))
                found.append(self._migrated(file, place, name))
            if self._queue:
                write_queue(place / QUEUE_NAME, list(self._queue.values()))
                names.append(Path(QUEUE_NAME))
            self._publish(place, names)
        return self._report(found)

    def _opened(self, paths: Sequence[str | Path], tell: Tell | None) -> list[LabelledFile]:
        files: list[LabelledFile] = []
        old, names = self._changes.old, self._changes.old_names
        for path in paths:
            known = [*self._known, *(one.reading for one in files)]
            file = LabelledFile(path, _told_of(path, old.data), names, old, self._changes.new, known)
            if tell is not None and file.told.is_guessed:
                tell(file.told)
            files.append(file)
        return files

    def _counted(self, file: LabelledFile) -> Counter[tuple[str, ...]]:
        """How many rows have which labels."""
        return Counter(row.labels for row in file.rows() if isinstance(row, Row))

    def _settle(self, rows: Counter[tuple[str, ...]], ask: Ask | None) -> None:
        """Have a decision for every label of the rows."""
        counts: Counter[str] = Counter()
        for labels, count in rows.items():
            counts.update(dict.fromkeys(labels, count))
        questions = self._changes.questions(counts)
        if not questions:
            return
        if ask is None:
            raise DecisionsNeededError(questions, self._changes.old.source, self._changes.new.source)
        told = {**self._changes.decisions, **ask(questions)}
        self._changes = LabelChanges(self._changes.old, self._changes.new, told)
        self._settle(rows, None)

    def _wanted(self, rows: Counter[tuple[str, ...]]) -> list[str]:
        """All labels that rows of a file will have."""
        wanted = dict.fromkeys(
            label for labels in rows for label in self._changes.of_row(labels).labels.labels
        )
        has_open = any(self._changes.of_row(labels).candidates for labels in rows)
        if self._answers and has_open:
            wanted |= dict.fromkeys(label for labels in self._answers.values() for label in labels)
        return list(wanted)

    def _migrated(self, file: LabelledFile, place: Path, name: Path) -> MigratedFile:
        kinds: Counter[Change] = Counter()
        queued = answered = 0

        def counted(row: Row) -> NewLabels:
            nonlocal queued, answered
            change = self._changes.of_row(row.labels)
            kinds.update(change.changes)
            if change.candidates:
                key = row_key(row.id, row.text)
                is_answered = key in self._answers
                self._used |= {key} if is_answered else set()
                answered += is_answered
                queued += not is_answered
                if not is_answered:
                    self._ask_about(row, change.labels.labels, change.candidates)
            return self._labels_of(row)

        made = place / name
        with writing(self._out / name):
            made.parent.mkdir(parents=True, exist_ok=True)
            found = file.write(made, counted)
        notes = file.verify(found, self._labels_of, _told_of(file.path, self._changes.new.data))
        return MigratedFile(
            source=str(file.path),
            out=str(self._out / name),
            rows=found.rows,
            changed=found.changed,
            refused=found.refused,
            labels=count_changes(kinds.elements()),
            queued=queued,
            answered=answered,
            notes=(*found.notes, *notes),
        )

    def _labels_of(self, row: Row) -> NewLabels:
        change = self._changes.of_row(row.labels)
        answer = self._answers.get(row_key(row.id, row.text)) if change.candidates else None
        if answer is None:
            return change.labels
        became = {
            old: tuple(name for name in now if name in answer) for old, now in change.labels.became.items()
        }
        return NewLabels(answer, became)

    def _ask_about(self, row: Row, labels: Sequence[str], candidates: Sequence[str]) -> None:
        key = row_key(row.id, row.text)
        self._queue.setdefault(
            key,
            QueuedRow(
                id=row.id,
                text=row.text,
                proposed=tuple(labels),
                scores=dict.fromkeys(candidates, round(1 / len(candidates), 4)),
                doubts=tuple(Doubt(SPLIT, name, 1.0) for name in candidates),
                model="",
            ),
        )

    def _publish(self, place: Path, names: Sequence[Path]) -> None:
        """Give all files their names, if none of them is another's."""
        other = [name for name in names if self._is_other(place / name, self._out / name)]
        if other and not self._force:
            listed = ", ".join(str(self._out / name) for name in other[:5])
            raise DataError(
                f"{listed}: {'is' if len(other) == 1 else 'are'} there already, with other content; nothing "
                "was written. Name another folder with --out, or overwrite with --force"
            )
        if self._force and Path(QUEUE_NAME) not in names:
            (self._out / QUEUE_NAME).unlink(missing_ok=True)
        for name in names:
            final = self._out / name
            with writing(final):
                final.parent.mkdir(parents=True, exist_ok=True)
                (place / name).replace(final)

    def _is_other(self, made: Path, final: Path) -> bool:
        return final.exists() and not (final.is_file() and filecmp.cmp(made, final, shallow=False))

    def _report(self, files: Sequence[MigratedFile]) -> MigrationReport:
        decisions = {name: one.yaml() for name, one in self._changes.decisions.items()}
        queue = str(self._out / QUEUE_NAME) if self._queue else None
        unused = len(self._answers.keys() - self._used)
        return MigrationReport(tuple(files), queue, len(self._queue), decisions, unused)


def _told_of(path: str | Path, data: DataSpec) -> Columns:
    """What a taxonomy tells of a file: all where it names the file itself."""
    named: set[Path] = set()
    for which in ("train", "test"):
        with suppress(DataError):  # files that are not there are not this one
            named.update(one.resolve() for one in data.files(which))
    is_named = Path(path).resolve() in named
    return Columns.of(data) if is_named else Columns.of_others(data)


def _folders(paths: Sequence[str | Path], out: Path) -> list[Path]:
    """In which folder within `out` each file goes: itself, or folders as they are where names are equal.

    Raises
    ------
    DataError
        One of them is standard input, lies there already, or is named twice.
    """
    found = [Path(path) for path in paths]
    for path in found:
        if str(path) == "-":
            raise DataError("standard input has no name; migrate files")
        if path.resolve().parent == out.resolve():
            raise DataError(f"{path}: lies in the folder for the new files; name another one with --out")
    if len({path.name for path in found}) == len(found):
        return [Path()] * len(found)
    whole = [path.resolve().parent for path in found]
    common = Path(os.path.commonpath(whole))
    return [folder.relative_to(common) for folder in whole]


def _refuse_twice(names: Sequence[Path]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(
                f"{name}: two files would have this name; migrate one at a time, each to a folder"
            )


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """A folder beside what is to come of it, which is gone afterwards, as is `out` if it stayed empty."""
    was_there = out.exists()
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".migrating-", dir=out))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not was_there and not any(out.iterdir()):
            out.rmdir()
