"""BodyReader of requests: JSON that nobody vouches for, read within limits and checked by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

from starlette.requests import Request

from cascade.errors import suggestion
from cascade.serve.limits import Limits
from cascade.serve.problems import HTTPProblem, overloaded, shown

_JSON = "application/json"
_SURROGATE = re.compile("[\ud800-\udfff]")


class BodyReader:
    """Reads bodies, and knows how much all of them hold together."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its room is taken until the block ends.

        Raises
        ------
        HTTPProblem
            408, 413 or 503.
        """
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self._held -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > self._limits.body:
                        await self._refuse(request, len(body) + len(chunk))
                    if self._held + len(chunk) > self._limits.held:
                        raise overloaded("Too many bytes are waiting.", "a little patience")
                    body += chunk
                    self._held += len(chunk)
        except TimeoutError as error:
            expected = f"all of it within {self._limits.body_seconds:g} s"
            late = {"Connection": "close"}
            raise HTTPProblem(
                408, "The body took too long.", "", f"{len(body)} bytes", expected, late
            ) from error

    async def _refuse(self, request: Request, size: int) -> None:
        """Raise 413, after the rest was read: who is still sending does not hear."""
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._limits.discarded:
                break
        found, expected = f"{size:,} bytes", f"at most {self._limits.body:,} bytes"
        close = {"Connection": "close"}
        raise HTTPProblem(413, "The body is too large.", "", found, expected, close)


def check_content_type(request: Request) -> None:
    """Raise HTTPProblem for another type: pages of elsewhere may send those without being asked first."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != _JSON:
        title = "The body has to be called JSON."
        raise HTTPProblem(415, title, "header Content-Type", shown(given) if given else "none", _JSON)


# What is in them


def parse_object(body: bytes, expected: str, known: Sequence[str]) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises
    ------
    HTTPProblem
        400 for what is no JSON in UTF-8, 422 for JSON that is no object, where `expected` says what would be
        taken, and for an object with other keys than those that are `known`.
    """
    asked = _decode(body)
    if type(asked) is not dict:
        raise wrong_kind("", asked, expected)
    for key in asked:
        if key not in known:
            hint = suggestion(key[:100], known).strip()
            raise HTTPProblem(
                422, f"Unknown key. {hint}".strip(), found=shown(key), expected=", ".join(known)
            )
    return asked


def _decode(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise HTTPProblem(400, "The body is not JSON.", where, error.msg, "a JSON object") from error
    except UnicodeDecodeError as error:
        found = f"byte 0x{body[error.start]:02x}"
        raise HTTPProblem(400, "The body is not UTF-8.", f"byte {error.start}", found, "UTF-8") from error
    except RecursionError as error:
        raise HTTPProblem(400, "The body is nested too deeply.", expected="a flat JSON object") from error
    except ValueError as error:
        raise HTTPProblem(400, "The body is not JSON.", found=str(error), expected="a JSON object") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def wrong_kind(where: str, found: Any, expected: str) -> HTTPProblem:
    """The refusal of a value of another kind than expected."""
    return HTTPProblem(422, f"{where or 'The body'} is of the wrong kind.", where, shown(found), expected)


def check_text(value: Any, where: str, most: int | None = None) -> str:
    """The value, a text that UTF-8 can carry, of `most` characters at most; HTTPProblem for anything else."""
    if type(value) is not str:
        raise wrong_kind(where, value, "a string")
    if most is not None and len(value) > most:
        found, expected = f"{len(value):,} characters", f"at most {most:,}"
        raise HTTPProblem(422, f"{where} is too long.", where, found, expected)
    if not value.isascii() and _SURROGATE.search(value):
        raise HTTPProblem(422, "Half of a surrogate pair is no text.", where, shown(value), "Unicode text")
    return value
