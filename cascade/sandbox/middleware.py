"""What stands before all endpoints: who may enter, the log of requests, and trouble on purpose."""

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
    """Lets requests with any bearer token in, as chaos allows."""

    def __init__(self, app: ASGIApp, log: RequestLog, chaos: Chaos | None) -> None:
        self._app, self._log, self._chaos = app, log, chaos

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        self._log.add(scope)
        if not _has_key(scope):
            await _no_key().response()(scope, receive, send)
            return
        fault = self._chaos.fault() if self._chaos else ""
        await self._pass(fault, scope, receive, send)

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
