"""What a page about an evaluation shows: figures as plain values, and the page that carries them.

The page is one file. It loads nothing: the script of plotly stands in it, and all charts are drawn from the
figures by a script of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import CascadeError
from cascade.measure.evaluate import ErrorKinds, Evaluation, Scored, error_kinds, unknown_nodes
from cascade.measure.metrics import closed, columns
from cascade.model.folder import Manifest
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT, Graph

MOST_MISTAKES = 100
MOST_OF_ROW = 3
MOST_PAIRS = 30
MOST_MENDED = 20
MOST_SUSPICIOUS = 100
MOST_CHARACTERS = 500
MOST_FLOWING = 25
"""Top-level groups of the Sankey diagram; the others are one."""
CURVE_POINTS = 48
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of calibration: narrow where most probabilities of rare labels lie."""
FEW_ROWS = 10

OTHERS, NOTHING = "other groups", "no label"
_ADVICE = {
    "router": "the routing hides it or lets strangers in: more rows, or a clearer split of groups",
    "leaf": "its own model errs: more rows, or labels that differ more",
    "threshold": "the model knew better than the threshold: more rows, or a threshold of your own",
}


@dataclass(frozen=True)
class Judged:
    """An evaluated test set.

    Attributes
    ----------
    taxonomy, manifest
        Of the model.
    texts, ids
        Of the rows.
    truth
        bool, shape (n_texts, n_nodes): labels and their ancestors.
    scored, oracle
        See `evaluate`.
    evaluation
        The figures of all that.
    """

    taxonomy: Taxonomy
    manifest: Manifest
    texts: Sequence[str]
    ids: Sequence[str | int]
    truth: BoolArray
    scored: Scored
    oracle: Scored
    evaluation: Evaluation

    @property
    def graph(self) -> Graph:
        return self.taxonomy.graph

    @cached_property
    def labels(self) -> IntArray:
        """Columns of labels."""
        return columns(self.graph, self.graph.labels)

    @cached_property
    def closed_truth(self) -> BoolArray:
        return closed(self.graph, self.truth)

    @cached_property
    def known(self) -> BoolArray:
        """bool, shape (n_texts, n_labels): of which rows tell whether they have the label."""
        return ~unknown_nodes(self.graph, self.closed_truth)[:, self.labels]

    @cached_property
    def true(self) -> BoolArray:
        """bool, shape (n_texts, n_labels)."""
        return self.closed_truth[:, self.labels] & self.known

    @cached_property
    def chosen(self) -> BoolArray:
        """bool, shape (n_texts, n_labels)."""
        return self.scored.chosen[:, self.labels] & self.known

    @cached_property
    def paths(self) -> FloatArray:
        """float32, shape (n_texts, n_labels): path probabilities, 0 where a label was not visited."""
        return np.nan_to_num(self.scored.paths[:, self.labels])

    @cached_property
    def kinds(self) -> ErrorKinds:
        always = frozenset(one.name for one in self.taxonomy.groups.values() if one.route == "always")
        return error_kinds(self.graph, self.truth, self.scored, self.oracle, always=always)


def figures(judged: Judged) -> dict[str, Any]:
    """All that the page shows, JSON-able."""
    return {
        "name": judged.taxonomy.name,
        "evaluation": judged.evaluation.to_json(),
        "tree": tree(judged),
        "flows": flows(judged),
        "mend": mend(judged),
        "labels": label_rows(judged),
        "pairs": confused(judged),
        "mistakes": mistakes(judged),
        "suspicious": list(judged.manifest.suspicious[:MOST_SUSPICIOUS]),
    }


# The tree


def tree(judged: Judged) -> list[dict[str, Any]]:
    """The places of the taxonomy, parents first; a name with several parents has several places."""
    return [_place(judged, "", ROOT, None, set()), *_places(judged, ROOT, "", set())]


def _places(judged: Judged, group: str, above: str, told: set[str]) -> Iterator[dict[str, Any]]:
    for child in judged.graph.children[group]:
        identity = f"{above}/{child}"
        yield _place(judged, identity, child, above, told)
        if child in judged.taxonomy.groups and child not in told:
            told.add(child)
            yield from _places(judged, child, identity, told)


def _place(judged: Judged, identity: str, name: str, above: str | None, told: set[str]) -> dict[str, Any]:
    rows, f1 = _figures_of(judged, name)
    is_group = name in judged.taxonomy.groups
    return {
        "id": identity,
        "parent": above,
        "name": name or judged.taxonomy.name,
        "group": is_group,
        "rows": rows,
        "f1": f1,
        "repeated": is_group and name in told,
    }


def _figures_of(judged: Judged, name: str) -> tuple[int, float]:
    evaluation = judged.evaluation
    if name == ROOT:
        return evaluation.rows, evaluation.micro_f1
    if name in evaluation.per_group:
        return evaluation.per_group[name].rows, evaluation.per_group[name].micro_f1
    return evaluation.per_label[name].rows, evaluation.per_label[name].f1


