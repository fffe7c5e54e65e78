"""Which labels of a text compete, which of them leads, and how far each is behind its best rival."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT


def contest_of(taxonomy: Taxonomy) -> dict[str, str]:
    """The contest of each label: the topmost group above it that is always visited, or the root.

    What a text is about and, say, its sentiment are two questions: labels of one are no rivals of the other.
    Of several parents the first counts.
    """
    graph = taxonomy.graph
    found = {ROOT: ROOT}
    for group in graph.groups[1:]:
        above = found[graph.parents[group][0]]
        found[group] = group if above == ROOT and taxonomy.is_always_visited(group) else above
    return {label: found[graph.parents[label][0]] for label in graph.labels}


class Contests:
    """The contests of a taxonomy, for walks of it.

    Attributes
    ----------
    names
        The group that each contest is called after; the root is the empty name.
    labels
        Of each group with labels: places of these among its children, their numbers in `Graph.labels`, and
        the numbers of their contests; int64.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        graph = taxonomy.graph
        of_label = contest_of(taxonomy)
        self.names = tuple(dict.fromkeys(of_label.values()))
        number = {label: place for place, label in enumerate(graph.labels)}
        contest = {name: place for place, name in enumerate(self.names)}
        self.labels: dict[str, tuple[IntArray, IntArray, IntArray]] = {}
        for group in graph.groups:
            own = [(at, child) for at, child in enumerate(graph.children[group]) if child in number]
            if own:
                rows = [(at, number[label], contest[of_label[label]]) for at, label in own]
                places, numbers, contests = np.array(rows, dtype=np.int64).T
                self.labels[group] = places, numbers, contests

    def cells(self, walked: Walked) -> LabelCells:
        """The cells of all labels that a walk visited."""
        return LabelCells(self, walked)


class LabelCells:
    """The cells of all labels that a walk visited, block after block; a label of two parents has two.

    Attributes
    ----------
    blocks
        For each group with such cells: where they are in its block, as rows and places of children.
    contests
        int64, shape (n_cells,): the text and contest of each, as one number.
    labels
        int64, shape (n_cells,): its label, as in `Graph.labels`.
    """

    def __init__(self, contests: Contests, walked: Walked) -> None:
        self.blocks: dict[str, tuple[IntArray, IntArray]] = {}
        keys, labels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for group, block in walked.blocks.items():
            if group not in contests.labels:
                continue
            places, numbers, contest = contests.labels[group]
            rows, columns = np.nonzero(~np.isnan(block.paths[:, places]))
            self.blocks[group] = rows, places[columns]
            keys.append(block.rows[rows] * len(contests.names) + contest[columns])
            labels.append(numbers[columns])
        self.contests, self.labels = np.concatenate(keys), np.concatenate(labels)
        self._n_contests = walked.n_texts * len(contests.names)

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Of arrays shaped like the blocks' paths the values of these cells, float32, shape (n_cells,)."""
        parts = [values[group][where] for group, where in self.blocks.items()]
        return np.concatenate([np.empty(0, dtype=np.float32), *parts])

    def put(self, values: FloatArray, into: Mapping[str, FloatArray]) -> None:
        """Write the values of the cells into arrays shaped like the blocks' paths."""
        start = 0
        for group, where in self.blocks.items():
            into[group][where] = values[start : start + len(where[0])]
            start += len(where[0])

    def behind(self, values: FloatArray, nothing: float) -> FloatArray:
        """How far each cell is behind the best rival of its contest, float32, 0 or below; 0 of the best.

        A label is no rival of itself, whichever parent it came by; without a rival there is `nothing` to be
        behind of.
        """
        best, owner, second = self._leaders(values)
        rival = np.where(owner[self.contests] == self.labels, second[self.contests], best[self.contests])
        return np.minimum(values - np.maximum(rival, np.float32(nothing)), 0)

    def leads(self, values: FloatArray) -> BoolArray:
        """Whether each cell's label is the best of its contest; of equal ones the first in `Graph.labels`."""
        _, owner, _ = self._leaders(values)
        return np.asarray(owner[self.contests] == self.labels)

    def _leaders(self, values: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
        best = np.full(self._n_contests, -np.inf, dtype=np.float32)
        second = best.copy()
        owner = np.full(self._n_contests, -1, dtype=np.int64)
        _lead(self.contests, self.labels, values.astype(np.float32), best, owner, second)
        return best, owner, second


@kernel
def _lead(
    contests: IntArray,
    labels: IntArray,
    values: FloatArray,
    best: FloatArray,
    owner: IntArray,
    second: NDArray[np.float32],
) -> None:
    """The best value of each contest, whose it is, and the best of any other label."""
    for cell in range(len(values)):
        at, label, value = contests[cell], labels[cell], values[cell]
        if label == owner[at]:
            best[at] = max(best[at], value)
        elif value > best[at] or (value == best[at] and label < owner[at]):
            second[at] = best[at]
            best[at], owner[at] = value, label
        else:
            second[at] = max(second[at], value)
