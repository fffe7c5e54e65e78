"""``cascade advise``."""

from __future__ import annotations

import itertools
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import MODELS, files, model_folders
from cascade.cli.file_changes import agreed_change
from cascade.cli.inputs import chosen_model, columns_of, labelled_rows, load_taxonomy
from cascade.cli.shell import (
    DONE,
    REFUSED,
    TOP_LEVEL,
    cascade,
    cores,
    counted,
    debug_option,
    jobs_option,
    json_option,
    note,
    print_json,
    print_lines,
    progress,
)
from cascade.errors import CascadeError, DataError

if TYPE_CHECKING:
    from cascade.changes.advice import Advice, Study
    from cascade.changes.advice_trials import Figures, Measured
    from cascade.fitted import Cascade
    from cascade.rows.reading import ReadRows
    from cascade.rows.row import Row
    from cascade.taxonomy.definition import Taxonomy

_ALL = "all"
_FEW = 5
"""So many labels with few, or with contradicting, rows are told, unless all are asked for."""
_LOOKED_AT = 200


@cascade.command(short_help="Advise what to change in a taxonomy, measured.")
@click.argument(
    "model", required=False, type=click.Path(path_type=Path), metavar="[MODEL]", shell_complete=model_folders
)
@click.option(
    "--taxonomy",
    metavar="FILE",
    help="Its taxonomy's file [default: the one here that it was made of].",
    shell_complete=files,
)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="The rows that it learnt, if not data.train; repeatable.",
    shell_complete=files,
)
@click.option(
    "--most",
    type=click.IntRange(min=0),
    default=12,
    show_default=True,
    metavar="N",
    help="Changes to try; each takes a fit of what it touches.",
)
@click.option(
    "--apply",
    "wanted",
    is_flag=False,
    flag_value=_ALL,
    metavar="[N,...]",
    help="Change the taxonomy's file as advised, or as advised under these numbers.",
)
@click.option("--yes", is_flag=True, help="With --apply: change the file without a question.")
@click.option("--verbose", is_flag=True, help="Tell also what was tried without gain, and all labels.")
@jobs_option
@json_option
@debug_option
def advise(
    model: Path | None,
    taxonomy: str | None,
    data: tuple[str, ...],
    most: int,
    wanted: str | None,
    jobs: int | None,
    *,
    yes: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Advise what to change in the taxonomy of a model: merges, moves and splits that win, rows to look at.

    MODEL is a model folder; without it, the model as for predict. Each change is tried by a fit of what it
    touches. Nothing is changed without --apply.
    """
    from cascade.changes.advice import study
    from cascade.fitted import Cascade

    if wanted is not None and wanted != _ALL and not re.fullmatch(r"\d+(,\d+)*", wanted):
        raise click.UsageError(f"--apply takes numbers such as 1,3, or nothing behind it; found {wanted!r}.")
    loaded = Cascade.load(chosen_model(model))
    file = _taxonomy_file(loaded, taxonomy)
    if wanted is not None and file is None:
        raise DataError(
            f"{loaded.folder}: no taxonomy file here is the model's; name it with --taxonomy FILE"
        )
    read = _rows(loaded, file, data)
    with progress("advising") as bar:

        def report(what: str, done: int, total: int) -> None:
            bar.at(done, total)
            bar.renew(what)

        texts, labels = [row.text for row in read.rows], [row.labels for row in read.rows]
        found = study(loaded, texts, labels, most=most, jobs=jobs or cores(), report=report)
    _tell_limits(found)
    if as_json:
        print_json(_summary(found, read.rows))
    else:
        print_lines(_lines(found, read.rows, verbose=verbose))
    if wanted is not None and file is not None:
        _apply(found, wanted, file, loaded, yes=yes, as_json=as_json)
    return REFUSED if read.refused else DONE


# What it is about


def _taxonomy_file(model: Cascade, named: str | None) -> Path | None:
    """The file of the model's taxonomy: the one that is named, else the only one here that is equal to it."""
    if named is not None:
        if load_taxonomy(named) != model.taxonomy:
            words = f"cascade inspect-tree {shlex.quote(str(model.folder))} --diff {shlex.quote(named)}"
            raise DataError(
                f"{named}: not the taxonomy of {model.folder}; `{words}` shows what differs. Fit it first, "
                "or name another file"
            )
        return Path(named)
    same = [path for path in _files_nearby() if _is_equal(path, model.taxonomy)]
    if len(same) == 1:
        note(f"taxonomy: {same[0]} (the one here that is the model's)")
        return same[0]
    if same:
        note(
            f"several files here are the model's taxonomy ({', '.join(map(str, same))}): --taxonomy names one"
        )
    return None


def _files_nearby() -> list[Path]:
    """YAML files here and in the folders here, at most so many that it takes no time."""
    found = itertools.chain.from_iterable(Path().glob(pattern) for pattern in ("*.y*ml", "[!.]*/*.y*ml"))
    return sorted(itertools.islice(found, _LOOKED_AT))


def _is_equal(path: Path, taxonomy: Taxonomy) -> bool:
    from cascade.taxonomy.definition import Taxonomy

    try:
        return Taxonomy.load(path) == taxonomy
    except (CascadeError, OSError):
        return False


def _rows(model: Cascade, file: Path | None, data: Sequence[str]) -> ReadRows:
    from cascade.taxonomy.definition import Taxonomy

    spec = Taxonomy.load(file).data if file is not None else None
    if not data and (spec is None or not spec.train):
        raise DataError(
            f"{model.folder}: the rows that it learnt are not known here. Name the taxonomy's file with "
            "--taxonomy, or the rows with --data FILE"
        )
    paths = data or (spec.files("train") if spec is not None else ())
    columns = columns_of(model.taxonomy.data, is_other=bool(data))
    read = labelled_rows(paths, columns, model.taxonomy, model.readings)
    if read.refused:
        note(f"{counted(len(read.refused), 'bad row')} left out")
    return read


# What is told


def _tell_limits(found: Study) -> None:
    if found.hosted:
        names = ", ".join(name or TOP_LEVEL for name in found.hosted)
        note(
            f"{names}: fine-tunes, which are dear to try. Nothing is advised about them, and the figures are "
            "with embedded models in their place"
        )
    elif found.refitted:
        note(
            f"{counted(len(found.refitted), 'group')} trained anew first: rows or versions are others than "
            "when the model was fitted, and so may be the figures"
        )


def _summary(found: Study, rows: Sequence[Row]) -> dict[str, Any]:
    numbers = {id(one): number for number, one in enumerate(found.changes, 1)}

    def shown(one: Advice) -> dict[str, Any]:
        examples = [
            {"file": rows[at].file, "row": rows[at].number, "text": rows[at].text, "labels": rows[at].labels}
            for at in one.rows
        ]
        return {"number": numbers.get(id(one)), **one.to_json(), "rows": examples}

    return {
        "micro_f1": found.figures.micro_f1,
        "macro_f1": found.figures.macro_f1,
        "advice": list(map(shown, found.advice)),
        "tried": list(map(shown, found.tried)),
        "together": _plain(found.together),
        "left": found.left,
        "hosted": list(found.hosted),
    }


def _plain(measured: Measured | None) -> dict[str, Any] | None:
    from dataclasses import asdict

    return None if measured is None else asdict(measured)


def _lines(found: Study, rows: Sequence[Row], *, verbose: bool) -> Iterator[str]:
    yield f"out of fold as it is: {_figures(found.figures)}"
    for number, one in enumerate(found.changes, 1):
        yield from _change(f"{number}. {one.title}", one, rows)
    if not found.changes:
        yield "no change that was tried wins"
    if found.together is not None:
        yield f"all of them together: {_won(found.together)}"
    yield from _others(found, verbose=verbose)
    for kind, heading in (("rare", "few rows"), ("contradicting", "rows that contradict each other")):
        yield from _looked_at(heading, [one for one in found.advice if one.kind == kind], rows, verbose)


def _change(title: str, one: Advice, rows: Sequence[Row]) -> Iterator[str]:
    yield title
    yield f"   {one.reason}"
    if one.measured is not None:
        yield f"   out of fold: {_won(one.measured)}"
        yield f"   {_sureness(one.measured)}"
    yield from _examples(one, rows)


def _examples(one: Advice, rows: Sequence[Row]) -> Iterator[str]:
    from cascade.checks.subject import quoted

    for at in one.rows:
        row = rows[at]
        place = f"{os.path.normpath(row.file)} row {row.number}"
        yield f"   {place}: {quoted(row.text)} ({', '.join(row.labels) or 'no label'})"


def _won(measured: Measured) -> str:
    trained = counted(len(measured.refitted), "group")
    return f"{_figures(measured.before)} -> {_figures(measured.after)} ({trained} trained)"


def _figures(figures: Figures) -> str:
    return f"micro F1 {figures.micro_f1:.3f}, macro F1 {figures.macro_f1:.3f}"


def _sureness(measured: Measured) -> str:
    low, high = measured.interval
    how = f"by {counted(measured.foldings, 'other folding')}" if measured.foldings else "by these folds"
    return f"mean of both {measured.gain:+.4f} {how}, from {low:+.4f} to {high:+.4f}"


def _others(found: Study, *, verbose: bool) -> Iterator[str]:
    if found.tried and not verbose:
        yield f"tried without enough gain: {counted(len(found.tried), 'change')}; --verbose tells them"
    for one in found.tried if verbose else ():
        told = _sureness(one.measured) if one.measured is not None else "not measured"
        yield f"without enough gain: {one.title}: {told}"
    if found.left:
        yield f"not tried: {counted(found.left, 'change')} with less hope; --most tries more"


def _looked_at(heading: str, found: Sequence[Advice], rows: Sequence[Row], verbose: bool) -> Iterator[str]:
    if found:
        yield f"{heading}: {counted(len(found), 'label')}"
    for one in found if verbose else found[:_FEW]:
        yield f" - {one.labels[0]}, F1 {one.f1 or 0:.2f}: {one.reason}"
        yield from _examples(one, rows)
    if len(found) > _FEW and not verbose:
        yield f" - and {len(found) - _FEW} more; --verbose tells all"


# What is done


def _apply(found: Study, wanted: str, file: Path, model: Cascade, *, yes: bool, as_json: bool) -> None:
    from cascade.changes.advice import advised_text
    from cascade.taxonomy.yaml_nodes import read_text

    chosen = _numbered(found.changes, wanted)
    if not chosen:
        note("nothing to change")
        return
    before = read_text(str(file))
    after = advised_text(before, str(file), model.taxonomy, chosen)
    if not agreed_change(file, before, after, yes=yes, as_json=as_json):
        return
    folder = (
        "" if model.folder == MODELS / model.taxonomy.name else f" --out {shlex.quote(str(model.folder))}"
    )
    note(f"{file} was changed. Next: cascade fit {shlex.quote(str(file))}{folder}")


def _numbered(changes: Sequence[Advice], wanted: str) -> list[Advice]:
    if wanted == _ALL:
        return list(changes)
    numbers = sorted({int(one) for one in wanted.split(",")})
    if numbers[0] < 1 or numbers[-1] > len(changes):
        has = f"there are {len(changes)}" if changes else "there is none"
        raise DataError(f"--apply {wanted}: expected numbers of changes that are advised; {has}")
    return [changes[number - 1] for number in numbers]
