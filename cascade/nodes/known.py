"""How much of a text a linear model knows: the share of its weight that features in use have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.nodes.weighting import Weighting, place_of
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.text.features import DAMPED, INSIDE_WEIGHT, Bags
from cascade.text.hashing import BUCKETS_OF_EACH
from cascade.text.normal import is_mere_marks

FEW_FEATURES = 32


def known_shares(found: Bags, texts: Sequence[str], weighting: Weighting) -> FloatArray:
    """The share of each text's squared length that is of features in use, float32, (n_texts,), in [0, 1].

    0 for a text without features, and for one of punctuation alone, which says nothing however often it
    stood behind words.

    Parameters
    ----------
    found
        The features of `texts`.
    weighting
        Those in use and their weights.
    """
    shares = np.empty(len(found), dtype=np.float32)
    arrays = (found.starts, found.places, found.counts, found.left_out, found.buckets, found.rows)
    _shares(*arrays, weighting.slots, weighting.idf, weighting.rare, shares)
    return _but_marks(shares, found, texts)


def known_without_itself(found: Bags, texts: Sequence[str], least_rows: int) -> FloatArray:
    """The same of texts that were learned from, each by what all the others know together.

    A feature counts as known that `least_rows` of the others have.
    """
    frequency = np.zeros(len(found.buckets), dtype=np.int32)
    _count_texts(found.starts, found.places, found.rows, frequency)
    rare = float(np.log(1 + len(found)) + 1)
    idf = (np.log((1 + len(found)) / (1 + frequency)) + 1).astype(np.float32)
    shares = np.empty(len(found), dtype=np.float32)
    arrays = (found.starts, found.places, found.counts, found.left_out, found.buckets, found.rows)
    _shares_without_itself(*arrays, frequency, least_rows, idf, rare, shares)
    return _but_marks(shares, found, texts)


def _but_marks(shares: FloatArray, found: Bags, texts: Sequence[str]) -> FloatArray:
    """The shares, with 0 for texts of punctuation alone, which have few features."""
    n_features = found.starts[found.rows + 1] - found.starts[found.rows]
    for row in np.flatnonzero((n_features <= FEW_FEATURES) & (shares > 0)).tolist():
        if is_mere_marks(texts[row]):
            shares[row] = 0
    return shares


@kernel
def _count_texts(
    starts: IntArray, places: NDArray[np.int32], rows: IntArray, frequency: NDArray[np.int32]
) -> None:
    """Add to `frequency` how many texts have each feature."""
    for text in rows:
        for occurrence in range(starts[text], starts[text + 1]):
            frequency[places[occurrence]] += 1


@kernel
def _shares(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    buckets: NDArray[np.int32],
    rows: IntArray,
    slots: NDArray[np.int32],
    idf: FloatArray,
    rare: float,
    shares: FloatArray,
) -> None:
    for row in range(len(rows)):
        text = rows[row]
        known, unknown = 0.0, left_out[text] * rare * rare
        for occurrence in range(starts[text], starts[text + 1]):
            column = buckets[places[occurrence]]
            feature = place_of(column, slots)
            value = DAMPED[counts[occurrence]]
            if feature >= 0:
                value *= idf[feature]
                known += value * value
            else:
                value *= rare * (INSIDE_WEIGHT if column >= BUCKETS_OF_EACH else np.float32(1))
                unknown += value * value
        shares[row] = known / (known + unknown) if known > 0 else 0


@kernel
def _shares_without_itself(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    buckets: NDArray[np.int32],
    rows: IntArray,
    frequency: NDArray[np.int32],
    least_rows: int,
    idf: FloatArray,
    rare: float,
    shares: FloatArray,
) -> None:
    for row in range(len(rows)):
        text = rows[row]
        known, unknown = 0.0, left_out[text] * rare * rare
        for occurrence in range(starts[text], starts[text + 1]):
            place = places[occurrence]
            value = DAMPED[counts[occurrence]]
            value *= INSIDE_WEIGHT if buckets[place] >= BUCKETS_OF_EACH else np.float32(1)
            if frequency[place] > least_rows:
                value *= idf[place]
                known += value * value
            else:
                value *= rare
                unknown += value * value
        shares[row] = known / (known + unknown) if known > 0 else 0
