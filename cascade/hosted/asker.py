"""Many questions to services at once: in the order asked, each paid for once, as fast as is allowed.

One event loop in a thread of its own serves all threads of the process. Each service has a queue, from which
requests go as its limiter and its places allow; what is refused for a while goes back to the queue's head.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import json
import math
import os
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from cascade.errors import BackendError
from cascade.hosted.answer_cache import Cache, Kept
from cascade.hosted.codecs import Codec, Unreadable
from cascade.hosted.rate_limits import FIRST, Limiter
from cascade.hosted.settings import Limits, ServiceError, Settings, connect, understood
from cascade.system.array_types import FloatArray

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_VERSION = 1
_ANSWER_SECONDS = 120.0
# Before the first repetition, and before a model that wakes up is asked once more; doubled each time.
_REPEAT_SECONDS = 0.5
_LOADING_SECONDS, _MOST_LOADING_SECONDS = 2.0, 15.0
# Before anything was answered: a token is about so many bytes of JSON.
_BYTES_PER_TOKEN = 4.0
_LEARNT = 0.05
_JITTER = 0.5
# A request to send at least this soon is sent now, as sleeps are no more exact.
_SOON_SECONDS = 0.001
_CLOSED = "the asker was closed while questions were being asked"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a service in trouble is waited for.

    Attributes
    ----------
    repeats
        How often a question is asked again whose connection was cut, or whose answer was broken.
    seconds
        For a model to wake up, or a service to allow anything at all again.
    """

    repeats: int = 6
    seconds: float = 600.0


IMPATIENT = Patience(repeats=3, seconds=15.0)
"""Where somebody waits for the answer."""


