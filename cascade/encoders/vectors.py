"""Texts to vectors as models have them: each different text encoded once, and never again."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from cascade.encoders.contract import Encoder, Listener, Nobody, counts, listening
from cascade.encoders.vector_cache import VectorCache, path
from cascade.errors import ModelError
from cascade.system.array_types import FloatArray

# What a kill or an interrupt loses: some seconds.
_AT_ONCE = 1024


def vectors_of(encoder: Encoder, texts: Sequence[str], threads: int | None = None) -> FloatArray:
    """The vectors of texts, float32, shape (n_texts, dims), each number as exact as half precision.

    They are the same whether they come from the cache or not. A text of blanks has zeros.

    Parameters
    ----------
    threads
        By default as many as ``OMP_NUM_THREADS`` says, else as there are cores.
    """
    different = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
    place = {text: row for row, text in enumerate(different)}
    cache = VectorCache(path(), encoder.sha256, encoder.dims)
    found, have = cache.get(different)
    _encode_rest(encoder, different, found, np.flatnonzero(~have).tolist(), threads or _threads(), cache)
    answer = np.zeros((len(texts), encoder.dims), dtype=np.float32)
    rows = [row for row, text in enumerate(texts) if text in place]
    answer[rows] = found[[place[texts[row]] for row in rows]]
    return answer


def vectors_once(encoder: Encoder, texts: Sequence[str]) -> FloatArray:
    """The same of texts that nobody will ask for again: nothing is kept, and nobody is told.

    Texts of one length after the other are encoded fastest.
    """
    found = np.zeros((len(texts), encoder.dims), dtype=np.float32)
    rows = [row for row, text in enumerate(texts) if text.strip()]
    if rows:
        found[rows] = encoder.encode([texts[row] for row in rows], _threads(), Nobody())
        counts.taken_apart += len(rows)
    return found


def _encode_rest(
    encoder: Encoder,
    texts: Sequence[str],
    found: FloatArray,
    missing: Sequence[int],
    threads: int,
    cache: VectorCache,
) -> None:
    """Fill the `missing` rows of `found`, and keep them."""
    listener = listening()
    counts.kept += len(texts) - len(missing)
    counts.encoded += len(missing)
    if missing:
        listener.at(0, len(missing))
    for start in range(0, len(missing), _AT_ONCE):
        rows = list(missing[start : start + _AT_ONCE])
        some = [texts[row] for row in rows]
        new = encoder.encode(some, threads, _Part(listener, start, len(missing)))
        if not np.isfinite(new).all():
            row = int(np.flatnonzero(~np.isfinite(new).all(axis=1))[0])
            raise ModelError(
                f"encoder {encoder.name!r} gives numbers that are none for a text of {len(some[row]):,} "
                "characters: it does not run well here. Use another one"
            )
        found[rows] = new.astype(np.float16)
        if why := cache.put(some, new):
            listener.say(f"{path()}: vectors cannot be kept, and will have to be made again: {why}")


class _Part:
    """A listener to the encoding of a part of the texts."""

    def __init__(self, whole: Listener, before: int, total: int) -> None:
        self._whole, self._before, self._total = whole, before, total

    def at(self, done: int, total: int) -> None:  # noqa: ARG002 - that of the part says nothing
        self._whole.at(self._before + done, self._total)

    def say(self, line: str) -> None:
        self._whole.say(line)


def _threads() -> int:
    """Workers in other processes have this set, as there is one for each core."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    if named.isdecimal() and int(named):
        return int(named)
    import joblib  # knows the limits of containers

    return int(joblib.cpu_count())
