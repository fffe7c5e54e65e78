"""Texts of which the models know too little to say anything: they are visited by none of them.

The root, and the groups that are always visited from it, learn from every row: what they do not know, no row
taught. A model at a service knows more than the rows that it was tuned with, and is not silenced.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from cascade.model.walk import Block, Walked, levels
from cascade.nodes.contract import Knowing
from cascade.system.array_types import BoolArray
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
    children
        bool, shape (n_children,), of each group: those that are not visited from there.
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
        self.nodes: BoolArray = np.array([node not in heard for node in graph.nodes], dtype=np.bool_)
        self.children: dict[str, BoolArray] = {
            group: np.array(
                [group not in heard or (group not in speaking and child not in asked) for child in children],
                dtype=np.bool_,
            )
            for group, children in graph.children.items()
        }

    def of(self, walked: Walked, nothing: BoolArray) -> Walked:
        """The walk, as it is where `nothing` is known of the texts, bool, shape (n_texts,)."""
        if not nothing.any():
            return walked
        blocks = {
            group: self._heard(group, block, nothing[block.rows]) for group, block in walked.blocks.items()
        }
        left = {group: block for group, block in blocks.items() if len(block.rows)}
        return replace(walked, blocks=left, nothing_known=nothing)

    def _heard(self, group: str, block: Block, nothing: BoolArray) -> Block:
        """What stays of a block, at some rows of which `nothing` is known."""
        silent = self.children[group]
        if silent.all():
            return block.of(~nothing, block.rows[~nothing])
        if not silent.any() or not nothing.any():
            return block
        gone = nothing[:, None] & silent
        conditionals, paths = (
            np.where(gone, np.float32(np.nan), own) for own in (block.conditionals, block.paths)
        )
        return replace(block, conditionals=conditionals, paths=paths)
