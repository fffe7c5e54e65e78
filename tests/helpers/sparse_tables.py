"""Arrays as the tables that figures are made of, for tests that write theirs down cell by cell."""

from __future__ import annotations

from functools import wraps

import numpy as np
from scipy.sparse import csr_array

from cascade.measure.known_cells import KnownCells, Predictions


def table(array):
    """Flags of bool, else scores: NaN was not visited, and 0 was."""
    rows, columns = np.nonzero(array if array.dtype == bool else ~np.isnan(array))
    starts = np.searchsorted(rows, np.arange(len(array) + 1))
    return csr_array((array[rows, columns], columns, starts), shape=array.shape)


def of_arrays(figure):
    """The figure, of arrays."""

    @wraps(figure)
    def of(*given, **named):
        return figure(*(table(one) if isinstance(one, np.ndarray) else one for one in given), **named)

    return of


def predictions(paths, chosen):
    """What a walk says, of arrays."""
    return Predictions(table(paths), table(chosen))


def known_cells(graph, truth, scored, oracle, *, always=frozenset()):
    """What is known where `truth`, an array, is so."""
    return KnownCells.of(graph, table(truth), scored, oracle, always=always)
