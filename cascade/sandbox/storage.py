"""All that the service remembers: records in SQLite, contents of files and models beside it."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

Record = dict[str, Any]

_TABLE = """
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    parent TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (kind, id)
)
"""


def new_id(prefix: str) -> str:
    """A name that no other thing has."""
    return prefix + secrets.token_hex(12)


def public(record: Mapping[str, Any]) -> Record:
    """A record without what is the service's own business."""
    return {name: value for name, value in record.items() if not name.startswith("_")}


class Storage:
    """Records by kind and id, for any thread; what was put is there after the process was killed.

    Attributes
    ----------
    folder
        Where everything is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("files", "models"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._base = sqlite3.connect(folder / "sandbox.db", check_same_thread=False, isolation_level=None)
        self._base.execute("PRAGMA journal_mode = WAL")
        self._base.execute("PRAGMA synchronous = NORMAL")
        self._base.execute(_TABLE)

    def put(self, kind: str, record: Record, parent: str = "") -> Record:
        """Keep a record under its ``id``, in the place of an older one with the same."""
        body = json.dumps(record)
        statement = (
            "INSERT INTO records (kind, id, parent, body) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body"
        )
        with self._lock:
            self._base.execute(statement, (kind, record["id"], parent, body))
        return record

    def get(self, kind: str, name: str) -> Record | None:
        """The record, or None."""
        with self._lock:
            found = self._base.execute(
                "SELECT body FROM records WHERE kind = ? AND id = ?", (kind, name)
            ).fetchone()
        return json.loads(found[0]) if found else None

    def all(self, kind: str, parent: str = "") -> list[Record]:
        """The records of a kind, the oldest first."""
        statement = "SELECT body FROM records WHERE kind = ? AND parent = ? ORDER BY number"
        with self._lock:
            return [json.loads(body) for (body,) in self._base.execute(statement, (kind, parent))]

    def change(self, kind: str, name: str, change: Callable[[Record], None]) -> Record:
        """Change a record that is there, with no other change between; the record as it is then."""
        with self._lock:
            record = self.get(kind, name)
            if record is None:
                raise KeyError(name)
            change(record)
            return self.put(kind, record)

    def drop(self, kind: str, name: str) -> None:
        """Forget a record."""
        with self._lock:
            self._base.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, name))

    def close(self) -> None:
        with self._lock:
            self._base.close()

    # Contents of files

    def path(self, name: str) -> Path:
        """Where the content of a file is."""
        return self.folder / "files" / name

    def write(self, name: str, content: IO[bytes]) -> int:
        """Keep the content of a file, which appears whole or not at all; how many bytes it has."""
        staging = self.path(f".{name}")
        with staging.open("wb") as file:
            shutil.copyfileobj(content, file)
        staging.replace(self.path(name))
        return self.path(name).stat().st_size

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def erase(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def model(self, name: str) -> Path:
        """The folder of a tuned model."""
        return self.folder / "models" / name
