"""Hundreds to thousands of labels: a fit and its folder beside libpecos, and how both grow."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import NamedTuple

from bench import Bench
from measure import existing, measured
from page import Aim, Section, Table, compare

# Labels, their groups, the groups of these, and rows.
SIZES = ((500, 25, 5, 100_000), (5_000, 250, 20, 100_000), (20_000, 1_000, 40, 200_000))
# Of these the figures are compared.
THOUSANDS = 5_000


class Many(NamedTuple):
    """What a system needs for so many labels.

    Attributes
    ----------
    fit
        Seconds: of `cascade fit` as a process, of libpecos's features and fit alone.
    peak
        MiB of the fit, and in libpecos of the whole process.
    size
        MB of the model.
    rate
        Test rows a second: of `cascade predict` as a process, of libpecos's predict alone.
    right
        The share of test rows whose first label is true.
    """

    fit: float
    peak: float
    size: float
    rate: float
    right: float

    def cells(self) -> tuple[str, ...]:
        return (
            f"{self.fit:.1f}",
            f"{self.peak:.0f}",
            f"{self.size:.0f}",
            f"{self.rate:,.0f}",
            f"{self.right:.3f}",
        )


def labels(bench: Bench) -> Section:
    """Each size that `--max-labels` lets."""
    table = Table(("labels", "rows", "system", "fit, s", "peak, MiB", "model, MB", "rows a second", "P@1"))
    found: dict[tuple[str, int], Many] = {}
    for n_labels, n_groups, n_sections, n_rows in SIZES:
        if n_labels > bench.settings.max_labels:
            continue
        size = (f"{n_labels:,}", f"{n_rows:,}")
        for name, run in (("cascade", _cascade), ("libpecos", _pecos)):
            with bench.noting(table.notes, f"{n_labels:,} labels, {name}"):
                folder = _made(bench, n_labels, n_groups, n_sections, n_rows)
                one = found[name, n_labels] = run(bench, folder)
                table.add(*size, name, *one.cells())
    return Section("labels", [table, compare(AIMS, found)])


def _script(bench: Bench) -> Path:
    return existing(bench.settings.script.with_name("many_labels.py"))


def _made(bench: Bench, n_labels: int, n_groups: int, n_sections: int, n_rows: int) -> Path:
    folder = bench.folder / f"many-{n_labels}"
    if not folder.exists():
        size = ("--labels", n_labels, "--groups", n_groups, "--sections", n_sections, "--rows", n_rows)
        command = [sys.executable, _script(bench), "make", folder, *map(str, size)]
        measured(command, bench.settings.limit_seconds)
    return folder


def _cascade(bench: Bench, folder: Path) -> Many:
    model, test = folder / "model", folder / "test.jsonl"
    fit = bench.cascade("fit", folder / "taxonomy.yaml", "--out", model)
    answers, first = folder / "answers.jsonl", folder / "first.jsonl"
    predict = bench.cascade("predict", test, "--model", model, "--out", answers)
    bench.cascade("predict", test, "--model", model, "--out", first, "--top", "1")
    size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    rows = [set(json.loads(line)["labels"]) for line in test.open(encoding="utf-8")]
    told = [set(json.loads(line)["labels"]) for line in first.open(encoding="utf-8")]
    right = sum(bool(own & given) for own, given in zip(rows, told, strict=True)) / len(rows)
    return Many(fit.seconds, fit.peak_mib, size, len(rows) / predict.seconds, right)


def _pecos(bench: Bench, folder: Path) -> Many:
    command = [existing(bench.settings.peers), _script(bench), "pecos", folder]
    run = measured(command, bench.settings.limit_seconds)
    of = run.timings
    fit, right = of["features_s"] + of["fit_s"], of["precision_at_1"]
    return Many(fit, run.peak_mib, of["model_mb"], of["predict_rows_per_s"], right)


def _growth(found: dict[tuple[str, int], Many]) -> float:
    """The exponent of labels, with seconds a row, from the fewest labels to the most."""
    rows = {n_labels: n_rows for n_labels, _, _, n_rows in SIZES}
    sizes = sorted(n_labels for name, n_labels in found if name == "cascade")
    least, most = sizes[0], sizes[-1]
    seconds = [found["cascade", size].fit / rows[size] for size in (least, most)]
    return math.log(seconds[1] / seconds[0]) / math.log(most / least)


AIMS = (
    Aim(
        "`cascade fit` / libpecos's features and fit, 5,000 labels",
        lambda of: of["cascade", THOUSANDS].fit / of["libpecos", THOUSANDS].fit,
        "3 or less",
    ),
    Aim(
        "rows a second: `cascade predict` / libpecos's predict, 5,000 labels",
        lambda of: of["cascade", THOUSANDS].rate / of["libpecos", THOUSANDS].rate,
        "1 or more",
    ),
    Aim("peak memory of that fit, MiB", lambda of: of["cascade", THOUSANDS].peak, "2400 or less", ".0f"),
    Aim("size of that model, MB", lambda of: of["cascade", THOUSANDS].size, "150 or less", ".0f"),
    Aim("precision at 1 of that model", lambda of: of["cascade", THOUSANDS].right, "0.985 or more", ".3f"),
    Aim("exponent of seconds a row with labels", _growth, "0.6 or less"),
)
