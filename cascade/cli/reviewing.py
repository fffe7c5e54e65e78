"""``cascade review``."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files
from cascade.cli.hosted import keep_answers, tell_usage
from cascade.cli.inputs import chosen_model, columns_of, model_words
from cascade.cli.shell import (
    DONE,
    REFUSED,
    Bar,
    cascade,
    counted,
    debug_option,
    json_option,
    model_option,
    note,
    number,
    print_json,
    print_lines,
    progress,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.fitted import Cascade
    from cascade.rows.readings import Columns, Reading
    from cascade.rows.row import BadRow, Row
    from cascade.teach.queue import QueuedRow
    from cascade.teach.selection import Selection

_SHOWN_LABELS = 5
_STDIN = "-"


@cascade.command(short_help="Queue the rows that teach most, for a person to look at.")
@click.argument("source", metavar="TEXTS", shell_complete=files)
@model_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the queue goes [default: TEXTS.review.jsonl, beside the texts].",
)
@click.option(
    "--rows", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Rows to queue."
)
@click.option(
    "--known",
    multiple=True,
    metavar="FILE",
    help="Rows whose texts need no look, such as those of training; again for more files.",
    shell_complete=files,
)
@click.option("--text-column", metavar="NAME", help="Column of the text, if not that of the taxonomy.")
@click.option("--id-column", metavar="NAME", help="Column of the id, if not that of the taxonomy.")
@json_option
@debug_option
def review(
    source: str,
    model: Path | None,
    out: Path | None,
    rows: int,
    known: Sequence[str],
    text_column: str | None,
    id_column: str | None,
    *,
    as_json: bool,
) -> int:
    """Queue the rows that teach most: those the model is least certain of, of all kinds, none twice.

    TEXTS is a file of rows (.jsonl, .csv, .xlsx, .parquet and many more), or - for standard input as JSONL.
    What was answered or skipped before is left out. `cascade serve --review` shows the rows of the queue, one
    at a time.
    """
    from cascade.fitted import Cascade
    from cascade.teach.queue import QUEUE, path_beside, queue_rows, write_queue
    from cascade.teach.selection import select_rows

    if out is None and source == _STDIN:
        raise click.UsageError("standard input has no name: say with --out where the queue goes.")
    queue = out or path_beside(Path(source.removesuffix(".gz")), QUEUE)
    if queue.exists() and source != _STDIN and queue.samefile(source):
        raise DataError(f"{queue}: is the input, and would be overwritten; name another file with --out")
    loaded = Cascade.load(chosen_model(model))
    if loaded.is_hosted:
        keep_answers(loaded.folder)
    columns, readings = loaded.columns_of_texts(text=text_column, id=id_column)
    with progress("reading") as bar:
        known_before = texts_known(known, columns, queue, loaded)
        texts = _Texts(source, columns, readings, known_before, bar)
        selection = select_rows(loaded, texts, rows)
        found = queue_rows(loaded, selection)
    if found:
        write_queue(queue, found)
    if loaded.is_hosted:
        tell_usage(loaded.manifest)
    following = f"cascade serve --review {shlex.quote(str(queue))}{model_words(loaded.folder)}"
    return _report(queue, texts, selection, found, following, as_json=as_json)


class _Texts:
    """The rows of a file whose texts are not known; counts the others."""

    def __init__(
        self, source: str, columns: Columns, readings: Sequence[Reading], known: set[str], bar: Bar
    ) -> None:
        self._source, self._columns, self._readings = source, columns, readings
        self._known, self._bar = known, bar
        self.refused: list[BadRow] = []
        self.left_out = 0

    def __iter__(self) -> Iterator[Row]:
        from cascade.rows.reading import read_rows
        from cascade.rows.row import BadRow

        for count, row in enumerate(read_rows(self._source, self._columns, None, self._readings), 1):
            self._bar.at(count, None)
            if isinstance(row, BadRow):
                self.refused.append(row)
            elif row.text.strip() in self._known:
                self.left_out += 1
            else:
                yield row


def texts_known(files: Sequence[str], columns: Columns, queue: Path, model: Cascade) -> set[str]:
    """The texts of these files, and of what was answered or skipped before."""
    from cascade.rows.reading import read_all
    from cascade.teach.queue import ANSWERS, path_beside
    from cascade.teach.review import skipped_beside

    answers = path_beside(queue, ANSWERS)
    before = [path for path in (answers, skipped_beside(answers)) if path.exists()]
    rows, refused, _ = read_all(files, columns, None, model.readings)
    told, torn, _ = read_all(before, columns_of(model.taxonomy.data), None)
    for one in (*refused, *torn):
        note(f"{one.file} row {one.number}: {one.reason}")
    return {row.text.strip() for row in (*rows, *told)}


def _report(
    queue: Path,
    texts: _Texts,
    selection: Selection,
    found: Sequence[QueuedRow],
    following: str,
    *,
    as_json: bool,
) -> int:
    from cascade.rows.row import summarise_bad

    refused = [*texts.refused, *_unanswered(selection)]
    if refused:
        note(summarise_bad(refused))
    if as_json:
        print_json(_summary(queue, texts, selection, found))
    else:
        print_lines(_lines(queue, texts, selection, found, following))
    return REFUSED if refused else DONE


def _unanswered(selection: Selection) -> list[BadRow]:
    from cascade.rows.row import BadRow

    return [BadRow(row.number, row.id, why, row.text, row.file) for row, why in selection.failed]


def _summary(queue: Path, texts: _Texts, selection: Selection, found: Sequence[QueuedRow]) -> dict[str, Any]:
    return {
        "queue": str(queue) if found else None,
        "queued": len(found),
        "rows": selection.rows,
        "doubtful": selection.doubtful,
        "left_out": texts.left_out,
        "refused": len(texts.refused) + len(selection.failed),
        "reasons": {reason: dict(labels) for reason, labels in _reasons(found).items()},
    }


def _reasons(found: Sequence[QueuedRow]) -> dict[str, Counter[str]]:
    """How many rows are asked for each reason, by label; the reason that is most frequent first."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for queued_row in found:
        for doubt in queued_row.doubts:
            counts[doubt.reason][doubt.label] += 1
    ordered = sorted(counts.items(), key=lambda one: -one[1].total())
    return {reason: Counter(dict(labels.most_common())) for reason, labels in ordered}


def _lines(
    queue: Path, texts: _Texts, selection: Selection, found: Sequence[QueuedRow], following: str
) -> Iterator[str]:
    queued = f"{queue}: {counted(len(found), 'row')}" if found else "no rows"
    known = f", {number(texts.left_out)} are known and left out" if texts.left_out else ""
    yield f"{queued}; {number(selection.doubtful)} of {number(selection.rows)} have something in doubt{known}"
    for reason, labels in _reasons(found).items():
        rows = sum(any(doubt.reason == reason for doubt in queued_row.doubts) for queued_row in found)
        most = [f"{label} {number(count)}" for label, count in labels.most_common(_SHOWN_LABELS) if label]
        yield f"  {reason:<16} {counted(rows, 'row'):>8}{': ' if most else ''}{', '.join(most)}"
    yield f"next: {following}" if found else "nothing to look at: no queue was written"
