"""How good the answers are on public data sets and our own, at thresholds settled on training rows alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml
from bench import Bench
from in_turn import in_turn
from measure import measured
from one_label import PARTS, one_label
from page import Aim, Section, Table, compare
from sets import Set

NAMES = ("feedback", "clinc150", "goemotions", "nlupp", "us_bills", "thuc_titles")
IN_TURN = "nlupp, ten times"
PROMISED = ("clinc150", "nlupp")
PRECISION = 0.9
FIGURES = {
    "micro F1": "micro_f1",
    "macro F1": "macro_f1",
    "precision at 1": "precision_at_1",
    "none where none": "none_recall",
    "calibration error": "calibration_error",
    "by chance": "calibration_error_by_chance",
}


def quality(bench: Bench) -> Section:
    """Fit, valid added to train, and evaluate on test rows."""
    table = Table(("data", *FIGURES))
    promises = Table((f"promised {PRECISION:g} each", "labels", "of them promised", "kept on test rows"))
    found: dict[str, Mapping[str, Any]] = {}
    for name in NAMES:
        with bench.noting(table.notes, name):
            found[name] = _evaluated(bench, bench.sets.named(name))
            table.add(name, *(_shown(found[name][figure]) for figure in FIGURES.values()))
    with bench.noting(table.notes, IN_TURN):
        found[IN_TURN] = in_turn(bench)
        table.add(IN_TURN, *(_shown(found[IN_TURN][figure]) for figure in FIGURES.values()))
    for name in PARTS:
        with bench.noting(table.notes, name):
            found[name] = _evaluated(bench, one_label(bench.sets, name))
            table.add(name, *(_shown(found[name][figure]) for figure in FIGURES.values()))
    for name in PROMISED:
        with bench.noting(promises.notes, name):
            labels = _evaluated(bench, _promising(bench.sets.named(name)))["per_label"].values()
            made = [one for one in labels if one["promise_bound"] is not None]
            kept = sum(one["precision"] is None or one["precision"] >= PRECISION for one in made)
            promises.add(name, str(len(labels)), str(len(made)), str(kept))
    return Section("quality", [table, compare(AIMS, found), promises])


def _shown(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


def _evaluated(bench: Bench, data: Set) -> Mapping[str, Any]:
    model = bench.model(data)
    command = [sys.executable, "-m", "cascade", "evaluate", data.test, "--model", model.folder, "--json"]
    found: Mapping[str, Any] = json.loads(measured(command, bench.settings.limit_seconds).answer)
    return found


def _promising(data: Set) -> Set:
    """The same rows under a taxonomy whose labels are all promised a precision."""
    taxonomy = yaml.safe_load(data.taxonomy.read_text("utf-8"))
    taxonomy["defaults"] = {**taxonomy.get("defaults", {}), "threshold": {"precision": PRECISION}}
    path = data.folder / "promising.yaml"
    path.write_text(yaml.safe_dump(taxonomy, sort_keys=False), "utf-8")
    return replace(data, taxonomy=path)


def _aims(name: str, micro: float, macro: float, most_off: float) -> tuple[Aim, Aim, Aim]:
    return (
        Aim(f"micro F1, {name}", lambda of: of[name]["micro_f1"], f"{micro:g} or more", ".3f"),
        Aim(f"macro F1, {name}", lambda of: of[name]["macro_f1"], f"{macro:g} or more", ".3f"),
        Aim(
            f"calibration error, {name}",
            lambda of: of[name]["calibration_error"],
            f"{most_off:g} or less",
            ".3f",
        ),
    )


AIMS = (
    *_aims("feedback", 0.62, 0.505, 0.04),
    *_aims("clinc150", 0.917, 0.916, 0.02),
    *_aims("goemotions", 0.58, 0.485, 0.02),
    *_aims("nlupp", 0.866, 0.87, 0.02),
    *_aims("us_bills", 0.675, 0.57, 0.02),
    Aim(f"calibration error, {IN_TURN}", lambda of: of[IN_TURN]["calibration_error"], "0.02 or less", ".3f"),
    *(
        Aim(f"micro F1, {name}", lambda of, name=name: of[name]["micro_f1"], f"{micro:g} or more", ".3f")
        for name, micro in zip(PARTS, (0.927, 0.956, 0.896, 0.854), strict=True)
    ),
    Aim("precision at 1, thuc_titles", lambda of: of["thuc_titles"]["precision_at_1"], "0.84 or more", ".3f"),
)
