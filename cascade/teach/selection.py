"""Which texts teach most: those that a person should label next, for the model to learn from.

A text is worth a person's time where the model is in doubt: a label stands near what it is compared with, or
two groups that share a label scorer it differently, or nothing was chosen. Doubts about rare labels count for
more. A hundred texts with the same doubt teach little more than a few, and texts that say the same teach it
once, so what was picked makes its like worth less: filtered active submodular selection (Wei, Iyer and
Bilmes, ICML 2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cascade.model.walk import MOST_CELLS, Walked, edges, training_rows
from cascade.predict.answers import Model
from cascade.predict.look import Look
from cascade.rows.row import Row
from cascade.system.array_types import IntArray
from cascade.taxonomy.graph import ROOT
from cascade.text.features import DAMPED, bags_of
from cascade.text.hashing import BUCKETS_OF_EACH

LEAST_DOUBT = 0.25
"""Smaller doubts are noise, of which a text that was compared with hundreds of labels has much."""

_MOST_RARE = 3.0
_HELD_OF_EACH = 20
_EXTREME = 1e-6
_SAME = 1 - 1e-9

Reason = Literal["near threshold", "parents disagree", "nothing chosen", "label split", "not sure"]
SPLIT: Reason = "label split"
"""Not a doubt of a model: an old label became several, and one of them is meant."""
UNSURE: Reason = "not sure"
"""Less sure than rows have to be that nobody looks at; see `cascade.teach.labelling`."""
Floats = NDArray[np.float64]


class Doubt(NamedTuple):
    """What is not certain about a text.

    Attributes
    ----------
    reason
        Why.
    label
        What it is about; empty where nothing was chosen.
    size
        In [`LEAST_DOUBT`, 1].
    """

    reason: Reason
    label: str
    size: float


@dataclass(frozen=True, slots=True)
class SelectedRow:
    """A row that teaches, and what is in doubt about it, the greatest doubt first."""

    row: Row
    doubts: tuple[Doubt, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What came of a search.

    Attributes
    ----------
    selected
        The rows, in the order in which they teach most.
    rows, doubtful
        How many there were, and in how many of them anything was in doubt.
    failed
        Rows that a service did not answer for, and why.
    """

    selected: list[SelectedRow]
    rows: int
    doubtful: int
    failed: list[tuple[Row, str]]


