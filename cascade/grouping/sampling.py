"""Which rows are read of a label, and what its name counts for beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NAME_COUNTS_AS = 5
"""The name of a label counts as so many of its texts: much where rows are few, little where many."""


def rows_to_read(carried: Sequence[Sequence[int]], n_labels: int, most: int) -> list[int]:
    """Rows, drawn evenly, of which each label has up to `most`, in the order of the rows.

    Parameters
    ----------
    carried
        For each row the numbers of its labels.
    """
    room = np.full(n_labels, most)
    read = []
    for row in np.random.default_rng(0).permutation(len(carried)).tolist():
        own = list(carried[row])
        if own and room[own].max() > 0:
            room[own] -= 1
            read.append(row)
    return sorted(read)
