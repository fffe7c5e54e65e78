"""Hosts and tokens: which requests reach an endpoint, and what headers every answer carries."""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade.serve.problems import HTTPProblem, shown

OPEN_PATHS = frozenset({"/", "/review", "/healthz", "/docs", "/openapi.json"})
"""What needs no token: it tells nothing of the model, and the page asks for the token itself."""

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]

ResponseCallback = Callable[[str, int, float], None]


class AccessMiddleware:
    """Hands a request on to `app` if its Host and its token are right.

    Parameters
    ----------
    token
        What a client has to show; empty for nothing.
    loopback
        Whether only names of this machine are taken as Host. A page of elsewhere whose own name was made to
        point to this machine could otherwise read what it is answered.
    on_response
        Called with path, status and seconds of each request.
    """

    def __init__(self, app: ASGIApp, token: str, *, loopback: bool, on_response: ResponseCallback) -> None:
        self._app, self._on_response, self._loopback = app, on_response, loopback
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
                self._on_response(scope["path"], message["status"], time.perf_counter() - started)
            await send(message)

        try:
            self._check(scope)
        except HTTPProblem as refusal:
            await refusal.response()(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        """Raise HTTPProblem for a request that may not enter."""
        if self._loopback:
            _check_host(scope)
        if self._token and scope["path"] not in OPEN_PATHS:
            self._check_token(scope)

    def _check_token(self, scope: Scope) -> None:
        scheme, _, given_token = (_header(scope, b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given_token.strip(), self._token):
            expected = "Authorization: Bearer and the token of this service"
            found = "another token" if scheme else "none"
            headers = {"WWW-Authenticate": "Bearer"}
            raise HTTPProblem(401, "A token is needed.", "header Authorization", found, expected, headers)


def _check_host(scope: Scope) -> None:
    host = _header(scope, b"host")
    name = _without_port((host or b"").decode("latin-1"))
    if name == "localhost" or name.endswith(".localhost") or is_loopback(name):
        return
    found = "none, or several" if host is None else shown(host.decode("latin-1"))
    expected = "localhost, 127.0.0.1 or [::1]"
    raise HTTPProblem(
        421, "This service answers to names of this machine only.", "header Host", found, expected
    )


def _header(scope: Scope, name: bytes) -> bytes | None:
    """The one header of that name; None where there is none, or more than one."""
    found = [value for key, value in scope["headers"] if key == name]
    return found[0] if len(found) == 1 else None


def _without_port(host: str) -> str:
    name, mark, port = host.rpartition(":")
    bare = name if mark and port.isdecimal() else host
    return bare.removeprefix("[").removesuffix("]").lower()


def is_loopback(address: str) -> bool:
    """Whether an IP address is one that only this machine reaches."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
