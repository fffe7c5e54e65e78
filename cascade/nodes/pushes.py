"""What the features of one text push decision values by, word by word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.nodes.weighting import Weighting
from cascade.nodes.weights import Weights
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.text.features import DAMPED, INSIDE_WEIGHT
from cascade.text.hashing import BUCKETS_OF_EACH, MOST_COUNTED
from cascade.text.occurrences import Occurrences, occurrences_of
from cascade.text.texts import Texts


@dataclass(frozen=True, eq=False)
class Trace:
    """The features of a text, each once, and which words they lie in.

    Attributes
    ----------
    spans
        int64, shape (n_words, 2): where each word begins and ends in the text.
    columns, counts
        int32 and int64, shape (n_features,): hashed columns, and how often each occurs.
    words, owners, shares
        int64, int64 and float64, shape (n_parts,): a word, a feature by its place in `columns`, and what of
        the feature lies in the word; those of a feature sum up to 1.
    """

    spans: IntArray
    columns: NDArray[np.int32]
    counts: IntArray
    words: IntArray
    owners: IntArray
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, found: Occurrences) -> Trace:
        """Its occurrences have alike of a feature."""
        columns, owner, counts = np.unique(found.columns, return_inverse=True, return_counts=True)
        owners = owner[found.owners]
        return cls(found.spans, columns, counts, found.words, owners, found.shares / counts[owners])


def traces(texts: Texts, version: int) -> NDArray[np.object_]:
    """The trace of each text, computed once for all nodes that share the batch."""

    def compute(whole: Sequence[str]) -> NDArray[np.object_]:
        found = np.empty(len(whole), dtype=np.object_)
        for row, text in enumerate(whole):
            found[row] = Trace.of(occurrences_of(text, version))
        return found

    known: NDArray[np.object_] = texts.features(("traces", version), compute)
    return known


def pushes_of(trace: Trace, weighting: Weighting, weights: Weights, n_children: int) -> NDArray[np.float64]:
    """What each word adds to the margin of each child, shape (n_words, n_children)."""
    features = weighting.places(trace.columns)
    idf = weighting.rare * np.where(trace.columns >= BUCKETS_OF_EACH, INSIDE_WEIGHT, 1)
    idf[features >= 0] = weighting.idf[features[features >= 0]]
    idf[(features >= 0) & (features < weighting.n_common)] = 0
    values = DAMPED[np.minimum(trace.counts, MOST_COUNTED)] * idf
    values = values / (np.sqrt((values**2).sum()) or 1)
    found = np.zeros((len(trace.spans), n_children))
    each = values[trace.owners] * trace.shares
    of_parts = features[trace.owners]
    _add_pushes(trace.words, of_parts, each, weights.starts, weights.columns, weights.single, found)
    return found


@kernel
def _add_pushes(
    words: IntArray,
    features: IntArray,
    each: NDArray[np.float64],
    starts: IntArray,
    children: NDArray[np.uint32],
    weights: FloatArray,
    found: NDArray[np.float64],
) -> None:
    for part in range(len(words)):
        feature = features[part]
        if feature >= 0:
            for cell in range(starts[feature], starts[feature + 1]):
                found[words[part], children[cell]] += each[part] * weights[cell]
