"""What labels mean: the mean of the vectors that an encoder gives to their texts and their names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.grouping.sampling import NAME_COUNTS_AS, rows_to_read
from cascade.grouping.words import spelt_out

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Gives each text a vector, shape (n_texts, dims), zeros where nothing is known of it."""

TEXTS_READ = 32
"""With more texts of a label proposals were no more like the groups of people; this bounds the time."""
WEIGHT = 2.0
"""The vector of meaning counts for so many times that of words.

The adjusted mutual information of proposed groups with those of people is .30 by words alone, and .41, .42,
.42 and .40 with weights of 1, 1.4, 2 and 3 of `minilm`; where the number of groups is given it is .27, and
.40, .42, .45 and .42. Means over training rows of CLINC150, GoEmotions, NLU++, US bills and our own data,
with none to 100 rows of a label: `tests/benchmarks/proposals.py`.
"""


def label_meanings(
    names: Sequence[str], texts: Sequence[str], carried: Sequence[Sequence[int]], encode: Encode
) -> NDArray[np.float64]:
    """The mean vectors of labels about that of them all, of unit length; float64, shape (n_labels, dims).

    Zeros for a label of whose name and texts nothing is known.

    Parameters
    ----------
    carried
        For each text the places in `names` of the labels that it has.
    """
    from sklearn.preprocessing import normalize

    read = rows_to_read(carried, len(names), TEXTS_READ)
    vectors = encode([*(texts[row] for row in read), *map(spelt_out, names)]).astype(np.float64)
    sums = NAME_COUNTS_AS * vectors[len(read) :]
    for row, vector in zip(read, vectors, strict=False):
        sums[list(carried[row])] += vector
    known = np.flatnonzero(np.any(sums != 0, axis=1))
    if len(known):
        means = normalize(sums[known])
        sums[known] = normalize(means - means.mean(axis=0))
    return np.asarray(sums)
