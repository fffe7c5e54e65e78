"""The one traversal: texts in, path probabilities out, a level of groups at a time.

Who scores and who may enter are passed in, so that prediction, the out-of-fold pass of `fit` and the
oracle of `evaluate` walk the same way. All groups of a level are asked in one call: a hosted backend can
then have all of their requests in flight together.

What comes out grows with the groups that were entered, not with texts times nodes: see `Walked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cascade.nodes.contract import RowsError
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph

if TYPE_CHECKING:
    from cascade.model.folder import Manifest

# Rows at which each group of one level is asked -> conditional scores (n_rows, n_children) of each group.
Score = Callable[[Mapping[str, IntArray]], Mapping[str, FloatArray]]
# A group, the texts that reached a parent of it, and its path probability there -> which of them enter it.
Enter = Callable[[str, IntArray, FloatArray], BoolArray]


MOST_CELLS = 1 << 24
"""Cells of one walk's path probabilities, 64 MiB of them; wide taxonomies are walked in smaller batches."""


@dataclass(frozen=True)
class Block:
    """A group that was entered, with the texts that entered it.

    Attributes
    ----------
    rows
        int64, shape (n_rows,), ascending: the texts.
    above
        float32, shape (n_rows,): path probability of the group.
    conditionals
        float32, shape (n_rows, n_children), columns as in `Graph.children`: P(child | the text belongs to the
        group). With several parents they tell which way a path probability came.
    paths
        float32, of the same shape: path probabilities of the children, whatever way they came; NaN for a
        child group that was not entered. One of several parents stands alike in the blocks of all of them.
    seconds
        float32, of the same shape: calibrated scores of the group's second model, NaN of children that it
        does not score; None where there is no such model.
    """

    rows: IntArray
    above: FloatArray
    conditionals: FloatArray
    paths: FloatArray
    seconds: FloatArray | None = None

    def of(self, kept: Any, rows: IntArray) -> Block:
        """The `kept` rows, a mask or a slice, as the texts `rows`."""
        seconds = None if self.seconds is None else self.seconds[kept]
        return Block(rows, self.above[kept], self.conditionals[kept], self.paths[kept], seconds)


@dataclass(frozen=True)
class Checked:
    """Labels of texts that were asked about again.

    Attributes
    ----------
    rows, columns
        int64, shape (n_cells,), rows ascending: texts, and labels as in `Graph.nodes`.
    rivals
        int64, shape (n_cells,): what each was held against, -1 for nothing.
    before, after
        float32, shape (n_cells,): their probabilities.
    answers
        float32, shape (n_cells,): the probability of yes, NaN where there was no answer.
    """

    rows: IntArray
    columns: IntArray
    rivals: IntArray
    before: FloatArray
    answers: FloatArray
    after: FloatArray

    def by_cell(self) -> dict[tuple[int, int], tuple[int, float, float]]:
        """The rival, the probability before and the answer, by text and column."""
        cells = zip(self.rows.tolist(), self.columns.tolist(), strict=True)
        values = zip(self.rivals.tolist(), self.before.tolist(), self.answers.tolist(), strict=True)
        return dict(zip(cells, values, strict=True))

    def of(self, rows: IntArray) -> Checked:
        """Those of the texts at these positions, which ascend."""
        kept = np.isin(self.rows, rows)
        own = (getattr(self, one.name)[kept] for one in fields(self))
        return replace(Checked(*own), rows=np.searchsorted(rows, self.rows[kept]))


