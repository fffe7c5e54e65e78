"""Where answers are kept for all model folders of a user, and how much room they may take."""

from __future__ import annotations

import json
from pathlib import Path

from cascade.errors import BackendError, ModelError
from cascade.hosted.answer_cache import MOST_BYTES, AnswerCache
from cascade.hosted.release_0_2 import ANSWERS
from cascade.system.files import atomic_write
from cascade.system.home import home
from cascade.system.serialization import read_json


def answers_path() -> Path:
    """The file of the user's cache, whether or not it exists."""
    return home() / ANSWERS


def most_bytes() -> int:
    """The largest size of the cache: what the user set, else a gigabyte."""
    path = _settings_path()
    if not path.exists():
        return MOST_BYTES
    written = read_json(path)
    found = written.get("most_bytes") if isinstance(written, dict) else None
    if not isinstance(found, int) or found < 0:
        raise ModelError(f"{path}: expected most_bytes, a whole number. `cascade cache limit SIZE` writes it")
    return found


def set_most_bytes(count: int) -> None:
    """Note the largest size of the cache, for all processes that begin from now on."""
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    with atomic_write(_settings_path()) as draft:
        draft.write(json.dumps({"most_bytes": count}).encode())
    _settings_path().chmod(0o600)


def bytes_on_disk() -> int:
    """What the cache takes on the disk."""
    return sum(one.stat().st_size for one in _files() if one.exists())


def clear() -> None:
    """Drop all answers; a file that is damaged is removed.

    Raises
    ------
    BackendError
        Another process is writing.
    """
    if not answers_path().exists():
        return
    notes: list[str] = []
    with AnswerCache(answers_path(), notes.append, most_bytes=0) as answers:
        answers.shrink()
        is_damaged = answers.is_broken
    if is_damaged:
        for one in _files():
            one.unlink(missing_ok=True)
    elif notes:
        raise BackendError(notes[0])


def _files() -> list[Path]:
    path = answers_path()
    return [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]


def _settings_path() -> Path:
    return home() / "cache.json"
