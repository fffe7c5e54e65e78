"""Rules for rows that could not be read."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from cascade.checks.findings import SHOWN_NAMES, SHOWN_ROWS, Finding, counted, first_few
from cascade.checks.redaction import blanked
from cascade.checks.subject import QUOTED, UNKNOWN_LABEL, Subject, one_line
from cascade.rows.row import BadRow

_SHOWN_REASONS = 8
_VARIABLE_PARTS = re.compile(
    rf"lines? \d+(?: to \d+)?: |there (?:is|are) .*|{QUOTED}|\b0x[0-9a-f]+|\b\d+(?:\.\d+)?\b", re.DOTALL
)


def bad_row(subject: Subject) -> Iterator[Finding]:
    """Rows that could not be read, one finding for each kind of reason."""
    kinds: dict[str, list[BadRow]] = defaultdict(list)
    for bad in subject.bad_rows:
        if not UNKNOWN_LABEL.fullmatch(bad.reason):
            kinds[_VARIABLE_PARTS.sub("", bad.reason)].append(bad)
    for rows in _few_kinds(sorted(kinds.values(), key=len, reverse=True)):
        such_as = ", such as" if len({bad.reason for bad in rows}) > 1 else ""
        yield Finding(
            "bad-row",
            "error",
            f"{counted(len(rows), 'row')} cannot be used{such_as}: {_reason(rows[0])}",
            len(rows),
            tuple(_bad_examples(subject, rows)),
            "Mend or delete them; `cascade fit --skip-bad-rows` trains without them.",
        )


def _bad_examples(subject: Subject, rows: Sequence[BadRow]) -> list[str]:
    """Places alone where the message gives the one reason, else each with its own."""
    if len({bad.reason for bad in rows}) == 1:
        return subject.at_all(rows)
    shown = [f"{subject.at(bad)}: {_reason(bad)}" for bad in rows[:SHOWN_ROWS]]
    return first_few(shown, len(rows), SHOWN_ROWS)


def _reason(bad: BadRow) -> str:
    return one_line(blanked(bad.reason))


def _few_kinds(kinds: list[list[BadRow]]) -> list[list[BadRow]]:
    rest = [bad for rows in kinds[_SHOWN_REASONS:] for bad in rows]
    return [*kinds[:_SHOWN_REASONS], *([rest] if rest else [])]


def unknown_label(subject: Subject) -> Iterator[Finding]:
    """Names in the rows that the taxonomy does not have."""
    names = subject.unknown
    if not names:
        return
    count = sum(len(rows) for rows in names.values())
    shown = [_unknown_example(subject, rows) for rows in islice(names.values(), SHOWN_NAMES)]
    yield Finding(
        "unknown-label",
        "error",
        f"{counted(count, 'row')} with {counted(len(names), 'name')} that the taxonomy does not have",
        count,
        tuple(first_few(shown, len(names))),
        "Correct the rows, or add the name to the taxonomy: as a label, or under `aliases` of one.",
    )


def _unknown_example(subject: Subject, rows: Sequence[BadRow]) -> str:
    found = UNKNOWN_LABEL.fullmatch(rows[0].reason)
    quoted, hint = found.group("quoted", "hint") if found else ("", "")
    where = f"in {counted(len(rows), 'row')}, first in {subject.at(rows[0])}"
    return one_line(f"{blanked(quoted)} {where}.{blanked(hint)}")
