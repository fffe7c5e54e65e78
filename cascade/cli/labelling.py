"""``cascade label``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files
from cascade.cli.hosted import keep_answers, require_keys, tell_usage
from cascade.cli.inputs import chosen_model, columns_of, model_words
from cascade.cli.predicting import predicted, tell_forecast
from cascade.cli.reviewing import texts_known
from cascade.cli.shell import (
    DONE,
    REFUSED,
    cascade,
    counted,
    debug_option,
    jobs_option,
    json_option,
    model_option,
    note,
    number,
    print_json,
    print_lines,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.fitted import Cascade
    from cascade.predict.request import Outcome, Request
    from cascade.rows.row import Row
    from cascade.teach.labelling import Labelled

_WORK = ".answers.jsonl"
_STDIN = "-"


class Sureness(click.ParamType[float | str]):
    """A probability, or a share of rows as per cent."""

    name = "sureness"

    def convert(
        self, value: float | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """The number, between 0 and 1; the text itself where it is a share."""
        given = str(value)
        is_share = given.endswith("%")
        try:
            found = float(given.removesuffix("%"))
        except ValueError:
            found = 0.0
        if not 0 < found <= (100 if is_share else 1):
            expected = "expected a probability such as 0.8, or a share of the rows such as 70%"
            self.fail(f"{given!r}: {expected}", param, ctx)
        return given if is_share else found


@cascade.command(short_help="Label texts by a model, as rows to learn from.")
@click.argument("source", metavar="TEXTS", shell_complete=files)
@model_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Where the rows go (.jsonl).",
)
@click.option(
    "--sure",
    type=Sureness(),
    default=0.8,
    show_default=True,
    metavar="P|SHARE%",
    help="How sure an answer has to be, or which share of them, the surest, become rows.",
)
@click.option(
    "--review",
    "queue",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the others are queued for a person [default: OUT.review.jsonl, beside OUT].",
)
@click.option(
    "--known",
    multiple=True,
    metavar="FILE",
    help="Rows whose texts are left out, such as those of training; again for more files.",
    shell_complete=files,
)
@jobs_option
@click.option("--text-column", metavar="NAME", help="Column of the text, if not that of the taxonomy.")
@click.option("--id-column", metavar="NAME", help="Column of the id, if not that of the taxonomy.")
@click.option(
    "--errors",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File for refused rows [default: OUT.errors.jsonl].",
)
@click.option("--batch", is_flag=True, help="Ask services by their Batch API: for less money, within a day.")
@click.option("--dry-run", is_flag=True, help="Tell what services would be asked and what it costs.")
@json_option
@debug_option
def label(
    source: str,
    *,
    model: Path | None,
    out: Path,
    sure: float | str,
    queue: Path | None,
    known: Sequence[str],
    jobs: int | None,
    text_column: str | None,
    id_column: str | None,
    errors: Path | None,
    batch: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Label texts by a model: rows for `cascade fit`, and a queue of those that it is not sure of.

    TEXTS is a file of rows (.jsonl, .csv, .xlsx, .parquet and many more). What was answered or skipped in the
    queue before is left out. A run that was stopped goes on when the same command is given again. Rows that
    cannot be used are written aside, and the exit code is then 3.
    """
    from cascade.fitted import Cascade
    from cascade.predict.request import Request
    from cascade.teach.queue import QUEUE, path_beside

    if source == _STDIN:
        raise click.UsageError("texts are read twice, which standard input cannot be: name a file.")
    if out.suffix != ".jsonl":
        raise click.BadParameter(f"{out}: expected a name that ends in .jsonl", param_hint="'--out'")
    queue = queue or path_beside(out, QUEUE)
    _check_apart(source, out, queue)
    loaded = Cascade.load(chosen_model(model))
    if loaded.is_hosted:
        if not dry_run:
            require_keys(loaded.manifest)
        keep_answers(loaded.folder, batch=batch)
    columns, readings = loaded.columns_of_texts(text=text_column, id=id_column)
    if dry_run:
        return tell_forecast(loaded, source, columns, readings)
    request = Request(
        source=source,
        out=out.with_name(out.name + _WORK),
        columns=columns,
        known=readings,
        scores="all",
        trace=True,
        jobs=jobs,
        errors=errors or out.with_name(f"{out.stem}.errors.jsonl"),
        in_batches=batch or loaded.can_wait,
    )
    outcome = predicted(loaded, request)
    found = _labelled(loaded, request, outcome, out, queue, sure, texts_known(known, columns, queue, loaded))
    if loaded.asks_services:
        tell_usage(loaded.manifest)
    if as_json:
        print_json(_summary(found, outcome, out, queue))
    else:
        print_lines(_lines(found, out, queue, loaded))
    for line in outcome.notes:
        note(line)
    if outcome.refused:
        note(f"{counted(outcome.refused, 'row')} refused: see {outcome.errors}")
    return REFUSED if outcome.refused else DONE


def _check_apart(source: str, out: Path, queue: Path) -> None:
    taken = {Path(source).resolve(): "the texts"}
    for path, what in ((out, "the rows"), (queue, "the queue")):
        if found := taken.get(path.resolve()):
            raise DataError(f"{path}: holds {found}, and would be overwritten; name another file")
        taken[path.resolve()] = what


def _labelled(
    model: Cascade,
    request: Request,
    outcome: Outcome,
    out: Path,
    queue: Path,
    sure: float | str,
    known: set[str],
) -> Labelled:
    """Take the answers apart, in the order of the texts; they go when all is written."""
    from cascade.teach.labelling import answers_in, confidence, least_sure, paired, write_labelled

    answers = Path(str(request.out))
    if isinstance(sure, str):
        share = float(sure.removesuffix("%")) / 100
        sure = least_sure([confidence(one) for one in answers_in(answers)], share)
    pairs = paired(_rows(request), _refused_numbers(outcome), answers_in(answers), request.source)
    columns = columns_of(model.taxonomy.data)
    found = write_labelled(model, pairs, out, queue, sure, columns, known)
    answers.unlink()
    return found


def _rows(request: Request) -> Iterator[Row]:
    from cascade.rows.reading import read_rows
    from cascade.rows.row import Row

    for row in read_rows(request.source, request.columns, None, request.known):
        if isinstance(row, Row):
            yield row


def _refused_numbers(outcome: Outcome) -> set[int]:
    from cascade.teach.labelling import answers_in

    return set() if outcome.errors is None else {one["row"] for one in answers_in(outcome.errors)}


def _summary(found: Labelled, outcome: Outcome, out: Path, queue: Path) -> dict[str, object]:
    return {
        "rows": found.rows,
        "queued": found.queued,
        "left_out": found.left_out,
        "refused": outcome.refused,
        "sure": found.least_sure,
        "out": str(out),
        "queue": str(queue) if found.queued else None,
    }


def _lines(found: Labelled, out: Path, queue: Path, model: Cascade) -> Iterator[str]:
    from cascade.teach.queue import ANSWERS, path_beside

    known = f"; {number(found.left_out)} are known and left out" if found.left_out else ""
    yield f"{out}: {counted(found.rows, 'row')}{known}"
    data = f"--data {shlex.quote(str(out))}"
    if found.queued:
        yield f"{queue}: {counted(found.queued, 'row')} less sure than {found.least_sure:g}"
        yield f"next: cascade serve --review {shlex.quote(str(queue))}{model_words(model.folder)}"
        data += f" --data {shlex.quote(str(path_beside(queue, ANSWERS)))}"
    yield f"{'then' if found.queued else 'next'}: cascade fit TAXONOMY {data}"
