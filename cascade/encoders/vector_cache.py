"""Vectors of texts in an SQLite file, so that no text is encoded twice by the same encoder.

The file is one for all models of a user and has a largest size: the vectors that were written first go first.
A cache that fails, as on a disk that is full, costs time and never an answer: it is then as if it were empty.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cascade.errors import BackendError
from cascade.system.array_types import BoolArray, FloatArray
from cascade.system.files import writing
from cascade.system.home import home
from cascade.system.sqlite import enter_wal, is_busy

FILE = "vectors.sqlite"
MOST_BYTES = 1 << 30
_TABLES = """
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS written (number INTEGER PRIMARY KEY, key BLOB NOT NULL, bytes INTEGER NOT NULL);
"""
_TIMEOUT_SECONDS = 5.0
_KEYS_AT_ONCE = 500
# After an eviction there is room for a while.
_KEPT_SHARE = 0.9
_KEY_BYTES = 16


def path() -> Path:
    """The file of this user, whether or not it exists."""
    return home() / FILE


class VectorCache:
    """A file of vectors by encoder and text; for any number of processes.

    Parameters
    ----------
    path
        The file, made when it is first used, readable by its owner alone.
    sha256
        That of the encoder.
    dims
        How long its vectors are.
    most_bytes
        Of all vectors together, about.
    """

    def __init__(self, path: Path, sha256: str, dims: int, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._salt, self._dims, self._most_bytes = path, sha256.encode(), dims, most_bytes

    def get(self, texts: Sequence[str]) -> tuple[FloatArray, BoolArray]:
        """What is kept: vectors, float32, shape (n_texts, dims), and which of the texts have one."""
        found = np.zeros((len(texts), self._dims), dtype=np.float32)
        have = np.zeros(len(texts), dtype=np.bool_)
        keys = [self._key(text) for text in texts]
        kept: dict[bytes, bytes] = {}
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._path.exists():
                with self._opened() as file:
                    for start in range(0, len(keys), _KEYS_AT_ONCE):
                        some = keys[start : start + _KEYS_AT_ONCE]
                        marks = ",".join("?" * len(some))
                        kept |= file.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some)  # noqa: S608 - nothing but question marks
        for row, key in enumerate(keys):
            if len(vector := kept.get(key, b"")) == 2 * self._dims:
                found[row], have[row] = np.frombuffer(vector, dtype="<f2"), True
        return found, have

    def put(self, texts: Sequence[str], vectors: FloatArray) -> str:
        """Keep vectors, at half precision: all of them, or none and why not, in words."""
        halves = vectors.astype("<f2")
        rows = [(self._key(text), half.tobytes()) for text, half in zip(texts, halves, strict=True)]
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            with self._opened() as file, file:
                new = [
                    (key, len(vector) + _KEY_BYTES)
                    for key, vector in rows
                    if file.execute("INSERT OR IGNORE INTO vectors VALUES (?, ?)", (key, vector)).rowcount
                ]
                file.executemany("INSERT INTO written (key, bytes) VALUES (?, ?)", new)
                self._shrink(file)
        except (sqlite3.Error, OSError) as error:
            return getattr(error, "strerror", None) or str(error)
        return ""

    def _shrink(self, file: sqlite3.Connection) -> None:
        """Drop the oldest beyond the largest size."""
        [total] = file.execute("SELECT coalesce(sum(bytes), 0) FROM written").fetchone()
        if total <= self._most_bytes:
            return
        excess, last = total - int(self._most_bytes * _KEPT_SHARE), 0
        for number, size in file.execute("SELECT number, bytes FROM written ORDER BY number"):
            excess, last = excess - size, number
            if excess <= 0:
                break
        file.execute("DELETE FROM vectors WHERE key IN (SELECT key FROM written WHERE number <= ?)", (last,))
        file.execute("DELETE FROM written WHERE number <= ?", (last,))

    def _key(self, text: str) -> bytes:
        content = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=_KEY_BYTES, key=self._salt[:64]).digest()

    def _opened(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return _opened(self._path)


@contextlib.contextmanager
def _opened(path: Path, patience: float = _TIMEOUT_SECONDS) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=patience)) as file:
        enter_wal(file, patience)
        file.execute("PRAGMA synchronous = NORMAL")
        file.executescript(_TABLES)
        yield file


def bytes_on_disk() -> int:
    """What the cache takes on the disk."""
    return sum(one.stat().st_size for one in _files() if one.exists())


def count() -> int:
    """Of how many texts vectors are kept, each counted for each encoder; 0 where the file cannot be read."""
    if path().exists():
        with contextlib.suppress(sqlite3.Error, OSError), _opened(path()) as file:
            [found] = file.execute("SELECT count(*) FROM written").fetchone()
            return int(found)
    return 0


def clear(patience: float = _TIMEOUT_SECONDS) -> None:
    """Drop all vectors; a file that is damaged, or on a disk that is full, is removed.

    Parameters
    ----------
    patience
        So many seconds other processes may go on writing.

    Raises
    ------
    BackendError
        Another process is writing.
    DataError
        The system does not let it go.
    """
    if not path().exists():
        return
    try:
        with _opened(path(), patience) as file:
            file.executescript("BEGIN; DELETE FROM vectors; DELETE FROM written; COMMIT; VACUUM")
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if is_busy(error):
            raise BackendError(
                f"{path()}: another process is writing. Once it has ended, give the same command again"
            ) from error
        with writing(path()):
            for one in _files():
                one.unlink(missing_ok=True)


def _files() -> list[Path]:
    """What there may be of it: what SQLite puts beside a file first, as it means nothing without that."""
    return [path().with_name(FILE + end) for end in ("-wal", "-shm", "")]