# Flows between groups


def flows(judged: Judged) -> dict[str, Any]:
    """Texts by a top-level group that they truly belong to, and one that they were given.

    What was given rightly flows straight on. Each group that was missed flows in equal parts to those that
    were given wrongly; to `NOTHING` where there are none, from where wrong ones come if nothing was missed.
    """
    top = judged.graph.children[ROOT]
    at = [judged.graph.column[name] for name in top]
    true, given = judged.closed_truth[:, at], closed(judged.graph, judged.scored.chosen)[:, at]
    names = [*top, NOTHING]
    flow = np.zeros((len(names), len(names)))
    hits = np.append((true & given).sum(axis=0), 0)
    flow[np.arange(len(names)), np.arange(len(names))] = hits
    missed, wrong = _with_nothing(true & ~given, given & ~true), _with_nothing(given & ~true, true & ~given)
    flow += missed.T @ (wrong / np.maximum(wrong.sum(axis=1, keepdims=True), 1))
    return _largest(names, flow)


def _with_nothing(flags: BoolArray, others: BoolArray) -> NDArray[np.float64]:
    """The flags with a column for none of them, where there are `others`."""
    nothing = others.any(axis=1) & ~flags.any(axis=1)
    return np.column_stack([flags, nothing]).astype(float)


def _largest(names: Sequence[str], flow: NDArray[np.float64]) -> dict[str, Any]:
    """The flow with all but the largest groups as one."""
    weight = flow.sum(axis=0) + flow.sum(axis=1)
    weight[-1] = np.inf
    kept = np.sort(np.argsort(-weight, kind="stable")[: MOST_FLOWING + 1])
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    onto = np.zeros((len(names), len(kept) + 1))
    onto[np.arange(len(names)), place] = 1
    shown = [names[at] for at in kept] + ([OTHERS] if len(kept) < len(names) else [])
    summed = (onto.T @ flow @ onto)[: len(shown), : len(shown)]
    links = [
        {"from": int(a), "to": int(b), "value": round(float(summed[a, b]), 2)}
        for a, b in zip(*np.nonzero(summed), strict=True)
    ]
    return {"names": shown, "links": links}


# What to mend


def mend(judged: Judged) -> list[dict[str, Any]]:
    """Errors of each group by their cause, what would win most micro F1 first."""
    hits = int((judged.true & judged.chosen).sum())
    sizes = int(judged.true.sum() + judged.chosen.sum())
    found = [
        {"group": group, "kind": kind, **_won(judged, mask, group, hits, sizes), "advice": _ADVICE[kind]}
        for group in judged.graph.groups[1:]
        for kind, mask in _masks(judged.kinds)
    ]
    found = [one for one in found if one["errors"]]
    return sorted(found, key=lambda one: -one["gain"])[:MOST_MENDED]


def _masks(kinds: ErrorKinds) -> tuple[tuple[str, BoolArray], ...]:
    return ("router", kinds.router), ("leaf", kinds.leaf), ("threshold", kinds.threshold)


def _won(judged: Judged, mask: BoolArray, group: str, hits: int, sizes: int) -> dict[str, Any]:
    """Errors of a kind among the labels below a group, and the micro F1 that they cost."""
    below = [judged.graph.labels.index(label) for label in judged.graph.descendant_labels(group)]
    missed = int((mask & judged.true)[:, below].sum())
    wrong = int((mask & judged.chosen)[:, below].sum())
    now = 2 * hits / sizes if sizes else 0.0
    then = 2 * (hits + missed) / (sizes + missed - wrong) if sizes + missed - wrong else 0.0
    return {"errors": missed + wrong, "missed": missed, "wrong": wrong, "gain": then - now}


# Labels


def label_rows(judged: Judged) -> list[dict[str, Any]]:
    """Each label with its figures, its curve and its calibration."""
    return [_label_row(judged, column, label) for column, label in enumerate(judged.graph.labels)]


def _label_row(judged: Judged, column: int, label: str) -> dict[str, Any]:
    one, known = judged.evaluation.per_label[label], judged.known[:, column]
    paths, true = judged.paths[known, column], judged.true[known, column]
    return {
        "name": label,
        "parents": [parent or "top level" for parent in one.parents],
        "rows": one.rows,
        "predicted": one.predicted,
        "precision": one.precision,
        "recall": one.recall,
        "f1": one.f1,
        "interval": list(one.f1_interval),
        "few": one.rows < FEW_ROWS,
        "threshold": judged.manifest.thresholds[label],
        "curve": curve(paths, true, judged.manifest.thresholds[label]),
        "calibration": calibration(paths, true),
    }


