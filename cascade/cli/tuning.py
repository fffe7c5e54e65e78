"""``cascade tune``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files
from cascade.cli.hosted import keep_answers, require_keys, tell_usage
from cascade.cli.inputs import chosen_model, columns_of, labelled_rows
from cascade.cli.shell import (
    DONE,
    REFUSED,
    TOP_LEVEL,
    cascade,
    debug_option,
    figure,
    json_option,
    model_option,
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
    from cascade.measure.tuning import Curve, Point

_WIDTH = 24


@cascade.command(short_help="How many texts the dearest look gets: the curve of cost and F1.")
@click.argument("inputs", metavar="ROWS...", nargs=-1, required=True, shell_complete=files)
@model_option
@click.option(
    "--share", type=click.FloatRange(0, 1), metavar="SHARE", help="Hand on at most this share of the rows."
)
@click.option(
    "--quality", type=click.FloatRange(0, 1), metavar="F1", help="Hand on no more than this micro F1 takes."
)
@click.option(
    "--budget", type=click.FloatRange(min=0), metavar="USD", help="Spend no more than this on 1,000 texts."
)
@json_option
@debug_option
def tune(
    inputs: tuple[str, ...],
    *,
    model: Path | None,
    share: float | None,
    quality: float | None,
    budget: float | None,
    as_json: bool,
) -> int:
    """Show what handing on more or fewer texts to the dearest look of a model wins and takes, and choose.

    Of a model whose groups have tiers it is their questions that are handed on to the last tier.
    ROWS are files with labels that the model has not learned. Without --share, --quality or --budget nothing
    is changed.
    """
    from cascade.fitted import Cascade
    from cascade.measure.group_tuning import GroupPoint

    if sum(one is not None for one in (share, quality, budget)) > 1:
        raise click.UsageError("say one of --share, --quality and --budget.")
    loaded = Cascade.load(chosen_model(model))
    require_keys(loaded.manifest)
    columns = columns_of(loaded.taxonomy.data, is_other=True)
    rows, refused, _ = labelled_rows(inputs, columns, loaded.taxonomy, loaded.readings)
    if not rows:
        raise DataError(f"{', '.join(inputs)}: no rows to tune with.")
    if loaded.is_hosted:
        keep_answers(loaded.folder)
    with progress("answering by all looks"):
        curve = loaded.tuning_curve([row.text for row in rows], [row.labels for row in rows])
    point = _chosen(curve, share, quality, budget)
    if as_json:
        told = {"rows": curve.rows, "now": curve.now, "points": [asdict(one) for one in curve.points]}
        print_json(told | {"chosen": None if point is None else asdict(point)})
    else:
        show(_table(curve, point))
        is_by_group = isinstance(curve.points[0], GroupPoint)
        what = "of the questions of groups with tiers" if is_by_group else "of them"
        note(f"by {number(curve.rows)} rows; the model hands on {curve.now:.0%} {what} as it is")
    if point is not None:
        _write(loaded, curve, point)
    if loaded.asks_services:
        tell_usage(loaded.manifest)
    return REFUSED if refused else DONE


def _chosen(curve: Curve, share: float | None, quality: float | None, budget: float | None) -> Point | None:
    from cascade.measure.tuning import affordable, cheapest, nearest

    if share is not None:
        return nearest(curve.points, share)
    if quality is not None:
        return cheapest(curve.points, quality)
    return None if budget is None else affordable(curve.points, budget)


def _write(model: Cascade, curve: Curve, point: Point) -> None:
    from cascade.measure.group_tuning import GroupPoint, set_group_doubts
    from cascade.measure.tuning import set_doubt

    if isinstance(point, GroupPoint):
        set_group_doubts(model.folder, model.manifest, point)
        what = f"questions at {', '.join(group or TOP_LEVEL for group in point.doubts)}"
    else:
        set_doubt(model.folder, model.manifest, point, curve.points[-1].micro_f1 - point.micro_f1)
        what = "rows"
    note(f"{model.folder}: hands on {point.share:.0%} of such {what} now, micro F1 {figure(point.micro_f1)}")


def _table(curve: Curve, point: Point | None) -> RenderableType:
    """A line a point, with a bar for its F1 between the least and the greatest."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("handed on", "micro F1", "macro F1", "s per 1,000", "cost per 1,000"):
        table.add_column(name, justify="right")
    table.add_column("")
    bars = _bars([one.micro_f1 for one in curve.points])
    for one, bar in zip(curve.points, bars, strict=True):
        cells = (figure(one.micro_f1), figure(one.macro_f1), f"{one.seconds:.1f}", usd(one.usd))
        style = "bold" if one is point else ""
        table.add_row(f"{one.share:.0%}", *cells, bar + (" <" if one is point else ""), style=style)
    return table


def _bars(values: list[float]) -> Iterator[str]:
    least, most = min(values), max(values)
    for value in values:
        share = (value - least) / (most - least) if most > least else 1.0
        yield "█" * (1 + round(share * (_WIDTH - 1)))
