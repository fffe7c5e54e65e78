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
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.measure.metrics import (
    BoolArray,
    FloatArray,
    Interval,
    Tallies,
    bootstrap,
    closed,
    column_f1,
    columns,
    exact_match,
    f1_intervals,
    macro_f1,
    micro_f1,
    none_recall,
    pairs,
    precision_at_1,
    share,
)
from cascade.taxonomy.graph import ROOT, Graph

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_BELIEVED = 0.5
"""A conditional score from here on says yes: the model holds the label for more likely than not."""

_ENOUGH_ROWS = 10
"""Rows that a label must have to be called weak: with fewer, its interval spans half of all there is."""

_WEAKEST = 10
_LISTED_GROUPS = 30


@dataclass(frozen=True, slots=True)
class Scored:
    """What a walk and the decisions after it say.

    Attributes
    ----------
    paths : float32 (n_texts, n_nodes), path probabilities, NaN where a node was not visited. A group is
        visited where its own model was asked: one that its parent scored and that was not entered is NaN.
    chosen : bool (n_texts, n_nodes), labels finally answered, and groups where a group backed off
    """

    paths: FloatArray
    chosen: BoolArray


@dataclass(frozen=True, slots=True)
class ErrorKinds:
    """Wrong cells by what caused them, each bool (n_texts, n_labels); no two overlap."""

    router: BoolArray
    leaf: BoolArray
    threshold: BoolArray

    def counts(self, labels: Sequence[int] | slice = slice(None)) -> ErrorCounts:
        """Numbers of errors, over all labels or over those at the positions `labels`."""
        masks = (self.router, self.leaf, self.threshold)
        return ErrorCounts(*(int(mask[:, labels].sum()) for mask in masks))


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """False positives and false negatives together, by what caused them."""

    router: int
    leaf: int
    threshold: int


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """One label: `precision` is None where it was never chosen, `recall` None where it never occurs."""

    rows: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float
    f1_interval: Interval
    parents: tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All figures of one test set; the intervals are 95 % bootstrap intervals over its rows.

    Attributes
    ----------
    rows, labels : numbers of test rows and of labels in the taxonomy
    labels_in_truth : number of labels that occur in the rows, the ones that `macro_f1` averages
    group_only_rows : rows of which only groups are known
    precision_at_1 : None without a row that has a label
    none_recall, exact_match, router_recall : shares, None where there is nothing to count
    oracle_router_micro_f1 : micro F1 of the oracle
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
    errors: ErrorCounts
    per_label: Mapping[str, LabelFigures]
    per_group: Mapping[str, GroupFigures]

    def to_json(self) -> dict[str, Any]:
        """One object of plain values: an interval is ``[low, high]``, None stays None."""
        return asdict(self, dict_factory=_with_lists)


def _with_lists(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in items}


def evaluate(
    graph: Graph, truth: BoolArray, scored: Scored, oracle: Scored, *, always: frozenset[str], seed: int = 0
) -> Evaluation:
    """All figures of the answers in `scored`.

    Parameters
    ----------
    truth : bool (n_texts, n_nodes), labels and their ancestors; a row may carry groups only
    oracle : the same walk with each group entered exactly where it is true, with path probability 1
    always : groups that are visited for every text
    seed : of the bootstrap

    Raises
    ------
    ValueError
        When an array has another shape than `truth`, `truth` other columns than the graph has nodes, or a
        group is visited where its labels are not.
    """
    _check_shapes(graph, truth, scored, oracle)
    _check_visits(graph, scored)
    case = _Case.of(graph, truth, scored, oracle, always)
    intervals = bootstrap(case.truth, case.chosen, seed)
    hierarchical = Tallies.of(case.truth_nodes, closed(graph, scored.chosen) & ~case.unknown_nodes)
    ideal = Tallies.of(case.truth, case.oracle_chosen).total()
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
        errors=case.errors.counts(),
        per_label=_per_label(case, intervals.columns),
        per_group=_per_group(case, seed),
    )


def error_kinds(
    graph: Graph, truth: BoolArray, scored: Scored, oracle: Scored, *, always: frozenset[str]
) -> ErrorKinds:
    """Every missed and every wrongly chosen label, by what caused it.

    ===========  ==============================================  ==========================================
    kind         a missed label                                  a wrong label
    ===========  ==============================================  ==========================================
    router       was not visited, or the oracle chooses it: the  stands in no group that the text belongs to
                 routing hid it or pulled its score down
    threshold    else, its oracle path is 0.5 or more: the       else, its oracle path is below 0.5: only a
                 model said yes and the threshold no             low threshold let it in
    leaf         else: the model said no                         else: the model said yes
    ===========  ==============================================  ==========================================

    Every text belongs to the root and to the groups in `always`. In the oracle a group that is entered has
    path probability 1, so the oracle path of a label is its conditional score; NaN is below 0.5. Parameters
    are those of `evaluate`; what lies below a group of which no more is known is no error.
    """
    truth = closed(graph, truth)
    labels = columns(graph, graph.labels)
    true, chosen = truth[:, labels], scored.chosen[:, labels]
    missed = true & ~chosen
    wrong = chosen & ~true & ~unknown_nodes(graph, truth)[:, labels]
    hidden = np.isnan(scored.paths[:, labels]) | oracle.chosen[:, labels]
    router = (missed & hidden) | (wrong & ~_reached(graph, truth, always))
    believed = oracle.paths[:, labels] >= _BELIEVED
    threshold = ((missed & believed) | (wrong & ~believed)) & ~router
    return ErrorKinds(router, leaf=(missed | wrong) & ~router & ~threshold, threshold=threshold)


