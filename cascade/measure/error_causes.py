"""What caused each wrong answer: the routing, the model of a group, or a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from cascade.measure.known_cells import KnownCells
from cascade.measure.sparse import Flags, by_column, flags_at, has, rows_and_columns, values_at
from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.graph import ROOT, Graph

_BELIEVED = 0.5
"""A probability from here on says yes: the models hold the label for more likely than not."""

_ROUTER, _LEAF, _THRESHOLD = range(3)


@dataclass(frozen=True, slots=True)
class ErrorKinds:
    """Wrong cells by what caused them, each flags of shape (n_texts, n_labels); no two overlap."""

    router: Flags
    leaf: Flags
    threshold: Flags

    def counts(self, labels: Sequence[int] | IntArray | slice = slice(None)) -> ErrorCounts:
        """Numbers of errors, over all labels or over those at the positions `labels`."""
        kinds = (self.router, self.leaf, self.threshold)
        return ErrorCounts(*(int(by_column(kind)[labels].sum()) for kind in kinds))


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """False positives and false negatives together, by what caused them."""

    router: int
    leaf: int
    threshold: int


def error_kinds(cells: KnownCells) -> ErrorKinds:
    """Every missed and every wrongly chosen label, by what caused it.

    ===========  ==============================================  ==========================================
    kind         a missed label                                  a wrong label
    ===========  ==============================================  ==========================================
    router       was not visited, or the oracle chooses it: the  stands in no group that the text belongs to
                 routing hid it or pulled its score down
    threshold    else, its oracle path is 0.5 or more: the       else, its oracle path is below 0.5: only a
                 model said yes and the threshold no             low threshold let it in
    leaf         else: the model said no                         else: the model said yes
    ===========  ==============================================  ==========================================

    Every text belongs to the root and to the groups in `KnownCells.always`. In the oracle a group that is
    entered has path probability 1, so the oracle path of a label is what all but the routing makes of it;
    one that was not visited is below 0.5. What lies below a group of which no more is known is no error.
    """
    missed, wrong = rows_and_columns(cells.missed), rows_and_columns(cells.wrong)
    nodes = missed[0], _columns(cells.graph, missed[1])
    hidden = ~has(cells.scored.paths, *nodes) | has(cells.oracle.chosen, *nodes)
    causes = np.concatenate(
        [
            np.select([hidden, _is_believed(cells, *missed)], [_ROUTER, _THRESHOLD], _LEAF),
            np.select(
                [~_is_reached(cells, *wrong), ~_is_believed(cells, *wrong)], [_ROUTER, _THRESHOLD], _LEAF
            ),
        ]
    )
    rows, columns = (np.concatenate(parts) for parts in zip(missed, wrong, strict=True))
    kinds = (causes == kind for kind in (_ROUTER, _LEAF, _THRESHOLD))
    return ErrorKinds(*(flags_at(rows[own], columns[own], cells.truth.shape) for own in kinds))


def _is_believed(cells: KnownCells, rows: IntArray, labels: IntArray) -> BoolArray:
    """Whether the oracle holds the label of each cell for more likely than not."""
    found: BoolArray = values_at(cells.oracle.paths, rows, _columns(cells.graph, labels)) >= _BELIEVED
    return found


def _columns(graph: Graph, labels: IntArray) -> IntArray:
    """The columns of labels among all nodes, in which they stand last."""
    return labels + (len(graph.nodes) - len(graph.labels))


def _is_reached(cells: KnownCells, rows: IntArray, labels: IntArray) -> BoolArray:
    """Whether the text of each cell belongs to a parent of its label."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for everywhere, columns in _parents(cells.graph, cells.always | {ROOT}):
        is_group = columns[labels] >= 0
        found |= everywhere[labels]
        found[is_group] |= has(cells.truth_nodes, rows[is_group], columns[labels[is_group]])
    return found


def _parents(graph: Graph, always: frozenset[str]) -> list[tuple[BoolArray, IntArray]]:
    """The first parents of all labels, then the second ones: whether in `always`, and columns, or -1."""
    turns = zip_longest(*(graph.parents[label] for label in graph.labels))
    return [
        (
            np.array([parent in always for parent in parents], dtype=np.bool_),
            np.array([graph.column.get(parent, -1) for parent in parents], dtype=np.int64),
        )
        for parents in turns
    ]
