"""Fine-tuning jobs that can be neither lost nor paid twice.

A job is created only after the ledger says that it may exist. Whatever goes wrong from there on, be it a cut
connection or a killed process, the service is asked for a job with the order's key before another is created.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import csv
import hashlib
import io
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cascade.errors import BackendError, CascadeError
from cascade.hosted.ledger import JobRecord, Ledger, State
from cascade.hosted.service_errors import TRANSIENT, ServiceError, service_error, without_secrets
from cascade.hosted.settings import LONGEST_SUFFIX, Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Clients = Callable[[Settings], "AsyncOpenAI"]
Kind = Literal["uploaded", "queued", "created", "found", "running", "waiting", "succeeded", "failed"]
T = TypeVar("T")

POLL_SECONDS = 2.0
_LONGEST_POLL_SECONDS = 30.0
_GROWTH = 1.5
_DAY_PAUSES = 450  # at 2 s a quarter of an hour: a limit of the day is not lifted sooner by asking
_LOOKS = 6  # a service may show a new job or file late; with growing pauses this is half a minute
_LOOKS_AT_FILE = 24  # ten minutes, after which the job may say what is wrong
_TRIES = 12  # of a call that the service does not answer: some minutes
_TRIES_WHILE_RUNNING = 240  # of asking for a job that runs: two hours without a network
_TRIES_TO_CREATE = 4  # each of them followed by a search for the job
_MOST_PAGES = 50
_CLOCKS_DIFFER_SECONDS = 3600.0
_MOST_UPLOADS = 8
_LARGEST_SEED = 2**31 - 1
_CLOSED = "training_not_available"
_KEY, _GROUP = "cascade_key", "cascade_group"
_PURPOSE: Literal["fine-tune"] = "fine-tune"
_BOM = b"\xef\xbb\xbf"

_DOUBTFUL = frozenset({"lost", "broken", "overloaded"})
"""Troubles after which nobody knows whether the service did what it was asked for."""
_DONE = {"succeeded", "success", "completed"}
_FAILED = {"failed", "error", "expired"}
_CANCELLED = {"cancelled", "canceled"}
_UNUSABLE, _READY = {"error", "failed", "deleted"}, {"", "processed", "succeeded", "completed"}
_QUEUED = {"validating_files", "queued", "pending", "created", "submitted"}


@dataclass(frozen=True)
class Order:
    """One fine-tune that is wanted.

    Attributes
    ----------
    group
        Name of the group, for people.
    key
        Content hash of examples and settings: equal keys are one job.
    settings
        The service and what it is asked for.
    training, validation
        JSONL; `validation` may be empty.
    suffix
        Part of the tuned model's name.
    seed
        Sent where it is within 0 to 2**31 - 1.
    cost_usd
        What the job is thought to cost; None where nobody knows a price.
    """

    group: str
    key: str
    settings: Settings
    training: bytes
    validation: bytes
    suffix: str
    seed: int
    cost_usd: float | None


@dataclass(frozen=True)
class TunedModel:
    """A tuned model.

    Attributes
    ----------
    model
        Its name at the service.
    job
        The job that made it.
    trained_tokens
        Tokens that were billed; None where the service does not say.
    result_csv
        The training curve: one mapping from column to value a row; empty where there is none.
    """

    model: str
    job: str
    trained_tokens: int | None
    result_csv: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Outcome:
    """What became of an order.

    Attributes
    ----------
    tuned
        None unless `state` is ``succeeded``.
    why, advice
        The reason where something went wrong, and a way out; no reason for what only takes more time.
    state
        As in the ledger; ``created`` for a job that is not waited for.
    job
        The service's name for the job; None where there is none.
    """

    group: str
    key: str
    tuned: TunedModel | None
    why: str = ""
    advice: str = ""
    state: State = "waiting"
    job: str | None = None


@dataclass(frozen=True)
class JobEvent:
    """Something happened to an order, or still happens.

    Attributes
    ----------
    age_seconds
        Since the job was created, or since the order came up where there is no job.
    estimated_end
        When the service thinks to be done, in seconds since 1970; None where it does not say.
    detail
        A name or a reason, for people.
    """

    group: str
    kind: Kind
    age_seconds: float
    estimated_end: float | None
    detail: str


async def fine_tune(
    orders: Sequence[Order],
    ledger: Ledger,
    clients: Clients,
    *,
    report: Callable[[JobEvent], None] = lambda _: None,
    wait: bool = True,
    poll_seconds: float = POLL_SECONDS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Outcome]:
    """The outcome of each order, in their order; what was made before is not made again.

    Parameters
    ----------
    clients
        Called once a service; the client is closed at the end.
    wait
        Whether to follow jobs to their end. If not, all that can be created are, and others looked at once.
    poll_seconds
        The first pause; later ones grow up to 30 s.

    Raises
    ------
    BackendError
        Another run has the ledger, or the ledger cannot be written.
    """
    unique = {order.key: order for order in orders}
    async with _running(ledger, clients, unique.values(), Polling(poll_seconds, sleep), report, wait) as run:
        nodes = [_Node(order, run) for order in unique.values()]
        done = await asyncio.gather(*(node.outcome() for node in nodes), return_exceptions=True)
    # A fault of ours in one node is raised when the others have come to their end.
    outcomes = {key: _unless_raised(one) for key, one in zip(unique, done, strict=True)}
    return [replace(outcomes[order.key], group=order.group) for order in orders]


def _unless_raised(outcome: Outcome | BaseException) -> Outcome:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def follow(
    ledger: Ledger,
    clients: Clients,
    *,
    report: Callable[[JobEvent], None] = lambda _: None,
    wait: bool = True,
    poll_seconds: float = POLL_SECONDS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> list[Outcome]:
    """How the jobs that were created have ended, or how they stand if not `wait`; nothing is ordered.

    Parameters are those of `fine_tune`; jobs whose end the ledger knows are left alone.

    Raises
    ------
    BackendError
        Another run has the ledger, and follows them.
    """
    orders = [_order_of(record) for record in ledger.orders() if record.state == "created" and record.job]
    async with _running(ledger, clients, orders, Polling(poll_seconds, sleep), report, wait) as run:
        done = await asyncio.gather(
            *(_Node(order, run).outcome() for order in orders), return_exceptions=True
        )
    return [_unless_raised(one) for one in done]


def _order_of(record: JobRecord) -> Order:
    """The order behind a record, without its examples: enough for all but to create it."""
    settings = Settings.of(record.settings)
    return Order(record.group, record.key, settings, b"", b"", record.suffix, 0, record.cost_usd)


async def cancel(
    ledger: Ledger, clients: Clients, keys: Iterable[str], *, poll_seconds: float = POLL_SECONDS
) -> list[Outcome]:
    """Cancel the jobs of orders; one that has ended already stays as it is.

    Raises
    ------
    BackendError
        A key is in no order.
    """
    records = [_known(ledger, key) for key in dict.fromkeys(keys)]
    services = _Services(clients)
    try:
        return [await _cancelled(record, ledger, services, Polling(poll_seconds)) for record in records]
    finally:
        await services.close()


def _known(ledger: Ledger, key: str) -> JobRecord:
    record = ledger.order(key)
    if record is None:
        raise BackendError(f"{ledger.path}: no order has the key {key!r}. `cascade jobs` lists them")
    return record


# Pauses


@dataclass(frozen=True)
class Polling:
    """How long to wait between two looks."""

    poll_seconds: float
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self, number: int) -> float:
        """Seconds before look `number`, counted from 0."""
        longest = max(self.poll_seconds, min(_LONGEST_POLL_SECONDS, 15 * self.poll_seconds))
        return float(min(longest, self.poll_seconds * _GROWTH ** min(number, 60)))

    def after(self, error: ServiceError, number: int) -> float:
        """Seconds before the same is asked again."""
        least = self.poll_seconds * _DAY_PAUSES if error.trouble == "daily" else self.pause(number)
        return max(least, error.retry_after or 0.0)


# Services


class JobEnded(Exception):  # noqa: N818 - an end, and no fault of the program
    """An order ends here."""

    def __init__(self, why: str, advice: str = "", state: State | None = "failed") -> None:
        super().__init__(why)
        self.why, self.advice, self.state = why, advice, state


class _Service:
    """One service: its client, the places for jobs, and whether anything can still be created."""

    def __init__(self, settings: Settings, client: AsyncOpenAI) -> None:
        # Nothing is sent twice but by us, who know what may be.
        self.client = client.with_options(max_retries=0)
        self.address = settings.address
        self.takes_metadata = True
        self.uploading = asyncio.Semaphore(_MOST_UPLOADS)
        self._files: dict[str, asyncio.Lock] = {}
        self._places = settings.traits.most_jobs
        self._change = asyncio.Condition()
        self._refusals: dict[str | None, ServiceError] = {}

    async def ask(self, call: Awaitable[T]) -> T:
        """What a call answers; ServiceError for all that the service may do wrong."""
        try:
            return await call
        except ValueError as error:
            raise ServiceError(
                f"{self.address}: an answer that is no JSON", "broken", 200, "", None
            ) from error
        except Exception as error:
            raise service_error(error, self.address) from error

    async def identified(self, call: Awaitable[T]) -> T:
        """As `ask`, for answers that have an id; anything else is no answer."""
        answer = await self.ask(call)
        if not isinstance(getattr(answer, "id", None), str) or not getattr(answer, "id", ""):
            raise ServiceError(f"{self.address}: an answer without an id", "broken", 200, "", None)
        return answer

    async def listed(
        self, pages: Callable[..., Awaitable[Any]], most_pages: int = _MOST_PAGES, **options: Any
    ) -> list[Any]:
        """What a call lists, page after page."""
        found: dict[str, Any] = {}
        after: dict[str, str] = {}
        for _ in range(most_pages):
            page = await self.ask(pages(limit=100, **after, **options))
            data = getattr(page, "data", None)
            if not isinstance(data, list):
                raise ServiceError(f"{self.address}: an answer that is no list", "broken", 200, "", None)
            # A service that does not know `after` sends the first page for ever.
            new = {one.id: one for one in data if getattr(one, "id", None) and one.id not in found}
            found |= new
            if not new or getattr(page, "has_more", None) is False:
                break
            after = {"after": data[-1].id}
        return list(found.values())

    def alone(self, digest: str) -> asyncio.Lock:
        """Only one node at a time sends a file."""
        return self._files.setdefault(digest, asyncio.Lock())

    def occupy(self) -> None:
        """A job runs already."""
        self._places -= 1

    def refusal(self, base_model: str) -> ServiceError | None:
        """Why nothing more can be created, or None."""
        return self._refusals.get(None) or self._refusals.get(base_model)

    async def refuse(self, error: ServiceError, base_model: str | None) -> None:
        """Create nothing more of a base model, or of any (None)."""
        self._refusals.setdefault(base_model, error)
        async with self._change:
            self._change.notify_all()

    @contextlib.asynccontextmanager
    async def place(self, base_model: str, is_late: Callable[[], None]) -> AsyncIterator[None]:
        """A place among the jobs that may run side by side; `is_late` is called where there is none yet."""
        async with self._change:
            if self._places <= 0:
                is_late()
            await self._change.wait_for(lambda: self._places > 0 or self.refusal(base_model) is not None)
            self._places -= 1
        async with self.freed():
            yield

    @contextlib.asynccontextmanager
    async def freed(self) -> AsyncIterator[None]:
        """Give a place back when the block ends."""
        try:
            yield
        finally:
            async with self._change:
                self._places += 1
                self._change.notify_all()


class _Services:
    """The services of a run, one client each."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._made: dict[tuple[str, str], _Service] = {}

    def of(self, settings: Settings) -> _Service:
        """The service of some settings."""
        if settings.service not in self._made:
            self._made[settings.service] = _Service(settings, self._clients(settings))
        return self._made[settings.service]

    async def close(self) -> None:
        """Close the clients."""
        for service in self._made.values():
            await service.client.close()


