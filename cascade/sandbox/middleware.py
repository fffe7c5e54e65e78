"""What stands before all endpoints: keys, the log of requests, the size of bodies, and trouble on purpose."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.rate_limits import retry_after
from cascade.sandbox.responses import ApiError

_NAMES = re.compile(r"/(?:file-|ftjob-|batch_)[^/]*|(?<=/models)/.+")
# What costs, or makes something new: a network that delivers these twice leaves a client no defence.
_FORM_BYTES = 64 * 1024  # what a form has beside its file
_COSTLY = ("/v1/files", "/v1/fine_tuning/jobs", "/v1/batches")


class RequestLog:
    """Counts requests, over restarts: one line each in ``requests.log``.

    Attributes
    ----------
    counts
        How many requests of each kind arrived: ``POST /v1/files``, ``GET /v1/files/{id}``, ...
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "requests.log"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self.counts: Counter[str] = Counter(lines)
        self._file = path.open("ab", buffering=0)

    def add(self, scope: Scope) -> None:
        """Note a request as it arrives."""
        line = f"{scope['method']} {_NAMES.sub('/{id}', scope['path'])}"
        self.counts[line] += 1
        self._file.write(line.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        self._file.close()


class Middleware:
    """Lets requests with any bearer token in, as chaos allows.

    Parameters
    ----------
    max_body_bytes, max_file_bytes
        Of the body of any request, and of one that brings a file; larger ones get 413 and are not held.
    """

    def __init__(
        self, app: ASGIApp, log: RequestLog, chaos: Chaos | None, max_body_bytes: int, max_file_bytes: int
    ) -> None:
        self._app, self._log, self._chaos = app, log, chaos
        self._max_body, self._max_upload = max_body_bytes, max_file_bytes + _FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        self._log.add(scope)
        if not _has_key(scope):
            await _no_key().response()(scope, receive, send)
            return
        fault = self._chaos.fault() if self._chaos else ""
        brings_file = (scope["method"], scope["path"]) == ("POST", "/v1/files")
        try:
            body = _limited(scope, receive, self._max_upload if brings_file else self._max_body)
            await self._pass(fault, scope, body, send)
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)

    async def _pass(self, fault: str, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(fault)
        if refusal:
            await refusal.response()(scope, receive, send)
            return
        if fault == "slow" and self._chaos:
            await asyncio.sleep(self._chaos.pause)
        if fault == "cut_after":
            await self._app(scope, receive, _nowhere)
        if fault in ("cut_before", "cut_after"):
            await _cut(send)
            return
        if fault == "twice" and not (scope["method"] == "POST" and scope["path"] in _COSTLY):
            receive = await _kept(receive)
            await self._app(dict(scope), receive, _nowhere)
        await self._app(scope, receive, send)

    def _refusal(self, fault: str) -> ApiError | None:
        if fault == "limit" and self._chaos:
            left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "500"}
            left["x-ratelimit-reset-requests"] = f"{int(self._chaos.pause * 1000)}ms"
            message = "Rate limit reached for requests. Please try again later."
            return ApiError(429, message, "rate_limit_exceeded", None, left | retry_after(self._chaos.pause))
        if fault == "error":
            return ApiError(500, "The server had an error while processing your request.")
        if fault == "overloaded":
            return ApiError(503, "The engine is currently overloaded.", "server_is_overloaded")
        return None


def _limited(scope: Scope, receive: Receive, most: int) -> Receive:
    """The body of a request, up to so many bytes; ApiError for what is larger, or says that it is."""
    told = dict(scope["headers"]).get(b"content-length", b"")
    if told.isdigit() and int(told) > most:
        raise _too_large(most)
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise _too_large(most)
        return message

    return limited


def _too_large(most: int) -> ApiError:
    message = f"The body of the request is larger than {most / 2**20:,.0f} MiB."
    # What is left of the body is not read.
    return ApiError(413, message, "request_too_large", headers={"connection": "close"})


def _has_key(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return bool((scheme.lower() == b"bearer" and key.strip()) or headers.get(b"api-key", b"").strip())


def _no_key() -> ApiError:
    return ApiError(401, "You didn't provide an API key. Provide it as a bearer token.", "invalid_api_key")


async def _nowhere(message: Message) -> None:
    """An answer that nobody hears."""


async def _cut(send: Send) -> None:
    """Begin an answer and leave: the server closes a connection whose answer is not whole."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})


async def _kept(receive: Receive) -> Receive:
    """The same request, which may be received again and again."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return again
