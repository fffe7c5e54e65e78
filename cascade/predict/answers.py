"""From a walk to what a user reads: prediction rows, with scores and traces, and their bytes in a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, repeat, starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self

import numpy as np

from cascade.errors import DataError
from cascade.model.decide import Ranked, contenders
from cascade.model.walk import Walked, batches, edges
from cascade.nodes.contract import NodeModel
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph

if TYPE_CHECKING:
    from cascade.model.folder import Manifest

DIGITS = 6
"""Decimals of every probability and threshold that is written.

Rounding keeps order, so no probability is seen below a threshold that it reached.
"""

_DELIMITERS = {".jsonl": None, ".ndjson": None, ".csv": ",", ".tsv": "\t"}
_LABEL_DELIMITER = ";"


class Model(Protocol):
    """What is asked of a fitted model; `cascade.predict.cascade.Cascade` is one."""

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
    @classmethod
    def load(cls, folder: Path) -> Self: ...
    def walk(self, texts: Sequence[str], *, trace: bool = False) -> Walked: ...
    def decide(self, walked: Walked) -> BoolArray: ...
    def node(self, group: str) -> NodeModel: ...


Refuse = Callable[[int, str], None]


# Prediction rows


@dataclass(frozen=True, slots=True)
class Style:
    """What a prediction row shows; see `Request`."""

    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False


class Answer(NamedTuple):
    """What is told of one text: rows and bytes are both made from this.

    Labels and scores come the most probable first, equal ones in the order of the taxonomy. `trace` is None
    where none was asked for.
    """

    id: str | int
    labels: list[str]
    scores: list[tuple[str, float]]
    trace: list[dict[str, Any]] | None = None

    def row(self) -> dict[str, Any]:
        """``{"id", "labels", "scores"}``, and ``"trace"`` where there is one."""
        row = {"id": self.id, "labels": self.labels, "scores": dict(self.scores)}
        return row if self.trace is None else row | {"trace": self.trace}


def prediction_rows(
    model: Model, ids: Sequence[str | int], texts: Sequence[str], style: Style
) -> list[dict[str, Any]]:
    """One prediction row for each text, see `Answer.row`."""
    return [answer.row() for answer in _answers(model, ids, texts, style)]


def prediction_lines(
    model: Model,
    ids: Sequence[str | int],
    texts: Sequence[str],
    form: Form,
    refuse: Refuse | None = None,
) -> bytes:
    """The same rows as they stand in a file of that form.

    Texts that a service did not answer for are left out, and `refuse` is called with the position of each and
    the reason; without it they raise RowsError.
    """
    return form.lines(_answers(model, ids, texts, form.style, refuse))


def _answers(
    model: Model,
    ids: Sequence[str | int],
    texts: Sequence[str],
    style: Style,
    refuse: Refuse | None = None,
) -> Iterator[Answer]:
    if len(ids) != len(texts):
        raise ValueError(f"{len(ids)} ids and {len(texts)} texts: expected as many of both")
    for batch in batches(len(texts), model.taxonomy.graph, len(texts)):
        walked = model.walk(texts[batch], trace=style.trace)
        if refuse is None or not walked.failed:
            yield from _answers_of_walk(model, ids[batch], walked.whole(), style)
            continue
        for row, why in walked.failed.items():
            refuse(batch.start + row, why)
        left = [row for row in range(len(walked.paths)) if row not in walked.failed]
        answered = walked.of(np.array(left, dtype=np.int64))
        yield from _answers_of_walk(model, [ids[batch][row] for row in left], answered, style)


def _answers_of_walk(
    model: Model, ids: Sequence[str | int], walked: Walked, style: Style
) -> Iterator[Answer]:
    chosen = _chosen(model, walked, style.top)
    shown = chosen | _visited_labels(model, walked.paths) if style.scores == "all" else chosen
    traces = _Tracer(model, walked, chosen) if style.trace else repeat(None, len(chosen))
    return _answers_of_arrays(ids, model.taxonomy.graph.nodes, walked.paths, chosen, shown, traces)


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


def _chosen(model: Model, walked: Walked, top: int | None) -> BoolArray:
    if top is None:
        return model.decide(walked)
    left = contenders(model.taxonomy, walked.paths)
    best = Ranked.of(left, _visited_labels(model, left)).first(top)
    chosen = np.zeros(left.shape, dtype=bool)
    chosen[best.rows, best.columns] = True
    return chosen


def _visited_labels(model: Model, paths: FloatArray) -> BoolArray:
    """Which cells are a label's and no NaN; bool, shape of `paths`."""
    graph = model.taxonomy.graph
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
    """The visited nodes of each text, one entry for each parent that was entered, parents first."""

    def __init__(self, model: Model, walked: Walked, chosen: BoolArray) -> None:
        if walked.conditionals is None:
            raise ValueError("the walk was made without a trace")
        self._paths, self._conditionals, self._chosen = walked.paths, walked.conditionals, chosen
        column, self._groups = model.taxonomy.graph.column, model.taxonomy.groups
        self._edges = edges(model.taxonomy.graph)
        # Any child will do: a group scores all of its children or none.
        self._a_child = {parent: place for place, (parent, _) in enumerate(self._edges)}
        self._nodes = np.array([column[node] for _, node in self._edges])
        self._parents = np.array([column.get(parent, -1) for parent, _ in self._edges])
        least = [self._least(model.manifest, node) for _, node in self._edges]
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
            self._chosen[text, self._nodes[visited]].tolist(),
        )
        return [self._entry(text, *values) for values in zip(*columns, strict=True)]

    def _entry(self, text: int, edge: int, conditional: float, path: float, chosen: bool) -> dict[str, Any]:
        parent, node = self._edges[edge]
        entry = {
            "node": node,
            "parent": parent,
            "conditional": conditional,
            "path": path,
            "threshold": self._thresholds[edge],
        }
        if node in self._a_child:
            entry["entered"] = not np.isnan(self._conditionals[text, self._a_child[node]])
        if node not in self._a_child or self._groups[node].back_off:
            entry["chosen"] = chosen
        return entry

    def _path(self, text: int, visited: IntArray) -> FloatArray:
        """Path probability of each child; of a group that was not entered, what arrived from this parent."""
        paths, parents = self._paths[text], self._parents[visited]
        above = np.where(parents < 0, np.float32(1), paths[parents])
        path: FloatArray = paths[self._nodes[visited]]
        arrived: FloatArray = above * self._conditionals[text, visited]
        return np.where(np.isnan(path), arrived, path)

    def _least(self, manifest: Manifest, node: str) -> float:
        """What the path probability is compared with, as float32."""
        if node not in self._a_child:
            return manifest.thresholds[node]
        # A group that only leads to groups that are always visited has no model, and so no record.
        record = manifest.groups.get(node)
        return 0.0 if record is None else record.route_threshold


