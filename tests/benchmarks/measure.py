"""What a command takes: seconds, peak memory, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROC = Path("/proc")
SAMPLE_SECONDS = 0.1
# Looking at a large process holds it up: it is left alone for so many times as long as a look took.
REST = 20
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
MIB = 2**20
# A child is charged with the memory of its parent until it becomes another program, and this process grows
# with the rows that it scores. So a small one stands between, which starts the command and waits for it.
LAUNCHER = """
import os, sys, time
start = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - start
os.write(int(sys.argv[1]), b"%f %d %d" % (seconds, usage.ru_maxrss, os.waitstatus_to_exitcode(status)))
"""
BESIDE_WORKERS = 2
MOST_QUOTED = 400


class NotMeasuredError(Exception):
    """A command has no figures, for a reason that one can live with: it is not there, or took too long."""


class FailedError(NotMeasuredError):
    """A command ended with an error."""


def existing(path: Path) -> Path:
    """The path; NotMeasuredError where nothing is there."""
    if not path.exists():
        raise NotMeasuredError(f"skipped, there is no {path}")
    return path


@dataclass(frozen=True)
class Run:
    """One run of a command.

    Attributes
    ----------
    seconds
        From its start to its end.
    peak_mib
        The greater of two: the resident memory of its largest process, and the shared-out memory (PSS) of
        all of its processes, sampled where there is a ``/proc``.
    answer
        Its standard output.
    """

    seconds: float
    peak_mib: float
    answer: str

    @property
    def timings(self) -> dict[str, float]:
        """The JSON object on the last line of the answer; the lines above may be a library's."""
        found: dict[str, float] = json.loads(self.answer.splitlines()[-1])
        return found


def measured(command: Sequence[str | Path], limit_seconds: float) -> Run:
    """The figures of a command that runs alone.

    Raises
    ------
    NotMeasuredError
        It was stopped after `limit_seconds`.
    FailedError
        It ended with another exit code than 0; the end of its standard error is quoted.
    """
    words = [str(word) for word in command]
    print(f"$ {' '.join(words)}", file=sys.stderr, flush=True)
    # Files, not pipes: one of the peers draws megabytes of a progress bar.
    with (
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as told,
    ):
        # A session of its own is how the workers of a command are found.
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(told.fileno()), *words],
            stdout=answer,
            stderr=said,
            start_new_session=True,
            pass_fds=[told.fileno()],
        )
        with _Watch(process.pid, limit_seconds) as watch:
            process.wait()
        if watch.stopped:
            raise NotMeasuredError(f"not done after {limit_seconds:g} s")
        told.seek(0)
        seconds, maxrss, code = told.read().split() or (b"0", b"0", b"%d" % process.returncode)
        if int(code):
            raise FailedError(f"exit code {int(code)}: {_end_of(said)}")
        answer.seek(0)
        peak = max(int(maxrss) * MAXRSS_UNIT, watch.peak_bytes) / MIB
        return Run(float(seconds), peak, answer.read().decode())


class _Watch(threading.Thread):
    """Looks at a session of processes from time to time, and ends it when its time is up."""

    def __init__(self, session: int, limit_seconds: float) -> None:
        super().__init__(daemon=True)
        self.session, self.limit_seconds = session, limit_seconds
        self.peak_bytes, self.stopped = 0, False
        self._over = threading.Event()

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        end, rest = time.monotonic() + self.limit_seconds, SAMPLE_SECONDS
        while not self._over.wait(max(0, min(rest, end - time.monotonic()))):
            start = time.monotonic()
            if start >= end:
                self.stopped = True
                os.killpg(self.session, signal.SIGKILL)
                return
            members = _members(self.session)
            if len(members) > BESIDE_WORKERS:  # of a command alone the system itself knows the peak
                self.peak_bytes = max(self.peak_bytes, sum(map(_memory_of, members)))
            rest = max(SAMPLE_SECONDS, REST * (time.monotonic() - start))


def _members(session: int) -> list[Path]:
    """The folders in ``/proc`` of the processes of a session."""
    found = []
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            # The name, in brackets, may hold anything; state, parent, group and session follow it.
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(after_name[3]) == session:
                found.append(folder)
    return found


def _memory_of(process: Path) -> int:
    with suppress(OSError):
        for line in (process / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _end_of(said: IO[bytes]) -> str:
    """The last line of a file."""
    said.seek(0)
    lines = said.read().decode(errors="replace").splitlines() or [""]
    return " ".join(lines[-1].split())[-MOST_QUOTED:]
