"""``cascade distil``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files, model_folders
from cascade.cli.fitting import FitLog, check_out
from cascade.cli.hosted import keep_answers, require_keys, spent_usd, tell_usage
from cascade.cli.inputs import (
    columns_of,
    labelled_rows,
    remember_last,
    stop_at_refused,
)
from cascade.cli.shell import (
    DONE,
    REFUSED,
    EncodingBar,
    cascade,
    cores,
    counted,
    debug_option,
    figure,
    jobs_option,
    json_option,
    note,
    number,
    print_json,
    progress,
    show,
    usd,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.fitted import Cascade
    from cascade.learn.distil import Lessons
    from cascade.learn.fit import OutOfFold
    from cascade.measure.students import Figures
    from cascade.rows.reading import ReadRows
    from cascade.rows.row import BadRow, Row
    from cascade.taxonomy.definition import Taxonomy
    from cascade.teach.teacher import Taught

_FAILED_SHOWN = 3
_TEACHER, _WITHOUT, _WITH = "teacher", "student without texts", "student with texts"


@cascade.command(short_help="Keep what a dear model knows in an embedded one.")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL", shell_complete=model_folders)
@click.argument("source", metavar="TEXTS", shell_complete=files)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="STUDENT",
    help="Model folder to write; answers of MODEL are kept in STUDENT.answers.jsonl.",
)
@click.option(
    "--student",
    default="words",
    show_default=True,
    metavar="NAME",
    help="What the student knows: words, or an encoder of that name beside them.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Labelled rows, if not data.train of the taxonomy; repeatable.",
    shell_complete=files,
)
@click.option(
    "--test",
    multiple=True,
    metavar="FILE",
    help="Labelled rows to compare on, if not data.test of the taxonomy; repeatable.",
    shell_complete=files,
)
@click.option("--most", type=click.IntRange(min=1), metavar="N", help="Ask about no more texts than this.")
@click.option(
    "--budget", type=click.FloatRange(min=0), metavar="USD", help="Spend no more than this at services."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option("--text-column", metavar="NAME", help="Column of the text, if not that of the taxonomy.")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Go on without the rows that cannot be used; exit code 3."
)
@jobs_option
@json_option
@debug_option
def distil(
    model: Path,
    source: str,
    *,
    out: Path,
    student: str,
    data: tuple[str, ...],
    test: tuple[str, ...],
    most: int | None,
    budget: float | None,
    seed: int,
    text_column: str | None,
    skip_bad_rows: bool,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Have a model label texts without labels, and teach an embedded model by its probabilities.

    MODEL is any model folder: a fine-tune at a service, prompts, an encoder, tiers. TEXTS is a file as
    `cascade predict` takes it. The student learns from these texts and from the labelled rows together, and
    is a model folder as any other. A run that was stopped goes on when the same command is given again: no
    text is asked about twice.
    """
    from cascade.fitted import Cascade
    from cascade.learn.distil import student_taxonomy
    from cascade.system.compiled import announce

    started = time.perf_counter()
    check_out(out)
    if out.exists() and out.resolve() == model.resolve():
        raise click.UsageError("--out is MODEL itself: name another folder for the student.")
    teacher = Cascade.load(model)
    taxonomy = student_taxonomy(teacher.taxonomy, student)
    if teacher.is_hosted:
        require_keys(teacher.manifest)
        keep_answers(teacher.folder)
    announce(note)
    rows, refused = _taught_rows(teacher, data, skip=skip_bad_rows)
    held_out = _test_rows(teacher, test)
    texts = _Texts.of(teacher, source, text_column, [row.text for row in rows])
    run = _Run(teacher, taxonomy, rows, out, seed, jobs or cores())
    with tempfile.TemporaryDirectory(prefix="cascade-distil-") as scratch:
        without = run.untaught(Path(scratch) / "student")
        taught = run.taught(without, texts.rows, most_asked(teacher, texts.rows, most, budget), budget)
        found, lessons = run.fitted(taught)
        table = _compared(run, without, found, held_out)
    remember_last(out)
    seconds = time.perf_counter() - started
    summary = {
        "model": str(out),
        "rows": len(rows),
        "texts": len(taught.answers),
        "asked": taught.asked,
        "failed": len(taught.failed),
        "refused": len(refused) + len(texts.refused),
        "settled_by": lessons.settled_by,
        "compared_on": "test" if held_out else "out of fold",
        "figures": {name: None if one is None else asdict(one) for name, one in table.items()},
        "seconds": round(seconds, 1),
    }
    if as_json:
        print_json(summary)
    else:
        _show(summary, table, len(held_out))
    if teacher.asks_services:
        tell_usage(teacher.manifest)
    return REFUSED if summary["refused"] or summary["failed"] else DONE


