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

from cascade.measure.error_causes import ErrorCounts, ErrorKinds, Predictions, error_kinds, unknown_nodes
from cascade.measure.metrics import (
    BoolArray,
    F1Counts,
    FloatArray,
    Interval,
    as_intervals,
    bootstrap,
    calibration_error,
    column_f1,
    columns,
    exact_match,
    f1_intervals,
    macro_f1,
    micro_f1,
    none_recall,
    precision_at_1,
    share,
    with_ancestors,
)
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
    calibration_error : see `cascade.measure.metrics.calibration_error`, of all labels together
    per_label, per_group : by name, in the order of the graph, the root left out
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
    errors: ErrorCounts
    per_label: Mapping[str, LabelFigures]
    per_group: Mapping[str, GroupFigures]

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
    graph: Graph,
    truth: BoolArray,
    scored: Predictions,
    oracle: Predictions,
    *,
    always: frozenset[str],
    seed: int = 0,
    promises: Mapping[str, Mapping[str, float | None]] | None = None,
) -> Evaluation:
    """All figures of the answers in `scored`.

    Parameters
    ----------
    truth : bool (n_texts, n_nodes), labels and their ancestors; a row may carry groups only
    oracle : the same walk with each group entered exactly where it is true, with path probability 1
    always : groups that are visited for every text
    seed : of the bootstrap
    promises : as in `cascade.model.folder.Manifest`

    Raises
    ------
    ValueError
        When an array has another shape than `truth`, `truth` other columns than the graph has nodes, or a
        group is visited where its labels are not.
    """
    _check_shapes(graph, truth, scored, oracle)
    _check_visits(graph, scored)
    case = _KnownCells.of(graph, truth, scored, oracle, always)
    intervals = bootstrap(case.truth, case.chosen, seed)
    hierarchical = F1Counts.of(case.truth_nodes, with_ancestors(graph, scored.chosen) & ~case.unknown_nodes)
    ideal = F1Counts.of(case.truth, case.oracle_chosen).total()
    settled = ~case.is_group_only
    return Evaluation(
        rows=len(truth),
        labels=len(graph.labels),
        labels_in_truth=int(case.truth.any(axis=0).sum()),
        group_only_rows=int(case.is_group_only.sum()),
        micro_f1=micro_f1(case.truth, case.chosen),
        micro_f1_interval=intervals.micro_f1,
        macro_f1=macro_f1(case.truth, case.chosen),
        macro_f1_interval=intervals.macro_f1,
        precision_at_1=precision_at_1(case.truth, case.paths),
        none_recall=none_recall(case.truth[settled], case.chosen[settled]),
        exact_match=exact_match(case.truth[settled], case.chosen[settled]),
        hierarchical_f1=_total_f1(hierarchical),
        hierarchical_f1_interval=_total_interval(hierarchical, seed),
        router_recall=_router_recall(case, [name for name in graph.groups[1:] if name not in always]),
        oracle_router_micro_f1=_total_f1(ideal),
        oracle_router_micro_f1_interval=_total_interval(ideal, seed),
        calibration_error=calibration_error(case.truth, case.paths),
        errors=case.errors.counts(),
        per_label=_per_label(case, intervals.columns, promises or {}),
        per_group=_per_group(case, seed),
    )


@dataclass(frozen=True, slots=True)
class _KnownCells:
    """The arrays that all figures are made of: bool, unknown cells False everywhere.

    `truth`, `chosen`, `oracle_chosen` and `paths` have a column per label; `truth_nodes`, `unknown_nodes` and
    `visited` one per node.
    """

    graph: Graph
    always: frozenset[str]
    truth: BoolArray
    chosen: BoolArray
    oracle_chosen: BoolArray
    paths: FloatArray
    truth_nodes: BoolArray
    unknown_nodes: BoolArray
    visited: BoolArray
    is_group_only: BoolArray
    errors: ErrorKinds

    @classmethod
    def of(
        cls, graph: Graph, truth: BoolArray, scored: Predictions, oracle: Predictions, always: frozenset[str]
    ) -> _KnownCells:
        truth = with_ancestors(graph, truth)
        unknown = unknown_nodes(graph, truth)
        labels = columns(graph, graph.labels)
        known = ~unknown[:, labels]
        return cls(
            graph=graph,
            always=always,
            truth=truth[:, labels],
            chosen=scored.chosen[:, labels] & known,
            oracle_chosen=oracle.chosen[:, labels] & known,
            paths=np.where(known, scored.paths[:, labels], np.nan),
            truth_nodes=truth,
            unknown_nodes=unknown,
            visited=~np.isnan(scored.paths),
            is_group_only=np.any(truth, axis=1) & ~np.any(truth[:, labels], axis=1),
            errors=error_kinds(graph, truth, scored, oracle, always=always),
        )


