"""The service itself: all endpoints under one roof, and a server that listens on loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cascade.sandbox.batches import Batches, BatchWorker
from cascade.sandbox.chaos import Chaos
from cascade.sandbox.completions import Completions
from cascade.sandbox.decisions import Decisions
from cascade.sandbox.embeddings import Embeddings
from cascade.sandbox.files import Files
from cascade.sandbox.jobs import Jobs
from cascade.sandbox.middleware import Middleware, RequestLog
from cascade.sandbox.models import Models
from cascade.sandbox.rate_limits import RateLimits
from cascade.sandbox.responses import ApiError, json_response
from cascade.sandbox.storage import Storage, public
from cascade.sandbox.trainer import Trainer

_BACKLOG = 2048


@dataclass(frozen=True)
class Options:
    """How a service behaves.

    Attributes
    ----------
    chaos
        Trouble on purpose.
    latency
        Seconds that every answer to a text takes.
    rpm, tpm
        Requests and tokens a minute; None for no limit.
    pace
        Seconds that jobs and batches stay in each state, at least.
    training
        Whether fine-tunes may be started; if not, they are refused as by a service that has closed them.
    max_body_bytes, max_file_bytes
        Of the body of a request, and of a file.
    """

    chaos: Chaos | None = None
    latency: float = 0
    rpm: int | None = None
    tpm: int | None = None
    pace: float = 0
    training: bool = True
    max_body_bytes: int = 32 * 2**20
    max_file_bytes: int = 512 * 2**20


DEFAULT_OPTIONS = Options()


class Service:
    """Everything but the socket; what an earlier process left in the folder is taken up."""

    def __init__(self, folder: Path, options: Options) -> None:
        chaos, pace = options.chaos, options.pace
        self.storage = Storage(folder)
        self.log = RequestLog(folder)
        models = Models(self.storage)
        self.trainer = Trainer(self.storage, chaos, pace)
        self.worker = BatchWorker(self.storage, models, chaos, pace)
        limits = RateLimits(options.rpm, options.tpm)
        self.scoring = Completions(models, chaos, limits, options.latency)
        embeddings = Embeddings(limits, self.scoring.count)
        decisions = Decisions(limits, self.scoring.prompts, self.scoring.count, chaos, options.latency)
        jobs = Jobs(self.storage, chaos, self.trainer, options.training)
        routes = [
            *_scoring_routes(self.scoring),
            Route("/v1/embeddings", embeddings.create, methods=["POST"]),
            Route("/v1/decisions", decisions.create, methods=["POST"]),
            *_model_routes(models),
            *_file_routes(Files(self.storage, chaos)),
            *_job_routes(jobs),
            *_batch_routes(Batches(self.storage, self.worker)),
            Route("/sandbox/requests", self.requests),
        ]
        handlers: dict[Any, Any] = {ApiError: _refused, HTTPException: _unknown}
        app = Starlette(routes=routes, exception_handlers=handlers)
        self.app: ASGIApp = Middleware(app, self.log, chaos, options.max_body_bytes, options.max_file_bytes)

    def start(self) -> None:
        """Take up what is to be done."""
        self.trainer.start()
        self.worker.start()

    def stop(self) -> None:
        """Leave what is under way to the next process."""
        self.trainer.stop()
        self.worker.stop()

    async def requests(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        """What arrived and what was made, for tests."""
        usage = {model: dict(counts) for model, counts in self.scoring.usage.items()}
        jobs = [public(job) for job in self.storage.all("job")]
        files = [public(file) for file in self.storage.all("file")]
        return json_response(
            {"requests": dict(self.log.counts), "jobs": jobs, "files": files, "usage": usage}
        )


def _scoring_routes(scoring: Completions) -> list[Route]:
    return [
        Route("/v1/chat/completions", scoring.stored.list),
        Route("/v1/chat/completions", scoring.chat, methods=["POST"]),
        Route("/v1/completions", scoring.completion, methods=["POST"]),
    ]


def _model_routes(models: Models) -> list[Route]:
    return [
        Route("/v1/models", models.list),
        Route("/v1/models/{name:path}", models.get),
        Route("/v1/models/{name:path}", models.delete, methods=["DELETE"]),
    ]


def _file_routes(files: Files) -> list[Route]:
    return [
        Route("/v1/files", files.list),
        Route("/v1/files", files.create, methods=["POST"]),
        Route("/v1/files/{name}", files.get),
        Route("/v1/files/{name}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{name}/content", files.content),
    ]


def _job_routes(jobs: Jobs) -> list[Route]:
    path = "/v1/fine_tuning/jobs"
    return [
        Route(path, jobs.list),
        Route(path, jobs.create, methods=["POST"]),
        Route(f"{path}/{{name}}", jobs.get),
        Route(f"{path}/{{name}}/cancel", jobs.cancel, methods=["POST"]),
        Route(f"{path}/{{name}}/events", jobs.events),
    ]


def _batch_routes(batches: Batches) -> list[Route]:
    return [
        Route("/v1/batches", batches.list),
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches/{name}", batches.get),
        Route("/v1/batches/{name}/cancel", batches.cancel, methods=["POST"]),
    ]


async def _refused(request: Request, refusal: ApiError) -> Response:  # noqa: ARG001 - a handler's signature
    return refusal.response()


async def _unknown(request: Request, error: HTTPException) -> Response:
    message = f"Invalid URL ({request.method} {request.url.path})"
    return ApiError(error.status_code, message, "unknown_url").response()


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()


def _silent(address: str) -> None:
    """Where nobody wants to know the address."""


def serve(
    folder: Path,
    options: Options = DEFAULT_OPTIONS,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[str], None] = _silent,
) -> None:
    """Serve until Ctrl-C, or until the process ends; nothing is lost either way.

    Parameters
    ----------
    folder
        Where all state is; made where it is missing.
    host, port
        Where to listen; port 0 is any that is free.
    ready
        Called with the base URL, such as ``http://127.0.0.1:43210/v1``, once requests are answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    service = Service(folder, options)
    with socket.create_server((host, port), backlog=_BACKLOG) as listening:
        address = f"http://{host}:{listening.getsockname()[1]}/v1"
        config = uvicorn.Config(
            service.app,
            log_level="critical",  # a connection that is cut on purpose is no error
            access_log=False,
            lifespan="off",
            backlog=_BACKLOG,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        service.start()
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, lambda: ready(address)).run([listening])
        service.stop()
