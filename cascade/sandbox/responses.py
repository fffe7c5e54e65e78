"""What all endpoints share: refusals in the official shape, pages of lists, reading of bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.storage import Record, public

_MOST_METADATA = 16
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer other than 2xx.

    Attributes
    ----------
    status, code, param
        The HTTP status, and the words of the official error object.
    headers
        What to send along.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})

    @property
    def body(self) -> Record:
        """The official error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> Response:
        return json_response(self.body, self.status, self.headers)


def json_text(value: Any) -> str:
    """JSON without blanks."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with JSON."""
    content = json_text(value).encode("utf-8", "replace")
    return Response(content, status, headers, "application/json")


async def json_body(request: Request) -> Record:
    """The JSON object that was sent."""
    try:
        value = json.loads(await request.body())
    except ValueError:
        raise ApiError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise ApiError(400, "Expected a JSON object as the body of the request.")
    return value


def not_found(what: str, name: str, param: str | None = None, code: str | None = None) -> ApiError:
    """There is no such thing."""
    return ApiError(404, f"No such {what}: {name}", code, param)


def list_page(records: Sequence[Record], query: Mapping[str, str], most: int = 20) -> Record:
    """The part of a list that the parameters ``after`` and ``limit`` name, as the official list object."""
    limit = _limit(query.get("limit"), most)
    start = 0
    if "after" in query:
        places = [at for at, record in enumerate(records) if record["id"] == query["after"]]
        start = places[0] + 1 if places else len(records)
    part = [public(record) for record in records[start : start + limit]]
    ends = {"first_id": part[0]["id"], "last_id": part[-1]["id"]} if part else {"first_id": "", "last_id": ""}
    return {"object": "list", "data": part, "has_more": start + limit < len(records), **ends}


def _limit(text: str | None, most: int) -> int:
    if text is None:
        return most
    if not text.isdigit() or int(text) < 1:
        raise ApiError(
            400, f"Invalid 'limit': expected a whole number of 1 or more, found {text!r}.", None, "limit"
        )
    return int(text)


def metadata_of(body: Mapping[str, Any]) -> dict[str, str] | None:
    """The metadata of a request, within the official bounds."""
    metadata = body.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or len(metadata) > _MOST_METADATA:
        raise ApiError(400, "Invalid 'metadata': expected at most 16 pairs.", None, "metadata")
    for name, value in metadata.items():
        if not isinstance(value, str) or len(name) > 64 or len(value) > 512:
            raise ApiError(
                400, "Invalid 'metadata': a key or value is no text, or too long.", None, "metadata"
            )
    return metadata


def required_text(body: Mapping[str, Any], name: str) -> str:
    """A text that must be there."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    return value


def optional_number(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    """A whole number in bounds, or None where there is none."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ApiError(
            400, f"Invalid '{name}': expected a whole number from {least} to {most}.", "invalid_value", name
        )
    return value
