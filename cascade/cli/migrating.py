"""``cascade migrate``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files
from cascade.cli.inputs import load_taxonomy
from cascade.cli.shell import (
    DONE,
    REFUSED,
    cascade,
    counted,
    debug_option,
    json_option,
    note,
    print_json,
    print_lines,
    progress,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.changes.decisions import Decision, Question
    from cascade.changes.migration import DecisionsNeededError
    from cascade.changes.migration_report import MigratedFile, MigrationReport
    from cascade.taxonomy.definition import Taxonomy


_DECISIONS = "decisions.yaml"


@cascade.command("migrate", short_help="Rewrite labelled rows for a taxonomy that was changed.")
@click.argument("old", shell_complete=files)
@click.argument("new", shell_complete=files)
@click.argument("rows", nargs=-1, shell_complete=files)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="Folder for the new files, each under its own name.",
)
@click.option(
    "--decisions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="YAML that says what becomes of labels of which nothing else tells it.",
    shell_complete=files,
)
@click.option(
    "--write-decisions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a file of decisions to be looked through, and stop.",
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Reviewed rows of the queue that an earlier run left.",
    shell_complete=files,
)
@click.option("--force", is_flag=True, help="Overwrite files that are in DIR.")
@json_option
@debug_option
def migrate(
    old: str,
    new: str,
    rows: Sequence[str],
    out: Path,
    decisions: Path | None,
    write_decisions: Path | None,
    answers: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> int:
    """Rewrite labelled rows for a taxonomy that was changed, each file in its own format.

    OLD is the taxonomy file, or the model folder, by which the rows are labelled, NEW the taxonomy file by
    which they are to be. ROWS are files; without them all that OLD names under data, train and test.

    Labels of which neither names nor aliases tell what they become are asked about at a terminal, or taken
    from the decisions. Rows whose label became several keep the group that is sure and go into a queue for
    `cascade serve --review`; --answers puts what was said there into the same files.
    """
    from cascade.changes.migration import DecisionsNeededError
    from cascade.changes.migration import migrate as migrated

    before, after = _old(old), load_taxonomy(new)
    asked = None if write_decisions is not None or not _is_terminal() else _Asking(before, after)
    try:
        with progress("migrating"):
            report = migrated(
                old if Path(old).is_dir() else before,
                after,
                rows,
                out,
                decisions,
                answers=answers,
                force=force,
                ask=asked,
                tell=lambda reading: note(reading.describe()),
            )
    except DecisionsNeededError as needed:
        if write_decisions is None:
            raise
        return _write_decisions(needed, write_decisions, force=force)
    if write_decisions is not None:
        note("nothing has to be decided: the rows were migrated")
    if asked is not None and asked.has_asked:
        decisions = _kept_decisions(report, out)
    return _report(report, (old, new, rows, out, decisions), as_json=as_json)


def _old(path: str) -> Taxonomy:
    """The taxonomy of a file or of a model folder."""
    if not Path(path).is_dir():
        return load_taxonomy(path)
    from cascade.model.folder import read_manifest
    from cascade.taxonomy.definition import Taxonomy

    return Taxonomy.from_dict(read_manifest(Path(path)).taxonomy, path)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


class _Asking:
    """Asks at the terminal; Enter takes what is proposed."""

    def __init__(self, old: Taxonomy, new: Taxonomy) -> None:
        self._old, self._new = old, new
        self.has_asked = False

    def __call__(self, questions: Sequence[Question]) -> Mapping[str, Decision]:
        self.has_asked = True
        note(
            f"What becomes of {counted(len(questions), 'label')}? A new name; [a, b]: one of these, which a "
            "person says row by row; review: a person says it; none: rows lose it. Enter takes the proposal."
        )
        return {one.name: self._decision(one) for one in questions}

    def _decision(self, question: Question) -> Decision:
        from cascade.changes.decisions import said_of

        proposal = question.proposal.yaml()
        while True:
            told = f"{question.name} ({counted(question.rows, 'row')}; {question.why})"
            answer = click.prompt(told, default=proposal, err=True)
            try:
                return said_of(question.name, answer, self._old, self._new)
            except DataError as error:
                note(str(error))


def _write_decisions(needed: DecisionsNeededError, path: Path, *, force: bool) -> int:
    from cascade.system.files import atomic_write

    if path.exists() and not force:
        raise DataError(f"{path}: is there already; name another file, or overwrite it with --force")
    with atomic_write(path) as file:
        file.write(needed.yaml.encode())
    note(
        f"{path}: {counted(len(needed.questions), 'label')} to decide; look through it, then give --decisions"
    )
    return DONE


def _kept_decisions(report: MigrationReport, out: Path) -> Path:
    """A file with all that was said, so that nobody is asked twice."""
    from cascade.changes.decisions import told_yaml
    from cascade.system.files import atomic_write

    path = out / _DECISIONS
    with atomic_write(path) as file:
        file.write(told_yaml(report.decisions).encode())
    note(f"{path}: what was decided, for --decisions")
    return path


Given = tuple[str, str, Sequence[str], Path, Path | None]


def _report(report: MigrationReport, given: Given, *, as_json: bool) -> int:
    from cascade.rows.row import summarise_bad

    if report.refused:
        note(summarise_bad(report.refused))
        note(f"{counted(len(report.refused), 'row')} carried over as they stand")
    for line in dict.fromkeys(line for one in report.files for line in one.notes):
        note(line)
    if report.unused_answers:
        note(
            f"{counted(report.unused_answers, 'answer')} to rows that are in no file, or need none: left out"
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_lines(_lines(report, given))
    return REFUSED if report.refused else DONE


def _lines(report: MigrationReport, given: Given) -> Iterator[str]:
    for one in report.files:
        yield _file_line(one)
    if report.labels:
        yield f"labels: {_counts(report.labels)}"
    for name, decision in report.decisions.items():
        yield f"  {name}: {decision}"
    if report.queue is not None:
        yield f"{report.queue}: {counted(report.questions, 'row')} for a person to look at"
        yield f"next: cascade serve --review {shlex.quote(report.queue)}, then {_again(report.queue, given)}"


def _file_line(one: MigratedFile) -> str:
    told = [f"{counted(one.rows, 'row')}, {one.changed:,} changed"]
    told += [f"{one.answered:,} answered"] if one.answered else []
    told += [f"{one.queued:,} left open"] if one.queued else []
    told += [f"{len(one.refused):,} refused"] if one.refused else []
    return f"{one.out}: {', '.join(told)}"


def _counts(labels: Mapping[str, int]) -> str:
    words = {"open": "left open"}
    return ", ".join(f"{count:,} {words.get(change, change)}" for change, count in labels.items())


def _again(queue: str, given: Given) -> str:
    """The same command, with the answers to the queue."""
    from cascade.teach.queue import ANSWERS, path_beside

    old, new, rows, out, decisions = given
    told = ["--decisions", str(decisions)] if decisions is not None else []
    answers = str(path_beside(Path(queue), ANSWERS))
    words = ["cascade", "migrate", old, new, *rows, "--out", str(out), *told, "--answers", answers, "--force"]
    return shlex.join(words)
