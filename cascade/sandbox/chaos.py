"""Trouble on purpose, as real services make it, from a seeded generator."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cascade.errors import BackendError, suggestion

FAULTS: tuple[str, ...] = (
    "limit",  # 429 with retry-after
    "error",  # 500
    "overloaded",  # 503
    "slow",  # an answer that takes its time
    "cut_before",  # the connection ends before anything was done
    "cut_after",  # everything was done, and the answer never arrives
    "twice",  # the request arrives twice; jobs, files and batches, which cost, do not
)
"""What may happen to any request."""

OTHERS: tuple[str, ...] = (
    "loading",  # 429 at the first calls of an idle tuned model; always
    "hidden",  # a file that is not found for a moment after its upload
    "silent",  # a file whose status is null
    "failed",  # a job that fails
    "moderated",  # a job whose finished model is blocked
    "expired",  # a batch that ends before all is done
    "disordered",  # results of a batch in any order; always
    "base64",  # a result file in base64
)
"""What may happen to other things."""

READING: tuple[str, ...] = (
    "outside",  # an answer outside of the form that is wanted
    "refused",  # a refusal in its place
    "cut",  # an answer that ends in the middle
    "endless",  # one that goes on until no more tokens are allowed
    "obeys",  # what an instruction inside the text says is done
    "slow_token",  # a whole answer that comes late
)
"""What may happen to answers of the model that reads."""

_JOB_SHARE = 0.25
_Item = TypeVar("_Item")


@dataclass
class Chaos:
    """Which trouble comes when; equal seeds and equal requests, one after another, give equal trouble.

    Requests, other things and answers of the model that reads draw each from a generator of their own: how
    often a client asks after a batch changes nothing about what becomes of the answers in it.

    Attributes
    ----------
    seed
        Fixes every draw.
    rate
        How often trouble comes, in [0, 1]: of each request, each file, each batch, each answer of the model
        that reads; jobs fail less often.
    kinds
        What may happen, of `FAULTS`, `OTHERS` and `READING`.
    pause
        Seconds that slow answers, hidden files, loading models and ``retry-after`` take.
    """

    seed: int = 0
    rate: float = 0.1
    kinds: tuple[str, ...] = FAULTS + OTHERS + READING
    pause: float = 0.3
    _requests: random.Random = field(init=False, repr=False)
    _others: random.Random = field(init=False, repr=False)
    _readings: random.Random = field(init=False, repr=False)
    _lock: Any = field(init=False, repr=False)
    _awake: dict[str, float] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._requests, self._others, self._readings = (
            random.Random(f"{self.seed} {kind}")  # noqa: S311 - no secret
            for kind in ("requests", "others", "readings")
        )
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> Chaos:
        """Settings such as ``seed=1,rate=0.1,kinds=cut_after+limit``.

        Raises
        ------
        BackendError
            A name is unknown, or a value is none.
        """
        given = dict(one.partition("=")[::2] for one in text.split(",") if one)
        readers: dict[str, Callable[[str], Any]] = {
            "seed": int,
            "rate": _rate,
            "kinds": _kinds,
            "pause": float,
        }
        settings: dict[str, Any] = {}
        for name, value in given.items():
            if name not in readers:
                raise BackendError(f"chaos: expected {', '.join(readers)}, found {name!r}.")
            try:
                settings[name] = readers[name](value)
            except ValueError as error:
                raise BackendError(f"chaos: {name}: found {value!r}: {error}.") from None
        return cls(**settings)

    def fault(self) -> str:
        """What happens to the next request, or an empty string."""
        with self._lock:
            hit, number = self._requests.random() < self.rate, self._requests.random()
        faults = [one for one in FAULTS if one in self.kinds]
        return faults[int(number * len(faults))] if hit and faults else ""

    def reading(self) -> tuple[str, float]:
        """What happens to the next answer of the model that reads, or an empty string.

        Beside it a number in [0, 1), by which one of the forms of a trouble is taken.
        """
        with self._lock:
            hit = self._readings.random() < self.rate
            number, form = self._readings.random(), self._readings.random()
        kinds = [one for one in READING if one in self.kinds]
        return (kinds[int(number * len(kinds))] if hit and kinds else ""), form

    def strikes(self, kind: str) -> bool:
        """Whether a trouble of `OTHERS` comes now."""
        share = _JOB_SHARE if kind in ("failed", "moderated") and self.rate < 1 else 1.0
        with self._lock:
            return self._others.random() < self.rate * share and kind in self.kinds

    def asleep(self, model: str) -> bool:
        """Whether a model that was idle is still being loaded."""
        if "loading" not in self.kinds or not self.rate:
            return False
        with self._lock:
            return time.monotonic() < self._awake.setdefault(model, time.monotonic() + self.pause)

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """The items in another order."""
        if "disordered" not in self.kinds:
            return list(items)
        with self._lock:
            return self._others.sample(list(items), len(items))


def _rate(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("expected a number from 0 to 1")
    return value


def _kinds(text: str) -> tuple[str, ...]:
    known = FAULTS + OTHERS + READING
    found = tuple(text.split("+"))
    for one in found:
        if one not in known:
            raise ValueError(f"expected {'+'.join(known)}.{suggestion(one, known)}")
    return found