def _taught_rows(teacher: Cascade, data: Sequence[str], *, skip: bool) -> tuple[list[Row], Sequence[BadRow]]:
    """The labelled rows of the student, and those that are refused."""
    spec = teacher.taxonomy.data
    if not data and not spec.train:
        note("no labelled rows: thresholds are settled by what the teacher chose")
        return [], []
    paths = data or _files_here(teacher.taxonomy)
    found = _labelled(teacher, paths, is_other=bool(data))
    stop_at_refused(found.refused, skip=skip)
    return found.rows, found.refused


def _files_here(taxonomy: Taxonomy) -> Sequence[str | Path]:
    try:
        return taxonomy.data.files("train")
    except DataError as error:
        raise DataError(
            f"the labelled rows of the model are not found from here ({error}). Name them with --data FILE"
        ) from error


def _test_rows(teacher: Cascade, test: Sequence[str]) -> list[Row]:
    """The rows to compare on; none where none are named, or those of the taxonomy are not found from here."""
    if test:
        found = _labelled(teacher, test, is_other=True)
        if not found.rows:
            raise DataError(f"{', '.join(test)}: no rows to compare on.")
        return found.rows
    try:
        paths = teacher.taxonomy.data.files("test") if teacher.taxonomy.data.test else ()
    except DataError:
        return []
    return _labelled(teacher, paths, is_other=False).rows if paths else []


def _labelled(teacher: Cascade, paths: Sequence[str | Path], *, is_other: bool) -> ReadRows:
    columns = columns_of(teacher.taxonomy.data, is_other=is_other)
    return labelled_rows(paths, columns, teacher.taxonomy, teacher.readings)


@dataclass(frozen=True)
class _Texts:
    """Rows without labels: those that nearly equal no labelled row nor one before them, and those refused."""

    rows: list[Row]
    refused: list[BadRow]

    @classmethod
    def of(cls, teacher: Cascade, source: str, column: str | None, known: Sequence[str]) -> _Texts:
        from cascade.learn.distil import new_texts
        from cascade.rows.reading import read_all
        from cascade.rows.row import summarise_bad

        columns, readings = teacher.columns_of_texts(text=column)
        with progress("reading"):
            read, refused, settled = read_all([source], columns, None, readings)
            places = new_texts(known, [row.text for row in read])
        for one in settled:
            if one.is_guessed:
                note(one.describe())
        if refused:
            note(summarise_bad(refused))
        if len(places) < len(read):
            note(
                f"{counted(len(read) - len(places), 'text')} left out: nearly equal to a labelled row or to "
                "another text"
            )
        if not len(places):
            raise DataError(
                f"{source}: no text that is not among the labelled rows, so there is nothing to ask."
            )
        return cls([read[place] for place in places.tolist()], refused)


def most_asked(teacher: Cascade, rows: Sequence[Row], most: int | None, budget: float | None) -> int | None:
    """How many texts may be asked about, those of a run before among them; None for all."""
    from cascade.predict.forecast import forecast

    if budget is None:
        return most
    if not teacher.asks_services:
        note("nothing is asked of a service: --budget changes nothing")
        return most
    cost = forecast(teacher.looks, [row.text for row in rows]).usd if teacher.is_hosted else None
    if cost is None:
        raise DataError("the prices of this model are not known. Say --most N instead of --budget")
    each = cost / len(rows)
    affordable = len(rows) if not each else int(budget / each)
    if not affordable:
        raise DataError(f"a text costs about ${each:.2g}: more than --budget {budget:g}. Nothing was sent")
    if affordable < len(rows):
        note(
            f"all {number(len(rows))} texts cost about {usd(cost)}: --budget is enough for "
            f"{number(affordable)}"
        )
    return affordable if most is None else min(most, affordable)


