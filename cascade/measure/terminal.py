"""An evaluation, and the comparison of two models, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cascade.measure.comparison import Comparison
from cascade.measure.error_causes import ErrorCounts
from cascade.measure.evaluate import Evaluation, LabelFigures
from cascade.measure.metrics import Interval
from cascade.measure.second_pass import SecondPass

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_ENOUGH_ROWS = 10
"""Rows that a label must have to be called weak: with fewer, its interval spans half of all there is."""

_WEAKEST = 10
_LISTED_GROUPS = 30
_CHANGED_LABELS = 12


def render_evaluation(evaluation: Evaluation) -> RenderableType:
    """A compact summary for a terminal: head figures, the price of the hierarchy, groups, weakest labels."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(_size_line(evaluation)), Text(), _head_table(evaluation), Text()]
    parts.append(Text("\n".join(_loss_lines(evaluation))))
    if evaluation.second_pass is not None:
        parts += [Text(), _second_pass_table(evaluation, evaluation.second_pass), Text()]
        parts.append(Text(_second_pass_line(evaluation.second_pass)))
    if evaluation.per_group:
        parts += [Text(), _group_table(evaluation)]
    parts += [Text(), _weakest_table(evaluation)]
    if any(label.promised is not None for label in evaluation.per_label.values()):
        parts += [Text(), _promise_table(evaluation)]
    return Group(*parts)


def _size_line(evaluation: Evaluation) -> str:
    only = evaluation.group_only_rows
    known = f", of {only:,} only the group is known" if only else ""
    return (
        f"{_counted(evaluation.rows, 'row')}{known}; {_counted(evaluation.labels, 'label')}, "
        f"{evaluation.labels_in_truth:,} of them in the rows{_by_words_alone(evaluation.first_look)}"
    )


def _by_words_alone(share: float | None) -> str:
    return "" if share is None else f"; words alone answered {share:.0%} of the rows"


def _second_pass_table(evaluation: Evaluation, found: SecondPass) -> Table:
    table = _table("second pass", "without", "with", left=1)
    for name in ("micro_f1", "macro_f1", "precision_at_1"):
        words = name.replace("_", " ").replace("f1", "F1")
        values = (_number(getattr(one, name)) for one in (found, evaluation))
        table.add_row(_cell(words), *map(_cell, values))
    return table


def _second_pass_line(found: SecondPass) -> str:
    cost = "price not known" if found.usd is None else f"${found.usd:.4f}"
    failed = f", {found.unanswered:,} without an answer" if found.unanswered else ""
    return (
        f"{_counted(found.questions, 'question')} about labels of {_counted(found.rows, 'row')}{failed}, "
        f"{cost}: {found.righted:,} righted, {found.wronged:,} made wrong"
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
        ("calibration error", evaluation.calibration_error, None),
        ("calibration error by chance", evaluation.calibration_error_by_chance, None),
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


def _promise_table(evaluation: Evaluation) -> Table:
    """Promised precision beside what was found, the furthest below its promise first."""
    promised = [(name, one) for name, one in evaluation.per_label.items() if one.promised is not None]
    made = [one for _, one in promised if one.promise_bound is not None and one.precision is not None]
    kept = sum((one.precision or 0) >= (one.promised or 0) for one in made)
    order = sorted(promised, key=lambda item: (item[1].promise_bound is None, _beyond(item[1])))
    table = _table("label", "promised", "rows spoke for", "found", "predicted", left=1)
    for name, one in order[:_WEAKEST]:
        bound = _number(one.promise_bound) if one.promise_bound is not None else "no promise"
        cells = (_number(one.promised), bound, _number(one.precision), f"{one.predicted:,}")
        table.add_row(*(_cell(text) for text in (name, *cells)))
    table.title = _cell(
        f"Promises of precision: {kept:,} of {len(made):,} kept; {len(promised) - len(made):,} labels have "
        "too few rows for one, or were never chosen"
    )
    hidden = len(order) - _WEAKEST
    table.caption = _cell(f"and {_counted(hidden, 'label')} further above") if hidden > 0 else None
    return table


def _beyond(label: LabelFigures) -> float:
    """How far the found precision is above the promise; a label that was never chosen broke none."""
    return 1.0 if label.precision is None else label.precision - (label.promised or 0)


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


def render_comparison(found: Comparison, this: str, other: str) -> RenderableType:
    """A table for a terminal: the figures, then the labels that surely changed."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title=f"beside {other}", title_justify="left")
    table.add_column("")
    for name in (this, other, "difference", "95 % interval", "p"):
        table.add_column(name, justify="right", overflow="fold")
    sure = [one for one in found.by_label if one.is_sure]
    for one in (*found.figures, *sure[:_CHANGED_LABELS]):
        interval = f"{one.interval[0]:+.3f} to {one.interval[1]:+.3f}"
        figures = (f"{one.this:.3f}", f"{one.other:.3f}", f"{one.other - one.this:+.3f}", interval)
        table.add_row(one.name, *figures, f"{one.p:.3f}")
    if len(sure) > _CHANGED_LABELS:
        table.add_row(f"{len(sure) - _CHANGED_LABELS} more labels")
    return table