@dataclass(frozen=True)
class _Run:
    """What the nodes of one run share."""

    ledger: Ledger
    services: _Services
    pace: Polling
    report: Callable[[JobEvent], None]
    wait: bool


@contextlib.asynccontextmanager
async def _running(
    ledger: Ledger,
    clients: Clients,
    orders: Iterable[Order],
    pace: Polling,
    report: Callable[[JobEvent], None],
    wait: bool,
) -> AsyncIterator[_Run]:
    with ledger.running():
        run = _Run(ledger, _Services(clients), pace, report, wait)
        try:
            for order in orders:
                record = ledger.order(order.key)
                if record is not None and record.state == "created":
                    # A service that cannot be reached is the node's own failure, told where it comes up.
                    with contextlib.suppress(CascadeError):
                        run.services.of(order.settings).occupy()
            yield run
        finally:
            await run.services.close()


# One order


class _Node:
    """The way of one order from its examples to a tuned model."""

    def __init__(self, order: Order, run: _Run) -> None:
        self.order, self.run, self.ledger, self.pace = order, run, run.ledger, run.pace
        self._begun = time.time()
        self._created_at: float | None = None
        self._estimated_end: float | None = None

    @property
    def service(self) -> _Service:
        return self.run.services.of(self.order.settings)

    def tell(self, kind: Kind, detail: str = "") -> None:
        """Report a step."""
        age = max(0.0, time.time() - (self._created_at or self._begun))
        self.run.report(JobEvent(self.order.group, kind, age, self._estimated_end, detail))

    async def outcome(self) -> Outcome:
        """What becomes of the order; no error of a service comes out of here."""
        try:
            return await self._outcome()
        except JobEnded as end:
            return self._ended(end)
        except ServiceError as error:
            return self._ended(JobEnded(str(error), _advice_of(error), state=None))
        except CascadeError as error:
            return self._ended(JobEnded(str(error), state=None))

    def _ended(self, end: JobEnded) -> Outcome:
        """Note and report an end without a model; a state of None leaves the ledger's own."""
        if end.state is None:
            self.ledger.note(self.order.key, why=end.why, advice=end.advice)
        else:
            self._note_end(end.state, end)
        record = self.ledger.order(self.order.key)
        state: State = record.state if record is not None else end.state or "waiting"
        self.tell("waiting" if state == "waiting" and end.state is not None else "failed", end.why)
        job = record.job if record is not None else None
        why = "" if end.state == "waiting" else end.why
        return Outcome(self.order.group, self.order.key, None, why, end.advice, state, job)

    def _note_end(self, state: State, end: JobEnded) -> None:
        if self.ledger.order(self.order.key) is None:
            self.ledger.intend(self.order.key, **self._columns(None, None))
        self.ledger.ended(self.order.key, state, end.why, end.advice)

    async def _outcome(self) -> Outcome:
        record = self.ledger.order(self.order.key)
        if record is not None and record.state == "succeeded" and record.model and record.job:
            tuned = TunedModel(record.model, record.job, record.trained_tokens, record.result_csv)
            self.tell("found", record.model)
            return self._succeeded(tuned)
        if record is not None and record.state == "created" and record.job:
            self._created_at = record.created_at
            async with self.service.freed():
                return await self._followed(record.job)
        late = "all places for jobs are taken"
        async with self.service.place(self.order.settings.base_model, lambda: self.tell("queued", late)):
            job = await self._made(record)
            if self.run.wait:
                return await self._followed(job)
        return self._not_waited_for(job)

    def _succeeded(self, tuned: TunedModel) -> Outcome:
        return Outcome(self.order.group, self.order.key, tuned, state="succeeded", job=tuned.job)

    def _not_waited_for(self, job: str) -> Outcome:
        return Outcome(self.order.group, self.order.key, None, state="created", job=job)

    # Creating

    async def _made(self, record: JobRecord | None) -> str:
        """The job of the order: one that is there, or a new one."""
        if record is not None and record.state == "intended":
            found = await self._sought()
        else:
            self.stop_if_refused()
            found = await self._glimpsed()
        return found if found is not None else await self._created()

    async def _created(self) -> str:
        """A new job; where the service trains nothing for anybody here, no file is left there."""
        uploads = _Uploads(self)
        try:
            return await self._created_of(uploads)
        except JobEnded as end:
            refusal = self.service.refusal(self.order.settings.base_model)
            if refusal is not None and refusal.code == _CLOSED:
                self._note_end("failed", end)
                await uploads.removed()
            raise

    async def _created_of(self, uploads: _Uploads) -> str:
        """A new job; whatever the service answers, there is at most one when this ends."""
        doubts, denials = 0, 0
        while True:
            self.stop_if_refused()
            training, validation = await uploads.files()
            is_marked = self._is_marked
            self.ledger.intend(self.order.key, **self._columns(training, validation))
            try:
                job = self._noted(await self._create(training, validation, is_marked))
            except ServiceError as error:
                if error.trouble not in _DOUBTFUL:
                    await self._denied(error, denials, is_marked)
                    denials += 1
                    continue
                doubts += 1
                found = await self._sought(error)
                if found is not None:
                    return found
                if doubts == _TRIES_TO_CREATE:
                    raise self._unanswered(error) from error
            else:
                return await self._without_twin(job) if doubts else job

    async def _without_twin(self, job: str) -> str:
        """The job to keep: one that shows only now that a second one was created, which is then cancelled."""
        await self.pace.sleep(self.pace.pause(0))
        others: list[Any] = []
        with contextlib.suppress(ServiceError):  # the job that is known is good enough then
            others = [one for one in await self._candidates() if one.id != job and _rank(_status(one)) < 2]
        if not others:
            return job
        await self._call_off(job)
        self.ledger.give_up(self.order.key)
        return self._adopted(others) or job

    async def _call_off(self, job: str) -> None:
        """Cancel a job; it may have ended already."""
        jobs = self.service.client.fine_tuning.jobs
        try:
            await self.insist(lambda: self.service.identified(jobs.cancel(job)))
        except ServiceError as error:
            if error.trouble not in ("invalid", "missing"):
                raise

    def _unanswered(self, error: ServiceError) -> JobEnded:
        return JobEnded(f"no job came of {_TRIES_TO_CREATE} tries: {error}", "Run again later", state=None)

    def stop_if_refused(self) -> None:
        """End here where the service creates nothing more anyway."""
        refusal = self.service.refusal(self.order.settings.base_model)
        if refusal is not None:
            raise JobEnded(str(refusal), _advice_of(refusal))

    def _columns(self, training: str | None, validation: str | None) -> dict[str, Any]:
        settings = self.order.settings
        reach = {
            name: getattr(settings, name) for name in ("provider", "base_url", "api_key_env", "base_model")
        }
        return {
            "group": self.order.group,
            "service": settings.address,
            "settings": {name: value for name, value in reach.items() if value is not None},
            "base_model": settings.base_model,
            "suffix": _suffix(self.order),
            "cost_usd": self.order.cost_usd,
            "marked": self._is_marked,
            "training_file": training,
            "validation_file": validation,
        }

    @property
    def _is_marked(self) -> bool:
        try:
            return self.service.takes_metadata
        except CascadeError:
            return True

    async def _create(self, training: str, validation: str | None, is_marked: bool) -> str:
        body = _body(self.order, training, validation, is_marked)
        job = await self.service.identified(self.service.client.fine_tuning.jobs.create(**body))
        return str(job.id)

    def _noted(self, job: str, kind: Kind = "created", at: float | None = None) -> str:
        self._created_at = at or time.time()
        self.ledger.created(self.order.key, job, self._created_at)
        self.tell(kind, job)
        return job

    async def _denied(self, error: ServiceError, denials: int, is_marked: bool) -> None:
        """The service has surely made no job: wait, change the request, or end."""
        if is_marked and _names_metadata(error):
            self.service.takes_metadata = False
        elif error.trouble in ("limit", "daily", "loading") or _says_too_many(error):
            self.ledger.note(self.order.key, state="waiting", why=str(error))
            await self.wait_for_service(error, denials)
        elif _says_no_file(error) and denials < _LOOKS:
            await self.wait_for_service(error, denials)
        else:
            await self.stop_if_hopeless(error)
            raise JobEnded(str(error), _advice_of(error)) from error

    async def wait_for_service(self, error: ServiceError, number: int) -> None:
        """Pause as long as the service wants; JobEnded where the run does not wait."""
        patient = self.run.wait or not (
            error.trouble in ("limit", "daily", "loading") or _says_too_many(error)
        )
        if not patient:
            advice = "It is created by the next run, once others have ended"
            raise JobEnded(f"not created yet: {error}", advice, state="waiting")
        self.tell("waiting", str(error))
        await self.pace.sleep(self.pace.after(error, number))

    async def stop_if_hopeless(self, error: ServiceError) -> None:
        """Keep the other orders from asking for what nobody gets."""
        if error.trouble == "quota" or error.status == 401:
            await self.service.refuse(error, None)
        elif error.code == _CLOSED:
            await self.service.refuse(error, self.order.settings.base_model)

    # Finding what may have been created

    async def _glimpsed(self) -> str | None:
        """A job with the order's key that another ledger knows; one page, as there is hardly ever one."""
        if not self.service.takes_metadata:
            return None
        try:
            jobs = await self._jobs({_KEY: self.order.key}, most_pages=1)
        except ServiceError as error:
            await self.stop_if_hopeless(error)
            self.stop_if_refused()
            return None
        alive = [job for job in jobs if self._is_ours(job) and _status(job) not in _FAILED | _CANCELLED]
        return self._adopted(alive)

    async def _sought(self, error: ServiceError | None = None) -> str | None:
        """The job that may have been created, or None after several looks; services show new ones late."""
        self.tell("waiting", f"looking for a job that may exist{f': {error}' if error else ''}")
        for look in range(_LOOKS):
            found = self._adopted(await self._candidates())
            if found is not None:
                return found
            await self.pace.sleep(self.pace.pause(look))
        return self._adopted(await self._candidates())

    async def _candidates(self) -> list[Any]:
        try:
            found = await self.insist(lambda: self._jobs({_KEY: self.order.key}))
        except ServiceError as error:
            if error.trouble not in ("invalid", "missing"):
                raise
            found = []
        ours = [job for job in found if self._is_ours(job)]
        if ours:
            return ours
        # The service may ignore metadata, in jobs or in the filter.
        record = self.ledger.order(self.order.key)
        jobs = await self.insist(lambda: self._jobs({}))
        return [job for job in jobs if self._is_ours(job) or self._looks_like_ours(job, record)]

    async def _jobs(self, metadata: Mapping[str, str], most_pages: int = _MOST_PAGES) -> list[Any]:
        options: dict[str, Any] = {"metadata": metadata} if metadata else {}
        return await self.service.listed(self.service.client.fine_tuning.jobs.list, most_pages, **options)

    def _is_ours(self, job: Any) -> bool:
        metadata = getattr(job, "metadata", None)
        is_marked = isinstance(metadata, dict) and metadata.get(_KEY) == self.order.key
        return is_marked and self._is_free(job)

    def _is_free(self, job: Any) -> bool:
        return self.ledger.is_free(self.order.settings.address, str(job.id), self.order.key)

    def _looks_like_ours(self, job: Any, record: JobRecord | None) -> bool:
        """Whether a job without metadata was made of this order's files, under its name, since the intent."""
        if getattr(job, "metadata", None) or record is None or record.training_file is None:
            return False
        suffix = getattr(job, "suffix", None) or getattr(job, "user_provided_suffix", None)
        since = getattr(job, "created_at", None) or math.inf
        return (
            getattr(job, "training_file", None) == record.training_file
            and suffix in (None, record.suffix)
            and since >= record.intended_at - _CLOCKS_DIFFER_SECONDS
            and self._is_free(job)
        )

    def _adopted(self, jobs: list[Any]) -> str | None:
        """The best of the order's jobs, noted as its own: one that ended well, else the oldest that lives."""
        if not jobs:
            return None
        best = min(jobs, key=lambda job: (_rank(_status(job)), getattr(job, "created_at", None) or 0))
        record = self.ledger.order(self.order.key)
        if record is None or record.state != "intended":
            self.ledger.intend(self.order.key, **self._columns(None, None))
        return self._noted(str(best.id), "found", getattr(best, "created_at", None))

    async def insist(self, call: Callable[[], Awaitable[T]], tries: int = _TRIES) -> T:
        """What a call that may be repeated answers, once the service answers."""
        for number in range(tries - 1):
            try:
                return await call()
            except ServiceError as error:
                if error.trouble not in TRANSIENT | {"daily"}:
                    raise
                self.tell("waiting", str(error))
                await self.pace.sleep(max(self.pace.pause(number), error.retry_after or 0.0))
        return await call()

    # Following

    async def _followed(self, job: str) -> Outcome:
        """The end of a job, or how it stands where nobody waits."""
        looks = 0
        while True:
            found = await self._looked_at(job)
            status = _status(found)
            if status in _DONE and getattr(found, "fine_tuned_model", None):
                return await self._well_ended(found)
            if status in _FAILED | _CANCELLED:
                raise await self._badly_ended(found, status)
            if status in _DONE and looks >= _LOOKS:
                raise JobEnded(f"{job}: has ended well, but the service names no model", state=None)
            self._note_progress(found, status)
            if not self.run.wait:
                return self._not_waited_for(job)
            await self.pace.sleep(self.pace.pause(looks))
            looks += 1

    async def _looked_at(self, job: str) -> Any:
        """The job as it stands; a new one may be unknown for a while."""
        jobs = self.service.client.fine_tuning.jobs
        for look in range(_LOOKS):
            try:
                return await self._insisted_job(jobs, job)
            except ServiceError as error:
                if error.trouble != "missing":
                    raise
                self.tell("waiting", str(error))
            await self.pace.sleep(self.pace.pause(look))
        try:
            return await self._insisted_job(jobs, job)
        except ServiceError as error:
            if error.trouble != "missing":
                raise
            raise JobEnded(
                f"{job}: the service knows this job no longer", "The next run makes a new one"
            ) from error

    async def _insisted_job(self, jobs: Any, job: str) -> Any:
        return await self.insist(lambda: self.service.identified(jobs.retrieve(job)), _TRIES_WHILE_RUNNING)

    def _note_progress(self, job: Any, status: str) -> None:
        end = getattr(job, "estimated_finish", None)
        end = float(end) if isinstance(end, int | float) and end > 0 else None
        if end != self._estimated_end:
            self._estimated_end = end
            self.ledger.note(self.order.key, estimated_end=end)
        self.tell("queued" if status in _QUEUED else "running", f"{job.id}: {status or 'no status'}")

    async def _well_ended(self, job: Any) -> Outcome:
        tokens = getattr(job, "trained_tokens", None)
        tuned = TunedModel(
            str(job.fine_tuned_model),
            str(job.id),
            int(tokens) if isinstance(tokens, int | float) else None,
            tuple(await self._curve(job)),
        )
        self.ledger.succeeded(self.order.key, tuned.model, tuned.trained_tokens, tuned.result_csv)
        self._estimated_end = None
        self.tell("succeeded", tuned.model)
        return self._succeeded(tuned)

    async def _curve(self, job: Any) -> list[dict[str, float]]:
        """The training curve; none where the service does not give it, which is no reason to fail."""
        for file in getattr(job, "result_files", None) or []:
            with contextlib.suppress(ServiceError):
                rows = curve_of(await self.insist(partial(self._content, str(file)), tries=3))
                if rows:
                    return rows
        return []

    async def _content(self, file: str) -> bytes:
        answer = await self.service.ask(self.service.client.files.content(file))
        return bytes(getattr(answer, "content", b""))

    async def _badly_ended(self, job: Any, status: str) -> JobEnded:
        if status in _CANCELLED:
            return JobEnded(f"{job.id}: was cancelled", "The next run makes a new job", state="cancelled")
        error = getattr(job, "error", None)
        code, said = str(getattr(error, "code", None) or ""), str(getattr(error, "message", None) or "")
        checks = await self._checks(str(job.id))
        reasons = [": ".join(filter(None, (code, without_secrets(said)))), *checks]
        why = "; ".join(filter(None, reasons)) or "the service gives no reason"
        return JobEnded(f"{job.id}: {why}", _advice_of_job(code, said, bool(checks)))

    async def _checks(self, job: str) -> list[str]:
        """What the last events of a job say of safety checks."""
        try:
            events = await self.insist(
                lambda: self.service.listed(
                    self.service.client.fine_tuning.jobs.list_events, 1, fine_tuning_job_id=job
                ),
                tries=3,
            )
        except ServiceError:
            return []
        checks = [event for event in events if getattr(event, "type", None) == "moderation_checks"]
        return list(
            dict.fromkeys(without_secrets(str(getattr(event, "message", None) or "")) for event in checks)
        )[:3]


