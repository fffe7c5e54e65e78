"""Slices of a file, answered here or by workers."""

from __future__ import annotations

import io
import itertools
import json
import socket
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cascade.errors import DataError, ModelError
from cascade.model.walk import Walked
from cascade.predict.answers import Model, prediction_lines
from cascade.predict.form import Form
from cascade.predict.job import MIB
from cascade.predict.request import STDIN, Request
from cascade.rows.readings import Reading
from cascade.rows.row import BadRow, Row, refusal_line
from cascade.rows.slices import HeldSlice, Slice, read_slice
from cascade.system import engine
from cascade.system.files import atomic_write

# Rows that are answered at once: more save nothing any more, and cost memory.
_CHUNK_ROWS = 2000
# A chunk of long texts ends before it has all its rows, as features take many times the room of the text.
_CHUNK_CHARACTERS = MIB
# Of a service's answers nobody waits for more than these, and so many of them.
_HOSTED_CHUNK_ROWS = 250
_CHUNKS_IN_FLIGHT = 4
# Workers take seconds to start, in which so many slices are answered.
_FEW_SLICES = 2
# Each of them reads the model first, which with so many nodes takes as long as a slice.
_NODES_OF_SLICE = 1000


@dataclass(frozen=True, slots=True)
class SliceTask:
    """All that has to be known to answer any slice anywhere: paths are absolute.

    `source` is what rows call the input; `source_bytes` is None where that is no file. `folder` takes the
    parts, None means to hand them back.
    """

    kind: type[Model]
    model: Path
    digest: str
    source: str
    path: Path
    source_bytes: int | None
    reading: Reading
    max_row_mb: int
    form: Form
    folder: Path | None
    suffix: str
    in_batches: bool

    @classmethod
    def of(cls, model: Model, request: Request, reading: Reading, folder: Path | None) -> SliceTask:
        path = Path(request.source).absolute()
        is_file = request.source != STDIN and path.is_file()
        return cls(
            kind=type(model),
            model=model.folder.absolute(),
            digest=model.digest,
            source=request.source,
            path=path,
            source_bytes=path.stat().st_size if is_file else None,
            reading=reading,
            max_row_mb=request.columns.max_row_mb,
            form=request.form,
            folder=None if folder is None else folder.absolute(),
            suffix=request.suffix,
            in_batches=request.in_batches,
        )


@dataclass(frozen=True, slots=True)
class AnsweredSlice:
    """What came of a slice; `lines` and `refusals` are empty where they are in files.

    Of `unknown` rows the models know too little to say anything; `first_unknown` is the number of the first
    of them in the input, 0 where there is none. A first look answered `by_first` rows; of `doubted` ones
    labels were asked about again.
    """

    number: int
    answered: int
    refused: int
    unknown: int = 0
    first_unknown: int = 0
    by_first: int = 0
    doubted: int = 0
    lines: bytes = b""
    refusals: bytes = b""


def answered_slices(
    model: Model, task: SliceTask, todo: Iterator[tuple[int, Slice]], request: Request
) -> Generator[AnsweredSlice, None, None]:
    """What comes of each slice; in order where it goes to standard output."""
    if _may_have_workers(request) and not model.asks_services:
        few = _FEW_SLICES + len(model.taxonomy.graph.nodes) // _NODES_OF_SLICE
        start = list(itertools.islice(todo, few + 1))
        todo = itertools.chain(start, todo)
        if len(start) > few:
            address = engine.LOCAL if request.out is None else request.engine
            with engine.connected(address, request.jobs) as workers:
                yield from workers.run(answered_elsewhere, ((task, *one) for one in todo))
            return
    for number, part in todo:
        yield _answered(model, task, number, part)


def _may_have_workers(request: Request) -> bool:
    return request.jobs != 1 or request.engine not in (None, engine.LOCAL) or engine.has_own_backend()


def answered_elsewhere(task: SliceTask, number: int, part: Slice) -> AnsweredSlice:
    if not isinstance(part, HeldSlice):
        _check_sight(task.path, task.source_bytes)
    _check_sight(task.model)
    if task.folder is not None:
        _check_sight(task.folder)
    return _answered(_loaded(task.kind, task.model, task.digest), task, number, part)


