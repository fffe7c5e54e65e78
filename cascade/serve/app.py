"""The service: all endpoints under one roof."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from cascade import __version__
from cascade.predict.answers import Model
from cascade.serve import openapi, pages
from cascade.serve.authentication import OPEN_PATHS, AccessMiddleware
from cascade.serve.batching import Batcher
from cascade.serve.explaining import Explainer
from cascade.serve.limits import Limits
from cascade.serve.metrics import Metrics
from cascade.serve.predict_request import parse
from cascade.serve.problems import HTTPProblem
from cascade.serve.reloading import ModelReloader
from cascade.serve.request_body import BodyReader, check_content_type
from cascade.serve.review_endpoints import ReviewEndpoints
from cascade.serve.taxonomy_answer import TaxonomyAnswer
from cascade.teach.review import Review

_JSON = "application/json"
_LOG = logging.getLogger("cascade.serve")


class Service:
    """Everything but the socket.

    Parameters
    ----------
    reloader
        Holds the model that answers.
    review
        A queue to be looked at, and its answers; None for none.
    token
        What clients have to show; empty for nothing.
    loopback
        Whether only this machine is answered.

    Attributes
    ----------
    app
        The whole of it as an ASGI application.
    """

    def __init__(
        self,
        reloader: ModelReloader,
        limits: Limits,
        *,
        review: Review | None = None,
        token: str = "",
        loopback: bool = True,
    ) -> None:
        self._reloader, self._limits, self._token = reloader, limits, token
        self._metrics = Metrics()
        self._batcher = Batcher(
            limits.waiting, hosted=reloader.model.is_hosted, on_walk=self._metrics.count_walk
        )
        self._explainer = Explainer()
        self._reviews = None if review is None else ReviewEndpoints(review, lambda: reloader.model)
        self._bodies = BodyReader(limits)
        self._taxonomy = TaxonomyAnswer("", b"", b"")
        self._described_names: tuple[str, ...] | None = None
        self._api = self._with_endpoints(
            FastAPI(
                title="Cascade", version=__version__, docs_url=None, redoc_url=None, lifespan=self._lifespan
            )
        )
        self.app: ASGIApp = AccessMiddleware(
            self._dispatch, token, loopback=loopback, on_response=self._count_request
        )

    def _with_endpoints(self, api: FastAPI) -> FastAPI:
        """The endpoints, with what OpenAPI says of them."""
        for kind, handler in (
            (HTTPProblem, _problem_response),
            (HTTPException, _unknown_path),
            (Exception, _internal_error),
        ):
            api.add_exception_handler(kind, handler)
        tree_answer = openapi.json_response("The tree.", {"type": "object"})
        health_answer = openapi.json_response("They are.", {"type": "object"})
        metrics_answer = openapi.text_response("The figures.", self._metrics.media_type)
        guard = (401, 421) if self._token else (421,)
        mistakes = (400, 408, 413, 415, 422, 503, *guard)
        asked = self._endpoint("Labels of one text or of many", openapi.ANSWERS, mistakes)
        told = {"requestBody": openapi.predict_body(self._limits)}
        api.post("/v1/predict", openapi_extra=told, **asked)(self.predict)
        wondering = openapi.request_body("Wondering", {"text": "where is my refund?"})
        why = self._endpoint("Why a text gets its labels", openapi.EXPLANATION, mistakes)
        api.post("/v1/explain", openapi_extra={"requestBody": wondering}, **why)(self.explain)
        tree = self._endpoint("The tree of groups and labels, with thresholds", tree_answer, guard)
        api.get("/v1/taxonomy", **tree)(self.taxonomy)
        api.get("/healthz", **self._endpoint("Whether requests are answered", health_answer, (421,)))(
            self.health
        )
        api.get("/metrics", **self._endpoint("Figures for Prometheus", metrics_answer, guard))(self.metrics)
        api.get("/", include_in_schema=False)(self.home)
        api.get("/docs", include_in_schema=False)(self.docs)
        if self._reviews is not None:
            self._add_review_endpoints(api, self._reviews, mistakes, guard)
        api.openapi = self._describe  # type: ignore[method-assign]
        return api

    def _add_review_endpoints(
        self, api: FastAPI, reviews: ReviewEndpoints, mistakes: tuple[int, ...], guard: tuple[int, ...]
    ) -> None:
        """The endpoints of a queue, with what OpenAPI says of them."""
        told = openapi.ROW

        async def overview(_: Request) -> Response:
            return await reviews.overview()

        async def following(request: Request) -> Response:
            async with self._json(request) as body:
                return await reviews.next(body)

        async def release(request: Request) -> Response:
            async with self._json(request) as body:
                return await reviews.release(body)

        async def row(request: Request) -> Response:
            return await reviews.row(request.path_params["key"])

        async def put(request: Request) -> Response:
            async with self._json(request) as body:
                return await reviews.put(request.path_params["key"], body)

        async def undo(request: Request) -> Response:
            return await reviews.undo(request.path_params["key"], request.query_params.get("seen", ""))

        path, key = f"{_ROWS}/{{key}}", {"parameters": openapi.KEY}
        all_rows = self._endpoint("The rows of the queue", openapi.OVERVIEW, (422, *guard))
        api.get("/v1/review", **all_rows)(overview)
        asking = {
            "requestBody": openapi.request_body("ReviewAsked", {"tab": "1"}, "Another tab, another name.")
        }
        one = self._endpoint("The next row", openapi.NEXT, mistakes)
        api.post("/v1/review/next", openapi_extra=asking, **one)(following)
        leaving = {"requestBody": openapi.request_body("ReviewTab", {"tab": "1"})}
        freed = self._endpoint("Have the row of a closed tab handed out again", openapi.RELEASED, mistakes)
        api.post("/v1/review/release", openapi_extra=leaving, **freed)(release)
        api.get(path, openapi_extra=key, **self._endpoint("A row", told, (404, 422, *guard)))(row)
        answering = {
            **key,
            "requestBody": openapi.request_body("ReviewAnswer", {"labels": [], "note": "odd"}),
        }
        taken = self._endpoint("Answer a row", told, (404, 409, *mistakes))
        api.put(path, openapi_extra=answering, **taken)(put)
        undone = self._endpoint("Take an answer back", told, (404, 409, 422, *guard))
        api.delete(path, openapi_extra={"parameters": openapi.KEY_AND_SEEN}, **undone)(undo)
        api.get("/review", include_in_schema=False)(self.review_page)

    @staticmethod
    def _endpoint(summary: str, answer: dict[str, Any], statuses: tuple[int, ...]) -> dict[str, Any]:
        responses = {200: answer, **openapi.problem_responses(*statuses)}
        return {"summary": summary, "response_class": Response, "responses": responses}

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Questions go straight to `predict`: to find the way to it would take a third of the time."""
        if scope["type"] != "http" or scope["path"] != "/v1/predict" or scope["method"] != "POST":
            await self._api(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self.predict(request)
        except HTTPProblem as refusal:
            response = refusal.response()
        except Exception as error:
            response = await _internal_error(request, error)
        await response(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(self._reloader.watch())
        try:
            yield
        finally:
            following.cancel()
            await self._batcher.close()

    async def predict(self, request: Request) -> Response:
        """The same rows as cascade predict gives, all from one model, whose digest comes with them."""
        async with self._json(request) as body:
            asked = parse(body, self._limits.texts)
            model = self._reloader.model
            rows = await self._batcher.ask(model, asked.ids, asked.texts, asked.style)
        return Response(_response_body(model, rows), media_type=_JSON)

    async def explain(self, request: Request) -> Response:
        """The walk of a text with every score, threshold and decision, and what words did."""
        async with self._json(request) as body:
            found = await self._explainer.answer(self._reloader.model, body)
        return Response(found, media_type=_JSON)

    @contextlib.asynccontextmanager
    async def _json(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request that says it is JSON; its room is taken until the block ends."""
        check_content_type(request)
        async with self._bodies.of(request) as body:
            yield body

    async def taxonomy(self, request: Request) -> Response:
        """Names, descriptions, training rows and thresholds of all nodes, and F1s of labels."""
        model = self._reloader.model
        if self._taxonomy.model != model.digest:
            self._taxonomy = await asyncio.to_thread(TaxonomyAnswer.of, model)
        return self._taxonomy.response(request)

    async def health(self, _: Request) -> Response:
        """Also for who has no token."""
        return Response(b'{"status": "ok"}', media_type=_JSON)

    async def metrics(self, _: Request) -> Response:
        """Requests, texts, walks, what waits, and which model answers."""
        self._metrics.waiting.set(self._batcher.waiting)
        self._metrics.reloads.set(self._reloader.reloads)
        self._metrics.failures.set(self._reloader.failures)
        content = self._metrics.render(self._reloader.model.digest)
        return Response(content, headers={"content-type": self._metrics.media_type})

    async def home(self, _: Request) -> Response:
        """The page to try the model on."""
        return _html_response(pages.home(review=self._reviews is not None))

    async def review_page(self, _: Request) -> Response:
        """The page that shows the rows of the queue, one at a time."""
        return _html_response(pages.review())

    async def docs(self, _: Request) -> Response:
        """What the OpenAPI description says, to be read."""
        self._describe()
        return _html_response(self._reference)

    def _describe(self) -> dict[str, Any]:
        """The OpenAPI description, and the page of it; its names are those of the model that answers."""
        # Anybody may read the description, but not what stands behind a token.
        names = () if self._token or self._reviews is None else self._reviews.names
        if names != self._described_names:
            self._description, self._described_names = self._described(names), names
            self._reference = pages.api_reference(self._description)
        return self._description

    def _described(self, names: tuple[str, ...]) -> dict[str, Any]:
        told = get_openapi(title=self._api.title, version=__version__, routes=self._api.routes)
        for methods in told["paths"].values():
            for one in methods.values():
                one["responses"].get("200", {}).get("content", {}).pop("text/plain", None)
        components = told.setdefault("components", {})
        components["schemas"] = openapi.schemas(self._limits)
        if self._reviews is not None:
            components["schemas"] |= openapi.review_schemas(names)
        if self._token:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path in told["paths"].keys() - OPEN_PATHS:
                for one in told["paths"][path].values():
                    one["security"] = [{"token": []}]
        return told

    def _count_request(self, path: str, status: int, seconds: float) -> None:
        path = _ROWS if path.startswith(_ROWS) else path
        known = path in _KNOWN  # of what anybody may ask for, no count is kept for each
        self._metrics.count_request(path if known else "other", status, seconds)


_ROWS = "/v1/review/rows"
_KNOWN = frozenset(
    {"/", "/docs", "/healthz", "/metrics", "/openapi.json", "/review", "/v1/explain", "/v1/predict"}
    | {"/v1/review", "/v1/review/next", "/v1/review/release", _ROWS, "/v1/taxonomy"}
)


def _response_body(model: Model, rows: list[bytes]) -> bytes:
    return b'{"model": "%s", "rows": [%s]}\n' % (model.digest.encode(), b", ".join(rows))


def _html_response(one: pages.Page) -> Response:
    headers = {"content-security-policy": one.policy, "x-frame-options": "DENY"}
    return Response(one.body, headers=headers, media_type="text/html")


async def _problem_response(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, HTTPProblem)  # noqa: S101 - what the handler was registered for
    return refusal.response()


async def _unknown_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler was registered for
    where, known = f"{request.method} {request.url.path}"[:200], "POST /v1/predict, GET /docs and others"
    headers = (
        {"Allow": ", ".join(_allowed_methods(request))} if error.status_code == 405 else error.headers or {}
    )
    return HTTPProblem(error.status_code, error.detail, "", where, known, headers).response()


def _allowed_methods(request: Request) -> list[str]:
    """The methods of a path; the framework knows only those of the first of its routes."""
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
    return sorted({method for route in fitting for method in route.methods})


async def _internal_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # nobody is there to read it
    _LOG.error("%s %s", request.method, request.url.path, exc_info=error)
    return HTTPProblem(500, "An error of this service, which its log tells more of.").response()