# Files


class _Uploads:
    """The files of one order, sent once each."""

    def __init__(self, node: _Node) -> None:
        self._node, self._order, self._ledger = node, node.order, node.ledger
        self._sent: list[str] = []

    @property
    def _service(self) -> _Service:
        return self._node.service

    async def files(self) -> tuple[str, str | None]:
        """Names of the training file and the validation file, None for none of it."""
        training = await self._file(self._order.training)
        validation = await self._file(self._order.validation) if self._order.validation else None
        return training, validation

    async def removed(self) -> None:
        """Delete at the service what was sent for this order alone."""
        address = self._order.settings.address
        for file in self._sent:
            if not self._ledger.users_of(address, file):
                with contextlib.suppress(ServiceError):
                    await self._node.insist(partial(self._deleted, file), tries=3)
                self._ledger.forget_file(address, file)

    async def _deleted(self, file: str) -> Any:
        return await self._service.ask(self._service.client.files.delete(file))

    async def _file(self, content: bytes) -> str:
        content = (_BOM if self._order.settings.traits.bom else b"") + content
        digest = hashlib.sha256(content).hexdigest()
        async with self._service.alone(digest), self._service.uploading:
            file = await self._there(digest) or await self._uploaded(digest, content)
            if file not in self._sent:
                self._sent.append(file)
            await self._processed(file)
        return file

    async def _there(self, digest: str) -> str | None:
        """The file that the ledger knows, if the service has it still."""
        record = self._ledger.file(self._order.settings.address, _PURPOSE, digest)
        if record is None:
            return None
        if record.file is None:
            return await self._found(digest, looks=2)
        try:
            found = await self._node.insist(lambda: self._retrieved(str(record.file)))
        except ServiceError as error:
            if error.trouble != "missing":
                raise
            found = None
        if found is None or _status(found) in _UNUSABLE:
            self._ledger.forget_file(self._order.settings.address, record.file)
            return None
        return record.file

    async def _retrieved(self, file: str) -> Any:
        return await self._service.identified(self._service.client.files.retrieve(file))

    async def _uploaded(self, digest: str, content: bytes) -> str:
        doubts, denials = 0, 0
        while doubts < _TRIES:
            self._node.stop_if_refused()
            self._ledger.note_file(self._order.settings.address, _PURPOSE, digest, None)
            try:
                return self._noted(digest, await self._sent_file(digest, content))
            except ServiceError as error:
                last = error
            if last.trouble not in TRANSIENT | {"daily"}:
                await self._node.stop_if_hopeless(last)
                raise JobEnded(f"a file could not be sent: {last}", _advice_of(last))
            await self._node.wait_for_service(last, doubts + denials)
            if last.trouble not in _DOUBTFUL:
                denials += 1
                continue
            doubts += 1
            found = await self._found(digest, looks=2)
            if found is not None:
                return found
        raise JobEnded(f"a file could not be sent in {_TRIES} tries: {last}", "Run again later")

    async def _sent_file(self, digest: str, content: bytes) -> str:
        part = (_file_name(digest), content, "application/jsonl")
        sent = await self._service.identified(self._service.client.files.create(file=part, purpose=_PURPOSE))
        return str(sent.id)

    def _noted(self, digest: str, file: str) -> str:
        self._ledger.note_file(self._order.settings.address, _PURPOSE, digest, file)
        self._node.tell("uploaded", file)
        return file

    async def _found(self, digest: str, looks: int) -> str | None:
        """A file that may have arrived, by its name; to send one twice costs nothing but time."""
        for look in range(looks):
            if look:
                await self._node.pace.sleep(self._node.pace.pause(look))
            with contextlib.suppress(ServiceError):
                files = await self._node.insist(
                    lambda: self._service.listed(self._service.client.files.list, purpose=_PURPOSE), tries=3
                )
                same = [one for one in files if getattr(one, "filename", None) == _file_name(digest)]
                sound = [one for one in same if _status(one) not in _UNUSABLE]
                if sound:
                    return self._noted(digest, str(sound[0].id))
        return None

    async def _processed(self, file: str) -> None:
        """Wait until the service has read a file; one that says nothing of it is not waited for."""
        for look in range(_LOOKS_AT_FILE):
            try:
                found = await self._node.insist(lambda: self._retrieved(file))
            except ServiceError as error:
                if self._is_silent and error.trouble in ("missing", "invalid"):
                    return
                if error.trouble != "missing" or look >= _LOOKS:
                    raise
                self._node.stop_if_refused()  # others may have deleted it because of that
                found = None
            if found is not None and self._is_ready(found, file):
                return
            await self._node.pace.sleep(self._node.pace.pause(look))

    def _is_ready(self, found: Any, file: str) -> bool:
        status = _status(found)
        if status in _UNUSABLE:
            self._ledger.forget_file(self._order.settings.address, file)
            details = without_secrets(str(getattr(found, "status_details", None) or "no reason given"))
            advice = "Look at the lines that `cascade export` writes for this group"
            raise JobEnded(f"{file}: the service cannot use the file: {details}", advice)
        return status in _READY or self._is_silent

    @property
    def _is_silent(self) -> bool:
        return self._order.settings.traits.silent_files


