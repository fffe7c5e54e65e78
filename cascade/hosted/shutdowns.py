"""When hosted models stop: by the dated file of prices, and by what services themselves tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import CascadeError
from cascade.hosted.client import connect
from cascade.hosted.prices import Prices
from cascade.hosted.service_errors import service_error
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ShutdownDates = Mapping[tuple[str, str], date]
"""The last day of a model, by the address of its service and its name."""
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The last day on which a model can be tuned (``training``) or asked (``answers``)."""

    model: str
    address: str
    what: Literal["training", "answers"]
    day: date


def shutdowns_of(settings: Settings, prices: Prices, told: ShutdownDates) -> list[Shutdown]:
    """What is known to end of the model that a group needs; the earlier day where two are told."""
    return list(_shutdowns(settings, prices, told))


def _shutdowns(settings: Settings, prices: Prices, told: ShutdownDates) -> Iterator[Shutdown]:
    asked, address = settings.model or settings.base_model, settings.address
    known = address == prices.service
    closes = prices.training_ends(settings.base_model) if known and settings.model is None else None
    if closes is not None:
        yield Shutdown(settings.base_model, address, "training", closes)
    days = [told.get((address, asked)), prices.ends(asked) if known else None]
    if any(days):
        yield Shutdown(asked, address, "answers", min(day for day in days if day is not None))


def announced_shutdowns(
    settings: Iterable[Settings], clients: Callable[[Settings], AsyncOpenAI] = connect
) -> ShutdownDates:
    """The ``shutdown_date`` of models that services list; those that cannot be asked tell nothing."""
    services = {one.service: replace(one, concurrency=1) for one in settings}
    found: dict[tuple[str, str], date] = {}
    for one in services.values():
        with suppress(CascadeError, TimeoutError):
            found |= asyncio.run(_listed(one, clients))
    return found


async def _listed(
    settings: Settings, clients: Callable[[Settings], AsyncOpenAI]
) -> dict[tuple[str, str], date]:
    client = clients(settings)
    try:
        async with asyncio.timeout(_SECONDS):
            listed = [(model.id, _day(model)) async for model in client.models.list()]
    except Exception as error:
        raise service_error(error, settings.address) from None
    finally:
        await client.close()
    return {(settings.address, name): day for name, day in listed if day is not None}


def _day(model: Any) -> date | None:
    try:
        return date.fromisoformat(str(getattr(model, "shutdown_date", None)))
    except ValueError:
        return None