@dataclass(frozen=True)
class _Run:
    """A teacher, and what its students have in common."""

    teacher: Cascade
    taxonomy: Taxonomy
    rows: Sequence[Row]
    out: Path
    seed: int
    jobs: int

    @property
    def labels(self) -> list[Sequence[str]]:
        return [row.labels for row in self.rows]

    def untaught(self, folder: Path) -> tuple[Cascade, OutOfFold] | None:
        """A student of the labelled rows alone; None where these teach nothing."""
        from cascade.fitted import Cascade
        from cascade.learn.datasets import Dataset
        from cascade.learn.fit import fit_out_of_fold

        if not any(self.labels):
            return None
        dataset = Dataset.make(self.taxonomy, [row.text for row in self.rows], self.labels)
        with progress(_WITHOUT):
            found = fit_out_of_fold(dataset, folder, seed=self.seed, jobs=self.jobs)
        return Cascade.load(folder), found

    def taught(
        self,
        without: tuple[Cascade, OutOfFold] | None,
        rows: Sequence[Row],
        most: int | None,
        budget: float | None,
    ) -> Taught:
        """What the teacher says of the texts that teach most."""
        from cascade.teach.teacher import ANSWERS, TeacherAnswers, most_useful, teach

        path = self.out.with_name(f"{self.out.name}{ANSWERS}")
        kept = TeacherAnswers(path, self.teacher.digest, self.teacher.graph)
        with kept.opened() as mended, progress("asking") as bar:
            for line in mended:
                bar.say(line)
            wanted = most_useful(None if without is None else without[0], rows, most, self.seed)
            at_once = len(wanted) if self.teacher.can_wait else None
            found = teach(
                self.teacher,
                wanted,
                kept,
                may_ask=self._has_money(budget),
                at_once=at_once,
                report=bar.at,
            )
        _tell_asked(found, path)
        return found

    def _has_money(self, budget: float | None) -> Callable[[], bool]:
        if budget is None or not self.teacher.is_hosted:
            return lambda: True
        return lambda: (spent_usd(self.teacher.manifest) or 0.0) < budget

    def fitted(self, taught: Taught) -> tuple[OutOfFold, Lessons]:
        """The student with texts, in its folder, and what it learned from."""
        from cascade.encoders.contract import listen
        from cascade.learn.distil import Lessons
        from cascade.learn.distil import distil as learn

        lessons = Lessons(self.taxonomy, [row.text for row in self.rows], self.labels, taught.answers)
        with progress("fitting") as bar:
            listen(EncodingBar(bar))
            found = learn(
                lessons,
                self.out,
                teacher={"teacher": self.teacher.digest},
                is_calibrated=self.teacher.manifest.is_calibrated,
                seed=self.seed,
                jobs=self.jobs,
                report=FitLog(bar),
                readings=self.teacher.readings,
            )
        return found, lessons


def _tell_asked(found: Taught, path: Path) -> None:
    before = len(found.answers) - found.asked
    earlier = f", {number(before)} answered before" if before else ""
    note(f"{path}: {counted(found.asked, 'text')} asked about{earlier}")
    if found.is_short:
        note("the budget is spent: the student learns from what was answered")
    for row, why in found.failed[:_FAILED_SHOWN]:
        note(f"{row.file} row {row.number}: {why}")
    if found.failed:
        note(f"{counted(len(found.failed), 'text')} without an answer; the same command asks again")


def _compared(
    run: _Run, without: tuple[Cascade, OutOfFold] | None, found: OutOfFold, test: Sequence[Row]
) -> dict[str, Figures | None]:
    """The figures of teacher and students; None where there is nothing to tell."""
    from cascade.fitted import Cascade
    from cascade.measure.students import Figures

    if test:
        models = {_TEACHER: run.teacher, _WITHOUT: without and without[0], _WITH: Cascade.load(run.out)}
        texts, labels = [row.text for row in test], [row.labels for row in test]
        with progress("comparing"):
            return {
                name: None if one is None else Figures.of(one.evaluated(texts, labels).evaluation)
                for name, one in models.items()
            }
    metrics = run.teacher.manifest.metrics
    told = Figures(metrics.get("micro_f1"), metrics.get("macro_f1"), None)
    if without is None:
        return {_TEACHER: told, _WITHOUT: None, _WITH: None}
    return {
        _TEACHER: told,
        _WITHOUT: Figures.out_of_fold(without[1], run.labels),
        _WITH: Figures.out_of_fold(found, run.labels) if _knows_no_row(run.teacher) else None,
    }


def _knows_no_row(teacher: Cascade) -> bool:
    """Whether it learned from none.

    What one says of texts that did tells of its rows as well: a student of these texts has seen their labels.
    """
    from cascade.backends import KINDS

    return all(KINDS[one.backend["kind"]].prompted for one in teacher.manifest.groups.values())


def _show(summary: dict[str, Any], table: dict[str, Figures | None], n_test: int) -> None:
    click.echo(
        f"{summary['model']}: a student of {counted(summary['rows'], 'labelled row')} and "
        f"{counted(summary['texts'], 'text')}, {summary['seconds']} s"
    )
    if any(table.values()):
        show(_drawn(table))
    if n_test:
        note(f"by {counted(n_test, 'row')} of test")
    elif table[_WITH] is None:
        note(
            f"{'out of fold; ' if summary['settled_by'] == 'rows' else ''}nothing tells how good the student "
            "with texts is but rows that the teacher did not learn: name some with --test FILE"
        )
    else:
        note("out of fold")


def _drawn(table: dict[str, Figures | None]) -> RenderableType:
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False)
    drawn.add_column("")
    for name in ("micro F1", "macro F1", "precision at 1"):
        drawn.add_column(name, justify="right")
    for name, one in table.items():
        cells = ("-",) * 3 if one is None else (one.micro_f1, one.macro_f1, one.precision_at_1)
        drawn.add_row(name, *(one if isinstance(one, str) else figure(one) for one in cells))
    return drawn
