"""``cascade evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
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
@json_option
@debug_option
def evaluate(inputs: tuple[str, ...], model: Path | None, report: Path | None, as_json: bool) -> int:
    """Compare a model's answers with labelled rows.

    INPUT is one or several files with labels, read as the taxonomy of the model says. Rows that cannot be
    used are listed and left out, and the exit code is then 3.
    """
    from cascade.model import Cascade

    loaded = Cascade.load(chosen_model(model))
    if loaded.is_hosted:
        keep_answers(loaded.folder)
    rows, refused = labelled_rows(inputs, columns_of(loaded.taxonomy.data), loaded.taxonomy)
    if not rows:
        raise DataError(f"{', '.join(inputs)}: no rows to compare with.")
    judged = _judged(loaded, rows)
    shown = _reported(judged, report) if report is not None else judged.evaluation.to_json()
    if as_json:
        print_json(shown)
    else:
        _show_evaluation(judged.evaluation)
    return REFUSED if refused else DONE


def _reported(judged: Judged, path: Path) -> dict[str, Any]:
    """The figures of the page, which is written."""
    from cascade.report import figures, page

    shown = figures(judged)
    content = page(shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    note(f"{path}: a page of {len(content.encode()) / 1e6:.1f} MB, which loads nothing from elsewhere")
    return shown


def _judged(model: Cascade, rows: Sequence[Row]) -> Judged:
    from cascade.datasets import label_truth
    from cascade.evaluate import Scored
    from cascade.evaluate import evaluate as compare
    from cascade.report import Judged

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