@dataclass(frozen=True)
class Walked:
    """What a walk saw, group by group.

    Attributes
    ----------
    graph
        What was walked.
    n_texts
        How many texts.
    blocks
        The groups that were entered by any text, parents first.
    failed
        Why, by position, of texts that a service did not answer for: what their rows hold is not all.
    before
        Where the paths of the blocks are combined probabilities: the walk with path probabilities.
    nothing_known
        bool, shape (n_texts,): texts of which the embedded models know too little to say anything, see
        `cascade.model.evidence`; None where there is none.
    answered_by
        int8, shape (n_texts,): which look answered, 0 the first, see `cascade.model.looks`; None where there
        was one look only.
    checked
        What was asked about again, and is in the paths of the blocks; None where that is nobody's task.
    """

    graph: Graph
    n_texts: int
    blocks: Mapping[str, Block]
    failed: Mapping[int, str] = field(default_factory=dict)
    before: Walked | None = None
    nothing_known: BoolArray | None = None
    answered_by: NDArray[np.int8] | None = None
    checked: Checked | None = None

    def __len__(self) -> int:
        return self.n_texts

    @cached_property
    def paths(self) -> FloatArray:
        """Path probabilities in [0, 1], float32, shape (n_texts, n_nodes), columns as in `Graph.nodes`.

        NaN where a node was not visited, which is another thing than 0. A group is visited when it is
        entered. It is for some texts: that of many texts and many nodes is larger than all else.
        """
        return self.dense({group: block.paths for group, block in self.blocks.items()})

    @cached_property
    def conditionals(self) -> FloatArray:
        """P(child | the text belongs to the parent), float32, shape (n_texts, n_edges).

        Columns as in `edges`; NaN where the parent was not entered.
        """
        return self._of_edges({group: block.conditionals for group, block in self.blocks.items()})

    @cached_property
    def seconds(self) -> FloatArray:
        """Scores of second models, of the same shape; NaN where there are none."""
        blocks = self.blocks.items()
        return self._of_edges({group: own.seconds for group, own in blocks if own.seconds is not None})

    def _of_edges(self, values: Mapping[str, FloatArray]) -> FloatArray:
        found = np.full((self.n_texts, len(edges(self.graph))), np.nan, dtype=np.float32)
        first = 0
        for group in self.graph.groups:
            last = first + len(self.graph.children[group])
            if group in values:
                found[self.blocks[group].rows, first:last] = values[group]
            first = last
        return found

    def dense(self, values: Mapping[str, FloatArray]) -> FloatArray:
        """Values of the cells of each block as one array (n_texts, n_nodes), NaN where there are none.

        Of a node with several parents the greatest stays.
        """
        found = np.full((self.n_texts, len(self.graph.nodes)), np.nan, dtype=np.float32)
        for group, own in values.items():
            block = cells(
                self.blocks[group].rows, [self.graph.column[child] for child in self.graph.children[group]]
            )
            found[block] = own if self.is_tree else np.fmax(found[block], own)
        return found

    @cached_property
    def is_tree(self) -> bool:
        """Whether no node has several parents."""
        return all(len(parents) < 2 for parents in self.graph.parents.values())

    def node(self, name: str) -> tuple[IntArray, FloatArray]:
        """The texts at which a node was visited, int64, ascending, and its path probability at each."""
        ways = [
            (parent, self.blocks[parent], self._places[parent, name])
            for parent in self.graph.parents[name]
            if parent in self.blocks
        ]
        if not ways:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        rows, values = ways[0][1].rows, ways[0][1].paths[:, ways[0][2]]
        if len(ways) > 1:
            rows = union(block.rows for _, block, _ in ways)
            values = _greatest(rows, ways)
        visited = ~np.isnan(values)
        return rows[visited], values[visited]

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        """Where each child stands among those of a parent."""
        return {
            (group, child): at for group in self.blocks for at, child in enumerate(self.graph.children[group])
        }

    def with_paths(self, paths: Mapping[str, FloatArray], before: Walked | None = None) -> Walked:
        """The same walk with other probabilities in the blocks of some groups, and what it was `before`."""
        changed = {group: replace(self.blocks[group], paths=own) for group, own in paths.items()}
        return replace(self, blocks={**self.blocks, **changed}, before=before or self.before)

    def whole(self) -> Walked:
        """The same walk; RowsError where it failed for some texts."""
        if self.failed:
            raise RowsError(self.paths, self.failed)
        return self

    def of(self, rows: IntArray) -> Walked:
        """The texts at these positions, which ascend."""
        failed = {place: self.failed[row] for place, row in enumerate(rows.tolist()) if row in self.failed}
        found = ((group, _rows_of(block, rows)) for group, block in self.blocks.items())
        blocks = {group: block for group, block in found if len(block.rows)}
        before = None if self.before is None else self.before.of(rows)
        nothing = None if self.nothing_known is None else self.nothing_known[rows]
        answered_by = None if self.answered_by is None else self.answered_by[rows]
        checked = None if self.checked is None else self.checked.of(rows)
        return Walked(self.graph, len(rows), blocks, failed, before, nothing, answered_by, checked)

    @property
    def by_first(self) -> BoolArray | None:
        """Texts that the first look answered, bool, shape (n_texts,); None where there was one look only."""
        return None if self.answered_by is None else self.answered_by == 0

    def slices(self, most_texts: int) -> Iterator[tuple[slice, Walked]]:
        """Consecutive texts, as in `batches`, with the walk of each."""
        for texts in batches(self.n_texts, self.graph, most_texts):
            yield texts, self.of(np.arange(texts.start, min(texts.stop, self.n_texts)))


def _rows_of(block: Block, rows: IntArray) -> Block:
    """The part of a block at these texts, as positions in `rows`."""
    if len(rows) and len(rows) == rows[-1] + 1 - rows[0]:
        between = slice(*np.searchsorted(block.rows, (rows[0], rows[-1] + 1)).tolist())
        return block.of(between, block.rows[between] - rows[0])
    kept = np.isin(block.rows, rows, assume_unique=True)
    return block.of(kept, np.searchsorted(rows, block.rows[kept]))


