"""Path probabilities to chosen labels: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from cascade.model.contests import Contests, contest_of
from cascade.model.walk import Walked, cells
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Ranked:
    """Some nodes of each text, the most probable first, of equal ones the first in `Graph.nodes`.

    Attributes
    ----------
    n_texts
        How many texts, those with no node among them.
    rows
        int64, shape (n_cells,), ascending: the text that each cell belongs to.
    columns
        int64, shape (n_cells,): its node.
    paths
        float32, shape (n_cells,): its path probability.
    """

    n_texts: int
    rows: IntArray
    columns: IntArray
    paths: FloatArray

    @classmethod
    def of(cls, paths: FloatArray, shown: BoolArray) -> Ranked:
        """The `shown` cells, bool, of `paths`, both of shape (n_texts, n_nodes); visited ones only."""
        rows, columns = np.divmod(np.flatnonzero(shown), shown.shape[1])
        found = paths[rows, columns]
        # The bits of a float32 of at least 0, read as a whole number, keep its order: one sort for all texts.
        order = np.argsort((rows << 32) - found.view(np.int32), kind="stable")
        return cls(len(paths), rows, columns[order], found[order])

    def first(self, most: int) -> Ranked:
        """At most so many of each text."""
        place = np.arange(len(self.rows)) - np.searchsorted(self.rows, self.rows)
        return self.where(place < most)

    def where(self, kept: BoolArray) -> Ranked:
        """The `kept` cells, bool, shape (n_cells,)."""
        return Ranked(self.n_texts, self.rows[kept], self.columns[kept], self.paths[kept])

    def by_text(self, values: list[Value]) -> Iterator[list[Value]]:
        """One value for each cell, text by text."""
        ends = np.searchsorted(self.rows, np.arange(self.n_texts + 1)).tolist()
        return (values[start:end] for start, end in pairwise(ends))


def contenders(taxonomy: Taxonomy, paths: FloatArray, exclusive: Sequence[str] = ()) -> FloatArray:
    """`paths` with NaN wherever a better one rules a node out; float32, shape (n_texts, n_nodes).

    Of labels of an `exclusive` contest, see `contest_of`, only the most probable stays, of equal ones the
    first. At a group with ``choose: one`` only the most probable child stays, and with it what stands below;
    a child group that is always visited is beside the choice. A node with several parents stays while one
    that was visited lets it.
    """
    left = paths
    if _chooses(taxonomy):
        left = np.full(paths.shape, np.nan, dtype=np.float32)
        for block, let in _let_through_cells(taxonomy, paths):
            left[block] = np.fmax(left[block], let)
    if not exclusive:
        return left
    left, contests = left.copy(), contest_of(taxonomy)
    for name in exclusive:
        columns = [taxonomy.graph.column[label] for label, contest in contests.items() if contest == name]
        left[:, columns] = _best_child(left[:, columns], np.zeros(len(columns), dtype=bool))
    return left


def contending(taxonomy: Taxonomy, walked: Walked, exclusive: Sequence[str] = ()) -> Walked:
    """What `contenders` makes of the paths of a walk, without making one array of them."""
    left = _chosen_children(taxonomy, walked) if _chooses(taxonomy) else walked
    if not exclusive:
        return left
    contests = Contests(taxonomy)
    cells = contests.cells(left)
    values = cells.of({group: block.paths for group, block in left.blocks.items()})
    open_ones = [place for place, name in enumerate(contests.names) if name not in exclusive]
    free = np.isin(cells.contests % len(contests.names), open_ones)
    paths = {group: block.paths.copy() for group, block in left.blocks.items()}
    cells.put(np.where(free | cells.leads(values), values, np.float32(np.nan)), paths)
    return left.with_paths(paths)


def _chosen_children(taxonomy: Taxonomy, walked: Walked) -> Walked:

    def of(group: str, rows: IntArray) -> FloatArray:
        block = walked.blocks[group]
        return np.asarray(block.paths[np.searchsorted(block.rows, rows)])

    left = {
        group: np.full(block.paths.shape, np.nan, dtype=np.float32) for group, block in walked.blocks.items()
    }
    for group, rows, let in _let_through(taxonomy, walked.n_texts, of):
        left[group][np.searchsorted(walked.blocks[group].rows, rows)] = let
    return walked.with_paths(left)


def _chooses(taxonomy: Taxonomy) -> bool:
    return any(group.choose == "one" for group in taxonomy.groups.values())


def decide(
    taxonomy: Taxonomy, thresholds: Mapping[str, float], paths: FloatArray, exclusive: Sequence[str] = ()
) -> BoolArray:
    """What is answered for each text, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`.

    A label is chosen when it is among the `contenders` and its probability is at or above its threshold. A
    group with ``back_off`` is answered where it reaches its own threshold and nothing below it was chosen.
    What was not visited (NaN) is never chosen.
    """
    chosen: BoolArray = contenders(taxonomy, paths, exclusive) >= _least(taxonomy, thresholds)
    _back_off(taxonomy, chosen)
    return chosen


def _let_through_cells(taxonomy: Taxonomy, paths: FloatArray) -> Iterator[tuple[tuple[Any, ...], FloatArray]]:
    """Group by group, its children's cells (see `walk.cells`) and what stays of their path probabilities."""
    graph = taxonomy.graph

    def at(group: str, rows: IntArray) -> tuple[Any, ...]:
        return cells(rows, [graph.column[child] for child in graph.children[group]])

    for group, rows, let in _let_through(taxonomy, len(paths), lambda group, rows: paths[at(group, rows)]):
        yield at(group, rows), let


def _let_through(
    taxonomy: Taxonomy, n_texts: int, paths: Callable[[str, IntArray], FloatArray]
) -> Iterator[tuple[str, IntArray, FloatArray]]:
    """Group by group, the rows at which it was visited and stays, and what stays of its children's paths.

    The work grows with the groups that were entered, not with the taxonomy. `paths` gives those of a group's
    children at some rows, shape (n_rows, n_children), NaN where a child was not visited.
    """
    graph = taxonomy.graph
    inside = {ROOT: np.ones(n_texts, dtype=bool)}
    for group in graph.groups:
        rows = np.flatnonzero(inside.pop(group, False))
        if not len(rows):
            continue
        let = paths(group, rows)
        children = graph.children[group]
        if taxonomy.groups[group].choose == "one":
            let = _best_child(let, np.array([taxonomy.is_always_visited(child) for child in children]))
        for place, child in enumerate(children):
            if child in graph.children:
                stays = rows[~np.isnan(let[:, place])]
                if len(stays):
                    inside.setdefault(child, np.zeros(n_texts, dtype=bool))[stays] = True
        yield group, rows, let


def _best_child(paths: FloatArray, beside: BoolArray) -> FloatArray:
    """`paths` of siblings with NaN but for the first of the greatest of each row, and those `beside` it."""
    best = np.where(np.isnan(paths) | beside, -1, paths).argmax(axis=1)
    stays = (np.arange(paths.shape[1]) == best[:, None]) | beside
    return np.where(stays, paths, np.float32(np.nan))


def _least(taxonomy: Taxonomy, thresholds: Mapping[str, float]) -> FloatArray:
    """The least path probability at which each node can be chosen, float32, shape (n_nodes,)."""
    groups = taxonomy.graph.groups[1:]
    of_groups = [thresholds[group] if taxonomy.groups[group].back_off else np.inf for group in groups]
    return np.array([*of_groups, *(thresholds[label] for label in taxonomy.graph.labels)], dtype=np.float32)


def _back_off(taxonomy: Taxonomy, chosen: BoolArray) -> None:
    """Take back each group that has a chosen node below it."""
    graph, below = taxonomy.graph, _groups_below(taxonomy.graph)
    for group in graph.groups[1:]:
        column = graph.column[group]
        rows = np.flatnonzero(chosen[:, column])
        if len(rows):
            names = (*below[group], *graph.descendant_labels(group))
            chosen[rows, column] = ~chosen[cells(rows, [graph.column[name] for name in names])].any(axis=1)


def _groups_below(graph: Graph) -> dict[str, Sequence[str]]:
    """All groups below each group, at any depth."""
    found: dict[str, dict[str, None]] = {}
    for group in reversed(graph.groups):
        inner = [child for child in graph.children[group] if child in found]
        found[group] = dict.fromkeys([*inner, *(name for child in inner for name in found[child])])
    return {group: tuple(names) for group, names in found.items()}
