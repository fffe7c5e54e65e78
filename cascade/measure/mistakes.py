"""Where a model errs on the rows of an evaluation: what costs most, and the surest mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from cascade.measure.error_causes import ErrorKinds
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.metrics import four_digits
from cascade.model.walk import training_rows
from cascade.system.array_types import BoolArray, FloatArray
from cascade.taxonomy.graph import ROOT

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
    found = [_remedy(evaluated, kind, mask) for kind, mask in _masks(evaluated.kinds) if mask.any()]
    return sorted(found, key=lambda one: -one["gain"])


def _remedy(evaluated: EvaluatedRows, kind: str, mask: BoolArray) -> dict[str, Any]:
    graph, cost = evaluated.graph, _Cost(evaluated, mask)
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

    def __init__(self, evaluated: EvaluatedRows, mask: BoolArray) -> None:
        self._hits = int((evaluated.true & evaluated.chosen).sum())
        self._sizes = int(evaluated.true.sum() + evaluated.chosen.sum())
        self._missed = (mask & evaluated.true).sum(axis=0)
        self._wrong = (mask & evaluated.chosen).sum(axis=0)

    def of(self, labels: list[int]) -> dict[str, Any]:
        missed, wrong = int(self._missed[labels].sum()), int(self._wrong[labels].sum())
        sizes = self._sizes + missed - wrong
        now = 2 * self._hits / self._sizes if self._sizes else 0.0
        then = 2 * (self._hits + missed) / sizes if sizes else 0.0
        return {"errors": missed + wrong, "missed": missed, "wrong": wrong, "gain": then - now}


def _masks(kinds: ErrorKinds) -> tuple[tuple[str, BoolArray], ...]:
    return ("router", kinds.router), ("leaf", kinds.leaf), ("threshold", kinds.threshold)


def confused(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Siblings of which one was given where the other was true, most often first."""
    missed = (evaluated.true & ~evaluated.chosen).astype(np.float32)
    wrong = (evaluated.chosen & ~evaluated.true).astype(np.float32)
    counts = missed.T @ wrong
    found = []
    for true, given in zip(*np.nonzero(counts), strict=True):
        names = evaluated.graph.labels[true], evaluated.graph.labels[given]
        shared = set(evaluated.graph.parents[names[0]]) & set(evaluated.graph.parents[names[1]])
        if shared:
            group = min(shared) or "top level"
            found.append(
                {"true": names[0], "given": names[1], "group": group, "rows": int(counts[true, given])}
            )
    return sorted(found, key=lambda one: -one["rows"])[:MOST_PAIRS]


def mistakes(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """The errors that the model was surest of, as many missed as wrong ones, with texts and ways."""
    missed, wrong = evaluated.true & ~evaluated.chosen, evaluated.chosen & ~evaluated.true
    cells = [*_surest(1 - evaluated.paths, missed), *_surest(evaluated.paths, wrong)]
    cells.sort(key=lambda cell: -abs(float(evaluated.paths[cell]) - bool(evaluated.true[cell])))
    return [_mistake(evaluated, *cell) for cell in cells]


def _surest(sureness: FloatArray, errors: BoolArray) -> list[tuple[int, int]]:
    """The cells of the greatest, `MOST_MISTAKES` / 2 at most, and of each row `MOST_OF_ROW`."""
    at = np.flatnonzero(errors)
    order = np.argsort(-sureness.ravel()[at], kind="stable")
    found: list[tuple[int, int]] = []
    of_row: Counter[int] = Counter()
    for row, label in zip(*np.divmod(at[order], errors.shape[1]), strict=True):
        if len(found) == MOST_MISTAKES // 2:
            break
        if of_row[row] < MOST_OF_ROW:
            of_row[row] += 1
            found.append((int(row), int(label)))
    return found


def _mistake(evaluated: EvaluatedRows, row: int, column: int) -> dict[str, Any]:
    label, text = evaluated.graph.labels[column], evaluated.texts[row]
    kind = next((name for name, mask in _masks(evaluated.kinds) if mask[row, column]), "leaf")
    names = evaluated.graph.labels
    return {
        "id": evaluated.ids[row],
        "text": text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ...",
        "label": label,
        "missed": bool(evaluated.true[row, column]),
        "path": four_digits(evaluated.paths[row, column]),
        "threshold": four_digits(evaluated.manifest.thresholds[label]),
        "kind": kind,
        "way": list(_way(evaluated, row, label)),
        "true": [names[at] for at in np.flatnonzero(evaluated.true[row])],
        "given": [names[at] for at in np.flatnonzero(evaluated.chosen[row])],
    }


def _way(evaluated: EvaluatedRows, row: int, label: str) -> Iterator[tuple[str, float | None]]:
    """The groups above a label, the outermost first, by the most probable parents; None: not entered."""
    found: list[tuple[str, float | None]] = []
    node = label
    while True:
        parents = [parent for parent in evaluated.graph.parents[node] if parent != ROOT]
        if not parents or ROOT in evaluated.graph.parents[node]:
            return iter(found[::-1])
        at = [evaluated.graph.column[parent] for parent in parents]
        paths = np.nan_to_num(evaluated.scored.paths[row, at], nan=-1)
        node, path = parents[int(paths.argmax())], float(paths.max())
        found.append((node, None if path < 0 else four_digits(path)))
