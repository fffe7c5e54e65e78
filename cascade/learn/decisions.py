"""Thresholds, figures and suspicious labels, from scores that no model gave its own training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.learn.combining import row_counts
from cascade.learn.datasets import Dataset
from cascade.learn.promises import Promise, kept_cut
from cascade.learn.thresholds import LabelScores, auto_thresholds, f1, promised_threshold
from cascade.learn.truth import Cells
from cascade.model.decide import contending
from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.settings import Threshold
from cascade.text.clusters import clusters_of

MOST_SUSPICIOUS = 100
# A label of a training row is suspicious beyond these out-of-fold path probabilities.
HARDLY, SURELY = 0.02, 0.9


@dataclass(frozen=True)
class Decisions:
    """What out-of-fold path probabilities settle.

    Attributes
    ----------
    thresholds
        The least path probability of each label that is chosen, and of each group that may be answered with.
    metrics
        Figures of the decisions; the thresholds come from the same rows, which flatters a little.
    suspicious
        The labels that the probabilities contradict most.
    promises
        What labels were promised whose threshold is ``{precision: ...}``, by name.
    """

    thresholds: Mapping[str, float]
    metrics: Mapping[str, Any]
    suspicious: tuple[dict[str, Any], ...]
    promises: Mapping[str, Promise]

    def summary(self) -> str:
        """The figures in a line."""
        micro, macro = self.metrics["micro_f1"], self.metrics["macro_f1"]
        return f"out-of-fold micro F1 {micro:.3f}, macro F1 {macro:.3f}"


def decide_thresholds(
    dataset: Dataset, rows: IntArray, walked: Walked, exclusive: Sequence[str], seed: int
) -> Decisions:
    """What is settled by probabilities that no model gave its own training rows.

    Parameters
    ----------
    rows
        int64, shape (n_rows,), ascending: the rows of the data set that have such probabilities.
    walked
        The walk of these rows, combined.
    exclusive
        As for `contenders`.
    """
    taxonomy = dataset.taxonomy
    truth = known_truth(dataset, rows)
    believed = believed_walk(dataset, rows, walked)
    left = _scores(contending(taxonomy, believed, exclusive), truth, _decided(taxonomy))
    counts = row_counts(taxonomy.graph, truth)
    thresholds, promises = _thresholds(taxonomy, left, counts, clusters_of(dataset.texts)[rows], seed)
    # A sibling that `choose: one` preferred says nothing against a label that was given.
    doubted = _suspicious(rows, _scores(believed, truth, taxonomy.graph.labels))
    of_labels = {label: left[label] for label in taxonomy.graph.labels}
    return Decisions(thresholds, _metrics(len(rows), of_labels, thresholds), doubted, promises)


def known_truth(dataset: Dataset, rows: IntArray) -> Cells:
    """What is true at these rows and known to be."""
    return dataset.truth.take(rows).without(dataset.unknown.take(rows))


def believed_walk(dataset: Dataset, rows: IntArray, walked: Walked) -> Walked:
    """The walk of these rows, with NaN where nothing is known of the truth."""
    unknown, graph = dataset.unknown.take(rows), dataset.taxonomy.graph
    if not len(unknown.rows):
        return walked
    changed = {}
    for group, block in walked.blocks.items():
        gone = [unknown.of(graph.column[child]) for child in graph.children[group]]
        if any(map(len, gone)):
            changed[group] = block.paths.copy()
            for place, of_child in enumerate(gone):
                changed[group][np.isin(block.rows, of_child), place] = np.nan
    return walked.with_paths(changed)


def labels_out_of_fold(
    dataset: Dataset,
    rows: IntArray,
    walked: Walked,
    thresholds: Mapping[str, float],
    exclusive: Sequence[str],
) -> tuple[Cells, Cells]:
    """The true and the chosen labels of rows that have out-of-fold probabilities.

    A column for each of `Graph.labels`; the figures in the manifest are theirs.
    """
    taxonomy = dataset.taxonomy
    graph, truth = taxonomy.graph, known_truth(dataset, rows)
    left = contending(taxonomy, believed_walk(dataset, rows, walked), exclusive)
    scores = _scores(left, truth, graph.labels)
    chosen = (one.rows[one.scores >= np.float32(thresholds[label])] for label, one in scores.items())
    return truth.only([graph.column[label] for label in graph.labels]), Cells.of_columns(len(rows), chosen)


def _decided(taxonomy: Taxonomy) -> tuple[str, ...]:
    """All labels, and the groups that may be answered with."""
    return (*taxonomy.graph.labels, *_backing(taxonomy))


def _backing(taxonomy: Taxonomy) -> list[str]:
    return [group for group in taxonomy.graph.groups if group != ROOT and taxonomy.groups[group].back_off]


def _scores(walked: Walked, truth: Cells, names: Sequence[str]) -> dict[str, LabelScores]:
    """The scores and the truth of some nodes."""
    column = walked.graph.column
    return {name: LabelScores(*walked.node(name), truth.of(column[name])) for name in names}


def _thresholds(
    taxonomy: Taxonomy, scores: Mapping[str, LabelScores], counts: IntArray, clusters: IntArray, seed: int
) -> tuple[dict[str, float], dict[str, Promise]]:
    """The threshold of every label, and of every group that may be answered with; what was promised."""
    labels, backing = taxonomy.graph.labels, _backing(taxonomy)
    wanted = {label: taxonomy.threshold_of(label) for label in labels}
    wanted |= {group: taxonomy.groups[group].threshold for group in backing}
    found: dict[str, float] = {}
    promises: dict[str, Promise] = {}
    for names in (labels, backing):
        auto = auto_thresholds([scores[name].repeated(counts) for name in names], clusters, seed)
        for name, threshold in zip(names, auto.tolist(), strict=True):
            found[name], promise = _threshold(wanted[name], threshold, scores[name])
            if promise is not None:
                promises[name] = promise
    return found, promises


def _threshold(wanted: Threshold, auto: float, scores: LabelScores) -> tuple[float, Promise | None]:
    if wanted.kind == "auto":
        return auto, None
    if wanted.kind == "value" and wanted.value is not None:
        return wanted.value, None
    curve, value = scores.curve(), wanted.value or 0.0
    if wanted.kind == "recall":
        return promised_threshold(curve, wanted), None
    kept = kept_cut(curve, value)
    if kept is None:
        return promised_threshold(curve, wanted), Promise(value, None)
    return kept[0], Promise(value, kept[1])


def _metrics(
    n_rows: int, scores: Mapping[str, LabelScores], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Figures of out-of-fold decisions; the thresholds come from the same rows, which flatters a little."""
    counts = {label: _counts(one, thresholds[label]) for label, one in scores.items()}
    each = {label: float(f1(*of_label)) for label, of_label in counts.items()}
    occurring = [value for label, value in each.items() if counts[label][2]]
    return {
        "rows": n_rows,
        "micro_f1": float(f1(*(sum(column) for column in zip(*counts.values(), strict=True)))),
        "macro_f1": float(np.mean(occurring)) if occurring else 0.0,
        "f1": each,
        "positives": {label: positives for label, (_, _, positives) in counts.items()},
    }


