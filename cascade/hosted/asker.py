"""Many questions to services at once: in the order asked, each paid for once, as fast as is allowed.

One event loop in a thread of its own serves all threads of the process. Each service has a queue, from which
requests go as its limiter and its places allow; what is refused for a while goes back to the queue's head.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.client import connect
from cascade.hosted.questions import (
    Answer,
    AskingProgress,
    BatchAsker,
    PendingQuestion,
    Question,
    Usage,
    read_answer,
)
from cascade.hosted.queued_requests import AskCall, FoundAnswer
from cascade.hosted.request_queue import CLOSED, AskingContext, RequestQueue
from cascade.hosted.retry import DEFAULT, RetryPolicy
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

REPORT_SECONDS = 60.0
PARTING_SECONDS = 8.0
"""What stops processes mostly gives them ten."""
_AT_ONCE = (
    "`batch: true` is for the commands: in Python questions are asked at once, at the full price. For "
    "batches use `cascade predict`, `cascade evaluate` or `cascade fit`"
)


class Asker:
    """Asks services, for all threads of a process.

    Parameters
    ----------
    clients
        Makes the client of a service; it must repeat nothing by itself.
    cache
        Where answers are kept and looked up; `close` closes it. Without one no service is told to `store`
        answers, as nobody would look for them.
    batches
        How questions are asked that can wait, and which these are; None where none can.
    retry_policy
        How long services in trouble are waited for.
    report
        Told how far each call is, every `report_seconds`, in the thread that waits.
    note
        Told once of each service that is to `store` answers and does not.
    log
        Gets every request and response with its texts, but no key. Nothing else shows texts.
    clock, sleep
        Seconds that never go back, and how to let some pass.
    chance
        Draws from [0, 1), for jitter.
    parting_seconds
        How long `close` waits for answers that are on their way: they are paid for, and kept.
    """

    def __init__(
        self,
        clients: Callable[[Settings], AsyncOpenAI] = connect,
        cache: AnswerCache | None = None,
        *,
        batches: BatchAsker | None = None,
        retry_policy: RetryPolicy = DEFAULT,
        report: Callable[[AskingProgress], None] = lambda _: None,
        report_seconds: float = REPORT_SECONDS,
        note: Callable[[str], None] = lambda _: None,
        log: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        parting_seconds: float = PARTING_SECONDS,
    ) -> None:
        self._clients, self._cache, self._batches = clients, cache, batches
        self._context = AskingContext(log, clock, sleep, chance, self.count, cache, note, retry_policy)
        self._report, self._report_seconds = report, report_seconds
        self._services: dict[tuple[str, str], RequestQueue] = {}
        self._usage: dict[str, Usage] = {}
        self._parting_seconds, self._parting = parting_seconds, threading.Lock()
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
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
            raise BackendError(CLOSED)
        if self._batches is None and any(question.settings.batch for question in questions):
            warnings.warn(_AT_ONCE, UserWarning, stacklevel=2)
        waiting = [self.can_wait(question.settings) for question in questions]
        if self._batches is None or not any(waiting):
            return self._at_once(questions)
        now = self._at_once([one for one, waits in zip(questions, waiting, strict=True) if not waits])
        slow = [one for one, waits in zip(questions, waiting, strict=True) if waits]
        answers = (iter(now), iter(self._batches.ask(slow, self.count)))
        return [next(answers[waits]) for waits in waiting]

    def can_wait(self, settings: Settings) -> bool:
        """Whether questions with these settings go the way of those that can wait."""
        return self._batches is not None and self._batches.takes(settings)

    def _at_once(self, questions: Sequence[Question]) -> list[Answer]:
        asked = [PendingQuestion.of(question) for question in questions]
        first = {one.key: one for one in asked}
        kept = self._cache.get(list(first)) if self._cache is not None else {}
        missing = [one for key, one in first.items() if key not in kept]
        found = {key: FoundAnswer(answer) for key, answer in kept.items()}
        if missing:
            found |= self._found(self._with_notes(missing))
        self._count_cached(asked, kept)
        return [self._answered(one.question, found[one.key]) for one in asked]

    def usage(self) -> Mapping[str, Usage]:
        """What was used so far, by model."""
        with self._guard:
            return dict(self._usage)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop asking, write the cache; who still waits gets a BackendError.

        Answers that are on their way are waited for. A second time it waits until the first has ended.
        """
        with self._guard:
            self._closed, loop, self._loop = True, self._loop, None
        with self._parting:
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

    def _with_notes(self, missing: Sequence[PendingQuestion]) -> list[PendingQuestion]:
        """The questions, and how long ago those were sent whose answers their service may have kept."""
        stored = [one.key for one in missing if one.question.settings.store]
        sent = self._cache.sent_seconds(stored) if stored and self._cache is not None else {}
        return [replace(one, sent_seconds=sent[one.key]) if one.key in sent else one for one in missing]

    def _found(self, missing: Sequence[PendingQuestion]) -> dict[bytes, FoundAnswer]:
        call = AskCall(len(missing))
        loop = self._running()
        loop.call_soon_threadsafe(self._take, missing, call)
        try:
            while not wait([call.done], self._report_seconds).done:
                self._report(call.progress)
            return call.done.result()
        except BaseException:
            # Nobody is there any more, be it by Ctrl-C: what was not sent is not worth its price.
            call.is_over = True
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._closed:
                raise BackendError(CLOSED)
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop,), name="cascade-asking", daemon=True
                )
                self._thread.start()
            return self._loop

    def _count_cached(self, asked: Sequence[PendingQuestion], kept: Mapping[bytes, CachedAnswer]) -> None:
        counts: dict[str, int] = {}
        for one in asked:
            if one.key in kept:
                counts[one.question.model] = counts.get(one.question.model, 0) + 1
        for model, count in counts.items():
            self.count(model, Usage(from_cache=count))

    def _answered(self, question: Question, found: FoundAnswer) -> Answer:
        if found.answer is None:
            return Answer(None, found.why)
        return read_answer(question, found.answer.choice, self.count)

    # In the loop

    def _take(self, asked: Sequence[PendingQuestion], call: AskCall) -> None:
        try:
            for one in asked:
                self._service(one.question.settings).take(one, call)
        except Exception as error:  # to whoever asks, in another thread
            call.fail(error)

    def _service(self, settings: Settings) -> RequestQueue:
        service = self._services.get(settings.service)
        if service is None:
            service = RequestQueue(self._context, self._clients, settings)
            self._services[settings.service] = service
        service.apply_limits(settings)
        return service

    async def _stop(self) -> None:
        closing = (service.close(self._parting_seconds) for service in self._services.values())
        await asyncio.gather(*closing)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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
def close_shared() -> None:
    """Close the one asker of this process, if there is one: who waits for answers gets a BackendError."""
    asker = _shared.get(os.getpid())
    if asker is not None:
        asker.close()