# Rows to bytes


@dataclass(frozen=True, slots=True)
class Form:
    """What the rows of a file look like; `delimiter` is None for JSON lines."""

    delimiter: str | None
    style: Style

    @classmethod
    def of(cls, out: Path | None, style: Style) -> Form:
        """The form that the name of the output asks for; DataError where it is of no known kind."""
        if out is None:
            return cls(None, style)
        suffix = out.suffix.lower()
        if suffix not in _DELIMITERS:
            raise DataError(
                f"{out}: unknown kind of output file; expected a name that ends in "
                f"{', '.join(_DELIMITERS)}, or none for JSON lines on standard output"
            )
        return cls(_DELIMITERS[suffix], style)

    def head(self) -> bytes:
        """What stands before the first row."""
        names = ["id", "labels", "scores", *(["trace"] if self.style.trace else [])]
        return b"" if self.delimiter is None else _table([names], self.delimiter)

    def lines(self, answers: Iterable[Answer]) -> bytes:
        """One line for each answer, as UTF-8, with the line break after it."""
        if self.delimiter is None:
            return "".join(map(_json_line, answers)).encode()
        return _table(map(_table_row, answers), self.delimiter)


# An encoder of its own for each value would take longer than the encoding.
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _json_line(answer: Answer) -> str:
    """What `json.dumps` makes of the row, and a line break."""
    identity = _json(answer.id) if isinstance(answer.id, str) else str(answer.id)
    labels = ", ".join([_json(name) for name in answer.labels])
    trace = "" if answer.trace is None else f', "trace": {_json(answer.trace)}'
    return f'{{"id": {identity}, "labels": [{labels}], "scores": {_json_scores(answer)}{trace}}}\n'


def _json_scores(answer: Answer) -> str:
    return "{" + ", ".join([f"{_json(name)}: {score!r}" for name, score in answer.scores]) + "}"


def _table_row(answer: Answer) -> list[str | int]:
    cells = [answer.id, _label_cell(answer.labels), _json_scores(answer)]
    return cells if answer.trace is None else [*cells, _json(answer.trace)]


def _label_cell(labels: Sequence[str]) -> str:
    """Names with ; between them; as a JSON list where a name would not come back from that."""
    if any(_LABEL_DELIMITER in label for label in labels) or (labels and labels[0].startswith("[")):
        return _json(labels)
    return _LABEL_DELIMITER.join(labels)


class _Lines(list[str]):
    write = list.append


def _table(rows: Iterable[Sequence[str | int]], delimiter: str) -> bytes:
    lines = _Lines()
    # A lone carriage return is quoted only by a writer that ends its own lines with one.
    csv.writer(lines, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return "".join([line.removesuffix("\r\n") + "\n" for line in lines]).encode()