def _check_shapes(graph: Graph, truth: BoolArray, scored: Predictions, oracle: Predictions) -> None:
    expected = (len(truth), len(graph.nodes))
    arrays = {
        "truth": truth,
        "scored.paths": scored.paths,
        "scored.chosen": scored.chosen,
        "oracle.paths": oracle.paths,
        "oracle.chosen": oracle.chosen,
    }
    for name, array in arrays.items():
        if array.shape != expected:
            raise ValueError(f"{name} has shape {array.shape}; expected {expected}, a column per node")


def _check_visits(graph: Graph, scored: Predictions) -> None:
    """Else the router recall would count groups that were scored by their parent and never entered."""
    unvisited = np.isnan(scored.paths)
    for group in graph.groups[1:]:
        for label in (name for name in graph.children[group] if name not in graph.children):
            odd = np.flatnonzero(unvisited[:, graph.column[label]] & ~unvisited[:, graph.column[group]])
            if odd.size:
                raise ValueError(
                    f"text {odd[0]}: group {group!r} has a path probability and its label {label!r} none; "
                    "expected NaN for a group that was not entered"
                )


def _total_f1(tallies: F1Counts) -> float:
    return float(tallies.total().f1()[0])


def _total_interval(tallies: F1Counts, seed: int) -> Interval:
    return as_intervals(f1_intervals(tallies.total(), seed))[0]


def _router_recall(case: _KnownCells, groups: Sequence[str]) -> float | None:
    """Share of the true (row, group) pairs that were visited."""
    at = columns(case.graph, groups)
    return share(case.visited[:, at][case.truth_nodes[:, at]])


def _per_label(
    case: _KnownCells, intervals: FloatArray, promises: Mapping[str, Mapping[str, float | None]]
) -> dict[str, LabelFigures]:
    hits = (case.truth & case.chosen).sum(axis=0).tolist()
    rows = case.truth.sum(axis=0).tolist()
    predicted = case.chosen.sum(axis=0).tolist()
    f1 = column_f1(case.truth, case.chosen).tolist()
    bounds = as_intervals(intervals)
    return {
        label: LabelFigures(
            rows=rows[index],
            predicted=predicted[index],
            precision=hits[index] / predicted[index] if predicted[index] else None,
            recall=hits[index] / rows[index] if rows[index] else None,
            f1=f1[index],
            f1_interval=bounds[index],
            parents=tuple(parent for parent in case.graph.parents[label] if parent != ROOT),
            promised=promises.get(label, {}).get("precision"),
            promise_bound=promises.get(label, {}).get("bound"),
        )
        for index, label in enumerate(case.graph.labels)
    }


def _per_group(case: _KnownCells, seed: int) -> dict[str, GroupFigures]:
    graph = case.graph
    groups = graph.groups[1:]
    members = _members(graph, groups)
    tallies = F1Counts.of(case.truth, case.chosen).pooled(members)
    f1, bounds = tallies.f1().tolist(), as_intervals(f1_intervals(tallies, seed))
    oracle_f1 = F1Counts.of(case.truth, case.oracle_chosen).pooled(members).f1().tolist()
    rows, visited = case.truth_nodes.sum(axis=0).tolist(), case.visited.sum(axis=0).tolist()
    return {
        group: GroupFigures(
            rows=rows[graph.column[group]],
            visited=visited[graph.column[group]],
            router_recall=None if group in case.always else _router_recall(case, [group]),
            micro_f1=f1[index],
            f1_interval=bounds[index],
            oracle_micro_f1=oracle_f1[index],
            errors=case.errors.counts(np.flatnonzero(members[:, index]).tolist()),
        )
        for index, group in enumerate(groups)
    }


def _members(graph: Graph, groups: Sequence[str]) -> BoolArray:
    """Which labels stand below which group: bool (n_labels, n_groups)."""
    below = [frozenset(graph.descendant_labels(group)) for group in groups]
    flags = [[label in names for names in below] for label in graph.labels]
    return np.array(flags, dtype=np.bool_).reshape(len(graph.labels), len(groups))
