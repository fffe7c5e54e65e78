"""An input file of any length to prediction rows, slice by slice, in the order of the input.

The input is cut into slices of a few thousand rows, always at the same places. Whoever answers a slice, here,
in another process or on another machine, reads its rows from the input, writes its part under ``OUT.part``,
and then a note that it is done. So a run that was stopped, however rudely, goes on with the slices that are
missing. In the end parts are joined, and ``OUT`` appears whole, with the same bytes however it was made.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import socket
import stat
import sys
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol, Self

from cascade.errors import DataError, ModelError
from cascade.model.walk import MOST_CELLS
from cascade.predict.answers import Form, Model, Style, prediction_lines
from cascade.rows.row import BadRow, Columns, Row, refusal_line
from cascade.rows.slices import HeldSlice, Slice, read_slice, slices_of
from cascade.system import engine
from cascade.system.files import Locked, drafted, renames_open_files, write_all, writing

SLICE_ROWS = 4000
"""Rows that are lost at most when a worker or a run is stopped."""

_FORMAT = 2
_STDIN = "-"
_PART = ".part"
_MIB = 1 << 20
_SLICE_BYTES = 2 * _MIB
_PATIENT_SLICE_BYTES = 256 * _MIB
# Rows that are answered at once: more save nothing any more, and cost memory.
_CHUNK_ROWS = 2000
# A chunk of long texts ends before it has all its rows, as features take many times the room of the text.
_CHUNK_CHARACTERS = _MIB
# Of a service's answers nobody waits for more than these, and so many of them.
_HOSTED_CHUNK_ROWS = 250
_CHUNKS_IN_FLIGHT = 4
# Workers take seconds to start, in which so many slices are answered.
_FEW_SLICES = 2
_JOIN_BYTES = 4 * _MIB


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered, where the answers go, and what they show.

    Attributes
    ----------
    source
        The input, see `records.read_rows`; ``-`` is standard input.
    out
        A file that ends in .jsonl, .ndjson, .csv or .tsv; or a folder, as text that ends in a slash or as the
        path of one that exists, for one part of JSON lines a slice; None is standard output, as JSON lines.
    columns
        Which columns hold the text and the id; labels are not read.
    top
        So many of the most probable labels, whatever their thresholds.
    scores
        Probabilities of the labels in the answer, or of all visited labels.
    trace
        Whether every visited node is told with its scores and threshold.
    jobs
        Worker processes, None for one a core; with any number of them the same bytes are written.
    engine
        Where workers are, see `engine.connected`.
    slice_rows
        Rows of a slice, see `records.slices_of`.
    errors
        Where refused rows go: by default ``OUT.errors.jsonl`` beside `out`, without `out` to the caller.
    patient
        Whether answers take hours, however few there are: then slices are as large as a walk can hold.
    """

    source: str
    out: Path | str | None = None
    columns: Columns = field(default_factory=Columns)
    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False
    jobs: int | None = 1
    engine: str | None = None
    slice_rows: int = SLICE_ROWS
    errors: Path | None = None
    patient: bool = False

    @property
    def is_to_folder(self) -> bool:
        """Whether parts are not joined."""
        ends = tuple(mark for mark in (os.sep, os.altsep) if mark)
        return self.out is not None and (str(self.out).endswith(ends) or Path(self.out).is_dir())

    @property
    def form(self) -> Form:
        """What the rows of the output look like."""
        out = None if self.out is None or self.is_to_folder else Path(self.out)
        return Form.of(out, Style(self.top, self.scores, self.trace))

    @property
    def suffix(self) -> str:
        """How the names of parts end."""
        return ".jsonl" if self.out is None or self.is_to_folder else Path(self.out).suffix

    def __post_init__(self) -> None:
        for name in ("top", "jobs", "slice_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    rows
        Rows answered, those of stopped runs before this one included.
    refused
        Rows refused, likewise; with `rows` they are all rows of the input.
    resumed_from
        How many of both were taken over from a stopped run.
    errors
        The file of refused rows; None where there are none, or where the caller got them.
    """

    rows: int
    refused: int
    resumed_from: int
    errors: Path | None


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a run: ``resumed`` and ``anew`` come at most once, first, with a sentence in `detail`."""

    kind: Literal["resumed", "anew", "slice"]
    rows: int
    refused: int
    detail: str = ""


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
        Gets one line, see `records.refusal_line`, for each refused row that has no file to go to.
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
    if request.patient:
        request = replace(request, slice_rows=MOST_CELLS // len(model.taxonomy.graph.nodes) or 1)
    most_bytes = _PATIENT_SLICE_BYTES if request.patient else _SLICE_BYTES
    slices = _Counted(slices_of(request.source, request.columns, request.slice_rows, most_bytes))
    with _sink(model, request, stdout, refuse) as sink:
        if sink.note is not None:
            report(sink.note)
        taken_over = sink.answered + sink.refused
        todo = ((number, part) for number, part in slices if number not in sink.done)
        task = _Task.of(model, request, sink.folder)
        # Closed by hand: workers must not outlive an error for as long as its traceback is looked at.
        with contextlib.closing(_answers(model, task, todo, request)) as answers:
            for answer in answers:
                sink.add(answer)
                report(Progress("slice", sink.answered, sink.refused))
        sink.finish(slices.count)
        return Outcome(sink.answered, sink.refused, taken_over, sink.errors_path)


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


# Slices, answered here or by workers


@dataclass(frozen=True, slots=True)
class _Task:
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
    columns: Columns
    form: Form
    folder: Path | None
    suffix: str
    patient: bool

    @classmethod
    def of(cls, model: Model, request: Request, folder: Path | None) -> _Task:
        path = Path(request.source).absolute()
        is_file = request.source != _STDIN and path.is_file()
        return cls(
            kind=type(model),
            model=model.folder.absolute(),
            digest=model.digest,
            source=request.source,
            path=path,
            source_bytes=path.stat().st_size if is_file else None,
            columns=request.columns,
            form=request.form,
            folder=None if folder is None else folder.absolute(),
            suffix=request.suffix,
            patient=request.patient,
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a slice; `lines` and `refusals` are empty where they are in files."""

    number: int
    answered: int
    refused: int
    lines: bytes = b""
    refusals: bytes = b""


def _answers(
    model: Model, task: _Task, todo: Iterator[tuple[int, Slice]], request: Request
) -> Generator[_Answer, None, None]:
    """What comes of each slice; in order where it goes to standard output."""
    if _may_have_workers(request) and not model.is_hosted:
        start = list(itertools.islice(todo, _FEW_SLICES + 1))
        todo = itertools.chain(start, todo)
        if len(start) > _FEW_SLICES:
            address = engine.LOCAL if request.out is None else request.engine
            with engine.connected(address, request.jobs) as workers:
                yield from workers.run(_answered_elsewhere, ((task, *one) for one in todo))
            return
    for number, part in todo:
        yield _answered(model, task, number, part)


def _may_have_workers(request: Request) -> bool:
    return request.jobs != 1 or request.engine not in (None, engine.LOCAL) or engine.has_own_backend()


def _answered_elsewhere(task: _Task, number: int, part: Slice) -> _Answer:
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


def _answered(model: Model, task: _Task, number: int, part: Slice) -> _Answer:
    rows = read_slice(task.path, task.columns, part, task.source)
    chunks = _chunks(rows, *_most(model, patient=task.patient))
    if task.folder is not None:
        files = _Files.of(task.folder, number, task.suffix)
        # A cluster asks once more for what a worker had answered before it was lost.
        return files.answer() or files.written(model, chunks, task.form)
    lines, refusals = io.BytesIO(), io.BytesIO()
    counts = _write_chunks(model, chunks, task.form, lines, refusals)
    return _Answer(number, *counts, lines.getvalue(), refusals.getvalue())


def _most(model: Model, *, patient: bool) -> tuple[int, int]:
    """Rows and characters of a chunk."""
    if patient:
        return sys.maxsize, sys.maxsize
    return (_HOSTED_CHUNK_ROWS if model.is_hosted else _CHUNK_ROWS), _CHUNK_CHARACTERS


class _Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


def _write_chunks(
    model: Model, chunks: Iterator[_Chunk], form: Form, lines: _Writable, refusals: _Writable
) -> tuple[int, int]:
    """How many rows were answered and refused."""
    answered = refused = 0
    for chunk, found in _in_flight(model, chunks, form):
        lines.write(found)
        refusals.write("".join(refusal_line(bad) + "\n" for bad in chunk.refused()).encode())
        answered += len(chunk.rows) - len(chunk.failed)
        refused += len(chunk.refused())
    return answered, refused


def _in_flight(model: Model, chunks: Iterator[_Chunk], form: Form) -> Iterator[tuple[_Chunk, bytes]]:
    """Chunks with the lines of their answers, in order.

    Of models at a service several are asked about at once: while the leaves of one chunk are waited for, the
    router of the next is asked.
    """
    if not model.is_hosted:
        yield from ((chunk, _lines(model, chunk, form)) for chunk in chunks)
        return
    waiting: deque[tuple[_Chunk, Future[bytes]]] = deque()
    with ThreadPoolExecutor(_CHUNKS_IN_FLIGHT) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_lines, model, chunk, form)))
            if len(waiting) == _CHUNKS_IN_FLIGHT:
                first, found = waiting.popleft()
                yield first, found.result()
        for first, found in waiting:
            yield first, found.result()


def _lines(model: Model, chunk: _Chunk, form: Form) -> bytes:
    if not chunk.rows:
        return b""
    ids, texts = [row.id for row in chunk.rows], [row.text for row in chunk.rows]
    return prediction_lines(model, ids, texts, form, chunk.failed.__setitem__)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive rows of the input, taken apart into good ones and bad ones.

    `failed` says why, by position, of good rows that a service did not answer for.
    """

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

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


# Parts


@dataclass(frozen=True, slots=True)
class _Files:
    """Where a slice's answers, refused rows and note of being done go.

    Two workers may write one slice at once, when the first was taken for lost: both write the same bytes,
    each to a file of its own first.
    """

    number: int
    lines: Path
    refusals: Path
    note: Path

    @classmethod
    def of(cls, folder: Path, number: int, suffix: str) -> _Files:
        name = f"{number:05d}"
        work = folder / _WORK
        return cls(
            number, folder / f"part-{name}{suffix}", work / f"{name}.refused.jsonl", work / f"{name}.json"
        )

    def written(self, model: Model, chunks: Iterator[_Chunk], form: Form) -> _Answer:
        work = self.note.parent
        with drafted(self.lines, work) as lines, drafted(self.refusals, work) as refusals:
            answered, refused = _write_chunks(model, chunks, form, lines, refusals)
        with drafted(self.note, work) as note:
            counts = (answered, refused, lines.size, refusals.size)
            note.write(json.dumps(dict(zip(_NOTED, counts, strict=True))).encode())
        return _Answer(self.number, answered, refused)

    def answer(self) -> _Answer | None:
        """What the note tells; None where it is none, or the files are not those that it was made for."""
        try:
            noted = json.loads(self.note.read_bytes())
            answered, refused, *sizes = (noted[name] for name in _NOTED)
            found = [self.lines.stat().st_size, self.refusals.stat().st_size]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        is_sound = all(type(count) is int and count >= 0 for count in (answered, refused))
        return _Answer(self.number, answered, refused) if is_sound and sizes == found else None


_WORK = "_work"
_NOTED = ("answered", "refused", "lines_bytes", "refusals_bytes")


# Where rows go


class _Refusals(Locked):
    """The file of refused rows, in the making beside its place."""

    def __init__(self, final: Path) -> None:
        self.final = final
        super().__init__(final.with_name(final.name + _PART))

    def cut(self) -> None:
        """Forget what there is."""
        with writing(self.path):
            self._file.truncate(0)

    def append(self, data: bytes) -> None:
        """Write behind all there is, onto the disk."""
        with writing(self.path):
            write_all(self._file, data)
            os.fsync(self._file.fileno())

    def commit(self) -> None:
        """Give the file its final name."""
        with writing(self.final):
            if not renames_open_files():
                self._file.close()  # on Windows an open file keeps its name
            self.path.replace(self.final)

    def drop(self) -> None:
        """Leave neither this file nor an older one under its final name."""
        self.discard()
        with writing(self.final):
            self.final.unlink(missing_ok=True)


class _Sink(Protocol):
    """Where answers go, and what came of them so far; `done` are the slices that need no answer any more."""

    answered: int
    refused: int
    note: Progress | None
    done: frozenset[int]

    @property
    def folder(self) -> Path | None: ...
    @property
    def errors_path(self) -> Path | None: ...
    def add(self, answer: _Answer) -> None: ...
    def finish(self, n_slices: int) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _sink(model: Model, request: Request, stdout: IO[bytes], refuse: Callable[[str], None]) -> _Sink:
    targets = _Targets.of(request)
    if targets.out is None:
        return _Stream(stdout, targets.errors, refuse)
    return _Parts(targets, _job(model, request), request)


@dataclass(frozen=True, slots=True)
class _Targets:
    """The files to write, links followed."""

    out: Path | None
    errors: Path | None

    @classmethod
    def of(cls, request: Request) -> _Targets:
        out = _target(request.out, request.is_to_folder)
        errors = _target(request.errors) or (None if out is None else _errors_beside(out))
        if out is not None and errors is not None and _is_same(out, errors):
            raise DataError(
                f"{out}: is named for the answers and for the refused rows; give each its own file"
            )
        if request.source != _STDIN:
            for path in (out, errors):
                _check_apart(Path(request.source), path)
        return cls(out, errors)


def _check_apart(source: Path, target: Path | None) -> None:
    if target is None:
        return
    for name in (target, target.with_name(target.name + _PART)):
        if _is_same(name, source) or source.resolve().is_relative_to(name.resolve()):
            raise DataError(
                f"{name}: is the input, and would be overwritten; name another file for the output"
            )


def _target(name: Path | str | None, is_folder: bool = False) -> Path | None:
    if name is None:
        return None
    path = Path(name)
    with writing(path):
        # Renaming something onto a link would replace the link, not what it stands for.
        path = path.resolve() if path.is_symlink() or is_folder else path
        if is_folder:
            _check_folder(path)
        elif path.exists() and not path.is_file():
            kind = "a folder; name a file in it" if path.is_dir() else "no regular file; name another"
            raise DataError(f"{path}: is {kind}")
    return path


def _check_folder(path: Path) -> None:
    """DataError where a folder holds what no run wrote, and no run should take away."""
    if path.exists() and not path.is_dir():
        raise DataError(f"{path}: is a file; leave out the slash behind it, or name another folder")
    there = sorted(one.name for one in path.iterdir()) if path.exists() else []
    strange = [name for name in there if not name.startswith("part-") and name not in (_SUCCESS, _WORK)]
    if strange or (there and _SUCCESS not in there):
        raise DataError(
            f"{path}: is a folder with other things in it ({(strange or there)[0]!r}); name a file in it, "
            "or a new or empty folder"
        )


def _errors_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.errors.jsonl")


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one.absolute() == other.absolute()


class _Stream:
    """Rows to standard output; refused rows to a file, or to the caller."""

    done: frozenset[int] = frozenset()
    folder: Path | None = None

    def __init__(self, stdout: IO[bytes], errors: Path | None, refuse: Callable[[str], None]) -> None:
        self.answered, self.refused = 0, 0
        self.note: Progress | None = None
        self._stdout, self._refuse = stdout, refuse
        self._errors = None if errors is None else _Refusals(errors)
        if self._errors is not None:
            self._errors.cut()

    @property
    def errors_path(self) -> Path | None:
        return self._errors.final if self._errors is not None and self.refused else None

    def add(self, answer: _Answer) -> None:
        if self._errors is not None:
            self._errors.append(answer.refusals)
        elif answer.refused:
            for line in answer.refusals.decode().removesuffix("\n").split("\n"):
                self._refuse(line)
        self.refused += answer.refused
        write_all(self._stdout, answer.lines)
        self._stdout.flush()
        self.answered += answer.answered

    def finish(self, n_slices: int) -> None:
        del n_slices

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Rows that were printed cannot be taken back, so what was refused among them stands as well.
        if self._errors is None:
            return
        try:
            if self.refused:
                self._errors.commit()
            else:
                self._errors.drop()
        finally:
            self._errors.close()


_SUCCESS = "_SUCCESS"
_LOCK = "lock"
_JOB = "job.json"


class _Parts:
    """Rows to a folder ``OUT.part``, and from there to a file or a folder when all are there.

    In it stand a lock, what the run is about, and a folder of parts that is named after that: a worker of an
    older run, which may live on, writes into another one.
    """

    def __init__(self, targets: _Targets, job: Mapping[str, Any] | None, request: Request) -> None:
        if targets.out is None or targets.errors is None:
            raise ValueError("expected files to write to")
        self.answered, self.refused = 0, 0
        self.done: frozenset[int] = frozenset()
        self.note: Progress | None = None
        self._job, self._out, self._to_folder = job, targets.out, request.is_to_folder
        self._form, self._suffix = request.form, request.suffix
        self._root = targets.out.with_name(targets.out.name + _PART)
        self.folder = self._root / _key(job)
        with contextlib.ExitStack() as stack:
            self._lock = stack.enter_context(contextlib.closing(Locked(self._root / _LOCK)))
            self._errors = stack.enter_context(contextlib.closing(_Refusals(targets.errors)))
            self._take_over()
            if not self.done:
                self._begin()
            self._stack = stack.pop_all()

    @property
    def errors_path(self) -> Path | None:
        return self._errors.final if self.refused else None

    def _take_over(self) -> None:
        """Go on from what a stopped run left, if it fits."""
        if not (self._root / _JOB).exists():
            return
        misfit = self._misfit(_left_job(self._root / _JOB))
        if misfit:
            detail = f"{self._root}: left by a stopped run {misfit}; starting anew"
            self.note = Progress("anew", 0, 0, detail)
            return
        found = self._answers_there()
        self.done = frozenset(answer.number for answer in found)
        self.answered = sum(answer.answered for answer in found)
        self.refused = sum(answer.refused for answer in found)
        if found:
            rows = self.answered + self.refused
            detail = f"{self._root}: left by a stopped run with {rows} rows done; going on with the others"
            self.note = Progress("resumed", self.answered, self.refused, detail)

    def _misfit(self, left: Mapping[str, Any]) -> str:
        """Why nothing can be made of what is left, or nothing."""
        if self._job is None:
            return "with an input that can be read a second time"
        for part, words in (
            ("model", "with another model"),
            ("input", "with another input"),
            ("options", "with other options"),
        ):
            if part not in left:
                return "of another version"
            if left[part] != self._job[part]:
                return words
        return "" if left == self._job else "of another version"

    def _answers_there(self) -> list[_Answer]:
        notes = (self.folder / _WORK).glob("[0-9]*.json")
        numbers = [int(note.stem) for note in notes if note.stem.isdecimal()]
        found = [_Files.of(self.folder, number, self._suffix).answer() for number in numbers]
        return [answer for answer in found if answer is not None]

    def _begin(self) -> None:
        with writing(self._root):
            # What the run is about goes first and comes last: it must never stand beside parts of another.
            (self._root / _JOB).unlink(missing_ok=True)
            for one in self._root.iterdir():
                if one.is_dir():
                    shutil.rmtree(one)
            (self.folder / _WORK).mkdir(parents=True)
        self._errors.cut()
        if self._job is not None:
            with drafted(self._root / _JOB, self.folder / _WORK) as file:
                file.write(json.dumps(self._job).encode())

    def add(self, answer: _Answer) -> None:
        self.answered += answer.answered
        self.refused += answer.refused

    def finish(self, n_slices: int) -> None:
        files = [_Files.of(self.folder, number, self._suffix) for number in range(n_slices)]
        for one in files:
            if not one.lines.exists():
                raise DataError(
                    f"{one.lines}: was written by a worker, but is not here. The output has to be on a disk "
                    "that all machines share under the same path"
                )
        self._errors.cut()
        if self.refused:
            for one in files:
                if one.refusals.stat().st_size:
                    self._errors.append(one.refusals.read_bytes())
            self._errors.commit()
        else:
            self._errors.drop()
        # Answers come last: who sees them finds everything else in its place.
        if self._to_folder:
            self._move()
        else:
            self._join([one.lines for one in files])
        shutil.rmtree(self._root, ignore_errors=True)

    def _join(self, parts: Iterable[Path]) -> None:
        with drafted(self._out, self.folder / _WORK) as joined:
            joined.write(self._form.head())
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, joined, _JOIN_BYTES)

    def _move(self) -> None:
        with writing(self._out):
            (self.folder / _SUCCESS).touch()
            if self._out.exists():
                shutil.rmtree(self._out)
            self.folder.replace(self._out)
            shutil.rmtree(self._out / _WORK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            # Workers may have written what this process was not told any more.
            if error is not None and not self._answers_there():
                shutil.rmtree(self._root, ignore_errors=True)
                self._errors.discard()


# What a run is about


def _job(model: Model, request: Request) -> dict[str, Any] | None:
    """All that decides what is written, as JSON has it; None where the input can be read only once."""
    if request.source == _STDIN:
        return None
    about = _about_input(Path(request.source))
    if about is None:
        return None
    options = {
        "columns": asdict(request.columns),
        "top": request.top,
        "scores": request.scores,
        "trace": request.trace,
        "slice_rows": request.slice_rows,
        "to_folder": request.is_to_folder,
        "errors": None if request.errors is None else str(request.errors.resolve()),
    }
    job = {"format": _FORMAT, "model": model.digest, "input": about, "options": options}
    as_read: dict[str, Any] = json.loads(json.dumps(job))
    return as_read


def _key(job: Mapping[str, Any] | None) -> str:
    """A name for the folder of parts: the same for the same job, and only for that."""
    if job is None:
        return uuid.uuid4().hex
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:32]


def _left_job(path: Path) -> dict[str, Any]:
    """The job that a stopped run noted; empty where that cannot be made out."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        job = json.loads(path.read_bytes())
        if isinstance(job, dict):
            return job
    return {}


def _about_input(source: Path) -> dict[str, Any] | None:
    # What cannot be opened is left for the reading of it to complain about.
    with contextlib.suppress(OSError):
        found = source.stat()
        if stat.S_ISREG(found.st_mode):
            with source.open("rb") as file:
                start = hashlib.sha256(file.read(_MIB)).hexdigest()
            return {
                "path": str(source.resolve()),
                "bytes": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "sha256_of_first_mib": start,
            }
    return None