@dataclass(frozen=True)
class Question:
    """One text, to be asked of one model in the way of `codec`."""

    model: str
    settings: Settings
    codec: Codec
    text: str

    def body(self) -> bytes:
        """The request's body; equal questions have equal bodies."""
        body = {"model": self.model, **self.codec.request(self.text)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def key(self, body: bytes) -> bytes:
        """What the answer is kept under, for the question with this body."""
        address, endpoint = self.settings.address, self.codec.endpoint
        return hashlib.sha256(
            b"\0".join((b"%d" % _VERSION, address.encode(), endpoint.encode(), body))
        ).digest()


@dataclass(frozen=True, eq=False)
class Answered:
    """What came of a question.

    Attributes
    ----------
    scores
        float32, shape (n_children,), each in [0, 1]; None where there are none.
    why
        Why there are none; else empty.
    """

    scores: FloatArray | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What questions to one model came to.

    Attributes
    ----------
    requests
        Sent ones, `retries` included.
    prompt_tokens, cached_tokens, completion_tokens
        As the service counts them; cached ones are among those of prompts.
    retries
        Requests that were sent once more.
    unreadable
        Answers that the codec could not read, old ones included.
    from_cache
        Questions that were answered before, and cost nothing.
    batched
        Of `requests` those that went in a batch, at its price.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    unreadable: int = 0
    from_cache: int = 0
    batched: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Usage:
        """One request by the ``usage`` of its response."""
        details = told.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        counts = (told.get("prompt_tokens"), cached, told.get("completion_tokens"))
        return cls(0, *(count if isinstance(count, int) else 0 for count in counts))

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


class Patient(Protocol):
    """Another way of asking, for questions that can wait."""

    def takes(self, settings: Settings) -> bool:
        """Whether questions with these settings go this way."""
        ...

    def ask(self, questions: Sequence[Question], count: Callable[[str, Usage], None]) -> list[Answered]:
        """What came of each question, in their order; `count` gets a model and what was used of it."""
        ...


def read(question: Question, choice: Mapping[str, Any], count: Callable[[str, Usage], None]) -> Answered:
    """What the first choice of a response says; one that cannot be read is counted."""
    try:
        return Answered(question.codec.read(choice))
    except Unreadable as error:
        count(question.model, Usage(unreadable=1))
        return Answered(None, f"an answer that cannot be read: {error}")


@dataclass(frozen=True)
class _Means:
    """What a service works with."""

    log: Callable[[str], None] | None
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    chance: Callable[[], float]
    count: Callable[[str, Usage], None]
    keep: Callable[[bytes, Kept], None]
    patience: Patience


class Asker:
    """Asks services, for all threads of a process.

    Parameters
    ----------
    clients
        Makes the client of a service; it must repeat nothing by itself.
    cache
        Where answers are kept and looked up; `close` closes it.
    patient
        How questions are asked that can wait, and which these are; None where none can.
    patience
        How long services in trouble are waited for.
    log
        Gets every request and response with its texts, but no key. Nothing else shows texts.
    clock, sleep
        Seconds that never go back, and how to let some pass.
    chance
        Draws from [0, 1), for jitter.
    """

    def __init__(
        self,
        clients: Callable[[Settings], AsyncOpenAI] = connect,
        cache: Cache | None = None,
        *,
        patient: Patient | None = None,
        patience: Patience = Patience(),
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clients, self._cache, self._patient = clients, cache, patient
        self._means = _Means(log, clock, sleep, chance, self.count, self._keep, patience)
        self._services: dict[tuple[str, str], _Service] = {}
        self._usage: dict[str, Usage] = {}
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, questions: Sequence[Question]) -> list[Answered]:
        """What came of each question, in their order; any number of threads may ask at once.

        Raises
        ------
        ServiceError
            The service answers nothing at all: for want of money, rights or the model, or it is down.
            Questions that nobody else waits for are not asked any more.
        BackendError
            There is no client, see `connect`; or `close` was called.
        """
        if self._closed:
            raise BackendError(_CLOSED)
        waiting = [self.can_wait(question.settings) for question in questions]
        if self._patient is None or not any(waiting):
            return self._at_once(questions)
        now = self._at_once([one for one, waits in zip(questions, waiting, strict=True) if not waits])
        slow = [one for one, waits in zip(questions, waiting, strict=True) if waits]
        answers = (iter(now), iter(self._patient.ask(slow, self.count)))
        return [next(answers[waits]) for waits in waiting]

    def can_wait(self, settings: Settings) -> bool:
        """Whether questions with these settings go the way of those that can wait."""
        return self._patient is not None and self._patient.takes(settings)

    def _at_once(self, questions: Sequence[Question]) -> list[Answered]:
        asked = [_Asked.of(question) for question in questions]
        first = {one.key: one for one in asked}
        kept = self._cache.get(list(first)) if self._cache is not None else {}
        missing = [one for key, one in first.items() if key not in kept]
        found = {key: _Found(answer) for key, answer in kept.items()}
        if missing:
            found |= self._found(missing)
        self._count_kept(asked, kept)
        return [self._answered(one.question, found[one.key]) for one in asked]

    def usage(self) -> Mapping[str, Usage]:
        """What was used so far, by model."""
        with self._guard:
            return dict(self._usage)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop asking, write the cache; who still waits gets a BackendError. A second time does nothing."""
        with self._guard:
            self._closed, loop, self._loop = True, self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(self._stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
        if self._cache is not None:
            self._cache.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def count(self, model: str, usage: Usage) -> None:
        """Add to the totals of a model."""
        with self._guard:
            self._usage[model] = self._usage.get(model, Usage()) + usage

    # In the thread of who asks

    def _found(self, missing: Sequence[_Asked]) -> dict[bytes, _Found]:
        call = _Call(len(missing))
        loop = self._running()
        loop.call_soon_threadsafe(self._take, missing, call)
        try:
            return call.done.result()
        except BaseException:
            # Nobody is there any more, be it by Ctrl-C: what was not sent is not worth its price.
            call.is_over = True
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._closed:
                raise BackendError(_CLOSED)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="cascade-asking", daemon=True
                )
                self._thread.start()
            return self._loop

    def _count_kept(self, asked: Sequence[_Asked], kept: Mapping[bytes, Kept]) -> None:
        counts: dict[str, int] = {}
        for one in asked:
            if one.key in kept:
                counts[one.question.model] = counts.get(one.question.model, 0) + 1
        for model, count in counts.items():
            self.count(model, Usage(from_cache=count))

    def _answered(self, question: Question, found: _Found) -> Answered:
        if found.kept is None:
            return Answered(None, found.why)
        return read(question, found.kept.choice, self.count)

    # In the loop

    def _take(self, asked: Sequence[_Asked], call: _Call) -> None:
        try:
            for one in asked:
                self._service(one.question.settings).take(one, call)
        except Exception as error:  # to whoever asks, in another thread
            call.fail(error)

    def _service(self, settings: Settings) -> _Service:
        service = self._services.get(settings.service)
        if service is None:
            service = _Service(self._means, self._clients, settings)
            self._services[settings.service] = service
        service.obey(settings)
        return service

    async def _stop(self) -> None:
        for service in self._services.values():
            await service.close()

    def _keep(self, key: bytes, kept: Kept) -> None:
        if self._cache is not None:
            self._cache.put(key, kept)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it is sent."""

    question: Question
    body: bytes
    key: bytes

    @classmethod
    def of(cls, question: Question) -> _Asked:
        body = question.body()
        return cls(question, body, question.key(body))


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer, or why there is none."""

    kept: Kept | None
    why: str = ""


class _Call:
    """One call of `Asker.ask`, as the loop sees it: how much is missing, and who waits for it."""

    def __init__(self, missing: int) -> None:
        self.done: Future[dict[bytes, _Found]] = Future()
        self.is_over = False
        self._found: dict[bytes, _Found] = {}
        self._missing = missing

    def put(self, key: bytes, found: _Found) -> None:
        self._found[key] = found
        if len(self._found) == self._missing and not self.is_over:
            self.is_over = True
            self.done.set_result(self._found)

    def fail(self, error: Exception) -> None:
        if not self.is_over:
            self.is_over = True
            self.done.set_exception(error)


@dataclass(eq=False, slots=True)
class _Job:
    """A question on its way, with all calls that wait for its answer."""

    asked: _Asked
    calls: list[_Call]
    tries: int = 0
    begun: float = 0.0
    is_probe: bool = False

    @property
    def model(self) -> str:
        return self.asked.question.model

    @property
    def is_wanted(self) -> bool:
        return not all(call.is_over for call in self.calls)

    def end(self, found: _Found) -> None:
        for call in self.calls:
            call.put(self.asked.key, found)

    def fail(self, error: Exception) -> None:
        for call in self.calls:
            call.fail(error)


@dataclass(slots=True)
class _Sleeper:
    """A model that wakes up: one job asks it now and then, the others are set aside."""

    since: float
    asked: int = 0
    aside: list[_Job] = field(default_factory=list)


class _Service:
    """One service: its client, its limiter, what waits and what is on its way. Lives in the loop."""

    def __init__(self, means: _Means, clients: Callable[[Settings], AsyncOpenAI], settings: Settings) -> None:
        self._means, self._address = means, settings.address
        self._client = clients(settings)
        self._limiter = Limiter(settings.limits, means.chance)
        self._limits, self._places = settings.limits, settings.concurrency
        self._queue: deque[_Job] = deque()
        self._jobs: dict[bytes, _Job] = {}
        self._sleepers: dict[str, _Sleeper] = {}
        self._flights: set[asyncio.Task[None]] = set()
        self._resting: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._bytes_per_token = _BYTES_PER_TOKEN
        self._is_known = False
        self._answered_at, self._refused_since = -math.inf, math.inf
        self._sender = asyncio.get_running_loop().create_task(self._send_all())

    def obey(self, settings: Settings) -> None:
        """Groups may differ in what they allow at one service: the least counts."""
        self._places = min(self._places, settings.concurrency)
        rpm, tpm = (
            _least(self._limits.rpm, settings.limits.rpm),
            _least(self._limits.tpm, settings.limits.tpm),
        )
        if self._limits != Limits(rpm, tpm):
            self._limits = Limits(rpm, tpm)
            self._limiter.tell(self._means.clock(), self._limits)

    def take(self, asked: _Asked, call: _Call) -> None:
        """Ask this for a call, unless it is being asked already."""
        job = self._jobs.get(asked.key)
        if job is None:
            job = self._jobs[asked.key] = _Job(asked, [])
            self._queue.append(job)
            self._news.set()
        job.calls.append(call)

    async def close(self) -> None:
        """End all that runs here."""
        self._drop(self._jobs.values(), BackendError(_CLOSED))
        tasks = [self._sender, *self._flights, *self._resting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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

    async def _send(self, job: _Job) -> None:
        expected = self._expected(job)
        while (seconds := self._limiter.wait(self._means.clock(), expected)) > _SOON_SECONDS:
            await self._means.sleep(seconds)
        if not job.is_wanted:
            self._forget(job)
            return
        now = self._means.clock()
        self._limiter.spend(now, expected)
        job.begun = job.begun or now
        self._flights.add(asyncio.get_running_loop().create_task(self._fly(job, now, expected)))

    async def _next(self) -> _Job:
        """The next job that is still wanted, when there is a place for it."""
        while True:
            while self._queue and len(self._flights) < (self._places if self._is_known else FIRST):
                job = self._queue.popleft()
                if not job.is_wanted:
                    self._forget(job)
                elif (sleeper := self._sleepers.get(job.model)) and not job.is_probe:
                    sleeper.aside.append(job)
                else:
                    return job
            self._news.clear()
            await self._news.wait()

    def _expected(self, job: _Job) -> float:
        return len(job.asked.body) / self._bytes_per_token

    async def _fly(self, job: _Job, sent: float, expected: float) -> None:
        try:
            await self._try(job, sent, expected)
        except asyncio.CancelledError:
            raise
        except ServiceError as error:
            self._mend(job, error, sent)
        except Exception as error:  # a fault of ours must not leave anybody waiting
            self._drop([job], error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._flights.discard(task)
            self._news.set()

    async def _try(self, job: _Job, sent: float, expected: float) -> None:
        """One request; ServiceError where it fails."""
        self._means.count(job.model, Usage(requests=1, retries=int(job.tries > 0)))
        job.tries += 1
        response = await self._post(job)
        self._is_known = True
        kept = _kept(response.content)
        if kept is not None:
            self._succeed(job, kept, sent, expected)
        # After the tokens of this answer were counted, as the service has done.
        self._limiter.learn(self._means.clock(), response.headers)
        if kept is None:
            raise ServiceError(f"{self._address}: an answer without a choice", "broken", 200, "", None)

    async def _post(self, job: _Job) -> Any:
        """The response as it came: parsed into the package's classes it would take much longer."""
        import httpx2

        asked = job.asked
        path = asked.question.codec.endpoint.removeprefix("/v1")
        self._tell(f"POST {self._address}{path} ", asked.body)
        try:
            response = await self._client.post(
                path, cast_to=httpx2.Response, content=asked.body, options={"timeout": _ANSWER_SECONDS}
            )
        except Exception as error:
            told = getattr(error, "response", None)
            if told is not None:
                self._tell(f"{told.status_code} ", told.content)
                self._limiter.learn(self._means.clock(), told.headers)
            raise understood(error, self._address) from None
        self._tell("200 ", response.content)
        return response

    def _tell(self, head: str, content: bytes) -> None:
        if self._means.log is not None:
            self._means.log(head + content.decode("utf-8", "replace"))

    def _succeed(self, job: _Job, kept: Kept, sent: float, expected: float) -> None:
        used = Usage.of(kept.usage)
        self._means.count(job.model, used)
        total = used.prompt_tokens + used.completion_tokens
        if total:
            ratio = len(job.asked.body) / total
            self._bytes_per_token += _LEARNT * (ratio - self._bytes_per_token)
        self._limiter.answered(sent, expected, total or expected)
        self._answered_at, self._refused_since = self._means.clock(), math.inf
        self._means.keep(job.asked.key, kept)
        self._wake(job.model)
        self._forget(job)
        job.end(_Found(kept))

    # Trouble

    def _mend(self, job: _Job, error: ServiceError, sent: float) -> None:
        """Do what helps against a trouble."""
        self._is_known = self._is_known or error.trouble not in ("lost", "broken")
        if error.trouble in ("quota", "daily", "forbidden"):
            self._drop(self._jobs.values(), error)
        elif error.trouble == "missing":
            self._drop(self._of(job.model), error)
        elif error.trouble in ("limit", "overloaded"):
            self._pause(job, error, sent)
        elif error.trouble == "loading":
            self._set_aside(job, error)
        elif error.trouble in ("lost", "broken"):
            self._repeat(job, error)
        else:
            self._wake(job.model)
            self._forget(job)
            job.end(_Found(None, str(error)))

    def _pause(self, job: _Job, error: ServiceError, sent: float) -> None:
        now = self._means.clock()
        self._limiter.refused(error.trouble, now, sent, error.retry_after)
        self._refused_since = min(self._refused_since, now)
        if now - self._refused_since > self._means.patience.seconds:
            self._drop(self._jobs.values(), error)
        else:
            self._queue.appendleft(job)

    def _repeat(self, job: _Job, error: ServiceError) -> None:
        if job.tries <= self._means.patience.repeats:
            wait = _REPEAT_SECONDS * 2.0 ** (job.tries - 1)
            self._later(wait, job)
        elif self._answered_at < job.begun:
            # Nothing at all was answered in the meantime: the service is down.
            self._drop(self._jobs.values(), error)
        else:
            self._wake(job.model)
            self._forget(job)
            job.end(_Found(None, f"{error} (tried {job.tries} times)"))

    def _set_aside(self, job: _Job, error: ServiceError) -> None:
        now = self._means.clock()
        sleeper = self._sleepers.get(job.model)
        if sleeper is None:
            sleeper = self._sleepers[job.model] = _Sleeper(now)
            job.is_probe = True
        if not job.is_probe:
            sleeper.aside.append(job)
            return
        if now - sleeper.since > self._means.patience.seconds:
            self._drop(self._of(job.model), error)
            return
        wait = min(_LOADING_SECONDS * 2.0**sleeper.asked, _MOST_LOADING_SECONDS)
        sleeper.asked += 1
        self._later(max(wait, error.retry_after or 0.0), job)

    def _wake(self, model: str) -> None:
        """A model answers: those that were set aside are next."""
        sleeper = self._sleepers.pop(model, None)
        if sleeper is not None:
            self._queue.extendleft(reversed(sleeper.aside))
            self._news.set()

    def _of(self, model: str) -> list[_Job]:
        return [job for job in self._jobs.values() if job.model == model]

    def _later(self, seconds: float, job: _Job) -> None:
        jittered = seconds * (1 - _JITTER * self._means.chance())

        async def rest() -> None:
            await self._means.sleep(jittered)
            self._queue.appendleft(job)
            self._news.set()

        resting = asyncio.get_running_loop().create_task(rest())
        self._resting.add(resting)
        resting.add_done_callback(self._resting.discard)

    def _drop(self, jobs: Iterable[_Job], error: Exception) -> None:
        """Ask these no more; what is on its way still goes into the cache."""
        for job in list(jobs):
            self._forget(job)
            job.fail(error)

    def _forget(self, job: _Job) -> None:
        if self._jobs.get(job.asked.key) is job:
            del self._jobs[job.asked.key]
        if job.is_probe:
            self._wake(job.model)


def _kept(content: bytes) -> Kept | None:
    """The first choice of a response, and its usage; None where it is no response."""
    try:
        body = json.loads(content)
        choice, usage = body["choices"][0], body.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return Kept(choice, usage if isinstance(usage, dict) else {}) if isinstance(choice, dict) else None


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


# The asker of the process

_shared: dict[int, Asker] = {}
_shared_guard = threading.Lock()


def shared_asker(make: Callable[[], Asker] = Asker) -> Asker:
    """The one asker of this process, made by `make` when it is first wanted, and closed at its end."""
    with _shared_guard:
        # A forked child has its parent's asker, but not the thread of it.
        asker = _shared.get(os.getpid())
        if asker is None or asker.is_closed:
            asker = _shared[os.getpid()] = make()
        return asker


@atexit.register
def _close_shared() -> None:
    asker = _shared.get(os.getpid())
    if asker is not None:
        asker.close()
