"""Questions answered by the Batch API: at half the price, within a day, over any number of processes.

What is wanted from a service stands in ``batches.sqlite`` before the service hears of it, so that a process
that was killed, or a call of which nobody knows whether it arrived, leads to no second batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from cascade.errors import BackendError
from cascade.hosted.client import connect
from cascade.hosted.questions import Answer, Question, Usage, read_answer
from cascade.hosted.service_errors import TRANSIENT, ServiceError, service_error
from cascade.hosted.settings import Settings
from cascade.system.locks import locked

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

STATE = "batches.sqlite"
MOST_REQUESTS = 50_000
MOST_BYTES = 200 * 1000 * 1000
MOST_ROUNDS = 4
"""How often a question is sent at most: once, and three times more where it expired or the service failed."""
MARK = "cascade_batch"
"""The entry of a batch's metadata by which it is found again."""

POLL_SECONDS = 60.0
"""The longest time between two looks at a batch; the first looks come sooner."""
_FIRST_POLL_SECONDS, _POLL_GROWTH = 1.0, 1.5
_ENDED = ("completed", "failed", "expired", "cancelled")
_TRIES = 8
# Of asking for a batch that runs: two hours without a network.
_TRIES_WHILE_RUNNING = 120
# Smaller batches that are refused for their tokens are counted as sent, so that it comes to an end.
_LEAST_REQUESTS = 50
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_PRIVATE = 0o600
_TABLES = """
CREATE TABLE IF NOT EXISTS batches (
    key TEXT PRIMARY KEY, address TEXT NOT NULL, model TEXT NOT NULL, endpoint TEXT NOT NULL,
    file TEXT, batch TEXT, state TEXT NOT NULL, requests INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (
    id TEXT NOT NULL, batch TEXT NOT NULL, PRIMARY KEY (id, batch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (id TEXT PRIMARY KEY, choice TEXT NOT NULL) WITHOUT ROWID;
"""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """Something that happened to a batch.

    Attributes
    ----------
    kind
        ``found`` is one that was created before; ``again`` that questions are sent once more.
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


def ask_in_batches(
    questions: Sequence[Question],
    folder: Path,
    clients: Callable[[Settings], AsyncOpenAI] = connect,
    *,
    report: Callable[[BatchEvent], None] = _ignore,
    count: Callable[[str, Usage], None] = _ignore,
    poll_seconds: float = POLL_SECONDS,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> list[Answer]:
    """What came of each question, in their order; it takes up to a day, and goes on where it was stopped.

    Parameters
    ----------
    folder
        Holds `STATE`, with all answers so far: who asks the same there again pays nothing.
    clients
        Makes the client of a service; it must repeat nothing by itself.
    report
        Called for each step.
    count
        Called with a model and what a question to it used, see `Asker.count`.
    poll_seconds
        Between two looks at a batch, at most.
    most_requests, most_bytes
        Of one batch.

    Raises
    ------
    ServiceError
        The service refuses for good, for want of money or rights, or cannot be reached for long. Batches that
        it has go on there, and the same call finds them again.
    BackendError
        Another process is asking by the same folder, there is no client, or somebody cancelled a batch.
    """
    asked = [_Asked.of(question) for question in questions]
    by_id = {one.id: one for one in asked}
    with BatchStore.opened(folder) as state:
        clerk = _BatchWorker(
            state, clients, by_id, _Options(report, count, poll_seconds, sleep, most_requests, most_bytes)
        )
        asyncio.run(clerk.work())
        found = state.answers(by_id)
    return [
        read_answer(one.question, found[one.id], count)
        if one.id in found
        else Answer(None, clerk.failures[one.id])
        for one in asked
    ]


class Batches:
    """Has questions asked in batches, for an `Asker`.

    Parameters
    ----------
    folder
        Holds `STATE`.
    everything
        Whether all questions are, or only those whose settings say ``batch``.
    clients, report, poll_seconds
        As for `ask_in_batches`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        everything: bool = False,
        clients: Callable[[Settings], AsyncOpenAI] = connect,
        report: Callable[[BatchEvent], None] = _ignore,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._folder, self._everything = folder, everything
        self._clients, self._report, self._poll_seconds = clients, report, poll_seconds
        self._turn = threading.Lock()

    def takes(self, settings: Settings) -> bool:
        """Whether questions with these settings are asked in a batch."""
        return self._everything or settings.batch

    def ask(self, questions: Sequence[Question], count: Callable[[str, Usage], None]) -> list[Answer]:
        """What came of each, see `ask_in_batches`; threads wait for each other."""
        with self._turn:
            return ask_in_batches(
                questions,
                self._folder,
                self._clients,
                report=self._report,
                count=count,
                poll_seconds=self._poll_seconds,
            )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as it stands in a file."""

    question: Question
    id: str
    line: bytes

    @classmethod
    def of(cls, question: Question) -> _Asked:
        body = question.body()
        name, endpoint = question.key(body).hex(), question.codec.endpoint
        head = json.dumps({"custom_id": name, "method": "POST", "url": endpoint})
        return cls(question, name, head[:-1].encode() + b', "body": ' + body + b"}\n")

    @property
    def pile(self) -> tuple[tuple[str, str], str, str]:
        """Questions that may be in one batch have the same one."""
        return self.question.settings.service, self.question.model, self.question.codec.endpoint


@dataclass(frozen=True, slots=True)
class _Options:
    """How the work is done; see `ask_in_batches`."""

    report: Callable[[BatchEvent], None]
    count: Callable[[str, Usage], None]
    poll_seconds: float
    sleep: Callable[[float], Awaitable[None]]
    most_requests: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch as the state knows it."""

    key: str
    address: str
    model: str
    endpoint: str
    file: str | None
    batch: str | None
    state: Literal["intended", "open", "ended"]
    requests: int


