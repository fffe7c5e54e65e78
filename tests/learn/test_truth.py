"""Tables of cells beside the same tables as arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.learn.truth import Cells


@st.composite
def tables(draw):
    """Two tables of one shape, and some of their rows."""
    n_rows, n_columns = draw(st.integers(0, 7)), draw(st.integers(0, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    one, other = (random.random((n_rows, n_columns)) < 0.4 for _ in range(2))
    return one, other, np.flatnonzero(random.random(n_rows) < 0.6)


def cells_of(table):
    return Cells.of_columns(len(table), (np.flatnonzero(column) for column in table.T))


@given(tables())
@settings(deadline=None, derandomize=True, max_examples=200)
def test_cells_are_what_the_table_has(found):
    table, other, rows = found
    cells = cells_of(table)
    assert cells.n_columns == table.shape[1]
    np.testing.assert_array_equal(cells.dense(), table)
    np.testing.assert_array_equal(cells.take(rows).dense(), table[rows])
    np.testing.assert_array_equal(cells.without(cells_of(other)).dense(), table & ~other)
    columns = list(range(table.shape[1]))[::-2]
    np.testing.assert_array_equal(cells.only(columns).dense(), table[:, columns])
    np.testing.assert_array_equal(cells.dense(columns), table[:, columns])
    for column in range(table.shape[1]):
        np.testing.assert_array_equal(cells.has(column), table[:, column])
    np.testing.assert_array_equal(np.sort(cells.columns), np.sort(np.nonzero(table)[1]))
