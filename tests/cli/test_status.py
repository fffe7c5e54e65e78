"""What lasts is told in a line a minute at most."""

from __future__ import annotations

from cascade.cli.hosted import JobProgress, Status
from cascade.cli.shell import Bar
from cascade.hosted.orders import JobEvent


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


def event(group, kind, detail="", age=5.0, end=None):
    return JobEvent(group, kind, age, end, detail)


def test_what_lasts_is_told_once_a_minute(capsys):
    clock = Clock()
    status = Status(60.0, clock)
    for second in range(180):
        clock.seconds = second
        status(f"at {second}")
    assert capsys.readouterr().err.splitlines() == ["at 0", "at 60", "at 120"]


def test_fine_tunes_that_run_are_told_together_and_what_happens_one_by_one(capsys):
    clock = Clock()
    progress = JobProgress(Bar(), Status(60.0, clock))
    progress(event("billing", "created", "ftjob-1", age=0.0))
    for second in range(120):
        clock.seconds = second
        progress(event("billing", "running", "ftjob-1: running", age=second))
        progress(event("mood", "waiting", "http://s/v1: 503", age=second))
    progress(event("billing", "succeeded", "ft:one", age=120.0))
    assert capsys.readouterr().err.splitlines() == [
        "created billing (ftjob-1)",
        "fine-tunes: 1 running, for 0 s",
        "fine-tunes: 1 running, 1 waiting, for 60 s; waiting: http://s/v1: 503",
        "succeeded billing after 120 s (ft:one)",
    ]
