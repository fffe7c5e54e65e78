"""How fast a service may be asked: requests and tokens a minute, told, learnt from its answers, or found out.

Nothing here waits or looks at a clock: the time is passed in, in seconds of any clock that never goes back.
"""

from __future__ import annotations

import math
import random
import re
from collections import deque
from collections.abc import Callable, Mapping

from cascade.hosted.settings import Limits

MINUTE = 60.0
FIRST_IN_FLIGHT = 4
"""Requests in flight until the first answer, which tells what is allowed."""

# What is kept back of a limit: a burst, and a request that is slow to arrive, count into either minute.
_KEPT_BACK = 0.02
# What has gathered while nobody asked; more than that at once would be too much for a limit of that minute.
_BURST_SECONDS = 0.5
# After a refusal; several processes with one key meet each other by it.
_LOWERED = 0.85
# Back again quickly, slowly where the last refusal was, and quickly beyond it, as limits are raised, too.
_GROWTH_BELOW, _GROWTH_AT_CEILING, _GROWTH_BEYOND = 0.02, 0.003, 0.05
_CEILING = (0.95, 1.05)
_LEAST_RATE = 1 / MINUTE
_LONGEST_PAUSE = {"limit": 60.0, "overloaded": 120.0}
_FIRST_PAUSE = {"limit": 1.0, "overloaded": 5.0}
_JITTER = 0.1


class Bucket:
    """A number of requests or tokens a minute, spent as evenly as they come in.

    Attributes
    ----------
    most
        A second; infinite where nobody told.
    rate
        A second, at present; never above `most`.
    """

    def __init__(self, a_minute: float | None = None) -> None:
        self.most = self.rate = math.inf
        self._level, self._at, self._ceiling = 0.0, 0.0, math.inf
        self._spent = _LastMinute()
        if a_minute is not None:
            self.limit(0.0, a_minute)

    @property
    def burst(self) -> float:
        """Most that can be spent at once."""
        return max(1.0, self.rate * _BURST_SECONDS)

    def limit(self, now: float, a_minute: float) -> None:
        """Spend no more than so many a minute; what was spent before that was known counts."""
        most = max(a_minute * (1 - _KEPT_BACK) / MINUTE, _LEAST_RATE)
        if most == self.most:
            return
        was_known = not math.isinf(self.rate)
        self._refill(now)
        self.most = self.rate = most
        spare = self._level if was_known else self.burst - self._spent.total(now)
        self._level, self._at = min(spare, self.burst), max(now, self._at)

    def wait(self, now: float, cost: float) -> float:
        """Seconds until so much can be spent; of what is more than a burst, the burst has to be there."""
        if math.isinf(self.rate):
            return 0.0
        self._refill(now)
        missing = min(cost, self.burst) - self._level
        return max(missing / self.rate, 0.0) if missing > 1e-9 else 0.0

    def spend(self, now: float, cost: float) -> None:
        self._refill(now)
        self._spent.add(now, cost)
        if not math.isinf(self.rate):
            self._level -= cost

    def settle(self, difference: float) -> None:
        """Something cost so much more, or less, than was spent for it."""
        if not math.isinf(self.rate):
            self._level = min(self._level - difference, self.burst)

    def cap(self, left: float) -> None:
        """The service says that so much is left."""
        self._level = min(self._level, left)

    def lower(self, now: float, pause: float) -> None:
        """Go on more slowly after a pause; where nobody told a limit, as fast as was possible so far."""
        self._refill(now)
        found = self._spent.rate(now, pause) if math.isinf(self.rate) else self.rate
        self._ceiling = found
        self.rate = min(max(found * _LOWERED, _LEAST_RATE), self.most)
        self._level = min(self._level, self.burst)

    def _refill(self, now: float) -> None:
        passed = max(now - self._at, 0.0)
        self._at = max(now, self._at)
        if math.isinf(self.rate):
            return
        self._level = min(self._level + passed * self.rate, self.burst)
        if self.rate < self.most:
            # An idle hour is no reason to believe in much more.
            self.rate = min(self.rate * (1 + self._growth() * min(passed, 1.0)), self.most)

    def _growth(self) -> float:
        """By how much of itself the rate rises in a second."""
        low, high = (share * self._ceiling for share in _CEILING)
        if self.rate < low:
            return _GROWTH_BELOW
        return _GROWTH_AT_CEILING if self.rate <= high else _GROWTH_BEYOND


