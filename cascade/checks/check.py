"""What people should know about a taxonomy and its rows before they train on them.

Each rule is a function from a prepared `Subject` to findings, and `RULES` lists them all. No rule changes
anything. Texts are quoted in part, with e-mail addresses and long numbers blanked out, so that a report can
be passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date

from cascade.checks.bad_rows import bad_row, unknown_label
from cascade.checks.counts import (
    encoder_wins,
    few_rows,
    no_data,
    no_none_rows,
    no_rows,
    no_test_data,
    only_inner_names,
)
from cascade.checks.duplicates import (
    conflicting_labels,
    duplicate_texts,
    near_identical_names,
    same_rows,
    train_test_overlap,
)
from cascade.checks.findings import SEVERITIES, Finding, Report
from cascade.checks.shape import (
    absent_encoder,
    large_group,
    large_hosted_group,
    model_ends,
    several_of_one,
    several_parents,
    single_child,
    unbalanced_group,
)
from cascade.checks.subject import Subject
from cascade.checks.texts import empty_text, enormous_text, leftover_separator, mojibake, personal_data
from cascade.hosted.shutdowns import ShutdownDates
from cascade.rows.row import BadRow, Row
from cascade.taxonomy.definition import Taxonomy


def check(
    taxonomy: Taxonomy,
    train: Sequence[Row],
    test: Sequence[Row] = (),
    bad_rows: Sequence[BadRow] = (),
    told: ShutdownDates | None = None,
    today: date | None = None,
) -> Report:
    """What all `RULES` find, errors first, else in the order of the rules.

    Parameters
    ----------
    told
        When hosted models end, as their services say: see `announced_shutdowns`.
    today
        The day from which on is looked ahead.
    """
    subject = Subject(taxonomy, tuple(train), tuple(test), tuple(bad_rows), told or {}, today or date.today())
    findings = [finding for rule in RULES for finding in rule(subject)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(
        tuple(findings), rows=len(train), labels=len(taxonomy.labels), groups=len(taxonomy.groups) - 1
    )


Rule = Callable[[Subject], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    bad_row,
    unknown_label,
    no_data,
    no_rows,
    absent_encoder,
    few_rows,
    conflicting_labels,
    several_of_one,
    train_test_overlap,
    near_identical_names,
    same_rows,
    empty_text,
    enormous_text,
    leftover_separator,
    mojibake,
    personal_data,
    model_ends,
    unbalanced_group,
    several_parents,
    large_group,
    large_hosted_group,
    single_child,
    only_inner_names,
    duplicate_texts,
    no_none_rows,
    encoder_wins,
    no_test_data,
)
