"""What was true of some rows and what was answered, as far as it is known: all figures are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from cascade.measure.metrics import closure, of_labels, with_ancestors
from cascade.measure.sparse import (
    Flags,
    Scores,
    are_in,
    by_row,
    decided,
    flags_at,
    joined,
    only,
    rows_and_columns,
    scores_of,
    visited,
    without,
)
from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray
from cascade.taxonomy.graph import Graph


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a walk and the decisions after it say: tables of `sparse`, each of shape (n_texts, n_nodes).

    Attributes
    ----------
    paths : scores. A group is visited where its own model was asked: one that its parent scored and that was
        not entered has none.
    chosen : flags of labels finally answered, and of groups where a group backed off
    """

    paths: Scores
    chosen: Flags

    @classmethod
    def of(cls, walked: Walked, decide: Callable[[Walked], BoolArray]) -> Predictions:
        """Those of a walk, and of what `decide` answers for it, bool, shape (n_texts, n_nodes)."""
        return cls(scores_of(walked), decided(walked, decide))


@dataclass(frozen=True)
class KnownCells:
    """Tables of `sparse`, without what nothing is known of, as `unknown_nodes` has it.

    Attributes
    ----------
    graph : of the taxonomy
    always : groups that are visited for every text
    scored, oracle : all that was answered
    truth_nodes : flags, shape (n_texts, n_nodes), closed under ancestors
    unknown_nodes : flags, shape (n_texts, n_nodes)
    truth, chosen, oracle_chosen : flags, shape (n_texts, n_labels)
    paths : scores, shape (n_texts, n_labels)
    """

    graph: Graph
    always: frozenset[str]
    scored: Predictions
    oracle: Predictions
    truth_nodes: Flags
    unknown_nodes: Flags
    truth: Flags
    chosen: Flags
    oracle_chosen: Flags
    paths: Scores

    @classmethod
    def of(
        cls, graph: Graph, truth: Flags, scored: Predictions, oracle: Predictions, *, always: frozenset[str]
    ) -> KnownCells:
        """What is known where `truth`, flags of shape (n_texts, n_nodes), is so; a row may have groups only.

        Raises
        ------
        ValueError
            When a table has another shape than `truth`, `truth` other columns than the graph has nodes, or a
            group is visited where its labels are not.
        """
        _check_shapes(graph, truth, scored, oracle)
        _check_visits(graph, scored)
        truth = with_ancestors(graph, truth)
        unknown = unknown_nodes(graph, truth)
        unknown_labels, paths = of_labels(graph, unknown), of_labels(graph, scored.paths)
        return cls(
            graph=graph,
            always=always,
            scored=scored,
            oracle=oracle,
            truth_nodes=truth,
            unknown_nodes=unknown,
            truth=of_labels(graph, truth),  # no true cell is unknown
            chosen=without(of_labels(graph, scored.chosen), unknown_labels),
            oracle_chosen=without(of_labels(graph, oracle.chosen), unknown_labels),
            paths=only(paths, ~are_in(paths, unknown_labels)),
        )

    def __len__(self) -> int:
        rows: int = self.truth.shape[0]
        return rows

    @cached_property
    def visited(self) -> Flags:
        """Nodes that were visited, flags of shape (n_texts, n_nodes)."""
        return visited(self.scored.paths)

    @cached_property
    def missed(self) -> Flags:
        """Labels that are true and were not chosen."""
        return without(self.truth, self.chosen)

    @cached_property
    def wrong(self) -> Flags:
        """Labels that were chosen and are not true."""
        return without(self.chosen, self.truth)

    @cached_property
    def is_group_only(self) -> BoolArray:
        """Of which rows only groups are known, bool, shape (n_texts,)."""
        found: BoolArray = (by_row(self.truth_nodes) > 0) & (by_row(self.truth) == 0)
        return found


def unknown_nodes(graph: Graph, truth: Flags) -> Flags:
    """Nodes of which a row says nothing: all below a group that is true while none of its children is.

    Both are flags of shape (n_texts, n_nodes), `truth` closed under ancestors.
    """
    edges = [
        (graph.column[child], graph.column[group])
        for group in graph.groups[1:]
        for child in graph.children[group]
    ]
    children, parents = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    n_nodes = len(graph.nodes)
    groups = only(truth, truth.indices < n_nodes - len(graph.labels))
    has_child = joined(truth, flags_at(children, parents, (n_nodes, n_nodes)))
    above = closure(graph)
    rows, columns = rows_and_columns(above)
    below = flags_at(columns[rows != columns], rows[rows != columns], above.shape)
    return joined(without(groups, has_child), below)


def _check_shapes(graph: Graph, truth: Flags, scored: Predictions, oracle: Predictions) -> None:
    expected = (truth.shape[0], len(graph.nodes))
    tables = {
        "truth": truth,
        "scored.paths": scored.paths,
        "scored.chosen": scored.chosen,
        "oracle.paths": oracle.paths,
        "oracle.chosen": oracle.chosen,
    }
    for name, table in tables.items():
        if table.shape != expected:
            raise ValueError(f"{name} has shape {table.shape}; expected {expected}, a column per node")


def _check_visits(graph: Graph, scored: Predictions) -> None:
    """Else the router recall would count groups that were scored by their parent and never entered."""
    scores = scored.paths.tocsc()
    places = [scores.indices[start:end] for start, end in pairwise(scores.indptr)]
    for group in graph.groups[1:]:
        entered = places[graph.column[group]]
        for label in (name for name in graph.children[group] if name not in graph.children):
            own = places[graph.column[label]]
            if len(own) == len(entered) and (own == entered).all():
                continue  # as it is in a tree
            odd = np.setdiff1d(entered, own, assume_unique=True)
            if odd.size:
                raise ValueError(
                    f"text {odd[0]}: group {group!r} has a path probability and its label {label!r} none; "
                    "expected none for a group that was not entered"
                )
