"""Which rows teach in which step: like lengths together, in an order that the seed fixes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from cascade.system.array_types import IntArray
from cascade.trunk.heads import Lesson

# Rows of nearly the same length are exchanged between epochs, so that batches are never twice the same.
_JITTER = 2.0


def batches(lengths: IntArray, rows: IntArray, size: int, seed: int, epoch: int) -> list[IntArray]:
    """The rows of each step of an epoch, int64, `size` of them at most.

    Parameters
    ----------
    lengths
        int64, shape (n_texts,): in tokens.
    rows
        int64: those that teach.
    """
    random = np.random.default_rng([seed, epoch])
    order = rows[np.argsort(lengths[rows] + random.random(len(rows)) * _JITTER, kind="stable")]
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    return [parts[at] for at in random.permutation(len(parts)).tolist()]


class Places:
    """Where the rows of a batch stand in the lessons that they teach."""

    def __init__(self, lessons: Sequence[Lesson], n_texts: int) -> None:
        self.lessons = lessons
        ends = np.cumsum([0, *(lesson.targets.shape[1] for lesson in lessons)])
        self.columns = [slice(a, b) for a, b in pairwise(ends.tolist())]
        owners = np.repeat(np.arange(len(lessons)), [len(lesson.rows) for lesson in lessons])
        rows = np.concatenate([lesson.rows for lesson in lessons])
        inside = np.concatenate([np.arange(len(lesson.rows)) for lesson in lessons])
        order = np.argsort(rows, kind="stable")
        self._owners, self._inside = owners[order], inside[order]
        self._starts = np.searchsorted(rows[order], np.arange(n_texts + 1))

    def taught(self, batch: IntArray) -> list[tuple[int, IntArray, IntArray]]:
        """Of each lesson that rows of a batch teach: its number, and their places in the batch and there."""
        counts = self._starts[batch + 1] - self._starts[batch]
        at = np.repeat(np.arange(len(batch)), counts)
        steps = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
        cells = np.repeat(self._starts[batch], counts) + steps
        owners = self._owners[cells]
        order = np.argsort(owners, kind="stable")
        numbers, firsts = np.unique(owners[order], return_index=True)
        parts = np.split(order, firsts[1:]) if len(firsts) else []
        return [
            (int(number), at[part], self._inside[cells[part]])
            for number, part in zip(numbers, parts, strict=True)
        ]
