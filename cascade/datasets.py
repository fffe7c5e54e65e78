"""Rows to what each group learns from: who reaches it, who has which child, who serves as a negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.backends.base import BoolArray, IntArray, NodeProblem, Texts
from cascade.graph import ROOT, Graph
from cascade.taxonomy import Taxonomy
from cascade.walk import always, modelled


def label_truth(graph: Graph, labels: Sequence[Sequence[str]]) -> BoolArray:
    """Labels and all of their ancestors, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`."""
    truth = np.zeros((len(labels), len(graph.nodes)), dtype=bool)
    columns = {name: [graph.column[one] for one in graph.closure([name])] for name in graph.nodes}
    for row, names in enumerate(labels):
        for name in names:
            truth[row, columns[name]] = True
    return truth


def known_nodes(taxonomy: Taxonomy, truth: BoolArray, labels: Sequence[Sequence[str]]) -> BoolArray:
    """Where `truth` is to be believed, bool, shape (n_texts, n_nodes).

    A row may carry the name of a group whose children nobody looked at: then nothing is known of what
    stands below that group, save where the row names something there as well.
    """
    graph = taxonomy.graph
    known = np.ones(truth.shape, dtype=bool)
    below = {group: _below(graph, group) for group in graph.groups if group != ROOT}
    for row, names in enumerate(labels):
        for name in names:
            if name in below and not _child_named(graph, name, truth[row]):
                known[row, below[name]] = truth[row, below[name]]
    return known


def _child_named(graph: Graph, group: str, row: BoolArray) -> bool:
    return any(row[graph.column[child]] for child in graph.children[group])


def _below(graph: Graph, group: str) -> list[int]:
    return [column for column, name in enumerate(graph.nodes) if group in graph.ancestors(name)]


@dataclass(frozen=True)
class Dataset:
    """Labelled rows against a taxonomy.

    Attributes
    ----------
    taxonomy
        What the columns mean.
    texts
        n_texts strings.
    truth
        bool, shape (n_texts, n_nodes): labels and all their ancestors.
    known
        bool, of the same shape: where `truth` is to be believed.
    """

    taxonomy: Taxonomy
    texts: Texts
    truth: BoolArray
    known: BoolArray

    @classmethod
    def make(cls, taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Dataset:
        """The data set of these texts and the names that each carries."""
        truth = label_truth(taxonomy.graph, labels)
        return cls(taxonomy, Texts(texts), truth, known_nodes(taxonomy, truth, labels))

    def reaching(self, group: str) -> BoolArray:
        """The rows that truly belong to a group, bool, shape (n_texts,)."""
        if group == ROOT:
            return np.ones(len(self.texts), dtype=bool)
        reached = self.truth[:, self.taxonomy.graph.column[group]].copy()
        if always(self.taxonomy, group):
            for parent in self.taxonomy.graph.parents[group]:
                reached |= self.reaching(parent)
        return reached

    def targets(self, group: str) -> BoolArray:
        """Which children each row has, bool, shape (n_texts, n_children), columns as in `modelled`."""
        columns = [self.taxonomy.graph.column[child] for child in modelled(self.taxonomy, group)]
        return self.truth[:, columns]

    def taught(self, group: str) -> BoolArray:
        """The rows whose children at `group` are known, bool, shape (n_texts,)."""
        columns = [self.taxonomy.graph.column[child] for child in modelled(self.taxonomy, group)]
        return np.asarray(self.known[:, columns].all(axis=1))

    def rows(self, group: str, negatives: str) -> IntArray:
        """Positions of the rows that `group` learns from: those that reach it, or (``all``) every row."""
        wanted = self.taught(group) if negatives == "all" else self.taught(group) & self.reaching(group)
        return np.flatnonzero(wanted).astype(np.int64)

    def problem(self, group: str, rows: IntArray, seed: int) -> NodeProblem:
        """What `group` has to learn from these rows."""
        return NodeProblem(
            children=modelled(self.taxonomy, group),
            texts=self.texts.take(rows),
            targets=self.targets(group)[rows],
            own=self.reaching(group)[rows],
            seed=seed,
        )