def _file_name(digest: str) -> str:
    return f"cascade-{digest[:16]}.jsonl"


# Cancelling


async def _cancelled(record: JobRecord, ledger: Ledger, services: _Services, pace: Polling) -> Outcome:
    node = _Node(_order_of(record), _Run(ledger, services, pace, lambda _: None, wait=False))
    try:
        await _cancel(node, record)
    except JobEnded as end:
        return node._ended(end)
    except CascadeError as error:
        return _as_it_stands(_known(ledger, record.key), str(error))
    return _as_it_stands(_known(ledger, record.key))


def _as_it_stands(record: JobRecord, why: str = "") -> Outcome:
    tuned = None
    if record.state == "succeeded" and record.model and record.job:
        tuned = TunedModel(record.model, record.job, record.trained_tokens, record.result_csv)
    return Outcome(
        record.group, record.key, tuned, why or record.why, record.advice, record.state, record.job
    )


async def _cancel(node: _Node, record: JobRecord) -> None:
    job = record.job
    if record.state in ("waiting", "intended"):
        with node.ledger.running():  # nobody else is about to create it
            job = await node._sought() if record.state == "intended" else None
            if job is None:
                raise JobEnded("was cancelled before there was a job", state="cancelled")
    elif record.state != "created":
        return
    await node._call_off(str(job))
    await node._followed(str(job))


