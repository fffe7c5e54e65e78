"""The one traversal: texts in, path probabilities out, a level of groups at a time.

Who scores and who may enter are passed in, so that prediction, the out-of-fold pass of `fit` and the
oracle of `evaluate` walk the same way. All groups of a level are asked in one call: a hosted backend can
then have all of their requests in flight together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.nodes.contract import RowsError
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph

if TYPE_CHECKING:
    from cascade.model.folder import Manifest

# Rows at which each group of one level is asked -> conditional scores (n_rows, n_children) of each group.
Score = Callable[[Mapping[str, IntArray]], Mapping[str, FloatArray]]
# A group and its path probability for each text -> the texts for which it is entered.
Enter = Callable[[str, FloatArray], BoolArray]


MOST_CELLS = 1 << 24
"""Cells of one walk's path probabilities, 64 MiB of them; wide taxonomies are walked in smaller batches."""


@dataclass(frozen=True)
class Walked:
    """What a walk saw.

    Attributes
    ----------
    paths
        float32, shape (n_texts, n_nodes), columns as in `Graph.nodes`: path probabilities in [0, 1]; NaN
        where a node was not visited, which is another thing than 0. A group is visited when it is entered.
    conditionals
        float32, shape (n_texts, n_edges), columns as in `edges`: P(child | the text belongs to the parent),
        NaN where the parent was not entered; None where no trace was asked for. With several parents they
        tell which way a path probability came, which `paths` alone does not.
    failed
        Why, by position, of texts that a service did not answer for: what their rows hold is not all.
    nothing_known
        bool, shape (n_texts,): texts of which the embedded models know too little to say anything, see
        `cascade.model.evidence`; None where there is none.
    """

    paths: FloatArray
    conditionals: FloatArray | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    nothing_known: BoolArray | None = None

    def whole(self) -> Walked:
        """The same walk; RowsError where it failed for some texts."""
        if self.failed:
            raise RowsError(self.paths, self.failed)
        return self

    def of(self, rows: IntArray) -> Walked:
        """The rows at these positions."""
        conditionals = None if self.conditionals is None else self.conditionals[rows]
        failed = {place: self.failed[row] for place, row in enumerate(rows.tolist()) if row in self.failed}
        nothing = None if self.nothing_known is None else self.nothing_known[rows]
        return Walked(self.paths[rows], conditionals, failed, nothing)