def _counts(scores: LabelScores, threshold: float) -> tuple[int, int, int]:
    """How many chosen rows of a label are true, how many are chosen, and how many are true."""
    chosen = scores.scores >= np.float32(threshold)
    return int((chosen & scores.truth).sum()), int(chosen.sum()), len(scores.positives)


def _suspicious(row_numbers: IntArray, scores: Mapping[str, LabelScores]) -> tuple[dict[str, Any], ...]:
    """The labels that out-of-fold probabilities contradict most; rows count from 1."""
    found = [_doubts(column, one) for column, one in enumerate(scores.values())]
    rows, columns, given, chance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    doubt = np.where(given, 1 - chance, chance)
    worst = np.lexsort((columns, rows, -doubt))[:MOST_SUSPICIOUS]
    labels = list(scores)
    return tuple(
        {
            "row": int(row_numbers[rows[at]]) + 1,
            "label": labels[columns[at]],
            "given": bool(given[at]),
            "probability": round(float(chance[at]), 6),
        }
        for at in worst
    )


def _doubts(column: int, scores: LabelScores) -> tuple[IntArray, IntArray, BoolArray, FloatArray]:
    """Rows, columns, whether the label was given, and its probability, of what is hardly so."""
    doubted = np.where(scores.truth, scores.scores <= HARDLY, scores.scores >= SURELY)
    # What was not visited is given for sure to nobody, and to those who have it, hardly.
    unvisited = np.setdiff1d(scores.positives, scores.rows, assume_unique=True)
    rows = np.concatenate([scores.rows[doubted], unvisited])
    given = np.concatenate([scores.truth[doubted], np.ones(len(unvisited), dtype=bool)])
    chance = np.concatenate([scores.scores[doubted], np.zeros(len(unvisited), dtype=np.float32)])
    return rows, np.full(len(rows), column), given, chance
