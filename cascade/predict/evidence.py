"""For each label of an answer the words that carry it.

A label has several models that speak for it: that of its group, those of the groups on the path to it, and a
second one of its group. Each adds up what words do to the log odds of its own child. How they count together
is how the probability rises from that of a text without words to that of the text as it is, while all words
gain weight at once: integrated gradients (Sundararajan, Taly and Yan, "Axiomatic attribution for deep
networks", ICML 2017), along which each model counts as much as the probability follows it. So a router that
is sure at once counts little, and one whose word has brought the text into the group counts much.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade.model.decide import Ranked
from cascade.model.walk import Walked, batches, edges
from cascade.nodes.contract import Contributions, Escalating, Explainable, NodeModel, Quoting
from cascade.nodes.occlusion import cut_up
from cascade.predict.look import Look, Part
from cascade.predict.spans import Span, best_spans, joined
from cascade.system.array_types import IntArray
from cascade.taxonomy.graph import ROOT
from cascade.text.occurrences import occurrences_of
from cascade.text.pieces import MOST_PIECES, Pieces, no_pieces, opened
from cascade.text.quotations import standing
from cascade.text.texts import Texts
from cascade.validation.calibration import Calibration, sigmoid

if TYPE_CHECKING:
    from cascade.predict.answers import Model

WALKED = 2000
"""Texts that are walked at once."""
# Rows whose texts are taken apart together; what is missed of them is kept until all of them are told.
AT_ONCE = 64
# At so many weights of words between none and all is the probability followed.
_STEPS = (np.arange(16) + 0.5) / 16
_NEAR = 1e-9


@dataclass(frozen=True, slots=True)
class LabelEvidence:
    """What carries a label of an answer.

    Attributes
    ----------
    label
        Its name; a group's where one backed off to it.
    by
        Whether it is told by what ``words`` do, or by a ``quotation`` that the model gave and that stands in
        the text.
    spans
        The stretches of the text, in its order, none over another; empty where nothing tells.
    """

    label: str
    by: Literal["words", "quotation"]
    spans: tuple[Span, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {"label": self.label, "by": self.by, "spans": [span.to_json() for span in self.spans]}


def evidence_of(
    look: Look, texts: Sequence[str], walked: Walked, labels: Sequence[Sequence[str]]
) -> Iterator[tuple[LabelEvidence, ...]]:
    """For each text what carries each of the labels that it was given, in their order.

    Parameters
    ----------
    walked
        The walk of these texts by `look`.

    Raises
    ------
    RowsError
        A service that is asked for quotations did not answer.
    """
    whole = texts if isinstance(texts, Texts) else Texts(texts)
    for start in range(0, len(whole), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(whole)))
        yield from _Batch(look, whole.apart(rows), walked.of(rows), labels[start : start + AT_ONCE]).told()


def evidence_by(
    model: Model, texts: Sequence[str], labels: Sequence[Sequence[str]] | None = None
) -> list[tuple[LabelEvidence, ...]]:
    """For each text what carries each of these labels, or of those that the model gives it, in their order.

    Raises
    ------
    RowsError
        A service did not answer for some texts.
    """
    found: dict[int, tuple[LabelEvidence, ...]] = {}
    for rows in batches(len(texts), model.graph, WALKED):
        for part in model.parts(model.walk(texts[rows]).whole()):
            places = (rows.start + part.rows).tolist()
            own = [texts[place] for place in places]
            given = _chosen(part) if labels is None else [labels[place] for place in places]
            found.update(zip(places, evidence_of(part.look, own, part.walked, given), strict=True))
    return [found[place] for place in range(len(texts))]


def _chosen(part: Part) -> list[list[str]]:
    """The labels that a look gives each of its texts, the most probable first."""
    chosen = Ranked.of(part.walked.paths, part.look.decide(part.walked))
    return list(chosen.by_text([part.look.graph.nodes[column] for column in chosen.columns.tolist()]))


def contributions_of(
    look: Look, node: Explainable | Escalating, texts: Texts, pieces: Sequence[Pieces] | None = None
) -> Iterator[Contributions | None]:
    """What words do in a model of a look, None where it does not tell of a text.

    A service is not asked about texts in pieces, which would cost.
    """
    if look.asks_encoder_service:
        pieces = [no_pieces(occurrences_of(text).spans) for text in texts]
    if isinstance(node, Escalating):
        return node.contributions_by_tier(texts, pieces)
    return iter(node.contributions(texts, pieces))


class _Key(NamedTuple):
    """A child of a group, by the group's model or its second one."""

    group: str
    child: str
    is_second: bool


class _Voice(NamedTuple):
    """What a model says of a child of its group, in calibrated log odds: by each word, by none, in all."""

    spans: IntArray
    values: NDArray[np.float64]
    rest: float
    whole: float

    def between(self) -> NDArray[np.float64]:
        """The log odds at each of `_STEPS`."""
        return np.asarray(self.rest + (self.whole - self.rest) * _STEPS)


