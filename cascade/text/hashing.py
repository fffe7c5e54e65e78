"""Hashes of words, pairs of words and characters inside words: from code points to columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.system.compiled import kernel
from cascade.text.characters import IDEOGRAPH, SPACE, WORD

BUCKETS_OF_EACH = 2**20
WIDTH = 2 * BUCKETS_OF_EACH
MOST_COUNTED = 255

# A character ends at most one word, one pair of words and one n-gram of either length.
_MOST_OF_CHARACTER = 4

BLANK = np.uint64(ord(" "))
# The hash has 64 bits, of which the upper 20 name the bucket. A word goes in character by character, a pair
# as the hashes of its words, three characters of 21 bits at once, and four as those three and the last.
# The numbers are odd and otherwise arbitrary; saved models depend on them, so a change needs a new `VERSION`.
CHARACTER_BITS = np.uint64(21)
THREE_CHARACTERS = np.uint64(2**63 - 1)
WORD_SEED = np.uint64(0x9E3779B97F4A7C15)  # which also stands for no word
PAIR_FACTOR = np.uint64(0xD1B54A32D192ED03)
CHARACTER_FACTOR = np.uint64(0x9FB21C651E98DF25)
BUCKET_SHIFT = np.uint64(64 - 20)
# A blank between two ideographs is a mark, as people write it in place of a comma: the hash of " ". It makes
# pairs with an ideograph that begins or ends a text as well.
BLANK_MARK = np.uint64(((0x9E3779B97F4A7C15 ^ 0x20) * 0x9FB21C651E98DF25) & (2**64 - 1))
BLANK_MARK ^= BLANK_MARK >> np.uint64(32)

Hashed = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]
"""Number of features of each text, their columns and their counts."""


@kernel
def hash_features(codes: NDArray[np.uint32], lengths: IntArray, classes: NDArray[np.uint8]) -> Hashed:
    """How many features each text has, their columns and their counts.

    `codes` are the code points of all texts, one text after another; `classes` say what each code point is.
    """
    longest = most = 0
    for text in range(len(lengths)):
        longest = max(longest, lengths[text])
        most += min(_MOST_OF_CHARACTER * lengths[text], WIDTH)
    n_features = np.empty(len(lengths), dtype=np.int32)
    columns, counts = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.uint8)
    whole_table = np.empty(table_size(_MOST_OF_CHARACTER * longest), dtype=np.int32)
    start = end = 0
    for text in range(len(lengths)):
        own = codes[start : start + lengths[text]]
        table = whole_table[: table_size(_MOST_OF_CHARACTER * len(own))]
        table[:] = 0
        n = _add_words(own, classes, table, columns[end:], counts[end:])
        n = _add_inside(own, classes, table, columns[end:], counts[end:], n)
        n_features[text] = n
        start += len(own)
        end += n
    return n_features, columns[:end], counts[:end]


@kernel
def table_size(most: int) -> int:
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
    before = word = WORD_SEED
    last, blank = SPACE, False
    for position in range(len(codes) + 1):
        kind = classes[codes[position]] if position < len(codes) else SPACE
        if kind == WORD:
            word = with_character(word, codes[position])
            continue
        if word != WORD_SEED:
            n = _add_word(before, word, table, columns, counts, n)
            before, word, last, blank = word, WORD_SEED, WORD, False
        if kind == SPACE:
            blank = True
            continue
        if kind == IDEOGRAPH and last == SPACE:
            before = BLANK_MARK
        elif kind == IDEOGRAPH and blank and last == IDEOGRAPH:
            n = _add_word(before, BLANK_MARK, table, columns, counts, n)
            before = BLANK_MARK
        mark = with_character(WORD_SEED, codes[position])
        n = _add_word(before, mark, table, columns, counts, n)
        before, last, blank = mark, kind, False
    return _add_pair(before, BLANK_MARK, table, columns, counts, n) if last == IDEOGRAPH else n


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
    n = _add(np.int64(mixed(word) >> BUCKET_SHIFT), table, columns, counts, n)
    return n if before == WORD_SEED else _add_pair(before, word, table, columns, counts, n)


@kernel
def _add_pair(
    before: np.uint64,
    word: np.uint64,
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    pair = mixed(before * PAIR_FACTOR + word)
    return _add(np.int64(pair >> BUCKET_SHIFT), table, columns, counts, n)


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
        blank = position == len(codes) or classes[codes[position]] >= SPACE  # or an ideograph
        if blank and not seen:
            continue
        if not seen:
            window, seen = BLANK, 1
        code = BLANK if blank else np.uint64(codes[position])
        if seen > 2:
            n = _add_characters(mixed(three + code * CHARACTER_FACTOR), table, columns, counts, n)
        window = ((window << CHARACTER_BITS) | code) & THREE_CHARACTERS
        seen += 1
        if seen > 2:
            three = mixed(window)
            n = _add_characters(three, table, columns, counts, n)
        if blank:
            seen = 0
    return n


@kernel
def _add_characters(
    hashed: np.uint64,
    table: NDArray[np.int32],
    columns: NDArray[np.int32],
    counts: NDArray[np.uint8],
    n: int,
) -> int:
    return _add(BUCKETS_OF_EACH + np.int64(hashed >> BUCKET_SHIFT), table, columns, counts, n)


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
def mixed(value: np.uint64) -> np.uint64:
    """The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): each bit depends on all."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@kernel
def with_character(word: np.uint64, code: np.uint32) -> np.uint64:
    """The hash of a word that goes on with this character."""
    word = (word ^ np.uint64(code)) * CHARACTER_FACTOR
    return word ^ (word >> np.uint64(32))
