"""The questions that wait for one service, and their way there and back.

Requests go as the limiter and the places of a service allow; what is refused for a while goes back to the
head of its queue.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.questions import PendingQuestion, Usage
from cascade.hosted.queued_requests import AskCall, FoundAnswer, QueuedRequest
from cascade.hosted.rate_limits import FIRST_IN_FLIGHT, RateLimiter
from cascade.hosted.retry import Availability, RetryPolicy
from cascade.hosted.service_errors import TRANSIENT, ServiceError, service_error
from cascade.hosted.settings import Limits, Settings
from cascade.hosted.stored_answers import (
    LIST,
    NOTHING,
    Listed,
    StoredAnswers,
    is_doubtful,
    kept_body,
    listed_in,
    query_of,
)

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_ANSWER_SECONDS = 120.0
# Before the first repetition, and before a model that wakes up is asked once more; doubled each time.
_REPEAT_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LOADING_SECONDS, _MOST_LOADING_SECONDS = 2.0, 15.0
# Between two looks for an answer that the service may be working on; doubled each time.
_LOOK_SECONDS, _MOST_LOOK_SECONDS = 1.0, 15.0
_SOUGHT = "looking for answers that were on their way when a run was killed, or a connection cut"
# Before anything was answered: a token is about so many bytes of JSON.
_BYTES_PER_TOKEN = 4.0
_LEARNT = 0.05
_JITTER = 0.5
# A request to send at least this soon is sent now, as sleeps are no more exact.
_SOON_SECONDS = 0.001
# What is all of an answer that has no choices.
_WHOLE = ("data", "answers")
CLOSED = "the asker was closed while questions were being asked"


@dataclass(frozen=True)
class AskingContext:
    """What a service works with."""

    log: Callable[[str], None] | None
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    count: Callable[[str, Usage], None]
    cache: AnswerCache | None
    note: Callable[[str], None]
    retry_policy: RetryPolicy


@dataclass(slots=True)
class _LoadingModel:
    """A model that wakes up: one job asks it now and then, the others are held back."""

    since: float
    asked: int = 0
    held_back: list[QueuedRequest] = field(default_factory=list)


class RequestQueue:
    """One service: its client, its limiter, what waits and what is on its way. Lives in the loop."""

    def __init__(
        self, context: AskingContext, clients: Callable[[Settings], AsyncOpenAI], settings: Settings
    ) -> None:
        self._context, self._address = context, settings.address
        self._client = clients(settings)
        self._limiter = RateLimiter(settings.limits, context.chance)
        self._limits, self._places = settings.limits, settings.concurrency
        self._queue: deque[QueuedRequest] = deque()
        self._jobs: dict[bytes, QueuedRequest] = {}
        self._loading: dict[str, _LoadingModel] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pausing: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._bytes_per_token = _BYTES_PER_TOKEN
        self._is_known = False
        self._availability = Availability(settings.address, context.retry_policy, context.clock)
        self._answered_at, self._refused_since = -math.inf, math.inf
        most_seconds = context.retry_policy.sought_seconds
        self._stored = StoredAnswers(settings.address, context.cache, context.note, most_seconds)
        self._sender = asyncio.get_running_loop().create_task(self._send_all())

    def apply_limits(self, settings: Settings) -> None:
        """Groups may differ in what they allow at one service: the least counts."""
        self._places = min(self._places, settings.concurrency)
        rpm, tpm = (
            _least(self._limits.rpm, settings.limits.rpm),
            _least(self._limits.tpm, settings.limits.tpm),
        )
        if self._limits != Limits(rpm, tpm):
            self._limits = Limits(rpm, tpm)
            self._limiter.tell(self._context.clock(), self._limits)

    def take(self, asked: PendingQuestion, call: AskCall) -> None:
        """Ask this for a call, unless it is being asked already."""
        job = self._jobs.get(asked.key)
        if job is None:
            job = self._jobs[asked.key] = QueuedRequest(asked, [])
            if asked.sent_seconds is not None and self._stored.keeps(asked):
                job.sought_since = self._context.clock() - asked.sent_seconds
            self._queue.append(job)
            self._news.set()
        job.calls.append(call)

    async def close(self, seconds: float) -> None:
        """End all that runs here; answers that are on their way, and paid for, are waited for so long."""
        self._drop(self._jobs.values(), BackendError(CLOSED))
        await _ended([self._sender, *self._pausing])
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds)
        await _ended([*self._in_flight, *self._pausing])
        with suppress(Exception):
            await self._client.close()

    # Sending

    async def _send_all(self) -> None:
        while True:
            try:
                await self._send(await self._next())
            except Exception as error:  # a fault of ours must not leave anybody waiting
                self._drop(self._jobs.values(), error)
            # One after another: requests that are sent together come back together, and wait for each other.
            await asyncio.sleep(0)

    async def _send(self, job: QueuedRequest) -> None:
        if job.sought_since is not None:
            now = self._context.clock()
            job.begun = job.begun or now
            self._start(job, partial(self._seek, job, job.sought_since), now)
            return
        expected = self._expected(job)
        while (seconds := self._limiter.wait(self._context.clock(), expected)) > _SOON_SECONDS:
            await self._context.sleep(seconds)
        if not job.is_wanted:
            self._forget(job)
            return
        now = self._context.clock()
        self._limiter.spend(now, expected)
        job.begun = job.begun or now
        self._start(job, partial(self._try, job, now, expected), now)

    def _start(self, job: QueuedRequest, way: Callable[[], Awaitable[None]], sent: float) -> None:
        self._in_flight.add(asyncio.get_running_loop().create_task(self._deliver(job, way, sent)))

    async def _next(self) -> QueuedRequest:
        """The next job that is still wanted, when there is a place for it."""
        while True:
            while self._queue and len(self._in_flight) < (
                self._places if self._is_known else FIRST_IN_FLIGHT
            ):
                job = self._queue.popleft()
                if not job.is_wanted:
                    self._forget(job)
                elif (loading := self._loading.get(job.model)) and not job.is_probe:
                    loading.held_back.append(job)
                else:
                    return job
            self._news.clear()
            await self._news.wait()

    def _expected(self, job: QueuedRequest) -> float:
        return len(job.asked.body) / self._bytes_per_token

    async def _deliver(self, job: QueuedRequest, way: Callable[[], Awaitable[None]], sent: float) -> None:
        try:
            await way()
        except asyncio.CancelledError:
            raise
        except ServiceError as error:
            self._handle_trouble(job, error, sent)
        except Exception as error:  # a fault of ours must not leave anybody waiting
            self._drop([job], error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._in_flight.discard(task)
            self._news.set()

    async def _try(self, job: QueuedRequest, sent: float, expected: float) -> None:
        """One request; ServiceError where it fails."""
        notes = self._stored.notes
        job.is_kept = self._stored.keeps(job.asked) and not job.without_store
        if job.is_kept and notes is not None:
            await asyncio.wrap_future(notes.note_sent(job.asked.key))
        self._context.count(job.model, Usage(requests=1, retries=int(job.tries > 0)))
        job.tries += 1
        self._availability.asked()
        response = await self._post(job)
        self._availability.answered()
        self._is_known = True
        kept = _answer_in(response.content)
        if kept is not None:
            self._succeed(job, kept, sent, expected)
        # After the tokens of this answer were counted, as the service has done.
        self._limiter.learn(self._context.clock(), response.headers)
        if kept is None:
            raise ServiceError(f"{self._address}: an answer without a choice", "broken", 200, "", None)

    async def _post(self, job: QueuedRequest) -> Any:
        """The response as it came: parsed into the package's classes it would take much longer."""
        import httpx2

        asked = job.asked
        path = asked.question.codec.endpoint.removeprefix("/v1")
        body = kept_body(asked) if job.is_kept else asked.body
        self._log(f"POST {self._address}{path} ", body)
        call = self._client.post(path, cast_to=httpx2.Response, content=body)
        return await self._heard(call, self._limiter)

    async def _heard(self, call: Awaitable[Any], limiter: RateLimiter | None = None) -> Any:
        """The response to a request; ServiceError where it fails, of which the limiter of its kind hears."""
        try:
            # The client's own limit is that of each read, and a body may come byte by byte for ever.
            async with asyncio.timeout(_ANSWER_SECONDS):
                response = await call
        except TimeoutError:
            raise ServiceError(f"{self._address}: no answer in time", "lost", None, "", None) from None
        except Exception as error:
            told = getattr(error, "response", None)
            if told is not None:
                self._log(f"{told.status_code} ", told.content)
                if limiter is not None:
                    limiter.learn(self._context.clock(), told.headers)
            raise service_error(error, self._address) from None
        self._log("200 ", response.content)
        return response

    def _log(self, head: str, content: bytes) -> None:
        if self._context.log is not None:
            self._context.log(head + content.decode("utf-8", "replace"))

    def _succeed(self, job: QueuedRequest, kept: CachedAnswer, sent: float, expected: float) -> None:
        used = Usage.of(kept.usage)
        self._context.count(job.model, used)
        total = used.prompt_tokens + used.completion_tokens
        if total:
            ratio = len(job.asked.body) / total
            self._bytes_per_token += _LEARNT * (ratio - self._bytes_per_token)
        self._limiter.answered(sent, expected, total or expected)
        self._answered_at, self._refused_since = self._context.clock(), math.inf
        if job.without_store:
            self._stored.refused()
        self._stored.answered(self._answered_at - sent, was_kept=job.is_kept)
        self._wake(job.model)
        self._end(job, kept)

    def _end(self, job: QueuedRequest, kept: CachedAnswer) -> None:
        """A question has its answer."""
        if job.asked.question.is_kept and self._context.cache is not None:
            self._context.cache.put(job.asked.key, kept)
        self._forget(job)
        job.end(FoundAnswer(kept))

    # Answers that did not arrive

    async def _seek(self, job: QueuedRequest, since: float) -> None:
        """One look for an answer that the service may have; ServiceError where it cannot be told now."""
        asked, cache = job.asked, self._stored.notes
        if cache is None:
            self._ask_after_all(job)
            return
        # A run beside this one may have it by now.
        if found := (await asyncio.to_thread(cache.get, [asked.key])).get(asked.key):
            self._context.count(job.model, Usage(from_cache=1))
            self._end(job, found)
            return
        listed, pause = await self._listed(job)
        if listed.answer is not None:
            self._context.count(job.model, Usage(found_again=1))
            self._end(job, listed.answer)
            return
        if listed.is_there:
            self._stored.useless()
        left = since + self._stored.patience_seconds - self._context.clock()
        if (left <= 0 and not pause) or self._stored.notes is None:
            self._ask_after_all(job)
            return
        for call in job.calls:
            call.trouble = _SOUGHT
        growing = min(_LOOK_SECONDS * 2.0 ** min(job.looks, 10), _MOST_LOOK_SECONDS)
        job.looks += 1
        self._later(pause or min(growing, left + _SOON_SECONDS), job)

    async def _listed(self, job: QueuedRequest) -> tuple[Listed, float]:
        """What the service lists for a question, and seconds that it wants to be left alone before it says.

        Nothing where it has no list, which is told once. Its limits are not those of questions.
        """
        import httpx2

        self._availability.asked()
        query = query_of(job.asked)
        self._log(f"GET {self._address}{LIST} ", json.dumps(query).encode())
        call = self._client.get(LIST, cast_to=httpx2.Response, options={"params": query})
        try:
            response = await self._heard(call)
            self._availability.answered()
            return listed_in(response.content, job.asked), 0.0
        except (ValueError, RecursionError):
            unlisted = ServiceError("an answer that is no list", "broken", 200, "", None)
        except ServiceError as error:
            if error.trouble in TRANSIENT and job.troubles < self._context.retry_policy.repeats:
                if error.trouble in ("lost", "broken"):
                    raise
                self._availability.answered()
                job.troubles += 1
                return NOTHING, max(error.retry_after or 0.0, _MOST_LOOK_SECONDS)
            unlisted = error
        self._stored.unlisted(unlisted)
        return NOTHING, 0.0

    def _ask_after_all(self, job: QueuedRequest) -> None:
        """There is no answer that could be found, and none will come."""
        job.sought_since, job.looks = None, 0
        self._queue.appendleft(job)
        self._news.set()

    # Trouble

    def _handle_trouble(self, job: QueuedRequest, error: ServiceError, sent: float) -> None:
        """Do what helps against a trouble."""
        for call in job.calls:
            call.trouble = str(error)
        if job.sought_since is None:
            self._note_trouble(job, error, sent)
        if error.status is not None:
            self._availability.answered()
        self._is_known = self._is_known or error.trouble not in ("lost", "broken")
        if error.trouble in ("quota", "daily", "forbidden", "oversized"):
            self._drop(self._jobs.values(), error)
        elif error.trouble == "missing":
            self._drop(self._of(job.model), error)
        elif error.trouble in ("limit", "overloaded"):
            self._pause(job, error, sent)
        elif error.trouble == "loading":
            self._hold_back(job, error)
        elif error.trouble in ("lost", "broken"):
            self._repeat(job, error)
        elif job.is_kept and self._stored.may_be_at_fault(error):
            job.without_store = True
            self._queue.appendleft(job)
        else:
            self._wake(job.model)
            self._forget(job)
            job.end(FoundAnswer(None, str(error)))

    def _note_trouble(self, job: QueuedRequest, error: ServiceError, sent: float) -> None:
        """After a request failed: whether its answer is to be looked for before it is sent again."""
        notes = self._stored.notes
        if job.is_kept and notes is not None:
            if is_doubtful(error):
                job.sought_since = sent
            else:
                notes.note_refused(job.asked.key)

    def _pause(self, job: QueuedRequest, error: ServiceError, sent: float) -> None:
        now = self._context.clock()
        self._limiter.refused(error.trouble, now, sent, error.retry_after)
        self._refused_since = min(self._refused_since, now)
        if now - self._refused_since > self._context.retry_policy.busy_seconds:
            self._drop(self._jobs.values(), error)
        else:
            self._queue.appendleft(job)

    def _repeat(self, job: QueuedRequest, error: ServiceError) -> None:
        is_silent = error.status is None and (self._availability.answered_at or -math.inf) < job.begun
        if is_silent:
            try:
                self._availability.check(error)
            except ServiceError as end:
                self._drop(self._jobs.values(), end)
                return
        # What nobody was answered says nothing against this question.
        job.troubles += not is_silent
        if is_silent or job.troubles <= self._context.retry_policy.repeats:
            wait = min(_REPEAT_SECONDS * 2.0 ** min(job.tries - 1, 10), _LONGEST_PAUSE_SECONDS)
            self._later(min(wait, max(self._availability.seconds_left, _REPEAT_SECONDS)), job)
        elif self._answered_at < job.begun:
            # Nothing at all was answered in the meantime: the service is down.
            self._drop(self._jobs.values(), error)
        else:
            self._wake(job.model)
            self._forget(job)
            job.end(FoundAnswer(None, f"{error} (tried {job.tries} times)"))

    def _hold_back(self, job: QueuedRequest, error: ServiceError) -> None:
        now = self._context.clock()
        loading = self._loading.get(job.model)
        if loading is None:
            loading = self._loading[job.model] = _LoadingModel(now)
            job.is_probe = True
        if not job.is_probe:
            loading.held_back.append(job)
            return
        if now - loading.since > self._context.retry_policy.busy_seconds:
            self._drop(self._of(job.model), error)
            return
        wait = min(_LOADING_SECONDS * 2.0**loading.asked, _MOST_LOADING_SECONDS)
        loading.asked += 1
        self._later(max(wait, error.retry_after or 0.0), job)

    def _wake(self, model: str) -> None:
        """A model answers: those that were held back are next."""
        loading = self._loading.pop(model, None)
        if loading is not None:
            self._queue.extendleft(reversed(loading.held_back))
            self._news.set()

    def _of(self, model: str) -> list[QueuedRequest]:
        return [job for job in self._jobs.values() if job.model == model]

    def _later(self, seconds: float, job: QueuedRequest) -> None:
        jittered = seconds * (1 - _JITTER * self._context.chance())

        async def rest() -> None:
            await self._context.sleep(jittered)
            self._queue.appendleft(job)
            self._news.set()

        resting = asyncio.get_running_loop().create_task(rest())
        self._pausing.add(resting)
        resting.add_done_callback(self._pausing.discard)

    def _drop(self, jobs: Iterable[QueuedRequest], error: Exception) -> None:
        """Ask these no more; what is on its way still goes into the cache."""
        for job in list(jobs):
            self._forget(job)
            job.fail(error)

    def _forget(self, job: QueuedRequest) -> None:
        if self._jobs.get(job.asked.key) is job:
            del self._jobs[job.asked.key]
        if job.is_probe:
            self._wake(job.model)


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _answer_in(content: bytes) -> CachedAnswer | None:
    """The first choice of a response, or its vectors or decisions, and its usage; None where it is none."""
    try:
        body = json.loads(content)
        whole = next((name for name in _WHOLE if name in body), "")
        choice = {whole: body[whole]} if whole else body["choices"][0]
        usage = body.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return (
        CachedAnswer(choice, usage if isinstance(usage, dict) else {}) if isinstance(choice, dict) else None
    )


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)