def _check_sight(path: Path, size: int | None = None) -> None:
    found = path.stat().st_size if path.exists() else None
    if found is None or size not in (None, found):
        what = "is not there" if found is None else f"has {found} bytes; expected {size}"
        raise DataError(
            f"{path}: {what}, as {socket.gethostname()} sees it. Input, output and model have to be on a "
            "disk that all machines share under the same path, and stay as they are while a run lasts"
        )


@lru_cache(maxsize=1)
def _loaded(kind: type[Model], folder: Path, digest: str) -> Model:
    model = kind.load(folder)
    if model.digest != digest:
        raise ModelError(
            f"{folder}: the model was replaced while rows were being answered. Run the same again, "
            "which starts anew with the new one"
        )
    return model


def _answered(model: Model, task: SliceTask, number: int, part: Slice) -> AnsweredSlice:
    rows = read_slice(task.path, task.reading, task.max_row_mb, part, task.source)
    chunks = _chunks(rows, *_most(model, in_batches=task.in_batches))
    if task.folder is not None:
        files = PartFiles.of(task.folder, number, task.suffix)
        # A cluster asks once more for what a worker had answered before it was lost.
        return files.answer() or files.written(model, chunks, task.form, task.reading.id)
    lines, refusals = io.BytesIO(), io.BytesIO()
    counts = _write_chunks(model, chunks, task.form, task.reading.id, lines, refusals)
    return AnsweredSlice(number, *counts, lines=lines.getvalue(), refusals=refusals.getvalue())


def _most(model: Model, *, in_batches: bool) -> tuple[int, int]:
    """Rows and characters of a chunk."""
    if in_batches:
        return sys.maxsize, sys.maxsize
    return (_HOSTED_CHUNK_ROWS if model.is_hosted else _CHUNK_ROWS), _CHUNK_CHARACTERS


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


def _write_chunks(
    model: Model,
    chunks: Iterator[_Chunk],
    form: Form,
    id_column: str | None,
    lines: _Writable,
    refusals: _Writable,
) -> tuple[int, int, int, int, int, int]:
    """Of an `AnsweredSlice` the numbers, in their order."""
    answered = refused = by_first = doubted = 0
    unknown: list[int] = []
    for chunk, found in _in_flight(model, chunks, form, id_column):
        lines.write(found)
        refusals.write("".join(refusal_line(bad) + "\n" for bad in chunk.refused()).encode())
        answered += len(chunk.rows) - len(chunk.failed)
        refused += len(chunk.refused())
        unknown += [chunk.rows[place].number for place in chunk.unknown]
        by_first += sum(chunk.by_first)
        doubted += sum(chunk.doubted)
    return answered, refused, len(unknown), unknown[0] if unknown else 0, by_first, doubted


def _in_flight(
    model: Model, chunks: Iterator[_Chunk], form: Form, id_column: str | None
) -> Iterator[tuple[_Chunk, bytes]]:
    """Chunks with the lines of their answers, in order.

    Of models at a service several are asked about at once: while the leaves of one chunk are waited for, the
    router of the next is asked.
    """
    if not model.is_hosted:
        yield from ((chunk, _lines(model, chunk, form, id_column)) for chunk in chunks)
        return
    waiting: deque[tuple[_Chunk, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_CHUNKS_IN_FLIGHT) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_lines, model, chunk, form, id_column)))
            if len(waiting) == _CHUNKS_IN_FLIGHT:
                first, found = waiting.popleft()
                yield first, found.result()
        for first, found in waiting:
            yield first, found.result()


def _lines(model: Model, chunk: _Chunk, form: Form, id_column: str | None) -> bytes:
    if not chunk.rows:
        return b""
    ids, texts = [row.id for row in chunk.rows], [row.text for row in chunk.rows]
    sources = [_beside_id(row.source, id_column) for row in chunk.rows] if form.style.keep else None
    refuse, unknown = chunk.failed.__setitem__, chunk.unknown.append
    return prediction_lines(model, ids, texts, form, refuse, sources, unknown, chunk.count)


