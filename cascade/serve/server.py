"""A socket, a process that listens, and how both end."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from cascade.errors import DataError
from cascade.predict.answers import Model
from cascade.serve.app import Service
from cascade.serve.authentication import is_loopback
from cascade.serve.limits import Limits
from cascade.serve.protocol import limited_protocol, tune_garbage_collector
from cascade.serve.reloading import Log, ModelReloader
from cascade.teach.review import Review

_BACKLOG = 2048
_GRACE_SECONDS = 30
_KEEP_ALIVE_SECONDS = 75
_LEAST_TOKEN = 16
# A thread that computes would keep the one that answers waiting for 5 ms at a time.
_SWITCH_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, and what has to be shown there; `token` is empty where nothing has to be."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)


class _UvicornServer(uvicorn.Server):
    """Says when it listens, and ends on a signal as if it had been told to."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {one: signal.signal(one, self.handle_exit) for one in signals}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


def serve(
    folder: Path,
    load: Callable[[Path], Model],
    address: Address,
    limits: Limits,
    *,
    review: Review | None = None,
    log: Log,
    ready: Callable[[str], None],
) -> None:
    """Answer requests until SIGTERM or SIGINT; those in flight are answered first.

    Parameters
    ----------
    folder, load
        The model folder, and what makes a model of it.
    address
        Where to listen; port 0 is any that is free.
    review
        A queue to be looked at, and its answers.
    log
        Gets a line about each event.
    ready
        Called with the base URL once requests are answered.

    Raises
    ------
    DataError
        The address cannot be had, or is open to other machines and there is no token, or a short one.
    ModelError
        There is no model that can answer.
    """
    family, where = _resolve(address)
    loopback = is_loopback(where)
    _check_token(address, where, loopback=loopback)
    with _open_socket(family, where, address) as listening:
        reloader = ModelReloader(folder, load, log)
        service = Service(reloader, limits, review=review, token=address.token, loopback=loopback)
        tune_garbage_collector()
        sys.setswitchinterval(_SWITCH_SECONDS)
        url = _url(where, listening.getsockname()[1])
        _send_errors_to(log)
        _UvicornServer(_config(service, limits), lambda: ready(url)).run([listening])


def _config(service: Service, limits: Limits) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        http=limited_protocol(limits),
        ws="none",
        loop="auto",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _resolve(address: Address) -> tuple[int, str]:
    """Family and number of the address."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"--host {address.host}: {error}; expected a name or an address of this machine: 127.0.0.1"
        ) from error
    family, _, _, _, where = found[0]
    return family, str(where[0])


def _check_token(address: Address, where: str, *, loopback: bool) -> None:
    token = address.token
    if not token and not loopback:
        raise DataError(
            f"--host {address.host}: other machines reach {where}, so a token is needed. Put one into an "
            "environment variable and name that: --token-env NAME; or listen on 127.0.0.1"
        )
    is_plain = token.isascii() and token.isprintable() and " " not in token
    if token and not (is_plain and len(token) >= _LEAST_TOKEN):
        raise DataError(
            f"--token-env: the token is too short, or has blanks; expected {_LEAST_TOKEN} ASCII characters "
            "or more, such as `openssl rand -hex 32` gives"
        )


@contextlib.contextmanager
def _open_socket(family: int, where: str, address: Address) -> Iterator[socket.socket]:
    try:
        listening = socket.create_server((where, address.port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise DataError(
            f"{_url(where, address.port)}: cannot listen there: {error}. Give another --port, or 0 for any"
        ) from error
    with listening:
        yield listening


def _url(where: str, port: int) -> str:
    return f"http://[{where}]:{port}" if ":" in where else f"http://{where}:{port}"


class _LineHandler(logging.Handler):
    """Hands each record on as a line."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log(self.format(record))


def _send_errors_to(log: Log) -> None:
    """Have errors of the service told; what clients do wrong is in the metrics."""
    for name in ("uvicorn", "cascade.serve"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [_LineHandler(log)], False
        logger.setLevel(logging.ERROR)
