"""``cascade evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files, model_folders
from cascade.cli.hosted import keep_answers, require_keys, tell_usage
from cascade.cli.inputs import chosen_model, columns_of, labelled_rows
from cascade.cli.shell import (
    DONE,
    REFUSED,
    cascade,
    cores,
    counted,
    debug_option,
    json_option,
    model_option,
    note,
    print_json,
    progress,
    show,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.fitted import Cascade
    from cascade.measure.evaluated_rows import EvaluatedRows
    from cascade.rows.row import Row
    from cascade.taxonomy.definition import Taxonomy


@cascade.command(short_help="Compare a model with labelled rows.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, shell_complete=files)
@model_option
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page as well.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Another model, on the same rows.",
    shell_complete=model_folders,
)
@click.option(
    "--against",
    type=click.Choice(["flat"]),
    help="A model of the same labels without groups, trained on --train: what the hierarchy gains or loses.",
)
@click.option(
    "--train",
    multiple=True,
    metavar="FILE",
    help="Rows to train --against on; repeatable.",
    shell_complete=files,
)
@json_option
@debug_option
def evaluate(
    inputs: tuple[str, ...],
    *,
    model: Path | None,
    report: Path | None,
    compare: Path | None,
    against: str | None,
    train: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compare a model's answers with labelled rows.

    INPUT is one or several files with labels, read as the taxonomy of the model says. Rows that cannot be
    used are listed and left out, and the exit code is then 3.
    """
    from cascade.fitted import Cascade
    from cascade.measure.comparison import compare_models
    from cascade.measure.report import report_figures
    from cascade.measure.terminal import render_comparison, render_evaluation

    if against is not None and (compare is not None or not train):
        raise click.UsageError("--against flat takes --train FILE, and no --compare.")
    models = [Cascade.load(folder) for folder in (chosen_model(model), compare) if folder is not None]
    for one in models:
        require_keys(one.manifest)
    columns, known = columns_of(models[0].taxonomy.data, is_other=True), models[0].readings
    read = [labelled_rows(inputs, columns, one.taxonomy, known)[:2] for one in models]
    if against is not None:
        training = labelled_rows(train, columns, models[0].taxonomy, known).rows
        models.append(_flat(models[0], training))
        read.append((_without_groups(models[0].taxonomy, read[0][0]), []))
    rows = _in_all([found for found, _ in read])
    if not rows[0]:
        raise DataError(f"{', '.join(inputs)}: no rows to compare with.")
    # Two models are compared on the same rows.
    leave_out = len(models) == 1
    evaluated = [_evaluate(one, some, leave_out=leave_out) for one, some in zip(models, rows, strict=True)]
    unanswered = evaluated[0].unanswered
    if unanswered:
        note(f"{counted(len(unanswered), 'row')} left out, which got no answer; the first: {unanswered[0]}")
    shown = report_figures(evaluated[0]) if report is not None else evaluated[0].evaluation.to_json()
    comparison = compare_models(evaluated[0], evaluated[1]) if len(evaluated) > 1 else None
    other = against or str(compare)
    if comparison is not None:
        shown["comparison"] = comparison.to_json() | {"other": other}
    if report is not None:
        _write_page(shown, report)
    if as_json:
        print_json(shown)
    else:
        show(render_evaluation(evaluated[0].evaluation))
        if comparison is not None:
            show(render_comparison(comparison, str(models[0].folder), other))
    return REFUSED if unanswered or any(refused for _, refused in read) else DONE


def _flat(model: Cascade, training: Sequence[Row]) -> Cascade:
    """A model of the same labels without groups, of these rows."""
    from cascade.fitted import Cascade
    from cascade.measure.comparison import flat_taxonomy

    rows = _without_groups(model.taxonomy, training)
    texts, names = [row.text for row in rows], [row.labels for row in rows]
    with progress("training the flat model"):
        return Cascade.fit(
            flat_taxonomy(model.taxonomy), texts, names, seed=model.manifest.seed, jobs=cores()
        )


def _without_groups(taxonomy: Taxonomy, rows: Sequence[Row]) -> list[Row]:
    """The rows with the labels that they name, without those that name groups alone."""
    from cascade.measure.comparison import flat_labels

    labels = flat_labels(taxonomy, [row.labels for row in rows])
    pairs = zip(rows, labels, strict=True)
    return [row._replace(labels=tuple(names)) for row, names in pairs if names is not None]


def _in_all(read: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The rows that all of the models could read, in their order."""
    keys = [{(row.file, row.number) for row in rows} for rows in read]
    common = set.intersection(*keys)
    return [[row for row in rows if (row.file, row.number) in common] for rows in read]


def _write_page(shown: Mapping[str, Any], path: Path) -> None:
    from cascade.measure.report import render_html
    from cascade.system.files import atomic_write

    content = render_html(shown).encode()
    with atomic_write(path) as file:
        file.write(content)
    note(f"{path}: a page of {len(content) / 1e6:.1f} MB, which loads nothing from elsewhere")


def _evaluate(model: Cascade, rows: Sequence[Row], *, leave_out: bool) -> EvaluatedRows:
    if model.is_hosted:
        keep_answers(model.folder)
    with progress("evaluating"):
        found = model.evaluated(*_columns_of(rows), leave_out=leave_out)
    if model.is_hosted:
        tell_usage(model.manifest)
    return found


def _columns_of(rows: Sequence[Row]) -> tuple[list[str], list[tuple[str, ...]], list[str | int]]:
    return [row.text for row in rows], [row.labels for row in rows], [row.id for row in rows]
