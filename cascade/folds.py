"""Folds for multi-label rows: every label spread evenly, nearly equal texts on one side."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from cascade.backends.base import BoolArray, IntArray, Texts

# Runs of five words and a half in common are what the field calls near-duplicate news and bills; twelve bands
# of two find 97 % of the pairs at that mark, and all but surely those above it.
RUN = 5
# In a shorter text one other word can be all that matters: only equal ones are one.
LONG = 20
NEARLY_EQUAL = 0.5
SKETCH = 24
BAND = 2
POWERS = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(RUN)], dtype=np.uint64)


def stratified_folds(targets: BoolArray, texts: Sequence[str], folds: int, seed: int) -> IntArray:
    """The fold of each row, in [0, `folds`).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, Algorithm 1): the rarest
    label first, each of its rows to the fold that still lacks most of it. Rows whose texts are equal, or
    nearly so (see `near_duplicates`), are dealt as one, so that no model is asked about a text that it was
    trained on.

    Parameters
    ----------
    targets
        bool, shape (n_texts, n_children).
    texts
        n_texts strings.
    folds
        How many folds.
    seed
        Settles ties.

    Returns
    -------
    int64, shape (n_texts,); with fewer distinct texts than `folds`, some folds stay empty.
    """
    bundle = near_duplicates(texts)
    n_bundles = int(bundle.max(initial=-1)) + 1
    counts = np.zeros((n_bundles, targets.shape[1]))
    np.add.at(counts, bundle, targets)
    sizes = np.bincount(bundle, minlength=n_bundles).astype(float)
    return _deal(counts, sizes, folds, seed)[bundle]


def near_duplicates(texts: Sequence[str]) -> IntArray:
    """The number of the heap of nearly equal texts that each text belongs to, int64, shape (n_texts,).

    Texts are nearly equal when the runs of `RUN` words that they have in common are half or more of all
    their runs (Jaccard similarity), as estimated by MinHash with `SKETCH` hashes and found by bands of them
    (Broder, "On the resemblance and containment of documents", 1997). A text of fewer than `LONG` words is
    one run: it has to be equal, but for case and white space.
    """
    if not len(texts):
        return np.zeros(0, dtype=np.int64)
    sketch = sketches_of(texts if isinstance(texts, Texts) else Texts(texts))
    left, right = [], []
    for start in range(0, SKETCH, BAND):
        band = sketch[:, start : start + BAND] @ POWERS[:BAND]
        _, first, bucket = np.unique(band, return_index=True, return_inverse=True)
        one, other = first[bucket], np.arange(len(texts))
        alike = (sketch[one] == sketch[other]).mean(axis=1) >= NEARLY_EQUAL
        left.append(one[alike])
        right.append(other[alike])
    pairs = (np.concatenate(left), np.concatenate(right))
    links = coo_matrix((np.ones(len(pairs[0]), dtype=bool), pairs), shape=(len(texts), len(texts)))
    heaps: IntArray = connected_components(links, directed=False)[1].astype(np.int64)
    return heaps


def sketches_of(texts: Texts) -> NDArray[np.uint64]:
    """The sketch of each text, computed once for all nodes that share the batch."""
    sketches: NDArray[np.uint64] = texts.features("sketches", _sketch)
    return sketches


def _sketch(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The least hash of each text's runs under each of `SKETCH` hash functions, shape (n_texts, `SKETCH`)."""
    runs, starts = _runs(texts)
    random = np.random.default_rng(0)  # the same sketches whatever the seed of the folds
    factors = random.integers(1, 2**63, SKETCH, dtype=np.uint64) | np.uint64(1)
    sketch = np.empty((len(texts), SKETCH), dtype=np.uint64)
    for column, factor in enumerate(factors):
        mixed = runs * factor
        sketch[:, column] = np.minimum.reduceat(mixed ^ (mixed >> np.uint64(29)), starts)
    return sketch


def _runs(texts: Sequence[str]) -> tuple[NDArray[np.uint64], IntArray]:
    """A hash of every run of words of all texts, one after the other, and where each text's begin."""
    known: dict[str, int] = {}
    pieces: list[NDArray[np.uint64]] = []
    for text in texts:
        words = text.casefold().split()
        if len(words) < LONG:
            whole = hashlib.blake2b(" ".join(words).encode("utf-8", "replace"), digest_size=8)
            pieces.append(np.array([int.from_bytes(whole.digest(), "little")], dtype=np.uint64))
        else:
            numbers = [known.setdefault(word, zlib.crc32(word.encode("utf-8", "replace"))) for word in words]
            pieces.append(sliding_window_view(np.array(numbers, dtype=np.uint64), RUN) @ POWERS)
    lengths = np.array([len(piece) for piece in pieces])
    return np.concatenate(pieces), np.concatenate([[0], np.cumsum(lengths)[:-1]])


def _deal(counts: np.ndarray, sizes: np.ndarray, folds: int, seed: int) -> IntArray:
    """The fold of each bundle: bundles of the rarest label first, those without any label last."""
    random = np.random.default_rng(seed)
    # Less an equal share for every fold, which changes no comparison and whose rounding would settle ties.
    lacking = np.zeros((folds, counts.shape[1]))
    room = np.zeros(folds)
    fold_of = np.full(len(counts), -1, dtype=np.int64)
    shuffled = random.permutation(len(counts))
    # Large bundles first, while there is room to even them out.
    shuffled = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    for column, members in _rarest_first(counts, shuffled):
        for one in members:
            wanted = (
                np.lexsort((random.random(folds), room, lacking[:, column]))[-1]
                if column >= 0
                else room.argmax()
            )
            fold_of[one] = wanted
            lacking[wanted] -= counts[one]
            room[wanted] -= sizes[one]
    return fold_of


def _rarest_first(counts: np.ndarray, order: IntArray) -> list[tuple[int, IntArray]]:
    """(column, bundles that have it and no rarer one), rarest column first, then (-1, the rest).

    The rarest label is found anew after each round, as the algorithm asks.
    """
    left = np.ones(len(counts), dtype=bool)
    has = counts > 0
    remaining = has.sum(axis=0)
    rounds: list[tuple[int, IntArray]] = []
    while (remaining > 0).any():
        column = int(np.where(remaining > 0, remaining, np.iinfo(np.int64).max).argmin())
        members = order[left[order] & has[order, column]]
        rounds.append((column, members))
        left[members] = False
        remaining = remaining - has[members].sum(axis=0)
    rounds.append((-1, order[left[order]]))
    return rounds
