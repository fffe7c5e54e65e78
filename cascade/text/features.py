"""Texts to bags of hashed features: what the embedded model sees of them, before idf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.text.characters import N_CODES, classes_of_python, classes_of_words, n_codes_of
from cascade.text.hashing import BUCKETS_OF_EACH, MOST_COUNTED, WIDTH, Hashed, hash_features, table_size
from cascade.text.normal import codes_of, normal_codes

VERSION = 3
LOWERED = 2
"""The version of release 0.2 to 0.4: texts in lower case, and nothing else done to them."""
VERSIONS = (LOWERED, VERSION)
# A word has several n-grams of characters inside it; at full weight they drown it. Of 1, 0.7 and 0.5 this
# gave the best out-of-fold micro F1 on GoEmotions, and as good a one as any on CLINC150 and NLU++.
INSIDE_WEIGHT = np.float32(0.5)
# What a feature weighs that occurs so often: 1 + log(count), and nothing for none.
DAMPED: FloatArray = np.concatenate([[0], 1 + np.log(np.arange(1, MOST_COUNTED + 1))]).astype(np.float32)

# So many characters at once keep texts and features of a slice within the processor's cache.
_SLICE = 2**17


@dataclass(frozen=True, eq=False)
class Bags:
    """The distinct hashed features of each text, and how often each occurs there.

    Indexing with rows gives a view: it shares all arrays of the whole, and only `rows` differ.

    Attributes
    ----------
    starts
        int64, shape (n_whole + 1,): text i of the whole has the occurrences starts[i] to starts[i + 1].
    places
        int32, shape (n_occurrences,): positions in `buckets`, as the text first has them.
    counts
        uint8, shape (n_occurrences,): how often, in [1, 255]; what occurs more often has 255.
    buckets
        int32, shape (n_buckets,): the hashed columns, each once, in [0, `WIDTH`): words and pairs of
        neighbouring words lie below `BUCKETS_OF_EACH`, characters inside words from there on.
    left_out
        float32, shape (n_whole,): the sum of squared weights (`DAMPED` of the count, times
        `INSIDE_WEIGHT` for characters inside words) of the features that are not in `buckets`.
    rows
        int64, shape (n_texts,): which texts of the whole these are.
    """

    starts: IntArray
    places: NDArray[np.int32]
    counts: NDArray[np.uint8]
    buckets: NDArray[np.int32]
    left_out: FloatArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: IntArray) -> Bags:
        return replace(self, rows=self.rows[rows])

    def __getstate__(self) -> dict[str, Any]:
        """The texts of a view alone travel to another process."""
        if len(self.rows) == len(self.left_out):
            return self.__dict__
        lengths = self.starts[self.rows + 1] - self.starts[self.rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        kept = np.arange(starts[-1]) + np.repeat(self.starts[self.rows] - starts[:-1], lengths)
        own = {"starts": starts, "places": self.places[kept], "counts": self.counts[kept]}
        rows = np.arange(len(self.rows), dtype=np.int64)
        return self.__dict__ | own | {"left_out": self.left_out[self.rows], "rows": rows}


def bags_of(texts: Sequence[str], least_rows: int = 1, threads: int = 1, version: int = VERSION) -> Bags:
    r"""The features of these texts: words, pairs of words, and characters inside words.

    They are those of the text's normal form, see `cascade.text.normal`. Its words are runs of ``\w`` and of
    combining marks, ideographs and kana one by one, and single marks such as "?" or an emoji, which say much
    in a short text. Inside each stretch without white space, with one space before and after it, lie n-grams
    of 3 and of 4 characters. Each feature is hashed to one of `BUCKETS_OF_EACH` buckets of its kind
    (Weinberger et al., ICML 2009), without a sign. Half of a surrogate pair counts as "?".

    The features of a text do not depend on the texts beside it; the numbers of their places do.

    Parameters
    ----------
    texts
        The texts.
    least_rows
        Features of fewer texts are left out. With 1 all are there, and `buckets` has them as they first
        occur; else those of most texts come first, so that what is often read lies together in memory.
    threads
        How many threads share the work. The answer is the same with any number of them.
    version
        One of `VERSIONS`: saved models have the features of the version that they were fitted with.
    """
    lengths, columns, counts = _joined(_hashed_slices(texts, threads, version))
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if least_rows > 1:
        buckets, left_out = _frequent(starts, columns, counts, least_rows)
    else:
        buckets, left_out = _number(columns), np.zeros(len(lengths), dtype=np.float32)
    rows = np.arange(len(lengths), dtype=np.int64)
    return Bags(starts, columns, counts, buckets, left_out, rows)


def _hashed_slices(texts: Sequence[str], threads: int, version: int) -> Iterator[Hashed]:
    """Number of features of each text, their columns and counts, for one slice of the texts after another."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    cuts = np.flatnonzero(np.diff((np.cumsum(lengths) - lengths) // _SLICE)) + 1
    slices = [texts[start:end] for start, end in zip([0, *cuts], [*cuts, len(texts)], strict=True)]
    if threads == 1 or len(slices) == 1:
        yield from map(_hashed, slices, repeat(version))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_hashed, slices, repeat(version))


