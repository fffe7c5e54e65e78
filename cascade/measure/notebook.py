"""The figures of a test set as notebooks show them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.measure.evaluate import Evaluation
    from cascade.measure.metrics import Interval

_MOST_LABELS = 60
_BAR, _ROW = 260, 18


def evaluation_html(found: Evaluation) -> str:
    """The totals with their intervals, and the F1 of each label as a bar, the worst first."""
    rows = "".join(
        f"<tr><td style='text-align:left'>{name}</td><td>{value}</td><td>{interval}</td></tr>"
        for name, value, interval in _totals(found)
    )
    return (
        f"<div class='cascade-evaluation'><p>{found.rows:,} rows, {found.labels:,} labels</p>"
        f"<table><tr><th></th><th></th><th>95 %</th></tr>{rows}</table>{_bars(found)}</div>"
    )


def _totals(found: Evaluation) -> Iterator[tuple[str, str, str]]:
    yield "micro F1", _figure(found.micro_f1), _between(found.micro_f1_interval)
    yield "macro F1", _figure(found.macro_f1), _between(found.macro_f1_interval)
    yield "hierarchical F1", _figure(found.hierarchical_f1), _between(found.hierarchical_f1_interval)
    yield "precision at 1", _figure(found.precision_at_1), ""
    yield "calibration error", _figure(found.calibration_error), ""
    yield "calibration error by chance", _figure(found.calibration_error_by_chance), ""
    yield "none recall", _figure(found.none_recall), ""
    yield "router recall", _figure(found.router_recall), ""
    yield (
        "micro F1 with a perfect router",
        _figure(found.oracle_router_micro_f1),
        _between(found.oracle_router_micro_f1_interval),
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _between(interval: Interval) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}"


def _bars(found: Evaluation) -> str:
    told = sorted((one.f1, name, one) for name, one in found.per_label.items() if one.rows)
    shown = told[:_MOST_LABELS]
    marks = []
    for place, (f1, name, one) in enumerate(shown):
        y = place * _ROW
        low, high = (_BAR * bound for bound in one.f1_interval)
        marks.append(
            f'<text x="190" y="{y + 13}" text-anchor="end">{escape(name[:28])}</text>'
            f'<rect x="196" y="{y + 3}" width="{_BAR * f1:.1f}" height="12" fill="#2678b4"></rect>'
            f'<line x1="{196 + low:.1f}" x2="{196 + high:.1f}" y1="{y + 9}" y2="{y + 9}" '
            'stroke="currentColor"></line>'
            f'<text x="{196 + _BAR + 6}" y="{y + 13}">{f1:.2f} of {one.rows:,}</text>'
        )
    more = f"<p>and {len(told) - len(shown)} labels above these</p>" if len(told) > len(shown) else ""
    height = len(shown) * _ROW
    return (
        f'<svg role="img" aria-label="F1 of each label" width="560" height="{height}" '
        f'style="font:12px sans-serif;fill:currentColor">{"".join(marks)}</svg>{more}'
    )
