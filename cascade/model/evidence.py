"""Texts of which the models know too little to say anything: they are visited by none of them.

The root, and the groups that are always visited from it, learn from every row: what they do not know, no row
taught. A model at a service knows more than the rows that it was tuned with, and is not silenced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cascade.model.walk import Walked, edges, levels
from cascade.nodes.contract import Knowing
from cascade.system.array_types import BoolArray, FloatArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.text.texts import Texts

NOTHING_KNOWN = "nothing known in it"


def entry_groups(taxonomy: Taxonomy) -> tuple[str, ...]:
    """The root, and what is always visited from it."""
    found = [ROOT]
    for group in taxonomy.graph.groups[1:]:
        if taxonomy.is_always_visited(group) and set(taxonomy.graph.parents[group]) & set(found):
            found.append(group)
    return tuple(found)


def nothing_known(models: Iterable[object], texts: Texts, least: float) -> BoolArray | None:
    """Of which texts no model knows a share above `least`, bool, (n_texts,); None where none can tell."""
    knowing = [model for model in models if isinstance(model, Knowing)]
    rows = np.arange(len(texts), dtype=np.int64)
    for model in knowing:
        if len(rows):
            rows = rows[model.known(texts.take(rows)) <= np.float32(least)]
    found = np.zeros(len(texts), dtype=np.bool_)
    found[rows] = True
    return found if knowing else None


class Silence:
    """What is left out for a text that says nothing.

    Attributes
    ----------
    nodes
        bool, shape (n_nodes,), columns as in `Graph.nodes`: those that are not visited.
    edges
        bool, shape (n_edges,), columns as in `cascade.model.walk.edges`.
    """

    def __init__(self, taxonomy: Taxonomy, hosted: Iterable[str]) -> None:
        graph, services = taxonomy.graph, frozenset(hosted)
        entries = frozenset(entry_groups(taxonomy))
        asked = {*services, *(name for group in services for name in graph.ancestors(group))}
        # Where a model at a service led, the embedded ones below may answer: it knew what they do not.
        heard, speaking = {ROOT}, set(services)
        for group in (group for level in levels(graph) for group in level):  # all parents come first
            if group in heard and group in speaking:
                heard |= set(graph.children[group])
                speaking |= set(graph.children[group]) - entries
            elif group in heard:
                heard |= set(graph.children[group]) & asked
        kept = [parent in heard and (parent in speaking or child in asked) for parent, child in edges(graph)]
        self.nodes: BoolArray = np.array([node not in heard for node in graph.nodes], dtype=np.bool_)
        self.edges: BoolArray = ~np.array(kept, dtype=np.bool_)

    def of(self, walked: Walked, nothing: BoolArray) -> Walked:
        """The walk, as it is where `nothing` is known of the texts, bool, shape (n_texts,)."""
        if not nothing.any():
            return walked
        traced = walked.conditionals
        return replace(
            walked,
            paths=_without(walked.paths, nothing, self.nodes),
            conditionals=None if traced is None else _without(traced, nothing, self.edges),
            nothing_known=nothing,
        )


def _without(values: FloatArray, rows: BoolArray, columns: BoolArray) -> FloatArray:
    found = values.copy()
    found[np.ix_(rows, columns)] = np.nan
    return found
