"""What rules find, and how it is said to people."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from cascade.rows.readings import FileReading

Severity = Literal["error", "warning", "advice"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "advice")
SHOWN_NAMES = 10
"""So many names are shown of more."""
SHOWN_ROWS = 3
"""So many rows are shown of more."""
T = TypeVar("T")
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found: how much of it, a few examples, and what to do."""

    rule: str
    severity: Severity
    message: str
    count: int
    examples: tuple[str, ...]
    advice: str

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self) | {"examples": list(self.examples)}


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, errors first; `rows` counts training rows, `groups` leaves the root out.

    `readings` are those of files whose way of writing texts and labels was seen from their rows.
    """

    findings: tuple[Finding, ...]
    rows: int
    labels: int
    groups: int
    readings: tuple[FileReading, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings and advice do no harm."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return {
            "ok": self.ok,
            "rows": self.rows,
            "labels": self.labels,
            "groups": self.groups,
            "readings": [reading.to_json() for reading in self.readings],
            "findings": [finding.to_json() for finding in self.findings],
        }


def listed(
    rule: str,
    severity: Severity,
    things: Sequence[T],
    message: str,
    shown: Callable[[T], str],
    advice: str,
    limit: int = SHOWN_NAMES,
) -> Iterator[Finding]:
    """One finding with the first `limit` things as its examples; none where there are no things."""
    if things:
        examples = first_few([shown(one) for one in things[:limit]], len(things), limit)
        yield Finding(rule, severity, message, len(things), tuple(examples), advice)


def render(report: Report) -> Iterator[str]:
    """Lines for a terminal, a hundred columns wide where names and places allow, the counts last."""
    for reading in report.readings:
        yield from _wrapped(reading.describe(), "", "  ")
        for text, labels in reading.examples:
            shown = textwrap.shorten(text, _WIDTH - 40, placeholder=" ...")
            yield from _wrapped(f"{shown!r}: {', '.join(labels) or 'none'}", "    ", "      ")
        yield ""
    for finding in report.findings:
        yield from _wrapped(f"{finding.severity} {finding.rule}: {finding.message}", "", "  ")
        for example in finding.examples:
            yield from _wrapped(example, "    ", "      ")
        yield from _wrapped(finding.advice, "  -> ", "     ")
        yield ""
    yield ", ".join(
        (
            counted(len(report.of("error")), "error"),
            counted(len(report.of("warning")), "warning"),
            counted(len(report.of("advice")), "piece", "pieces") + " of advice",
        )
    ) + (
        f" on {counted(report.rows, 'training row')}, {counted(report.labels, 'label')}"
        f" and {counted(report.groups, 'group')}"
    )


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def first_few(shown: Sequence[str], total: int, limit: int = SHOWN_NAMES) -> list[str]:
    return [*shown[:limit], *([f"and {total - limit:,} more"] if total > limit else [])]