def unknown_nodes(graph: Graph, truth: BoolArray) -> BoolArray:
    """Nodes of which a row says nothing: all below a group that is true while none of its children is.

    Both arrays are (n_texts, n_nodes), `truth` closed under ancestors.
    """
    unknown = np.zeros_like(truth)
    for group in graph.groups[1:]:
        column, below = graph.column[group], columns(graph, graph.children[group])
        is_open = truth[:, column] & ~truth[:, below].any(axis=1)
        unknown[:, below] |= (is_open | unknown[:, column])[:, None]
    return unknown


@dataclass(frozen=True, slots=True)
class _Case:
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
        cls, graph: Graph, truth: BoolArray, scored: Scored, oracle: Scored, always: frozenset[str]
    ) -> _Case:
        truth = closed(graph, truth)
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


def _check_shapes(graph: Graph, truth: BoolArray, scored: Scored, oracle: Scored) -> None:
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


def _check_visits(graph: Graph, scored: Scored) -> None:
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


def _reached(graph: Graph, truth: BoolArray, always: frozenset[str]) -> BoolArray:
    """Whether each text belongs to a parent of each label: bool (n_texts, n_labels)."""
    reached = np.zeros((len(truth), len(graph.labels)), dtype=np.bool_)
    for index, label in enumerate(graph.labels):
        parents = set(graph.parents[label])
        if parents & (always | {ROOT}):
            reached[:, index] = True
        else:
            reached[:, index] = truth[:, columns(graph, sorted(parents))].any(axis=1)
    return reached


def _total_f1(tallies: Tallies) -> float:
    return float(tallies.total().f1()[0])


def _total_interval(tallies: Tallies, seed: int) -> Interval:
    return pairs(f1_intervals(tallies.total(), seed))[0]


def _router_recall(case: _Case, groups: Sequence[str]) -> float | None:
    """Share of the true (row, group) pairs that were visited."""
    at = columns(case.graph, groups)
    return share(case.visited[:, at][case.truth_nodes[:, at]])


def _per_label(case: _Case, intervals: FloatArray) -> dict[str, LabelFigures]:
    hits = (case.truth & case.chosen).sum(axis=0).tolist()
    rows = case.truth.sum(axis=0).tolist()
    predicted = case.chosen.sum(axis=0).tolist()
    f1 = column_f1(case.truth, case.chosen).tolist()
    bounds = pairs(intervals)
    return {
        label: LabelFigures(
            rows=rows[index],
            predicted=predicted[index],
            precision=hits[index] / predicted[index] if predicted[index] else None,
            recall=hits[index] / rows[index] if rows[index] else None,
            f1=f1[index],
            f1_interval=bounds[index],
            parents=tuple(parent for parent in case.graph.parents[label] if parent != ROOT),
        )
        for index, label in enumerate(case.graph.labels)
    }


def _per_group(case: _Case, seed: int) -> dict[str, GroupFigures]:
    graph = case.graph
    groups = graph.groups[1:]
    members = _members(graph, groups)
    tallies = Tallies.of(case.truth, case.chosen).pooled(members)
    f1, bounds = tallies.f1().tolist(), pairs(f1_intervals(tallies, seed))
    oracle_f1 = Tallies.of(case.truth, case.oracle_chosen).pooled(members).f1().tolist()
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


