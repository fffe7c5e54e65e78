"""A vector for each label: what tells its texts and its name from those of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.grouping.meaning import WEIGHT, Encode, label_meanings
from cascade.grouping.sampling import NAME_COUNTS_AS, rows_to_read
from cascade.grouping.words import words_of, words_of_name

Array = NDArray[np.float64]

ROWS_OF_LABEL = 200
ROWS_IN_ALL = 50_000
CHARACTERS_OF_TEXT = 2000
"""More rows, and more of a text, changed no grouping that we looked at; this bounds time and memory."""
WORDS_MOST = 100_000
DIMENSIONS = 50


@dataclass(frozen=True)
class LabelVectors:
    """What is known of each label.

    Attributes
    ----------
    vectors
        float64, shape (n_labels, n_dimensions): rows of unit length, or of zeros for a label that shares
        nothing with any other.
    rates
        Sparse float64, shape (n_labels, n_words): the share of the label's texts that have the word.
    words
        The words of the columns of `rates`.
    """

    vectors: Array
    rates: Any
    words: Sequence[str]


def label_vectors(
    names: Sequence[str],
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    encode: Encode | None = None,
) -> LabelVectors:
    """A vector for each of `names`, from the rows that carry it and from the words of the name.

    A label is the bag of all its texts, as in the label features of Parabel (Prabhu et al., WWW 2018,
    section 3.1) and AttentionXML (You et al., NeurIPS 2019): the share of its texts that have a word. The
    other labels of a row count as words of it, so that labels which go together are alike. Shares are
    under a root, as in Hellinger's distance, and words that are spread evenly over the labels count little
    (log-entropy weighting, Dumais, "Improving the retrieval of information from external sources", 1991).
    The first `DIMENSIONS` singular coordinates of that are kept, and their mean is taken off. What `encode`
    makes of texts and names stands beside that, see `label_meanings`.
    """
    from sklearn.preprocessing import normalize

    at = {name: number for number, name in enumerate(names)}
    carried = [[at[name] for name in dict.fromkeys(own)] for own in labels]
    rates, words = _rates(names, texts, carried)
    weighted = rates.sqrt().multiply(_telling(rates)).tocsr()
    known = np.flatnonzero(weighted.getnnz(axis=1))
    vectors = np.zeros((len(names), 1))
    if len(known) > 1:
        reduced = normalize(_reduced(normalize(weighted[known])))
        vectors = np.zeros((len(names), reduced.shape[1]))
        vectors[known] = reduced
    if encode is not None:
        vectors = normalize(np.hstack([vectors, WEIGHT * label_meanings(names, texts, carried, encode)]))
    return LabelVectors(vectors, rates, words)


def _rates(
    names: Sequence[str], texts: Sequence[str], carried: Sequence[Sequence[int]]
) -> tuple[Any, Sequence[str]]:
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    most = min(ROWS_OF_LABEL, max(ROWS_IN_ALL // max(len(names), 1), 1))
    read = rows_to_read(carried, len(names), most)
    documents = [*((texts[row], carried[row]) for row in read), *((name, ()) for name in names)]
    counter = CountVectorizer(analyzer=_features, binary=True, max_features=WORDS_MOST, dtype=np.float64)
    if not any(map(_features, documents)):
        return sparse.csr_matrix((len(names), 0)), []
    counted = counter.fit_transform(documents)
    cells = [(column, row) for row, whole in enumerate(read) for column in carried[whole]]
    of_rows = sparse.csr_matrix(
        (np.ones(len(cells)), ([cell[0] for cell in cells], [cell[1] for cell in cells])),
        shape=(len(names), len(read)),
    )
    n_texts = np.asarray(of_rows.sum(axis=1)).ravel() + NAME_COUNTS_AS
    sums = of_rows @ counted[: len(read)] + NAME_COUNTS_AS * counted[len(read) :]
    rates = sparse.diags(1 / n_texts) @ sums
    shared = np.flatnonzero(rates.getnnz(axis=0) > 1)
    vocabulary = counter.get_feature_names_out()
    return rates.tocsr()[:, shared], [str(word) for word in vocabulary[shared]]


LABEL_MARK = "\0"
"""Begins a column that stands for another label of the row, which no word does."""


def _features(document: tuple[str, Sequence[int]]) -> Collection[str]:
    """The words of a text with labels, or of a name, which has none."""
    text, labels = document
    if not labels:
        return words_of_name(text)
    return {*words_of(text[:CHARACTERS_OF_TEXT]), *(f"{LABEL_MARK}{label}" for label in labels)}


def _telling(rates: Any) -> Array:
    """How unevenly each word is spread over the labels, in [0, 1]: 1 less its share of the most entropy."""
    columns = rates.tocsc()
    sums = np.asarray(columns.sum(axis=0)).ravel()
    shares = columns.data / np.repeat(sums, np.diff(columns.indptr))
    entropies = np.zeros(len(sums))
    np.add.at(entropies, np.repeat(np.arange(len(sums)), np.diff(columns.indptr)), -shares * np.log(shares))
    return np.asarray(1 - entropies / np.log(max(columns.shape[0], 2)))


def _reduced(weighted: Any) -> Array:
    """The leading singular coordinates of sparse rows, about their mean, float64 (n_rows, n_dimensions)."""
    from sklearn.utils.extmath import randomized_svd

    left, sizes, _ = randomized_svd(weighted, min(DIMENSIONS, *weighted.shape), random_state=0)
    coordinates: Array = left * sizes
    return np.asarray(coordinates - coordinates.mean(axis=0))
