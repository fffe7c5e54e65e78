"""Rows to what each group learns from: who reaches it, who has which child, who serves as a negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.learn.truth import Cells, true_cells, unknown_cells
from cascade.model.descriptions import description_of
from cascade.nodes.contract import NodeProblem
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.text.texts import Texts

# From here on models have to be small, or they would be larger than what they learn from.
MANY_LABELS = 2_000


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
        The rows of each node, labels and all their ancestors; columns as in `Graph.nodes`.
    unknown
        The rows of each node at which `truth` is not to be believed.
    extra
        bool, shape (n_texts,): the rows that another model labelled, see `NodeProblem`; None for none.
    weights
        float32, shape (n_texts,), above 0: what an error at each row counts for; None for 1 each.
    """

    taxonomy: Taxonomy
    texts: Texts
    truth: Cells
    unknown: Cells
    extra: BoolArray | None = None
    weights: FloatArray | None = None

    @classmethod
    def make(cls, taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Dataset:
        """The data set of these texts and the names that each carries."""
        truth = true_cells(taxonomy.graph, labels)
        return cls(taxonomy, Texts(texts), truth, unknown_cells(taxonomy, truth, labels))

    def reaching(self, group: str) -> BoolArray:
        """The rows that truly belong to a group, bool, shape (n_texts,)."""
        if group == ROOT:
            return np.ones(len(self.texts), dtype=bool)
        reached = self.truth.has(self.taxonomy.graph.column[group])
        if self.taxonomy.is_always_visited(group):
            for parent in self.taxonomy.graph.parents[group]:
                reached |= self.reaching(parent)
        return reached

    def targets(self, group: str) -> BoolArray:
        """Which scored children each row has, bool, shape (n_texts, n_children)."""
        return self.truth.dense(self._columns(group))

    def taught(self, group: str) -> BoolArray:
        """The rows whose children at `group` are known, bool, shape (n_texts,)."""
        taught = np.ones(len(self.texts), dtype=bool)
        for column in self._columns(group):
            taught[self.unknown.of(column)] = False
        return taught

    def _columns(self, group: str) -> list[int]:
        return [self.taxonomy.graph.column[child] for child in self.taxonomy.scored_children(group)]

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
            small=len(self.taxonomy.labels) >= MANY_LABELS,
            extra=None if self.extra is None else self.extra[rows],
            weights=None if self.weights is None else self.weights[rows],
        )
