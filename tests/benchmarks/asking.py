"""How much of what a service allows is reached, and processor time a question; against a service on loopback.

    python tests/benchmarks/asking.py [--seconds 75]

Prints one line for each case: the rate over its bound, which is the least of the service's limit and
concurrency / latency; milliseconds of processor time a question, of the whole process, with the codec and the
cache; and how many requests were refused, and how many of them after the first minute.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cascade.hosted.answer_cache import AnswerCache
from cascade.hosted.asker import Asker
from cascade.hosted.codecs import codec_of
from cascade.hosted.questions import Question
from cascade.hosted.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
from answering_service import Script, Service

LABELS = tuple(f"label {number}" for number in range(12))
WORDS = "I have been charged twice for the same order and nobody answers my letters "


@dataclass(frozen=True)
class Case:
    latency: float
    concurrency: int
    rpm: int | None
    headers: bool = True

    @property
    def bound(self):
        """Questions a second."""
        places = self.concurrency / self.latency if self.latency else float("inf")
        return min(places, self.rpm / 60 if self.rpm else float("inf"))

    def __str__(self):
        limit = f"{self.rpm:,} a minute{'' if self.headers else ' (not told)'}" if self.rpm else "no limit"
        return f"{limit}, answers after {self.latency * 1000:.0f} ms, {self.concurrency} at once"


CASES = (
    Case(0.3, 64, None),
    Case(0.3, 64, 20_000),
    Case(0.3, 128, 20_000),
    Case(0.3, 64, 600),
    Case(0.3, 64, 6_000, headers=False),
    Case(0.02, 16, None),
)


# As the command has it: looking for cycles among many objects takes time from all of them.
OBJECTS_BETWEEN_LOOKS = 1_000_000


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=75.0)
    options.add_argument("--case", type=int, choices=range(len(CASES)), help="one of the cases alone")
    options.add_argument("--serve", nargs=3, metavar=("LATENCY", "RPM", "HEADERS"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(float(given.serve[0]), int(given.serve[1]) or None, given.serve[2] == "True")
        return
    for case in CASES if given.case is None else (CASES[given.case],):
        print(f"{case}: {measured(case, given.seconds)}", flush=True)


@dataclass(frozen=True)
class Measured:
    """What came of a case.

    Attributes
    ----------
    reached
        The rate over its bound.
    bound
        Questions a second.
    spent
        Milliseconds of processor time a question.
    refused, late
        Requests, and those of them after the first minute.
    """

    reached: float
    bound: float
    spent: float
    refused: int
    late: int

    def __str__(self):
        return (
            f"{self.reached:.3f} of {self.bound:.0f} a second; {self.spent:.2f} ms of processor time; "
            f"{self.refused} refused, {self.late} after the first minute"
        )


def measured(case, seconds):
    """The figures of a case; the service runs in a process of its own."""
    command = [sys.executable, __file__, "--serve", str(case.latency), str(case.rpm or 0), str(case.headers)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        address = process.stdout.readline().strip()
        count, passed, spent = asked(address, case, seconds)
        figures, _ = process.communicate("end\n")
    refused = [float(one) for one in figures.split()]
    late = sum(second > 60 for second in refused)
    reached = count / passed / case.bound
    return Measured(reached, case.bound, 1000 * spent / count, len(refused), late)


def asked(address, case, seconds):
    os.environ["SERVICE_KEY"] = "any"
    gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
    settings = Settings(
        provider="compatible", base_url=address, api_key_env="SERVICE_KEY", concurrency=case.concurrency
    )
    codec = codec_of(LABELS, {}, "one", settings)
    with (
        tempfile.TemporaryDirectory() as folder,
        Asker(cache=AnswerCache(Path(folder) / "answers.sqlite")) as asker,
    ):
        asker.ask([Question("m", settings, codec, "the client is made, and the package imported")])
        count = int(min(case.bound, 1000) * seconds)
        questions = [Question("m", settings, codec, f"{WORDS * 3}{number}") for number in range(count)]
        start, spent = time.perf_counter(), time.process_time()
        answers = asker.ask(questions)
        passed, spent = time.perf_counter() - start, time.process_time() - spent
        assert all(one.scores is not None for one in answers)
    return count, passed, spent


def serve(latency, rpm, headers):
    top = [{"token": f"{place:02}", "logprob": -0.1 - place, "bytes": [48, 49]} for place in range(20)]
    step = {"token": "00", "logprob": -0.1, "bytes": [48, 48], "top_logprobs": top}
    script = Script(lambda _: "00", latency, rpm, headers, logprobs={"content": [step], "refusal": None})
    with Service(script) as service:
        print(service.base_url, flush=True)
        sys.stdin.readline()
        print(*service.refused_at)


if __name__ == "__main__":
    main()
