"""The service: all endpoints under one roof."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cascade import __version__
from cascade.answers import Model
from cascade.serve import described, page
from cascade.serve.asking import parse
from cascade.serve.batching import Batcher
from cascade.serve.gate import Gate
from cascade.serve.limits import Limits
from cascade.serve.meters import Meters
from cascade.serve.refusals import Refusal, overloaded, shown
from cascade.serve.swapping import Shelf
from cascade.tree import of_model

_JSON = "application/json"
_LOG = logging.getLogger("cascade.serve")


class Service:
    """Everything but the socket.

    Parameters
    ----------
    shelf
        Holds the model that answers.
    token
        What clients have to show; empty for nothing.
    loopback
        Whether only this machine is answered.

    Attributes
    ----------
    app
        The whole of it as an ASGI application.
    """

    def __init__(self, shelf: Shelf, limits: Limits, *, token: str = "", loopback: bool = True) -> None:
        self._shelf, self._limits, self._token = shelf, limits, token
        self._meters = Meters()
        self._batcher = Batcher(limits.waiting, hosted=shelf.model.is_hosted, told=self._meters.walked)
        self._bodies = _Bodies(limits)
        self._taxonomy: tuple[str, bytes] = ("", b"")
        self._api = self._described(
            FastAPI(title="Cascade", version=__version__, docs_url=None, redoc_url=None, lifespan=self._life)
        )
        self.app: ASGIApp = Gate(self._dispatched, token, loopback=loopback, answered=self._answered)

    def _described(self, api: FastAPI) -> FastAPI:
        """The endpoints, with what OpenAPI says of them."""
        for kind, handler in ((Refusal, _refused), (HTTPException, _unknown), (Exception, _broken)):
            api.add_exception_handler(kind, handler)
        told = {"requestBody": described.question(self._limits)}
        told_tree = described.answered("The tree.", {"type": "object"})
        told_health = described.answered("They are.", {"type": "object"})
        told_figures = described.plain("The figures.", self._meters.media_type)
        guard = (401, 421) if self._token else (421,)
        mistakes = (400, 408, 413, 415, 422, 503, *guard)
        asked = self._endpoint("Labels of one text or of many", described.ANSWERS, mistakes)
        api.post("/v1/predict", openapi_extra=told, **asked)(self.predict)
        tree = self._endpoint("The tree of groups and labels, with thresholds", told_tree, guard)
        api.get("/v1/taxonomy", **tree)(self.taxonomy)
        api.get("/healthz", **self._endpoint("Whether requests are answered", told_health, (421,)))(
            self.health
        )
        api.get("/metrics", **self._endpoint("Figures for Prometheus", told_figures, guard))(self.metrics)
        api.get("/", include_in_schema=False)(self.front)
        api.get("/docs", include_in_schema=False)(self.docs)
        api.openapi = lambda: self._description  # type: ignore[method-assign]
        return api

    @staticmethod
    def _endpoint(summary: str, answer: dict[str, Any], statuses: tuple[int, ...]) -> dict[str, Any]:
        responses = {200: answer, **described.refusals(*statuses)}
        return {"summary": summary, "response_class": Response, "responses": responses}

    async def _dispatched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Questions go straight to `predict`: to find the way to it would take a third of the time."""
        if scope["type"] != "http" or scope["path"] != "/v1/predict" or scope["method"] != "POST":
            await self._api(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self.predict(request)
        except Refusal as refusal:
            response = refusal.response()
        except Exception as error:
            response = await _broken(request, error)
        await response(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _life(self, _: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(self._shelf.follow())
        try:
            yield
        finally:
            following.cancel()
            await self._batcher.close()

    async def predict(self, request: Request) -> Response:
        """The same rows as cascade predict gives, all from one model, whose digest comes with them."""
        _check_type(request)
        async with self._bodies.of(request) as body:
            asked = parse(body, self._limits.texts)
            model = self._shelf.model
            rows = await self._batcher.ask(model, asked.ids, asked.texts, asked.style)
        return Response(_answers(model, rows), media_type=_JSON)

    async def taxonomy(self, _: Request) -> Response:
        """Names, descriptions, training rows and thresholds of all nodes, and F1s of labels."""
        model = self._shelf.model
        if self._taxonomy[0] != model.digest:
            self._taxonomy = (model.digest, await asyncio.to_thread(_told_taxonomy, model))
        return Response(self._taxonomy[1], media_type=_JSON)

    async def health(self, _: Request) -> Response:
        """Also for who has no token."""
        return Response(b'{"status": "ok"}', media_type=_JSON)

    async def metrics(self, _: Request) -> Response:
        """Requests, texts, walks, what waits, and which model answers."""
        self._meters.waiting.set(self._batcher.waiting)
        self._meters.swaps.set(self._shelf.swaps)
        self._meters.failures.set(self._shelf.failures)
        content = self._meters.page(self._shelf.model.digest)
        return Response(content, headers={"content-type": self._meters.media_type})

    async def front(self, _: Request) -> Response:
        """The page to try the model on."""
        return _html(page.front())

    async def docs(self, _: Request) -> Response:
        """What the OpenAPI description says, to be read."""
        return _html(self._reference)

    @cached_property
    def _reference(self) -> page.Page:
        return page.reference(self._description)

    @cached_property
    def _description(self) -> dict[str, Any]:
        told = get_openapi(title=self._api.title, version=__version__, routes=self._api.routes)
        for methods in told["paths"].values():
            for one in methods.values():
                one["responses"].get("200", {}).get("content", {}).pop("text/plain", None)
        components = told.setdefault("components", {})
        components["schemas"] = described.schemas(self._limits)
        if self._token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path in ("/v1/predict", "/v1/taxonomy", "/metrics"):
                for one in told["paths"][path].values():
                    one["security"] = [{"token": []}]
        return told

    def _answered(self, path: str, status: int, seconds: float) -> None:
        known = path in _KNOWN  # of what anybody may ask for, no count is kept for each
        self._meters.answered(path if known else "other", status, seconds)


_KNOWN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/metrics", "/v1/predict", "/v1/taxonomy"})


def _check_type(request: Request) -> None:
    """Refusal of a body of another type: pages of elsewhere may send those without being asked first."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != _JSON:
        title = "The body has to be called JSON."
        raise Refusal(415, title, "header Content-Type", shown(given) if given else "none", _JSON)


class _Bodies:
    """Reads bodies, and knows how much all of them hold together."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._held = limits, 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request; its room is taken until the block ends.

        Raises
        ------
        Refusal
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
            raise Refusal(408, "The body took too long.", "", f"{len(body)} bytes", expected, late) from error

    async def _refuse(self, request: Request, size: int) -> None:
        """Raise 413, after the rest was read: who is still sending does not hear."""
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._limits.discarded:
                break
        found, expected = f"{size:,} bytes", f"at most {self._limits.body:,} bytes"
        close = {"Connection": "close"}
        raise Refusal(413, "The body is too large.", "", found, expected, close)


def _answers(model: Model, rows: list[bytes]) -> bytes:
    return b'{"model": "%s", "rows": [%s]}\n' % (model.digest.encode(), b", ".join(rows))


def _told_taxonomy(model: Model) -> bytes:
    tree = of_model(model.taxonomy, model.manifest)
    told = {"name": model.taxonomy.name, "model": model.digest, "tree": tree.to_json()}
    return json.dumps(told, ensure_ascii=False).encode()


def _html(one: page.Page) -> Response:
    headers = {"content-security-policy": one.policy, "x-frame-options": "DENY"}
    return Response(one.body, headers=headers, media_type="text/html")


async def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)  # noqa: S101 - what the handler was registered for
    return refusal.response()


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler was registered for
    where, known = f"{request.method} {request.url.path}"[:200], "POST /v1/predict, GET /docs and others"
    return Refusal(error.status_code, error.detail, "", where, known, error.headers or {}).response()


async def _broken(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody is there to read it
    _LOG.error("%s %s", request.method, request.url.path, exc_info=error)
    return Refusal(500, "An error of this service, which its log tells more of.").response()
