"""``GET /v1/chat/completions``: answers that were asked for with ``store``, in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.responses import ApiError, json_response, list_page, metadata_of
from cascade.sandbox.storage import Record

MOST = 10_000
"""Of more answers the oldest are forgotten: each takes a few kilobytes."""
NOTHING: Mapping[str, str] = {}
_METADATA = re.compile(r"metadata\[(.+)\]")


def wants_store(body: Mapping[str, Any]) -> bool:
    """Whether the answer to a request is to be kept; ApiError where it asks for it in a wrong way."""
    store = body.get("store")
    if store is not None and not isinstance(store, bool):
        raise ApiError(400, "Invalid type for 'store': expected a boolean.", "invalid_type", "store")
    if metadata_of(body) and not store:
        message = "The 'metadata' parameter is only allowed when 'store' is enabled."
        raise ApiError(400, message, None, "metadata")
    return bool(store)


class StoredCompletions:
    """The endpoint, and what it lists."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[str, Record] = {}

    def keep(self, body: Mapping[str, Any], answer: Record) -> None:
        """Keep the answer to a request."""
        self._kept[answer["id"]] = {**answer, "metadata": metadata_of(body) or {}}
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    async def list(self, request: Request) -> Response:
        query = request.query_params
        order = query.get("order", "asc")
        if order not in ("asc", "desc"):
            raise ApiError(400, "Invalid 'order': expected 'asc' or 'desc'.", "invalid_value", "order")
        found = self.listed(query.get("model"), _wanted(query))
        return json_response(list_page(found if order == "asc" else found[::-1], query))

    def listed(self, model: str | None = None, metadata: Mapping[str, str] = NOTHING) -> Sequence[Record]:
        """What is kept of a model, or of all, with at least these metadata; the oldest first."""
        return [
            one
            for one in self._kept.values()
            if model in (None, one["model"]) and metadata.items() <= one["metadata"].items()
        ]


def _wanted(query: QueryParams) -> dict[str, str]:
    """The metadata that a query names."""
    named = ((_METADATA.fullmatch(name), value) for name, value in query.items())
    return {found[1]: value for found, value in named if found}
