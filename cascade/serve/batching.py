"""One walk for the texts of many requests.

Texts wait only while a walk is under way; what gathered meanwhile is the next batch. A walk of 64 texts
takes some ten times as long as that of one, so many small requests are answered several times as fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cascade.errors import BackendError
from cascade.predict.answers import Model, prediction_lines
from cascade.predict.extras import Style
from cascade.predict.form import Form
from cascade.serve.problems import overloaded

MOST_TEXTS = 256
MOST_CHARACTERS = 1 << 20
# Of a long request so many texts go with each batch, so that short ones need not wait for its end.
_MOST_OF_REQUEST = 64
# With evidence a text takes as long as many, where an encoder reads it once for each word.
_MOST_WITH_EVIDENCE = 8
# Services are waited for, which several walks can do at once.
_HOSTED_CONCURRENCY = 8

WalkCallback = Callable[[int, float], None]


@dataclass(eq=False, slots=True)
class _PendingRequest:
    """A request whose texts are not all answered; `lines` has those that are."""

    model: Model
    ids: Sequence[str | int]
    texts: Sequence[str]
    style: Style
    answer: asyncio.Future[list[bytes]]
    begun: int = 0
    lines: list[bytes] = field(default_factory=list)

    def can_share_batch(self, other: _PendingRequest) -> bool:
        return self.model is other.model and self.style == other.style

    def take(self, most: int, characters: int) -> _Slice:
        """The next texts: `most` at most, and fewer where they are long, but one."""
        start, taken = self.begun, 0
        while self.begun < min(start + most, len(self.texts)) and taken < characters:
            taken += len(self.texts[self.begun])
            self.begun += 1
        return _Slice(self, start, self.begun, taken)


@dataclass(frozen=True, slots=True)
class _Slice:
    """Consecutive texts of a request; positions from `start` to `end`."""

    of: _PendingRequest
    start: int
    end: int
    characters: int


class Batcher:
    """Answers requests in batches; all methods are called on the event loop.

    Parameters
    ----------
    most_waiting
        Texts that may be unanswered; see `ask`.
    hosted
        Whether the models are asked at a service: then several walks are under way at once.
    told
        Called after each walk with its number of texts and its seconds.
    """

    def __init__(
        self, most_waiting: int, *, hosted: bool = False, on_walk: WalkCallback = lambda *_: None
    ) -> None:
        self._most_waiting, self._on_walk = most_waiting, on_walk
        self._concurrency = _HOSTED_CONCURRENCY if hosted else 1
        self._queue: deque[_PendingRequest] = deque()
        self._working = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="walk")
        self.waiting = 0

    async def ask(
        self, model: Model, ids: Sequence[str | int], texts: Sequence[str], style: Style
    ) -> list[bytes]:
        """One prediction row for each text, as the bytes of a JSON object.

        All rows of a request come from `model`, whatever is loaded meanwhile.

        Raises
        ------
        HTTPProblem
            503 where too many texts wait already, or a service did not answer for a text.
        """
        if not texts:
            return []
        # A request that is larger than all that may wait is still answered when nothing else does.
        if self.waiting and self.waiting + len(texts) > self._most_waiting:
            raise overloaded("Too many texts are waiting.", f"at most {self._most_waiting} of all clients")
        waiting = _PendingRequest(model, ids, texts, style, asyncio.get_running_loop().create_future())
        self.waiting += len(texts)
        self._queue.append(waiting)
        self._start()
        try:
            return await waiting.answer
        finally:
            self.waiting -= len(texts)

    async def close(self) -> None:
        """Wait for the walks that are under way, and end their threads."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._threads.shutdown()

    def _start(self) -> None:
        if self._working < self._concurrency:
            self._working += 1
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """Answer batch after batch until nothing waits."""
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            # Here and not when the task is told to be done: who asks in between would wait for ever.
            self._working -= 1

    def _next(self) -> list[_Slice]:
        """Texts that wait and go together, the longest waiting first; a long request goes on at the end."""
        batch: list[_Slice] = []
        others: list[_PendingRequest] = []
        begun: list[_PendingRequest] = []
        texts, characters = MOST_TEXTS, MOST_CHARACTERS
        while self._queue and texts > 0 and characters > 0:
            one = self._queue.popleft()
            if one.answer.done():  # its client went away, or a piece of it failed
                continue
            if batch and not one.can_share_batch(batch[0].of):
                others.append(one)
                continue
            if not batch and one.style.evidence:
                texts = _MOST_WITH_EVIDENCE
            piece = one.take(min(texts, _MOST_OF_REQUEST), characters)
            batch.append(piece)
            texts -= piece.end - piece.start
            characters -= piece.characters
            if one.begun < len(one.texts):
                begun.append(one)
        self._queue.extendleft(reversed(others))
        self._queue.extend(begun)
        return batch

    async def _answer(self, batch: list[_Slice]) -> None:
        try:
            found = await self._walk(batch)
        except BackendError as error:  # the service answers nobody
            for piece in batch:
                _fail(piece.of, overloaded(f"A service did not answer: {error}", "an answer", seconds=5))
            return
        except Exception as error:
            if len(batch) > 1:  # the others must not pay for one of them
                for piece in batch:
                    await self._answer([piece])
            else:
                _fail(batch[0].of, error)
            return
        for piece, lines in zip(batch, found, strict=True):
            _deliver(piece.of, lines)

    async def _walk(self, batch: list[_Slice]) -> list[list[bytes]]:
        started = time.perf_counter()
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _predict_rows, batch)
        self._on_walk(sum(map(len, found)), time.perf_counter() - started)
        return found


def _predict_rows(batch: list[_Slice]) -> list[list[bytes]]:
    """The rows of each piece; runs in a thread."""
    first = batch[0].of
    ids = [one for piece in batch for one in piece.of.ids[piece.start : piece.end]]
    texts = [text for piece in batch for text in piece.of.texts[piece.start : piece.end]]
    failed: dict[int, str] = {}
    rows = prediction_lines(first.model, ids, texts, Form(None, first.style), failed.__setitem__)
    if failed:
        place, why = next(iter(failed.items()))
        raise overloaded(f"A service did not answer: {why}", f"an answer for row {ids[place]!r}", seconds=5)
    # A line break inside of a name is escaped, so there is one at the end of each row and nowhere else.
    lines = iter(rows.splitlines())
    return [[next(lines) for _ in range(piece.start, piece.end)] for piece in batch]


def _deliver(one: _PendingRequest, lines: list[bytes]) -> None:
    one.lines.extend(lines)
    if len(one.lines) == len(one.texts) and not one.answer.done():
        one.answer.set_result(one.lines)


def _fail(one: _PendingRequest, error: Exception) -> None:
    if not one.answer.done():
        one.answer.set_exception(error)
    with contextlib.suppress(asyncio.CancelledError):
        one.answer.exception()  # or asyncio complains of an error that nobody fetched
