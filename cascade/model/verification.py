"""A second pass: which labels of a text are in doubt, and what an answer about one makes of its probability.

What it costs to be wrong is read from the threshold t of a label: it is the best one where an extra label
costs t and a missing one 1 - t (Elkan, "The foundations of cost-sensitive learning", 2001). The doubt of a
label is what a right answer about it is expected to save: p (1 - t) where it was not chosen, (1 - p) t where
it was. That is greatest at the threshold. Two things that single probabilities do not know add to it: how
often a sibling was the right one out of fold, and sets of labels that no row has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.model.walk import Checked, Walked
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.graph import Graph

LEAST_DOUBT = 0.02
"""What an answer about a label is expected to save at least, else it is not worth a question."""
IN_DOUBT = "labels in doubt"
"""What stands in the place of a group where labels are asked about again."""
MOST_EACH = 4
"""Of a text so many labels at most are asked about."""
FEWEST = 20
"""So many answers about held-out rows are the fewest that settle anything."""
# A sibling less probable than this is nothing that a text may be taken for.
_LEAST_RIVAL = 0.05
# What a service is sure of beyond these is not believed.
_SUREST = 0.99
_CHEAPEST = 0.02
# So many texts are decided at once, which takes one array of them and all nodes.
_AT_ONCE = 2000

Floats = NDArray[np.float64]
Decide = Callable[[Walked], BoolArray]


@dataclass(frozen=True)
class Verification:
    """What held-out rows say of a second pass.

    Attributes
    ----------
    backend
        What is asked: ``{"kind": "prompt", ...}``, as in the taxonomy.
    is_used
        Whether answers change anything; if not, nothing is asked.
    least_doubt
        From which doubt on a label is asked about, so that no more texts are than the taxonomy allows.
    weights
        Of 1, the log odds of the probability before, and the log odds of the answer.
    label_weights
        What of the weight of an answer is different for labels, by name; a label for which both come to 0 or
        less is not asked about.
    confused
        ``(label, sibling, rate)``: of the rows that have the first chosen and not the second, those where it
        should be the other way round.
    apart
        Pairs of labels that no row has together, though both are frequent enough for it.
    notes
        Figures of held-out rows: how many were asked about, and micro F1 without and with it.
    """

    backend: Mapping[str, Any]
    is_used: bool
    least_doubt: float
    weights: tuple[float, float, float]
    label_weights: Mapping[str, float] = field(default_factory=dict)
    confused: tuple[tuple[str, str, float], ...] = ()
    apart: tuple[tuple[str, str], ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Verification:
        """What was written into a manifest; TypeError where it is not that."""
        confused = tuple((str(one), str(other), float(rate)) for one, other, rate in value["confused"])
        apart = tuple((str(one), str(other)) for one, other in value["apart"])
        offset, own, answer = map(float, value["weights"])
        found = cls(**{**value, "weights": (offset, own, answer), "confused": confused, "apart": apart})
        numbers = (found.least_doubt, *found.label_weights.values())
        if not isinstance(found.is_used, bool) or not all(isinstance(one, int | float) for one in numbers):
            raise TypeError("'verification': expected true or false and numbers")
        return found

    def answer_weights(self, labels: Sequence[str]) -> Floats:
        """The weight of an answer about each label, float64, shape (n_labels,)."""
        return np.array([self.weights[2] + self.label_weights.get(label, 0.0) for label in labels])

    def verified(self, before: FloatArray, answers: FloatArray, answer_weights: Floats) -> FloatArray:
        """Probabilities after the answers, float32, in [0, 1]; as they were where an answer is NaN.

        Parameters
        ----------
        before, answers
            float32, shape (n_cells,): probabilities of labels, and of the answer yes to each.
        answer_weights
            float64, shape (n_cells,): those of the labels.
        """
        from cascade.validation.calibration import (
            sigmoid,  # Numba comes with it, and folders are read without
        )

        offset, own, _ = self.weights
        raised = offset + own * log_odds(before) + answer_weights * log_odds(answers)
        return np.where(np.isnan(answers), before, sigmoid(raised)).astype(np.float32)


def log_odds(probabilities: FloatArray) -> Floats:
    """Those of probabilities kept in [.01, .99], float64."""
    from cascade.validation.calibration import logit  # as above

    return np.asarray(logit(np.clip(probabilities.astype(np.float64), 1 - _SUREST, _SUREST)))


@dataclass(frozen=True)
class DoubtfulLabels:
    """Labels of texts that are in doubt, text by text, of each the most doubtful first.

    Attributes
    ----------
    rows, labels, rivals
        int64, shape (n_cells,): the text, the label and what it may be taken for, both as in `Graph.labels`;
        -1 where there is no such label.
    probabilities
        float32, shape (n_cells,): of the labels.
    doubts
        float64, shape (n_cells,): what a right answer is expected to save, in [0, 1].
    """

    rows: IntArray
    labels: IntArray
    rivals: IntArray
    probabilities: FloatArray
    doubts: Floats

    @classmethod
    def of_checked(cls, found: Checked, graph: Graph) -> DoubtfulLabels:
        """Those that were asked about; how much each was doubted is not known any more."""
        first = len(graph.nodes) - len(graph.labels)
        rivals = np.where(found.rivals < 0, -1, found.rivals - first)
        return cls(found.rows, found.columns - first, rivals, found.before, np.zeros(len(found.rows)))

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, kept: BoolArray | IntArray) -> DoubtfulLabels:
        """Those of a mask, or at these places."""
        return DoubtfulLabels(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    def asked(self, least_doubt: float) -> DoubtfulLabels:
        """Those that are worth a question, `MOST_EACH` of a text at most."""
        left = self.where(self.doubts >= least_doubt)
        place = np.arange(len(left)) - np.searchsorted(left.rows, left.rows)
        return left.where(place < MOST_EACH)


class DoubtFinder:
    """Finds the labels of texts that are in doubt.

    Parameters
    ----------
    thresholds
        Of each label.
    """

    def __init__(self, verification: Verification, graph: Graph, thresholds: Mapping[str, float]) -> None:
        self.graph, self.first = graph, len(graph.nodes) - len(graph.labels)
        number = {label: place for place, label in enumerate(graph.labels)}
        costs = np.array([thresholds[label] for label in graph.labels])
        self.costs = np.clip(costs, _CHEAPEST, 1 - _CHEAPEST)
        self.heard = verification.answer_weights(graph.labels) > 0
        self.confused = [(number[one], number[other], rate) for one, other, rate in verification.confused]
        self.apart = {frozenset((number[one], number[other])) for one, other in verification.apart}
        self.siblings = [_siblings(graph, label, number) for label in graph.labels]

    def doubtful(self, walked: Walked, decide: Decide, least_doubt: float = LEAST_DOUBT) -> DoubtfulLabels:
        """The labels of each text that are in doubt by this much or more.

        Parameters
        ----------
        walked
            Combined. What was not visited, or nothing is known of, is in no doubt.
        decide
            What is answered for some texts, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`.
        """
        parts = [
            self._of(part, decide(part), least_doubt, texts.start) for texts, part in walked.slices(_AT_ONCE)
        ]
        if not parts:
            nothing, none = np.empty(0, np.int64), np.empty(0)
            return DoubtfulLabels(nothing, nothing, nothing, none.astype(np.float32), none)
        names = DoubtfulLabels.__dataclass_fields__
        return DoubtfulLabels(*(np.concatenate([getattr(one, name) for one in parts]) for name in names))

    def _of(self, walked: Walked, chosen: BoolArray, least: float, start: int) -> DoubtfulLabels:
        paths, chosen = walked.paths[:, self.first :], chosen[:, self.first :]
        found = np.asarray(paths, dtype=np.float64)
        doubts = np.where(chosen, (1 - found) * self.costs, found * (1 - self.costs))
        rivals = np.full(doubts.shape, -1, dtype=np.int64)
        visited = ~np.isnan(found)
        for label, sibling, rate in self.confused:
            rows = np.flatnonzero(chosen[:, label] & visited[:, sibling] & ~chosen[:, sibling])
            self._raise(doubts, rivals, rows, label, sibling, rate * self.costs[label])
            self._raise(doubts, rivals, rows, sibling, label, rate * (1 - self.costs[sibling]))
        for row, label, other, chance in self._never_together(found, chosen):
            self._raise(doubts, rivals, np.array([row]), label, other, (1 - chance) * self.costs[label])
        silent = walked.nothing_known
        shown = visited & self.heard & (np.nan_to_num(doubts) >= least)
        if silent is not None:
            shown &= ~silent[:, None]
        rows, labels = np.nonzero(shown)
        order = np.lexsort((labels, -doubts[rows, labels], rows))
        rows, labels = rows[order], labels[order]
        told = rivals[rows, labels]
        beside = [
            self._nearest(paths[row], label) if rival < 0 else rival
            for row, label, rival in zip(rows.tolist(), labels.tolist(), told.tolist(), strict=True)
        ]
        own = np.array(beside, dtype=np.int64)
        return DoubtfulLabels(rows + start, labels, own, paths[rows, labels], doubts[rows, labels])

    @staticmethod
    def _raise(doubts: Floats, rivals: IntArray, rows: IntArray, label: int, rival: int, to: float) -> None:
        """Doubt a label as much as its rival makes it doubtful, where that is more."""
        more = rows[doubts[rows, label] < to]
        doubts[more, label] = to
        rivals[more, label] = rival

    def _never_together(self, paths: Floats, chosen: BoolArray) -> Iterator[tuple[int, int, int, float]]:
        """Text, label, another that it never stands beside, and the chance that the first is right."""
        several = np.flatnonzero(chosen.sum(axis=1) > 1) if self.apart else ()
        for row in several:
            for one, other in combinations(np.flatnonzero(chosen[row]).tolist(), 2):
                if frozenset((one, other)) in self.apart:
                    odds = [path / max(1 - path, 1e-6) for path in paths[row, [one, other]].tolist()]
                    total = 1 + sum(odds)
                    yield int(row), one, other, odds[0] / total
                    yield int(row), other, one, odds[1] / total

    def _nearest(self, paths: FloatArray, label: int) -> int:
        """The most probable sibling of a label, -1 where there is none worth telling."""
        siblings = self.siblings[label]
        values = np.nan_to_num(paths[siblings], nan=0.0)
        best = int(values.argmax()) if len(values) else 0
        return int(siblings[best]) if len(values) and values[best] >= _LEAST_RIVAL else -1


def _siblings(graph: Graph, label: str, number: Mapping[str, int]) -> IntArray:
    """The numbers of the other labels of a label's groups, int64, ascending."""
    beside = {child for group in graph.parents[label] for child in graph.children[group]}
    return np.array(sorted(number[child] for child in beside if child in number and child != label), np.int64)


def checked(verification: Verification, walked: Walked, asked: DoubtfulLabels, answers: FloatArray) -> Walked:
    """The walk with the probabilities of labels that were asked about after what was answered.

    Parameters
    ----------
    answers
        float32, shape (n_asked,): the probability of yes, NaN where there was no answer.
    """
    graph = walked.graph
    labels = [graph.labels[label] for label in asked.labels.tolist()]
    weights = verification.answer_weights(labels)
    after = verification.verified(asked.probabilities, answers, weights)
    first = len(graph.nodes) - len(graph.labels)
    columns, rivals = asked.labels + first, np.where(asked.rivals < 0, -1, asked.rivals + first)
    found = Checked(asked.rows, columns, rivals, asked.probabilities, answers, after)
    return replace(with_labels(walked, asked.rows, columns, after), checked=found)


def with_labels(walked: Walked, rows: IntArray, columns: IntArray, values: FloatArray) -> Walked:
    """The walk with other probabilities of some labels, whichever parents these came by.

    Parameters
    ----------
    rows, columns
        int64, shape (n_cells,): texts, and labels as in `Graph.nodes`; all were visited.
    values
        float32, shape (n_cells,).
    """
    graph, changed = walked.graph, dict[str, FloatArray]()
    for column in np.unique(columns).tolist():
        own, name = columns == column, graph.nodes[column]
        for group in graph.parents[name]:
            if group not in walked.blocks:
                continue
            block, place = walked.blocks[group], graph.children[group].index(name)
            there = np.isin(rows[own], block.rows)
            at = np.searchsorted(block.rows, rows[own][there])
            paths = changed.setdefault(group, block.paths.copy())
            paths[at, place] = values[own][there]
    return walked.with_paths(changed)


def unverified(walked: Walked) -> Walked:
    """The walk as it was before labels were asked about again."""
    found = walked.checked
    if found is None:
        return walked
    return replace(with_labels(walked, found.rows, found.columns, found.before), checked=None)
