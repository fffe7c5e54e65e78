"""``cascade check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files
from cascade.cli.inputs import columns_of, load_taxonomy
from cascade.cli.shell import (
    DONE,
    PROBLEM,
    cascade,
    debug_option,
    json_option,
    print_json,
    print_lines,
    progress,
)
from cascade.errors import TaxonomyError

if TYPE_CHECKING:
    from cascade.checks.findings import Report
    from cascade.hosted.shutdowns import ShutdownDates
    from cascade.taxonomy.definition import Taxonomy


@cascade.command(short_help="Report faults and advice, change nothing.")
@click.argument("taxonomy", shell_complete=files)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Rows to check instead of data.train; repeatable.",
    shell_complete=files,
)
@json_option
@debug_option
def check(taxonomy: str, data: tuple[str, ...], as_json: bool) -> int:
    """Report faults and advice about a taxonomy and its rows, and change nothing.

    TAXONOMY is the YAML file. The exit code is 1 when there is an error; warnings and advice do no harm.
    """
    try:
        report = _checked(load_taxonomy(taxonomy), data)
    except TaxonomyError as error:
        if not as_json:
            raise
        report = _faults(error)
    if as_json:
        print_json(report.to_json())
    else:
        print_lines(_check_lines(report))
    return DONE if report.ok else PROBLEM


def _checked(taxonomy: Taxonomy, data: Sequence[str]) -> Report:
    from cascade.checks.check import check as check_rows
    from cascade.rows.reading import read_all

    with progress("checking"):
        columns = columns_of(taxonomy.data)
        files = data or taxonomy.data.files("train")
        train, refused, readings = read_all(files, columns_of(taxonomy.data, is_other=bool(data)), taxonomy)
        known = [one.reading for one in readings]
        test, refused_too, others = read_all(taxonomy.data.files("test"), columns, taxonomy, known)
        told = _told_by_services(taxonomy)
        report = check_rows(taxonomy, train, test, refused + refused_too, told)
        guessed = tuple(one for one in (*readings, *others) if one.is_guessed)
        report = replace(report, readings=guessed)
    return report if data or taxonomy.data.train else _without_rows(report)


def _told_by_services(taxonomy: Taxonomy) -> ShutdownDates:
    """When hosted models end; services are asked where there is a key, and nothing else is told or sent."""
    from cascade.backends import service_of
    from cascade.checks.subject import is_hosted
    from cascade.hosted.shutdowns import announced_shutdowns

    hosted = [group.backend for group in taxonomy.groups.values() if is_hosted(group)]
    found = (service_of(spec.kind, spec.options) for spec in hosted)
    return announced_shutdowns(settings for settings in found if settings is not None)


def _without_rows(report: Report) -> Report:
    """The report on a taxonomy that names no rows yet: that is no fault of its."""
    eased = [
        replace(finding, severity="advice") if finding.rule == "no-data" else finding
        for finding in report.findings
    ]
    errors_first = sorted(eased, key=lambda finding: ("error", "warning", "advice").index(finding.severity))
    return replace(report, findings=tuple(errors_first))


def _faults(error: TaxonomyError) -> Report:
    from cascade.checks.findings import Finding, Report

    advice = "Correct the taxonomy."
    found = [Finding("taxonomy", "error", str(problem), 1, (), advice) for problem in error.problems]
    return Report(tuple(found), rows=0, labels=0, groups=0)


def _check_lines(report: Report) -> Iterator[str]:
    from cascade.checks.findings import render

    return render(report)
