"""Tables of rows and nodes of which few cells are there: what is true or chosen, and what was visited.

All are `csr_array`s of SciPy whose columns ascend in each row. *Flags* are bool, and have the cells that are
True. *Scores* are float32, and have the cells that were visited, some with a probability of 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array, vstack

from cascade.learn.truth import Cells
from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray, IntArray

# SciPy tells no types.
Flags = Any
Scores = Any

# So many are decided at once, which takes one array of them and all nodes.
_TEXTS_AT_ONCE = 1000
# So many cells of a walk are put into a table at once: on the way each takes thrice its place.
_CELLS_AT_ONCE = 1 << 22


def flags_at(rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> Flags:
    """These cells, each given once, in any order."""
    found = csr_array((np.ones(len(rows), dtype=np.bool_), (rows, columns)), shape=shape)
    found.sort_indices()
    return found


def flags_of(cells: Cells) -> Flags:
    """The same cells."""
    flags = np.ones(len(cells.rows), dtype=np.bool_)
    return csc_array((flags, cells.rows, cells.starts), shape=(cells.n_rows, cells.n_columns)).tocsr()


def scores_of(walked: Walked, at_once: int = _CELLS_AT_ONCE) -> Scores:
    """Path probabilities of all nodes that were visited, shape (n_texts, n_nodes).

    About so many cells are put together `at_once`, which bounds what it takes beside the table.
    """
    n_cells = sum(block.paths.size for block in walked.blocks.values())
    n_parts = max(1, min(len(walked), -(-n_cells // at_once)))
    if n_parts == 1:
        return _scores(walked)
    ends = np.linspace(0, len(walked), n_parts + 1).astype(np.int64)
    return vstack([_scores(walked.of(np.arange(*part))) for part in pairwise(ends)], format="csr")


def _scores(walked: Walked) -> Scores:
    found = [walked.node(name) for name in walked.graph.nodes]
    starts = np.cumsum([0, *(len(rows) for rows, _ in found)])
    rows, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return csc_array((values, rows, starts), shape=(len(walked), len(found))).tocsr()


def decided(walked: Walked, decide: Callable[[Walked], BoolArray]) -> Flags:
    """What `decide`, which is asked for some at a time, answers for all texts: shape (n_texts, n_nodes)."""
    parts = (csr_array(decide(part)) for _, part in walked.slices(_TEXTS_AT_ONCE))
    nothing = csr_array((0, len(walked.graph.nodes)), dtype=np.bool_)
    return vstack([nothing, *parts], format="csr")


def visited(scores: Scores) -> Flags:
    """Where there are scores."""
    flags = np.ones(scores.nnz, dtype=np.bool_)
    return csr_array((flags, scores.indices, scores.indptr), shape=scores.shape)


def both(flags: Flags, others: Flags) -> Flags:
    """The cells that are in both."""
    return flags.multiply(others)


def without(flags: Flags, others: Flags) -> Flags:
    """The cells of the first that are not in the second."""
    return flags > others


def joined(flags: Flags, weights: Flags) -> Flags:
    """For each row of flags, in which rows of `weights` its columns have any: the product of two tables."""
    found = flags @ weights
    found.sort_indices()
    return found


def only(table: Any, kept: BoolArray) -> Any:
    """The cells that are `kept`, bool, shape (n_cells,), of flags or of scores."""
    starts = np.concatenate([[0], np.cumsum(kept)])[table.indptr]
    return csr_array((table.data[kept], table.indices[kept], starts), shape=table.shape)


def rows_and_columns(table: Any) -> tuple[IntArray, IntArray]:
    """Where the cells are, each int64, shape (n_cells,), row by row."""
    return np.repeat(np.arange(table.shape[0]), by_row(table)), table.indices.astype(np.int64)


def by_row(table: Any) -> IntArray:
    """How many cells each row has."""
    found: IntArray = np.diff(table.indptr)
    return found


def by_column(table: Any) -> IntArray:
    """How many cells each column has."""
    return np.bincount(table.indices, minlength=table.shape[1])


def columns_in(table: Any, row: int) -> IntArray:
    """The columns of a row's cells, ascending."""
    found: IntArray = table.indices[table.indptr[row] : table.indptr[row + 1]]
    return found


def rows_in(table: Any, column: int) -> IntArray:
    """The rows of a column's cells, ascending, of a table by columns, as its `tocsc` gives it."""
    found: IntArray = table.indices[table.indptr[column] : table.indptr[column + 1]]
    return found


def scores_in(scores: Scores, row: int) -> dict[int, float]:
    """The scores of a row by column."""
    found = scores.data[scores.indptr[row] : scores.indptr[row + 1]]
    return dict(zip(columns_in(scores, row).tolist(), found.tolist(), strict=True))


def are_in(table: Any, flags: Flags) -> BoolArray:
    """Which cells of a table are among some flags, bool, shape (n_cells,)."""
    places, found = _places(table, *rows_and_columns(flags))
    inside = np.zeros(table.nnz, dtype=np.bool_)
    inside[places[found]] = True
    return inside


def has(table: Any, rows: IntArray, columns: IntArray) -> BoolArray:
    """Which of some cells a table has."""
    return _places(table, rows, columns)[1]


def values_at(table: Any, rows: IntArray, columns: IntArray) -> Any:
    """What stands in some cells of a table, 0 where it has none."""
    places, found = _places(table, rows, columns)
    return np.where(found, np.append(table.data, table.dtype.type(0))[places], table.dtype.type(0))


def _places(table: Any, rows: IntArray, columns: IntArray) -> tuple[IntArray, BoolArray]:
    """Where among the cells of a table some others stand or would, and whether they do.

    By halving what is left of each cell's row: few cells are sought among many.
    """
    places, ends = (table.indptr[at].astype(np.int64) for at in (rows, rows + 1))
    last = ends.copy()
    own = np.append(table.indices, -1)
    while (places < last).any():
        middle = (places + last) // 2
        is_before = (places < last) & (own[middle] < columns)
        places, last = np.where(is_before, middle + 1, places), np.where(is_before, last, middle)
    return places, (places < ends) & (own[places] == columns)