def batches(n_texts: int, graph: Graph, most_texts: int) -> Iterator[slice]:
    """Consecutive texts to be walked at once: `most_texts` at most, and `MOST_CELLS` if that is less."""
    step = max(1, min(most_texts, MOST_CELLS // len(graph.nodes)))
    return (slice(start, start + step) for start in range(0, n_texts, step))


def edges(graph: Graph) -> tuple[tuple[str, str], ...]:
    """All (parent, child) pairs, parents in the order of `Graph.groups`; the root is the empty name."""
    return tuple((group, child) for group in graph.groups for child in graph.children[group])


def levels(graph: Graph) -> list[list[str]]:
    """Groups by the length of their longest path from the root: all parents stand in earlier lists."""
    found: dict[int, list[str]] = {}
    for group in graph.groups:
        found.setdefault(graph.depth(group) if group != ROOT else 0, []).append(group)
    return [found[depth] for depth in sorted(found)]


def training_rows(taxonomy: Taxonomy, manifest: Manifest) -> dict[tuple[str, str], int]:
    """How many rows the model of each group learnt each of its children from, by group and child."""
    return {
        (group, child): rows
        for group, record in manifest.groups.items()
        for child, rows in zip(taxonomy.scored_children(group), record.positives, strict=True)
    }


def _never(_: str) -> bool:
    return False


def walk(
    taxonomy: Taxonomy,
    n_texts: int,
    score: Score,
    enter: Enter,
    *,
    trace: bool = False,
    is_marginal: Callable[[str], bool] = _never,
) -> Walked:
    """Path probabilities of `n_texts` texts, and the conditional scores on every edge if `trace`.

    The path probability of a child is its parent's times the conditional score; of several parents the
    greatest product counts (``combine: max``), or 1 - product(1 - each), capped at the greatest parent
    (``noisy_or``), so that a child is never above all of its parents. What comes from groups that learned
    from every row is P(child) each time, not one cause among several: of it the greatest counts, once.

    Parameters
    ----------
    taxonomy
        Gives the graph, ``route: always`` and ``combine``.
    n_texts
        How many texts; `score` knows them by position.
    score
        Conditional scores of the scored children, for the asked rows of each asked group.
    enter
        Called once for each group but the root, after all of its parents were scored, with its path
        probabilities, shape (n_texts,), NaN where no parent was entered; rows with NaN stay outside.
    is_marginal
        Whether a group learned from every row; called for each group after it was scored.
    """
    state = _State(taxonomy, n_texts, trace, is_marginal)
    for level in levels(taxonomy.graph):
        asked = {group: state.entered(group, enter) for group in level}
        scored = {group: taxonomy.scored_children(group) for group, rows in asked.items() if len(rows)}
        wanted = {group: asked[group] for group, children in scored.items() if children}
        answers = score(wanted) if wanted else {}
        for group, children in scored.items():
            rows = asked[group]
            found = answers[group] if children else np.empty((len(rows), 0), dtype=np.float32)
            state.arrive(group, rows, _with_certain(taxonomy.graph.children[group], children, found))
    return Walked(state.paths, state.conditionals)


def cells(rows: IntArray, columns: Sequence[int]) -> tuple[Any, ...]:
    """NumPy index of all cells in these rows and columns, shape (n_rows, n_columns).

    A slice of columns where they follow each other, as those of a group's labels mostly do: NumPy copies
    slices several times as fast as single cells.
    """
    if columns and list(columns) == list(range(columns[0], columns[0] + len(columns))):
        return rows, slice(columns[0], columns[0] + len(columns))
    return np.ix_(rows, np.asarray(columns, dtype=np.intp))


def _with_certain(children: Sequence[str], scored: Sequence[str], answers: FloatArray) -> FloatArray:
    """The `answers` for the `scored` children, with 1 for each of the others."""
    if len(scored) == len(children):
        return answers
    known = frozenset(scored)
    conditional = np.ones((len(answers), len(children)), dtype=np.float32)
    conditional[:, [child in known for child in children]] = answers
    return conditional


class _State:
    """The arrays of one walk while it goes on."""

    def __init__(
        self, taxonomy: Taxonomy, n_texts: int, trace: bool, is_marginal: Callable[[str], bool]
    ) -> None:
        self.taxonomy, self.graph, self.n_texts = taxonomy, taxonomy.graph, n_texts
        self.is_marginal = is_marginal
        self.first_edge: dict[str, int] = {}
        n_edges = 0
        for group in self.graph.groups:
            self.first_edge[group] = n_edges
            n_edges += len(self.graph.children[group])
        self.paths = np.full((n_texts, len(self.graph.nodes)), np.nan, dtype=np.float32)
        self.conditionals = np.full((n_texts, n_edges), np.nan, dtype=np.float32) if trace else None
        self.either: dict[str, FloatArray] = {}
        self.ceiling: dict[str, FloatArray] = {}
        self.marginal: dict[str, FloatArray] = {}

    def of(self, group: str) -> FloatArray:
        """Path probability of a group for every text; 1 at the root."""
        if group == ROOT:
            return np.ones(self.n_texts, dtype=np.float32)
        return self.paths[:, self.graph.column[group]]

    def entered(self, group: str, enter: Enter) -> IntArray:
        """The rows for which `group` is entered."""
        if group == ROOT:
            return np.arange(self.n_texts, dtype=np.int64)
        path = self.of(group)
        inside = enter(group, path.copy()) & ~np.isnan(path)
        self.paths[~inside, self.graph.column[group]] = np.nan
        return np.flatnonzero(inside).astype(np.int64)

    def arrive(self, group: str, rows: IntArray, conditional: FloatArray) -> None:
        """Carry the conditional scores of one group's children into their path probabilities."""
        children = self.graph.children[group]
        if self.conditionals is not None:
            first = self.first_edge[group]
            self.conditionals[rows, first : first + len(children)] = conditional
        above = self.of(group)[rows]
        arriving = above[:, None] * conditional
        block = cells(rows, [self.graph.column[child] for child in children])
        self.paths[block] = np.fmax(self.paths[block], arriving)
        if self.taxonomy.combine == "noisy_or":
            self.join(group, rows, above, arriving)

    def join(self, group: str, rows: IntArray, above: FloatArray, arriving: FloatArray) -> None:
        """Put what arrives at each child with several parents beside what came before."""
        for child, product in zip(self.graph.children[group], arriving.T, strict=True):
            if len(self.graph.parents[child]) == 1:
                continue
            # Both are kept apart until the last parent: capping on the way would make their order matter.
            either, highest, marginal = (
                kept.setdefault(child, np.zeros(self.n_texts, dtype=np.float32))
                for kept in (self.either, self.ceiling, self.marginal)
            )
            if self.is_marginal(group):
                marginal[rows] = np.maximum(marginal[rows], product)
            else:
                either[rows] += product * (1 - either[rows])
                highest[rows] = np.maximum(highest[rows], above)
            joined = np.minimum(either[rows], highest[rows])
            self.paths[rows, self.graph.column[child]] = np.maximum(joined, marginal[rows])
