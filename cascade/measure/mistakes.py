"""Where a model errs on the rows of an evaluation: what costs most, and the surest mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from cascade.measure.error_causes import ErrorKinds
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.metrics import four_digits
from cascade.system.array_types import BoolArray, FloatArray
from cascade.taxonomy.graph import ROOT

MOST_MISTAKES = 100
MOST_OF_ROW = 3
MOST_PAIRS = 30
MOST_MENDED = 20
MOST_CHARACTERS = 500

_ADVICE = {
    "router": "the routing hides it or lets strangers in: more rows, or a clearer split of groups",
    "leaf": "its own model errs: more rows, or labels that differ more",
    "threshold": "the model knew better than the threshold: more rows, or a threshold of your own",
}


def mend(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Errors of each group by their cause, what would win most micro F1 first."""
    hits = int((evaluated.true & evaluated.chosen).sum())
    sizes = int(evaluated.true.sum() + evaluated.chosen.sum())
    found = [
        {"group": group, "kind": kind, **_won(evaluated, mask, group, hits, sizes), "advice": _ADVICE[kind]}
        for group in evaluated.graph.groups[1:]
        for kind, mask in _masks(evaluated.kinds)
    ]
    found = [one for one in found if one["errors"]]
    return sorted(found, key=lambda one: -one["gain"])[:MOST_MENDED]


def _masks(kinds: ErrorKinds) -> tuple[tuple[str, BoolArray], ...]:
    return ("router", kinds.router), ("leaf", kinds.leaf), ("threshold", kinds.threshold)


def _won(evaluated: EvaluatedRows, mask: BoolArray, group: str, hits: int, sizes: int) -> dict[str, Any]:
    """Errors of a kind among the labels below a group, and the micro F1 that they cost."""
    below = [evaluated.graph.labels.index(label) for label in evaluated.graph.descendant_labels(group)]
    missed = int((mask & evaluated.true)[:, below].sum())
    wrong = int((mask & evaluated.chosen)[:, below].sum())
    now = 2 * hits / sizes if sizes else 0.0
    then = 2 * (hits + missed) / (sizes + missed - wrong) if sizes + missed - wrong else 0.0
    return {"errors": missed + wrong, "missed": missed, "wrong": wrong, "gain": then - now}


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
