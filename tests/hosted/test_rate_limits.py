from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.hosted.rate_limits import FIRST_IN_FLIGHT, MINUTE, RateLimiter
from cascade.hosted.settings import Limits


def no_chance():
    return 0.0


class Sliding:
    """Allows so many requests in any minute; refused ones do not count."""

    def __init__(self, rpm, tells=True):
        self.rpm, self.tells, self.arrivals, self.refused = rpm, tells, [], []

    def ask(self, now):
        recent = len(self.arrivals) - bisect_right(self.arrivals, now - MINUTE)
        headers = {}
        if self.tells:
            headers = {
                "x-ratelimit-limit-requests": str(self.rpm),
                "x-ratelimit-remaining-requests": str(max(self.rpm - recent - 1, 0)),
            }
        if recent >= self.rpm:
            self.refused.append(now)
            return self.arrivals[-self.rpm] + MINUTE - now, headers
        self.arrivals.append(now)
        return None, headers


def drive(limiters, service, seconds, latency=0.3, places=64, tokens=100.0):
    """Ask as much as the limiters allow, all at once; when each request was sent."""
    clients = [{"limiter": one, "flying": 0, "known": False} for one in limiters]
    events, sent, order = [(0.0, 0, one, None) for one in clients], [], itertools.count(1)
    events = [(0.0, next(order), one, None) for one in clients]
    while events:
        now, _, client, landed = heapq.heappop(events)
        if now > seconds:
            break
        limiter = client["limiter"]
        if landed is not None:
            start, refused, headers = landed
            client["flying"] -= 1
            client["known"] = True
            if refused is None:
                limiter.answered(start, tokens, tokens)
            else:
                limiter.refused("limit", now, start, refused)
            limiter.learn(now, headers)
        while client["flying"] < (places if client["known"] else FIRST_IN_FLIGHT):
            wait = limiter.wait(now, tokens)
            if wait > 0.001:
                if client.get("wakes", 0) <= now:
                    client["wakes"] = now + wait
                    heapq.heappush(events, (now + wait, next(order), client, None))
                break
            limiter.spend(now, tokens)
            sent.append(now)
            client["flying"] += 1
            heapq.heappush(
                events, (now + latency, next(order), client, (now, *service.ask(now + latency / 2)))
            )
    return sent


def most_in_a_minute(times):
    return max(place - bisect_right(times, now - MINUTE) + 1 for place, now in enumerate(times))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3000), st.integers(1, 64), st.sampled_from([0.05, 0.3, 2.0]))
def test_a_limit_that_the_user_told_is_never_exceeded_in_any_minute(rpm, places, latency):
    service = Sliding(10**9, tells=False)
    sent = drive([RateLimiter(Limits(rpm=rpm), no_chance)], service, 150, latency, places)
    assert most_in_a_minute(sent) <= rpm


@pytest.mark.parametrize("tells", [True, False])
def test_at_600_a_minute_nothing_is_refused_after_the_first_minute_and_95_percent_are_used(tells):
    service = Sliding(600, tells)
    limits = Limits() if tells else Limits(rpm=600)
    drive([RateLimiter(limits, no_chance)], service, 300)
    assert not service.refused
    later = [now for now in service.arrivals if now > MINUTE]
    assert len(later) / 4 >= 0.95 * 600


@pytest.mark.parametrize(("rpm", "places"), [(20_000, 64), (20_000, 128), (500, 64), (60, 8)])
def test_95_percent_of_limit_and_places_are_reached(rpm, places):
    service = Sliding(rpm)
    drive([RateLimiter(chance=no_chance)], service, 120, latency=0.3, places=places)
    bound = min(rpm, places / 0.3 * MINUTE)
    assert sum(now > MINUTE for now in service.arrivals) >= 0.95 * bound


def test_a_limit_that_nobody_tells_is_found_out():
    service = Sliding(1200, tells=False)
    drive([RateLimiter(chance=no_chance)], service, 900)
    late = [now for now in service.arrivals if now > 300]
    assert len(late) / 10 >= 0.85 * 1200
    assert sum(now > 300 for now in service.refused) <= 0.05 * len(late)


def test_two_processes_with_one_key_come_to_share_its_limit():
    service = Sliding(1200)
    drive([RateLimiter(chance=no_chance), RateLimiter(chance=no_chance)], service, 900)
    late = [now for now in service.arrivals if now > 300]
    assert len(late) / 10 >= 0.8 * 1200
    assert sum(now > 300 for now in service.refused) <= 0.05 * len(late)


