"""``cascade predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files
from cascade.cli.hosted import keep_answers, require_keys, tell_usage
from cascade.cli.inputs import chosen_model
from cascade.cli.shell import (
    DONE,
    ERRORS_HELP,
    OUT_HELP,
    REFUSED,
    EncodingBar,
    cascade,
    counted,
    debug_option,
    engine_option,
    jobs_option,
    model_option,
    note,
    number,
    progress,
    show,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cascade.fitted import Cascade
    from cascade.predict.request import Outcome, Request
    from cascade.predict.request import Progress as Step
    from cascade.rows.readings import Columns, Reading


ALL_COLUMNS = "*"


@cascade.command(short_help="Give each row of a file its labels.")
@click.argument("source", metavar="INPUT", shell_complete=files)
@model_option
@click.option("--out", type=click.Path(), metavar="FILE", help=OUT_HELP)
@click.option(
    "--top", type=click.IntRange(min=1), metavar="K", help="The K best labels, whatever their thresholds."
)
@click.option(
    "--scores",
    type=click.Choice(["chosen", "all"]),
    default="chosen",
    show_default=True,
    help="Scores of the chosen labels, or of all that were looked at.",
)
@click.option("--trace", is_flag=True, help="Tell for each row which nodes were visited, and why.")
@click.option("--evidence", is_flag=True, help="Tell which words of a text carry each of its labels.")
@click.option(
    "--keep",
    is_flag=False,
    flag_value=ALL_COLUMNS,
    metavar="[COLUMN,...]",
    help="Columns of INPUT to carry along: all, or those named.",
)
@click.option(
    "--wide",
    is_flag=False,
    flag_value="flags",
    type=click.Choice(["flags", "scores"]),
    metavar="[flags|scores]",
    help="A column for each label as well: 0 and 1, or its score.",
)
@click.option("--paths", is_flag=True, help="A column for each level of the taxonomy as well.")
@jobs_option
@engine_option
@click.option("--text-column", metavar="NAME", help="Column of the text, if not that of the taxonomy.")
@click.option("--id-column", metavar="NAME", help="Column of the id, if not that of the taxonomy.")
@click.option("--errors", type=click.Path(path_type=Path), metavar="FILE", help=ERRORS_HELP)
@click.option(
    "--batch", is_flag=True, help="Ask services by their Batch API: for less money, within a day a level."
)
@click.option(
    "--dry-run", is_flag=True, help="Tell what services would be asked and what it costs, and ask nothing."
)
@click.option("--no-cache", is_flag=True, help="Ask services anew, and keep none of their answers.")
@click.option(
    "--debug-http", is_flag=True, help="Show what is sent to services and what comes, texts included."
)
@debug_option
def predict(
    source: str,
    model: Path | None,
    text_column: str | None,
    id_column: str | None,
    jobs: int | None,
    batch: bool,
    no_cache: bool,
    debug_http: bool,
    dry_run: bool,
    keep: str | None,
    **settings: Any,
) -> int:
    """Give each row of a file its labels, one JSON object a row, in the order of the rows.

    INPUT is a file of rows (.jsonl, .csv, .xlsx, .parquet and many more), or - for standard input as JSONL.
    With --out, a run that was stopped goes on when the same command is given again. Rows that cannot be used
    are written aside, and the exit code is then 3.
    """
    from cascade.fitted import Cascade
    from cascade.predict.request import Request

    if batch and no_cache:
        raise click.UsageError("--batch keeps all answers, to go on with them: leave --no-cache away.")
    loaded = Cascade.load(chosen_model(model))
    if batch and not loaded.is_hosted:
        raise click.UsageError(f"{loaded.folder}: all its models are embedded: leave --batch away.")
    if loaded.is_hosted:
        if not dry_run:
            require_keys(loaded.manifest)
        keep_answers(loaded.folder, forget=no_cache, show=debug_http, batch=batch)
    columns, known = loaded.columns_of_texts(text=text_column, id=id_column)
    if dry_run:
        return tell_forecast(loaded, source, columns, known)
    in_batches = batch or loaded.can_wait
    request = Request(
        source=source,
        columns=columns,
        known=known,
        jobs=jobs,
        in_batches=in_batches,
        keep=tuple(name.strip() for name in (keep or "").split(",") if name.strip()),
        **settings,
    )
    outcome = predicted(loaded, request)
    if loaded.asks_services:
        tell_usage(loaded.manifest)
    return _told_outcome(outcome, request)


def tell_forecast(model: Cascade, source: str, columns: Columns, readings: Sequence[Reading]) -> int:
    """Tell what the texts of a file would take at services; nothing is sent."""
    from cascade.cli.asking import forecast_lines, forecast_table
    from cascade.predict.forecast import forecast
    from cascade.rows.reading import read_rows
    from cascade.rows.row import Row

    with progress("reading"):
        rows = read_rows(source, columns, None, readings)
        texts = [row.text for row in rows if isinstance(row, Row)]
    if not model.is_hosted:
        note(f"{counted(len(texts), 'row')}: all models are embedded, and nothing is asked of a service")
        return DONE
    found = forecast(model.looks, texts)
    show(forecast_table(found))
    for line in forecast_lines(found):
        note(line)
    note("dry run: nothing was sent or written")
    return DONE


def predicted(model: Cascade, request: Request) -> Outcome:
    """Answer a file, with a bar; what came of it."""
    from cascade.encoders.contract import listen
    from cascade.predict.files import predict_file
    from cascade.system.compiled import announce

    with progress("predicting") as bar:
        announce(bar.say)
        listen(EncodingBar(bar))

        def report(step: Step) -> None:
            bar.at(step.rows + step.refused, None)
            if step.detail:
                bar.say(step.detail)

        return predict_file(model, request, sys.stdout.buffer, refuse=bar.say, report=report)


def _told_outcome(outcome: Outcome, request: Request) -> int:
    """The exit code, after a line about where the rows are."""
    if request.out is not None:
        note(f"{request.out}: {counted(outcome.rows, 'row')}")
    for line in outcome.notes:
        note(line)
    if not outcome.refused:
        return DONE
    rows = "1 row was" if outcome.refused == 1 else f"{number(outcome.refused)} rows were"
    note(f"{rows} refused: see {outcome.errors or 'above'}")
    return REFUSED
