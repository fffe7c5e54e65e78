"""Where the features of one text lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.system.compiled import kernel
from cascade.text.characters import (
    CODE_POINTS,
    IDEOGRAPH,
    SPACE,
    WORD,
    classes_of_python,
    classes_of_words,
    n_codes_of,
)
from cascade.text.features import LOWERED, VERSION
from cascade.text.hashing import (
    BLANK,
    BLANK_MARK,
    BUCKET_SHIFT,
    BUCKETS_OF_EACH,
    CHARACTER_BITS,
    CHARACTER_FACTOR,
    PAIR_FACTOR,
    THREE_CHARACTERS,
    WORD_SEED,
    mixed,
    with_character,
)
from cascade.text.normal import Placed, placed


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


def occurrences_of(text: str, version: int = VERSION) -> Occurrences:
    """The occurrences of all features that `bags_of` counts in a text; spans lie in the text as it is."""
    found, classes_of = (
        (_lowered(text), classes_of_python) if version == LOWERED else (placed(text), classes_of_words)
    )
    codes = np.frombuffer(found.text.encode(CODE_POINTS, "replace"), dtype=np.uint32)
    classes = classes_of(n_codes_of(codes))
    begins, ends, word_columns, *word_places = _traced_words(codes, classes)
    inside_columns, *inside_places = _traced_inside(codes, classes)
    columns = np.concatenate([word_columns, inside_columns])
    firsts, lasts = (np.concatenate(pair) for pair in zip(word_places, inside_places, strict=True))
    words, owners, shares = _parts(begins, ends, firsts, lasts, len(codes))
    spans = np.stack([found.starts[begins], found.ends[ends - 1]], axis=1)
    return Occurrences(spans, columns, words, owners, shares)


def _lowered(text: str) -> Placed:
    """The text in lower case, where a letter may become two."""
    origin = np.repeat(np.arange(len(text)), [len(letter.lower()) for letter in text]).astype(np.int64)
    return Placed(text.lower(), origin, origin + 1)


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


_Traced = tuple[NDArray[np.int32], IntArray, IntArray]


@kernel
def _traced_words(
    codes: NDArray[np.uint32], classes: NDArray[np.uint8]
) -> tuple[IntArray, IntArray, NDArray[np.int32], IntArray, IntArray]:
    """Begin and end of each word of a text, and column, first and last of each occurrence: see `_parts`.

    The same walk as `_add_words`, which counts. The mark that a blank between ideographs counts as lies in
    both of them, and a pair with it in the other one.
    """
    room = 3 * len(codes)
    columns = np.empty(room, dtype=np.int32)
    firsts, lasts = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    begins, ends = np.empty(len(codes), dtype=np.int64), np.empty(len(codes), dtype=np.int64)
    n = n_words = position = 0
    before, last, blank = WORD_SEED, SPACE, False
    while position < len(codes):
        begin, word = position, WORD_SEED
        kind = classes[codes[position]]
        while position < len(codes) and classes[codes[position]] == kind and kind != SPACE:
            word = with_character(word, codes[position])
            position += 1
            if kind != WORD:
                break
        if kind == SPACE:
            position += 1
            blank = True
            continue
        pair_first = -n_words  # the word before, and this one
        if blank and kind == IDEOGRAPH and last == IDEOGRAPH:
            columns[n], firsts[n], lasts[n] = _word_column(BLANK_MARK), -n_words, -1 - n_words
            columns[n + 1], firsts[n + 1], lasts[n + 1] = _pair_column(before, BLANK_MARK), -n_words, -n_words
            n += 2
            before, pair_first = BLANK_MARK, -1 - n_words
        columns[n], firsts[n], lasts[n] = _word_column(word), -1 - n_words, -1 - n_words
        n += 1
        if kind == IDEOGRAPH and last == SPACE:
            before, pair_first = BLANK_MARK, -1 - n_words
        if before != WORD_SEED:
            columns[n], firsts[n], lasts[n] = _pair_column(before, word), pair_first, -1 - n_words
            n += 1
        begins[n_words], ends[n_words] = begin, position
        n_words += 1
        before, last, blank = word, kind, False
    if last == IDEOGRAPH:
        columns[n], firsts[n], lasts[n] = _pair_column(before, BLANK_MARK), -n_words, -n_words
        n += 1
    return begins[:n_words], ends[:n_words], columns[:n], firsts[:n], lasts[:n]


@kernel
def _word_column(word: np.uint64) -> np.int64:
    return np.int64(mixed(word) >> BUCKET_SHIFT)


@kernel
def _pair_column(before: np.uint64, word: np.uint64) -> np.int64:
    return _word_column(before * PAIR_FACTOR + word)


@kernel
def _traced_inside(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> _Traced:
    """The same of n-grams of characters, by the walk of `_add_inside`."""
    room = 2 * (len(codes) + 1)
    columns = np.empty(room, dtype=np.int32)
    firsts, lasts = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    n = seen = 0
    window = three = np.uint64(0)
    for position in range(len(codes) + 1):
        blank = position == len(codes) or classes[codes[position]] >= SPACE
        if blank and not seen:
            continue
        if not seen:
            window, seen = BLANK, 1
        code = BLANK if blank else np.uint64(codes[position])
        end = position if blank else position + 1
        # The blank before a stretch is no character of the text, nor is the one after it.
        if seen > 2:
            hashed = mixed(three + code * CHARACTER_FACTOR)
            columns[n] = BUCKETS_OF_EACH + np.int64(hashed >> BUCKET_SHIFT)
            firsts[n], lasts[n] = position - 3 + (1 if seen == 3 else 0), end
            n += 1
        window = ((window << CHARACTER_BITS) | code) & THREE_CHARACTERS
        seen += 1
        if seen > 2:
            three = mixed(window)
            columns[n] = BUCKETS_OF_EACH + np.int64(three >> BUCKET_SHIFT)
            firsts[n], lasts[n] = position - 2 + (1 if seen == 3 else 0), end
            n += 1
        if blank:
            seen = 0
    return columns[:n], firsts[:n], lasts[:n]