def test_tokens_are_limited_as_requests_are():
    sent = drive([RateLimiter(Limits(tpm=60_000), no_chance)], Sliding(10**9, tells=False), 240, tokens=500.0)
    assert most_in_a_minute(sent) <= 120
    assert len([now for now in sent if now > MINUTE]) / 3 >= 0.95 * 120


def test_a_request_larger_than_the_limit_of_a_minute_still_goes():
    limiter = RateLimiter(Limits(tpm=100), no_chance)
    assert limiter.wait(0.0, 5000) == 0.0
    limiter.spend(0.0, 5000)
    assert limiter.wait(1.0, 1) > MINUTE


def test_what_an_answer_cost_more_than_expected_is_waited_for():
    limiter, other = (RateLimiter(Limits(tpm=6000), no_chance) for _ in range(2))
    for one in (limiter, other):
        one.spend(0.0, 50)
    limiter.answered(0.0, 50, 1050)
    assert limiter.wait(1.0, 10) == pytest.approx(other.wait(1.0, 10) + 1000 / 98, abs=1)


def test_a_refusal_stops_everybody_for_as_long_as_the_service_says():
    limiter = RateLimiter(chance=no_chance)
    limiter.spend(0.0, 10)
    assert limiter.wait(0.0, 10) == 0.0
    limiter.refused("limit", 0.2, 0.0, 7.0)
    assert 7.0 <= limiter.wait(0.2, 10) <= 9.0
    assert limiter.wait(9.2, 10) == 0.0


def test_without_a_word_on_waiting_pauses_grow_until_an_answer_comes():
    limiter, now, pauses = RateLimiter(chance=no_chance), 0.0, []
    for _ in range(4):
        limiter.spend(now, 1)
        pauses.append(limiter.refused("limit", now + 0.1, now, None))
        now += 0.1 + pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 4 * pauses[0]
    limiter.answered(now, 1, 1)
    assert limiter.refused("limit", now + 1, now + 0.5, None) == pauses[0]


def test_an_overloaded_service_is_given_more_time_than_one_with_a_limit():
    pauses = {
        trouble: RateLimiter(chance=no_chance).refused(trouble, 1.0, 0.5, None)
        for trouble in ("limit", "overloaded")
    }
    assert pauses["overloaded"] >= 3 * pauses["limit"]
    assert RateLimiter(chance=no_chance).refused("overloaded", 1.0, 0.5, 0.1) == pauses["overloaded"]


def test_requests_refused_together_lower_the_rate_once():
    limiter = RateLimiter(Limits(rpm=6000), no_chance)
    for _ in range(20):
        limiter.spend(0.0, 1)
    for _ in range(20):
        limiter.refused("limit", 0.3, 0.0, 1.0)
    assert limiter.a_minute >= 0.8 * 0.98 * 6000


def test_a_lowered_rate_recovers():
    limiter = RateLimiter(Limits(rpm=6000), no_chance)
    limiter.refused("limit", 0.0, 0.0, 1.0)
    before = limiter.a_minute
    for second in range(1, 300):
        limiter.wait(float(second), 1)
    assert before < limiter.a_minute <= 6000


def test_pauses_are_spread_by_chance_and_never_shorter_than_asked():
    assert RateLimiter(chance=lambda: 0.99).refused("limit", 0.0, 0.0, 10.0) > 10.5
    assert RateLimiter(chance=lambda: 0.0).refused("limit", 0.0, 0.0, 10.0) == 10.0


@pytest.mark.parametrize("said", ["", "-1", "many", "1e9999", "nan", " ", "0"])
def test_headers_that_tell_nothing_change_nothing(said):
    limiter = RateLimiter(chance=no_chance)
    names = [f"x-ratelimit-{kind}-{what}" for kind in ("limit",) for what in ("requests", "tokens")]
    limiter.learn(0.0, dict.fromkeys(names, said))
    assert limiter.wait(0.0, 100) == 0.0
    assert limiter.a_minute == float("inf")


def test_a_service_may_tell_less_than_the_user_but_not_more():
    for told, allowed in ((100, 100), (10_000, 600)):
        limiter = RateLimiter(Limits(rpm=600), no_chance)
        limiter.learn(0.0, {"x-ratelimit-limit-requests": str(told)})
        assert 0.95 * allowed <= limiter.a_minute <= allowed


def test_another_group_may_allow_less():
    limiter = RateLimiter(chance=no_chance)
    limiter.tell(0.0, Limits(rpm=300))
    assert 0.95 * 300 <= limiter.a_minute <= 300
