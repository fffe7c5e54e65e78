"""Path probabilities to chosen labels: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cascade.backends.base import BoolArray, FloatArray
from cascade.graph import ROOT
from cascade.taxonomy import Taxonomy
from cascade.walk import always


def contenders(taxonomy: Taxonomy, paths: FloatArray) -> FloatArray:
    """`paths` with NaN wherever ``choose: one`` rules a node out; float32, shape (n_texts, n_nodes).

    At a group with ``choose: one`` only the child with the greatest path probability stays (of equal ones
    the first), and with it what stands below; a child group that is always visited is beside the choice. A
    node with several parents stays while one that was visited lets it.
    """
    graph = taxonomy.graph
    if all(group.choose == "many" for group in taxonomy.groups.values()):
        return paths
    allowed = np.zeros(paths.shape, dtype=bool)
    for group in graph.groups:
        columns = [graph.column[child] for child in graph.children[group]]
        within = (
            np.ones(len(paths), dtype=bool) if group == ROOT else _left(allowed, paths, graph.column[group])
        )
        stays = np.repeat(within[:, None], len(columns), axis=1)
        if taxonomy.groups[group].choose == "one" and len(paths):
            beside = np.array([always(taxonomy, child) for child in graph.children[group]])
            best = np.where(np.isnan(paths[:, columns]) | beside, -1, paths[:, columns]).argmax(axis=1)
            stays &= (np.arange(len(columns)) == best[:, None]) | beside
        allowed[:, columns] |= stays
    return np.where(allowed, paths, np.float32(np.nan))


def _left(allowed: BoolArray, paths: FloatArray, column: int) -> BoolArray:
    """Where a node is still in play: allowed, and visited, as nothing came over a group nobody entered."""
    return np.asarray(allowed[:, column] & ~np.isnan(paths[:, column]))


def decide(taxonomy: Taxonomy, thresholds: Mapping[str, float], paths: FloatArray) -> BoolArray:
    """What is answered for each text, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`.

    A label is chosen when its path probability is at or above its threshold and no ``choose: one`` rules it
    out. A group with ``back_off`` is answered where it reaches its own threshold and nothing below it was
    chosen. What was not visited (NaN) is never chosen.
    """
    graph = taxonomy.graph
    left = contenders(taxonomy, paths)
    least = np.full(len(graph.nodes), np.inf, dtype=np.float32)
    for label in graph.labels:
        least[graph.column[label]] = thresholds[label]
    chosen = left >= least
    for group in reversed(graph.groups):
        if group != ROOT and taxonomy.groups[group].back_off:
            below = [column for column, name in enumerate(graph.nodes) if group in graph.ancestors(name)]
            sure = left[:, graph.column[group]] >= np.float32(thresholds[group])
            chosen[:, graph.column[group]] = sure & ~chosen[:, below].any(axis=1)
    return chosen
