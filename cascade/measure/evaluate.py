"""How good the answers are, and what is lost where: in the routing, in the node models or at the thresholds.

Besides the walk itself, a second one is compared with the truth, the *oracle*: its groups are entered
exactly where they are true, so what it still gets wrong cannot be the routers' fault.

Where a text is known to belong to a group and to none of the group's children, only the group is known.
What lies below it is then neither right nor wrong: those cells are left out of every figure over labels, of
the errors and of the hierarchical F1 (which still counts the group). A row that has no label at all for that
reason is a *group-only row*, and takes no part in `none_recall` and `exact_match` either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.measure.error_causes import ErrorCounts, ErrorKinds, error_kinds
from cascade.measure.known_cells import KnownCells
from cascade.measure.metrics import (
    F1Counts,
    FloatArray,
    Interval,
    as_intervals,
    bootstrap,
    calibration_error,
    calibration_error_by_chance,
    column_f1,
    exact_match,
    f1_intervals,
    macro_f1,
    micro_f1,
    none_recall,
    precision_at_1,
    with_ancestors,
)
from cascade.measure.second_pass import SecondPass
from cascade.measure.sparse import both, by_column, flags_at, without
from cascade.system.array_types import IntArray
from cascade.taxonomy.graph import ROOT, Graph


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label: `precision` is None where it was never chosen, `recall` None where it never occurs.

    `promised` is the precision that its threshold was to keep, None where that is no promise; `promise_bound`
    what the training rows spoke for, None where they were too few for any promise.
    """

    rows: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float
    f1_interval: Interval
    parents: tuple[str, ...]
    promised: float | None = None
    promise_bound: float | None = None


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One group; F1s and errors are those of all labels below it.

    `rows` truly belong to the group, `visited` entered it. `router_recall` is None where no row belongs to
    the group and where it is visited for every text.
    """

    rows: int
    visited: int
    router_recall: float | None
    micro_f1: float
    f1_interval: Interval
    oracle_micro_f1: float
    errors: ErrorCounts


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation:
    """All figures of one test set; the intervals are 95 % bootstrap intervals over its rows.

    Attributes
    ----------
    rows, labels : numbers of test rows and of labels in the taxonomy
    labels_in_truth : number of labels that occur in the rows, the ones that `macro_f1` averages
    group_only_rows : rows of which only groups are known
    precision_at_1 : None without a row that has a label
    none_recall, exact_match, router_recall : shares, None where there is nothing to count
    hierarchical_f1 : micro F1 over nodes with all their ancestors: a near miss keeps the groups it got right
        (Silla and Freitas, 2011, "A survey of hierarchical classification", section 8); the root is left out
    oracle_router_micro_f1 : micro F1 of the oracle
    calibration_error, calibration_error_by_chance : see `cascade.measure.metrics`, of all labels together
    per_label, per_group : by name, in the order of the graph, the root left out
    first_look : the share of rows that words alone answered; None where the model has no first look
    second_pass : the same figures without asking about doubtful labels again, and what that took; None where
        the model does no such thing
    """

    rows: int
    labels: int
    labels_in_truth: int
    group_only_rows: int
    micro_f1: float
    micro_f1_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    precision_at_1: float | None
    none_recall: float | None
    exact_match: float | None
    hierarchical_f1: float
    hierarchical_f1_interval: Interval
    router_recall: float | None
    oracle_router_micro_f1: float
    oracle_router_micro_f1_interval: Interval
    calibration_error: float | None
    calibration_error_by_chance: float | None
    errors: ErrorCounts
    per_label: Mapping[str, LabelFigures]
    per_group: Mapping[str, GroupFigures]
    first_look: float | None = None
    second_pass: SecondPass | None = None

    def __repr__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return (
            f"Evaluation of {rows}, {self.labels:,} labels: micro F1 {self.micro_f1:.3f}, "
            f"macro F1 {self.macro_f1:.3f}"
        )

    def _repr_html_(self) -> str:
        from cascade.measure.notebook import evaluation_html

        return evaluation_html(self)

    def to_json(self) -> dict[str, Any]:
        """One object of plain values: an interval is ``[low, high]``, None stays None."""
        return asdict(self, dict_factory=_with_lists)


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}


def evaluate(
    cells: KnownCells, *, seed: int = 0, promises: Mapping[str, Mapping[str, float | None]] | None = None
) -> Evaluation:
    """All figures of the answers.

    Parameters
    ----------
    cells : what was true, what was answered, and what the oracle answers: the same walk with each group
        entered exactly where it is true, with path probability 1
    seed : of the bootstrap
    promises : as in `cascade.model.folder.Manifest`
    """
    graph, truth, chosen = cells.graph, cells.truth, cells.chosen
    intervals = bootstrap(truth, chosen, seed)
    answered_nodes = without(with_ancestors(graph, cells.scored.chosen), cells.unknown_nodes)
    hierarchical = F1Counts.of(cells.truth_nodes, answered_nodes)
    ideal = F1Counts.of(truth, cells.oracle_chosen).total()
    errors = error_kinds(cells)
    settled = np.flatnonzero(~cells.is_group_only)
    return Evaluation(
        rows=len(cells),
        labels=len(graph.labels),
        labels_in_truth=int((by_column(truth) > 0).sum()),
        group_only_rows=len(cells) - len(settled),
        micro_f1=micro_f1(truth, chosen),
        micro_f1_interval=intervals.micro_f1,
        macro_f1=macro_f1(truth, chosen),
        macro_f1_interval=intervals.macro_f1,
        precision_at_1=precision_at_1(truth, cells.paths),
        none_recall=none_recall(truth[settled], chosen[settled]),
        exact_match=exact_match(truth[settled], chosen[settled]),
        hierarchical_f1=_total_f1(hierarchical),
        hierarchical_f1_interval=_total_interval(hierarchical, seed),
        router_recall=_Routing(cells).recall([name for name in graph.groups[1:] if name not in cells.always]),
        oracle_router_micro_f1=_total_f1(ideal),
        oracle_router_micro_f1_interval=_total_interval(ideal, seed),
        calibration_error=calibration_error(truth, cells.paths),
        calibration_error_by_chance=calibration_error_by_chance(cells.paths),
        errors=errors.counts(),
        per_label=_per_label(cells, intervals.columns, promises or {}),
        per_group=_per_group(cells, errors, seed),
    )


def _total_f1(tallies: F1Counts) -> float:
    return float(tallies.total().f1()[0])


def _total_interval(tallies: F1Counts, seed: int) -> Interval:
    return as_intervals(f1_intervals(tallies.total(), seed))[0]


class _Routing:
    """How many rows belong to each node, visit it, and do both."""

    def __init__(self, cells: KnownCells) -> None:
        self.column = cells.graph.column
        self.true: IntArray = by_column(cells.truth_nodes)
        self.visited: IntArray = by_column(cells.visited)
        self.both: IntArray = by_column(both(cells.truth_nodes, cells.visited))

    def recall(self, groups: Sequence[str]) -> float | None:
        """Share of the true (row, group) pairs that were visited; None where there are none."""
        at = [self.column[group] for group in groups]
        true = int(self.true[at].sum())
        return int(self.both[at].sum()) / true if true else None


def _per_label(
    cells: KnownCells, intervals: FloatArray, promises: Mapping[str, Mapping[str, float | None]]
) -> dict[str, LabelFigures]:
    hits, rows, predicted = (
        by_column(flags).tolist() for flags in (both(cells.truth, cells.chosen), cells.truth, cells.chosen)
    )
    f1 = column_f1(cells.truth, cells.chosen).tolist()
    bounds = as_intervals(intervals)
    return {
        label: LabelFigures(
            rows=rows[index],
            predicted=predicted[index],
            precision=hits[index] / predicted[index] if predicted[index] else None,
            recall=hits[index] / rows[index] if rows[index] else None,
            f1=f1[index],
            f1_interval=bounds[index],
            parents=tuple(parent for parent in cells.graph.parents[label] if parent != ROOT),
            promised=promises.get(label, {}).get("precision"),
            promise_bound=promises.get(label, {}).get("bound"),
        )
        for index, label in enumerate(cells.graph.labels)
    }


def _per_group(cells: KnownCells, errors: ErrorKinds, seed: int) -> dict[str, GroupFigures]:
    graph = cells.graph
    groups = graph.groups[1:]
    below = _labels_below(graph, groups)
    pools = np.repeat(np.arange(len(groups)), [len(labels) for labels in below])
    members = flags_at(np.concatenate([_NONE, *below]), pools, (len(graph.labels), len(groups)))
    tallies = F1Counts.of(cells.truth, cells.chosen).pooled(members)
    f1, bounds = tallies.f1().tolist(), as_intervals(f1_intervals(tallies, seed))
    oracle_f1 = F1Counts.of(cells.truth, cells.oracle_chosen).pooled(members).f1().tolist()
    routing = _Routing(cells)
    return {
        group: GroupFigures(
            rows=int(routing.true[graph.column[group]]),
            visited=int(routing.visited[graph.column[group]]),
            router_recall=None if group in cells.always else routing.recall([group]),
            micro_f1=f1[index],
            f1_interval=bounds[index],
            oracle_micro_f1=oracle_f1[index],
            errors=errors.counts(below[index]),
        )
        for index, group in enumerate(groups)
    }


_NONE = np.empty(0, dtype=np.int64)


def _labels_below(graph: Graph, groups: Sequence[str]) -> list[IntArray]:
    """Which labels stand below each group, as positions in `Graph.labels`."""
    place = {label: at for at, label in enumerate(graph.labels)}
    return [
        np.array([place[label] for label in graph.descendant_labels(group)], np.int64) for group in groups
    ]
