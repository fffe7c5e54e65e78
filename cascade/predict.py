"""An input file of any length to prediction rows, chunk by chunk, in the order of the input.

What is held in memory is a few chunks. Rows meant for a file go to ``OUT.part`` first (and refused ones to
``ERRORS.part``), and after each chunk ``OUT.part.json`` notes how far both have come, so that a run that was
stopped, however rudely, goes on where it was and ends with the same bytes; ``OUT`` itself appears whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol, Self

from cascade.answers import Form, Model, Style, prediction_rows
from cascade.errors import CascadeError, DataError, ModelError
from cascade.records import BadRow, Columns, Row, read_rows, refusal_line

if TYPE_CHECKING:
    from concurrent.futures import Future


CHUNK_ROWS = 2000
"""Rows between two notes of how far a run has come: more save nothing any more, and cost memory."""

_FORMAT = 1
_STDIN = "-"
_PART = ".part"
_MIB = 1 << 20
# A chunk of long texts ends before it has all its rows, as features take many times the room of the text.
_CHUNK_CHARACTERS = 1 << 20
# Chunks under way or waiting for their turn, for each worker: none idles while an earlier chunk takes longer.
_AHEAD = 2
_PARENT_CHECK_SECONDS = 0.5
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered, where the answers go, and what they show.

    Attributes
    ----------
    source
        The input, see `records.read_rows`; ``-`` is standard input.
    out
        A file that ends in .jsonl, .ndjson, .csv or .tsv; None is standard output, as JSON lines.
    columns
        Which columns hold the text and the id; labels are not read.
    top
        So many of the most probable labels, whatever their thresholds.
    scores
        Probabilities of the labels in the answer, or of all visited labels.
    trace
        Whether every visited node is told with its scores and threshold.
    jobs
        Worker processes; with any number of them the same bytes are written.
    chunk_rows
        Rows that are answered at once.
    errors
        Where refused rows go: by default ``OUT.errors.jsonl`` beside `out`, without `out` to the caller.
    """

    source: str
    out: Path | None = None
    columns: Columns = field(default_factory=Columns)
    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False
    jobs: int = 1
    chunk_rows: int = CHUNK_ROWS
    errors: Path | None = None

    @property
    def form(self) -> Form:
        """What the rows of the output look like."""
        return Form.of(self.out, Style(self.top, self.scores, self.trace))

    def __post_init__(self) -> None:
        for name in ("top", "jobs", "chunk_rows"):
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

    kind: Literal["resumed", "anew", "chunk"]
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
        Gets the rows where `request.out` is None; it is flushed after each chunk.
    refuse
        Gets one line, see `records.refusal_line`, for each refused row that has no file to go to.
    report
        Called after each chunk, and once before if there is something to say about a stopped run.

    Raises
    ------
    DataError
        The input cannot be read, the output cannot be written, or another run is writing it.
    CascadeError
        The model, or a worker process, failed. What was answered so far is kept, as after Ctrl-C.
    """
    form = request.form
    rows = read_rows(request.source, request.columns)
    with _sink(model, request, stdout, refuse) as sink:
        if sink.note is not None:
            report(sink.note)
        taken_over = sink.answered + sink.refused
        chunks = _chunks(itertools.islice(rows, taken_over, None), request.chunk_rows)
        # Closed by hand: workers must not outlive an error for as long as its traceback is looked at.
        with contextlib.closing(_answers(model, chunks, form, request.jobs)) as answers:
            for chunk, lines in answers:
                sink.add(chunk, lines)
                report(Progress("chunk", sink.answered, sink.refused))
        sink.finish()
        return Outcome(sink.answered, sink.refused, taken_over, sink.errors_path)


# Chunks, answered here or in workers


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Consecutive rows of the input, taken apart into good ones and refused ones."""

    ids: list[str | int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def add(self, row: Row | BadRow) -> int:
        """Take a row in; how many characters it has."""
        if isinstance(row, BadRow):
            self.refusals.append(refusal_line(row))
            return len(row.raw)
        self.ids.append(row.id)
        self.texts.append(row.text)
        return len(row.text)

    def __len__(self) -> int:
        return len(self.ids) + len(self.refusals)


def _chunks(rows: Iterator[Row | BadRow], chunk_rows: int) -> Iterator[_Chunk]:
    chunk, characters = _Chunk(), 0
    for row in rows:
        characters += chunk.add(row)
        if len(chunk) >= chunk_rows or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = _Chunk(), 0
    if len(chunk):
        yield chunk


def _answers(
    model: Model, chunks: Iterator[_Chunk], form: Form, jobs: int
) -> Generator[tuple[_Chunk, bytes], None, None]:
    """Each chunk with the lines of its good rows, in order."""
    start = list(itertools.islice(chunks, 2))
    chunks = itertools.chain(start, chunks)
    # Workers take seconds to start.
    if jobs > 1 and len(start) > 1:
        yield from _answers_of_workers(model, chunks, form, jobs)
        return
    for chunk in chunks:
        yield chunk, _lines(model, chunk.ids, chunk.texts, form)


def _lines(model: Model, ids: Sequence[str | int], texts: Sequence[str], form: Form) -> bytes:
    return b"".join(form.line(row) for row in prediction_rows(model, ids, texts, form.style))


def _answers_of_workers(
    model: Model, chunks: Iterator[_Chunk], form: Form, jobs: int
) -> Generator[tuple[_Chunk, bytes], None, None]:
    # joblib's own generator reads on while nobody takes its results: a slow pipe would fill the memory.
    from joblib.externals.loky import ProcessPoolExecutor

    lasting = _Lasting(type(model), model.folder.resolve(), model.digest)
    pool = ProcessPoolExecutor(
        max_workers=jobs, initializer=_depend_on, initargs=(os.getpid(),), env=_ONE_THREAD
    )
    waiting: deque[tuple[_Chunk, Future[bytes]]] = deque()
    try:
        for chunk in chunks:
            with _interrupts_held():
                future = pool.submit(_lines_in_worker, lasting, chunk.ids, chunk.texts, form)
            waiting.append((chunk, future))
            while waiting and (len(waiting) >= jobs * _AHEAD or waiting[0][1].done()):
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    finally:
        pool.shutdown(kill_workers=True)


def _first(waiting: deque[tuple[_Chunk, Future[bytes]]]) -> tuple[_Chunk, bytes]:
    from concurrent.futures.process import BrokenProcessPool

    chunk, future = waiting.popleft()
    try:
        return chunk, future.result()
    except BrokenProcessPool as error:
        raise CascadeError(
            "a worker process was killed, most likely for want of memory. Run the same again with fewer "
            "--jobs: rows that are answered already are kept"
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, from processes that start meanwhile for good.

    It reaches every process of a terminal. The parent ends its workers itself; they would only tell of it.
    """
    import signal
    from multiprocessing import resource_tracker

    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, between the mask and the workers, it would take the mask away (Python 3.11 does).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _depend_on(parent: int) -> None:
    """Have this worker end when its parent does."""
    import threading

    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    # A parent that is killed closes nothing, and a worker would wait for its next chunk for ever.
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


@dataclass(frozen=True, slots=True)
class _Lasting:
    """A model as another process can find it."""

    kind: type[Model]
    folder: Path
    digest: str


def _lines_in_worker(lasting: _Lasting, ids: Sequence[str | int], texts: Sequence[str], form: Form) -> bytes:
    return _lines(_loaded(lasting), ids, texts, form)


@lru_cache(maxsize=1)
def _loaded(lasting: _Lasting) -> Model:
    model = lasting.kind.load(lasting.folder)
    if model.digest != lasting.digest:
        raise ModelError(
            f"{lasting.folder}: the model was replaced while rows were being answered. Run the same again, "
            "which starts anew with the new one"
        )
    return model


# Where rows go


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written: {error.strerror or error}. Once that is mended, the same command "
            "goes on where it stopped"
        ) from error


def _write_all(stream: IO[bytes], data: bytes) -> None:
    """All of `data`: a stream without a buffer may take less of it at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


class _Part:
    """A file in the making under a name of its own, locked for as long as this process lives."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(final.name + _PART)
        with _writing(self.path):
            final.parent.mkdir(parents=True, exist_ok=True)
            self._file = _opened_alone(self.path)

    def length(self) -> int:
        """Bytes there are."""
        return os.fstat(self._file.fileno()).st_size

    def cut(self, length: int) -> None:
        """Forget what stands behind the first `length` bytes."""
        with _writing(self.path):
            self._file.truncate(length)

    def append(self, data: bytes) -> None:
        """Write behind all there is, onto the disk."""
        with _writing(self.path):
            _write_all(self._file, data)
            os.fsync(self._file.fileno())

    def commit(self) -> None:
        """Give the file its final name."""
        with _writing(self.final):
            if not _can_lock():
                self._file.close()  # on Windows an open file keeps its name
            self.path.replace(self.final)

    def drop(self) -> None:
        """Leave neither this file nor an older one under its final name."""
        self.discard()
        with _writing(self.final):
            self.final.unlink(missing_ok=True)

    def discard(self) -> None:
        """Leave nothing of this file."""
        with _writing(self.path):
            if not _can_lock():
                self._file.close()
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()


def _can_lock() -> bool:
    return os.name == "posix"


def _opened_alone(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab", buffering=0)
        try:
            _lock(file, path)
            # The run that held the lock until now may have given the file its final name meanwhile.
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: IO[bytes], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _lock(file: IO[bytes], path: Path) -> None:
    if not _can_lock():
        return
    import fcntl

    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"{path}: another run is writing here. Wait for it to end, or give this one another output file"
        ) from error
    except OSError:
        # Some network disks know no locks; two runs at once are then the user's to avoid.
        return


class _Sink(Protocol):
    """Where chunks go, and what came of them so far."""

    answered: int
    refused: int
    note: Progress | None

    @property
    def errors_path(self) -> Path | None: ...
    def add(self, chunk: _Chunk, lines: bytes) -> None: ...
    def finish(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def _sink(model: Model, request: Request, stdout: IO[bytes], refuse: Callable[[str], None]) -> _Sink:
    targets = _Targets.of(request)
    if targets.out is None:
        return _Stream(stdout, targets.errors, refuse)
    return _Files(
        targets.out, targets.errors or _errors_beside(targets.out), _job(model, request), request.form
    )


@dataclass(frozen=True, slots=True)
class _Targets:
    """The files to write, links followed."""

    out: Path | None
    errors: Path | None

    @classmethod
    def of(cls, request: Request) -> _Targets:
        targets = cls(_target(request.out), _target(request.errors))
        errors = targets.errors or (_errors_beside(targets.out) if targets.out else None)
        written = [path for path in (targets.out, errors) if path is not None]
        if targets.out is not None and errors is not None and _is_same(targets.out, errors):
            raise DataError(
                f"{targets.out}: is named for the answers and for the refused rows; give each its own file"
            )
        for path in written:
            for name in (path, path.with_name(path.name + _PART)):
                if request.source != _STDIN and _is_same(name, Path(request.source)):
                    raise DataError(
                        f"{name}: is the input, and would be overwritten; name another file for the output"
                    )
        return targets


def _target(path: Path | None) -> Path | None:
    if path is None:
        return None
    with _writing(path):
        # Renaming something onto a link would replace the link, not what it stands for.
        path = path.resolve() if path.is_symlink() else path
        if path.exists() and not path.is_file():
            kind = "a folder; name a file in it" if path.is_dir() else "no regular file; name another"
            raise DataError(f"{path}: is {kind}")
    return path


def _errors_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.errors.jsonl")


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one.absolute() == other.absolute()


class _Stream:
    """Rows to standard output; refused rows to a file, or to the caller."""

    def __init__(self, stdout: IO[bytes], errors: Path | None, refuse: Callable[[str], None]) -> None:
        self.answered, self.refused = 0, 0
        self.note: Progress | None = None
        self._stdout, self._refuse = stdout, refuse
        self._errors = None if errors is None else _Part(errors)
        if self._errors is not None:
            self._errors.cut(0)

    @property
    def errors_path(self) -> Path | None:
        return self._errors.final if self._errors is not None and self.refused else None

    def add(self, chunk: _Chunk, lines: bytes) -> None:
        if self._errors is None:
            for line in chunk.refusals:
                self._refuse(line)
        else:
            self._errors.append(_refusals(chunk))
        self.refused += len(chunk.refusals)
        _write_all(self._stdout, lines)
        self._stdout.flush()
        self.answered += len(chunk.ids)

    def finish(self) -> None:
        return None

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


class _Files:
    """Rows to a file, refused ones to another, with notes of how far they are."""

    def __init__(self, out: Path, errors: Path, job: Mapping[str, Any] | None, form: Form) -> None:
        self.answered, self.refused = 0, 0
        self.note: Progress | None = None
        self._job = job
        with contextlib.ExitStack() as stack:
            self._out = stack.enter_context(contextlib.closing(_Part(out)))
            self._errors = stack.enter_context(contextlib.closing(_Part(errors)))
            self._notes = self._out.path.with_name(self._out.path.name + ".json")
            self._take_over()
            if not self.answered + self.refused:
                self._begin(form)
            self._stack = stack.pop_all()

    @property
    def errors_path(self) -> Path | None:
        return self._errors.final if self.refused else None

    def _take_over(self) -> None:
        """Go on from what a stopped run left, if it fits."""
        if not self._notes.exists():
            return
        left = _State.read(self._notes)
        misfit = self._misfit(left)
        if left is None or misfit:
            detail = f"{self._out.path}: left by a stopped run {misfit}; starting anew"
            self.note = Progress("anew", 0, 0, detail)
            return
        self._out.cut(left.out_bytes)
        self._errors.cut(left.errors_bytes)
        self.answered, self.refused = left.answered, left.refused
        detail = f"{self._out.path}: left by a stopped run; going on after row {left.answered + left.refused}"
        self.note = Progress("resumed", left.answered, left.refused, detail)

    def _misfit(self, left: _State | None) -> str:
        """Why nothing can be made of what is left, or nothing."""
        if left is None:
            return "of another version"
        if self._job is None:
            return "with an input that can be read a second time"
        for part, words in (
            ("model", "another model"),
            ("input", "another input"),
            ("options", "other options"),
        ):
            if left.job.get(part) != self._job[part]:
                return f"with {words}"
        if left.job != self._job:
            return "of another version"
        if self._out.length() < left.out_bytes or self._errors.length() < left.errors_bytes:
            return "and is no longer whole"
        return ""

    def _begin(self, form: Form) -> None:
        # The note goes first: it must never stand beside rows that it does not tell of.
        self._forget()
        self._out.cut(0)
        self._errors.cut(0)
        self._out.append(form.head())

    def _forget(self) -> None:
        with _writing(self._notes):
            self._notes.unlink(missing_ok=True)
            _beside(self._notes).unlink(missing_ok=True)

    def add(self, chunk: _Chunk, lines: bytes) -> None:
        self._out.append(lines)
        self._errors.append(_refusals(chunk))
        self.answered += len(chunk.ids)
        self.refused += len(chunk.refusals)
        if self._job is not None:
            state = _State(self._job, self.answered, self.refused, self._out.length(), self._errors.length())
            with _writing(self._notes):
                state.write(self._notes)

    def finish(self) -> None:
        # Answers come last: who sees them finds everything else in its place.
        self._forget()
        if self.refused:
            self._errors.commit()
        else:
            self._errors.drop()
        self._out.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if error is not None and not self.answered + self.refused:
                self._out.discard()
                self._errors.discard()


def _refusals(chunk: _Chunk) -> bytes:
    return "".join(line + "\n" for line in chunk.refusals).encode()


# How far a run has come


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
        "errors": None if request.errors is None else str(request.errors.resolve()),
    }
    job = {"format": _FORMAT, "model": model.digest, "input": about, "options": options}
    as_read: dict[str, Any] = json.loads(json.dumps(job))
    return as_read


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


@dataclass(frozen=True, slots=True)
class _State:
    """Rows done, and the bytes that they take in both parts."""

    job: Mapping[str, Any]
    answered: int
    refused: int
    out_bytes: int
    errors_bytes: int

    @classmethod
    def read(cls, path: Path) -> _State | None:
        """What `write` wrote; None where that cannot be made out."""
        try:
            state = cls(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        counts = (state.answered, state.refused, state.out_bytes, state.errors_bytes)
        sound = isinstance(state.job, dict) and all(type(count) is int and count >= 0 for count in counts)
        return state if sound else None

    def write(self, path: Path) -> None:
        """Replace the file, whole or not at all."""
        draft = _beside(path)
        with draft.open("wb") as file:
            file.write(json.dumps(asdict(self)).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".new")