def union(rows: Iterator[IntArray]) -> IntArray:
    """All that stand in any of them, int64, ascending."""
    return np.unique(np.concatenate(list(rows)))


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
    is_marginal: Callable[[str], bool] = _never,
) -> Walked:
    """Path probabilities of `n_texts` texts.

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
        Called once for each group but the root, after all of its parents were scored, with the texts at which
        any of them was entered, and its path probability at each; it answers a bool for each.
    is_marginal
        Whether a group learned from every row; called for each group after it was scored.
    """
    state = _State(taxonomy, n_texts, is_marginal)
    for level in levels(taxonomy.graph):
        entered = {group: state.entered(group, enter) for group in level}
        scored = {group: taxonomy.scored_children(group) for group, (rows, _) in entered.items() if len(rows)}
        wanted = {group: entered[group][0] for group, children in scored.items() if children}
        answers = score(wanted) if wanted else {}
        for group, children in scored.items():
            rows, above = entered[group]
            found = answers[group] if children else np.empty((len(rows), 0), dtype=np.float32)
            state.arrive(group, rows, above, _with_certain(taxonomy.graph.children[group], children, found))
    return state.walked()


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
    """The blocks of one walk while it goes on."""

    def __init__(self, taxonomy: Taxonomy, n_texts: int, is_marginal: Callable[[str], bool]) -> None:
        self.taxonomy, self.graph, self.n_texts = taxonomy, taxonomy.graph, n_texts
        self.is_marginal = is_marginal
        self.blocks: dict[str, Block] = {}
        self.marginal: set[str] = set()

    def entered(self, group: str, enter: Enter) -> tuple[IntArray, FloatArray]:
        """The texts for which `group` is entered, and its path probability at each; 1 at the root."""
        if group == ROOT:
            return np.arange(self.n_texts, dtype=np.int64), np.ones(self.n_texts, dtype=np.float32)
        rows, path = self.arrived(group)
        inside = enter(group, rows, path)
        rows, path = rows[inside], path[inside]
        self.put(group, rows, path)
        return rows, path

    def arrive(self, group: str, rows: IntArray, above: FloatArray, conditional: FloatArray) -> None:
        """Take in the conditional scores of one group's children."""
        self.blocks[group] = Block(rows, above, conditional, above[:, None] * conditional)
        if self.is_marginal(group):
            self.marginal.add(group)

    def walked(self) -> Walked:
        for label in self.graph.labels:
            if len(self.graph.parents[label]) > 1:
                self.put(label, *self.arrived(label))
        return Walked(self.graph, self.n_texts, self.blocks)

    def ways(self, name: str) -> list[tuple[str, Block, int]]:
        """The parents of a node that were entered, in the order in which they were, and its place in each."""
        parents = self.graph.parents[name]
        among = parents if len(parents) == 1 else self.blocks
        return [
            (group, self.blocks[group], self.graph.children[group].index(name))
            for group in among
            if group in parents and group in self.blocks
        ]

    def arrived(self, name: str) -> tuple[IntArray, FloatArray]:
        """The texts at which a parent of a node was entered, and the node's path probability at each."""
        ways = self.ways(name)
        if not ways:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        rows, path = ways[0][1].rows, ways[0][1].paths[:, ways[0][2]]
        if len(ways) > 1:
            rows = union(block.rows for _, block, _ in ways)
            path = (self.joined if self.taxonomy.combine == "noisy_or" else _greatest)(rows, ways)
        answered = ~np.isnan(path)  # what a service left open is not visited
        return rows[answered], path[answered]

    def joined(self, rows: IntArray, ways: Sequence[tuple[str, Block, int]]) -> FloatArray:
        """What comes to these texts by several parents, under ``noisy_or``."""
        either, highest, marginal = (np.zeros(len(rows), dtype=np.float32) for _ in range(3))
        for group, block, column in ways:
            at, product = np.searchsorted(rows, block.rows), block.paths[:, column]
            if group in self.marginal:
                marginal[at] = np.maximum(marginal[at], product)
            else:
                either[at] += product * (1 - either[at])
                highest[at] = np.maximum(highest[at], block.above)
        # Capping on the way would make the order of parents matter.
        return np.maximum(np.minimum(either, highest), marginal)

    def put(self, name: str, rows: IntArray, path: FloatArray) -> None:
        """Have all parents' blocks hold what a node came to; NaN at all other texts."""
        for _, block, column in self.ways(name):
            at = np.searchsorted(rows, block.rows)
            found = np.append(rows, -1)[at] == block.rows
            block.paths[:, column] = np.where(found, np.append(path, np.nan)[at], np.float32(np.nan))


def _greatest(rows: IntArray, ways: Sequence[tuple[str, Block, int]]) -> FloatArray:
    """What comes to these texts by several parents, under ``max``."""
    path = np.full(len(rows), np.nan, dtype=np.float32)
    for _, block, column in ways:
        at = np.searchsorted(rows, block.rows)
        path[at] = np.fmax(path[at], block.paths[:, column])
    return path
