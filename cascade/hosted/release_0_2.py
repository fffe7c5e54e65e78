"""What release 0.2 kept in each model folder, taken over into the user's data folder."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.ledger import Ledger
from cascade.system.locks import locked

JOBS, ANSWERS, BATCHES = "jobs.sqlite", "answers.sqlite", "batches.sqlite"
MOVED = ".moved"
_AT_ONCE = 1000


def take_over_jobs(ledger: Ledger, path: Path) -> dict[str, str]:
    """Copy a folder's own ledger into the user's, and put it aside; the group of each order by its key.

    Raises
    ------
    BackendError
        A run of release 0.2 is using it, or it is damaged.
    """
    taken = f"{path}: another run makes or follows jobs with this ledger. Wait for it, or stop it"
    with locked(path.with_name(f"{path.name}.lock"), BackendError(taken)):
        if not path.exists():
            return {}  # another process was quicker
        try:
            with closing(sqlite3.connect(path)) as old:
                old.row_factory = sqlite3.Row
                orders, files, spent = (
                    [dict(row) for row in old.execute(f"SELECT * FROM {table}")]  # noqa: S608 - our own names
                    for table in ("orders", "files", "spent")
                )
                for order in orders:
                    order.pop("marked", None)
                ledger.take_over(orders, files, spent)
                old.execute("PRAGMA journal_mode = DELETE")  # so that it is one file
        except sqlite3.Error as error:
            raise BackendError(
                f"{path}: expected a ledger of jobs, found something else ({error}). Move the file away"
            ) from error
        path.rename(path.with_name(path.name + MOVED))
    return {str(row["key"]): str(row["group"]) for row in orders}


def models_of(folder: Path) -> dict[str, str]:
    """The models that a folder's own ledger knows, by the keys of their orders; nothing is changed."""
    if not (folder / JOBS).exists():
        return {}
    try:
        with closing(sqlite3.connect(folder / JOBS)) as old:
            rows = old.execute(
                "SELECT key, model FROM orders WHERE state = 'succeeded' AND model IS NOT NULL"
            )
            return dict(rows.fetchall())
    except sqlite3.Error:
        return {}  # the fit that follows tells


def has_answers(folder: Path) -> bool:
    """Whether a model folder has answers or batches of its own."""
    return (folder / ANSWERS).exists() or (folder / BATCHES).exists()


def take_over_answers(cache: AnswerCache, ledger: Ledger, folder: Path) -> None:
    """Move kept answers, and batches that are under way, out of a model folder.

    Raises
    ------
    BackendError
        They cannot be kept: then all stays where it is.
    """
    for name, read in ((ANSWERS, _answers), (BATCHES, _batches)):
        path = folder / name
        if not path.exists():
            continue
        try:
            with closing(sqlite3.connect(path)) as old:
                read(old, cache, ledger)
        except sqlite3.Error as error:
            raise BackendError(f"{path}: cannot be read: {error}. Move the file away") from error
        with suppress(OSError):  # of a folder that cannot be written: they are found there again
            for end in ("", "-wal", "-shm"):
                path.with_name(name + end).unlink(missing_ok=True)


def _answers(old: sqlite3.Connection, cache: AnswerCache, ledger: Ledger) -> None:
    del ledger
    rows = old.execute("SELECT key, answer FROM answers")
    while some := rows.fetchmany(_AT_ONCE):
        cache.store_packed(some)


def _batches(old: sqlite3.Connection, cache: AnswerCache, ledger: Ledger) -> None:
    rows = old.execute("SELECT id, choice FROM answers")
    while some := rows.fetchmany(_AT_ONCE):
        cache.store({bytes.fromhex(name): CachedAnswer(json.loads(choice), {}) for name, choice in some})
    batches = old.execute(
        "SELECT key, address, model, endpoint, file, batch, requests FROM batches WHERE state != 'ended'"
    ).fetchall()
    open_ones = {row[0] for row in batches}
    members = [row for row in old.execute("SELECT id, batch FROM requests") if row[1] in open_ones]
    with ledger.transaction() as database:
        database.executemany(
            "INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(*row, None, time.time()) for row in batches],
        )
        database.executemany("INSERT OR IGNORE INTO batch_requests VALUES (?, ?)", members)
