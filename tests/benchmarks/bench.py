"""The commands of a run, each measured alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from measure import FailedError, NotMeasuredError, Run, existing, measured
from sets import Set, Sets

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Settings:
    """What was asked for; `peers` is the Python of their environment, `script` knows how each is run."""

    rows: int
    max_rows: int
    max_labels: int
    names: Sequence[str]
    jobs: int
    limit_seconds: float
    peers: Path
    script: Path


class Model(NamedTuple):
    """A model folder of Cascade, what its fit took, and what it said of itself."""

    folder: Path
    run: Run
    summary: Mapping[str, Any]


@dataclass
class Bench:
    """Runs the commands of the parts in one folder, and remembers which of them failed."""

    settings: Settings
    sets: Sets
    folder: Path
    faults: list[str] = field(default_factory=list)
    _models: dict[Set, Model] = field(default_factory=dict)

    def cascade(self, *words: str | Path, jobs: int | None = None) -> Run:
        """A command of Cascade, as its user runs it."""
        command = [sys.executable, "-m", "cascade", *words, "--jobs", str(jobs or self.settings.jobs)]
        return measured(command, self.settings.limit_seconds)

    def answering(self, rows: Path, model: Path, jobs: int) -> Run:
        """Answers of Cascade to texts in memory."""
        command = [sys.executable, HERE / "answering.py", rows, model, "--jobs", str(jobs)]
        return measured(command, self.settings.limit_seconds)

    def single(self, *words: str | Path) -> Run:
        """One fit of Cascade without calibration."""
        command = [sys.executable, HERE / "ours.py", *words, "--jobs", str(self.settings.jobs)]
        return measured(command, self.settings.limit_seconds)

    def peer(self, program: str, *words: str | Path) -> Run:
        """A program of ours in the environment of the peers."""
        python = existing(self.settings.peers)
        command = [python, HERE / program, *words, "--threads", str(self.settings.jobs)]
        return measured(command, self.settings.limit_seconds)

    def warm(self) -> None:
        """Compile what Cascade compiles once for a machine, so that no figure holds it."""
        data, model = self.sets.named("feedback"), self.folder / "warm"
        self.cascade("fit", data.taxonomy, "--data", data.test, "--out", model)  # the smaller file
        self.cascade("predict", data.test, "--model", model)
        self.single(data.folder, self.folder / "scored.jsonl")

    def model(self, data: Set) -> Model:
        """The model of a data set, fitted once in a run."""
        if data not in self._models:
            folder = self.folder / f"model-{len(self._models)}"
            run = self.cascade("fit", data.taxonomy, "--data", data.train, "--out", folder, "--json")
            self._models[data] = Model(folder, run, json.loads(run.answer))
        return self._models[data]

    @contextmanager
    def noting(self, notes: list[str], what: str) -> Iterator[None]:
        """Go on where something was not measured, with the reason among the `notes`."""
        try:
            yield
        except NotMeasuredError as reason:
            notes.append(f"{what}: {reason}.")
            if isinstance(reason, FailedError):
                self.faults.append(f"{what}: {reason}")
