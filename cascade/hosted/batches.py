"""Questions answered by the Batch API: at half the price, within a day, over any number of processes.

What is wanted from a service stands in the ledger before the service hears of it, so that a process that was
killed, or a call of which nobody knows whether it arrived, leads to no second batch. Answers go to the cache
as they are read from the file of results, which lies on the disk meanwhile and has a largest size.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.batch_files import BatchQuestion, parts_of, result_of
from cascade.hosted.batch_store import BatchRecord, BatchStore
from cascade.hosted.client import connect, download
from cascade.hosted.job_service import DEFAULT_POLLING, JobService, JobServices, Polling
from cascade.hosted.ledger import Ledger
from cascade.hosted.questions import Answer, Question, Usage, read_answer
from cascade.hosted.retry import heartbeat
from cascade.hosted.service_errors import DOUBTFUL, TRANSIENT, ServiceError
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

MOST_REQUESTS = 50_000
MOST_BYTES = 200 * 1000 * 1000
MOST_ROUNDS = 4
"""How often a question is sent at most: once, and three times more where it expired or the service failed."""
MARK = "cascade_batch"
"""The entry of a batch's metadata by which it is found again."""
MOST_ANSWER_BYTES = 256 * 1024
"""Of a line of a result file, on the average: 40 digits with their alternatives have some 40,000."""

POLL_SECONDS = 60.0
"""The longest time between two looks at a batch; the first looks come sooner."""
REPORT_SECONDS = 60.0
_FIRST_POLL_SECONDS, _POLL_GROWTH = 1.0, 1.5
_ENDED = ("completed", "failed", "expired", "cancelled")
_TRIES = 8
_TRIES_WHILE_RUNNING = 120  # of asking for a batch that runs: an hour of refusals
# Smaller batches that are refused for their tokens are counted as sent, so that it comes to an end.
_LEAST_REQUESTS = 50
_LONGEST_LINE = 32 * 2**20
_LINES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """Something that happened to a batch.

    Attributes
    ----------
    kind
        ``found`` is one that was created before; ``again`` that questions are sent once more; ``status`` is
        told again and again.
    batch
        The service's name for it; empty for ``again``.
    status
        As the service tells it.
    done, requests
        How many of its questions are through.
    """

    kind: Literal["created", "found", "status", "ended", "again"]
    batch: str
    status: str
    done: int
    requests: int


