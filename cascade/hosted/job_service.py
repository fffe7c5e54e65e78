"""A service as jobs and batches use it: one client, its retries and pauses, its lists, places for jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cascade.hosted.retry import DEFAULT, Availability, RetryPolicy
from cascade.hosted.service_errors import TRANSIENT, ServiceError, service_error
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Clients = Callable[[Settings], "AsyncOpenAI"]
T = TypeVar("T")
POLL_SECONDS = 2.0
TRIES = 12  # of a call that the service refuses for a while: some minutes
_LONGEST_POLL_SECONDS = 30.0
_GROWTH = 1.5
_DAY_PAUSES = 450  # at 2 s a quarter of an hour: a limit of the day is not lifted sooner by asking
MOST_PAGES = 50
_MOST_UPLOADS = 8
_MOST_SECONDS = 600.0
_LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class Polling:
    """How long to wait between two looks, and for services in trouble.

    Attributes
    ----------
    poll_seconds
        The first pause; later ones grow up to 30 s.
    policy
        How long a service that does not answer is waited for.
    sleep
        Lets some seconds pass.
    """

    poll_seconds: float = POLL_SECONDS
    policy: RetryPolicy = DEFAULT
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self, number: int) -> float:
        """Seconds before look `number`, counted from 0."""
        longest = max(self.poll_seconds, min(_LONGEST_POLL_SECONDS, 15 * self.poll_seconds))
        return float(min(longest, self.poll_seconds * _GROWTH ** min(number, 60)))

    def after(self, error: ServiceError, number: int) -> float:
        """Seconds before the same is asked again."""
        least = self.poll_seconds * _DAY_PAUSES if error.trouble == "daily" else self.pause(number)
        return max(least, error.retry_after or 0.0)


DEFAULT_POLLING = Polling()


class JobService:
    """One service: its client, the places for jobs, and whether anything can still be created."""

    def __init__(self, settings: Settings, client: AsyncOpenAI, polling: Polling) -> None:
        # Nothing is sent twice but by us, who know what may be.
        self.client = client.with_options(max_retries=0)
        self.address = settings.address
        self.polling = polling
        self.availability = Availability(self.address, polling.policy)
        self.takes_metadata = True
        self.uploading = asyncio.Semaphore(_MOST_UPLOADS)
        self._files: dict[str, asyncio.Lock] = {}
        self._places = settings.traits.most_jobs
        self._change = asyncio.Condition()
        self._refusals: dict[str | None, ServiceError] = {}

    async def ask(self, call: Awaitable[T], *, is_upload: bool = False) -> T:
        """What a call answers; ServiceError for all that the service may do wrong.

        A service that has answered nothing yet has only as long as it is waited for at all; files may take
        any time.
        """
        self.availability.asked()
        is_new = self.availability.answered_at is None
        seconds = max(self.availability.seconds_left, _LEAST_SECONDS) if is_new else _MOST_SECONDS
        try:
            async with asyncio.timeout(None if is_upload else seconds):
                answer = await call
        except (ValueError, RecursionError) as error:
            self.availability.answered()
            raise ServiceError(
                f"{self.address}: an answer that is no JSON", "broken", 200, "", None
            ) from error
        except Exception as error:
            raise self._translated(error) from error
        self.availability.answered()
        return answer

    def _translated(self, error: Exception) -> ServiceError:
        found = service_error(error, self.address)
        if found.status is not None:
            self.availability.answered()
        elif found.trouble == "lost":
            self.availability.check(found)
        return found

    async def identified(self, call: Awaitable[T], *, is_upload: bool = False) -> T:
        """As `ask`, for answers that have an id; anything else is no answer."""
        answer = await self.ask(call, is_upload=is_upload)
        if not isinstance(getattr(answer, "id", None), str) or not getattr(answer, "id", ""):
            raise ServiceError(f"{self.address}: an answer without an id", "broken", 200, "", None)
        return answer

    async def listed(
        self, pages: Callable[..., Awaitable[Any]], most_pages: int = MOST_PAGES, **options: Any
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

    async def insist(
        self,
        call: Callable[[], Awaitable[T]],
        tries: int = TRIES,
        tell: Callable[[str], None] = lambda _: None,
    ) -> T:
        """What a call that may be repeated answers, once the service answers.

        Refusals that may pass are borne `tries` times, silence as long as the policy says.
        """
        refusals = looks = 0
        while True:
            try:
                return await call()
            except ServiceError as error:
                refusals += error.status is not None
                if error.trouble not in TRANSIENT | {"daily"} or refusals >= tries:
                    raise
                tell(str(error))
                await self.rest(error, looks)
                looks += 1

    async def rest(self, error: ServiceError, number: int) -> None:
        """Pause after a trouble, the longer the more there were before; no longer than it is waited for."""
        pause = self.polling.after(error, number)
        if error.status is None:
            pause = min(pause, max(self.availability.seconds_left, _LEAST_SECONDS))
        await self.polling.sleep(pause)

    def alone(self, digest: str) -> asyncio.Lock:
        """Only one order at a time sends a file."""
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


class JobServices:
    """The services of a run, one client each."""

    def __init__(self, clients: Clients, polling: Polling) -> None:
        self._clients, self._polling = clients, polling
        self._made: dict[tuple[str, str], JobService] = {}

    def of(self, settings: Settings) -> JobService:
        """The service of some settings."""
        if settings.service not in self._made:
            self._made[settings.service] = JobService(settings, self._clients(settings), self._polling)
        return self._made[settings.service]

    async def close(self) -> None:
        """Close the clients."""
        for service in self._made.values():
            await service.client.close()
