"""Fine-tuning jobs that can be neither lost nor paid twice.

A job is created only after the ledger says that it may exist, and while no other run is about to create it.
Whatever goes wrong from there on, be it a cut connection or a killed process, the service is asked for a job
with the order's key before another is created.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from cascade.errors import BackendError, CascadeError
from cascade.hosted.job_run import JobRun
from cascade.hosted.job_service import DEFAULT_POLLING, Clients, JobServices, Polling
from cascade.hosted.ledger import JobRecord, Ledger
from cascade.hosted.order_context import Run
from cascade.hosted.orders import LASTING, JobEnded, JobEvent, Order, Outcome, order_of, tuned_model_of
from cascade.hosted.retry import heartbeat

REPORT_SECONDS = 60.0


async def fine_tune(
    orders: Sequence[Order],
    ledger: Ledger,
    clients: Clients,
    *,
    report: Callable[[JobEvent], None] = lambda _: None,
    report_seconds: float = REPORT_SECONDS,
    wait: bool = True,
    polling: Polling = DEFAULT_POLLING,
) -> list[Outcome]:
    """The outcome of each order, in their order; what was made before is not made again.

    Parameters
    ----------
    clients
        Called once a service; the client is closed at the end.
    report
        Told of every event; what lasts is told again every `report_seconds`.
    wait
        Whether to follow jobs to their end. If not, all that can be created are, and others looked at once.
    polling
        Pauses between looks, and how long services in trouble are waited for.

    Raises
    ------
    BackendError
        The ledger cannot be written.
    """
    unique = {order.key: order for order in orders}
    outcomes = await _outcomes(
        list(unique.values()), ledger, clients, polling, report, report_seconds, wait=wait
    )
    found = dict(zip(unique, outcomes, strict=True))
    return [replace(found[order.key], group=order.group) for order in orders]


async def follow(
    ledger: Ledger,
    clients: Clients,
    keys: Iterable[str],
    *,
    report: Callable[[JobEvent], None] = lambda _: None,
    report_seconds: float = REPORT_SECONDS,
    wait: bool = True,
    polling: Polling = DEFAULT_POLLING,
) -> list[Outcome]:
    """How the jobs of these orders have ended, or how they stand if not `wait`; nothing is ordered.

    Parameters are those of `fine_tune`; jobs whose end the ledger knows are left alone.
    """
    records = [ledger.order(key) for key in keys]
    running = [order_of(one) for one in records if one is not None and one.state == "created" and one.job]
    return await _outcomes(running, ledger, clients, polling, report, report_seconds, wait=wait)


async def cancel(
    ledger: Ledger, clients: Clients, keys: Iterable[str], *, polling: Polling = DEFAULT_POLLING
) -> list[Outcome]:
    """Cancel the jobs of orders; one that has ended already stays as it is.

    Raises
    ------
    BackendError
        A key is in no order.
    """
    records = [_known(ledger, key) for key in dict.fromkeys(keys)]
    async with _running(ledger, clients, (), polling, lambda _: None, wait=False) as run:
        return [await _cancelled(record, run) for record in records]


async def _outcomes(
    orders: Sequence[Order],
    ledger: Ledger,
    clients: Clients,
    polling: Polling,
    report: Callable[[JobEvent], None],
    report_seconds: float,
    *,
    wait: bool,
) -> list[Outcome]:
    async with _running(ledger, clients, orders, polling, report, wait=wait) as run:
        runs = [JobRun(order, run) for order in orders]
        async with heartbeat(lambda: _repeat_lasting(runs, report), report_seconds):
            done = await asyncio.gather(*(one.outcome() for one in runs), return_exceptions=True)
    # A fault of ours in one order is raised when the others have come to their end.
    return [_unless_raised(one) for one in done]


def _repeat_lasting(runs: Iterable[JobRun], report: Callable[[JobEvent], None]) -> None:
    for event in (one.context.last_event for one in runs):
        if event is not None and event.kind in LASTING:
            report(event)


def _unless_raised(outcome: Outcome | BaseException) -> Outcome:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@contextlib.asynccontextmanager
async def _running(
    ledger: Ledger,
    clients: Clients,
    orders: Iterable[Order],
    polling: Polling,
    report: Callable[[JobEvent], None],
    *,
    wait: bool,
) -> AsyncIterator[Run]:
    with ledger.running() as owner:
        run = Run(ledger, owner, JobServices(clients, polling), polling, report, wait)
        try:
            for order in orders:
                record = ledger.order(order.key)
                if record is not None and record.state == "created":
                    # A service that cannot be reached is the order's own failure, told where it comes up.
                    with contextlib.suppress(CascadeError):
                        run.services.of(order.settings).occupy()
            yield run
        finally:
            await run.services.close()


# Cancelling


def _known(ledger: Ledger, key: str) -> JobRecord:
    record = ledger.order(key)
    if record is None:
        raise BackendError(f"{ledger.path}: no order has the key {key!r}. `cascade jobs` lists them")
    return record


async def _cancelled(record: JobRecord, run: Run) -> Outcome:
    job_run = JobRun(order_of(record), run)
    try:
        await _cancel(job_run, record, run)
    except JobEnded as end:
        return job_run.ended(end)
    except CascadeError as error:
        return _as_it_stands(_known(run.ledger, record.key), str(error))
    return _as_it_stands(_known(run.ledger, record.key))


def _as_it_stands(record: JobRecord, why: str = "") -> Outcome:
    tuned = tuned_model_of(record) if record.state == "succeeded" else None
    return Outcome(
        record.group, record.key, tuned, why or record.why, record.advice, record.state, record.job
    )


async def _cancel(job_run: JobRun, record: JobRecord, run: Run) -> None:
    job = record.job
    if record.state in ("waiting", "intended"):
        if not run.ledger.reserve(record.key, run.owner):
            raise BackendError(
                "another run is about to create this job. Stop it, or wait until there is a job"
            )
        job = await job_run.search.thorough() if record.state == "intended" else None
        if job is None:
            raise JobEnded("was cancelled before there was a job", state="cancelled")
    elif record.state != "created":
        return
    await job_run.call_off(str(job))
    await job_run.followed(str(job))
