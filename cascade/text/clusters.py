"""Groups of texts that are nearly equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.system.compiled import kernel
from cascade.text.normal import normal_forms
from cascade.text.texts import Texts

# Runs of five words and a half in common are what the field calls near-duplicate news and bills; twelve bands
# of two find 97 % of the pairs at that mark, and all but surely those above it.
RUN = 5
# In a shorter text one other word can be all that matters: only equal ones are one.
LONG = 20
NEARLY_EQUAL = 0.5
SKETCH = 24
BAND = 2
# So many texts are sketched at once that their letters are still at hand.
AT_ONCE = 1024
SPACE, LINE_BREAK = np.uint8(ord(" ")), np.uint8(ord("\n"))
LETTER_FACTOR = np.uint64(0x100000001B3)  # FNV-1a's
POWERS = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(RUN)], dtype=np.uint64)


def clusters_of(texts: Texts) -> IntArray:
    """The number of the cluster of nearly equal texts that each belongs to, computed once for all nodes.

    int64, shape (n_texts,); numbers are those of the batch, of which a view may have some only.
    """
    clusters: IntArray = texts.features("clusters", near_duplicates)
    return clusters


def near_duplicates(texts: Sequence[str]) -> IntArray:
    """The number of the cluster of nearly equal texts that each text belongs to, int64, shape (n_texts,).

    Texts are nearly equal when the runs of `RUN` words that they have in common are half or more of all
    their runs (Jaccard similarity), as estimated by MinHash with `SKETCH` hashes and found by bands of them
    (Broder, "On the resemblance and containment of documents", 1997). A text of fewer than `LONG` words
    has to be equal, once in the normal form.
    """
    clusters = np.empty(len(texts), dtype=np.int64)
    seen: dict[str, int] = {}
    rows: list[int] = []
    sketches = [np.empty((0, SKETCH), dtype=np.uint64)]
    for start in range(0, len(texts), AT_ONCE):
        long: list[str] = []
        for row, plain in enumerate(normal_forms(texts[start : start + AT_ONCE]), start):
            if plain.count(" ") < LONG - 1:
                clusters[row] = seen.setdefault(plain, row)
            else:
                rows.append(row)
                long.append(plain)
        sketches.append(_sketches(long))
    of_long = np.array(rows, dtype=np.int64)
    clusters[of_long] = of_long[_clustered(np.concatenate(sketches))]
    return clusters


def _sketches(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The least hash of each text's runs under each of `SKETCH` hash functions, shape (n_texts, `SKETCH`).

    Words are parted by one space each.
    """
    random = np.random.default_rng(0)  # the same sketches whatever the seed of the folds
    factors = random.integers(1, 2**63, SKETCH, dtype=np.uint64) | np.uint64(1)
    sketches = np.full((len(texts), SKETCH), np.iinfo(np.uint64).max)
    letters = "".join(text + "\n" for text in texts).encode("utf-8", "replace")
    _sketch(np.frombuffer(letters, dtype=np.uint8), factors, sketches)
    return sketches


def _clustered(sketches: NDArray[np.uint64]) -> IntArray:
    """For each sketch the first one of its cluster: those that are alike, or alike to one in between."""
    above = np.arange(len(sketches))
    for start in range(0, SKETCH, BAND):
        band = sketches[:, start : start + BAND] @ POWERS[:BAND]
        _, first, bucket = np.unique(band, return_index=True, return_inverse=True)
        one = first[bucket]
        alike = np.flatnonzero((sketches[one] == sketches).mean(axis=1) >= NEARLY_EQUAL)
        _unite(above, one[alike], alike)
    return above


@kernel
def _sketch(letters: NDArray[np.uint8], factors: NDArray[np.uint64], sketches: NDArray[np.uint64]) -> None:
    """Lower `sketches` to the least hashes of the runs of each text; texts end in a line break."""
    text = n_words = 0
    word = np.uint64(0)
    words = np.zeros(RUN, dtype=np.uint64)
    for letter in letters:
        if letter not in (SPACE, LINE_BREAK):
            word = (word ^ letter) * LETTER_FACTOR
            continue
        run = np.uint64(0)
        for place in range(RUN):
            words[place] = words[place + 1] if place < RUN - 1 else word
            run += words[place] * POWERS[place]
        word = np.uint64(0)
        n_words += 1
        if n_words >= RUN:
            for column in range(SKETCH):
                mixed = run * factors[column]
                sketches[text, column] = min(sketches[text, column], mixed ^ (mixed >> np.uint64(29)))
        if letter == LINE_BREAK:
            text += 1
            n_words = 0


@kernel
def _unite(above: IntArray, ones: IntArray, others: IntArray) -> None:
    """Join the sets of each pair; `above` leads from each member straight to the first of its set."""
    for pair in range(len(ones)):
        one, other = _first(above, ones[pair]), _first(above, others[pair])
        above[max(one, other)] = min(one, other)
    for member in range(len(above)):
        above[member] = _first(above, member)


@kernel
def _first(above: IntArray, member: int) -> int:
    while above[member] != member:
        above[member] = above[above[member]]
        member = above[member]
    return member