# What is sent and what comes back


def _suffix(order: Order) -> str:
    suffix = order.suffix if order.settings.traits.dots_in_suffix else order.suffix.replace(".", "-")
    return suffix[:LONGEST_SUFFIX]


def _body(order: Order, training: str, validation: str | None, is_marked: bool) -> dict[str, Any]:
    """The arguments of ``jobs.create``."""
    settings = order.settings
    hyperparameters = dict(settings.hyperparameters)
    body: dict[str, Any] = {"model": settings.base_model, "training_file": training}
    if validation is not None:
        body["validation_file"] = validation
    if _suffix(order):
        body["suffix"] = _suffix(order)
    if 0 <= order.seed <= _LARGEST_SEED:
        body["seed"] = order.seed
    if is_marked:
        body["metadata"] = {_KEY: order.key, _GROUP: order.group[:512] or "root"}
    if not settings.traits.flat_hyperparameters:
        body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    elif hyperparameters:
        body["hyperparameters"] = hyperparameters
    if settings.traits.job_body:
        body["extra_body"] = dict(settings.traits.job_body)
    return body


def _status(found: Any) -> str:
    return str(getattr(found, "status", None) or "").strip().lower()


def _rank(status: str) -> int:
    if status in _DONE:
        return 0
    return 2 if status in _FAILED | _CANCELLED else 1