def select_rows(
    model: Model, rows: Iterable[Row], most: int, *, at_once: int = 2000, least_held: int = 2000
) -> Selection:
    """The `most` rows that teach most, or fewer where nothing is in doubt about the others.

    Parameters
    ----------
    rows
        Taken as they are needed, `at_once` at a time.
    least_held
        Of the rows in doubt so many are held, and more where `most` is large: those that teach most alone.
    """
    scorer = _DoubtScorer(model)
    held = _Candidates(max(least_held, _HELD_OF_EACH * most), scorer.weights)
    failed: list[tuple[Row, str]] = []
    for some in _chunks(rows, max(1, min(at_once, MOST_CELLS // len(scorer.weights)))):
        walked = model.walk([row.text for row in some])
        failed += [(some[place], why) for place, why in walked.failed.items()]
        sizes = scorer.sizes(walked)
        sizes[list(walked.failed)] = 0
        held.add(some, sizes)
    chosen = greedy(held.sizes, scorer.weights, likeness([row.text for row in held.rows]), most)
    selected = [SelectedRow(held.rows[place], scorer.doubts(held.sizes[[place]])) for place in chosen]
    return Selection(selected, held.seen, held.doubtful, failed)


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some


def doubts_about(model: Model, text: str) -> tuple[Doubt, ...]:
    """What a model is not certain about in one text, the greatest doubt first.

    Raises
    ------
    RowsError
        A service did not answer.
    """
    scorer = _DoubtScorer(model)
    walked = model.walk([text]).whole()
    return scorer.doubts(sparse.csr_array(scorer.sizes(walked)))


# Doubts


def nearness(paths: NDArray[Any], least: NDArray[Any]) -> Floats:
    """How near path probabilities are to what they are compared with, float64, in [0, 1]; 0 for NaN.

    Twice the probability of the less likely answer, if odds were even at what they are compared with:
    uncertainty by least confidence (Lewis and Gale, SIGIR 1994), about a threshold. 1 at the threshold, 1/4
    where the odds are seven times as large or as small.
    """
    distance = np.abs(_log_odds(np.nan_to_num(paths)) - _log_odds(least))
    near: Floats = np.where(np.isnan(paths), 0.0, 2 / (1 + np.exp(distance)))
    return near


def disagreement(above: NDArray[Any], conditionals: NDArray[Any]) -> Floats:
    """How differently parents scorer a child that they share, float64, shape (n_texts,), in [0, 1].

    The greatest difference of two conditional scores times the path probability of the less likely of the
    two parents: one to which the text does not belong has no say.

    Parameters
    ----------
    above, conditionals
        Path probability of each parent, and what it says of the child; shape (n_texts, n_parents), NaN where
        the parent was not entered.
    """
    say, score = np.nan_to_num(above), np.nan_to_num(conditionals)
    found = np.zeros(len(say))
    for one, other in combinations(range(say.shape[1]), 2):
        both = np.minimum(say[:, one], say[:, other])
        found = np.maximum(found, both * np.abs(score[:, one] - score[:, other]))
    return found


def _log_odds(probabilities: NDArray[Any]) -> Floats:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), _EXTREME, 1 - _EXTREME)
    odds: Floats = np.log(clipped) - np.log1p(-clipped)
    return odds


class _DoubtScorer:
    """Tells what a model is not certain about.

    One column for each label that may be near its threshold, one for each label with several parents, and
    one for nothing chosen.

    Attributes
    ----------
    weights
        float64, shape (n_columns,): what a doubt is worth.
    """

    def __init__(self, model: Model) -> None:
        self._model, graph = model, model.graph
        self._first = len(graph.nodes) - len(graph.labels)
        self._shared_label_edges = _shared_label_edges(model)
        rivals = (self._rivals(group) for group in graph.groups)
        self._exclusive = [places for places in rivals if len(places) > 1]
        rarity = dict(zip(graph.labels, _rarity_weights(model), strict=True))
        self._names: list[tuple[Reason, str]] = [
            *(("near threshold", label) for label in graph.labels),
            *(("parents disagree", label) for label in self._shared_label_edges),
            ("nothing chosen", ""),
        ]
        self.weights = np.array([rarity.get(label, 1.0) for _, label in self._names])

    def sizes(self, walked: Walked) -> Floats:
        """The size of each doubt, shape (n_texts, n_columns); 0 below `LEAST_DOUBT`."""
        sizes = np.empty((len(walked), len(self.weights)))
        for rows, look, part, _ in self._model.parts(walked):
            sizes[rows] = self._sizes(look, part)
        return np.where(sizes < LEAST_DOUBT, 0.0, sizes)

    def _sizes(self, look: Look, walked: Walked) -> Floats:
        paths = walked.paths[:, self._first :]
        thresholds = [look.manifest.thresholds[label] for label in look.graph.labels]
        near = nearness(paths, self._compared(paths, np.array(thresholds)))
        between = [self._between(walked, ways) for ways in self._shared_label_edges.values()]
        nothing = ~look.decide(walked).any(axis=1)
        sizes: Floats = np.column_stack([near, *between, nothing.astype(np.float64)])
        return sizes

    def doubts(self, sizes: sparse.csr_array) -> tuple[Doubt, ...]:
        """The doubts about one text, the greatest first."""
        pairs = zip(sizes.indices.tolist(), sizes.data.tolist(), strict=True)
        found = [Doubt(self._names[column][0], self._names[column][1], size) for column, size in pairs]
        return tuple(sorted(found, key=lambda doubt: -doubt.size))

    def _rivals(self, group: str) -> list[int]:
        """Columns of labels of which at most one is chosen."""
        graph = self._model.graph
        if self._model.taxonomy.groups[group].choose != "one":
            return []
        labels = [child for child in graph.children[group] if child in self._model.taxonomy.labels]
        return [graph.column[label] - self._first for label in labels]

    def _compared(self, paths: NDArray[Any], thresholds: NDArray[Any]) -> Floats:
        """What each label has to reach: its threshold, and its best rival where one is chosen at most."""
        least = np.broadcast_to(thresholds, paths.shape).copy()
        for columns in self._exclusive:
            rivals = np.nan_to_num(paths[:, columns])
            second, best = np.sort(rivals, axis=1)[:, -2:].T
            others = np.where(rivals == best[:, None], second[:, None], best[:, None])
            least[:, columns] = np.maximum(least[:, columns], others)
        return least

    def _between(self, walked: Walked, ways: Sequence[tuple[int, str]]) -> Floats:
        above = np.ones((len(walked), len(ways)))
        for place, (_, group) in enumerate(ways):
            if group != ROOT:
                above[:, place] = walked.paths[:, self._model.graph.column[group]]
        return disagreement(above, walked.conditionals[:, [edge for edge, _ in ways]])


def _shared_label_edges(model: Model) -> dict[str, list[tuple[int, str]]]:
    """The edges and the parents of each label that has several."""
    found: dict[str, list[tuple[int, str]]] = {}
    for edge, (parent, child) in enumerate(edges(model.graph)):
        if child in model.taxonomy.labels and len(model.graph.parents[child]) > 1:
            found.setdefault(child, []).append((edge, parent))
    return found


def _rarity_weights(model: Model) -> list[float]:
    """What a doubt about each label is worth: the root of how much rarer than the median label it is."""
    rows = dict.fromkeys(model.graph.labels, 0)
    for (_, child), positives in training_rows(model.taxonomy, model.manifest).items():
        if child in rows:
            rows[child] = max(rows[child], positives)
    counts = np.array(list(rows.values())) + 1.0
    weights: list[float] = np.clip(np.sqrt(np.median(counts) / counts), 1 / _MOST_RARE, _MOST_RARE).tolist()
    return weights


# Choice


class _Candidates:
    """The rows with the greatest doubts of all that were seen.

    Attributes
    ----------
    rows
        At most twice as many as asked for until the end is asked for, in the order of the input.
    sizes
        Their doubts, shape (n_rows, n_columns).
    seen, doubtful
        How many came, and how many of them with a doubt.
    """

    def __init__(self, most: int, weights: Floats) -> None:
        self._most, self._weights = most, weights
        self.rows: list[Row] = []
        self.sizes = sparse.csr_array((0, len(weights)))
        self.seen = self.doubtful = 0

    def add(self, rows: Sequence[Row], sizes: Floats) -> None:
        """Take in rows with their doubts, dense."""
        doubtful = np.flatnonzero(sizes.any(axis=1))
        self.seen += len(rows)
        self.doubtful += len(doubtful)
        self.rows += [rows[place] for place in doubtful.tolist()]
        self.sizes = sparse.vstack([self.sizes, sparse.csr_array(sizes[doubtful])], format="csr")
        if len(self.rows) > self._most:
            worth = np.sqrt(self.sizes) @ self._weights
            best = np.sort(np.argsort(-worth, kind="stable")[: self._most])
            self.rows, self.sizes = [self.rows[place] for place in best.tolist()], self.sizes[best]


def greedy(sizes: sparse.csr_array, weights: Floats, like: sparse.csr_array, most: int) -> list[int]:
    """Which texts to take, at most so many, in the order of what each adds to those before it.

    A doubt about a label adds what it adds to the root of the sum of the doubts that were taken (a feature
    based submodular function, Wei, Iyer and Bilmes, section 3), times how unlike the text is to the most
    similar one that was taken. Texts that add nothing are not taken.

    Parameters
    ----------
    sizes
        Doubts, shape (n_texts, n_columns), not negative.
    weights
        What a doubt of each column is worth, shape (n_columns,).
    like
        Rows of length 1 or 0, shape (n_texts, n_features), not negative: their products are similarities.
    """
    taken = np.zeros(len(weights))
    unlike = np.ones(sizes.shape[0])
    chosen: list[int] = []
    for _ in range(min(most, sizes.shape[0])):
        before = taken[sizes.indices]
        more = (np.sqrt(before + sizes.data) - np.sqrt(before)) * weights[sizes.indices]
        gains = sparse.csr_array((more, sizes.indices, sizes.indptr), shape=sizes.shape).sum(axis=1) * unlike
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        chosen.append(best)
        taken += sizes[[best]].toarray()[0]
        similar = like @ like[[best]].toarray()[0]
        unlike = np.where(similar < _SAME, np.minimum(unlike, 1 - similar), 0)
        unlike[best] = 0
    return chosen


def likeness(texts: Sequence[str]) -> sparse.csr_array:
    """A row of length 1 for each text, of its words and pairs of words, the rarer the heavier.

    float64, shape (n_texts, n_features); all 0 for a text without words. The product of two rows is the
    similarity of their texts, in [0, 1].
    """
    bags = bags_of(texts)
    cells = (DAMPED[bags.counts].astype(np.float64), bags.places, bags.starts)
    counts = sparse.csr_array(cells, shape=(len(texts), len(bags.buckets)))
    words = counts[:, np.flatnonzero(bags.buckets < BUCKETS_OF_EACH)]
    weighted = words * _inverse_document_frequency(words)
    lengths = np.sqrt(weighted.power(2).sum(axis=1))
    return sparse.csr_array(weighted / np.where(lengths > 0, lengths, 1)[:, None])


def _inverse_document_frequency(words: sparse.csr_array) -> Floats:
    """Log of one plus how many times as many texts there are as have the word (idf)."""
    texts_with: IntArray = np.bincount(words.indices, minlength=words.shape[1])
    rare: Floats = np.log1p(words.shape[0] / np.maximum(texts_with, 1))
    return rare
