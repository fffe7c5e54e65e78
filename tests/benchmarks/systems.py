"""Cascade and its peers from JSONL to scored JSONL, all in the same figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import scored
from bench import Bench
from measure import Run, existing
from page import Table
from scored import F1
from sets import Set

PEERS = {"flat": "flat LinearSVC", "pecos": "libpecos", "omikuji": "omikuji", "hiclass": "hiclass"}


class System(NamedTuple):
    """One system on one data set.

    Attributes
    ----------
    fit, predict
        Seconds: of a peer and of one fit of Cascade without reading and writing, of `cascade` as processes.
    whole
        Seconds from JSONL to scored JSONL, as processes.
    peak
        MiB, of the process that needs most.
    f1
        At the model's own thresholds, or, of systems that have none, at the best one on the test rows.
    """

    fit: float
    predict: float
    whole: float
    peak: float
    f1: F1


def of_cascade(bench: Bench, data: Set) -> System:
    """`cascade fit` and `cascade predict`, with all that they do."""
    model, out = bench.model(data), bench.folder / "answers.jsonl"
    out.unlink(missing_ok=True)
    run = bench.cascade("predict", data.test, "--model", model.folder, "--out", out)
    whole, peak = model.run.seconds + run.seconds, max(model.run.peak_mib, run.peak_mib)
    return System(model.run.seconds, run.seconds, whole, peak, scored.f1_of_answers(data.test, out))


def of_one_fit(bench: Bench, data: Set) -> System:
    """One fit of Cascade."""
    out = bench.folder / "scored.jsonl"
    return _timed_inside(bench.single(data.folder, out), data, out)


def of_peer(name: str, bench: Bench, data: Set) -> System:
    """A peer, as the peers' script runs it."""
    script, out = existing(bench.settings.script), bench.folder / "scored.jsonl"
    return _timed_inside(bench.peer("peer.py", script, name, data.folder, out), data, out)


def _timed_inside(run: Run, data: Set, out: Path) -> System:
    inside = run.timings
    f1 = scored.best_f1(data.test, out)
    return System(inside["fit_s"], inside["predict_s"], run.seconds, run.peak_mib, f1)


SYSTEMS: dict[str, tuple[str, Callable[[Bench, Set], System]]] = {
    "one fit": ("Cascade, one fit", of_one_fit),
    "cascade": ("`cascade fit`, `predict`", of_cascade),
    **{name: (title, partial(of_peer, name)) for name, title in PEERS.items()},
}


def side_by_side(bench: Bench, data: Set, names: Iterable[str], of: str) -> tuple[Table, dict[str, System]]:
    """These systems on one data set, which the head of the table calls `of`."""
    about = f"{of}: {data.n_rows:,} rows, {data.n_labels} labels"
    table = Table((about, "fit, s", "predict, s", "whole, s", "peak, MiB", "micro F1", "macro F1"))
    found = {}
    for name in names:
        title, run = SYSTEMS[name]
        with bench.noting(table.notes, title):
            one = found[name] = run(bench, data)
            seconds = [f"{value:.2f}" for value in (one.fit, one.predict, one.whole)]
            table.add(title, *seconds, f"{one.peak:.0f}", f"{one.f1.micro:.3f}", f"{one.f1.macro:.3f}")
    return table, found


def best_peer(found: Mapping[str, System]) -> float:
    """Micro F1 of the best of those that were measured; ValueError where none was."""
    return max(found[name].f1.micro for name in PEERS if name in found)
