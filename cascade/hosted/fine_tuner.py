"""Where hosted models are ordered: those of all groups side by side, after somebody agreed to the price."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cascade.errors import BackendError
from cascade.hosted.client import connect
from cascade.hosted.folder_jobs import add_orders, keys_of, ledger_for, ledger_path, orders_of, user_ledger
from cascade.hosted.job_service import DEFAULT_POLLING, Polling
from cascade.hosted.jobs import REPORT_SECONDS, cancel, fine_tune, follow
from cascade.hosted.ledger import Ledger
from cascade.hosted.orders import JobEvent, Order, Outcome
from cascade.hosted.release_0_2 import models_of
from cascade.nodes.contract import HostedBackend, NodeProblem, ServiceBackend
from cascade.system.array_types import BoolArray

A = TypeVar("A")
Wanted = Iterable[tuple[str, ServiceBackend, NodeProblem, BoolArray]]
_GROUPS_TOLD = 3


class PendingError(BackendError):
    """Jobs were submitted, and nobody waits for them."""


def _agree(orders: Sequence[Order]) -> None:
    del orders


def _silent(step: JobEvent) -> None:
    del step


@dataclass(frozen=True)
class FineTuner:
    """How hosted models are ordered.

    Attributes
    ----------
    approve
        Called with the orders that would be paid for, before anything is sent; it raises to refuse.
    report
        Told of every step.
    wait
        Whether to wait until all jobs have ended.
    clients
        Makes the client of a service.
    polling
        Pauses between looks, and how long services in trouble are waited for.
    report_seconds
        How often what lasts is told again.
    budget_usd
        What questions to models that are asked as they are may cost; None for as many as are worth it.
    """

    approve: Callable[[Sequence[Order]], None] = _agree
    report: Callable[[JobEvent], None] = _silent
    wait: bool = True
    clients: Callable[..., Any] = connect
    polling: Polling = DEFAULT_POLLING
    report_seconds: float = REPORT_SECONDS
    budget_usd: float | None = None

    def models(self, out: Path, wanted: Wanted) -> dict[str, str]:
        """The tuned model of each group.

        Parameters
        ----------
        out
            The model folder; it notes which orders of the user's ledger are its own.
        wanted
            Group, backend, problem, and the rows that must not be seen.

        Raises
        ------
        PendingError
            Some jobs run still, and `wait` is off.
        BackendError
            Some job failed: all of these are told, and what was made is kept.
        """
        found: dict[str, str] = {}
        orders: list[Order] = []
        for group, backend, problem, unseen in wanted:
            if backend.model:
                found[group] = backend.model
            elif isinstance(backend, HostedBackend):
                orders.append(backend.order(group, problem, unseen))
        return found | (self._ordered(out, orders) if orders else {})

    def _ordered(self, out: Path, orders: Sequence[Order]) -> dict[str, str]:
        out.mkdir(parents=True, exist_ok=True)
        with ledger_for(out) as ledger:
            new = [order for order in orders if not ledger.knows(order.key)]
            if new:
                self.approve(new)
            add_orders(out, keys_of(orders))
            outcomes = _finished(
                fine_tune(
                    orders,
                    ledger,
                    self.clients,
                    report=self.report,
                    report_seconds=self.report_seconds,
                    wait=self.wait,
                    polling=self.polling,
                )
            )
        _check(outcomes)
        return {one.group: one.tuned.model for one in outcomes if one.tuned is not None}


def tuned_models(folder: Path) -> Callable[[str], str]:
    """The model that was made for an order's key, for any model folder of the user, or an empty string.

    Nothing is written: what release 0.2 left in `folder` is read where it is.
    """
    made = models_of(folder)
    if ledger_path().exists():
        with user_ledger() as ledger:
            made |= {one.key: one.model for one in ledger.orders() if one.state == "succeeded" and one.model}
    return lambda key: made.get(key, "")


def _finished(work: Coroutine[Any, Any, A]) -> A:
    """What comes of it; in a thread of its own where a loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def follow_jobs(
    folder: Path,
    ledger: Ledger,
    report: Callable[[JobEvent], None] = _silent,
    *,
    wait: bool,
    clients: Callable[..., Any] = connect,
    report_seconds: float = REPORT_SECONDS,
) -> list[Outcome]:
    """How the jobs of a model folder have ended, or how they stand if not `wait`: see `follow`."""
    keys = orders_of(folder)
    return _finished(follow(ledger, clients, keys, report=report, report_seconds=report_seconds, wait=wait))


def cancel_jobs(
    folder: Path, ledger: Ledger, groups: Iterable[str], clients: Callable[..., Any] = connect
) -> None:
    """Cancel the jobs of these groups of a model folder.

    Raises
    ------
    BackendError
        A group has no order, or its job could not be cancelled now.
    """
    keys = []
    for group in groups:
        found = [key for key, name in orders_of(folder).items() if name == group and ledger.order(key)]
        if not found:
            raise BackendError(f"{folder}: no fine-tune of a group {group!r}. `cascade jobs` lists them")
        keys += found
    outcomes = _finished(cancel(ledger, clients, keys))
    # Some services take their time: a job that is about to end has no reason yet.
    left = [one for one in outcomes if one.why and one.state in ("waiting", "intended", "created")]
    if left:
        raise BackendError("\n".join(f"{one.group or 'top level'}: not cancelled: {one.why}" for one in left))


def _check(outcomes: Sequence[Outcome]) -> None:
    failed: dict[str, list[str]] = {}
    for one in outcomes:
        if one.tuned is None and one.why:
            failed.setdefault(f"{one.why}. {one.advice}".rstrip(". "), []).append(one.group or "top level")
    if len(failed) == 1 and all(one.tuned is None for one in outcomes):
        raise BackendError(next(iter(failed)))
    if failed:
        count = sum(map(len, failed.values()))
        head = f"{count} of {len(outcomes)} fine-tunes failed; {len(outcomes) - count} are kept:"
        raise BackendError("\n".join([head, *(f"{_few(groups)}: {why}" for why, groups in failed.items())]))
    pending = sum(one.tuned is None for one in outcomes)
    if pending:
        raise PendingError(
            f"{pending} fine-tunes are under way. `cascade jobs` tells how far they are; the same "
            "command goes on when they have ended"
        )


def _few(groups: Sequence[str]) -> str:
    more = len(groups) - _GROUPS_TOLD
    return ", ".join(groups[:_GROUPS_TOLD]) + (f" and {more} more" if more > 0 else "")
