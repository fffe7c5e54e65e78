"""Texts to bags of hashed features: what the embedded model sees of them, before idf."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel

BUCKETS_OF_EACH = 2**20
WIDTH = 2 * BUCKETS_OF_EACH
VERSION = 2
# A word has several n-grams of characters inside it; at full weight they drown it. Of 1, 0.7 and 0.5 this
# gave the best out-of-fold micro F1 on GoEmotions, and as good a one as any on CLINC150 and NLU++.
INSIDE_WEIGHT = np.float32(0.5)
MOST_COUNTED = 255
# What a feature weighs that occurs so often: 1 + log(count), and nothing for none.
DAMPED: FloatArray = np.concatenate([[0], 1 + np.log(np.arange(1, MOST_COUNTED + 1))]).astype(np.float32)

# So many characters at once keep texts and features of a slice within the processor's cache.
_SLICE = 2**17
# A character ends at most one word, one pair of words and one n-gram of either length.
_MOST_OF_CHARACTER = 4

_CODE_POINTS = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"  # one uint32 each
_OTHER, _WORD, _SPACE = 0, 1, 2
_BLANK = np.uint64(ord(" "))
# The hash has 64 bits, of which the upper 20 name the bucket. A word goes in character by character, a pair
# as the hashes of its words, three characters of 21 bits at once, and four as those three and the last.
# The numbers are odd and otherwise arbitrary; saved models depend on them, so a change needs a new `VERSION`.
_CHARACTER_BITS = np.uint64(21)
_THREE_CHARACTERS = np.uint64(2**63 - 1)
_WORD_SEED = np.uint64(0x9E3779B97F4A7C15)  # which also stands for no word
_PAIR_FACTOR = np.uint64(0xD1B54A32D192ED03)
_CHARACTER_FACTOR = np.uint64(0x9FB21C651E98DF25)
_BUCKET_SHIFT = np.uint64(64 - 20)


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


def bags_of(texts: Sequence[str], least_rows: int = 1, threads: int = 1) -> Bags:
    r"""The features of these texts: words, pairs of words, and characters inside words.

    A text is lower-cased. Its words are runs of ``\w`` and single marks such as "?" or an emoji, which say
    much in a short text. Inside each stretch without white space, with one space before and after it, lie
    n-grams of 3 and of 4 characters. Each feature is hashed to one of `BUCKETS_OF_EACH` buckets of its
    kind (Weinberger et al., ICML 2009), without a sign. Half of a surrogate pair counts as "?".

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
    """
    lengths, columns, counts = _joined(_hashed_slices(texts, threads))
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if least_rows > 1:
        buckets, left_out = _frequent(starts, columns, counts, least_rows)
    else:
        buckets, left_out = _number(columns), np.zeros(len(lengths), dtype=np.float32)
    rows = np.arange(len(lengths), dtype=np.int64)
    return Bags(starts, columns, counts, buckets, left_out, rows)


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Where the features of one text lie in it, in the words that it is made of.

    Attributes
    ----------
    spans
        int64, shape (n_words, 2): where each word, or mark, begins and ends in the text.
    columns
        int32, shape (n_occurrences,): the hashed column of each occurrence of a feature.
    words, shares
        int64 and float64, shape (n_parts,), and `owners`, int64, shape (n_parts,): so much of occurrence
        `owners` lies in word `words`; the shares of an occurrence sum up to 1. A pair lies in both of its
        words alike, characters where they stand.
    """

    spans: IntArray
    columns: NDArray[np.int32]
    words: IntArray
    owners: IntArray
    shares: NDArray[np.float64]


def occurrences_of(text: str) -> Occurrences:
    """The occurrences of all features that `bags_of` counts in a text."""
    lowered = text.lower()
    codes = np.frombuffer(lowered.encode(_CODE_POINTS, "replace"), dtype=np.uint32)
    begins, ends, word_columns, *word_places = _traced_words(codes, _classes())
    inside_columns, *inside_places = _traced_inside(codes, _classes())
    columns = np.concatenate([word_columns, inside_columns])
    firsts, lasts = (np.concatenate(pair) for pair in zip(word_places, inside_places, strict=True))
    words, owners, shares = _parts(begins, ends, firsts, lasts, len(codes))
    # A letter may be two when it is lower-cased.
    origin = np.repeat(np.arange(len(text)), [len(letter.lower()) for letter in text])
    spans = np.stack([origin[begins], origin[ends - 1] + 1], axis=1) if len(begins) else np.empty((0, 2))
    return Occurrences(spans.astype(np.int64), columns, words, owners, shares)