def curve(paths: FloatArray, true: BoolArray, threshold: float) -> list[tuple[float, int, int]]:
    """Thresholds, the highest first, with how many hits and how many wrong answers each would give.

    All cuts that change anything, or `CURVE_POINTS` of them, spread over the hits, and that of `threshold`.
    """
    order = np.argsort(-paths, kind="stable")
    ranked, hits = paths[order], np.cumsum(true[order])
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) if len(ranked) else np.empty(0, int)
    ends = ends[ranked[ends] > 0]
    if len(ends) > CURVE_POINTS:
        along = hits[ends] + np.arange(len(ends)) / len(ends)
        wanted = np.linspace(along[0], along[-1], CURVE_POINTS)
        kept = np.searchsorted(along, wanted)
        in_use = max(int((ranked[ends] >= np.float32(threshold)).sum()) - 1, 0)
        ends = ends[np.union1d(kept, in_use)]
    return [(_short(ranked[end]), int(hits[end]), int(end + 1 - hits[end])) for end in ends]


def calibration(paths: FloatArray, true: BoolArray) -> list[tuple[float, float, int]]:
    """Mean probability, share of true ones, and number of rows, of each of the `BINS` with any."""
    within = np.clip(np.searchsorted(BINS, paths, side="right") - 1, 0, len(BINS) - 2)
    found = []
    for place in np.unique(within[paths > 0]):
        inside = (within == place) & (paths > 0)
        found.append((_short(paths[inside].mean()), _short(true[inside].mean()), int(inside.sum())))
    return found


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")


# Mistakes


def confused(judged: Judged) -> list[dict[str, Any]]:
    """Siblings of which one was given where the other was true, most often first."""
    missed = (judged.true & ~judged.chosen).astype(np.float32)
    wrong = (judged.chosen & ~judged.true).astype(np.float32)
    counts = missed.T @ wrong
    found = []
    for true, given in zip(*np.nonzero(counts), strict=True):
        names = judged.graph.labels[true], judged.graph.labels[given]
        shared = set(judged.graph.parents[names[0]]) & set(judged.graph.parents[names[1]])
        if shared:
            group = min(shared) or "top level"
            found.append(
                {"true": names[0], "given": names[1], "group": group, "rows": int(counts[true, given])}
            )
    return sorted(found, key=lambda one: -one["rows"])[:MOST_PAIRS]


def mistakes(judged: Judged) -> list[dict[str, Any]]:
    """The errors that the model was surest of, as many missed as wrong ones, with texts and ways."""
    missed, wrong = judged.true & ~judged.chosen, judged.chosen & ~judged.true
    cells = [*_surest(1 - judged.paths, missed), *_surest(judged.paths, wrong)]
    cells.sort(key=lambda cell: -abs(float(judged.paths[cell]) - bool(judged.true[cell])))
    return [_mistake(judged, *cell) for cell in cells]


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


def _mistake(judged: Judged, row: int, column: int) -> dict[str, Any]:
    label, text = judged.graph.labels[column], judged.texts[row]
    kind = next((name for name, mask in _masks(judged.kinds) if mask[row, column]), "leaf")
    names = judged.graph.labels
    return {
        "id": judged.ids[row],
        "text": text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ...",
        "label": label,
        "missed": bool(judged.true[row, column]),
        "path": _short(judged.paths[row, column]),
        "threshold": _short(judged.manifest.thresholds[label]),
        "kind": kind,
        "way": list(_way(judged, row, label)),
        "true": [names[at] for at in np.flatnonzero(judged.true[row])],
        "given": [names[at] for at in np.flatnonzero(judged.chosen[row])],
    }


def _way(judged: Judged, row: int, label: str) -> Iterator[tuple[str, float | None]]:
    """The groups above a label, the outermost first, by the most probable parents; None: not entered."""
    found: list[tuple[str, float | None]] = []
    node = label
    while True:
        parents = [parent for parent in judged.graph.parents[node] if parent != ROOT]
        if not parents or ROOT in judged.graph.parents[node]:
            return iter(found[::-1])
        at = [judged.graph.column[parent] for parent in parents]
        paths = np.nan_to_num(judged.scored.paths[row, at], nan=-1)
        node, path = parents[int(paths.argmax())], float(paths.max())
        found.append((node, None if path < 0 else _short(path)))


# The page


def page(shown: Mapping[str, Any]) -> str:
    """One page of HTML with these figures; CascadeError where the package plotly is missing."""
    try:
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"the package {error.name!r} is not installed. Run: pip install 'cascade-classifier[report]'"
        ) from error
    template = files(__package__).joinpath("report.html").read_text("utf-8")
    # What `labels` tells of each label, and more, need not be there twice.
    evaluation = {name: value for name, value in shown["evaluation"].items() if name != "per_label"}
    data = json.dumps(
        {**shown, "evaluation": evaluation}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    # Within a script nothing ends it but its own tag, and no name or text may look like one.
    data = data.replace("<", "\\u003c")
    parts = {"title": escape(str(shown["name"])), "figures": data, "plotly": get_plotlyjs()}
    for name, content in parts.items():
        template = template.replace(f"<!-- {name} -->", content)
    return template
