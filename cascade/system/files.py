"""Files that appear whole or not at all, and files that one process has alone."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from cascade.errors import DataError
from cascade.system.locks import lock

_PIECE_BYTES = 1 << 20


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """DataError for what the system refuses while `path` is written."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {_reason(error, path.parent)}") from error


def _reason(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "disk" if error.errno == errno.ENOSPC else "share of the disk"
        return (
            f"the {why} of {_lasting(folder)} is full. Make room there and give the same command again: it "
            "goes on with what is done already"
        )
    return f"{error.strerror or error}. Once that is mended, give the same command again"


def _lasting(folder: Path) -> Path:
    """The folder itself, or the one above that is not in the making."""
    return next(
        one for one in (folder.absolute(), *folder.absolute().parents) if not one.name.startswith(".")
    )


def read_at_most(path: Path, most: int) -> bytes | None:
    """All bytes of a file; None where there are more than `most`, which are not held then."""
    pieces: list[bytes] = []
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            most -= len(piece)
            if most < 0:
                return None
            pieces.append(piece)
    return b"".join(pieces)


def write_all(stream: IO[bytes], data: bytes) -> None:
    """All of `data`: a stream without a buffer may take less of it at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


class LockedFile:
    """A file that only this process has, for as long as it lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file = _opened_alone(path)

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def discard(self) -> None:
        """Leave nothing of this file; nothing happens where it was closed, as others may have it."""
        if self._file.closed:
            return
        with writing(self.path):
            if not renames_open_files():
                self._file.close()
            self.path.unlink(missing_ok=True)


class AtomicFile:
    """A file in the making under a name of its own."""

    def __init__(self, final: Path, file: IO[bytes]) -> None:
        self._final, self._file = final, file
        self.size = 0

    def write(self, data: bytes) -> int:
        """Write all of it."""
        with writing(self._final):
            write_all(self._file, data)
        self.size += len(data)
        return len(data)


@contextlib.contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[AtomicFile]:
    """A file that gets its name, whole and on the disk, when the block ends well.

    It is made in `folder`, which is on the same disk; by default that of `path`, which is made as well.
    """
    draft = (folder or path.parent) / f"{path.name}.{uuid.uuid4().hex}.new"
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = draft.open("wb", buffering=0)
        with file:
            yield AtomicFile(path, file)
            with writing(path):
                os.fsync(file.fileno())
        with writing(path):
            draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def renames_open_files() -> bool:
    """Whether a file can be renamed and removed while it is open, as Windows does not allow."""
    return os.name != "nt"


def _opened_alone(path: Path) -> IO[bytes]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab", buffering=0)
        except FileNotFoundError:
            continue  # the run that had it until now has just removed the folder
        try:
            if not lock(file):
                raise DataError(
                    f"{path}: another run is writing here. Wait for it to end, or give this one another "
                    "output file"
                )
            # The run that held the lock until now may have renamed or removed the file meanwhile.
            if _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _is_at(file: IO[bytes], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
