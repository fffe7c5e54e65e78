"""From a walk to what a user reads: prediction rows, with scores and traces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress, repeat, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from cascade.model.decide import Ranked, contenders
from cascade.model.evidence import NOTHING_KNOWN
from cascade.model.walk import Walked, batches, edges
from cascade.nodes.contract import NodeModel
from cascade.predict.evidence import evidence_of
from cascade.predict.extras import NO_EXTRAS, ExtraColumns, Extras, Style
from cascade.predict.look import Look, Part
from cascade.predict.tiers import tiers_of
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph
from cascade.text.texts import Texts

if TYPE_CHECKING:
    from cascade.model.folder import Manifest
    from cascade.predict.form import Form

DIGITS = 6
"""Decimals of every probability and threshold that is written.

Rounding keeps order, so no probability is seen below a threshold that it reached.
"""


class Model(Protocol):
    """What is asked of a fitted model; `cascade.fitted.Cascade` is one."""

    @property
    def taxonomy(self) -> Taxonomy: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def folder(self) -> Path: ...
    @property
    def digest(self) -> str: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def is_hosted(self) -> bool: ...
    @property
    def asks_services(self) -> bool: ...
    @classmethod
    def load(cls, folder: Path) -> Self: ...
    def walk(self, texts: Sequence[str]) -> Walked: ...
    def decide(self, walked: Walked) -> BoolArray: ...
    def parts(self, walked: Walked) -> list[Part]: ...
    def node(self, group: str) -> NodeModel: ...


Refuse = Callable[[int, str], None]


# Prediction rows


class Answer(NamedTuple):
    """What is told of one text: rows and bytes are both made from this.

    Labels and scores come the most probable first, equal ones in the order of the taxonomy. `trace` and
    `evidence` are None where none was asked for; `extras` are more columns. `calibrated` is False where no
    row has settled scores and thresholds, and None where they are settled as a matter of course.
    """

    id: str | int
    labels: list[str]
    scores: list[tuple[str, float]]
    trace: list[dict[str, Any]] | None = None
    extras: Extras | None = None
    evidence: list[dict[str, Any]] | None = None
    calibrated: bool | None = None

    def row(self) -> dict[str, Any]:
        """``{"id", "labels", "scores"}``, what else was asked for, and more columns among them."""
        before, between, after = self.extras or NO_EXTRAS
        row = {
            "id": self.id,
            **before,
            "labels": self.labels,
            **between,
            "scores": dict(self.scores),
            **({} if self.calibrated is None else {"calibrated": self.calibrated}),
            **({} if self.evidence is None else {"evidence": self.evidence}),
            **after,
        }
        return row if self.trace is None else row | {"trace": self.trace}


def prediction_rows(
    model: Model, ids: Sequence[str | int], texts: Sequence[str], style: Style
) -> list[dict[str, Any]]:
    """One prediction row for each text, see `Answer.row`."""
    return [answer.row() for answer in _answers(model, ids, texts, marked(style, model.manifest))]


def marked(style: Style, manifest: Manifest) -> Style:
    """The style for answers of a model: those that are not calibrated say so."""
    return replace(style, uncalibrated=not manifest.is_calibrated)


def prediction_lines(
    model: Model,
    ids: Sequence[str | int],
    texts: Sequence[str],
    form: Form,
    refuse: Refuse | None = None,
    sources: Sequence[Mapping[str, Any]] | None = None,
    nothing_known: Callable[[int], None] | None = None,
    count: Callable[[Walked], None] | None = None,
) -> bytes:
    """The same rows as they stand in a file of that form; `sources` are the columns of the input, to be kept.

    Texts that a service did not answer for are left out, and `refuse` is called with the position of each and
    the reason; without it they raise RowsError. `nothing_known` is called with the position of each text of
    which the models know too little to say anything, `count` with the walk of each batch of texts.
    """
    form = replace(form, style=marked(form.style, model.manifest))
    refused: set[int] = set()

    def note(position: int, why: str) -> None:
        refused.add(position)
        if refuse is not None:
            refuse(position, why)

    asked = None if refuse is None else note
    answers = _answers(model, ids, texts, form.style, asked, nothing_known, count)
    if form.style.is_plain:
        return form.lines(answers)
    extras = ExtraColumns(model.taxonomy, form.style)
    found = list(answers)
    left = [place for place in range(len(ids)) if place not in refused]
    columns = sources or [{}] * len(ids)
    pairs = zip(found, left, strict=True)
    return form.lines(
        answer._replace(extras=extras.of(answer.labels, answer.scores, columns[place]))
        for answer, place in pairs
    )


def _answers(
    model: Model,
    ids: Sequence[str | int],
    texts: Sequence[str],
    style: Style,
    refuse: Refuse | None = None,
    nothing_known: Callable[[int], None] | None = None,
    count: Callable[[Walked], None] | None = None,
) -> Iterator[Answer]:
    if len(ids) != len(texts):
        raise ValueError(f"{len(ids)} ids and {len(texts)} texts: expected as many of both")
    for batch in batches(len(texts), model.taxonomy.graph, len(texts)):
        walked = model.walk(texts[batch])
        if nothing_known is not None and walked.nothing_known is not None:
            for row in np.flatnonzero(walked.nothing_known).tolist():
                nothing_known(batch.start + row)
        if count is not None:
            count(walked)
        if refuse is None or not walked.failed:
            yield from _answers_of_walk(model, ids[batch], texts[batch], walked.whole(), style)
            continue
        for row, why in walked.failed.items():
            refuse(batch.start + row, why)
        left = [row for row in range(len(walked)) if row not in walked.failed]
        answered = walked.of(np.array(left, dtype=np.int64))
        some_ids, some_texts = [ids[batch][row] for row in left], [texts[batch][row] for row in left]
        yield from _answers_of_walk(model, some_ids, some_texts, answered, style)


def _answers_of_walk(
    model: Model, ids: Sequence[str | int], texts: Sequence[str], walked: Walked, style: Style
) -> Iterator[Answer]:
    parts = model.parts(walked)
    if len(parts) == 1:
        return _told_of_part(parts[0], ids, texts, style)
    found: dict[int, Answer] = {}
    for part in parts:
        rows = part.rows.tolist()
        own_ids, own_texts = [ids[row] for row in rows], [texts[row] for row in rows]
        found.update(zip(rows, _told_of_part(part, own_ids, own_texts, style), strict=True))
    return (found[row] for row in range(len(walked)))


def _told_of_part(
    part: Part, ids: Sequence[str | int], texts: Sequence[str], style: Style
) -> Iterator[Answer]:
    """The answers, with the evidence for their labels if that is asked for."""
    answers = _answers_of_part(part, ids, texts, style)
    if not style.evidence:
        return answers
    answered = list(answers)
    found = evidence_of(part.look, texts, part.walked, [answer.labels for answer in answered])
    return (
        answer._replace(evidence=[one.to_json() for one in own])
        for answer, own in zip(answered, found, strict=True)
    )


def _answers_of_part(
    part: Part, ids: Sequence[str | int], texts: Sequence[str], style: Style
) -> Iterator[Answer]:
    look, walked = part.look, part.walked
    chosen = _chosen(look, walked, style.top)
    shown = chosen | _visited_labels(look.graph, walked.paths) if style.shows_all else chosen
    traces = _Tracer(part, texts, chosen) if style.trace else repeat(None, len(chosen))
    answers = _answers_of_arrays(ids, look.graph.nodes, walked.paths, chosen, shown, traces)
    return (answer._replace(calibrated=False) for answer in answers) if style.uncalibrated else answers


def _answers_of_arrays(
    ids: Sequence[str | int],
    nodes: Sequence[str],
    paths: FloatArray,
    chosen: BoolArray,
    shown: BoolArray,
    traces: Iterable[list[dict[str, Any]] | None],
) -> Iterator[Answer]:
    """Answers of n_texts texts from arrays of shape (n_texts, n_nodes); all that is `chosen` is `shown`."""
    cells = Ranked.of(paths, shown)
    names = [nodes[column] for column in cells.columns.tolist()]
    is_answer = chosen[cells.rows, cells.columns]
    labels = cells.where(is_answer).by_text(list(compress(names, is_answer.tolist())))
    scores = cells.by_text(list(zip(names, _rounded(cells.paths), strict=True)))
    return starmap(Answer, zip(ids, labels, scores, traces, strict=True))


def _chosen(look: Look, walked: Walked, top: int | None) -> BoolArray:
    if top is None:
        return look.decide(walked)
    left = contenders(look.taxonomy, walked.paths, look.manifest.exclusive)
    best = Ranked.of(left, _visited_labels(look.graph, left)).first(top)
    chosen = np.zeros(left.shape, dtype=bool)
    chosen[best.rows, best.columns] = True
    return chosen


def _visited_labels(graph: Graph, paths: FloatArray) -> BoolArray:
    """Which cells are a label's and no NaN; bool, shape of `paths`."""
    visited = ~np.isnan(paths)
    visited[:, : len(graph.nodes) - len(graph.labels)] = False
    return visited