# The state


class BatchStore:
    """What is known of batches and answers, in a file that this process alone is using."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator[BatchStore]:
        """The state in a folder, which is made; BackendError where it is in use or damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / STATE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, _PRIVATE))
        with _alone(folder), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as file:
            try:
                file.execute("PRAGMA journal_mode = WAL")
                # An intent that a failing machine forgets is a batch that is paid for twice.
                file.execute("PRAGMA synchronous = FULL")
                file.executescript(_TABLES)
            except sqlite3.DatabaseError as error:
                raise BackendError(
                    f"{path}: cannot be used: {error}. Cancel the batches that are still open at the "
                    "service, then delete the file"
                ) from error
            yield cls(file)

    def open_batches(self) -> list[BatchRecord]:
        rows = self._file.execute("SELECT * FROM batches WHERE state != 'ended' ORDER BY rowid")
        return [BatchRecord(*row) for row in rows]

    def members(self, key: str) -> list[str]:
        return [one for (one,) in self._file.execute("SELECT id FROM requests WHERE batch = ?", (key,))]

    def rounds(self, ids: Iterable[str]) -> dict[str, int]:
        """How often each was sent, or is about to be."""
        statement = "SELECT count(*) FROM requests WHERE id = ?"
        return {one: self._file.execute(statement, (one,)).fetchone()[0] for one in ids}

    def answers(self, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The choices of those that were answered."""
        statement = "SELECT choice FROM answers WHERE id = ?"
        rows = ((one, self._file.execute(statement, (one,)).fetchone()) for one in ids)
        return {one: json.loads(row[0]) for one, row in rows if row}

    def intend(self, noted: BatchRecord, members: Sequence[str]) -> None:
        with self._at_once() as file:
            values = (
                noted.key,
                noted.address,
                noted.model,
                noted.endpoint,
                None,
                None,
                "intended",
                len(members),
            )
            file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            file.executemany("INSERT INTO requests VALUES (?, ?)", [(one, noted.key) for one in members])

    def forget(self, key: str) -> None:
        """A batch that was intended never came to be."""
        with self._at_once() as file:
            file.execute("DELETE FROM requests WHERE batch = ?", (key,))
            file.execute("DELETE FROM batches WHERE key = ?", (key,))

    def note_file(self, key: str, name: str) -> None:
        self._file.execute("UPDATE batches SET file = ? WHERE key = ?", (name, key))

    def note_batch(self, key: str, name: str) -> None:
        self._file.execute("UPDATE batches SET batch = ?, state = 'open' WHERE key = ?", (name, key))

    def end(self, key: str, answers: Mapping[str, str]) -> None:
        """A batch is over, with these answers: choices as JSON by id."""
        with self._at_once() as file:
            file.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers.items())
            file.execute("UPDATE batches SET state = 'ended' WHERE key = ?", (key,))

    @contextlib.contextmanager
    def _at_once(self) -> Iterator[sqlite3.Connection]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield self._file
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")


def _alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep two processes from creating one batch each; the lock goes with the process that holds it."""
    taken = f"{folder}: another process is asking in batches here. Wait for it, or name another folder"
    return locked(folder / f".{STATE}.lock", BackendError(taken))


# The work


class _BatchWorker:
    """Has all questions answered, in rounds: what is left of one is sent with the next.

    Attributes
    ----------
    failures
        Why there is no answer, and will be none, by id. They are not kept: another call asks again.
    """

    def __init__(
        self,
        state: BatchStore,
        clients: Callable[[Settings], AsyncOpenAI],
        asked: Mapping[str, _Asked],
        ways: _Options,
    ) -> None:
        self._state, self._clients, self._asked, self._ways = state, clients, asked, ways
        self._open_clients: dict[tuple[str, str], AsyncOpenAI] = {}
        self._most_requests = self._next_most = ways.most_requests
        self._creating = asyncio.Lock()
        self._sent: Counter[str] = Counter()
        self._why: dict[str, str] = {}
        self.failures: dict[str, str] = {}

    async def work(self) -> None:
        try:
            while await self._round():
                pass
        finally:
            for client in self._open_clients.values():
                await client.close()

    async def _round(self) -> bool:
        """Have every batch that is wanted end; False when nothing is left to do."""
        self._most_requests = self._next_most
        await self._adopt()
        self._plan()
        mine = [noted for noted in self._state.open_batches() if self._settings(noted) is not None]
        if not mine:
            return False
        carried = [asyncio.ensure_future(self._carry(noted)) for noted in mine]
        try:
            await asyncio.gather(*carried)
        finally:
            # The others go on at the service, and the next call finds them.
            for one in carried:
                one.cancel()
            await asyncio.gather(*carried, return_exceptions=True)
        return True

    async def _adopt(self) -> None:
        """Look whether batches that were intended came to be; those that did not are planned anew."""
        for noted in self._state.open_batches():
            settings = self._settings(noted)
            if noted.state != "intended" or settings is None:
                continue
            found = await self._find(noted, settings)
            if found is None:
                self._state.forget(noted.key)
            else:
                self._state.note_batch(noted.key, found.id)
                self._report("found", found, noted)

    def _plan(self) -> None:
        """Intend batches for all questions that have no answer and are in no batch."""
        under_way = {one for noted in self._state.open_batches() for one in self._state.members(noted.key)}
        settled = under_way | self._state.answers(self._asked).keys() | self.failures.keys()
        left = [one for name, one in self._asked.items() if name not in settled]
        rounds = self._state.rounds(one.id for one in left)
        if any(rounds.values()):
            self._ways.report(BatchEvent("again", "", "", 0, sum(map(bool, rounds.values()))))
        piles: dict[Any, list[_Asked]] = {}
        for one in left:
            piles.setdefault(one.pile, []).append(one)
        for pile in piles.values():
            for part in _parts(pile, self._most_requests, self._ways.most_bytes):
                self._intend(part, rounds)

    def _intend(self, part: Sequence[_Asked], rounds: Mapping[str, int]) -> None:
        question = part[0].question
        made_of = "\n".join(f"{one.id} {rounds[one.id]}" for one in part)
        key = hashlib.sha256(made_of.encode()).hexdigest()
        address, endpoint = question.settings.address, question.codec.endpoint
        noted = BatchRecord(key, address, question.model, endpoint, None, None, "intended", len(part))
        self._state.intend(noted, [one.id for one in part])

    def _settings(self, noted: BatchRecord) -> Settings | None:
        """How to reach the service of a batch; None where none of its questions is asked now."""
        members = (self._asked.get(name) for name in self._state.members(noted.key))
        return next((one.question.settings for one in members if one is not None), None)

    async def _carry(self, noted: BatchRecord) -> None:
        """From the intent to its answers."""
        settings = self._settings(noted)
        assert settings is not None  # noqa: S101 - `_round` takes no others
        self._sent.update(self._state.members(noted.key))
        # One at a time, as a file is large, and in memory until it has arrived.
        async with self._creating:
            batch = noted.batch or await self._created(noted, settings)
        ended = await self._ended(noted, settings, batch)
        await self._collect(noted, settings, ended)

    # One batch

    async def _created(self, noted: BatchRecord, settings: Settings) -> str:
        lines = b"".join(self._asked[name].line for name in self._state.members(noted.key))
        client = self._client(settings)
        name = f"cascade-{noted.key[:16]}.jsonl"
        # A file that arrived without our knowing costs nothing, so that it may be sent again.
        uploaded = await self._patiently(
            settings, lambda: client.files.create(file=(name, lines), purpose="batch")
        )
        self._state.note_file(noted.key, uploaded.id)
        batch = await self._create(noted, settings, uploaded.id)
        self._state.note_batch(noted.key, batch.id)
        self._report("created", batch, noted)
        return batch.id

    async def _create(self, noted: BatchRecord, settings: Settings, file: str) -> Batch:
        """Create a batch once; after any doubt look for it before another try."""
        for number in range(_TRIES):
            try:
                created = await self._client(settings).batches.create(
                    input_file_id=file,
                    endpoint=noted.endpoint,  # type: ignore[arg-type]
                    completion_window="24h",
                    metadata={MARK: noted.key},
                )
                return _sound(created, settings)
            except ServiceError as error:
                last = error
            except Exception as error:
                last = service_error(error, settings.address)
            # A fresh file may take some seconds until it is found.
            if last.trouble not in TRANSIENT and last.trouble != "missing":
                raise last from None
            await self._rest(number, last)
            if last.trouble in ("lost", "broken", "overloaded"):
                found = await self._find(noted, settings, file)
                if found is not None:
                    return found
        raise last

    async def _find(self, noted: BatchRecord, settings: Settings, file: str | None = None) -> Batch | None:
        """The batch that was created for an intent; services without metadata still tell its file."""
        file = file or noted.file

        async def look() -> Batch | None:
            async for batch in self._client(settings).batches.list(limit=100):
                if (batch.metadata or {}).get(MARK) == noted.key or batch.input_file_id == file:
                    return batch
            return None

        return await self._patiently(settings, look)

    async def _ended(self, noted: BatchRecord, settings: Settings, name: str) -> Batch:
        pause, told = _FIRST_POLL_SECONDS, None
        while True:
            batch = await self._patiently(
                settings, lambda: self._client(settings).batches.retrieve(name), _TRIES_WHILE_RUNNING
            )
            if str(batch.status).lower() in _ENDED:
                return batch
            if told != (told := (batch.status, batch.request_counts)):
                self._report("status", batch, noted)
            await self._ways.sleep(min(pause, self._ways.poll_seconds))
            pause *= _POLL_GROWTH

    async def _collect(self, noted: BatchRecord, settings: Settings, batch: Batch) -> None:
        """Keep the answers of a batch, and hear of failures."""
        members = set(self._state.members(noted.key))
        found: dict[str, str] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                client = self._client(settings)
                content = await self._patiently(settings, lambda: client.files.content(file))  # noqa: B023
                found |= self._lines(content.content, members, noted.model)
        self._state.end(noted.key, found)
        self._report("ended", batch, noted, len(found))
        if str(batch.status).lower() == "cancelled":
            raise BackendError(
                f"{noted.address}: {batch.id} was cancelled there. Its answers so far are kept; "
                "ask again for the rest"
            )
        self._hear_errors(batch, members - found.keys())

    def _lines(self, content: bytes, members: set[str], model: str) -> dict[str, str]:
        """The choices in a result file, as JSON by id."""
        found: dict[str, str] = {}
        for line in content.splitlines():
            name, choice, usage, failure = _line(line)
            if name not in members:
                continue
            if choice is not None:
                used = Usage.of(usage)
                self._ways.count(model, Usage(requests=1, batched=1) + used)
                found[name] = json.dumps(choice, separators=(",", ":"))
            elif failure.may_pass:
                self._why[name] = failure.why
            else:
                self.failures[name] = failure.why
        return found

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

    # The service

    def _client(self, settings: Settings) -> AsyncOpenAI:
        client = self._open_clients.get(settings.service)
        if client is None:
            client = self._open_clients[settings.service] = self._clients(settings)
        return client

    async def _patiently(
        self, settings: Settings, call: Callable[[], Awaitable[_T]], tries: int = _TRIES
    ) -> _T:
        """The outcome of a call that may be repeated; ServiceError where that does not help."""
        for number in range(tries):
            try:
                return _sound(await call(), settings)
            except ServiceError as error:
                last = error
            except Exception as error:
                last = service_error(error, settings.address)
            if last.trouble not in TRANSIENT:
                raise last from None
            await self._rest(number, last)
        raise last

    async def _rest(self, number: int, error: ServiceError) -> None:
        grown = min(_FIRST_PAUSE * 2.0 ** min(number, 10), _LONGEST_PAUSE)
        await self._ways.sleep(error.retry_after if error.retry_after is not None else grown)

    def _report(self, kind: Any, batch: Batch, noted: BatchRecord, done: int | None = None) -> None:
        counts = batch.request_counts
        through = (counts.completed + counts.failed) if done is None and counts is not None else done or 0
        self._ways.report(BatchEvent(kind, batch.id, str(batch.status), through, noted.requests))


def _sound(outcome: _T, settings: Settings) -> _T:
    """The outcome of a call, unless it is the page of some machine on the way, which comes as text."""
    if isinstance(outcome, str):
        raise ServiceError(f"{settings.address}: an answer that is no JSON", "broken", 200, "", None)
    return outcome


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a line has no answer, and whether it may have one next time."""

    why: str
    may_pass: bool


def _line(line: bytes) -> tuple[str, dict[str, Any] | None, Mapping[str, Any], _Failure]:
    """Custom id, choice, usage and failure of a line of a result file; the id is empty where it is none."""
    try:
        told = json.loads(line)
        name = str(told["custom_id"])
        error, response = told.get("error") or {}, told.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            return name, dict(body["choices"][0]), body.get("usage") or {}, _Failure("", False)
        error = error or body.get("error") or {}
        code = str(error.get("code") or error.get("type") or "")
    except (ValueError, LookupError, TypeError, AttributeError):
        return _name_of(line), None, {}, _Failure("an answer without a choice", True)
    may_pass = not isinstance(status, int) or status in (0, 408, 409, 429) or status >= 500
    return (
        name,
        None,
        {},
        _Failure(" ".join(filter(None, (str(status or ""), code))) or "no answer", may_pass),
    )


def _name_of(line: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(line)["custom_id"])
    return ""


def _parts(pile: Sequence[_Asked], most_requests: int, most_bytes: int) -> Iterator[list[_Asked]]:
    """Consecutive questions that fit into one batch."""
    part: list[_Asked] = []
    size = 0
    for one in pile:
        if part and (len(part) >= most_requests or size + len(one.line) > most_bytes):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.line)
    if part:
        yield part