def _parts(
    begins: IntArray, ends: IntArray, firsts: IntArray, lasts: IntArray, n_codes: int
) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
    """`words`, `owners` and `shares` of `Occurrences`.

    Characters are a stretch of positions, `firsts` to `lasts`; words and pairs are negative: the first word
    -1 - `firsts` and the last word -1 - `lasts`.
    """
    word_at = np.full(n_codes, -1, dtype=np.int64)
    for word, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        word_at[begin:end] = word
    is_inside = firsts >= 0
    of_words = np.flatnonzero(~is_inside)
    inside = np.flatnonzero(is_inside)
    lengths = lasts[inside] - firsts[inside]
    positions = np.repeat(firsts[inside] - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    positions = positions + np.arange(len(positions))
    words = np.concatenate([-1 - firsts[of_words], -1 - lasts[of_words], word_at[positions]])
    owners = np.concatenate([of_words, of_words, np.repeat(inside, lengths)])
    shares = np.concatenate([np.full(2 * len(of_words), 0.5), np.repeat(1 / np.maximum(lengths, 1), lengths)])
    return words, owners, shares


_Hashed = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]


def _hashed_slices(texts: Sequence[str], threads: int) -> Iterator[_Hashed]:
    """Number of features of each text, their columns and counts, for one slice of the texts after another."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    cuts = np.flatnonzero(np.diff((np.cumsum(lengths) - lengths) // _SLICE)) + 1
    slices = [texts[start:end] for start, end in zip([0, *cuts], [*cuts, len(texts)], strict=True)]
    if threads == 1 or len(slices) == 1:
        yield from map(_hashed, slices)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_hashed, slices)


def _hashed(texts: Sequence[str]) -> _Hashed:
    lowered = [text.lower() for text in texts]
    codes = np.frombuffer("".join(lowered).encode(_CODE_POINTS, "replace"), dtype=np.uint32)
    lengths = np.fromiter(map(len, lowered), dtype=np.int64, count=len(lowered))
    return _hash(codes, lengths, _classes())


@cache
def _classes() -> NDArray[np.uint8]:
    """Whether each code point is white space, part of a word or something else, as `re` has it."""
    codes = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    everything = codes.tobytes().decode(_CODE_POINTS, "surrogatepass")
    classes = np.full(len(everything), _OTHER, dtype=np.uint8)
    for kind, pattern in ((_WORD, r"\w+"), (_SPACE, r"\s+")):
        for found in re.finditer(pattern, everything):
            classes[found.start() : found.end()] = kind
    return classes


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


def _joined(slices: Iterator[_Hashed]) -> _Hashed:
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
def _hash(codes: NDArray[np.uint32], lengths: IntArray, classes: NDArray[np.uint8]) -> _Hashed:
    """How many features each text has, their columns and their counts.

    `codes` are the code points of all texts, one text after another, and `classes` those of `_classes`.
    """
    longest = most = 0
    for text in range(len(lengths)):
        longest = max(longest, lengths[text])
        most += min(_MOST_OF_CHARACTER * lengths[text], WIDTH)
    n_features = np.empty(len(lengths), dtype=np.int32)
    columns, counts = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.uint8)
    whole_table = np.empty(_table_size(_MOST_OF_CHARACTER * longest), dtype=np.int32)
    start = end = 0
    for text in range(len(lengths)):
        own = codes[start : start + lengths[text]]
        table = whole_table[: _table_size(_MOST_OF_CHARACTER * len(own))]
        table[:] = 0
        n = _add_words(own, classes, table, columns[end:], counts[end:])
        n = _add_inside(own, classes, table, columns[end:], counts[end:], n)
        n_features[text] = n
        start += len(own)
        end += n
    return n_features, columns[:end], counts[:end]


@kernel
def _table_size(most: int) -> int:
    """A power of two, at least `most`; no more than `WIDTH`, where each column has a slot of its own."""
    size = 64
    while size < min(most, WIDTH):
        size *= 2
    return size


@kernel
def _add_words(
    codes: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
) -> int:
    """Count the words and pairs of words of a text; the answer is how many features it has so far."""
    n = 0
    before = word = _WORD_SEED
    for position in range(len(codes) + 1):
        kind = classes[codes[position]] if position < len(codes) else _SPACE
        if kind == _WORD:
            word = _with_character(word, codes[position])
            continue
        if word != _WORD_SEED:
            n = _add_word(before, word, table, columns, counts, n)
            before, word = word, _WORD_SEED
        if kind == _OTHER:
            mark = _with_character(_WORD_SEED, codes[position])
            n = _add_word(before, mark, table, columns, counts, n)
            before = mark
    return n


@kernel
def _add_word(
    before: np.uint64,
    word: np.uint64,
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    """Count a word, and the pair that it makes with the word before, if there is one."""
    n = _add(np.int64(_mixed(word) >> _BUCKET_SHIFT), table, columns, counts, n)
    if before == _WORD_SEED:
        return n
    pair = _mixed(before * _PAIR_FACTOR + word)
    return _add(np.int64(pair >> _BUCKET_SHIFT), table, columns, counts, n)


@kernel
def _add_inside(
    codes: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    """Count the n-grams of characters of a text, which has `n` features so far."""
    seen = 0
    window = three = np.uint64(0)
    for position in range(len(codes) + 1):
        blank = position == len(codes) or classes[codes[position]] == _SPACE
        if blank and not seen:
            continue
        if not seen:
            window, seen = _BLANK, 1
        code = _BLANK if blank else np.uint64(codes[position])
        if seen > 2:
            n = _add_characters(_mixed(three + code * _CHARACTER_FACTOR), table, columns, counts, n)
        window = ((window << _CHARACTER_BITS) | code) & _THREE_CHARACTERS
        seen += 1
        if seen > 2:
            three = _mixed(window)
            n = _add_characters(three, table, columns, counts, n)
        if blank:
            seen = 0
    return n


_Traced = tuple[NDArray[np.int32], IntArray, IntArray]


@kernel
def _traced_words(
    codes: NDArray[np.uint32], classes: NDArray[np.uint8]
) -> tuple[IntArray, IntArray, NDArray[np.int32], IntArray, IntArray]:
    """Begin and end of each word of a text, and column, first and last of each occurrence: see `_parts`.

    The same walk as `_add_words`, which counts.
    """
    room = 2 * len(codes)
    columns = np.empty(room, dtype=np.int32)
    firsts, lasts = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    begins, ends = np.empty(len(codes), dtype=np.int64), np.empty(len(codes), dtype=np.int64)
    n = n_words = position = 0
    before = _WORD_SEED
    while position < len(codes):
        begin, word = position, _WORD_SEED
        kind = classes[codes[position]]
        while position < len(codes) and classes[codes[position]] == kind and kind != _SPACE:
            word = _with_character(word, codes[position])
            position += 1
            if kind == _OTHER:
                break
        if kind == _SPACE:
            position += 1
            continue
        columns[n], firsts[n], lasts[n] = np.int64(_mixed(word) >> _BUCKET_SHIFT), -1 - n_words, -1 - n_words
        n += 1
        if n_words:
            pair = _mixed(before * _PAIR_FACTOR + word)
            columns[n], firsts[n], lasts[n] = np.int64(pair >> _BUCKET_SHIFT), -n_words, -1 - n_words
            n += 1
        begins[n_words], ends[n_words] = begin, position
        n_words += 1
        before = word
    return begins[:n_words], ends[:n_words], columns[:n], firsts[:n], lasts[:n]


@kernel
def _traced_inside(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> _Traced:
    """The same of n-grams of characters, by the walk of `_add_inside`."""
    room = 2 * (len(codes) + 1)
    columns = np.empty(room, dtype=np.int32)
    firsts, lasts = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    n = seen = 0
    window = three = np.uint64(0)
    for position in range(len(codes) + 1):
        blank = position == len(codes) or classes[codes[position]] == _SPACE
        if blank and not seen:
            continue
        if not seen:
            window, seen = _BLANK, 1
        code = _BLANK if blank else np.uint64(codes[position])
        end = position if blank else position + 1
        # The blank before a stretch is no character of the text, nor is the one after it.
        if seen > 2:
            hashed = _mixed(three + code * _CHARACTER_FACTOR)
            columns[n] = BUCKETS_OF_EACH + np.int64(hashed >> _BUCKET_SHIFT)
            firsts[n], lasts[n] = position - 3 + (1 if seen == 3 else 0), end
            n += 1
        window = ((window << _CHARACTER_BITS) | code) & _THREE_CHARACTERS
        seen += 1
        if seen > 2:
            three = _mixed(window)
            columns[n] = BUCKETS_OF_EACH + np.int64(three >> _BUCKET_SHIFT)
            firsts[n], lasts[n] = position - 2 + (1 if seen == 3 else 0), end
            n += 1
        if blank:
            seen = 0
    return columns[:n], firsts[:n], lasts[:n]


@kernel
def _add_characters(
    hashed: np.uint64,
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    return _add(BUCKETS_OF_EACH + np.int64(hashed >> _BUCKET_SHIFT), table, columns, counts, n)


@kernel
def _add(
    column: np.int64,
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    """Count one occurrence in a text of `n` features; the answer is how many it then has."""
    mask = len(table) - 1
    slot = column & mask
    while table[slot]:
        place = table[slot] - 1
        if columns[place] == column:
            counts[place] = min(counts[place] + 1, MOST_COUNTED)
            return n
        slot = (slot + 1) & mask
    columns[n] = column
    counts[n] = 1
    table[slot] = n + 1
    return n + 1


@kernel
def _mixed(value: np.uint64) -> np.uint64:
    """The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): each bit depends on all."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def _with_character(word: np.uint64, code: np.uint32) -> np.uint64:
    """The hash of a word that goes on with this character."""
    word = (word ^ np.uint64(code)) * _CHARACTER_FACTOR
    return word ^ (word >> np.uint64(32))


@kernel
def _number(columns: NDArray[np.int32]) -> NDArray[np.int32]:
    """The distinct columns in order of first occurrence; `columns` become positions in them."""
    table = np.zeros(_table_size(2 * len(columns)), dtype=np.int32)
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
