"""Looking for a job at the service that may have been created for an order, here or elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cascade.hosted.job_service import MOST_PAGES
from cascade.hosted.ledger import JobRecord
from cascade.hosted.order_context import OrderContext
from cascade.hosted.orders import CANCELLED, FAILED, KEY, rank_of, status_of
from cascade.hosted.service_errors import ServiceError

LOOKS = 6
"""A service may show a new job or file late; with growing pauses this is half a minute."""
_CLOCKS_DIFFER_SECONDS = 3600.0


class JobSearch:
    """Finds the jobs of one order."""

    def __init__(self, context: OrderContext) -> None:
        self._context, self._order, self._ledger = context, context.order, context.ledger

    async def quick(self) -> str | None:
        """A job with the order's key that no ledger here knows; one page, as there is hardly ever one.

        It is the first that a service hears of an order, and so tells whether there is a service.
        """
        context = self._context
        if not context.service.takes_metadata:
            return None
        try:
            jobs = await context.insist(lambda: self._jobs({KEY: self._order.key}, most_pages=1), tries=1)
        except ServiceError as error:
            if error.trouble == "unreachable":
                raise
            await context.stop_if_hopeless(error)
            context.stop_if_refused()
            return None
        alive = [job for job in jobs if self._is_ours(job) and status_of(job) not in FAILED | CANCELLED]
        return self.adopted(alive)

    async def thorough(self, error: ServiceError | None = None) -> str | None:
        """The job that may have been created, or None after several looks; services show new ones late."""
        context = self._context
        context.tell("waiting", f"looking for a job that may exist{f': {error}' if error else ''}")
        for look in range(LOOKS):
            found = self.adopted(await self.candidates())
            if found is not None:
                return found
            await context.polling.sleep(context.polling.pause(look))
        return self.adopted(await self.candidates())

    async def candidates(self) -> list[Any]:
        """Jobs that may be the order's."""
        try:
            found = await self._context.insist(lambda: self._jobs({KEY: self._order.key}))
        except ServiceError as error:
            if error.trouble not in ("invalid", "missing"):
                raise
            found = []
        ours = [job for job in found if self._is_ours(job)]
        if ours:
            return ours
        # The service may ignore metadata, in jobs or in the filter.
        record = self._ledger.order(self._order.key)
        jobs = await self._context.insist(lambda: self._jobs({}))
        return [job for job in jobs if self._is_ours(job) or self._looks_like_ours(job, record)]

    def adopted(self, jobs: list[Any]) -> str | None:
        """The best of the order's jobs, noted as its own: one that ended well, else the oldest that lives."""
        if not jobs:
            return None
        best = min(jobs, key=lambda job: (rank_of(status_of(job)), getattr(job, "created_at", None) or 0))
        record = self._ledger.order(self._order.key)
        if record is None or record.state != "intended":
            self._ledger.intend(self._order.key, **self._context.columns())
        return self._context.noted(str(best.id), "found", getattr(best, "created_at", None))

    async def _jobs(self, metadata: Mapping[str, str], most_pages: int = MOST_PAGES) -> list[Any]:
        options: dict[str, Any] = {"metadata": metadata} if metadata else {}
        service = self._context.service
        return await service.listed(service.client.fine_tuning.jobs.list, most_pages, **options)

    def _is_ours(self, job: Any) -> bool:
        metadata = getattr(job, "metadata", None)
        is_marked = isinstance(metadata, dict) and metadata.get(KEY) == self._order.key
        return is_marked and self._is_free(job)

    def _is_free(self, job: Any) -> bool:
        return self._ledger.is_free(self._context.address, str(job.id), self._order.key)

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
