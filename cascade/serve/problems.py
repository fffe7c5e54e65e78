"""How a request is refused: a status and a body that says what, where, found and expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_SHOWN = 80


@dataclass
class HTTPProblem(Exception):  # noqa: N818 - no error of ours
    """A request that is not answered.

    Attributes
    ----------
    status
        4xx, or 503 for overload.
    title
        What is wrong, as one sentence.
    where
        The place in the request: ``texts[3]``, ``header Host``; empty for all of it.
    found, expected
        What stood there, shortened, and what would be taken.
    headers
        What the answer carries beside its body.
    """

    status: int
    title: str
    where: str = ""
    found: str = ""
    expected: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, str | int]:
        """A problem of RFC 9457 with three keys of our own; empty ones are left out."""
        told = {"where": self.where, "found": self.found, "expected": self.expected}
        filled = {name: value for name, value in told.items() if value}
        return {"type": "about:blank", "title": self.title, "status": self.status, **filled}

    def response(self) -> Response:
        """The answer that carries it."""
        body = json.dumps(self.body()).encode()
        return Response(body, self.status, dict(self.headers), MEDIA_TYPE)


def overloaded(title: str, expected: str, seconds: int = 1) -> HTTPProblem:
    """503, to be tried again after so many seconds."""
    return HTTPProblem(503, title, expected=expected, headers={"Retry-After": str(seconds)})


def shown(value: object) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value) if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
