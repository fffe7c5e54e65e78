"""An input file of any length to prediction rows, slice by slice, in the order of the input.

The input is cut into slices of a few thousand rows, always at the same places. Whoever answers a slice, here,
in another process or on another machine, reads its rows from the input, writes its part under ``OUT.part``,
and then a note that it is done. So a run that was stopped, however rudely, goes on with the slices that are
missing. In the end parts are joined, and ``OUT`` appears whole, with the same bytes however it was made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import IO, Any

from cascade.backends import encodes
from cascade.errors import DataError
from cascade.model.walk import MOST_CELLS
from cascade.predict.answers import Model
from cascade.predict.extras import ExtraColumns
from cascade.predict.job import MIB
from cascade.predict.output import output_of
from cascade.predict.request import Outcome, Progress, Request
from cascade.predict.slices import SliceTask, answered_slices
from cascade.rows.slices import Slice, SlicedFile
from cascade.system import engine

_SLICE_BYTES = 2 * MIB
_BATCH_SLICE_BYTES = 256 * MIB
# A text is encoded once for each of its words, so that so many take some minutes.
_ENCODED_SLICE_ROWS = 250
# From this share of its rows on, a file is hardly what the model was made for.
MUCH_UNKNOWN = 0.2


def _ignore(_: Any) -> None:
    return None


def predict_file(
    model: Model,
    request: Request,
    stdout: IO[bytes],
    *,
    refuse: Callable[[str], None] = _ignore,
    report: Callable[[Progress], None] = _ignore,
) -> Outcome:
    """Answer every row of the input, in its order; what comes out of it all.

    Parameters
    ----------
    stdout
        Gets the rows where `request.out` is None; it is flushed after each slice.
    refuse
        Gets one line, see `cascade.rows.row.refusal_line`, for each refused row that has no file to go to.
    report
        Called after each slice, and once before if there is something to say about a stopped run.

    Raises
    ------
    DataError
        The input cannot be read, the output cannot be written, or another run is writing it.
    CascadeError
        The model, or a worker, failed. What was answered so far is kept, as after Ctrl-C.
    """
    _check_engine(request)
    request = replace(request, uncalibrated=not model.manifest.is_calibrated)
    if request.in_batches:
        request = replace(request, slice_rows=MOST_CELLS // len(model.taxonomy.graph.nodes) or 1)
    elif request.evidence and any(encodes(record.backend) for record in model.manifest.groups.values()):
        request = replace(request, slice_rows=min(request.slice_rows, _ENCODED_SLICE_ROWS))
    most_bytes = _BATCH_SLICE_BYTES if request.in_batches else _SLICE_BYTES
    source = SlicedFile(
        request.source,
        request.columns,
        request.slice_rows,
        most_bytes,
        request.known,
        keeps_columns=bool(request.keep),
    )
    ExtraColumns(model.taxonomy, request.style).check(source.header)
    if source.reading.is_guessed:
        report(Progress("reading", 0, 0, source.reading.describe()))
    slices = _Counted(source)
    with output_of(model, request, stdout, refuse) as sink:
        if sink.note is not None:
            report(sink.note)
        taken_over = sink.answered + sink.refused
        todo = ((number, part) for number, part in slices if number not in sink.done)
        task = SliceTask.of(model, request, source.reading.reading, sink.folder)
        # Closed by hand: workers must not outlive an error for as long as its traceback is looked at.
        with contextlib.closing(answered_slices(model, task, todo, request)) as answers:
            for answer in answers:
                sink.add(answer)
                report(Progress("slice", sink.answered, sink.refused))
        notes = sink.finish(slices.count)
        unknown = sink.unknown
        notes = [*notes, *_on_unknown(unknown.rows, unknown.first, sink.answered)]
        if model.manifest.first_look is not None:
            notes += _on_first_look(sink.by_first, sink.answered)
        if model.manifest.asks_again:
            notes += _on_doubted(sink.doubted, sink.answered)
        return Outcome(
            sink.answered,
            sink.refused,
            taken_over,
            sink.errors_path,
            tuple(notes),
            unknown.rows,
            unknown.first,
            sink.by_first,
            sink.doubted,
        )


def _on_unknown(rows: int, first: int, answered: int) -> Iterator[str]:
    """A warning where nothing is known of much of a file."""
    if rows > MUCH_UNKNOWN * answered:
        share = f"{rows:,} of {answered:,} rows ({rows / answered:.0%})"
        yield (
            f"warning: nothing known in {share}, the first of them row {first}: they got no label. "
            "Another language than the training rows, another column, or an export gone wrong?"
        )


def _on_first_look(rows: int, answered: int) -> Iterator[str]:
    """Of how many rows no vector was needed."""
    if answered:
        yield f"words alone answered {rows:,} of {answered:,} rows ({rows / answered:.0%})"


def _on_doubted(rows: int, answered: int) -> Iterator[str]:
    """Of how many rows labels were asked about again."""
    if answered:
        yield f"labels of {rows:,} of {answered:,} rows ({rows / answered:.0%}) were asked about again"


def _check_engine(request: Request) -> None:
    if request.engine is None:
        return
    engine.check_address(request.engine)
    if request.out is None and request.engine != engine.LOCAL:
        raise DataError(
            f"{request.engine}: other machines write to files that all of them see, not to standard output; "
            "name one with --out"
        )


class _Counted:
    """Slices with their places from 0, and how many came so far."""

    def __init__(self, slices: Iterable[Slice]) -> None:
        self._slices = slices
        self.count = 0

    def __iter__(self) -> Iterator[tuple[int, Slice]]:
        for part in self._slices:
            self.count += 1
            yield self.count - 1, part
