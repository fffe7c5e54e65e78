"""Cascade beside its peers in one run: tables of ratios, printed and put into docs/benchmarks.md.

    python tests/benchmarks/run.py [--only fit,predict] [--rows 20000] [--max-rows 100000]

Each system runs as a process of its own, one at a time; the peers in an environment of their own (`--peers`,
which `make bench` makes) and as a script outside the project has it (`--script`). What is not there is
skipped, with the reason; what fails is told at the end, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import page
from bench import Bench, Settings
from measure import NotMeasuredError
from parts import PARTS
from sets import ROOT, Sets

SHARED = ROOT.parent / "shared"
NAMES = ("feedback", "nlupp", "clinc150", "goemotions")


def main() -> None:
    asked = _asked()
    peers = asked.peers / "bin" / "python"
    machine = page.machine(asked.jobs, peers if peers.exists() else None)
    print(machine)
    settings = Settings(
        rows=asked.rows,
        max_rows=asked.max_rows,
        max_labels=asked.max_labels,
        names=asked.sets,
        jobs=asked.jobs,
        limit_seconds=asked.limit,
        peers=peers,
        script=asked.script,
    )
    with tempfile.TemporaryDirectory(prefix="cascade-bench-") as folder:
        bench = Bench(settings, Sets(asked.data, Path(folder)), Path(folder))
        try:
            bench.warm()
        except NotMeasuredError as reason:
            sys.exit(f"Cascade does not run on its own data: {reason}")
        for part in asked.only:
            _run(part, bench, asked.page, machine)
    if bench.faults:
        sys.exit("\n".join(["failed:", *bench.faults]))


def _asked() -> argparse.Namespace:
    cli = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    cli.add_argument("--only", type=_some_of(PARTS), default=",".join(PARTS), help="parts to run")
    cli.add_argument("--rows", type=int, default=120_000, help="rows of fit, and of the model of predict")
    cli.add_argument("--max-rows", type=int, default=1_000_000, help="most rows of growth, rows of predict")
    cli.add_argument("--max-labels", type=int, default=5_000, help="most labels of growth")
    cli.add_argument("--sets", type=_some_of(NAMES), default=",".join(NAMES), help="data sets of sets")
    cli.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="of ours, and threads of the peers"
    )
    cli.add_argument("--limit", type=float, default=900, help="seconds that one process may take")
    cli.add_argument("--data", type=Path, default=SHARED / "data", help="folder of data sets and mix.py")
    cli.add_argument("--peers", type=Path, default=ROOT / ".peers", help="environment of the peers")
    cli.add_argument("--script", type=Path, default=SHARED / "bench" / "peers.py", help="runs the peers")
    cli.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md", help="takes the tables")
    return cli.parse_args()


def _some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Reads names, with commas between them, that must be among these."""

    def read(asked: str) -> list[str]:
        found = asked.split(",")
        strange = [name for name in found if name not in names]
        if strange:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(strange)}; expected some of {','.join(names)}"
            )
        return found

    return read


def _run(part: str, bench: Bench, into: Path, machine: str) -> None:
    """Print what one part found, and put it on the page at once: a run that is stopped keeps what it has."""
    notes: list[str] = []
    section = page.Section(part, [], notes)
    with bench.noting(notes, part):
        section = PARTS[part](bench)
    print("\n".join(["", f"## {part}", "", *section.lines()]), flush=True)
    if section.tables:
        page.write(into, section, machine)


if __name__ == "__main__":
    main()
