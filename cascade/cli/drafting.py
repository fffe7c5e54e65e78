"""``cascade init``: a taxonomy from what people have."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files
from cascade.cli.shell import DONE, REFUSED, Bar, EncodingBar, cascade, counted, debug_option, note, progress
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.draft.drafting import Draft
    from cascade.draft.sources import Kind
    from cascade.grouping.meaning import Encode

# `cascade.draft.sources` has these too, and NumPy with it.
KINDS = ("rows", "sheet", "outline", "json", "skos", "label-studio", "hiclass")


@cascade.command()
@click.argument("what", type=click.Path(path_type=Path), metavar="WHAT", shell_complete=files)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("taxonomy.yaml"),
    show_default=True,
    metavar="FILE",
    help="Taxonomy to write; files of rows are written beside it.",
)
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.option("--from", "kind", type=click.Choice(KINDS), help="What the file holds, where it is not plain.")
@click.option("--name", metavar="NAME", help="Name of the taxonomy [default: that of the file].")
@click.option(
    "--groups",
    type=click.IntRange(min=1),
    metavar="N",
    help="So many groups for labels that have none [default: settled by the data].",
)
@click.option(
    "--encoder", metavar="NAME", help="Encoder that tells what labels mean, where groups are proposed."
)
@click.option("--text", metavar="COLUMN", help="Column of the texts of rows.")
@click.option(
    "--labels", multiple=True, metavar="COLUMN", help="Column of the labels; several: a column a level."
)
@click.option("--delimiter", metavar="MARK", help="What stands between the labels of a row.")
@click.option("--sheet", metavar="NAME", help="Sheet of a workbook [default: the first].")
@click.option(
    "--test",
    type=click.Path(path_type=Path, exists=True),
    metavar="FILE",
    help="Labelled rows for tests; without it a fifth of the rows is taken.",
)
@click.option(
    "--language", default="en", show_default=True, metavar="LANG", help="Language of SKOS labels to take."
)
@debug_option
def init(
    what: Path,
    out: Path,
    force: bool,
    kind: Kind | None,
    name: str | None,
    groups: int | None,
    encoder: str | None,
    text: str | None,
    labels: tuple[str, ...],
    delimiter: str | None,
    sheet: str | None,
    test: Path | None,
    language: str,
) -> int:
    """Draft a taxonomy from labelled rows, or from names in a sheet, an outline, JSON, SKOS or Label Studio.

    Labels without groups get some, proposed from texts, names and which labels go together, with --encoder
    also from what they mean. Where there are no rows for tests, a fifth of the rows is put aside.
    """
    from cascade.draft.drafting import Request, draft
    from cascade.draft.labelled import Asked

    asked = Asked(text=text, labels=labels, delimiter=delimiter, sheet=sheet)
    with progress("drafting") as bar:
        request = Request(
            what,
            out,
            kind=kind,
            name=name,
            groups=groups,
            language=language,
            test=test,
            asked=asked,
            encode=None if encoder is None else _reader(encoder, bar),
        )
        drafted = draft(request)
    _refuse_to_overwrite(drafted, what, force)
    drafted.write()
    return _told(drafted)


def _reader(encoder: str, bar: Bar) -> Encode:
    """What gives texts their vectors; BackendError where there is no such encoder on this machine."""
    from cascade.encoders import store
    from cascade.encoders.contract import listen
    from cascade.nodes.meaning import reader

    listen(EncodingBar(bar))
    return reader(store.opened(encoder))


def _refuse_to_overwrite(drafted: Draft, source: Path, force: bool) -> None:
    if any(path.exists() and path.samefile(source) for path in drafted.files):
        raise DataError(
            f"{source}: would be overwritten by what is drafted from it. Name another file with --out"
        )
    there = [str(path) for path in drafted.files if path.exists()]
    if there and not force:
        ways = "--force overwrites; --out in another folder keeps what is here"
        raise DataError(f"{', '.join(there)}: already there, so nothing was written. {ways}")


def _told(drafted: Draft) -> int:
    from cascade.rows.row import summarise_bad

    for line in drafted.told:
        note(line)
    if drafted.refused:
        note(summarise_bad(drafted.refused))
        note(f"{counted(len(drafted.refused), 'bad row')} left out")
    next_one = f"cascade fit {shlex.quote(str(drafted.out))}{_more_words(drafted)}"
    note(f"wrote {drafted.out}. Look through it, then: {next_one}")
    return REFUSED if drafted.refused else DONE


def _more_words(drafted: Draft) -> str:
    """What a fit needs to be told beside the taxonomy."""
    if "\n  train: " not in drafted.text:
        return " --data ROWS"
    # Where rows were split, the refused ones are in neither file.
    return " --skip-bad-rows" if drafted.refused and not drafted.rows else ""
