"""Folds for multi-label rows: every label spread evenly, equal texts on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascade.backends.base import BoolArray, IntArray


def stratified_folds(targets: BoolArray, texts: Sequence[str], folds: int, seed: int) -> IntArray:
    """The fold of each row, in [0, `folds`).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, Algorithm 1): the rarest
    label first, each of its rows to the fold that still lacks most of it. Rows whose texts are equal but
    for case and white space are dealt as one, so that no model is asked about a text that it was trained on.

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
    bundle = _bundles(texts)
    n_bundles = int(bundle.max(initial=-1)) + 1
    counts = np.zeros((n_bundles, targets.shape[1]))
    np.add.at(counts, bundle, targets)
    sizes = np.bincount(bundle, minlength=n_bundles).astype(float)
    return _deal(counts, sizes, folds, seed)[bundle]


def _bundles(texts: Sequence[str]) -> IntArray:
    """The number of the distinct text that each row holds."""
    known: dict[str, int] = {}
    return np.array(
        [known.setdefault(" ".join(text.casefold().split()), len(known)) for text in texts], dtype=np.int64
    )


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
