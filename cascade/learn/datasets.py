"""Rows to what each group learns from: who reaches it, who has which child, who serves as a negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.nodes.contract import GroupDescription, NodeProblem
from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph
from cascade.text.texts import Texts


def label_truth(graph: Graph, labels: Sequence[Sequence[str]]) -> BoolArray:
    """Labels and all of their ancestors, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`."""
    truth = np.zeros((len(labels), len(graph.nodes)), dtype=bool)
    for name, rows in _naming(graph, labels).items():
        closure = np.array([graph.column[one] for one in graph.closure([name])])
        truth[np.ix_(rows, closure)] = True
    return truth


def _naming(graph: Graph, labels: Sequence[Sequence[str]]) -> dict[str, IntArray]:
    """The rows that carry each of the names which occur."""
    lengths = np.fromiter(map(len, labels), dtype=np.int64, count=len(labels))
    column = graph.column
    columns = np.fromiter((column[name] for names in labels for name in names), np.int64, int(lengths.sum()))
    order = np.argsort(columns, kind="stable")
    found, starts = np.unique(columns[order], return_index=True)
    rows = np.split(np.repeat(np.arange(len(labels)), lengths)[order], starts)[1:]
    return dict(zip((graph.nodes[one] for one in found), rows, strict=True))


def known_nodes(taxonomy: Taxonomy, truth: BoolArray, labels: Sequence[Sequence[str]]) -> BoolArray:
    """Where `truth` is to be believed, bool, shape (n_texts, n_nodes).

    A row may carry the name of a group whose children nobody looked at: then nothing is known of what
    stands below that group. Where the row names something there as well, a child is true, and all is known.
    """
    graph = taxonomy.graph
    known = np.ones(truth.shape, dtype=bool)
    naming = _naming(graph, labels)
    for group in graph.groups:
        if group in naming:
            named = naming[group]
            children = np.array([graph.column[child] for child in graph.children[group]])
            open_ones = named[~truth[np.ix_(named, children)].any(axis=1)]
            known[np.ix_(open_ones, _below(graph, group))] = False
    return known


def _below(graph: Graph, group: str) -> IntArray:
    below = [column for column, name in enumerate(graph.nodes) if group in graph.ancestors(name)]
    return np.array(below, dtype=np.int64)


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
        if self.taxonomy.is_always_visited(group):
            for parent in self.taxonomy.graph.parents[group]:
                reached |= self.reaching(parent)
        return reached

    def targets(self, group: str) -> BoolArray:
        """Which scored children each row has, bool, shape (n_texts, n_children)."""
        columns = [self.taxonomy.graph.column[child] for child in self.taxonomy.scored_children(group)]
        return self.truth[:, columns]

    def taught(self, group: str) -> BoolArray:
        """The rows whose children at `group` are known, bool, shape (n_texts,)."""
        columns = [self.taxonomy.graph.column[child] for child in self.taxonomy.scored_children(group)]
        return np.asarray(self.known[:, columns].all(axis=1))

    def rows(self, group: str, negatives: str) -> IntArray:
        """Positions of the rows that `group` learns from: those that reach it, or (``all``) every row."""
        wanted = self.taught(group) if negatives == "all" else self.taught(group) & self.reaching(group)
        return np.flatnonzero(wanted).astype(np.int64)

    def problem(self, group: str, rows: IntArray, seed: int) -> NodeProblem:
        """What `group` has to learn from these rows."""
        return NodeProblem(
            children=tuple(map(self.taxonomy.last_name, self.taxonomy.scored_children(group))),
            texts=self.texts.take(rows),
            targets=self.targets(group)[rows],
            own=self.reaching(group)[rows],
            seed=seed,
            description=description_of(self.taxonomy, group),
        )


def description_of(taxonomy: Taxonomy, group: str) -> GroupDescription:
    """What a group and its children are about, each by its last name.

    Within a group that tells children apart, an answer in words is as short as can be, and a model is the
    same whether names are paths or not.
    """
    settings = taxonomy.groups[group]
    children = [taxonomy.node(name) for name in taxonomy.scored_children(group)]
    about = settings.description or taxonomy.description if group == ROOT else settings.description
    return GroupDescription(
        choose=settings.choose,
        task=": ".join(part for part in (settings.last_name, about) if part),
        descriptions={one.last_name: one.description for one in children if one.description},
        aliases={one.last_name: one.aliases for one in children if one.aliases},
    )
