"""From a walk to what a user reads: prediction rows, with scores and traces, and their bytes in a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np

from cascade.backends.base import BoolArray, FloatArray
from cascade.decide import contenders
from cascade.errors import DataError
from cascade.graph import ROOT
from cascade.taxonomy import Taxonomy
from cascade.walk import Walked, edges

if TYPE_CHECKING:
    from cascade.store import Manifest

DIGITS = 6
"""Decimals of every probability and threshold that is written.

Rounding keeps order, so no probability is seen below a threshold that it reached.
"""

_DELIMITERS = {".jsonl": None, ".ndjson": None, ".csv": ",", ".tsv": "\t"}
_LABEL_DELIMITER = ";"


class Model(Protocol):
    """What is asked of a fitted model; `cascade.model.Cascade` is one."""

    @property
    def taxonomy(self) -> Taxonomy: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def folder(self) -> Path: ...
    @property
    def digest(self) -> str: ...
    @classmethod
    def load(cls, folder: Path) -> Self: ...
    def walk(self, texts: Sequence[str], *, trace: bool = False) -> Walked: ...
    def decide(self, walked: Walked) -> BoolArray: ...


# Prediction rows


@dataclass(frozen=True, slots=True)
class Style:
    """What a prediction row shows; see `Request`."""

    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False


def prediction_rows(
    model: Model, ids: Sequence[str | int], texts: Sequence[str], style: Style
) -> list[dict[str, Any]]:
    """One prediction row for each text, see `prediction_row`."""
    if not texts:
        return []
    walked = model.walk(texts, trace=style.trace)
    chosen = _chosen(model, walked, style.top)
    shown = chosen
    if style.scores == "all":
        shown = chosen | ~np.isnan(_of_labels(model, walked.paths))
    nodes = model.taxonomy.graph.nodes
    rows = [
        prediction_row(identity, nodes, *arrays)
        for identity, *arrays in zip(ids, walked.paths, chosen, shown, strict=True)
    ]
    if style.trace:
        tracer = _Tracer(model, walked, chosen)
        for place, row in enumerate(rows):
            row["trace"] = tracer.of(place)
    return rows


def prediction_row(
    identity: str | int, nodes: Sequence[str], paths: FloatArray, chosen: BoolArray, shown: BoolArray
) -> dict[str, Any]:
    """``{"id", "labels", "scores"}``, the most probable first, ties in the order of `nodes`.

    Parameters
    ----------
    paths
        float32, shape (n_nodes,): path probabilities of one text, NaN where not visited.
    chosen, shown
        bool, shape (n_nodes,): the nodes in the answer, and those with a score; visited ones only.
    """
    columns = np.flatnonzero(shown)
    ranked = columns[np.argsort(-paths[columns], kind="stable")]
    scores = {nodes[column]: round(float(paths[column]), DIGITS) for column in ranked}
    return {
        "id": identity,
        "labels": [nodes[column] for column in ranked if chosen[column]],
        "scores": scores,
    }


def _chosen(model: Model, walked: Walked, top: int | None) -> BoolArray:
    if top is None:
        return model.decide(walked)
    return _most_probable(_of_labels(model, contenders(model.taxonomy, walked.paths)), top)


def _of_labels(model: Model, paths: FloatArray) -> FloatArray:
    """`paths` with NaN in the columns of groups."""
    graph = model.taxonomy.graph
    is_label = np.arange(len(graph.nodes)) >= len(graph.nodes) - len(graph.labels)
    return np.where(is_label, paths, np.float32(np.nan))


def _most_probable(paths: FloatArray, top: int) -> BoolArray:
    """The `top` greatest cells of each row but for NaN, of equal ones the first; bool, shape as `paths`."""
    # NaN is sorted last.
    columns = np.argsort(-paths, axis=1, kind="stable")[:, :top]
    best = np.zeros(paths.shape, dtype=bool)
    np.put_along_axis(best, columns, values=True, axis=1)
    return best & ~np.isnan(paths)


class _Tracer:
    """The visited nodes of each text, one entry for each parent that was entered, parents first."""

    def __init__(self, model: Model, walked: Walked, chosen: BoolArray) -> None:
        if walked.conditionals is None:
            raise ValueError("the walk was made without a trace")
        self._paths, self._conditionals, self._chosen = walked.paths, walked.conditionals, chosen
        self._column, self._groups = model.taxonomy.graph.column, model.taxonomy.groups
        self._manifest = model.manifest
        self._edges = edges(model.taxonomy.graph)
        # Any child will do: a group scores all of its children or none.
        self._a_child = {parent: place for place, (parent, _) in enumerate(self._edges)}

    def of(self, place: int) -> list[dict[str, Any]]:
        """Trace of the text at this place of the batch."""
        visited = np.flatnonzero(~np.isnan(self._conditionals[place]))
        return [self._entry(place, int(edge)) for edge in visited]

    def _entry(self, place: int, edge: int) -> dict[str, Any]:
        parent, node = self._edges[edge]
        column = self._column[node]
        entry = {
            "node": node,
            "parent": parent,
            "conditional": round(float(self._conditionals[place, edge]), DIGITS),
            "path": round(self._path(place, edge), DIGITS),
            "threshold": round(self._threshold(node), DIGITS),
        }
        if node in self._a_child:
            entry["entered"] = not np.isnan(self._conditionals[place, self._a_child[node]])
        if node not in self._a_child or self._groups[node].back_off:
            entry["chosen"] = bool(self._chosen[place, column])
        return entry

    def _path(self, place: int, edge: int) -> float:
        """Path probability of the child; of a group that was not entered, what arrived from this parent."""
        parent, node = self._edges[edge]
        path = self._paths[place, self._column[node]]
        if np.isnan(path):
            above = np.float32(1) if parent == ROOT else self._paths[place, self._column[parent]]
            path = above * self._conditionals[place, edge]
        return float(path)

    def _threshold(self, node: str) -> float:
        """What the path probability is compared with, in the type in which that is done."""
        if node not in self._a_child:
            return float(np.float32(self._manifest.thresholds[node]))
        # A group that only leads to groups that are always visited has no model, and so no record.
        record = self._manifest.groups.get(node)
        return 0.0 if record is None else float(np.float32(record.route_threshold))


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
        return b"" if self.delimiter is None else _table_line(names, self.delimiter)

    def line(self, row: Mapping[str, Any]) -> bytes:
        """One prediction row, as UTF-8, with the line break after it."""
        if self.delimiter is None:
            return _json(row).encode() + b"\n"
        cells = [row["id"], _label_cell(row["labels"]), _json(row["scores"])]
        if self.style.trace:
            cells.append(_json(row["trace"]))
        return _table_line(cells, self.delimiter)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _label_cell(labels: Sequence[str]) -> str:
    """Names with ; between them; as a JSON list where a name would not come back from that."""
    if any(_LABEL_DELIMITER in label for label in labels) or (labels and labels[0].startswith("[")):
        return _json(labels)
    return _LABEL_DELIMITER.join(labels)


class _LastLine:
    text = ""

    def write(self, text: str) -> int:
        self.text = text
        return len(text)


def _table_line(cells: Sequence[Any], delimiter: str) -> bytes:
    # A lone carriage return is quoted only by a writer that ends its own lines with one.
    line = _LastLine()
    csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return line.text.removesuffix("\r\n").encode() + b"\n"
