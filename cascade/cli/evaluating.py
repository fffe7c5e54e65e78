"""``cascade evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.hosted import keep_answers
from cascade.cli.inputs import chosen_model, columns_of, labelled_rows
from cascade.cli.shell import (
    DONE,
    REFUSED,
    cascade,
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
    from cascade.evaluate import Evaluation
    from cascade.model import Cascade
    from cascade.records import Row
    from cascade.report import Judged


@cascade.command(short_help="Compare a model with labelled rows.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@model_option
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page as well.")
@click.option(
    "--compare", type=click.Path(path_type=Path), metavar="DIR", help="Another model, on the same rows."
)
@json_option
@debug_option
def evaluate(
    inputs: tuple[str, ...], model: Path | None, report: Path | None, compare: Path | None, as_json: bool
) -> int:
    """Compare a model's answers with labelled rows.

    INPUT is one or several files with labels, read as the taxonomy of the model says. Rows that cannot be
    used are listed and left out, and the exit code is then 3.
    """
    from cascade.comparison import compared, render
    from cascade.model import Cascade
    from cascade.report import figures as figures_of

    models = [Cascade.load(folder) for folder in (chosen_model(model), compare) if folder is not None]
    read = [labelled_rows(inputs, columns_of(one.taxonomy.data), one.taxonomy) for one in models]
    rows = _in_all([found for found, _ in read])
    if not rows[0]:
        raise DataError(f"{', '.join(inputs)}: no rows to compare with.")
    judged = [_judged(one, some) for one, some in zip(models, rows, strict=True)]
    shown = figures_of(judged[0]) if report is not None else judged[0].evaluation.to_json()
    comparison = compared(judged[0], judged[1]) if compare is not None else None
    if comparison is not None:
        shown["comparison"] = comparison.to_json() | {"other": str(compare)}
    if report is not None:
        _write_page(shown, report)
    if as_json:
        print_json(shown)
    else:
        _show_evaluation(judged[0].evaluation)
        if comparison is not None:
            show(render(comparison, str(models[0].folder), str(compare)))
    return REFUSED if any(refused for _, refused in read) else DONE


def _in_all(read: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """The rows that all of the models could read, in their order."""
    keys = [{(row.file, row.number) for row in rows} for rows in read]
    common = set.intersection(*keys)
    return [[row for row in rows if (row.file, row.number) in common] for rows in read]


def _write_page(shown: Mapping[str, Any], path: Path) -> None:
    from cascade.report import page

    content = page(shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    note(f"{path}: a page of {len(content.encode()) / 1e6:.1f} MB, which loads nothing from elsewhere")


def _judged(model: Cascade, rows: Sequence[Row]) -> Judged:
    from cascade.datasets import label_truth
    from cascade.evaluate import Scored
    from cascade.evaluate import evaluate as compare
    from cascade.report import Judged

    if model.is_hosted:
        keep_answers(model.folder)
    with progress("evaluating"):
        texts = [row.text for row in rows]
        truth = label_truth(model.graph, [row.labels for row in rows])
        walked, ideal = model.walk(texts).whole(), model.oracle(texts, truth).whole()
        scored, oracle = (Scored(one.paths, model.decide(one)) for one in (walked, ideal))
        groups = model.taxonomy.groups.values()
        always = frozenset(group.name for group in groups if group.route == "always")
        found = compare(model.graph, truth, scored, oracle, always=always, seed=model.manifest.seed)
    return Judged(
        taxonomy=model.taxonomy,
        manifest=model.manifest,
        texts=texts,
        ids=[row.id for row in rows],
        truth=truth,
        scored=scored,
        oracle=oracle,
        evaluation=found,
    )


def _show_evaluation(evaluation: Evaluation) -> None:
    from cascade.evaluate import render

    show(render(evaluation))
