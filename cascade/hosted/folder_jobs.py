"""Which fine-tunes of the user's ledger belong to a model folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cascade.hosted.ledger import JobRecord, Ledger
from cascade.hosted.orders import Order
from cascade.hosted.release_0_2 import JOBS, take_over_jobs
from cascade.system.files import atomic_write
from cascade.system.home import home
from cascade.system.serialization import read_json

FILE = "jobs.json"
"""In a model folder: the keys of its orders, with the group of each."""
_VERSION = 1


def ledger_path() -> Path:
    """Where the one ledger of the user is, whether or not it exists."""
    return home() / JOBS


def user_ledger() -> Ledger:
    """The one ledger of the user, made where there is none; BackendError where it cannot be used."""
    return Ledger(ledger_path())


def ledger_for(folder: Path) -> Ledger:
    """The user's ledger, with all that release 0.2 kept in a model folder itself."""
    ledger = user_ledger()
    try:
        if (folder / JOBS).exists():
            add_orders(folder, take_over_jobs(ledger, folder / JOBS))
    except BaseException:
        ledger.close()
        raise
    return ledger


def orders_of(folder: Path) -> dict[str, str]:
    """The group of each order of a model folder, by the order's key; empty where nothing was ordered."""
    if not (folder / FILE).exists():
        return {}
    written = read_json(folder / FILE)
    orders = written.get("orders") if isinstance(written, dict) else None
    return dict(orders) if isinstance(orders, dict) else {}


def add_orders(folder: Path, orders: dict[str, str]) -> None:
    """Note the group of each order by its key."""
    found = orders_of(folder)
    if found | orders == found:
        return
    with atomic_write(folder / FILE) as draft:
        draft.write(json.dumps({"version": _VERSION, "orders": found | orders}, indent=1).encode())


def keys_of(orders: Iterable[Order]) -> dict[str, str]:
    """The group of each order by its key."""
    return {order.key: order.group for order in orders}


def records_of(folder: Path, ledger: Ledger) -> list[JobRecord]:
    """The orders of a model folder as the ledger knows them, oldest first, under the folder's own names."""
    groups = orders_of(folder)
    return [replace(one, group=groups[one.key]) for one in ledger.orders() if one.key in groups]
