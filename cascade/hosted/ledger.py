"""What a user ordered of services: files, fine-tuning jobs, tuned models, batches.

It outlives every process: one SQLite file for all model folders, for its owner alone. A row is committed,
and on the disk, before the call that it speaks of is made: whoever comes after a killed process knows what
may have happened at the service.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

from cascade.errors import BackendError
from cascade.hosted.runs import Runs
from cascade.system.home import VARIABLE
from cascade.system.sqlite import enter_wal

SCHEMA = 2
_BUSY_SECONDS = 30.0

State = Literal["waiting", "intended", "created", "succeeded", "failed", "cancelled"]
"""``waiting``: there is surely no job yet. ``intended``: nobody knows. ``created``: there is one."""

_TABLES = """
CREATE TABLE files (
    service TEXT NOT NULL,
    purpose TEXT NOT NULL,
    digest TEXT NOT NULL,
    file TEXT,
    at REAL NOT NULL,
    PRIMARY KEY (service, purpose, digest)
) WITHOUT ROWID;
CREATE TABLE orders (
    key TEXT PRIMARY KEY,
    "group" TEXT NOT NULL,
    service TEXT NOT NULL,
    settings TEXT NOT NULL,
    base_model TEXT NOT NULL,
    suffix TEXT NOT NULL,
    cost_usd REAL,
    state TEXT NOT NULL,
    training_file TEXT,
    validation_file TEXT,
    job TEXT,
    model TEXT,
    trained_tokens INTEGER,
    result_csv TEXT NOT NULL DEFAULT '[]',
    estimated_end REAL,
    intended_at REAL NOT NULL,
    created_at REAL,
    ended_at REAL,
    why TEXT NOT NULL DEFAULT '',
    advice TEXT NOT NULL DEFAULT '',
    owner TEXT
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_order_a_job ON orders (service, job) WHERE job IS NOT NULL;
CREATE TABLE spent (
    service TEXT NOT NULL,
    job TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (service, job)
) WITHOUT ROWID;
CREATE TABLE batches (
    key TEXT PRIMARY KEY,
    service TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    file TEXT,
    batch TEXT,
    requests INTEGER NOT NULL,
    owner TEXT,
    at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE batch_requests (
    id TEXT NOT NULL,
    batch TEXT NOT NULL,
    PRIMARY KEY (batch, id)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class JobRecord:
    """One order, as far as it came.

    Attributes
    ----------
    key
        Content hash of all that the job is made of.
    group
        Name of the group, for people.
    service
        Address of the service.
    settings
        Provider, base_url, api_key_env and base_model: enough to reach the service again.
    base_model, suffix
        What is tuned, and what its name will have in it.
    cost_usd
        What it was estimated to cost; None where nobody knows a price.
    state
        See `State`.
    training_file, validation_file, job, model
        Names that the service gave; None until there is one.
    trained_tokens
        Tokens that were billed, None until the service says.
    result_csv
        The training curve: one mapping from column to value a row.
    estimated_end
        When the service thinks to be done, in seconds since 1970; None where it does not say.
    intended_at, created_at, ended_at
        Seconds since 1970; None for what did not happen yet.
    why, advice
        The reason of a failure or of waiting, and a way out.
    """

    key: str
    group: str
    service: str
    settings: Mapping[str, Any]
    base_model: str
    suffix: str
    cost_usd: float | None
    state: State
    training_file: str | None
    validation_file: str | None
    job: str | None
    model: str | None
    trained_tokens: int | None
    result_csv: tuple[Mapping[str, float], ...]
    estimated_end: float | None
    intended_at: float
    created_at: float | None
    ended_at: float | None
    why: str
    advice: str


@dataclass(frozen=True)
class FileRecord:
    """A file whose upload was begun; ``file`` is None where nobody knows how it ended."""

    file: str | None


_COLUMNS = tuple(field.name for field in fields(JobRecord))
_PROGRESS = {"intended": 1, "created": 2, "succeeded": 3}
_SELECT = 'SELECT "' + '", "'.join(_COLUMNS) + '" FROM orders'  # noqa: S608 - our own names


class Ledger:
    """The ledger in a file, made where there is none; for one process or several, one thread or several.

    A run *reserves* what it is about to order, so that no other run orders the same. Reservations go with the
    process, however it ends: they name a lock file that it holds.

    Raises
    ------
    BackendError
        The file is no ledger, is of another version, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._runs = Runs(path.parent / "runs")
        self._mutex = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _make_private(self.path)
            self._database = _opened(self.path)
        except (OSError, sqlite3.Error) as error:
            raise BackendError(
                f"{self.path}: cannot be opened as a ledger of jobs: {error}. Set "
                f"{VARIABLE} to a folder that can be written"
            ) from error
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the file; what was written stays."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        try:
            with self._transaction():
                version = self._database.execute("PRAGMA user_version").fetchone()[0]
                tables = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if version == 0 and tables == 0:
                    self._make_tables()
                elif version != SCHEMA:
                    raise BackendError(
                        f"{self.path}: expected a ledger of version {SCHEMA}, found {version}. Use the "
                        "version of Cascade that wrote it, or move it away (its jobs stay at the service)"
                    )
        except sqlite3.Error as error:
            raise BackendError(
                f"{self.path}: expected a ledger of jobs, found something else ({error}). Move the file away"
            ) from error

    def _make_tables(self) -> None:
        for statement in filter(str.strip, _TABLES.split(";")):
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block ends; sqlite3.Error where that fails."""
        with self._mutex:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """As `_transaction`, and BackendError where it fails."""
        try:
            with self._transaction() as database:
                yield database
        except sqlite3.Error as error:
            raise BackendError(f"{self.path}: cannot be written: {error}") from error

    def rows(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._mutex:
            return self._database.execute(statement, values).fetchall()

    # Runs

    def running(self) -> contextlib.AbstractContextManager[str]:
        """A name for this run to reserve orders under, until the block or the process ends."""
        return self._runs.begun()

    def is_reserved(self, owner: str | None, by: str) -> bool:
        """Whether something with this owner is reserved by another run that goes on."""
        return owner is not None and owner != by and self._runs.goes_on(owner)

    # Files

    def file(self, service: str, purpose: str, digest: str) -> FileRecord | None:
        """What is known of a file; None where it was never sent."""
        found = self.rows(
            "SELECT file FROM files WHERE service = ? AND purpose = ? AND digest = ?",
            service,
            purpose,
            digest,
        )
        return FileRecord(found[0]["file"]) if found else None

    def note_file(self, service: str, purpose: str, digest: str, file: str | None) -> None:
        """Note that an upload begins (`file` is None), or how the service calls the file."""
        with self.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)",
                (service, purpose, digest, file, time.time()),
            )

    def forget_file(self, service: str, file: str) -> None:
        """The service has this file no longer."""
        with self.transaction() as database:
            database.execute("DELETE FROM files WHERE service = ? AND file = ?", (service, file))

    def users_of(self, service: str, file: str) -> list[str]:
        """Keys of the orders with a job, or with one that may be, that was made of a file."""
        found = self.rows(
            "SELECT key FROM orders WHERE service = ? AND (training_file = ? OR validation_file = ?) "
            "AND state IN ('intended', 'created')",
            *(service, file, file),
        )
        return [row["key"] for row in found]

    # Orders

    def order(self, key: str) -> JobRecord | None:
        """The order with a key, or None."""
        found = self.rows(f"{_SELECT} WHERE key = ?", key)
        return _record(found[0]) if found else None

    def orders(self) -> list[JobRecord]:
        """Every order, oldest first."""
        return [_record(row) for row in self.rows(f"{_SELECT} ORDER BY intended_at, key")]

    def knows(self, key: str) -> bool:
        """Whether there is a job for a key, or may be one: nothing more has to be paid for."""
        record = self.order(key)
        return record is not None and record.state in ("intended", "created", "succeeded")

    def reserve(self, key: str, owner: str, **columns: Any) -> bool:
        """Keep other runs from ordering the same; False where another run that goes on is about to order it.

        True, too, where there is a job: there is nothing to order then. Columns are those of `intend`.
        """
        with self.transaction() as database:
            left = database.execute("SELECT state, owner FROM orders WHERE key = ?", (key,)).fetchone()
            if left is None:
                self._insert(key, "waiting", time.time(), owner=owner, **columns)
                return True
            if left["state"] in ("created", "succeeded"):
                return True
            if self.is_reserved(left["owner"], owner):
                return False
            database.execute("UPDATE orders SET owner = ? WHERE key = ?", (owner, key))
            return True

    def intend(self, key: str, **columns: Any) -> None:
        """Note that a job is about to be created; a job of this order that ended before is put aside.

        Parameters
        ----------
        columns
            group, service, settings, base_model, suffix, cost_usd, training_file, validation_file.

        Raises
        ------
        BackendError
            There is a job of this order already.
        """
        with self.transaction() as database:
            left = database.execute(
                "SELECT state, intended_at, owner FROM orders WHERE key = ?", (key,)
            ).fetchone()
            if left is not None and left["state"] in ("created", "succeeded"):
                raise BackendError(
                    f"{self.path}: there is a job for {columns.get('group')!r} ({key[:16]}) already"
                )
            self._put_aside(key)
            # The first of several tries counts: what is looked for may have been made by it.
            begun = left["intended_at"] if left is not None and left["state"] == "intended" else time.time()
            owner = left["owner"] if left is not None else None
            self._insert(key, "intended", begun, owner=owner, **columns)

    def _insert(self, key: str, state: State, intended_at: float, **columns: Any) -> None:
        values = columns | {"settings": json.dumps(columns["settings"])}
        values |= {"key": key, "state": state, "intended_at": intended_at}
        _insert_row(self._database, "OR REPLACE", "orders", values)

    def _put_aside(self, key: str) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO spent SELECT service, job, key, state, why FROM orders "
            "WHERE key = ? AND job IS NOT NULL",
            (key,),
        )

    def is_free(self, service: str, job: str, key: str) -> bool:
        """Whether a job belongs to no other order, and is none that ended for this one before."""
        taken = self.rows(
            "SELECT 1 FROM orders WHERE service = ? AND job = ? AND key != ? "
            "UNION ALL SELECT 1 FROM spent WHERE service = ? AND job = ?",
            *(service, job, key, service, job),
        )
        return not taken

    def created(self, key: str, job: str, at: float | None = None) -> None:
        """Note the job of an order, and when it was created, in seconds since 1970 (None is now)."""
        self.note(key, state="created", job=job, created_at=at or time.time(), why="", advice="", owner=None)

    def ended(self, key: str, state: State, why: str, advice: str, job: str | None = None) -> None:
        """Note that an order came to nothing; with `job`, only if that is still the job of the order."""
        with self.transaction() as database:
            database.execute(
                "UPDATE orders SET state = ?, why = ?, advice = ?, ended_at = ?, owner = NULL "
                "WHERE key = ? AND (? IS NULL OR job = ?)",
                (state, why, advice, time.time(), key, job, job),
            )

    def succeeded(
        self,
        key: str,
        job: str,
        model: str,
        trained_tokens: int | None,
        result_csv: Sequence[Mapping[str, float]],
    ) -> None:
        """Note the tuned model of an order, and the job that made it."""
        self.note(
            key,
            state="succeeded",
            job=job,
            model=model,
            trained_tokens=trained_tokens,
            result_csv=json.dumps([dict(row) for row in result_csv]),
            ended_at=time.time(),
            estimated_end=None,
            why="",
            advice="",
            owner=None,
        )

    def note(self, key: str, **columns: Any) -> None:
        """Change columns of an order; nothing where there is no such order."""
        names = ", ".join(f'"{name}" = ?' for name in columns)
        with self.transaction() as database:
            database.execute(f"UPDATE orders SET {names} WHERE key = ?", (*columns.values(), key))  # noqa: S608

    def take_over(
        self,
        orders: Iterable[Mapping[str, Any]],
        files: Iterable[Mapping[str, Any]],
        spent: Iterable[Mapping[str, Any]],
    ) -> None:
        """Add rows of another ledger; of an order in both the one that came further stays."""
        with self.transaction() as database:
            for table, rows in (("files", files), ("spent", spent)):
                for row in rows:
                    _insert_row(database, "OR IGNORE", table, row)
            for row in orders:
                left = database.execute("SELECT state FROM orders WHERE key = ?", (row["key"],)).fetchone()
                if left is None:
                    _insert_row(database, "OR IGNORE", "orders", row)
                elif _PROGRESS.get(row["state"], 0) > _PROGRESS.get(left["state"], 0):
                    self._put_aside(row["key"])
                    _insert_row(database, "OR REPLACE", "orders", row)

    def give_up(self, key: str) -> None:
        """Forget an order and never take its job for it again; the next run makes a new one."""
        with self.transaction() as database:
            self._put_aside(key)
            database.execute("DELETE FROM orders WHERE key = ?", (key,))


def _insert_row(database: sqlite3.Connection, how: str, table: str, row: Mapping[str, Any]) -> None:
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
    statement = f"INSERT {how} INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - our own names
    database.execute(statement, tuple(row.values()))


def _make_private(path: Path) -> None:
    """A file for its owner alone; SQLite gives its mode to the files that it puts beside it."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for one in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError):
            one.chmod(0o600)


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        database.row_factory = sqlite3.Row
        enter_wal(database, _BUSY_SECONDS)
        database.execute("PRAGMA synchronous = FULL")
    except BaseException:
        database.close()
        raise
    return database


def _record(row: sqlite3.Row) -> JobRecord:
    values = dict(row)
    values["settings"] = json.loads(values["settings"])
    values["result_csv"] = tuple(json.loads(values["result_csv"]))
    return JobRecord(**values)
