"""Where a model errs on the rows of an evaluation: what costs most, and the surest mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from cascade.measure.error_causes import ErrorKinds
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.metrics import four_digits
from cascade.measure.sparse import (
    Flags,
    both,
    by_column,
    columns_in,
    joined,
    rows_and_columns,
    scores_in,
    values_at,
)
from cascade.model.walk import training_rows
from cascade.system.array_types import FloatArray, IntArray
from cascade.taxonomy.graph import ROOT, Graph

MOST_MISTAKES = 100
MOST_OF_ROW = 3
MOST_PAIRS = 30
MOST_GROUPS = 6
MOST_LABELS = 12
MOST_CHARACTERS = 500

_ADVICE = {
    "router": "more rows of these labels, or a clearer split of the groups",
    "leaf": "more rows of these labels, or labels that differ more",
    "threshold": "more rows of these labels, or thresholds of your own",
}


def remedies(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """For each cause of errors what helps, and in which groups and labels; what costs most micro F1 first.

    `rows` of a label are those it was trained on, in the group where they are most.
    """
    found = [_remedy(evaluated, kind, errors) for kind, errors in _flags(evaluated.kinds) if errors.nnz]
    return sorted(found, key=lambda one: -one["gain"])


def _remedy(evaluated: EvaluatedRows, kind: str, errors: Flags) -> dict[str, Any]:
    graph, cost = evaluated.graph, _Cost(evaluated, errors)
    rows: Counter[str] = Counter()
    for (_, child), count in training_rows(evaluated.taxonomy, evaluated.manifest).items():
        rows[child] = max(rows[child], count)
    places = {label: place for place, label in enumerate(graph.labels)}
    groups = [
        {"group": group, **cost.of([places[label] for label in graph.descendant_labels(group)])}
        for group in graph.groups[1:]
    ]
    labels = [{"label": label, "rows": rows[label], **cost.of([at])} for label, at in places.items()]
    groups, labels = (_costly(found) for found in (groups, labels))
    return {
        "kind": kind,
        "advice": _ADVICE[kind],
        **cost.of(list(places.values())),
        "groups": groups[:MOST_GROUPS],
        "labels": labels[:MOST_LABELS],
        "other_labels": len(labels[MOST_LABELS:]),
    }


def _costly(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((one for one in found if one["errors"]), key=lambda one: -one["gain"])


class _Cost:
    """Errors of one kind among some labels, and the micro F1 that would be won without them."""

    def __init__(self, evaluated: EvaluatedRows, errors: Flags) -> None:
        truth, chosen = evaluated.cells.truth, evaluated.cells.chosen
        self._hits: int = both(truth, chosen).nnz
        self._sizes: int = truth.nnz + chosen.nnz
        self._missed, self._wrong = (by_column(both(errors, flags)) for flags in (truth, chosen))

    def of(self, labels: list[int]) -> dict[str, Any]:
        missed, wrong = int(self._missed[labels].sum()), int(self._wrong[labels].sum())
        sizes = self._sizes + missed - wrong
        now = 2 * self._hits / self._sizes if self._sizes else 0.0
        then = 2 * (self._hits + missed) / sizes if sizes else 0.0
        return {"errors": missed + wrong, "missed": missed, "wrong": wrong, "gain": then - now}


def _flags(kinds: ErrorKinds) -> tuple[tuple[str, Flags], ...]:
    return ("router", kinds.router), ("leaf", kinds.leaf), ("threshold", kinds.threshold)


def confused(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Siblings of which one was given where the other was true, most often first."""
    graph = evaluated.graph
    missed, wrong = (flags.astype(np.int64) for flags in (evaluated.cells.missed, evaluated.cells.wrong))
    counts = joined(missed.T.tocsr(), wrong)
    found = []
    for true, given, rows in zip(*rows_and_columns(counts), counts.data, strict=True):
        names = graph.labels[true], graph.labels[given]
        shared = set(graph.parents[names[0]]) & set(graph.parents[names[1]])
        if shared:
            group = min(shared) or "top level"
            found.append({"true": names[0], "given": names[1], "group": group, "rows": int(rows)})
    return sorted(found, key=lambda one: -one["rows"])[:MOST_PAIRS]


def mistakes(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """The errors that the model was surest of, as many missed as wrong ones, with texts and ways."""
    found: list[tuple[float, int, int]] = []
    for is_missed, flags in ((True, evaluated.cells.missed), (False, evaluated.cells.wrong)):
        rows, labels = rows_and_columns(flags)
        paths = values_at(evaluated.cells.paths, rows, labels)
        found += [
            (abs(float(paths[at]) - is_missed), int(rows[at]), int(labels[at]))
            for at in _surest(rows, 1 - paths if is_missed else paths)
        ]
    cells = [(row, label) for _, row, label in sorted(found, key=lambda one: -one[0])]
    carried = _carried(evaluated, cells)
    return [_mistake(evaluated, *cell) | {"spans": carried.get(cell, [])} for cell in cells]


def _carried(
    evaluated: EvaluatedRows, cells: list[tuple[int, int]]
) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """By row and label where words carried a label that is not true; empty where that is not told."""
    wrong = [(row, label) for row, label in cells if not evaluated.cells.truth[row, label]]
    if evaluated.carried is None or not wrong:
        return {}
    texts = [evaluated.texts[row] for row, _ in wrong]
    found = evaluated.carried(texts, [[evaluated.graph.labels[label]] for _, label in wrong])
    return {
        cell: [(span.start, span.end) for span in one.spans if span.end <= MOST_CHARACTERS]
        for cell, (one,) in zip(wrong, found, strict=True)
    }


def _surest(rows: IntArray, sureness: FloatArray) -> list[int]:
    """Where the greatest are, `MOST_MISTAKES` / 2 at most, and of each row `MOST_OF_ROW`."""
    found: list[int] = []
    of_row: Counter[int] = Counter()
    for at in np.argsort(-sureness, kind="stable").tolist():
        if len(found) == MOST_MISTAKES // 2:
            break
        if of_row[rows[at]] < MOST_OF_ROW:
            of_row[rows[at]] += 1
            found.append(at)
    return found


def _mistake(evaluated: EvaluatedRows, row: int, column: int) -> dict[str, Any]:
    names, text, cells = evaluated.graph.labels, evaluated.texts[row], evaluated.cells
    label, visits = names[column], scores_in(cells.scored.paths, row)
    return {
        "id": evaluated.ids[row],
        "text": text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ...",
        "label": label,
        "missed": bool(cells.truth[row, column]),
        "path": four_digits(visits.get(evaluated.graph.column[label], 0.0)),
        "threshold": four_digits(evaluated.manifest.thresholds[label]),
        "kind": next((name for name, flags in _flags(evaluated.kinds) if flags[row, column]), "leaf"),
        "way": list(_way(evaluated.graph, visits, label)),
        "true": [names[one] for one in columns_in(cells.truth, row)],
        "given": [names[one] for one in columns_in(cells.chosen, row)],
    }


def _way(graph: Graph, visits: dict[int, float], label: str) -> Iterator[tuple[str, float | None]]:
    """The groups above a label, the outermost first, by the most probable parents; None: not entered."""
    found: list[tuple[str, float | None]] = []
    node = label
    while True:
        parents = graph.parents[node]
        if ROOT in parents:
            return iter(found[::-1])
        paths = {parent: visits.get(graph.column[parent], -1.0) for parent in parents}
        node = max(paths, key=paths.__getitem__)
        found.append((node, None if paths[node] < 0 else four_digits(paths[node])))
