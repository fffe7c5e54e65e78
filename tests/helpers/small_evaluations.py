"""Evaluations of a few texts that are written down cell by cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sparse_tables import of_arrays, table

from cascade.measure import error_causes, known_cells, metrics
from cascade.measure import evaluate as figures
from cascade.measure.known_cells import KnownCells, Predictions
from cascade.taxonomy.graph import ROOT, Graph

NAN = np.nan

#          root
#         /    \
#       a        b
#      / \      / \
#     c   x    y   w       c is a group; w stands in c and in b
#     |
#     w
TREE = Graph.build({ROOT: ["a", "b"], "a": ["c", "x"], "b": ["y", "w"], "c": ["w"]})

NO_GROUPS: frozenset[str] = frozenset()

micro_f1 = of_arrays(metrics.micro_f1)


class Answers(NamedTuple):
    """Path probabilities, NaN where a node was not visited, and chosen nodes, both (n_texts, n_nodes)."""

    paths: np.ndarray
    chosen: np.ndarray


def known(graph, truth, answers, oracle, *, always):
    sides = (Predictions(table(side.paths), table(side.chosen)) for side in (answers, oracle))
    return KnownCells.of(graph, table(truth), *sides, always=always)


def evaluate(graph, truth, answers, oracle, *, always, seed=0):
    return figures.evaluate(known(graph, truth, answers, oracle, always=always), seed=seed)


def error_kinds(graph, truth, answers, oracle, *, always):
    kinds = error_causes.error_kinds(known(graph, truth, answers, oracle, always=always))
    return {name: getattr(kinds, name).toarray() for name in ("router", "leaf", "threshold")}


def unknown_nodes(graph, truth):
    return known_cells.unknown_nodes(graph, table(truth)).toarray()


def with_ancestors(graph, nodes):
    return metrics.with_ancestors(graph, table(nodes)).toarray()


def flags_of(graph, rows):
    flags = np.zeros((len(rows), len(graph.nodes)), dtype=np.bool_)
    for index, names in enumerate(rows):
        flags[index, [graph.column[name] for name in names]] = True
    return flags


def truth_of(graph, *rows):
    return flags_of(graph, [graph.closure(row) for row in rows])


def scored(graph, *rows):
    """Each row a set of chosen names and a mapping of paths; all other nodes were not visited."""
    paths = np.full((len(rows), len(graph.nodes)), NAN, dtype=np.float32)
    for index, (_, found) in enumerate(rows):
        for name, path in found.items():
            paths[index, graph.column[name]] = path
    return Answers(paths, flags_of(graph, [chosen for chosen, _ in rows]))
