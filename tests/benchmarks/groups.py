"""What the groups that `cascade init` proposes are worth beside those that people made."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import scored
from bench import Bench
from measure import Run, measured
from page import Aim, Section, Table, compare
from sets import Set

NAMES = ("clinc150", "goemotions", "nlupp", "us_bills")
LOST_MOST = 0.01
CLINC150_LEAST = 0.905


class Worth(NamedTuple):
    """Micro F1 on the test rows, and how many groups the model has."""

    micro: float
    groups: int


def init(bench: Bench) -> Section:
    """The same rows under the groups of the data set, and under those proposed for its labels alone."""
    table = Table(
        ("data", "groups given", "micro F1", "groups proposed", "micro F1", "`cascade init`, s", "peak, MiB")
    )
    found: dict[str, tuple[Worth, Worth]] = {}
    for name in NAMES:
        with bench.noting(table.notes, name):
            data = bench.sets.named(name)
            run, drafted = _drafted(bench, data)
            given, proposed = _worth(bench, data, data.taxonomy), _worth(bench, data, drafted)
            found[name] = given, proposed
            shown = (str(given.groups), f"{given.micro:.3f}", str(proposed.groups), f"{proposed.micro:.3f}")
            table.add(name, *shown, f"{run.seconds:.1f}", f"{run.peak_mib:.0f}")
    return Section("init", [table, compare(AIMS, found)])


def _drafted(bench: Bench, data: Set) -> tuple[Run, Path]:
    """What `cascade init` made of the training rows, which it sees alone."""
    out = data.folder / "proposed.yaml"
    words = ["init", data.train, "--test", data.test, "--out", out, "--force"]
    return measured([sys.executable, "-m", "cascade", *words], bench.settings.limit_seconds), out


def _worth(bench: Bench, data: Set, taxonomy: Path) -> Worth:
    model = bench.model(replace(data, taxonomy=taxonomy))
    out = bench.folder / "answers.jsonl"
    bench.cascade("predict", data.test, "--model", model.folder, "--out", out)
    micro, _ = scored.f1_of_answers(data.test, out)
    out.unlink()
    return Worth(micro, len(json.loads((model.folder / "manifest.json").read_bytes())["groups"]) - 1)


def _lost(name: str) -> Aim:
    return Aim(
        f"micro F1 under proposed groups - under those given, {name}",
        lambda of: of[name][1].micro - of[name][0].micro,
        f"-{LOST_MOST} or more",
        "+.3f",
    )


AIMS = (
    Aim(
        "micro F1 under proposed groups, clinc150",
        lambda of: of["clinc150"][1].micro,
        f"{CLINC150_LEAST} or more",
        ".3f",
    ),
    *(_lost(name) for name in NAMES),
)
