"""``cascade label-studio``: to Label Studio and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files
from cascade.cli.inputs import chosen_model, columns_of, described_model, load_taxonomy
from cascade.cli.shell import (
    DONE,
    REFUSED,
    Commands,
    cascade,
    counted,
    debug_option,
    json_option,
    model_option,
    note,
    number,
    print_json,
)

if TYPE_CHECKING:
    from cascade.rows.row import BadRow
    from cascade.taxonomy.definition import Taxonomy

_SHOWN = 5
taxonomy_option = click.option(
    "--taxonomy",
    metavar="FILE",
    help="The taxonomy's file, instead of that of the model.",
    shell_complete=files,
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where they go."
)


@cascade.group(
    "label-studio", cls=Commands, short_help="Give rows to Label Studio, and take answers from it."
)
def label_studio() -> None:
    """Give rows to Label Studio, and take answers from it: its Taxonomy control has the groups and labels."""


@label_studio.command(short_help="Write the labelling configuration.")
@taxonomy_option
@model_option
@debug_option
def config(taxonomy: str | None, model: Path | None) -> int:
    """Write the labelling configuration of a taxonomy, to be pasted into a project of Label Studio."""
    from cascade.teach.label_studio import labelling_config

    click.echo(labelling_config(_taxonomy(taxonomy, model)).encode(errors="backslashreplace"), nl=False)
    return DONE


@label_studio.command(short_help="Write rows as tasks.")
@click.argument("source", metavar="ROWS", shell_complete=files)
@taxonomy_option
@model_option
@out_option
@debug_option
def export(source: str, taxonomy: str | None, model: Path | None, out: Path) -> int:
    """Write rows as tasks to import into Label Studio.

    ROWS is a queue that `review` wrote, whose proposals become predictions, or a file of labelled rows, whose
    labels become annotations.
    """
    from cascade.rows.row import summarise_bad
    from cascade.system.files import atomic_write

    tasks, refused = _tasks(source, _taxonomy(taxonomy, model))
    with atomic_write(out) as file:
        file.write(json.dumps(tasks, ensure_ascii=False).encode())
    if refused:
        note(summarise_bad(refused))
    note(f"{out}: {counted(len(tasks), 'task')}")
    return REFUSED if refused else DONE


def _tasks(source: str, taxonomy: Taxonomy) -> tuple[list[dict[str, Any]], list[BadRow]]:
    from cascade.rows.reading import read_all
    from cascade.teach.label_studio import labelled_task, queued_task
    from cascade.teach.queue import is_queue, read_queue

    if is_queue(Path(source)):
        return [queued_task(taxonomy, queued_row) for queued_row in read_queue(Path(source), taxonomy)], []
    rows, refused, _ = read_all([source], columns_of(taxonomy.data), taxonomy)
    return [labelled_task(taxonomy, row) for row in rows], refused


@label_studio.command("import", short_help="Read what Label Studio exported.")
@click.argument("source", metavar="EXPORT", type=click.Path(path_type=Path))
@taxonomy_option
@model_option
@out_option
@json_option
@debug_option
def import_(source: Path, taxonomy: str | None, model: Path | None, out: Path, *, as_json: bool) -> int:
    """Make rows for fit of what Label Studio exported as JSON or JSON-MIN.

    Tasks without an answer, and those that were skipped, are left out. Of several answers the newest counts,
    or one that is marked as ground truth.
    """
    from cascade.rows.row import summarise_bad
    from cascade.rows.writing import row_line
    from cascade.system.files import atomic_write
    from cascade.teach.label_studio import read_export

    tree = _taxonomy(taxonomy, model)
    found = read_export(source, tree, columns_of(tree.data))
    with atomic_write(out) as file:
        for row in found.rows:
            file.write(row_line(row))
    if found.refused:
        note(summarise_bad(found.refused))
    if found.disagreeing:
        note(f"{counted(len(found.disagreeing), 'row')} with answers that differ: {_some(found.disagreeing)}")
    if as_json:
        counts = {"rows": len(found.rows), "left_out": found.left_out, "refused": len(found.refused)}
        print_json({"out": str(out), **counts, "disagreeing": found.disagreeing})
    else:
        note(f"{out}: {counted(len(found.rows), 'row')}; {counted(found.left_out, 'task')} without an answer")
    return REFUSED if found.refused else DONE


def _taxonomy(file: str | None, model: Path | None) -> Taxonomy:
    if file is not None and model is not None:
        raise click.UsageError("expected --taxonomy or --model, found both.")
    if file is not None:
        return load_taxonomy(file)
    return described_model(chosen_model(model))[0]


def _some(ids: Sequence[str | int]) -> str:
    more = f" and {number(len(ids) - _SHOWN)} more" if len(ids) > _SHOWN else ""
    return ", ".join(map(str, ids[:_SHOWN])) + more
