"""Runs that are under way, by lock files that they hold: a run ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from cascade.errors import BackendError
from cascade.system.locks import lock, locked

_NEW_SECONDS = 3600.0


class Runs:
    """The runs that share a ledger.

    Parameters
    ----------
    folder
        Has a lock file for each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def begun(self) -> Iterator[str]:
        """The name of a new run, which goes on until the block or the process ends."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._tidy()
        name = secrets.token_hex(8)
        path = self._folder / name
        try:
            with locked(path, BackendError(f"{path}: another run has this name")):
                yield name
        finally:
            _remove(path)

    def goes_on(self, name: str) -> bool:
        """Whether the run of this name goes on; the lock file of one that was killed is removed."""
        path = self._folder / name
        try:
            with path.open("r+b") as file:
                if not lock(file):
                    return True
        except FileNotFoundError:
            return False
        _remove(path)
        return False

    def _tidy(self) -> None:
        """Remove what killed runs left; a file that was made just now may not be locked yet."""
        for left in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _NEW_SECONDS:
                    self.goes_on(left.name)


def _remove(path: Path) -> None:
    """Some systems remove no file that another process looks at; a later run does."""
    with contextlib.suppress(OSError):
        path.unlink()
