"""The parts of the benchmarks: each runs Cascade and peers side by side and gives a section of the page."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import groups
import hosted
import labels
import pages
import quality
from bench import Bench
from page import Aim, Section, Table, compare
from sets import Set
from systems import PEERS, SYSTEMS, best_peer, side_by_side

# The first size, of about evenly spaced ones on a logarithmic scale, is a hundredth of the last.
SIZES = (0.01, 0.03, 0.1, 0.3, 1)
# Rows of the growth with labels, for each row of the greatest growth with rows: 50,000 of a million.
ROWS_OF_LABELS = 0.05
STARTS = 5


# Fit and predict, all systems

FIT_AIMS = (
    Aim("libpecos's fit / one fit of Cascade", lambda of: of["pecos"].fit / of["one fit"].fit, "2.5 or more"),
    Aim("flat LinearSVC's fit / `cascade fit`", lambda of: of["flat"].fit / of["cascade"].fit, "8 or more"),
    Aim(
        "micro F1 of one fit of Cascade - of the best peer",
        lambda of: of["one fit"].f1.micro - best_peer(of),
        "+0.005 or more",
        "+.3f",
    ),
    Aim(
        "micro F1 of `cascade` - of the best peer",
        lambda of: of["cascade"].f1.micro - best_peer(of),
        "",
        "+.3f",
    ),
    Aim(
        "libpecos's predict / that of one fit of Cascade",
        lambda of: of["pecos"].predict / of["one fit"].predict,
        "",
    ),
    Aim(
        "JSONL to JSONL: libpecos / one fit of Cascade",
        lambda of: of["pecos"].whole / of["one fit"].whole,
        "",
    ),
    Aim("JSONL to JSONL: flat LinearSVC / `cascade`", lambda of: of["flat"].whole / of["cascade"].whole, ""),
    Aim("peak memory: one fit of Cascade / libpecos", lambda of: of["one fit"].peak / of["pecos"].peak, ""),
    Aim("peak memory: `cascade` / flat LinearSVC", lambda of: of["cascade"].peak / of["flat"].peak, ""),
)


def fit(bench: Bench) -> Section:
    """All systems on one mixed set."""
    table, found = side_by_side(bench, bench.sets.mix(bench.settings.rows), SYSTEMS, "mixed utterances")
    return Section("fit", [table, compare(FIT_AIMS, found)])


# Predict over many rows


class Labelled(NamedTuple):
    """Rows that were given labels.

    Attributes
    ----------
    rate
        Rows a second of the whole process.
    peak
        MiB.
    rate_inside
        Rows a second without start, reading and writing, where the process tells.
    """

    rate: float
    peak: float
    rate_inside: float = math.nan


PREDICT_AIMS = (
    Aim(
        "`cascade predict` as a process / libpecos as trained, without reading and writing",
        lambda of: of["cascade"].rate / of["as trained"].rate_inside,
        "4 or more",
    ),
    Aim(
        "`cascade predict` as a process / libpecos for prediction only, without reading and writing",
        lambda of: of["cascade"].rate / of["prediction only"].rate_inside,
        "",
    ),
    Aim(
        "without reading and writing: `cascade predict` / libpecos for prediction only",
        lambda of: of["cascade"].rate_inside / of["prediction only"].rate_inside,
        "1 or more",
    ),
    Aim(
        "`cascade predict` / libpecos for prediction only, both as processes",
        lambda of: of["cascade"].rate / of["prediction only"].rate,
        "",
    ),
    Aim(
        "peak memory of `cascade predict --jobs 1`: all rows / a hundredth of them",
        lambda of: of["alone"].peak / of["few alone"].peak,
        "1.1 or less",
    ),
)


def predict(bench: Bench) -> Section:
    """`cascade predict` and libpecos over a long file of short texts."""
    data, n_rows = bench.sets.mix(bench.settings.rows), bench.settings.max_rows
    table = Table(("system", "rows", "rows a second", "without reading, writing", "peak, MiB"))
    found = {}
    with bench.noting(table.notes, "`cascade predict`"):
        jobs = bench.settings.jobs
        for name, count, own_jobs in (
            ("cascade", n_rows, jobs),
            ("alone", n_rows, 1),
            ("few alone", n_rows // 100, 1),
        ):
            found[name] = _by_cascade(bench, bench.model(data).folder, count, own_jobs)
            table.add(f"`cascade predict --jobs {own_jobs}`", *_cells(count, found[name]))
    with bench.noting(table.notes, PEERS["pecos"]):
        model = bench.folder / "pecos"
        bench.peer("libpecos.py", "fit", data.folder, model)
        for name, options in (("prediction only", []), ("as trained", ["--as-trained"])):
            found[name] = _by_pecos(bench, model, n_rows, options)
            table.add(f"libpecos, {name}", *_cells(n_rows, found[name]))
    return Section("predict", [table, compare(PREDICT_AIMS, found)])


def _cells(count: int, one: Labelled) -> list[str]:
    inside = "" if math.isnan(one.rate_inside) else f"{one.rate_inside:,.0f}"
    return [f"{count:,}", f"{one.rate:,.0f}", inside, f"{one.peak:.0f}"]


def _by_cascade(bench: Bench, model: Path, count: int, jobs: int) -> Labelled:
    out = bench.folder / f"short-answers-{count}.jsonl"
    run = bench.cascade("predict", bench.sets.short(count), "--model", model, "--out", out, jobs=jobs)
    inside = bench.answering(bench.sets.short(count), model, jobs)
    return Labelled(count / run.seconds, run.peak_mib, count / inside.timings["predict_s"])


def _by_pecos(bench: Bench, model: Path, count: int, options: Sequence[str]) -> Labelled:
    out = bench.folder / "scored.jsonl"
    run = bench.peer("libpecos.py", "predict", bench.sets.short(count), model, out, *options)
    return Labelled(count / run.seconds, run.peak_mib, count / run.timings["predict_s"])


# Growth


Seconds = Mapping[int, float]  # of each size


def exponent(seconds: Seconds, skipped: int = 0) -> float:
    """b of seconds = a * size ** b, by least squares of the logarithms, without the smallest `skipped` sizes.

    Raises
    ------
    ValueError
        There are fewer than two sizes.
    """
    sizes = sorted(seconds)[skipped:]
    across, up = [math.log(size) for size in sizes], [math.log(seconds[size]) for size in sizes]
    return statistics.linear_regression(across, up).slope


def _upper_half(seconds: Seconds) -> float:
    """The start of a process flattens the lower end."""
    return exponent(seconds, len(seconds) // 2)


GROWTH_AIMS = (
    Aim("exponent with rows, all sizes", lambda of: exponent(of["rows"]), "1.1 or less"),
    Aim("exponent with rows, upper half", lambda of: _upper_half(of["rows"]), "1.1 or less"),
    Aim("exponent with labels, all sizes", lambda of: exponent(of["labels"]), "0.6 or less"),
    Aim("exponent with labels, upper half", lambda of: _upper_half(of["labels"]), "0.6 or less"),
)


def growth(bench: Bench) -> Section:
    """`cascade fit` over more and more rows, and over more and more labels."""
    settings, fixed = bench.settings, round(bench.settings.max_rows * ROWS_OF_LABELS)
    rows, of_rows = _grown(bench, "rows", settings.max_rows, bench.sets.mix)
    labels, of_labels = _grown(
        bench, "labels", settings.max_labels, lambda size: bench.sets.split(size, fixed)
    )
    found = {"rows": of_rows, "labels": of_labels}
    return Section("growth", [rows, labels, compare(GROWTH_AIMS, found)])


def _grown(
    bench: Bench, what: str, largest: int, make: Callable[[int], Set]
) -> tuple[Table, dict[int, float]]:
    """A table of fits of growing size, and their seconds."""
    table = Table(("rows", "labels", "`cascade fit`, s", "peak, MiB", "micro F1, out of fold"))
    seconds = {}
    for size in (round(largest * share) for share in SIZES):
        with bench.noting(table.notes, f"{size:,} {what}"):
            data = make(size)
            _, run, summary = bench.model(data)
            seconds[size] = run.seconds
            figures = (f"{run.seconds:.2f}", f"{run.peak_mib:.0f}", f"{summary['micro_f1']:.3f}")
            table.add(f"{data.n_rows:,}", f"{data.n_labels:,}", *figures)
    return table, seconds


# Public data sets and our own, against one flat model

BILLS_AIMS = (
    Aim("flat LinearSVC's fit / `cascade fit`", lambda of: of["flat"].fit / of["cascade"].fit, "5 or more"),
    Aim("micro F1 of `cascade`", lambda of: of["cascade"].f1.micro, "0.672 or more", ".3f"),
    Aim("macro F1 of `cascade`", lambda of: of["cascade"].f1.macro, "0.555 or more", ".3f"),
)
SET_AIMS = (
    Aim("flat LinearSVC's fit / `cascade fit`", lambda of: of["flat"].fit / of["cascade"].fit, ""),
    Aim("peak memory: `cascade` / flat LinearSVC", lambda of: of["cascade"].peak / of["flat"].peak, ""),
)


def us_bills(bench: Bench) -> Section:
    """Long texts with many labels each."""
    return Section("us_bills", _against_flat(bench, "us_bills", BILLS_AIMS))


def sets(bench: Bench) -> Section:
    """The other data sets that have a taxonomy here."""
    tables: list[Table] = []
    notes: list[str] = []
    for name in bench.settings.names:
        with bench.noting(notes, name):
            tables += _against_flat(bench, name, SET_AIMS)
    return Section("sets", tables, notes)


def _against_flat(bench: Bench, name: str, aims: Sequence[Aim]) -> tuple[Table, Table]:
    table, found = side_by_side(bench, bench.sets.named(name), ("cascade", "flat"), name)
    return table, compare(aims, found)


# Start

START_AIMS = (Aim(f"seconds for one row, least of {STARTS} runs", min, "1 or less"),)


def start(bench: Bench) -> Section:
    """`cascade predict` for one row, with all of its files in the memory of the system."""
    model, one = bench.model(bench.sets.mix(bench.settings.rows)), bench.sets.short(1)
    runs = [bench.cascade("predict", one, "--model", model.folder) for _ in range(STARTS)]
    return Section("start", [compare(START_AIMS, [run.seconds for run in runs])])


PARTS = {
    part.__name__: part
    for part in (
        fit,
        predict,
        growth,
        labels.labels,
        pages.pages,
        us_bills,
        sets,
        quality.quality,
        start,
        groups.init,
        hosted.tokens,
        hosted.asking,
    )
}