def _hashed(texts: Sequence[str], version: int) -> Hashed:
    if version == LOWERED:
        return hash_features(*codes_of([text.lower() for text in texts]), classes_of_python(N_CODES))
    codes, lengths = normal_codes(texts)
    return hash_features(codes, lengths, classes_of_words(n_codes_of(codes)))


class _GrowingArrays:
    """An array that grows; where the system can move memory by its pages, there is never a second copy."""

    def __init__(self, dtype: Any) -> None:
        self._held, self._end = np.empty(0, dtype=dtype), 0

    def add(self, piece: NDArray[Any]) -> None:
        end = self._end + len(piece)
        if end > len(self._held):
            self._held.resize(end + end // 8, refcheck=False)
        self._held[self._end : end] = piece
        self._end = end

    def whole(self) -> NDArray[Any]:
        self._held.resize(self._end, refcheck=False)
        return self._held


def _joined(slices: Iterator[Hashed]) -> Hashed:
    lengths, columns, counts = _GrowingArrays(np.int32), _GrowingArrays(np.int32), _GrowingArrays(np.uint8)
    for more_lengths, more_columns, more_counts in slices:
        lengths.add(more_lengths)
        columns.add(more_columns)
        counts.add(more_counts)
    return lengths.whole(), columns.whole(), counts.whole()


def _frequent(
    starts: IntArray, columns: NDArray[np.int32], counts: NDArray[np.uint8], least_rows: int
) -> tuple[NDArray[np.int32], FloatArray]:
    """The columns of `least_rows` texts or more, most first, and what the others weigh in each text.

    `columns` become positions in them; what is left out goes from there and from `counts`, and `starts`
    are moved.
    """
    frequency = _frequencies(columns)
    ascending = np.flatnonzero(frequency >= least_rows).astype(np.int32)
    buckets = ascending[np.argsort(-frequency[ascending], kind="stable")]
    place_of = np.full(WIDTH, -1, dtype=np.int32)
    place_of[buckets] = np.arange(len(buckets), dtype=np.int32)
    left_out = np.empty(len(starts) - 1, dtype=np.float32)
    _leave_out(starts, columns, counts, place_of, left_out)
    columns.resize(starts[-1], refcheck=False)
    counts.resize(starts[-1], refcheck=False)
    return buckets, left_out


@kernel
def _number(columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """The distinct columns in order of first occurrence; `columns` become positions in them."""
    table = np.zeros(table_size(2 * len(columns)), dtype=np.int32)
    buckets = np.empty(min(len(columns), WIDTH), dtype=np.int32)
    mask = len(table) - 1
    n = 0
    for occurrence in range(len(columns)):
        column = columns[occurrence]
        slot = column & mask
        while table[slot] and buckets[table[slot] - 1] != column:
            slot = (slot + 1) & mask
        if not table[slot]:
            buckets[n] = column
            n += 1
            table[slot] = n
        columns[occurrence] = table[slot] - 1
    return buckets[:n].copy()


@kernel
def _frequencies(columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """How many texts have each column, shape (`WIDTH`,)."""
    frequencies = np.zeros(WIDTH, dtype=np.int32)
    for occurrence in range(len(columns)):
        frequencies[columns[occurrence]] += 1
    return frequencies


@kernel
def _leave_out(
    starts: IntArray,
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    place_of: NDArray[np.int32],
    left_out: FloatArray,
) -> None:
    """Move what has a place to the front, and sum up the squared weights of the rest of each text."""
    end = start = np.int64(0)
    for text in range(len(left_out)):
        lost = 0.0
        for occurrence in range(start, starts[text + 1]):
            column, count = columns[occurrence], counts[occurrence]
            if place_of[column] >= 0:
                columns[end], counts[end] = place_of[column], count
                end += 1
            else:
                weight = DAMPED[count] * (INSIDE_WEIGHT if column >= BUCKETS_OF_EACH else np.float32(1))
                lost += weight * weight
        start, starts[text + 1] = starts[text + 1], end
        left_out[text] = lost
