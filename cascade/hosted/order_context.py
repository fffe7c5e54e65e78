"""What the steps of one order share: where it stands, whom it asks, and when it ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cascade.hosted.job_errors import CLOSED, advice_of, says_too_many
from cascade.hosted.job_service import TRIES, JobService, JobServices, Polling
from cascade.hosted.ledger import Ledger
from cascade.hosted.orders import JobEnded, JobEvent, Kind, Order, suffix_of
from cascade.hosted.service_errors import ServiceError

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """What the orders of one run share.

    Attributes
    ----------
    owner
        Under which orders are reserved in the ledger.
    wait
        Whether jobs are followed to their end.
    """

    ledger: Ledger
    owner: str
    services: JobServices
    polling: Polling
    report: Callable[[JobEvent], None]
    wait: bool


class OrderContext:
    """One order in one run.

    Attributes
    ----------
    last_event
        What was told last; None where nothing was.
    """

    def __init__(self, order: Order, run: Run) -> None:
        self.order, self.run, self.ledger, self.polling = order, run, run.ledger, run.polling
        self.created_at: float | None = None
        self.estimated_end: float | None = None
        self.last_event: JobEvent | None = None
        self._begun = time.time()

    @property
    def service(self) -> JobService:
        return self.run.services.of(self.order.settings)

    @property
    def address(self) -> str:
        return self.order.settings.address

    def tell(self, kind: Kind, detail: str = "") -> None:
        """Report what happens."""
        age = max(0.0, time.time() - (self.created_at or self._begun))
        self.last_event = JobEvent(self.order.group, kind, age, self.estimated_end, detail)
        self.run.report(self.last_event)

    def noted(self, job: str, kind: Kind = "created", at: float | None = None) -> str:
        """The job, after the ledger knows it."""
        self.created_at = at or time.time()
        self.ledger.created(self.order.key, job, self.created_at)
        self.tell(kind, job)
        return job

    def columns(self, training: str | None = None, validation: str | None = None) -> dict[str, Any]:
        """What the ledger is told of the order."""
        settings = self.order.settings
        reach = {
            name: getattr(settings, name) for name in ("provider", "base_url", "api_key_env", "base_model")
        }
        return {
            "group": self.order.group,
            "service": settings.address,
            "settings": {name: value for name, value in reach.items() if value is not None},
            "base_model": settings.base_model,
            "suffix": suffix_of(self.order),
            "cost_usd": self.order.cost_usd,
            "training_file": training,
            "validation_file": validation,
        }

    async def insist(self, call: Callable[[], Awaitable[T]], tries: int = TRIES) -> T:
        """See `JobService.insist`."""
        return await self.service.insist(call, tries, lambda trouble: self.tell("waiting", trouble))

    async def wait_for_service(self, error: ServiceError, number: int) -> None:
        """Pause as long as the service wants; JobEnded where it is full and the run does not wait."""
        is_full = error.trouble in ("limit", "daily", "loading") or says_too_many(error)
        if is_full and not self.run.wait:
            advice = "It is created by the next run, once others have ended"
            raise JobEnded(f"not created yet: {error}", advice, state="waiting")
        self.tell("waiting", str(error))
        await self.service.rest(error, number)

    def stop_if_refused(self) -> None:
        """End here where the service creates nothing more anyway."""
        refusal = self.service.refusal(self.order.settings.base_model)
        if refusal is not None:
            raise JobEnded(str(refusal), advice_of(refusal))

    async def stop_if_hopeless(self, error: ServiceError) -> None:
        """Keep the other orders from asking for what nobody gets."""
        if error.trouble == "quota" or error.status == 401:
            await self.service.refuse(error, None)
        elif error.code == CLOSED:
            await self.service.refuse(error, self.order.settings.base_model)