def curve_of(content: bytes) -> list[dict[str, float]]:
    """The rows of a result file, CSV or CSV in base64, without cells that hold no number; else nothing."""
    for text in _readings(content):
        with contextlib.suppress(csv.Error):
            reader = csv.DictReader(io.StringIO(text))
            if "step" in (reader.fieldnames or ()):
                return [_numbers(row) for row in reader]
    return []


def _readings(content: bytes) -> Iterator[str]:
    yield content.decode("utf-8-sig", errors="replace")
    with contextlib.suppress(binascii.Error, ValueError):
        yield base64.b64decode(b"".join(content.split()), validate=True).decode("utf-8-sig", errors="replace")


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in row.items():
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)
            if name and math.isfinite(number):
                found[name] = number
    return found


# What errors mean here


def _names_metadata(error: ServiceError) -> bool:
    return error.trouble == "invalid" and "metadata" in str(error).lower()


def _says_too_many(error: ServiceError) -> bool:
    """Some services tell of too many jobs at once with a status other than 429."""
    said = f"{error.code} {error}".lower()
    words = ("too many", "simultaneous", "concurrent", "at the same time")
    speaks_of_jobs = any(word in said for word in ("job", "run", "training"))
    return error.trouble == "invalid" and speaks_of_jobs and any(word in said for word in words)


