"""How files of SQLite are opened that several processes write."""

from __future__ import annotations

import sqlite3
import time

_PAUSE_SECONDS = 0.02
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether it came of another process that has the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def enter_wal(file: sqlite3.Connection, patience: float) -> None:
    """Have readers not wait for writers.

    Where two processes switch at once, one is refused at once, without the wait that other statements get;
    it tries again for `patience` seconds.

    Raises
    ------
    sqlite3.Error
        The file cannot be used, or is in use for longer.
    """
    until = time.monotonic() + patience
    while True:
        try:
            file.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)
