"""Which rows have which node of a taxonomy: numbers of rows, node by node, as almost all cells are empty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a table of rows and columns.

    Attributes
    ----------
    n_rows
        How many rows the table has.
    starts
        int64, shape (n_columns + 1,): where the cells of each column begin.
    rows
        int64, shape (n_cells,): the rows of the first column, ascending, then those of the next.
    """

    n_rows: int
    starts: IntArray
    rows: IntArray

    @classmethod
    def of_columns(cls, n_rows: int, columns: Iterable[IntArray]) -> Cells:
        """The rows of each column, ascending."""
        found = [np.empty(0, dtype=np.int64), *columns]
        lengths = np.fromiter(map(len, found), np.int64, len(found))
        return cls(n_rows, np.cumsum(lengths), np.concatenate(found))

    @property
    def n_columns(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def columns(self) -> IntArray:
        """The column of each cell, int64, shape (n_cells,)."""
        return np.repeat(np.arange(self.n_columns), np.diff(self.starts))

    def of(self, column: int) -> IntArray:
        """The rows of a column, ascending."""
        return self.rows[self.starts[column] : self.starts[column + 1]]

    def has(self, column: int) -> BoolArray:
        """Which rows have a column, bool, shape (n_rows,)."""
        found = np.zeros(self.n_rows, dtype=bool)
        found[self.of(column)] = True
        return found

    def dense(self, columns: Sequence[int] | None = None) -> BoolArray:
        """The cells of some columns, or of all, as bool, shape (n_rows, n_columns)."""
        wanted = range(self.n_columns) if columns is None else columns
        found = np.zeros((self.n_rows, len(wanted)), dtype=bool)
        for place, column in enumerate(wanted):
            found[self.of(column), place] = True
        return found

    def take(self, rows: IntArray) -> Cells:
        """The rows at these positions, which ascend."""
        if len(rows) == self.n_rows:
            return self
        place = np.full(self.n_rows, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        moved = place[self.rows]
        kept = moved >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        return Cells(len(rows), ends, moved[kept])

    def only(self, columns: Sequence[int]) -> Cells:
        """These columns alone, in this order."""
        return Cells.of_columns(self.n_rows, (self.of(column) for column in columns))

    def without(self, other: Cells) -> Cells:
        """The cells that the `other` table, of the same shape, does not have."""
        if not len(other.rows):
            return self
        numbers, gone = (one.columns * self.n_rows + one.rows for one in (self, other))
        kept = ~np.isin(numbers, gone, assume_unique=True)
        ends = np.concatenate([[0], np.cumsum(kept)])[self.starts]
        return Cells(self.n_rows, ends, self.rows[kept])


def true_cells(graph: Graph, labels: Sequence[Sequence[str]]) -> Cells:
    """Labels and all of their ancestors, a column for each of `Graph.nodes`; KeyError for an unknown name."""
    found: dict[int, list[IntArray]] = {}
    for name, rows in naming(graph, labels).items():
        for one in graph.closure([name]):
            found.setdefault(graph.column[one], []).append(rows)
    return _joined(graph, len(labels), found)


def unknown_cells(taxonomy: Taxonomy, truth: Cells, labels: Sequence[Sequence[str]]) -> Cells:
    """Where `truth` is not to be believed, which is almost nowhere.

    A row may carry the name of a group whose children nobody looked at: then nothing is known of what
    stands below that group. Where the row names something there as well, a child is true, and all is known.
    """
    graph = taxonomy.graph
    named = naming(graph, labels)
    found: dict[int, list[IntArray]] = {}
    for group in graph.groups:
        if group in named:
            children = [truth.of(graph.column[child]) for child in graph.children[group]]
            open_ones = np.setdiff1d(named[group], np.concatenate(children))
            for column in _below(graph, group) if len(open_ones) else ():
                found.setdefault(column, []).append(open_ones)
    return _joined(graph, len(labels), found)


def naming(graph: Graph, labels: Sequence[Sequence[str]]) -> dict[str, IntArray]:
    """The rows that carry each of the names which occur, ascending."""
    lengths = np.fromiter(map(len, labels), dtype=np.int64, count=len(labels))
    column = graph.column
    columns = np.fromiter((column[name] for names in labels for name in names), np.int64, int(lengths.sum()))
    order = np.argsort(columns, kind="stable")
    found, starts = np.unique(columns[order], return_index=True)
    rows = np.split(np.repeat(np.arange(len(labels)), lengths)[order], starts)[1:]
    return dict(zip((graph.nodes[one] for one in found), rows, strict=True))


def _joined(graph: Graph, n_rows: int, found: dict[int, list[IntArray]]) -> Cells:
    nothing = [np.empty(0, dtype=np.int64)]
    columns = (found.get(column, nothing) for column in range(len(graph.nodes)))
    return Cells.of_columns(n_rows, (np.unique(np.concatenate(rows)) for rows in columns))


def _below(graph: Graph, group: str) -> list[int]:
    return [column for column, name in enumerate(graph.nodes) if group in graph.ancestors(name)]