def _says_no_file(error: ServiceError) -> bool:
    """A file that was sent just now may be unknown for some seconds."""
    said = f"{error.code} {error}".lower()
    words = (
        "not found",
        "not exist",
        "no such",
        "not ready",
        "not been processed",
        "not processed",
        "not_found",
    )
    return error.trouble in ("invalid", "missing") and "file" in said and any(word in said for word in words)


def _advice_of(error: ServiceError) -> str:
    if error.code == _CLOSED:
        return (
            "Name another service by `base_url`, use the embedded model (`backend: linear`), or train the "
            "files of `cascade export` elsewhere"
        )
    return {
        "quota": "Look at the account's balance and limits, then run again: what was made is kept",
        "forbidden": "Check the key and what it may do",
        "invalid": "Change what the message names in the group's options",
        "missing": "Check base_model and base_url",
    }.get(error.trouble, "Run again later: what was made is kept")


def _advice_of_job(code: str, said: str, is_unsafe: bool) -> str:
    words = f"{code} {said}".lower()
    if is_unsafe or "moderation" in words or "unsafe" in words or "safety" in words:
        return (
            "The service's safety checks refuse these texts. Look at the group's rows, or use the embedded "
            "model (`backend: linear`)"
        )
    if "quota" in words or "billing" in words:
        return "Look at the account's balance and limits, then run again"
    if "file" in words or "example" in words:
        return "Look at the lines that `cascade export` writes for this group"
    return "Run again for a new job, or look at this one in the service's console"
