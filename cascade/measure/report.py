"""What a page about an evaluation shows: figures as plain values, and the page that carries them.

The page is one file. It loads nothing: the script of plotly stands in it, and all charts are drawn from the
figures by a script of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, hstack

from cascade.errors import CascadeError
from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.metrics import four_digits, with_ancestors
from cascade.measure.mistakes import confused, mistakes, remedies
from cascade.measure.sparse import Flags, are_in, both, by_column, by_row, without
from cascade.system.array_types import BoolArray, FloatArray
from cascade.taxonomy.graph import ROOT

MOST_SUSPICIOUS = 100
MOST_FLOWING = 25
"""Top-level groups of the Sankey diagram; the others are one."""
CURVE_POINTS, LEAST_POINTS, ALL_POINTS = 48, 16, 50_000
"""Points of a label's curve, and of all curves together: of thousands of labels each has fewer."""
BINS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of calibration: narrow where most probabilities of rare labels lie."""
FEW_ROWS = 10

OTHERS, NOTHING = "other groups", "no label"


def report_figures(evaluated: EvaluatedRows) -> dict[str, Any]:
    """All that the page shows, JSON-able."""
    return {
        "name": evaluated.taxonomy.name,
        "evaluation": evaluated.evaluation.to_json(),
        "tree": tree(evaluated),
        "flows": flows(evaluated),
        "mend": remedies(evaluated),
        "labels": label_rows(evaluated),
        "pairs": confused(evaluated),
        "mistakes": mistakes(evaluated),
        "suspicious": list(evaluated.manifest.suspicious[:MOST_SUSPICIOUS]),
    }


# The tree


def tree(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """The places of the taxonomy, parents first; a name with several parents has several places."""
    return [_place(evaluated, "", ROOT, None, set()), *_places(evaluated, ROOT, "", set())]


def _places(evaluated: EvaluatedRows, group: str, above: str, told: set[str]) -> Iterator[dict[str, Any]]:
    for child in evaluated.graph.children[group]:
        identity = f"{above}/{child}"
        yield _place(evaluated, identity, child, above, told)
        if child in evaluated.taxonomy.groups and child not in told:
            told.add(child)
            yield from _places(evaluated, child, identity, told)


def _place(
    evaluated: EvaluatedRows, identity: str, name: str, above: str | None, told: set[str]
) -> dict[str, Any]:
    rows, f1 = _figures_of(evaluated, name)
    is_group = name in evaluated.taxonomy.groups
    return {
        "id": identity,
        "parent": above,
        "name": name or evaluated.taxonomy.name,
        "last_name": evaluated.taxonomy.last_name(name) or evaluated.taxonomy.name,
        "group": is_group,
        "rows": rows,
        "f1": f1,
        "repeated": is_group and name in told,
    }


def _figures_of(evaluated: EvaluatedRows, name: str) -> tuple[int, float]:
    evaluation = evaluated.evaluation
    if name == ROOT:
        return evaluation.rows, evaluation.micro_f1
    if name in evaluation.per_group:
        return evaluation.per_group[name].rows, evaluation.per_group[name].micro_f1
    return evaluation.per_label[name].rows, evaluation.per_label[name].f1


# Flows between groups


def flows(evaluated: EvaluatedRows) -> dict[str, Any]:
    """Texts by a top-level group that they truly belong to, and one that they were given.

    What was given rightly flows straight on. Each group that was missed flows in equal parts to those that
    were given wrongly; to `NOTHING` where there are none, from where wrong ones come if nothing was missed.
    """
    top = evaluated.graph.children[ROOT]
    at, cells = [evaluated.graph.column[name] for name in top], evaluated.cells
    true, given = cells.truth_nodes[:, at], with_ancestors(evaluated.graph, cells.scored.chosen)[:, at]
    missed, wrong = without(true, given), without(given, true)
    parts = _with_nothing(wrong, missed).astype(float)
    parts.data /= np.repeat(by_row(parts), by_row(parts))
    straight = diags_array(np.append(by_column(both(true, given)), 0).astype(float))
    return _largest([*top, NOTHING], _with_nothing(missed, wrong).astype(float).T @ parts + straight)


def _with_nothing(flags: Flags, others: Flags) -> Flags:
    """The flags with a column for none of them, where there are `others`."""
    nothing = (by_row(others) > 0) & (by_row(flags) == 0)
    return hstack([flags, csr_array(nothing[:, None])], format="csr")


def _largest(names: Sequence[str], flow: csr_array) -> dict[str, Any]:
    """The flow with all but the largest groups as one."""
    weight = flow.sum(axis=0) + flow.sum(axis=1)
    weight[-1] = np.inf
    kept = np.sort(np.argsort(-weight, kind="stable")[: MOST_FLOWING + 1])
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    onto = csr_array((np.ones(len(names)), (np.arange(len(names)), place)), (len(names), len(kept) + 1))
    shown = [names[at] for at in kept] + ([OTHERS] if len(kept) < len(names) else [])
    summed: NDArray[np.float64] = (onto.T @ flow @ onto).toarray()[: len(shown), : len(shown)]
    links = [
        {"from": int(a), "to": int(b), "value": round(float(summed[a, b]), 2)}
        for a, b in zip(*np.nonzero(summed), strict=True)
    ]
    return {"names": shown, "links": links}


# Labels


def label_rows(evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Each label with its figures, its curve and its calibration."""
    labels = evaluated.graph.labels
    points = max(LEAST_POINTS, min(CURVE_POINTS, ALL_POINTS // len(labels)))
    pairs = zip(labels, _visits(evaluated), strict=True)
    return [_label_row(evaluated, label, *visits, points) for label, visits in pairs]


def _visits(evaluated: EvaluatedRows) -> Iterator[tuple[FloatArray, BoolArray]]:
    """Of each label the path probabilities at the rows that visited it, and whether these have it.

    At all others it is 0, and they have no part in a curve or its calibration.
    """
    paths = evaluated.cells.paths
    true = csr_array((are_in(paths, evaluated.cells.truth), paths.indices, paths.indptr), shape=paths.shape)
    by_label, true_by_label = paths.tocsc(), true.tocsc()
    for start, end in pairwise(by_label.indptr):
        yield by_label.data[start:end], true_by_label.data[start:end]


def _label_row(
    evaluated: EvaluatedRows, label: str, paths: FloatArray, true: BoolArray, points: int
) -> dict[str, Any]:
    one = evaluated.evaluation.per_label[label]
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
        "threshold": evaluated.manifest.thresholds[label],
        "curve": curve(paths, true, evaluated.manifest.thresholds[label], points),
        "calibration": calibration(paths, true),
    }


def curve(
    paths: FloatArray, true: BoolArray, threshold: float, most: int = CURVE_POINTS
) -> list[tuple[float, int, int]]:
    """Thresholds, the highest first, with how many hits and how many wrong answers each would give.

    All cuts that change anything, or `most` of them, spread over the hits, and that of `threshold`.
    """
    order = np.argsort(-paths, kind="stable")
    ranked, hits = paths[order], np.cumsum(true[order])
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) if len(ranked) else np.empty(0, int)
    ends = ends[ranked[ends] > 0]
    if len(ends) > most:
        along = hits[ends] + np.arange(len(ends)) / len(ends)
        wanted = np.linspace(along[0], along[-1], most)
        kept = np.searchsorted(along, wanted)
        in_use = max(int((ranked[ends] >= np.float32(threshold)).sum()) - 1, 0)
        ends = ends[np.union1d(kept, in_use)]
    return [(four_digits(ranked[end]), int(hits[end]), int(end + 1 - hits[end])) for end in ends]


def calibration(paths: FloatArray, true: BoolArray) -> list[tuple[float, float, int]]:
    """Mean probability, share of true ones, and number of rows, of each of the `BINS` with any."""
    within = np.clip(np.searchsorted(BINS, paths, side="right") - 1, 0, len(BINS) - 2)
    found = []
    for place in np.unique(within[paths > 0]):
        inside = (within == place) & (paths > 0)
        found.append((four_digits(paths[inside].mean()), four_digits(true[inside].mean()), int(inside.sum())))
    return found


# The page


def render_html(shown: Mapping[str, Any]) -> str:
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
