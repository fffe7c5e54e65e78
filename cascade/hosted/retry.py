"""How long services in trouble are waited for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from cascade.hosted.service_errors import ServiceError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a service in trouble is waited for.

    Attributes
    ----------
    repeats
        How often a question is asked again whose connection was cut, or whose answer was broken, while others
        are answered.
    unreachable_seconds
        For the first answer of a service, whatever it is.
    away_seconds
        For a service that answered before, and does not answer now.
    busy_seconds
        For a model to wake up, or a service to allow anything at all again.
    sought_seconds
        For an answer that a service with `store` may still be working on, since its question was sent.
        Requests are given up after two minutes, so that what is not there by then will not come.
    """

    repeats: int = 6
    unreachable_seconds: float = 30.0
    away_seconds: float = 3600.0
    busy_seconds: float = 600.0
    sought_seconds: float = 120.0


DEFAULT = RetryPolicy()
INTERACTIVE = RetryPolicy(
    repeats=3, unreachable_seconds=15.0, away_seconds=15.0, busy_seconds=15.0, sought_seconds=5.0
)
"""Where somebody waits for the answer."""


class Availability:
    """Whether one service answers, and how much longer it is waited for.

    Attributes
    ----------
    answered_at
        When it answered last, by the clock; None where it never did.
    """

    def __init__(
        self, address: str, policy: RetryPolicy, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.answered_at: float | None = None
        self._address, self._policy, self._clock = address, policy, clock
        self._asked_at: float | None = None

    def asked(self) -> None:
        """Something is sent now."""
        if self._asked_at is None:
            self._asked_at = self._clock()

    def answered(self) -> None:
        """The service answered, be it with a refusal."""
        self.answered_at = self._clock()

    @property
    def seconds_left(self) -> float:
        """How much longer a service is waited for that does not answer; never below 0."""
        since = self._asked_at if self.answered_at is None else self.answered_at
        limit = self._policy.unreachable_seconds if self.answered_at is None else self._policy.away_seconds
        return limit if since is None else max(since + limit - self._clock(), 0.0)

    def check(self, error: ServiceError) -> None:
        """Raise a ServiceError with trouble ``unreachable`` where an unanswered request was one too many."""
        if self.seconds_left > 0:
            return
        if self.answered_at is None:
            told = f"has not answered once in {_duration(self._policy.unreachable_seconds)}"
            advice = "Check the address (base_url) and that the service runs there"
        else:
            told = f"has not answered for {_duration(self._policy.away_seconds)}"
            advice = "Wait until the service is there again"
        reason = str(error).removeprefix(f"{self._address}: ")
        message = (
            f"{self._address}: {told} ({reason}). {advice}; then the same command goes on: nothing is lost"
        )
        raise ServiceError(message, "unreachable", None, "", None) from error


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"


@contextlib.asynccontextmanager
async def heartbeat(beat: Callable[[], None], seconds: float) -> AsyncIterator[None]:
    """Call `beat` every so many seconds while the block runs, however long a single step of it takes."""

    async def beats() -> None:
        while True:
            await asyncio.sleep(seconds)
            beat()

    task = asyncio.get_running_loop().create_task(beats())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