def _ignore(*_: Any) -> None:
    return None


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How questions are asked in batches.

    Attributes
    ----------
    clients
        Makes the client of a service; it must repeat nothing by itself.
    report
        Told of each event; a batch that runs is told of every `report_seconds`, too.
    poll_seconds
        Between two looks at a batch, at most.
    polling
        Pauses after troubles, and how long services in trouble are waited for.
    most_requests, most_bytes
        Of one batch.
    most_answer_bytes
        Of an answer on the average; a larger file of results is refused.
    """

    clients: Callable[[Settings], AsyncOpenAI] = connect
    report: Callable[[BatchEvent], None] = _ignore
    report_seconds: float = REPORT_SECONDS
    poll_seconds: float = POLL_SECONDS
    polling: Polling = DEFAULT_POLLING
    most_requests: int = MOST_REQUESTS
    most_bytes: int = MOST_BYTES
    most_answer_bytes: int = MOST_ANSWER_BYTES


DEFAULT_OPTIONS = BatchOptions()


def ask_in_batches(
    questions: Sequence[Question],
    ledger: Ledger,
    cache: AnswerCache,
    options: BatchOptions = DEFAULT_OPTIONS,
    count: Callable[[str, Usage], None] = _ignore,
) -> list[Answer]:
    """What came of each question, in their order; it takes up to a day, and goes on where it was stopped.

    Parameters
    ----------
    ledger
        Has the batches that are under way, of other runs, too: what they ask is not asked again.
    cache
        Has all answers so far.
    count
        Called with a model and what a question to it used, see `Asker.count`.

    Raises
    ------
    ServiceError
        The service refuses for good, for want of money or rights, or cannot be reached for long. Batches that
        it has go on there, and the same call finds them again.
    BackendError
        There is no client, answers cannot be kept, or somebody cancelled a batch.
    """
    asked = [BatchQuestion.of(question) for question in questions]
    with ledger.running() as owner:
        worker = _BatchWorker(
            BatchStore(ledger, owner), cache, options, {one.id: one for one in asked}, count
        )
        asyncio.run(worker.work())
    return [worker.answers.get(one.id) or Answer(None, worker.failures[one.id]) for one in asked]


class Batches:
    """Has questions asked in batches, for an `Asker`.

    Parameters
    ----------
    ledgers
        Opens the ledger.
    cache
        Has all answers so far.
    everything
        Whether all questions are, or only those whose settings say ``batch``.
    """

    def __init__(
        self,
        ledgers: Callable[[], Ledger],
        cache: AnswerCache,
        options: BatchOptions = DEFAULT_OPTIONS,
        *,
        everything: bool = False,
    ) -> None:
        self._ledgers, self._cache, self._options, self._everything = ledgers, cache, options, everything
        self._turn = threading.Lock()

    def takes(self, settings: Settings) -> bool:
        """Whether questions with these settings are asked in a batch."""
        return self._everything or settings.batch

    def ask(self, questions: Sequence[Question], count: Callable[[str, Usage], None]) -> list[Answer]:
        """What came of each, see `ask_in_batches`; threads wait for each other."""
        with self._turn, self._ledgers() as ledger:
            return ask_in_batches(questions, ledger, self._cache, self._options, count)


class _BatchWorker:
    """Has all questions answered, in rounds: what is left of one is sent with the next.

    Attributes
    ----------
    answers
        What came of questions so far, by id.
    failures
        Why there is no answer, and will be none, by id. They are not kept: another call asks again.
    """

    def __init__(
        self,
        store: BatchStore,
        cache: AnswerCache,
        options: BatchOptions,
        asked: Mapping[str, BatchQuestion],
        count: Callable[[str, Usage], None],
    ) -> None:
        self._store, self._cache, self._options, self._asked = store, cache, options, asked
        self._count = count
        self._services = JobServices(options.clients, options.polling)
        self._most_requests = self._next_most = options.most_requests
        # One at a time, as a file is large, and in memory until it has arrived.
        self._moving = asyncio.Lock()
        self._sent: Counter[str] = Counter()
        self._why: dict[str, str] = {}
        self._events: dict[str, BatchEvent] = {}
        self.answers: dict[str, Answer] = {}
        self.failures: dict[str, str] = {}

    async def work(self) -> None:
        try:
            async with heartbeat(self._repeat_events, self._options.report_seconds):
                while await self._round():
                    pass
        finally:
            await self._services.close()

    def _repeat_events(self) -> None:
        for event in self._events.values():
            self._options.report(event)

    async def _round(self) -> bool:
        """Have every batch that is wanted end; False when nothing is left to do."""
        self._most_requests = self._next_most
        self._look_up()
        await self._adopt()
        self._plan()
        mine = self._store.batches_of(self._left())
        if not mine:
            return False
        carried = [asyncio.ensure_future(self._carry(*one)) for one in mine]
        try:
            await asyncio.gather(*carried)
        finally:
            # The others go on at the service, and the next call finds them.
            for one in carried:
                one.cancel()
            await asyncio.gather(*carried, return_exceptions=True)
        return True

    def _left(self) -> set[str]:
        return self._asked.keys() - self.answers.keys() - self.failures.keys()

    def _look_up(self) -> None:
        """Take answers that are kept, which another run may have put there just now."""
        left = {bytes.fromhex(one): one for one in self._left()}
        for key, kept in self._cache.get(list(left)).items():
            self._read(left[key], kept.choice)

    def _read(self, name: str, choice: Mapping[str, Any]) -> None:
        self.answers[name] = read_answer(self._asked[name].question, choice, self._count)

    async def _adopt(self) -> None:
        """Look whether batches of runs that were killed came to be; those that did not are planned anew."""
        for record, mine in self._store.batches_of(self._left()):
            if record.batch is None and self._store.claim(record.key):
                found = await self._find(record, self._service(mine))
                if found is None:
                    self._store.end(record.key)
                else:
                    self._store.note_batch(record.key, found.id)
                    self._report("found", found, record)

    def _plan(self) -> None:
        """Intend batches for all questions that have no answer and are in no batch."""
        groups: dict[Any, list[BatchQuestion]] = {}
        with self._store.planning() as under_way:
            left = [self._asked[name] for name in self._asked if name in self._left() - under_way]
            again = sum(self._sent[one.id] > 0 for one in left)
            if again:
                self._options.report(BatchEvent("again", "", "", 0, again))
            for one in left:
                groups.setdefault(one.group, []).append(one)
            for group in groups.values():
                for part in parts_of(group, self._most_requests, self._options.most_bytes):
                    question = part[0].question
                    what = (question.settings.address, question.model, question.codec.endpoint)
                    self._store.intend([one.id for one in part], *what)

    def _service(self, ids: set[str]) -> JobService:
        """The service of questions in one batch."""
        return self._services.of(self._asked[next(iter(ids))].question.settings)

    async def _carry(self, record: BatchRecord, mine: set[str]) -> None:
        """From the intent to its answers."""
        service = self._service(mine)
        known = await self._created_elsewhere(record)
        if known is None:
            return
        self._sent.update(mine)
        async with self._moving:
            batch = known.batch or await self._created(record, service)
        ended = await self._ended(record, service, batch)
        async with self._moving:
            self._lasts(record, batch, "reading the answers")
            await self._collect(record, service, ended, mine)
        self._events.pop(record.key, None)

    async def _created_elsewhere(self, record: BatchRecord) -> BatchRecord | None:
        """The batch, once no other run is about to create it; None where it is over, or its run has ended."""
        known: BatchRecord | None = record
        looks = 0
        while known is not None and self._store.is_others(known):
            await self._options.polling.sleep(self._options.polling.pause(looks))
            known, looks = self._store.record(record.key), looks + 1
        if known is not None and known.batch is None and looks:
            return None
        return known

    # One batch

    async def _created(self, record: BatchRecord, service: JobService) -> str:
        self._lasts(record, "", "sending the questions")
        lines = b"".join(self._asked[name].line for name in sorted(self._store.members(record.key)))
        name = f"cascade-{record.key[:16]}.jsonl"

        def send() -> Awaitable[Any]:
            call = service.client.files.create(file=(name, lines), purpose="batch")
            return service.identified(call, is_upload=True)

        # A file that arrived without our knowing costs nothing, so that it may be sent again.
        uploaded = await service.insist(send, _TRIES)
        self._store.note_file(record.key, uploaded.id)
        batch = await self._create(record, service, uploaded.id)
        self._store.note_batch(record.key, batch.id)
        self._report("created", batch, record)
        return batch.id

    async def _create(self, record: BatchRecord, service: JobService, file: str) -> Batch:
        """Create a batch once; after any doubt look for it before another try."""
        for number in range(_TRIES):
            try:
                return await service.identified(
                    service.client.batches.create(
                        input_file_id=file,
                        endpoint=record.endpoint,  # type: ignore[arg-type]
                        completion_window="24h",
                        metadata={MARK: record.key},
                    )
                )
            except ServiceError as error:
                last = error
            # A fresh file may take some seconds until it is found.
            if last.trouble not in TRANSIENT and last.trouble != "missing":
                raise last
            await service.rest(last, number)
            found = await self._find(record, service, file) if last.trouble in DOUBTFUL else None
            if found is not None:
                return found
        raise last

    async def _find(self, record: BatchRecord, service: JobService, file: str | None = None) -> Batch | None:
        """The batch that was created for an intent; services without metadata still tell its file."""
        file = file or record.file
        listed = await service.insist(lambda: service.listed(service.client.batches.list), _TRIES)
        for batch in listed:
            is_of_file = file is not None and batch.input_file_id == file
            if (batch.metadata or {}).get(MARK) == record.key or is_of_file:
                return batch  # type: ignore[no-any-return]
        return None

    async def _ended(self, record: BatchRecord, service: JobService, name: str) -> Batch:
        pause = _FIRST_POLL_SECONDS
        while True:
            batch = await service.insist(
                lambda: service.identified(service.client.batches.retrieve(name)), _TRIES_WHILE_RUNNING
            )
            if str(batch.status).lower() in _ENDED:
                return batch
            self._report("status", batch, record)
            await self._options.polling.sleep(min(pause, self._options.poll_seconds))
            pause *= _POLL_GROWTH

    async def _collect(self, record: BatchRecord, service: JobService, batch: Batch, mine: set[str]) -> None:
        """Keep the answers of a batch, and hear of failures."""
        members = self._store.members(record.key) | mine  # another run may have collected it before
        found = 0
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                with tempfile.TemporaryFile() as content:
                    await service.insist(partial(self._download, service, file, record, content), _TRIES)
                    content.seek(0)
                    found += self._kept(content, members, record.model)
        self._store.end(record.key)
        self._report("ended", batch, record, found)
        if str(batch.status).lower() == "cancelled":
            raise BackendError(
                f"{record.service}: {batch.id} was cancelled there. Its answers so far are kept; "
                "ask again for the rest"
            )
        self._hear_errors(batch, mine - self.answers.keys())

    async def _download(
        self, service: JobService, file: str, record: BatchRecord, content: IO[bytes]
    ) -> None:
        content.seek(0)
        content.truncate()
        most = _LONGEST_LINE + record.requests * self._options.most_answer_bytes
        await service.ask(download(service.client, file, content, most), is_upload=True)

    def _kept(self, content: IO[bytes], members: set[str], model: str) -> int:
        """Keep the choices in a result file, a part at a time; how many there were."""
        lines = (
            self._heard(line, members, model) for line in iter(partial(content.readline, _LONGEST_LINE), b"")
        )
        answers = filter(None, lines)
        count = 0
        while part := list(islice(answers, _LINES_AT_ONCE)):
            self._cache.store({bytes.fromhex(name): answer for name, answer in part})
            for name, answer in part:
                if name in self._asked:
                    self._read(name, answer.choice)
            count += len(part)
        return count

    def _heard(self, line: bytes, members: set[str], model: str) -> tuple[str, CachedAnswer] | None:
        """What a line of a result file says: an answer, or why there is none."""
        name, choice, usage, failure = result_of(line)
        if name not in members:
            return None
        if choice is not None:
            self._count(model, Usage(requests=1, batched=1) + Usage.of(usage))
            return name, CachedAnswer(choice, usage)
        (self._why if failure.may_pass else self.failures)[name] = failure.why
        return None

    def _hear_errors(self, batch: Batch, left: set[str]) -> None:
        """Why questions are left, and which of them are given up."""
        told = (batch.errors.data if batch.errors is not None else None) or []
        codes = [str(one.code or "") for one in told]
        status = str(batch.status).lower()
        if status == "failed" and any("limit" in code for code in codes):
            self._shrink(left)
        for name in left - self.failures.keys():
            why = self._why.setdefault(name, f"the batch {status}" + (f": {codes[0]}" if codes else ""))
            if self._sent[name] >= MOST_ROUNDS:
                self.failures[name] = f"{why} (sent {self._sent[name]} times)"

    def _shrink(self, refused: set[str]) -> None:
        """A service refuses more tokens at once: the next round has smaller batches."""
        if self._most_requests > _LEAST_REQUESTS:
            self._sent.subtract(refused)
        self._next_most = max(self._most_requests // 2, 1)

    def _lasts(self, record: BatchRecord, batch: str, status: str, done: int = 0) -> None:
        """Report how a batch stands, now and every while."""
        self._events[record.key] = BatchEvent("status", batch, status, done, record.requests)
        self._options.report(self._events[record.key])

    def _report(self, kind: Any, batch: Batch, record: BatchRecord, done: int | None = None) -> None:
        counts = batch.request_counts
        through = (counts.completed + counts.failed) if done is None and counts is not None else done or 0
        if kind == "status":
            self._lasts(record, batch.id, str(batch.status), through)
        else:
            self._options.report(BatchEvent(kind, batch.id, str(batch.status), through, record.requests))