def _beside_id(source: Mapping[str, Any], id_column: str | None) -> Mapping[str, Any]:
    """The columns of a row without that of its id, where the answer tells it under the same name."""
    return source if id_column != "id" else {name: value for name, value in source.items() if name != "id"}


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive rows of the input, taken apart into good ones and bad ones.

    `failed` says why, by position, of good rows that a service did not answer for; of those at the positions
    `unknown` the models know too little to say anything. The sum of `by_first` is how many of them a first
    look answered, that of `doubted` of how many labels were asked about again.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    unknown: list[int] = field(default_factory=list)
    by_first: list[int] = field(default_factory=list)
    doubted: list[int] = field(default_factory=list)

    def count(self, walked: Walked) -> None:
        """Count what is told of a walk."""
        if walked.by_first is not None:
            self.by_first.append(int(np.count_nonzero(walked.by_first)))
        if walked.checked is not None:
            self.doubted.append(len(np.unique(walked.checked.rows)))

    def __len__(self) -> int:
        return len(self.rows) + len(self.bad)

    def refused(self) -> list[BadRow]:
        """All rows without an answer, in the order of the input."""
        failed = [_refusal(self.rows[place], why) for place, why in self.failed.items()]
        return sorted([*self.bad, *failed], key=lambda row: row.number)


def _refusal(row: Row, why: str) -> BadRow:
    raw = json.dumps(dict(row.source), ensure_ascii=False, default=str)
    return BadRow(row.number, row.id, why, raw, row.file)


def _chunks(rows: Iterator[Row | BadRow], most: int, most_characters: int) -> Iterator[_Chunk]:
    chunk, characters = _Chunk(), 0
    for row in rows:
        if isinstance(row, Row):
            chunk.rows.append(row)
            characters += len(row.text)
        else:
            chunk.bad.append(row)
            characters += len(row.raw)
        if len(chunk.rows) >= most or characters >= most_characters:
            yield chunk
            chunk, characters = _Chunk(), 0
    if len(chunk):
        yield chunk


@dataclass(frozen=True, slots=True)
class PartFiles:
    """Where a slice's answers, refused rows and note of being done go.

    Two workers may write one slice at once, when the first was taken for lost: both write the same bytes,
    each to a file of its own first.
    """

    number: int
    lines: Path
    refusals: Path
    note: Path

    @classmethod
    def of(cls, folder: Path, number: int, suffix: str) -> PartFiles:
        name = f"{number:05d}"
        work = folder / WORK
        return cls(
            number, folder / f"part-{name}{suffix}", work / f"{name}.refused.jsonl", work / f"{name}.json"
        )

    def written(
        self, model: Model, chunks: Iterator[_Chunk], form: Form, id_column: str | None
    ) -> AnsweredSlice:
        work = self.note.parent
        with atomic_write(self.lines, work) as lines, atomic_write(self.refusals, work) as refusals:
            counts = _write_chunks(model, chunks, form, id_column, lines, refusals)
        with atomic_write(self.note, work) as note:
            noted = (*counts, lines.size, refusals.size)
            note.write(json.dumps(dict(zip(_NOTED, noted, strict=True))).encode())
        return AnsweredSlice(self.number, *counts)

    def answer(self) -> AnsweredSlice | None:
        """What the note tells; None where it is none, or the files are not those that it was made for."""
        try:
            noted = json.loads(self.note.read_bytes())
            *counts, lines, refusals = (noted[name] for name in _NOTED)
            found = [self.lines.stat().st_size, self.refusals.stat().st_size]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        is_sound = all(type(count) is int and count >= 0 for count in counts)
        return AnsweredSlice(self.number, *counts) if is_sound and [lines, refusals] == found else None


WORK = "_work"
_COUNTED = ("answered", "refused", "unknown", "first_unknown", "by_first", "doubted")
_NOTED = (*_COUNTED, "lines_bytes", "refusals_bytes")
