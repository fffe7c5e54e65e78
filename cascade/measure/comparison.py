"""Two models on the same rows: which is better, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.metrics import (
    F1Counts,
    FloatArray,
    Interval,
    macro_f1,
    micro_f1,
    of_labels,
)
from cascade.measure.sparse import Flags, by_column, without
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.members import Label

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class MetricDifference:
    """One figure of two models.

    Attributes
    ----------
    name
        ``micro F1``, ``macro F1`` or a label.
    this, other
        The figures, each in [0, 1].
    interval
        95 % of `other` less `this`, over rows drawn anew for both alike (paired bootstrap).
    p
        How likely a difference of this size either way is by the choice of rows alone: twice the share of
        resamples on the other side of 0 (Efron and Tibshirani, 1993, section 16.4), at least
        2 / (`RESAMPLES` + 1) and at most 1.
    """

    name: str
    this: float
    other: float
    interval: Interval
    p: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the labels that both know.

    Attributes
    ----------
    rows, labels
        How many of both.
    left_out
        Labels that one of them alone has.
    figures
        Micro and macro F1.
    by_label
        F1 of each label that occurs or was given by any, those that changed most first.
    """

    rows: int
    labels: int
    left_out: tuple[str, ...]
    figures: tuple[MetricDifference, ...]
    by_label: tuple[MetricDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


def compare_models(this: EvaluatedRows, other: EvaluatedRows, seed: int = 0) -> Comparison:
    """What `other` is better and worse at.

    Both have the same rows; what either holds for unknown is left out for both.
    """
    mine, yours = this.graph.labels, other.graph.labels
    common = _common_labels(this.taxonomy, other.taxonomy)
    sides = [_cells(this, list(common)), _cells(other, list(common.values()))]
    unknown = sides[0][2] + sides[1][2]
    truth = without(sides[0][0], unknown)
    given = (without(sides[0][1], unknown), without(sides[1][1], unknown))
    return Comparison(
        rows=len(this.cells),
        labels=len(common),
        left_out=tuple(sorted({*mine} - {*common} | {*yours} - {*common.values()})),
        figures=(_micro(truth, given, seed), _macro(truth, given, seed)),
        by_label=_by_label(list(common), truth, given, seed),
    )


def _common_labels(this: Taxonomy, other: Taxonomy) -> dict[str, str]:
    """The labels that both have, by their names in `this`: of one name, or of one place if one has paths."""
    if this.names == other.names:
        return {label: label for label in this.labels if label in other.labels}
    pairs = ((label, this.counterpart(label, other)) for label in this.labels)
    return {
        label: found
        for label, found in pairs
        if found in other.labels and found is not None and other.counterpart(found, this) == label
    }


def flat_taxonomy(taxonomy: Taxonomy) -> Taxonomy:
    """The taxonomy without its groups: all labels stand at the top level, with the aliases that are clear."""
    labels = [_flat_label(taxonomy, label) for label in taxonomy.labels.values()]
    return Taxonomy.from_dict({"name": f"{taxonomy.name}_flat", "labels": labels})


def _flat_label(taxonomy: Taxonomy, label: Label) -> dict[str, Any]:
    clear = [alias for alias in label.aliases if taxonomy.resolve(alias) == label.name]
    return {"name": label.name} | ({"aliases": clear} if clear else {})


def flat_labels(taxonomy: Taxonomy, names: Sequence[Sequence[str]]) -> list[list[str] | None]:
    """What a flat model learns from the names of each row: None where they name groups alone."""
    found: list[list[str] | None] = []
    for given in names:
        kept = [name for name in given if name in taxonomy.labels]
        found.append(kept if kept or not given else None)
    return found


def _cells(evaluated: EvaluatedRows, labels: list[str]) -> tuple[Flags, Flags, Flags]:
    """True, chosen and unknown cells of these labels."""
    place = {label: at for at, label in enumerate(evaluated.graph.labels)}
    at, cells = [place[label] for label in labels], evaluated.cells
    unknown = of_labels(evaluated.graph, cells.unknown_nodes)
    return cells.truth[:, at], cells.chosen[:, at], unknown[:, at]


Given = tuple[Flags, Flags]


def _micro(truth: Flags, given: Given, seed: int) -> MetricDifference:
    samples = [F1Counts.of(truth, one).total().resampled_f1(seed, RESAMPLES)[:, 0] for one in given]
    this, other = (micro_f1(truth, one) for one in given)
    return _metric_difference("micro F1", this, other, samples[1] - samples[0])


def _macro(truth: Flags, given: Given, seed: int) -> MetricDifference:
    occurs = F1Counts.of(truth, truth).resampled_f1(seed, RESAMPLES) > 0
    counts = np.maximum(occurs.sum(axis=1), 1)
    samples = [
        np.where(occurs, np.nan_to_num(F1Counts.of(truth, one).resampled_f1(seed, RESAMPLES)), 0).sum(axis=1)
        / counts
        for one in given
    ]
    this, other = (macro_f1(truth, one) for one in given)
    return _metric_difference("macro F1", this, other, samples[1] - samples[0])


def _by_label(labels: list[str], truth: Flags, given: Given, seed: int) -> tuple[MetricDifference, ...]:
    tallies = [F1Counts.of(truth, one) for one in given]
    figures = [one.f1() for one in tallies]
    samples = [np.nan_to_num(one.resampled_f1(seed, RESAMPLES)) for one in tallies]
    told = np.sum([by_column(flags) for flags in (truth, *given)], axis=0)
    found = [
        _metric_difference(
            label,
            float(figures[0][at]),
            float(figures[1][at]),
            samples[1][:, at] - samples[0][:, at],
        )
        for at, label in enumerate(labels)
        if told[at]
    ]
    return tuple(sorted(found, key=lambda one: -abs(one.other - one.this)))


def _metric_difference(name: str, this: float, other: float, samples: FloatArray) -> MetricDifference:
    known = samples[~np.isnan(samples)]
    if not len(known):
        return MetricDifference(name, this, other, (0.0, 0.0), 1.0)
    low, high = np.percentile(known, (2.5, 97.5))
    beyond = 1 + min(int((known <= 0).sum()), int((known >= 0).sum()))
    return MetricDifference(
        name, this, other, (float(low), float(high)), min(2 * beyond / (len(known) + 1), 1.0)
    )