def render(evaluation: Evaluation) -> RenderableType:
    """A compact summary for a terminal: head figures, the price of the hierarchy, groups, weakest labels."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(_size_line(evaluation)), Text(), _head_table(evaluation), Text()]
    parts.append(Text("\n".join(_loss_lines(evaluation))))
    if evaluation.per_group:
        parts += [Text(), _group_table(evaluation)]
    parts += [Text(), _weakest_table(evaluation)]
    return Group(*parts)


def _size_line(evaluation: Evaluation) -> str:
    only = evaluation.group_only_rows
    known = f", of {only:,} only the group is known" if only else ""
    return (
        f"{_counted(evaluation.rows, 'row')}{known}; {_counted(evaluation.labels, 'label')}, "
        f"{evaluation.labels_in_truth:,} of them in the rows"
    )


def _head_table(evaluation: Evaluation) -> Table:
    figures: list[tuple[str, float | None, Interval | None]] = [
        ("micro F1", evaluation.micro_f1, evaluation.micro_f1_interval),
        ("macro F1", evaluation.macro_f1, evaluation.macro_f1_interval),
        ("hierarchical F1", evaluation.hierarchical_f1, evaluation.hierarchical_f1_interval),
        ("precision at 1", evaluation.precision_at_1, None),
        ("recall of none", evaluation.none_recall, None),
        ("exact match", evaluation.exact_match, None),
        ("router recall", evaluation.router_recall, None),
        (
            "micro F1, perfect routing",
            evaluation.oracle_router_micro_f1,
            evaluation.oracle_router_micro_f1_interval,
        ),
    ]
    table = _table("", "", "95 % interval", left=1)
    for name, value, interval in figures:
        table.add_row(_cell(name), _cell(_number(value)), _cell(_span(interval)))
    return table


def _loss_lines(evaluation: Evaluation) -> list[str]:
    """What the hierarchy costs, and one line in words that says where most is lost."""
    errors = evaluation.errors
    counts = {"router": errors.router, "leaf": errors.leaf, "threshold": errors.threshold}
    total = sum(counts.values())
    if total == 0:
        return ["No errors."]
    shares = ", ".join(f"{kind} {count:,} ({count / total:.0%})" for kind, count in counts.items())
    gap = evaluation.oracle_router_micro_f1 - evaluation.micro_f1
    return [
        f"{_counted(total, 'error')}: {shares}",
        f"Perfect routing would change micro F1 by {gap:+.3f}.",
        _verdict(counts, total),
    ]


def _verdict(counts: Mapping[str, int], total: int) -> str:
    """Where most is lost, in words."""
    words = {
        "router": "in the routing: texts miss their group or enter a wrong one",
        "leaf": "in the models of the groups: the right group was asked and its model was mistaken",
        "threshold": "at the thresholds: the model leaned the right way and the threshold overruled it",
    }
    most = max(counts.values())
    kinds = [words[kind] for kind, count in counts.items() if count == most]
    return f"Most is lost {'; and as much '.join(kinds)} ({most / total:.0%} of the errors)."


def _group_table(evaluation: Evaluation) -> Table:
    order = sorted(evaluation.per_group.items(), key=lambda item: -_error_total(item[1].errors))
    hidden = len(order) - _LISTED_GROUPS
    table = _table(
        "group", "rows", "visited", "recall", "F1", "95 %", "oracle", "router", "leaf", "thresh.", left=1
    )
    for name, group in order[:_LISTED_GROUPS]:
        errors = group.errors
        figures = (_number(group.router_recall), _number(group.micro_f1), _span(group.f1_interval))
        cells = (f"{group.rows:,}", f"{group.visited:,}", *figures, _number(group.oracle_micro_f1))
        kinds = (f"{count:,}" for count in (errors.router, errors.leaf, errors.threshold))
        table.add_row(*(_cell(text) for text in (name, *cells, *kinds)))
    table.title = _cell("Groups, most errors first: router recall, micro F1, perfect routing, errors by kind")
    table.caption = _cell(f"and {_counted(hidden, 'group')} with fewer errors") if hidden > 0 else None
    return table


def _error_total(errors: ErrorCounts) -> int:
    return errors.router + errors.leaf + errors.threshold


def _weakest_table(evaluation: Evaluation) -> RenderableType:
    enough = [item for item in evaluation.per_label.items() if item[1].rows >= _ENOUGH_ROWS]
    if not enough:
        return _cell(f"No label has {_ENOUGH_ROWS} rows, which is what it takes to call one weak.")
    table = _table("label", "in", "rows", "predicted", "precision", "recall", "F1", "95 %", left=2)
    for name, label in sorted(enough, key=lambda item: item[1].f1)[:_WEAKEST]:
        figures = (label.precision, label.recall, label.f1)
        cells = (f"{label.rows:,}", f"{label.predicted:,}", *map(_number, figures), _span(label.f1_interval))
        table.add_row(*(_cell(text) for text in (name, ", ".join(label.parents), *cells)))
    table.title = _cell(f"Weakest labels of the {len(enough):,} with {_ENOUGH_ROWS} rows or more")
    return table


def _table(*headers: str, left: int) -> Table:
    """An empty table whose first `left` columns hold words and the others figures."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), title_justify="left", caption_justify="left")
    for index, header in enumerate(headers):
        words = index < left
        table.add_column(
            _cell(header), justify="left" if words else "right", no_wrap=not words, overflow="fold"
        )
    return table


def _cell(text: str) -> Text:
    """Text as it stands: names may hold what rich would read as markup."""
    from rich.text import Text

    return Text(text)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def _span(interval: Interval | None) -> str:
    return "" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
