"""Thresholds, figures and suspicious labels, from scores that no model gave its own training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.learn.datasets import Dataset
from cascade.learn.thresholds import Curve, auto_thresholds, f1, promised_threshold
from cascade.model.decide import contenders, decide
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
    """

    thresholds: Mapping[str, float]
    metrics: Mapping[str, Any]
    suspicious: tuple[dict[str, Any], ...]

    def summary(self) -> str:
        """The figures in a line."""
        micro, macro = self.metrics["micro_f1"], self.metrics["macro_f1"]
        return f"out-of-fold micro F1 {micro:.3f}, macro F1 {macro:.3f}"


def decide_thresholds(dataset: Dataset, rows: IntArray, paths: FloatArray, seed: int) -> Decisions:
    """What is settled by path probabilities that no model gave its own training rows.

    Parameters
    ----------
    rows
        int64, shape (n_rows,): the rows of the data set that have such probabilities.
    paths
        float32, shape (n_rows, n_nodes).
    """
    taxonomy, known = dataset.taxonomy, dataset.known[rows]
    labels = taxonomy.graph.labels
    believed = _believed(dataset, rows, paths)
    left = contenders(taxonomy, believed)
    truth = dataset.truth[rows] & known
    thresholds = _thresholds(taxonomy, left, truth, clusters_of(dataset.texts)[rows], seed)
    columns = [taxonomy.graph.column[label] for label in labels]
    chosen = decide(taxonomy, thresholds, left)[:, columns]
    # A sibling that `choose: one` preferred says nothing against a label that was given.
    doubted = _suspicious(labels, rows, truth[:, columns], believed[:, columns])
    return Decisions(thresholds, _metrics(labels, truth[:, columns], chosen), doubted)


def labels_out_of_fold(
    dataset: Dataset, rows: IntArray, paths: FloatArray, thresholds: Mapping[str, float]
) -> tuple[BoolArray, BoolArray]:
    """The true and the chosen labels of rows that have out-of-fold path probabilities.

    Both bool, shape (n_rows, n_labels), columns as in `Graph.labels`; the figures in the manifest are theirs.
    """
    taxonomy = dataset.taxonomy
    columns = [taxonomy.graph.column[label] for label in taxonomy.graph.labels]
    chosen = decide(taxonomy, thresholds, contenders(taxonomy, _believed(dataset, rows, paths)))
    return (dataset.truth[rows] & dataset.known[rows])[:, columns], chosen[:, columns]


def _believed(dataset: Dataset, rows: IntArray, paths: FloatArray) -> FloatArray:
    """`paths`, with NaN where nothing is known of the truth."""
    known = dataset.known[rows]
    return paths if known.all() else np.where(known, paths, np.float32(np.nan))


def _thresholds(
    taxonomy: Taxonomy, paths: FloatArray, truth: BoolArray, clusters: IntArray, seed: int
) -> dict[str, float]:
    """The threshold of every label, and of every group that may be answered with."""
    graph = taxonomy.graph
    backing = [group for group in graph.groups if group != ROOT and taxonomy.groups[group].back_off]
    wanted = {label: taxonomy.threshold_of(label) for label in graph.labels}
    wanted |= {group: taxonomy.groups[group].threshold for group in backing}
    found: dict[str, float] = {}
    for names in (list(graph.labels), backing):
        columns = [graph.column[name] for name in names]
        auto = auto_thresholds(paths[:, columns], truth[:, columns], clusters, seed)
        for name, column, threshold in zip(names, columns, auto.tolist(), strict=True):
            found[name] = _threshold(wanted[name], threshold, paths[:, column], truth[:, column])
    return found


def _threshold(wanted: Threshold, auto: float, path: FloatArray, truth: BoolArray) -> float:
    if wanted.kind == "auto":
        return auto
    if wanted.kind == "value" and wanted.value is not None:
        return wanted.value
    return promised_threshold(Curve.of(path, truth), wanted)


def _metrics(labels: Sequence[str], truth: BoolArray, chosen: BoolArray) -> dict[str, Any]:
    """Figures of out-of-fold decisions; the thresholds come from the same rows, which flatters a little."""
    hits, picked, positives = (truth & chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0)
    each = [float(f1(int(h), int(c), int(p))) for h, c, p in zip(hits, picked, positives, strict=True)]
    occurring = [value for value, count in zip(each, positives, strict=True) if count]
    return {
        "rows": len(truth),
        "micro_f1": float(f1(int(hits.sum()), int(picked.sum()), int(positives.sum()))),
        "macro_f1": float(np.mean(occurring)) if occurring else 0.0,
        "f1": dict(zip(labels, each, strict=True)),
        "positives": dict(zip(labels, positives.tolist(), strict=True)),
    }


def _suspicious(
    labels: Sequence[str], row_numbers: IntArray, truth: BoolArray, paths: FloatArray
) -> tuple[dict[str, Any], ...]:
    """The labels that out-of-fold probabilities contradict most; rows count from 1."""
    # What was not visited, NaN, is neither above the one nor at the other.
    rows, columns = np.nonzero(np.where(truth, ~(paths > HARDLY), paths >= SURELY))
    given, chance = truth[rows, columns], np.nan_to_num(paths[rows, columns])
    doubt = np.where(given, 1 - chance, chance)
    worst = np.lexsort((columns, rows, -doubt))[:MOST_SUSPICIOUS]
    return tuple(
        {
            "row": int(row_numbers[rows[at]]) + 1,
            "label": labels[columns[at]],
            "given": bool(given[at]),
            "probability": round(float(chance[at]), 6),
        }
        for at in worst
    )
