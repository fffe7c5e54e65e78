"""NLU++ as its paper measures it: each two folds are tested on once, by a model of the eighteen others.

Casanueva et al., "NLU++: A Multi-Label, Slot-Rich, Generalisable Dataset for Natural Language Understanding
in Task-Oriented Dialogue" (Findings of NAACL 2022), the "large" setting: figures are means of ten runs. A
calibration error of so few test rows is mostly chance, so that one is of the probabilities of all runs
together.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench
from measure import measured
from scipy.sparse import csr_array
from sets import Set

from cascade.measure.metrics import calibration_error, calibration_error_by_chance
from cascade.measure.sparse import flags_at

NAME, TURNS, FOLDS_IN_TURN = "nlupp", 10, 2
MEANS = ("micro_f1", "macro_f1", "precision_at_1", "none_recall")

Row = Mapping[str, Any]


def in_turn(bench: Bench) -> dict[str, float | None]:
    """The figures of `cascade evaluate`, by name."""
    whole = bench.sets.named(NAME)
    runs, rows, answers = [], [], []
    for turn, (train, test) in enumerate(turns([*_read(whole.train), *_read(whole.test)])):
        folder = bench.folder / f"{NAME}-{turn}"
        folder.mkdir(exist_ok=True)
        data = Set(folder, whole.taxonomy, len(train), whole.n_labels)
        _write(data.train, train)
        _write(data.test, test)
        model, out = bench.model(data).folder, folder / "answers.jsonl"
        command = [sys.executable, "-m", "cascade", "evaluate", data.test, "--model", model, "--json"]
        runs.append(json.loads(measured(command, bench.settings.limit_seconds).answer))
        bench.cascade("predict", data.test, "--model", model, "--top", str(data.n_labels), "--out", out)
        rows += test
        answers += _read(out)
    return {name: float(np.mean([run[name] for run in runs])) for name in MEANS} | calibration(rows, answers)


def turns(rows: Sequence[Row]) -> Iterator[tuple[list[Row], list[Row]]]:
    """Training and test rows of each run; ids are domain, fold and number, as in ``banking-18-0``."""
    turn_of = [int(row["id"].split("-")[1]) // FOLDS_IN_TURN for row in rows]
    for turn in range(TURNS):
        train, test = (
            [row for row, own in zip(rows, turn_of, strict=True) if (own == turn) == is_test]
            for is_test in (False, True)
        )
        yield train, test


def calibration(rows: Sequence[Row], answers: Sequence[Row]) -> dict[str, float | None]:
    """The calibration error of all scores of all answers together, and what it would be by chance."""
    labels = sorted({label for answer in answers for label in answer["scores"]})
    column = {label: at for at, label in enumerate(labels)}
    cells = [(at, column[name], p) for at, own in enumerate(answers) for name, p in own["scores"].items()]
    told, columns, chances = map(np.array, zip(*cells, strict=True))
    scores = csr_array((chances.astype(np.float32), (told, columns)), shape=(len(rows), len(labels)))
    scores.sort_indices()
    given = [(at, column[name]) for at, row in enumerate(rows) for name in row["labels"] if name in column]
    truth = flags_at(*np.array(given).T, shape=scores.shape)
    return {
        "calibration_error": calibration_error(truth, scores),
        "calibration_error_by_chance": calibration_error_by_chance(scores),
    }


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
