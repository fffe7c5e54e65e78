"""A file of reviewed rows, each known by a key: appended to, rewritten where a row changes, never torn."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from cascade.system.files import atomic_write, write_all, writing

Answer = TypeVar("Answer")


class AnswerFile(Generic[Answer]):
    """A file of rows, each known by a key. What `read` gives for it are its lines that are not blank."""

    def __init__(self, path: Path, read: Callable[[Path], Iterable[tuple[str, Answer]]]) -> None:
        self._path, self._read = path, read
        self._stamp: tuple[int, ...] | None = None
        self._lines: list[tuple[str, bytes]] = []
        self.found: dict[str, Answer] = {}

    def open(self) -> list[str]:
        """Read what there is, and tell what had to be mended: half a line that nobody was told is taken."""
        cut = self._cut_torn_end()
        self.refresh()
        return [f"{self._path}: half a line at its end, left out: {cut!r}"] if cut else []

    def refresh(self) -> None:
        """Read the file if another hand changed it."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        entries = list(self._read(self._path)) if stamp else []
        lines = self._path.read_bytes().splitlines(keepends=True) if stamp else []
        rows = [line for line in lines if line.strip()]
        self._lines = [(key, line) for (key, _), line in zip(entries, rows, strict=True)]
        self.found = dict(entries)
        self._stamp = stamp

    def reread(self) -> None:
        """Read the file once more, as its names may mean something else by now; all stays if it cannot be."""
        stamp, self._stamp = self._stamp, None
        try:
            self.refresh()
        except BaseException:
            self._stamp = stamp
            raise

    def put(self, key: str, answer: Answer, line: bytes) -> None:
        """Have this line alone for a key, on the disk when this returns."""
        if key in self.found:
            self._rewrite([*self._others(key), (key, line)])
        else:
            self._append(line)
            self._lines.append((key, line))
        self.found[key] = answer
        self._stamp = _stamp(self._path)

    def put_new(self, entries: Sequence[tuple[str, Answer, bytes]]) -> None:
        """Have these lines, of keys that there are none for, on the disk when this returns."""
        self._append(b"".join(line for _, _, line in entries))
        self._lines += [(key, line) for key, _, line in entries]
        self.found.update((key, answer) for key, answer, _ in entries)
        self._stamp = _stamp(self._path)

    def _append(self, line: bytes) -> None:
        with writing(self._path), self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                write_all(file, line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # half a line would spoil the next one
                raise

    def remove(self, key: str) -> None:
        """Have nothing for a key."""
        if key not in self.found:
            return
        self._rewrite(self._others(key))
        del self.found[key]
        self._stamp = _stamp(self._path)

    def _others(self, key: str) -> list[tuple[str, bytes]]:
        return [(one, line) for one, line in self._lines if one != key]

    def _rewrite(self, lines: list[tuple[str, bytes]]) -> None:
        with atomic_write(self._path) as file:
            file.write(b"".join(line if line.endswith(b"\n") else line + b"\n" for _, line in lines))
        self._lines = lines

    def _cut_torn_end(self) -> str:
        """What stood behind the last line break and was no row: the process died while it wrote."""
        with writing(self._path), contextlib.suppress(FileNotFoundError):
            content = self._path.read_bytes()
            end = content[content.rfind(b"\n") + 1 :]
            if not end.strip():
                return ""
            with self._path.open("r+b") as file:
                if _is_object(end):
                    file.seek(0, os.SEEK_END)
                    file.write(b"\n")
                    return ""
                file.truncate(len(content) - len(end))
            return end.decode("utf-8", "backslashreplace")
        return ""


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Changes whenever a file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
