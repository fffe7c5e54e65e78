"""Folds for multi-label rows: every label spread evenly, nearly equal texts on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, IntArray
from cascade.system.compiled import kernel
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


def stratified_folds(targets: BoolArray, heaps: IntArray, folds: int, seed: int) -> IntArray:
    """The fold of each row, in [0, `folds`).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, Algorithm 1): the rarest
    label first, each of its rows to the fold that still lacks most of it. Rows of one heap are dealt as one,
    so that no model is asked about a text that it was trained on.

    Parameters
    ----------
    targets
        bool, shape (n_texts, n_children).
    heaps
        int64, shape (n_texts,): rows with one number stay together, see `heaps_of`.
    folds
        How many folds.
    seed
        Settles ties.

    Returns
    -------
    int64, shape (n_texts,); with fewer heaps than `folds`, some folds stay empty.
    """
    numbers, bundle = np.unique(heaps, return_inverse=True)
    rows, columns = np.nonzero(targets)
    cells, counts = np.unique(bundle[rows] * max(targets.shape[1], 1) + columns, return_counts=True)
    of_cells, labels = np.divmod(cells, max(targets.shape[1], 1))
    starts = np.searchsorted(of_cells, np.arange(len(numbers) + 1))
    sizes = np.bincount(bundle, minlength=len(numbers))
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(numbers))
    # Large bundles first, while there is room to even them out.
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    ties = random.random((len(numbers), folds))
    fold_of = np.full(len(numbers), -1, dtype=np.int64)
    _deal(starts, labels, counts, sizes, order, ties, targets.shape[1], fold_of)
    return fold_of[bundle]


def heaps_of(texts: Texts) -> IntArray:
    """The number of the heap of nearly equal texts that each belongs to, computed once for all nodes.

    int64, shape (n_texts,); numbers are those of the batch, of which a view may have some only.
    """
    heaps: IntArray = texts.features("heaps", near_duplicates)
    return heaps


def near_duplicates(texts: Sequence[str]) -> IntArray:
    """The number of the heap of nearly equal texts that each text belongs to, int64, shape (n_texts,).

    Texts are nearly equal when the runs of `RUN` words that they have in common are half or more of all
    their runs (Jaccard similarity), as estimated by MinHash with `SKETCH` hashes and found by bands of them
    (Broder, "On the resemblance and containment of documents", 1997). A text of fewer than `LONG` words
    has to be equal, but for case and white space.
    """
    heaps = np.empty(len(texts), dtype=np.int64)
    seen: dict[str, int] = {}
    rows: list[int] = []
    sketches = [np.empty((0, SKETCH), dtype=np.uint64)]
    for start in range(0, len(texts), AT_ONCE):
        long: list[str] = []
        for row, text in enumerate(texts[start : start + AT_ONCE], start):
            plain = " ".join(text.casefold().split())
            if plain.count(" ") < LONG - 1:
                heaps[row] = seen.setdefault(plain, row)
            else:
                rows.append(row)
                long.append(plain)
        sketches.append(_sketches(long))
    of_long = np.array(rows, dtype=np.int64)
    heaps[of_long] = of_long[_joined(np.concatenate(sketches))]
    return heaps


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


def _joined(sketches: NDArray[np.uint64]) -> IntArray:
    """For each sketch the first one of its heap: those that are alike, or alike to one in between."""
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


@kernel
def _deal(
    starts: IntArray,
    labels: IntArray,
    counts: IntArray,
    sizes: IntArray,
    order: IntArray,
    ties: NDArray[np.float64],
    n_labels: int,
    fold_of: IntArray,
) -> None:
    """Fill `fold_of` of each bundle: bundles of the rarest label first, those without any label last.

    The labels of bundle i, and how many of its rows have each, stand from starts[i] to starts[i + 1].
    """
    folds = ties.shape[1]
    members, ends = _members(starts, labels, order, n_labels)
    remaining = ends[1:] - ends[:-1]
    # Less an equal share for every fold, which changes no comparison and whose rounding would settle ties.
    lacking = np.zeros((n_labels + 1, folds), dtype=np.int64)
    while True:
        label = -1
        for one in range(n_labels):
            if remaining[one] > 0 and (label < 0 or remaining[one] < remaining[label]):
                label = one
        if label < 0:
            break
        for member in range(ends[label], ends[label + 1]):
            bundle = members[member]
            if fold_of[bundle] < 0:
                wanted = _neediest(lacking[label], lacking[n_labels], ties[bundle])
                fold_of[bundle] = wanted
                lacking[n_labels, wanted] -= sizes[bundle]
                for cell in range(starts[bundle], starts[bundle + 1]):
                    lacking[labels[cell], wanted] -= counts[cell]
                    remaining[labels[cell]] -= 1
    for bundle in order:
        if fold_of[bundle] < 0:
            wanted = _neediest(lacking[n_labels], lacking[n_labels], ties[bundle])
            fold_of[bundle] = wanted
            lacking[n_labels, wanted] -= sizes[bundle]


@kernel
def _members(starts: IntArray, labels: IntArray, order: IntArray, n_labels: int) -> tuple[IntArray, IntArray]:
    """The bundles of each label in `order`, one label after another, and where each label's end."""
    ends = np.zeros(n_labels + 1, dtype=np.int64)
    for label in labels:
        ends[label + 1] += 1
    for label in range(n_labels):
        ends[label + 1] += ends[label]
    at = ends[:-1].copy()
    members = np.empty(len(labels), dtype=np.int64)
    for bundle in order:
        for cell in range(starts[bundle], starts[bundle + 1]):
            members[at[labels[cell]]] = bundle
            at[labels[cell]] += 1
    return members, ends


@kernel
def _neediest(lacking: IntArray, room: IntArray, ties: NDArray[np.float64]) -> int:
    """The fold that lacks most; of equal ones that with most room, then the one that the tie says."""
    best = 0
    for fold in range(1, len(ties)):
        if lacking[fold] != lacking[best]:
            better = lacking[fold] > lacking[best]
        elif room[fold] != room[best]:
            better = room[fold] > room[best]
        else:
            better = ties[fold] > ties[best]
        if better:
            best = fold
    return best