class _LastMinute:
    """What was spent in the last sixty seconds, second by second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[float, float]] = deque()

    def add(self, now: float, cost: float) -> None:
        second = math.floor(now)
        if self._seconds and self._seconds[-1][0] == second:
            cost += self._seconds.pop()[1]
        self._seconds.append((second, cost))
        self._forget(now)

    def total(self, now: float) -> float:
        self._forget(now)
        return sum(cost for _, cost in self._seconds)

    def rate(self, now: float, pause: float) -> float:
        """A second, where a service wants a pause after what it was asked for."""
        total = self.total(now)
        passed = now - self._seconds[0][0] if self._seconds else 0.0
        return total / min(max(passed + pause, 1.0), MINUTE)

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= now - MINUTE:
            self._seconds.popleft()


class RateLimiter:
    """When the next request may go to one service, by all that is known of its limits.

    Parameters
    ----------
    limits
        What the user told; a service may tell less, never more.
    chance
        Draws from [0, 1), for the jitter of pauses.
    """

    def __init__(self, limits: Limits | None = None, chance: Callable[[], float] = random.random) -> None:
        limits = limits or Limits()
        self._told = {"requests": limits.rpm, "tokens": limits.tpm}
        self._buckets = {what: Bucket(told) for what, told in self._told.items()}
        self._chance = chance
        self._heard: dict[str, str] = {}
        self._until = self._calm_from = -math.inf
        self._in_a_row = 0

    @property
    def a_minute(self) -> float:
        """Requests a minute at present; infinite where nothing stands against any number."""
        return self._buckets["requests"].rate * MINUTE

    def tell(self, now: float, limits: Limits) -> None:
        """The user allows no more than this, whatever the service says."""
        self._told = {"requests": limits.rpm, "tokens": limits.tpm}
        for what, told in self._told.items():
            if told is not None and told * (1 - _KEPT_BACK) / MINUTE < self._buckets[what].most:
                self._buckets[what].limit(now, told)

    def wait(self, now: float, tokens: float) -> float:
        """Seconds until a request of about so many tokens may go; 0.0 is now."""
        requests, of_tokens = (
            self._buckets["requests"].wait(now, 1),
            self._buckets["tokens"].wait(now, tokens),
        )
        return max(self._until - now, requests, of_tokens, 0.0)

    def spend(self, now: float, tokens: float) -> None:
        """A request of about so many tokens goes."""
        self._buckets["requests"].spend(now, 1)
        self._buckets["tokens"].spend(now, tokens)

    def answered(self, sent: float, expected: float, tokens: float) -> None:
        """A request sent at that time was answered, and cost so many tokens."""
        self._buckets["tokens"].settle(tokens - expected)
        if sent > self._calm_from:
            self._in_a_row = 0

    def learn(self, now: float, headers: Mapping[str, str]) -> None:
        """Take over what the headers of an answer tell of limits, as far as they do."""
        for what, bucket in self._buckets.items():
            name = f"x-ratelimit-limit-{what}"
            said = headers.get(name, "")
            if said and self._heard.get(name) != said:
                self._heard[name] = said
                limit = min(_number(said) or math.inf, self._told[what] or math.inf)
                if not math.isinf(limit):
                    bucket.limit(now, limit)
            left = _number(headers.get(f"x-ratelimit-remaining-{what}", ""))
            if left is not None:
                bucket.cap(left)

    def refused(self, trouble: str, now: float, sent: float, retry_after: float | None) -> float:
        """Pause after a refusal for ``limit`` or ``overloaded`` of a request sent at that time; its seconds.

        Of requests that were in flight together only the first one lowers the rate.
        """
        is_new = sent >= self._calm_from
        self._in_a_row += is_new
        pause = self._pause(trouble, retry_after)
        if is_new:
            self._calm_from = now
            if trouble == "limit":
                self._buckets["requests"].lower(now, pause)
        self._until = max(self._until, now + pause)
        return pause

    def _pause(self, trouble: str, retry_after: float | None) -> float:
        least, most = _FIRST_PAUSE[trouble], _LONGEST_PAUSE[trouble]
        grown = min(least * 2.0 ** min(self._in_a_row - 1, 10), most)
        jitter = 1 + _JITTER * self._chance()
        if retry_after is None:
            return grown * jitter
        return (max(retry_after, least) if trouble == "overloaded" else retry_after) * jitter


def _number(said: str) -> float | None:
    """The number of a header; None where it is none, or not told: some services write -1."""
    found = re.fullmatch(r"\s*(\d{1,15})(\.\d+)?\s*", said)
    return float(found[0]) if found else None
