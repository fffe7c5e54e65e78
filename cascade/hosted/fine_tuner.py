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
from cascade.hosted.jobs import JobEvent, Order, Outcome, cancel, fine_tune, follow
from cascade.hosted.ledger import JobRecord, Ledger
from cascade.nodes.contract import HostedBackend, NodeProblem
from cascade.system.array_types import BoolArray

A = TypeVar("A")
LEDGER = "jobs.sqlite"
"""The ledger's name in a model folder."""
Wanted = Iterable[tuple[str, HostedBackend, NodeProblem, BoolArray]]


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
    """

    approve: Callable[[Sequence[Order]], None] = _agree
    report: Callable[[JobEvent], None] = _silent
    wait: bool = True
    clients: Callable[..., Any] = connect

    def models(self, out: Path, wanted: Wanted) -> dict[str, str]:
        """The tuned model of each group.

        Parameters
        ----------
        out
            The model folder, which has the ledger of what was ordered.
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
            else:
                orders.append(backend.order(group, problem, unseen))
        return found | (self._bought(out, orders) if orders else {})

    def _bought(self, out: Path, orders: Sequence[Order]) -> dict[str, str]:
        out.mkdir(parents=True, exist_ok=True)
        with Ledger(out / LEDGER) as ledger:
            new = [order for order in orders if not _is_paid(ledger.order(order.key))]
            if new:
                self.approve(new)
            outcomes = _finished(fine_tune(orders, ledger, self.clients, report=self.report, wait=self.wait))
        _check(outcomes)
        return {one.group: one.tuned.model for one in outcomes if one.tuned is not None}


def tuned_models(out: Path) -> Callable[[str], str]:
    """The model that was made for an order's key in this model folder, or an empty string."""
    if not (out / LEDGER).exists():
        return lambda _: ""
    with Ledger(out / LEDGER) as ledger:
        made = {one.key: one.model for one in ledger.orders() if one.state == "succeeded" and one.model}
    return lambda key: made.get(key, "")


def _is_paid(record: JobRecord | None) -> bool:
    return record is not None and record.state in ("intended", "created", "succeeded")


def _finished(work: Coroutine[Any, Any, A]) -> A:
    """What comes of it; in a thread of its own where a loop runs already, as in notebooks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def follow_jobs(
    ledger: Ledger,
    report: Callable[[JobEvent], None] = _silent,
    *,
    wait: bool,
    clients: Callable[..., Any] = connect,
) -> list[Outcome]:
    """How the jobs that run have ended, or how they stand if not `wait`: see `follow`."""
    return _finished(follow(ledger, clients, report=report, wait=wait))


def cancel_jobs(ledger: Ledger, groups: Iterable[str], clients: Callable[..., Any] = connect) -> None:
    """Cancel the jobs of these groups.

    Raises
    ------
    BackendError
        A group has no order.
    """
    keys = []
    for group in groups:
        found = [record.key for record in ledger.orders() if record.group == group]
        if not found:
            raise BackendError(f"{ledger.path}: no fine-tune of a group {group!r}. `cascade jobs` lists them")
        keys += found
    _finished(cancel(ledger, clients, keys))


def _check(outcomes: Sequence[Outcome]) -> None:
    failed = [one for one in outcomes if one.tuned is None and one.why]
    if failed:
        lines = [f"{one.group or 'top level'}: {one.why}. {one.advice}".rstrip() for one in failed]
        kept = len(outcomes) - len(failed)
        raise BackendError(
            "\n".join([f"{len(failed)} of {len(outcomes)} fine-tunes failed; {kept} are kept:", *lines])
        )
    pending = sum(one.tuned is None for one in outcomes)
    if pending:
        raise PendingError(
            f"{pending} fine-tunes are under way. `cascade jobs` tells how far they are; the same "
            "command goes on when they have ended"
        )
