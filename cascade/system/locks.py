"""Files that one process has alone, on every system that Python runs on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cascade.errors import CascadeError


def lock(file: IO[bytes]) -> bool:
    """Have an open file alone until it is closed or the process ends; False where another process has it.

    Some network disks know no locks: there this is True, and two runs at once are the user's to avoid.
    """
    import portalocker  # only what writes needs it

    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException:
        return True
    return True


@contextlib.contextmanager
def locked(path: Path, taken: CascadeError) -> Iterator[None]:
    """Hold the lock file `path`, which is made and stays; raises `taken` where another process holds it."""
    with open(path, "ab", opener=_private) as file:  # paths take no opener
        if not lock(file):
            raise taken
        yield


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
