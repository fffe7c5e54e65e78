"""``cascade evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
    print_json,
    progress,
    show,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.evaluate import Evaluation
    from cascade.model import Cascade
    from cascade.records import Row


@cascade.command(short_help="Compare a model with labelled rows.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@model_option
@json_option
@debug_option
def evaluate(inputs: tuple[str, ...], model: Path | None, as_json: bool) -> int:
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
    evaluation = _evaluated(loaded, rows)
    if as_json:
        print_json(evaluation.to_json())
    else:
        _show_evaluation(evaluation)
    return REFUSED if refused else DONE


def _evaluated(model: Cascade, rows: Sequence[Row]) -> Evaluation:
    from cascade.datasets import label_truth
    from cascade.evaluate import Scored
    from cascade.evaluate import evaluate as compare

    with progress("evaluating"):
        texts = [row.text for row in rows]
        truth = label_truth(model.graph, [row.labels for row in rows])
        walked, ideal = model.walk(texts).whole(), model.oracle(texts, truth).whole()
        groups = model.taxonomy.groups.values()
        return compare(
            model.graph,
            truth,
            Scored(walked.paths, model.decide(walked)),
            Scored(ideal.paths, model.decide(ideal)),
            always=frozenset(group.name for group in groups if group.route == "always"),
            seed=model.manifest.seed,
        )


def _show_evaluation(evaluation: Evaluation) -> None:
    from cascade.evaluate import render

    show(render(evaluation))
