"""What caused each wrong answer: the routing, the model of a group, or a threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.measure.metrics import BoolArray, FloatArray, columns, with_ancestors
from cascade.taxonomy.graph import ROOT, Graph

_BELIEVED = 0.5
"""A probability from here on says yes: the models hold the label for more likely than not."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a walk and the decisions after it say.

    Attributes
    ----------
    paths : float32 (n_texts, n_nodes), probabilities, NaN where a node was not visited. A group is
        visited where its own model was asked: one that its parent scored and that was not entered is NaN.
    chosen : bool (n_texts, n_nodes), labels finally answered, and groups where a group backed off
    """

    paths: FloatArray
    chosen: BoolArray


@dataclass(frozen=True, slots=True)
class ErrorKinds:
    """Wrong cells by what caused them, each bool (n_texts, n_labels); no two overlap."""

    router: BoolArray
    leaf: BoolArray
    threshold: BoolArray

    def counts(self, labels: Sequence[int] | slice = slice(None)) -> ErrorCounts:
        """Numbers of errors, over all labels or over those at the positions `labels`."""
        masks = (self.router, self.leaf, self.threshold)
        return ErrorCounts(*(int(mask[:, labels].sum()) for mask in masks))


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """False positives and false negatives together, by what caused them."""

    router: int
    leaf: int
    threshold: int


def error_kinds(
    graph: Graph, truth: BoolArray, scored: Predictions, oracle: Predictions, *, always: frozenset[str]
) -> ErrorKinds:
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

    Every text belongs to the root and to the groups in `always`. In the oracle a group that is entered has
    path probability 1, so the oracle path of a label is what all but the routing makes of it; NaN is below
    0.5. Parameters
    are those of `evaluate`; what lies below a group of which no more is known is no error.
    """
    truth = with_ancestors(graph, truth)
    labels = columns(graph, graph.labels)
    true, chosen = truth[:, labels], scored.chosen[:, labels]
    missed = true & ~chosen
    wrong = chosen & ~true & ~unknown_nodes(graph, truth)[:, labels]
    hidden = np.isnan(scored.paths[:, labels]) | oracle.chosen[:, labels]
    router = (missed & hidden) | (wrong & ~_reached(graph, truth, always))
    believed = oracle.paths[:, labels] >= _BELIEVED
    threshold = ((missed & believed) | (wrong & ~believed)) & ~router
    return ErrorKinds(router, leaf=(missed | wrong) & ~router & ~threshold, threshold=threshold)


def unknown_nodes(graph: Graph, truth: BoolArray) -> BoolArray:
    """Nodes of which a row says nothing: all below a group that is true while none of its children is.

    Both arrays are (n_texts, n_nodes), `truth` closed under ancestors.
    """
    unknown = np.zeros_like(truth)
    for group in graph.groups[1:]:
        column, below = graph.column[group], columns(graph, graph.children[group])
        is_open = truth[:, column] & ~truth[:, below].any(axis=1)
        unknown[:, below] |= (is_open | unknown[:, column])[:, None]
    return unknown


def _reached(graph: Graph, truth: BoolArray, always: frozenset[str]) -> BoolArray:
    """Whether each text belongs to a parent of each label: bool (n_texts, n_labels)."""
    reached = np.zeros((len(truth), len(graph.labels)), dtype=np.bool_)
    for index, label in enumerate(graph.labels):
        parents = set(graph.parents[label])
        if parents & (always | {ROOT}):
            reached[:, index] = True
        else:
            reached[:, index] = truth[:, columns(graph, sorted(parents))].any(axis=1)
    return reached
