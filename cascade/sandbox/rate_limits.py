"""Requests and tokens a minute: what is left, and the headers that tell it."""

from __future__ import annotations

import time
from collections.abc import Callable

from cascade.sandbox.responses import ApiError


class Bucket:
    """So much a minute, all of which may come at once."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self.most, self._clock = most, clock
        self._left, self._at = float(most), clock()

    @property
    def left(self) -> float:
        now = self._clock()
        self._left = min(self.most, self._left + (now - self._at) * self.most / 60)
        self._at = now
        return self._left

    def take(self, amount: int) -> None:
        self._left = self.left - amount

    def until(self, amount: float) -> float:
        """Seconds until so much is there."""
        return max(0.0, (amount - self.left) * 60 / self.most)


class RateLimits:
    """Limits of a service; without any, every request passes and no header is sent.

    Parameters
    ----------
    rpm, tpm
        Requests and tokens a minute; None for no limit.
    """

    def __init__(
        self, rpm: int | None = None, tpm: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        given = {"requests": rpm, "tokens": tpm}
        self._buckets = {name: Bucket(most, clock) for name, most in given.items() if most is not None}

    def take(self, tokens: int) -> dict[str, str]:
        """Let a request of so many tokens pass; the headers of its answer.

        Raises
        ------
        ApiError
            It is beyond a limit; it counts as a request all the same.
        """
        wanted = {"requests": 1, "tokens": tokens}
        waits = {name: bucket.until(min(wanted[name], bucket.most)) for name, bucket in self._buckets.items()}
        short = max(waits, key=lambda name: waits[name], default="")
        if short and waits[short] > 0:
            raise self._refusal(short, waits[short])
        for name, bucket in self._buckets.items():
            bucket.take(wanted[name])
        return self.headers()

    def headers(self) -> dict[str, str]:
        """The ``x-ratelimit-*`` headers."""
        found = {}
        for name, bucket in self._buckets.items():
            found[f"x-ratelimit-limit-{name}"] = str(bucket.most)
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, int(bucket.left)))
            found[f"x-ratelimit-reset-{name}"] = duration(bucket.until(bucket.most))
        return found

    def _refusal(self, name: str, wait: float) -> ApiError:
        bucket = self._buckets[name]
        message = (
            f"Rate limit reached for {name} per min: Limit {bucket.most}. Please try again in {wait:.3f}s."
        )
        return ApiError(429, message, "rate_limit_exceeded", None, self.headers() | retry_after(wait))


def retry_after(seconds: float) -> dict[str, str]:
    """The headers that ask to wait."""
    return {"retry-after": str(max(1, round(seconds))), "retry-after-ms": str(int(seconds * 1000) + 1)}


def duration(seconds: float) -> str:
    """Seconds as the headers write them: ``20ms``, ``1.5s``, ``6m0s``."""
    if seconds < 1:
        return f"{int(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{int(rest)}s" if minutes else f"{rest:.3g}s"