def _voice(found: Contributions, calibration: Calibration, column: int) -> _Voice:
    unit = calibration.slopes[column] * found.unit
    offset = calibration.offsets[column]
    values, rest = found.values[:, column] * unit, found.rest[column] * unit
    beside = sum(float(one[column]) for one in found.beside.values()) * unit
    return _Voice(found.spans, values, float(rest + offset), float(rest + values.sum() + beside + offset))


class _Batch:
    """Some texts, with the paths to their labels."""

    def __init__(self, look: Look, texts: Texts, walked: Walked, labels: Sequence[Sequence[str]]) -> None:
        self.look, self.texts, self.labels = look, texts, labels
        self._paths, self._conditionals = (walked.before or walked).paths, walked.conditionals
        self._edge = {edge: place for place, edge in enumerate(edges(look.graph))}
        self._chains = [{label: self._chain(row, label) for label in own} for row, own in enumerate(labels)]
        self._quoted = self._quotations()

    def told(self) -> Iterator[tuple[LabelEvidence, ...]]:
        rows = [row for row, own in enumerate(self.labels) if any(self._is_wanted(row, name) for name in own)]
        voices = self._voices(rows, None)
        opened_up = self._opened(rows, voices) if self.look.encodes else {}
        if opened_up:
            voices |= self._voices(list(opened_up), opened_up)
        for row, own in enumerate(self.labels):
            yield tuple(self._label(row, label, voices.get(row, {})) for label in own)

    # Paths

    def _chain(self, row: int, name: str) -> list[tuple[str, str]]:
        """The edges by which a node was reached, its own first, where several lead to it by the likeliest."""
        chain = []
        while name != ROOT:
            parents = self.look.graph.parents[name]
            group = max(parents, key=lambda parent: self._arrived(row, parent, name)) if parents else ROOT
            chain.append((group, name))
            if self._is_marginal(group):  # it tells of the text, not of one that belongs to the group
                break
            name = group
        return chain

    def _is_marginal(self, group: str) -> bool:
        record = self.look.manifest.groups.get(group)
        return record is not None and record.negatives == "all"

    def _arrived(self, row: int, group: str, child: str) -> float:
        path = 1.0 if group == ROOT else float(self._paths[row, self.look.graph.column[group]])
        arrived = path * self._conditional(row, group, child)
        return -1.0 if np.isnan(arrived) else arrived

    def _conditional(self, row: int, group: str, child: str) -> float:
        return float(self._conditionals[row, self._edge[group, child]])

    # Quotations

    def _quotations(self) -> dict[tuple[int, str, str], tuple[Span, ...]]:
        """By row and edge what was quoted and stands in the text."""
        found = {}
        for group, rows in self._rows_of_groups(range(len(self.texts))).items():
            node, children = self.look.node(group), self.look.taxonomy.scored_children(group)
            if not isinstance(node, Quoting):
                continue
            for row, by_child in zip(rows, node.quotations(self.texts.take(np.array(rows))), strict=True):
                for column, quotations in by_child.items():
                    places = [place for one in quotations for place in standing(self.texts[row], one)]
                    if places:
                        found[row, group, children[column]] = joined(self.texts[row], places)
        return found

    def _is_wanted(self, row: int, label: str) -> bool:
        """Whether a label's own model quoted nothing for it."""
        chain = self._chains[row][label]
        return bool(chain) and (row, *chain[0]) not in self._quoted

    # Words

    def _rows_of_groups(self, rows: Sequence[int] | range) -> dict[str, list[int]]:
        """Of each group with a model on the path to some label, the rows that want it."""
        found: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            for group in dict.fromkeys(edge[0] for chain in self._chains[row].values() for edge in chain):
                if group in self.look.manifest.groups:
                    found[group].append(row)
        return found

    def _model(self, group: str, *, is_second: bool) -> tuple[NodeModel, Calibration]:
        """A model of a group, and its calibration."""
        second = self.look.second(group) if is_second else None
        return second or (self.look.node(group), self.look.calibration(group))

    def _voices(self, rows: list[int], pieces: Mapping[int, Pieces] | None) -> dict[int, dict[_Key, _Voice]]:
        """What each model on the paths to the labels of each row says."""
        found: dict[int, dict[_Key, _Voice]] = {row: {} for row in rows}
        for group, own in self._rows_of_groups(rows).items():
            self._ask(group, own, pieces, found)
            second = [row for row in own if any(chain[0][0] == group for chain in self._chains[row].values())]
            if second and self.look.second(group) is not None:
                self._ask(group, second, pieces, found, is_second=True)
        return found

    def _ask(
        self,
        group: str,
        rows: list[int],
        pieces: Mapping[int, Pieces] | None,
        found: Mapping[int, dict[_Key, _Voice]],
        *,
        is_second: bool = False,
    ) -> None:
        node, calibration = self._model(group, is_second=is_second)
        if not isinstance(node, Explainable | Escalating):
            return
        column = {child: place for place, child in enumerate(self.look.taxonomy.scored_children(group))}
        cut = None if pieces is None else [pieces[row] for row in rows]
        contributions = contributions_of(self.look, node, self.texts.take(np.array(rows)), cut)
        for row, one in zip(rows, contributions, strict=True):
            if one is None:
                continue
            for child in self._children(row, group):
                if child in column:
                    found[row][_Key(group, child, is_second)] = _voice(one, calibration, column[child])

    def _children(self, row: int, group: str) -> set[str]:
        return {edge[1] for chain in self._chains[row].values() for edge in chain if edge[0] == group}

    def _opened(self, rows: list[int], voices: dict[int, dict[_Key, _Voice]]) -> dict[int, Pieces]:
        """Of texts in clauses, the same with the best clause of each label in words."""
        if self.look.asks_encoder_service:
            return {}
        found = {}
        for row, pieces in zip(rows, cut_up(self.texts.take(np.array(rows, dtype=np.int64))), strict=True):
            is_whole = (pieces.words[:, 1] - pieces.words[:, 0] == 1).all()
            if is_whole or not len(pieces.words):
                continue
            sums = [self._sums(pieces, self._values(row, label, voices[row])) for label in self.labels[row]]
            best = sorted({int(one.argmax()) for one in sums if one is not None})
            if best:
                spans = occurrences_of(self.texts[row]).spans
                found[row] = opened(self.texts[row], spans, pieces, best, MOST_PIECES)
        return found

    @staticmethod
    def _sums(pieces: Pieces, found: _Voice | None) -> NDArray[np.float64] | None:
        if found is None:
            return None
        ends = np.concatenate([[0.0], np.cumsum(found.values)])
        return np.asarray(ends[pieces.words[:, 1]] - ends[pieces.words[:, 0]])

    # Labels

    def _label(self, row: int, label: str, voices: dict[_Key, _Voice]) -> LabelEvidence:
        chain = self._chains[row][label]
        if chain and (spans := self._quoted.get((row, *chain[0]))):
            return LabelEvidence(label, "quotation", spans)
        said = self._values(row, label, voices)
        spans = () if said is None else best_spans(self.texts[row], said.spans, said.values)
        if spans:
            return LabelEvidence(label, "words", spans)
        above = [self._quoted[row, *edge] for edge in chain if (row, *edge) in self._quoted]
        return LabelEvidence(label, "quotation", above[0]) if above else LabelEvidence(label, "words", ())

    def _values(self, row: int, label: str, voices: dict[_Key, _Voice]) -> _Voice | None:
        """What words do to the log odds of a label's probability, by all models that can tell."""
        chain = self._chains[row][label]
        on_path = [voices[key] for edge in chain if (key := _Key(*edge, False)) in voices]
        fixed = [edge for edge in chain if _Key(*edge, False) not in voices]
        certain = float(np.prod([self._conditional(row, *edge) for edge in fixed]))
        path, own, second = self._weights(label)
        weighted = list(zip(on_path, path * along(on_path, certain), strict=True))
        first = _Key(*chain[0], False)
        if first in voices:
            weighted.append((voices[first], own))
        judge = first._replace(is_second=True)
        if judge in voices:
            weighted.append((voices[judge], second))
        elif self._is_marginal(first.group) and first in voices:
            weighted.append((voices[first], second))
        else:  # the path stands in for it
            weighted += zip(on_path, second * along(on_path, certain), strict=True)
        return _sum_of(weighted)

    def _weights(self, label: str) -> tuple[float, float, float]:
        """What counts in a label's probability: the path, the own model, and the second one.

        How far a label is behind its rivals counts, too, but what speaks against those says nothing of it.
        """
        combination = self.look.combination
        if label in self.look.taxonomy.groups or combination.is_product:
            return 1.0, 0.0, 0.0
        path, own, second, *_ = combination.weights
        return path, own, second


def along(voices: Sequence[_Voice], certain: float = 1.0) -> NDArray[np.float64]:
    """What the log odds of each voice count for in those of their product, float64, shape (n_voices,).

    On average on the way from no word to all of them. `certain` is what else is in the product and stays.
    Times how far each has come, they sum up to how far the log odds of the product have come.
    """
    if not voices:
        return np.zeros(0)
    conditionals = np.array([sigmoid(voice.between()) for voice in voices])
    rest = np.maximum(1 - certain * conditionals.prod(axis=0), _NEAR)
    return np.asarray(((1 - conditionals) / rest).mean(axis=1))


def _sum_of(weighted: Sequence[tuple[_Voice, float]]) -> _Voice | None:
    """The weighted sum of what voices say of words; of those that see the same words as the first."""
    if not weighted:
        return None
    first = weighted[0][0]
    alike = [(one, weight) for one, weight in weighted if np.array_equal(one.spans, first.spans)]
    values = sum((one.values * weight for one, weight in alike), np.zeros(len(first.spans)))
    return first._replace(values=np.asarray(values))
