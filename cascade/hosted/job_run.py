"""The way of one order from its examples to a tuned model."""

from __future__ import annotations

import contextlib
import tempfile
from functools import partial
from typing import Any

from cascade.errors import CascadeError
from cascade.hosted.client import download
from cascade.hosted.job_errors import (
    CLOSED,
    advice_of,
    advice_of_job,
    names_metadata,
    says_no_file,
    says_too_many,
)
from cascade.hosted.job_search import LOOKS, JobSearch
from cascade.hosted.ledger import JobRecord, State
from cascade.hosted.order_context import OrderContext, Run
from cascade.hosted.orders import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    JobEnded,
    Order,
    Outcome,
    TunedModel,
    job_body,
    rank_of,
    status_of,
    tuned_model_of,
)
from cascade.hosted.service_errors import DOUBTFUL, ServiceError, without_secrets
from cascade.hosted.training_curve import curve_of
from cascade.hosted.uploads import Uploads

_TRIES_WHILE_RUNNING = 240  # of asking for a job that runs: two hours of refusals
_TRIES_TO_CREATE = 4  # each of them followed by a search for the job
_MOST_CURVE_BYTES = 64 * 2**20


class JobRun:
    """Has one order fulfilled, or follows its job."""

    def __init__(self, order: Order, run: Run) -> None:
        self.context = OrderContext(order, run)
        self._order, self._run, self._ledger = order, run, run.ledger
        self.search = JobSearch(self.context)

    async def outcome(self) -> Outcome:
        """What becomes of the order; no error of a service comes out of here."""
        try:
            return await self._outcome()
        except JobEnded as end:
            return self.ended(end)
        except ServiceError as error:
            # Of a service that does not answer all orders would tell the same.
            is_told = error.trouble != "unreachable"
            return self.ended(JobEnded(str(error), advice_of(error), state=None), is_told=is_told)
        except CascadeError as error:
            return self.ended(JobEnded(str(error), state=None))

    def ended(self, end: JobEnded, *, is_told: bool = True) -> Outcome:
        """Note and report an end without a model; a state of None leaves the ledger's own."""
        if end.state is None:
            self._ledger.note(self._order.key, why=end.why, advice=end.advice)
        else:
            self._note_end(end.state, end)
        record = self._ledger.order(self._order.key)
        state: State = record.state if record is not None else end.state or "waiting"
        if is_told:
            self.context.tell(
                "waiting" if state == "waiting" and end.state is not None else "failed", end.why
            )
        job = record.job if record is not None else None
        why = "" if end.state == "waiting" else end.why
        return Outcome(self._order.group, self._order.key, None, why, end.advice, state, job)

    def _note_end(self, state: State, end: JobEnded) -> None:
        if self._ledger.order(self._order.key) is None:
            self._ledger.intend(self._order.key, **self.context.columns())
        self._ledger.ended(self._order.key, state, end.why, end.advice, end.job)

    async def _outcome(self) -> Outcome:
        record = self._ledger.order(self._order.key)
        if record is not None and record.state == "succeeded" and record.model and record.job:
            return self._found(record)
        service = self.context.service
        if record is not None and record.state == "created" and record.job:
            async with service.freed():
                return await self.followed(record.job, record.created_at)
        late = "all places for jobs are taken"
        model = self._order.settings.base_model
        async with service.place(model, lambda: self.context.tell("queued", late)):
            return await self._ordered()

    async def _ordered(self) -> Outcome:
        """The outcome of a job that this run creates, or of the one that another run is creating."""
        record = await self._reserved()
        if record is not None and record.state == "succeeded":
            return self._found(record)
        if record is not None and record.state == "created" and record.job:
            self.context.tell("found", record.job)
            return await self._followed_if_waited_for(record.job)
        return await self._followed_if_waited_for(await self._made(record))

    async def _followed_if_waited_for(self, job: str) -> Outcome:
        if self._run.wait:
            return await self.followed(job)
        return self._not_waited_for(job)

    async def _reserved(self) -> JobRecord | None:
        """The order as the ledger knows it, once no other run is about to create its job."""
        look = 0
        while not self._ledger.reserve(self._order.key, self._run.owner, **self.context.columns()):
            self.context.tell("waiting", "another run orders the same fine-tune")
            await self.context.polling.sleep(self.context.polling.pause(look))
            look += 1
        return self._ledger.order(self._order.key)

    def _found(self, record: JobRecord) -> Outcome:
        tuned = tuned_model_of(record)
        self.context.tell("found", tuned.model if tuned else "")
        return self._succeeded(tuned)

    def _succeeded(self, tuned: TunedModel | None) -> Outcome:
        job = tuned.job if tuned else None
        return Outcome(self._order.group, self._order.key, tuned, state="succeeded", job=job)

    def _not_waited_for(self, job: str) -> Outcome:
        return Outcome(self._order.group, self._order.key, None, state="created", job=job)

    # Creating

    async def _made(self, record: JobRecord | None) -> str:
        """The job of the order: one that is there, or a new one."""
        is_doubtful = record is not None and record.state == "intended"
        if is_doubtful:
            found = await self.search.thorough()
        else:
            self.context.stop_if_refused()
            found = await self.search.quick()
        return found if found is not None else await self._created(doubts=int(is_doubtful))

    async def _created(self, doubts: int) -> str:
        """A new job; where the service trains nothing for anybody here, no file is left there."""
        uploads = Uploads(self.context)
        try:
            return await self._created_of(uploads, doubts)
        except JobEnded as end:
            refusal = self.context.service.refusal(self._order.settings.base_model)
            if refusal is not None and refusal.code == CLOSED:
                self._note_end("failed", end)
                await uploads.removed()
            raise

    async def _created_of(self, uploads: Uploads, doubts: int) -> str:
        """A new job; whatever the service answers, there is at most one when this ends.

        `doubts` says how often a job may have been created before, which then may show late.
        """
        denials = 0
        while True:
            self.context.stop_if_refused()
            training, validation = await uploads.files()
            is_marked = self.context.service.takes_metadata
            self._ledger.intend(self._order.key, **self.context.columns(training, validation))
            try:
                job = self.context.noted(await self._create(training, validation, is_marked))
            except ServiceError as error:
                if error.trouble in ("oversized", "unreachable"):
                    raise  # there may be a job: the order stays intended
                if error.trouble not in DOUBTFUL:
                    await self._denied(error, denials, is_marked)
                    denials += 1
                    continue
                doubts += 1
                found = await self.search.thorough(error)
                if found is not None:
                    return found
                if doubts >= _TRIES_TO_CREATE:
                    raise self._unanswered(error) from error
            else:
                return await self._without_twin(job) if doubts else job

    async def _create(self, training: str, validation: str | None, is_marked: bool) -> str:
        body = job_body(self._order, training, validation, is_marked)
        service = self.context.service
        job = await service.identified(service.client.fine_tuning.jobs.create(**body))
        return str(job.id)

    async def _without_twin(self, job: str) -> str:
        """The job to keep: one that shows only now that a second one was created, which is then cancelled."""
        await self.context.polling.sleep(self.context.polling.pause(0))
        others: list[Any] = []
        with contextlib.suppress(ServiceError):  # the job that is known is good enough then
            candidates = await self.search.candidates()
            others = [one for one in candidates if one.id != job and rank_of(status_of(one)) < 2]
        if not others:
            return job
        await self.call_off(job)
        self._ledger.give_up(self._order.key)
        return self.search.adopted(others) or job

    async def call_off(self, job: str) -> None:
        """Cancel a job; it may have ended already."""
        service = self.context.service
        try:
            await self.context.insist(lambda: service.identified(service.client.fine_tuning.jobs.cancel(job)))
        except ServiceError as error:
            if error.trouble not in ("invalid", "missing"):
                raise

    def _unanswered(self, error: ServiceError) -> JobEnded:
        return JobEnded(f"no job came of {_TRIES_TO_CREATE} tries: {error}", "Run again later", state=None)

    async def _denied(self, error: ServiceError, denials: int, is_marked: bool) -> None:
        """The service has surely made no job: wait, change the request, or end."""
        if is_marked and names_metadata(error):
            self.context.service.takes_metadata = False
        elif error.trouble in ("limit", "daily", "loading") or says_too_many(error):
            self._ledger.note(self._order.key, state="waiting", why=str(error))
            await self.context.wait_for_service(error, denials)
        elif says_no_file(error) and denials < LOOKS:
            await self.context.wait_for_service(error, denials)
        else:
            await self.context.stop_if_hopeless(error)
            raise JobEnded(str(error), advice_of(error)) from error

    # Following

    async def followed(self, job: str, created_at: float | None = None) -> Outcome:
        """The end of a job, or how it stands where nobody waits."""
        context, looks = self.context, 0
        context.created_at = created_at or context.created_at
        while True:
            found = await self._looked_at(job)
            status = status_of(found)
            if status in DONE and getattr(found, "fine_tuned_model", None):
                return await self._well_ended(found)
            if status in FAILED | CANCELLED:
                raise await self._badly_ended(found, status)
            if status in DONE and looks >= LOOKS:
                raise JobEnded(f"{job}: has ended well, but the service names no model", state=None)
            self._note_progress(found, status)
            if not self._run.wait:
                return self._not_waited_for(job)
            await context.polling.sleep(context.polling.pause(looks))
            looks += 1

    async def _looked_at(self, job: str) -> Any:
        """The job as it stands; a new one may be unknown for a while."""
        service = self.context.service
        for look in range(LOOKS + 1):
            try:
                return await self.context.insist(
                    lambda: service.identified(service.client.fine_tuning.jobs.retrieve(job)),
                    _TRIES_WHILE_RUNNING,
                )
            except ServiceError as error:
                if error.trouble != "missing":
                    raise
                self.context.tell("waiting", str(error))
                last = error
            if look < LOOKS:
                await self.context.polling.sleep(self.context.polling.pause(look))
        why = f"{job}: the service knows this job no longer"
        raise JobEnded(why, "The next run makes a new one", job=job) from last

    def _note_progress(self, job: Any, status: str) -> None:
        context = self.context
        end = getattr(job, "estimated_finish", None)
        end = float(end) if isinstance(end, int | float) and end > 0 else None
        if end != context.estimated_end:
            context.estimated_end = end
            self._ledger.note(self._order.key, estimated_end=end)
        context.tell("queued" if status in QUEUED else "running", f"{job.id}: {status or 'no status'}")

    async def _well_ended(self, job: Any) -> Outcome:
        tokens = getattr(job, "trained_tokens", None)
        tuned = TunedModel(
            str(job.fine_tuned_model),
            str(job.id),
            int(tokens) if isinstance(tokens, int | float) else None,
            tuple(await self._curve(job)),
        )
        self._ledger.succeeded(
            self._order.key, tuned.job, tuned.model, tuned.trained_tokens, tuned.result_csv
        )
        self.context.estimated_end = None
        self.context.tell("succeeded", tuned.model)
        return self._succeeded(tuned)

    async def _curve(self, job: Any) -> list[dict[str, float]]:
        """The training curve; none where the service does not give it, which is no reason to fail."""
        for file in getattr(job, "result_files", None) or []:
            with contextlib.suppress(ServiceError):
                rows = curve_of(await self.context.insist(partial(self._content, str(file)), tries=3))
                if rows:
                    return rows
        return []

    async def _content(self, file: str) -> bytes:
        with tempfile.SpooledTemporaryFile(_MOST_CURVE_BYTES) as content:
            await self.context.service.ask(
                download(self.context.service.client, file, content, _MOST_CURVE_BYTES)
            )
            content.seek(0)
            return content.read()

    async def _badly_ended(self, job: Any, status: str) -> JobEnded:
        name = str(job.id)
        if status in CANCELLED:
            return JobEnded(
                f"{name}: was cancelled", "The next run makes a new job", state="cancelled", job=name
            )
        error = getattr(job, "error", None)
        code, said = str(getattr(error, "code", None) or ""), str(getattr(error, "message", None) or "")
        checks = await self._checks(name)
        reasons = [": ".join(filter(None, (code, without_secrets(said)))), *checks]
        why = "; ".join(filter(None, reasons)) or "the service gives no reason"
        return JobEnded(f"{name}: {why}", advice_of_job(code, said, bool(checks)), job=name)

    async def _checks(self, job: str) -> list[str]:
        """What the last events of a job say of safety checks."""
        service = self.context.service
        pages = partial(service.client.fine_tuning.jobs.list_events, job)
        try:
            events = await self.context.insist(lambda: service.listed(pages, 1), tries=3)
        except ServiceError:
            return []
        checks = [event for event in events if getattr(event, "type", None) == "moderation_checks"]
        told = (without_secrets(str(getattr(event, "message", None) or "")) for event in checks)
        return list(dict.fromkeys(told))[:3]
