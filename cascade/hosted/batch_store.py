"""Batches under way, in the user's ledger: what is wanted stands there before a service hears of it."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from cascade.hosted.ledger import Ledger

# No service keeps a batch or its results for so long.
_FORGOTTEN_SECONDS = 90 * 86_400.0
_COLUMNS = "key, service, model, endpoint, file, batch, requests, owner"


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as the ledger knows it.

    Attributes
    ----------
    key
        By which it is found again at the service.
    file, batch
        Names that the service gave; None until there is one.
    requests
        How many questions are in it.
    owner
        The run that is about to create it; None once it is created.
    """

    key: str
    service: str
    model: str
    endpoint: str
    file: str | None
    batch: str | None
    requests: int
    owner: str | None


class BatchStore:
    """Batches of one run, and those of others with the same questions.

    Parameters
    ----------
    owner
        The name of the run, see `Ledger.running`.
    """

    def __init__(self, ledger: Ledger, owner: str) -> None:
        self._ledger, self._owner = ledger, owner
        with ledger.transaction() as database:
            old = (time.time() - _FORGOTTEN_SECONDS,)
            database.execute(
                "DELETE FROM batch_requests WHERE batch IN (SELECT key FROM batches WHERE at < ?)", old
            )
            database.execute("DELETE FROM batches WHERE at < ?", old)

    def batches_of(self, ids: Collection[str]) -> list[tuple[BatchRecord, set[str]]]:
        """The batches under way with some of these questions, oldest first, and which they have."""
        rows = self._ledger.rows(f"SELECT {_COLUMNS} FROM batches ORDER BY at, key")  # noqa: S608
        found = [(BatchRecord(*row), self.members(row["key"]).intersection(ids)) for row in rows]
        return [(record, some) for record, some in found if some]

    def members(self, key: str) -> set[str]:
        """Ids of the questions in a batch."""
        rows = self._ledger.rows("SELECT id FROM batch_requests WHERE batch = ?", key)
        return {row["id"] for row in rows}

    def record(self, key: str) -> BatchRecord | None:
        """The batch as it stands; None once it is over."""
        rows = self._ledger.rows(f"SELECT {_COLUMNS} FROM batches WHERE key = ?", key)  # noqa: S608
        return BatchRecord(*rows[0]) if rows else None

    def is_others(self, record: BatchRecord) -> bool:
        """Whether another run that goes on is about to create a batch."""
        return record.batch is None and self._ledger.is_reserved(record.owner, self._owner)

    def claim(self, key: str) -> bool:
        """Take over a batch that was never seen to be created; False where its own run goes on."""
        with self._ledger.transaction() as database:
            found = database.execute("SELECT owner, batch FROM batches WHERE key = ?", (key,)).fetchone()
            if found is None or found["batch"] or self._ledger.is_reserved(found["owner"], self._owner):
                return False
            database.execute("UPDATE batches SET owner = ? WHERE key = ?", (self._owner, key))
            return True

    @contextlib.contextmanager
    def planning(self) -> Iterator[set[str]]:
        """The ids of all questions that are in a batch; no other run intends any while the block runs."""
        with self._ledger.transaction() as database:
            yield {row["id"] for row in database.execute("SELECT id FROM batch_requests")}

    def intend(self, ids: Sequence[str], service: str, model: str, endpoint: str) -> None:
        """Note a batch that this run is about to create; within `planning`."""
        key = secrets.token_hex(16)
        values = (key, service, model, endpoint, None, None, len(ids), self._owner, time.time())
        self._ledger.rows("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *values)
        for one in ids:
            self._ledger.rows("INSERT INTO batch_requests VALUES (?, ?)", one, key)

    def note_file(self, key: str, name: str) -> None:
        """Note how the service calls the file of a batch."""
        with self._ledger.transaction() as database:
            database.execute("UPDATE batches SET file = ? WHERE key = ?", (name, key))

    def note_batch(self, key: str, name: str) -> None:
        """Note that a batch was created, and how the service calls it."""
        with self._ledger.transaction() as database:
            database.execute("UPDATE batches SET batch = ?, owner = NULL WHERE key = ?", (name, key))

    def end(self, key: str) -> None:
        """A batch is over, and its answers are kept; or it never came to be."""
        with self._ledger.transaction() as database:
            database.execute("DELETE FROM batch_requests WHERE batch = ?", (key,))
            database.execute("DELETE FROM batches WHERE key = ?", (key,))
