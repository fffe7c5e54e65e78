"""Folds for multi-label rows: every label spread evenly, nearly equal texts on one side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, IntArray
from cascade.system.compiled import kernel


def stratified_folds(targets: BoolArray, clusters: IntArray, folds: int, seed: int) -> IntArray:
    """The fold of each row, in [0, `folds`).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, Algorithm 1): the rarest
    label first, each of its rows to the fold that still lacks most of it. Rows of a cluster are dealt as one,
    so that no model is asked about a text that it was trained on.

    Parameters
    ----------
    targets
        bool, shape (n_texts, n_children).
    clusters
        int64, shape (n_texts,): rows with one number stay together, see `clusters_of`.
    folds
        How many folds.
    seed
        Settles ties.

    Returns
    -------
    int64, shape (n_texts,); with fewer clusters than `folds`, some folds stay empty.
    """
    rows, columns = np.nonzero(targets)
    return folds_of_cells(rows, columns, targets.shape[1], clusters, folds, seed)


def folds_of_cells(
    rows: IntArray, columns: IntArray, n_children: int, clusters: IntArray, folds: int, seed: int
) -> IntArray:
    """The same for targets of which the rows and columns of the true cells are given, in any order."""
    numbers, bundle = np.unique(clusters, return_inverse=True)
    cells, counts = np.unique(bundle[rows] * max(n_children, 1) + columns, return_counts=True)
    of_cells, labels = np.divmod(cells, max(n_children, 1))
    starts = np.searchsorted(of_cells, np.arange(len(numbers) + 1))
    sizes = np.bincount(bundle, minlength=len(numbers))
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(numbers))
    # Large bundles first, while there is room to even them out.
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    ties = random.random((len(numbers), folds))
    fold_of = np.full(len(numbers), -1, dtype=np.int64)
    _assign(starts, labels, counts, sizes, order, ties, n_children, fold_of)
    return fold_of[bundle]


@kernel
def _assign(
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
                wanted = _fold_in_need(lacking[label], lacking[n_labels], ties[bundle])
                fold_of[bundle] = wanted
                lacking[n_labels, wanted] -= sizes[bundle]
                for cell in range(starts[bundle], starts[bundle + 1]):
                    lacking[labels[cell], wanted] -= counts[cell]
                    remaining[labels[cell]] -= 1
    for bundle in order:
        if fold_of[bundle] < 0:
            wanted = _fold_in_need(lacking[n_labels], lacking[n_labels], ties[bundle])
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
def _fold_in_need(lacking: IntArray, room: IntArray, ties: NDArray[np.float64]) -> int:
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
