"""What a run prints, and the page that keeps it: tables between markers, the prose around them untouched."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

OURS = ("cascade-classifier", "numpy", "numba", "scikit-learn")
PEERS = ("scikit-learn", "libpecos", "omikuji", "hiclass")


@dataclass
class Table:
    """Rows of cells under a head, and what there is to say of rows that are not there."""

    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def lines(self) -> list[str]:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        notes = [line for note in self.notes for line in ("", note)]
        body = [_line(row, widths) for row in self.rows]
        return [_line(self.head, widths), f"| {' | '.join(rule)} |", *body, *notes]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    return f"| {' | '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])} |"


class Aim(NamedTuple):
    """A figure that is made of several systems', and what it should be."""

    what: str
    of: Callable[[Any], float]
    wanted: str
    form: str = ".2f"


def compare(aims: Iterable[Aim], found: Any) -> Table:
    """The figures that can be made of what was found, beside what they should be."""
    table = Table(("compared", "measured", "aim"))
    for aim in aims:
        try:
            figure = format(aim.of(found), aim.form)
        except (KeyError, ValueError, ZeroDivisionError):
            figure = "not measured"
        table.add(aim.what, figure, aim.wanted)
    return table


@dataclass(frozen=True)
class Section:
    """What one part of the benchmarks found, and what there is to say of tables that are not there."""

    part: str
    tables: Sequence[Table]
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """All of it as Markdown, which a terminal shows well enough."""
        blocks = [*(table.lines() for table in self.tables), *([note] for note in self.notes)]
        return [line for block in blocks for line in ("", *block)][1:]


def write(page: Path, section: Section, machine: str) -> None:
    """Replace what stands between the markers of a part.

    Raises
    ------
    SystemExit
        The page has no such markers.
    """
    begin, end = f"<!-- {section.part}: begin -->", f"<!-- {section.part}: end -->"
    text = page.read_text(encoding="utf-8")
    between = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    body = "\n".join(["", *section.lines(), "", machine, "", ""])
    text, found = between.subn(lambda _: body, text)
    if not found:
        raise SystemExit(f"{page}: expected the lines {begin!r} and {end!r}. Put them where the table goes.")
    page.write_text(text, encoding="utf-8")


def machine(jobs: int, peers: Path | None) -> str:
    """Date, machine and versions, as one line; `peers` is the Python of their environment."""
    said = [f"{date.today().isoformat()}: {os.cpu_count()} cores of {_processor()}, {jobs} jobs"]
    said.append(f"Python {platform.python_version()}, {', '.join(_versions(OURS))}")
    if peers:
        ask = (
            "import sys; from importlib.metadata import version as v;"
            "print('Python', sys.version.split()[0] + ',', ', '.join(f'{n} {v(n)}' for n in sys.argv[1:]))"
        )
        done = subprocess.run([peers, "-c", ask, *PEERS], capture_output=True, text=True)
        said.append(f"the peers' environment: {done.stdout.strip() or 'without the packages of the peers'}")
    return "; ".join(said) + "."


def _versions(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
