"""Where answers and refused rows go, and how a stopped run is gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from cascade.errors import DataError
from cascade.predict.answers import Model
from cascade.predict.extras import ExtraColumns
from cascade.predict.job import MIB, job_in, job_of, key_of
from cascade.predict.request import STDIN, Progress, Request
from cascade.predict.slices import WORK, AnsweredSlice, PartFiles
from cascade.rows.tables import write_table
from cascade.system.files import LockedFile, atomic_write, renames_open_files, write_all, writing

_PART = ".part"
_JOIN_BYTES = 4 * MIB


class _RefusedRows(LockedFile):
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


@dataclass(slots=True)
class Unknown:
    """Rows of which the models know too little to say anything: how many, and the first of them, from 1."""

    rows: int = 0
    first: int = 0

    def add(self, answer: AnsweredSlice) -> None:
        """Count those of a slice; slices come in any order."""
        self.rows += answer.unknown
        self.first = min(filter(None, (self.first, answer.first_unknown)), default=0)


class Output(Protocol):
    """Where answers go, and what came of them so far; `done` are the slices that need no answer any more."""

    answered: int
    refused: int
    unknown: Unknown
    by_first: int
    doubted: int
    note: Progress | None
    done: frozenset[int]

    @property
    def folder(self) -> Path | None: ...
    @property
    def errors_path(self) -> Path | None: ...
    def add(self, answer: AnsweredSlice) -> None: ...
    def finish(self, n_slices: int) -> Sequence[str]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def output_of(model: Model, request: Request, stdout: IO[bytes], refuse: Callable[[str], None]) -> Output:
    targets = _OutputPaths.of(request)
    if targets.out is None:
        return _Stdout(stdout, targets.errors, refuse)
    return _PartFolder(targets, job_of(model, request), request, ExtraColumns(model.taxonomy, request.style))


@dataclass(frozen=True, slots=True)
class _OutputPaths:
    """The files to write, links followed."""

    out: Path | None
    errors: Path | None

    @classmethod
    def of(cls, request: Request) -> _OutputPaths:
        out = _target(request.out, request.is_to_folder)
        errors = _target(request.errors) or (None if out is None else _errors_beside(out))
        if out is not None and errors is not None and _is_same(out, errors):
            raise DataError(
                f"{out}: is named for the answers and for the refused rows; give each its own file"
            )
        if request.source != STDIN:
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
    others = [name for name in there if not name.startswith("part-") and name not in (_SUCCESS, WORK)]
    if others or (there and _SUCCESS not in there):
        raise DataError(
            f"{path}: is a folder with other things in it ({(others or there)[0]!r}); name a file in it, "
            "or a new or empty folder"
        )


def _errors_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.errors.jsonl")


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one.absolute() == other.absolute()


class _Stdout:
    """Rows to standard output; refused rows to a file, or to the caller."""

    done: frozenset[int] = frozenset()
    folder: Path | None = None

    def __init__(self, stdout: IO[bytes], errors: Path | None, refuse: Callable[[str], None]) -> None:
        self.answered, self.refused, self.by_first, self.doubted = 0, 0, 0, 0
        self.unknown = Unknown()
        self.note: Progress | None = None
        self._stdout, self._refuse = stdout, refuse
        self._errors = None if errors is None else _RefusedRows(errors)
        if self._errors is not None:
            self._errors.cut()

    @property
    def errors_path(self) -> Path | None:
        return self._errors.final if self._errors is not None and self.refused else None

    def add(self, answer: AnsweredSlice) -> None:
        if self._errors is not None:
            self._errors.append(answer.refusals)
        elif answer.refused:
            for line in answer.refusals.decode().removesuffix("\n").split("\n"):
                self._refuse(line)
        self.refused += answer.refused
        self.unknown.add(answer)
        self.by_first += answer.by_first
        self.doubted += answer.doubted
        write_all(self._stdout, answer.lines)
        self._stdout.flush()
        self.answered += answer.answered

    def finish(self, n_slices: int) -> Sequence[str]:
        del n_slices
        return ()

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


class _PartFolder:
    """Rows to a folder ``OUT.part``, and from there to a file or a folder when all are there.

    In it stand a lock, what the run is about, and a folder of parts that is named after that: a worker of an
    older run, which may live on, writes into another one.
    """

    def __init__(
        self, targets: _OutputPaths, job: Mapping[str, Any] | None, request: Request, extras: ExtraColumns
    ) -> None:
        if targets.out is None or targets.errors is None:
            raise ValueError("expected files to write to")
        self.answered, self.refused, self.by_first, self.doubted = 0, 0, 0, 0
        self.unknown = Unknown()
        self.done: frozenset[int] = frozenset()
        self.note: Progress | None = None
        self._job, self._out, self._to_folder = job, targets.out, request.is_to_folder
        self._form, self._suffix, self._extras = request.form, request.suffix, extras
        self._root = targets.out.with_name(targets.out.name + _PART)
        self.folder = self._root / key_of(job)
        with contextlib.ExitStack() as stack:
            self._lock = stack.enter_context(contextlib.closing(LockedFile(self._root / _LOCK)))
            self._errors = stack.enter_context(contextlib.closing(_RefusedRows(targets.errors)))
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
        misfit = self._misfit(job_in(self._root / _JOB))
        if misfit:
            detail = f"{self._root}: left by a stopped run {misfit}; starting anew"
            self.note = Progress("anew", 0, 0, detail)
            return
        found = self._answers_there()
        self.done = frozenset(answer.number for answer in found)
        for answer in found:
            self.add(answer)
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

    def _answers_there(self) -> list[AnsweredSlice]:
        notes = (self.folder / WORK).glob("[0-9]*.json")
        numbers = [int(note.stem) for note in notes if note.stem.isdecimal()]
        found = [PartFiles.of(self.folder, number, self._suffix).answer() for number in numbers]
        return [answer for answer in found if answer is not None]

    def _begin(self) -> None:
        with writing(self._root):
            # What the run is about goes first and comes last: it must never stand beside parts of another.
            (self._root / _JOB).unlink(missing_ok=True)
            for one in self._root.iterdir():
                if one.is_dir():
                    shutil.rmtree(one)
            (self.folder / WORK).mkdir(parents=True)
        self._errors.cut()
        if self._job is not None:
            with atomic_write(self._root / _JOB, self.folder / WORK) as file:
                file.write(json.dumps(self._job).encode())

    def add(self, answer: AnsweredSlice) -> None:
        self.answered += answer.answered
        self.refused += answer.refused
        self.unknown.add(answer)
        self.by_first += answer.by_first
        self.doubted += answer.doubted

    def finish(self, n_slices: int) -> Sequence[str]:
        files = [PartFiles.of(self.folder, number, self._suffix) for number in range(n_slices)]
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
        parts, notes = [one.lines for one in files], list[str]()
        if self._to_folder:
            self._move()
        elif self._form.is_made:
            notes = write_table(self._out, parts, self._extras.shape, self.folder / WORK)
        else:
            self._join(parts)
        shutil.rmtree(self._root, ignore_errors=True)
        return notes

    def _join(self, parts: Iterable[Path]) -> None:
        with atomic_write(self._out, self.folder / WORK) as joined:
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
            shutil.rmtree(self._out / WORK)

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