def _rounded(probabilities: FloatArray) -> list[float]:
    """What Python's ``round`` makes of each, which takes forty times as long.

    The product is exact, 24 bits of a float32 times 14 of 10^6, so both round the same number.
    """
    scale = 10.0**DIGITS
    rounded: list[float] = (np.rint(probabilities.astype(np.float64) * scale) / scale).tolist()
    return rounded


class _Tracer:
    """The visited nodes of each text, one entry for each parent that was entered, parents first.

    Where nothing is known of a text, or there are several looks, or tiers at the root, the first entry is of
    the root and says so.
    """

    def __init__(self, part: Part, texts: Sequence[str], chosen: BoolArray) -> None:
        look, walked = part.look, part.walked
        self._look = {} if part.name is None else {"look": part.name}
        self._tiers = tiers_of(look, Texts(texts), walked)
        product = walked.before or walked
        self._paths, self._conditionals, self._chosen = product.paths, walked.conditionals, chosen
        self._combined = None if walked.before is None else walked.paths
        self._seconds = walked.seconds
        self._nothing_known = walked.nothing_known
        self._asked_again = {} if walked.checked is None else walked.checked.by_cell()
        column, self._groups = look.graph.column, look.taxonomy.groups
        self._names = look.graph.nodes
        self._edges = edges(look.graph)
        # Any child will do: a group scores all of its children or none.
        self._a_child = {parent: place for place, (parent, _) in enumerate(self._edges)}
        self._nodes = np.array([column[node] for _, node in self._edges])
        self._parents = np.array([column.get(parent, -1) for parent, _ in self._edges])
        least = [self._least(look.manifest, node) for _, node in self._edges]
        self._thresholds = _rounded(np.array(least, dtype=np.float32))

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        return map(self._of, range(len(self._paths)))

    def _of(self, text: int) -> list[dict[str, Any]]:
        conditionals = self._conditionals[text]
        visited = np.flatnonzero(~np.isnan(conditionals))
        columns = (
            visited.tolist(),
            _rounded(conditionals[visited]),
            _rounded(self._path(text, visited)),
            self._told(self._combined, text, self._nodes[visited]),
            self._told(self._seconds, text, visited),
            self._chosen[text, self._nodes[visited]].tolist(),
        )
        entries = [self._entry(text, *values) for values in zip(*columns, strict=True)]
        nothing = self._nothing_known is not None and self._nothing_known[text]
        told = {**self._look, **self._tier(ROOT, text), **({"why": NOTHING_KNOWN} if nothing else {})}
        return [{"node": ROOT, "parent": ROOT, **told}, *entries] if told else entries

    @staticmethod
    def _told(values: FloatArray | None, text: int, places: IntArray) -> list[float | None]:
        """The values of a text at these places, None where there are none."""
        if values is None:
            return [None] * len(places)
        return [None if math.isnan(value) else value for value in _rounded(values[text, places])]

    def _entry(
        self,
        text: int,
        edge: int,
        conditional: float,
        path: float,
        probability: float | None,
        second: float | None,
        chosen: bool,
    ) -> dict[str, Any]:
        parent, node = self._edges[edge]
        is_label = node not in self._a_child
        entry: dict[str, Any] = {
            "node": node,
            "parent": parent,
            "conditional": conditional,
            "path": path,
            **({} if second is None else {"second": second}),
            **({"probability": probability} if is_label and probability is not None else {}),
            **self._again(text, edge),
            "threshold": self._thresholds[edge],
        }
        if node in self._a_child:
            entry["entered"] = not np.isnan(self._conditionals[text, self._a_child[node]])
            entry |= self._tier(node, text)
        if node not in self._a_child or self._groups[node].back_off:
            entry["chosen"] = chosen
        return entry

    def _again(self, text: int, edge: int) -> dict[str, Any]:
        """What was answered about a label that was asked about again, and its probability before."""
        found = self._asked_again.get((text, int(self._nodes[edge])))
        if found is None:
            return {}
        rival, before, answer = found
        beside = {} if rival < 0 else {"beside": self._names[rival]}
        yes = None if math.isnan(answer) else round(answer, DIGITS)
        return {"before": round(before, DIGITS), **beside, "yes": yes}

    def _tier(self, group: str, text: int) -> dict[str, str]:
        """Which tier of a group answered, where it has several and was entered."""
        tier = self._tiers.get(group, {}).get(text)
        return {} if tier is None else {"tier": tier}

    def _path(self, text: int, visited: IntArray) -> FloatArray:
        """Path probability of each child; of a group that was not entered, what arrived from this parent."""
        paths, parents = self._paths[text], self._parents[visited]
        above = np.where(parents < 0, np.float32(1), paths[parents])
        path: FloatArray = paths[self._nodes[visited]]
        arrived: FloatArray = above * self._conditionals[text, visited]
        return np.where(np.isnan(path), arrived, path)

    def _least(self, manifest: Manifest, node: str) -> float:
        """What the probability of a label, or the path probability of a group, is compared with."""
        if node not in self._a_child:
            return manifest.thresholds[node]
        # A group that only leads to groups that are always visited has no model, and so no record.
        record = manifest.groups.get(node)
        return 0.0 if record is None else record.route_threshold
