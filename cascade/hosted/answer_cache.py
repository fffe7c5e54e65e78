"""Answers that were paid for, kept in an SQLite file, so that no question is paid for twice.

The file is one for all model folders of a user, and has a largest size: what was not used for longest goes
first. A cache that fails costs time and money, never an answer: where its file is locked, damaged or cannot
be written, it says so once, and is as if it were empty.

Beside the answers stands, for services that keep answers themselves, which questions are on their way:
whoever comes after a killed process knows what may be found there.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cascade.errors import BackendError
from cascade.system.sqlite import enter_wal

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON answers (used);
"""
# Releases that do not know it leave it alone, so that the version of the file is the same.
_SENT = """
CREATE TABLE IF NOT EXISTS sent (key BLOB NOT NULL, owner TEXT NOT NULL, at REAL NOT NULL,
PRIMARY KEY (key, owner)) WITHOUT ROWID;
"""
_VERSION = 2
MOST_BYTES = 10**9
# After an eviction there is room for a while.
_KEPT_SHARE = 0.9
# Use is noted so exactly, that it is hardly ever written.
_USE_SECONDS = 3600
# A kill loses what came in so many seconds, and what is in flight.
_SECONDS = 0.05
_ROWS = 400
# SQLite takes some 32,000 values in a statement, older ones 999.
_KEYS_AT_ONCE = 500
_TIMEOUT_SECONDS = 5.0
_PRIVATE = 0o600
# No service keeps an answer for longer.
_FORGOTTEN_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One answer: ``choices[0]`` of a response, and its ``usage``."""

    choice: Mapping[str, Any]
    usage: Mapping[str, Any]


class AnswerCache:
    """A file of answers by the hash of their question; for any number of threads and processes.

    What is put is written by a thread of its own, some hundred answers at once, after half a second at most.

    Parameters
    ----------
    path
        The file, made when it is first used, readable by its owner alone.
    note
        Called at most once, with a sentence on why the cache does not work.
    timeout
        Seconds to wait for other processes that are writing.
    most_bytes
        Of all answers together, about.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        note: Callable[[str], None] | None = None,
        timeout: float = _TIMEOUT_SECONDS,
        most_bytes: int = MOST_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._note, self._timeout = path, note, timeout
        self._most_bytes, self._clock = most_bytes, clock
        self._used: set[bytes] = set()
        self._file: sqlite3.Connection | None = None
        self._use, self._change = threading.Lock(), threading.Condition()
        self._waiting: dict[bytes, CachedAnswer] = {}
        self._writing: dict[bytes, CachedAnswer] = {}
        # By key when a question was sent, or None where it is not on its way any more.
        self._notes: dict[bytes, float | None] = {}
        self._noting: list[Future[None]] = []
        self._owner = secrets.token_hex(8)
        self._writer: threading.Thread | None = None
        self._closed = self._noted = self._broken = False

    def get(self, keys: Sequence[bytes]) -> dict[bytes, CachedAnswer]:
        """What is kept for those of the keys that have an answer."""
        with self._change:
            found = {key: kept for key in keys if (kept := self._unwritten(key)) is not None}
        if len(found) < len(keys):
            with self._use, self._forgiven():
                found |= self._read([key for key in keys if key not in found])
        return found

    def put(self, key: bytes, kept: CachedAnswer) -> None:
        """Keep an answer; it is there for `get` at once, in the file soon."""
        with self._change:
            if self._closed or self._broken:
                return
            self._waiting[key] = kept
            self._start_writer()
            if len(self._waiting) == 1 or len(self._waiting) >= _ROWS:
                self._change.notify_all()

    def note_sent(self, key: bytes) -> Future[None]:
        """Note that a question is about to be sent.

        What is answered is done once that is on the disk, or cannot be written: notes that come together are
        written together. `put` takes the note off.
        """
        noted: Future[None] = Future()
        with self._change:
            if self._closed or self._broken:
                noted.set_result(None)
                return noted
            self._notes[key] = self._clock()
            self._noting.append(noted)
            self._start_writer()
            self._change.notify_all()
        return noted

    def note_refused(self, key: bytes) -> None:
        """Take the note off a question that has surely no answer at the service."""
        with self._change:
            if not (self._closed or self._broken):
                self._notes[key] = None
                self._start_writer()
                self._change.notify_all()

    def sent_seconds(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """How long ago those of the keys were sent last, by any process, that may have no answer yet."""
        found: dict[bytes, float] = {}
        with self._use, self._forgiven():
            if (file := self._opened()) is None:
                return found
            for some in _parts(keys, _KEYS_AT_ONCE):
                marks = ",".join("?" * len(some))
                statement = f"SELECT key, max(at) FROM sent WHERE key IN ({marks}) GROUP BY key"  # noqa: S608
                found |= dict(file.execute(statement, some))
        now = self._clock()
        return {key: max(now - at, 0.0) for key, at in found.items()}

    def store(self, answers: Mapping[bytes, CachedAnswer]) -> None:
        """Keep answers that must not be lost: they are on the disk when this returns.

        Raises
        ------
        BackendError
            They cannot be written.
        """
        self.store_packed([(key, _packed(answer)) for key, answer in answers.items()])

    def store_packed(self, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """As `store`, for answers as they stand in a file."""
        try:
            with self._use:
                file = self._opened()
                if file is None:
                    raise sqlite3.OperationalError("it could not be used before")
                with self._synchronous():
                    self._insert_rows(rows)
        except (sqlite3.Error, OSError) as error:
            raise BackendError(
                f"{self._path}: answers cannot be kept: {error}. `cascade cache clear` empties a damaged file"
            ) from error

    def count(self) -> int:
        """How many answers there are; 0 where the file cannot be read."""
        found = 0
        with self._use, self._forgiven():
            file = self._opened()
            if file is not None:
                found = file.execute("SELECT count(*) FROM answers").fetchone()[0]
        return found

    @property
    def is_broken(self) -> bool:
        """Whether the file turned out to be none that can be used."""
        return self._broken

    def shrink(self) -> None:
        """Drop answers until the limit is kept; as many as there are where that is 0."""
        with self._use, self._forgiven():
            file = self._opened()
            if file is not None:
                self._evict(file)

    def close(self) -> None:
        """Write what waits, and let go of the file; a second time does nothing."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        if self._writer is not None:
            self._writer.join()
        if self._used:
            with self._use, self._forgiven():
                self._insert_rows([])
        with self._use:
            self._broken = True
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _unwritten(self, key: bytes) -> CachedAnswer | None:
        return self._waiting.get(key) or self._writing.get(key)

    # The file; `_use` is held

    def _opened(self) -> sqlite3.Connection | None:
        if self._file is None and not self._broken:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, _PRIVATE))
            # Only ever used under a lock; transactions are begun by hand.
            file = sqlite3.connect(
                self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(file, self._timeout)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, CachedAnswer]:
        found: dict[bytes, CachedAnswer] = {}
        file = self._opened()
        if file is None:
            return found
        for some in _parts(keys, _KEYS_AT_ONCE):
            marks = ",".join("?" * len(some))
            # Marks are all that is put into the statement.
            rows = file.execute(
                f"SELECT key, answer, used FROM answers WHERE key IN ({marks})",  # noqa: S608
                some,
            )
            for key, answer, used in rows:
                if (kept := _unpacked(answer)) is not None:
                    found[key] = kept
                if used < self._now():
                    self._used.add(key)
        return found

    def _now(self) -> int:
        return int(self._clock() // _USE_SECONDS)

    def _insert_rows(
        self, rows: Sequence[tuple[bytes, bytes]], notes: Mapping[bytes, float | None] | None = None
    ) -> None:
        """Write answers, which of the others were used, and which questions are on their way."""
        file = self._opened()
        if file is None:
            return
        now = self._now()
        used, self._used = self._used, set()
        file.execute("BEGIN IMMEDIATE")
        try:
            self._insert_notes(file, notes or {})
            file.executemany("DELETE FROM sent WHERE key = ?", [(key,) for key, _ in rows])
            file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [(*row, now) for row in rows])
            file.executemany("UPDATE answers SET used = ? WHERE key = ?", [(now, key) for key in used])
            file.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                file.execute("ROLLBACK")
            raise
        self._evict(file)

    def _insert_notes(self, file: sqlite3.Connection, notes: Mapping[bytes, float | None]) -> None:
        sent = [(key, self._owner, at) for key, at in notes.items() if at is not None]
        if sent:
            file.execute("DELETE FROM sent WHERE at < ?", (self._clock() - _FORGOTTEN_SECONDS,))
            file.executemany("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", sent)
        # Another process may have sent the same question.
        refused = [(key, self._owner) for key, at in notes.items() if at is None]
        file.executemany("DELETE FROM sent WHERE key = ? AND owner = ?", refused)

    def _evict(self, file: sqlite3.Connection) -> None:
        """Drop what was not used for longest, where all together is too much."""
        if _size(file) <= self._most_bytes:
            return
        while _size(file) > self._most_bytes * _KEPT_SHARE:
            count = file.execute("SELECT count(*) FROM answers").fetchone()[0]
            if not count:
                break
            file.execute(
                "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers ORDER BY used, rowid LIMIT ?)",
                (max(count // 10, 1),),
            )
        file.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        """Troubles of the file are told, not raised; those that pass leave it in use."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._tell(error)
            if not _passes(error):
                self._broken = True
                self._let_go()

    def _tell(self, error: Exception) -> None:
        if self._note is not None and not self._noted:
            self._note(
                f"{self._path}: the cache of answers cannot be used now: {error}. Questions are asked, and "
                "paid for, again; where no other process is using it, delete the file"
            )
        self._noted = True

    def _let_go(self) -> None:
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
            self._file = None

    # The writer

    def _start_writer(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="cascade-cache", daemon=True)
            self._writer.start()

    def _write(self) -> None:
        while (gathered := self._gathered()) is not None:
            notes, noting = gathered
            with self._use, self._forgiven():
                rows = [(key, _packed(kept)) for key, kept in self._writing.items()]
                # What is on its way has to be known after the machine failed, too.
                with self._synchronous() if noting else contextlib.nullcontext():
                    self._insert_rows(rows, notes)
                self._writing = {}
            for one in noting:
                if one.set_running_or_notify_cancel():
                    one.set_result(None)
            with self._change:
                failed, self._writing = self._writing, {}
                # What another process kept from being written is tried again with the next ones.
                self._waiting = {} if self._broken else failed | self._waiting
                if failed and self._closed:
                    return

    @contextlib.contextmanager
    def _synchronous(self) -> Iterator[None]:
        """What is written in the block is on the disk when it ends."""
        file = self._opened()
        if file is not None:
            file.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            if file is not None:
                file.execute("PRAGMA synchronous = NORMAL")

    def _gathered(self) -> tuple[dict[bytes, float | None], list[Future[None]]] | None:
        """Wait until there is something to write: notes, and who waits for them; answers are put aside.

        None when there is nothing and nothing will come.
        """
        with self._change:
            self._change.wait_for(lambda: bool(self._waiting or self._notes or self._closed))
            self._change.wait_for(
                lambda: len(self._waiting) >= _ROWS or bool(self._noting or self._closed), timeout=_SECONDS
            )
            self._writing, self._waiting = self._waiting, {}
            notes, self._notes = self._notes, {}
            noting, self._noting = self._noting, []
            return (notes, noting) if self._writing or notes else None


def _size(file: sqlite3.Connection) -> int:
    """Bytes that answers take."""
    pages, free, size = (
        file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _prepare(file: sqlite3.Connection, timeout: float) -> None:
    if not file.execute("PRAGMA page_count").fetchone()[0]:
        file.execute(
            "PRAGMA auto_vacuum = INCREMENTAL"
        )  # later it would take all of the file to be written anew
    enter_wal(file, timeout)
    file.execute("PRAGMA synchronous = NORMAL")
    version = file.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _VERSION):
        raise sqlite3.DatabaseError(f"made by another version ({version}; expected {_VERSION})")
    if version == 0:
        file.executescript(_TABLES)
        file.execute(f"PRAGMA user_version = {_VERSION}")
    file.executescript(_SENT)


def _passes(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _packed(kept: CachedAnswer) -> bytes:
    return zlib.compress(json.dumps([kept.choice, kept.usage], separators=(",", ":")).encode(), 1)


def _unpacked(answer: bytes) -> CachedAnswer | None:
    """What was packed, or None where it was damaged."""
    try:
        choice, usage = json.loads(zlib.decompress(answer))
    except (zlib.error, ValueError, TypeError):
        return None
    return CachedAnswer(choice, usage) if isinstance(choice, dict) and isinstance(usage, dict) else None


def _parts(keys: Sequence[bytes], size: int) -> Iterable[Sequence[bytes]]:
    return (keys[start : start + size] for start in range(0, len(keys), size))
