"""The HTTP protocol of a connection, with an end to everything that a client may begin and not finish."""

from __future__ import annotations

import asyncio
import gc
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cascade.serve.limits import Limits

_FLUSH_SECONDS = 30.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """The protocol of uvicorn, held to limits: time and size of a head, size of a body, open connections."""

    limits: ClassVar[Limits]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._heads = self._head_bytes = self._body_bytes = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.limits.connections:
            self.transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        heads, was_in_body = self._heads, self._in_body
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._expect_head()
        super().data_received(data)
        if self._in_body:
            self._body_bytes += len(data)
            if self._body_bytes > self.limits.body + self.limits.discarded:
                self.transport.abort()
        elif heads == self._heads and not was_in_body:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head:
                self._end(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._forget_deadline()
        self._heads += 1
        self._head_bytes = self._body_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits for a client that does not read its answer; not for ever.
        self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.limits.head_seconds, self._end, _TOO_LATE)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, answer: bytes) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.cycle is None or (self.cycle.response_complete and not self._in_body):
            self.transport.write(answer)
        self.transport.close()


def limited_protocol(limits: Limits) -> type[LimitedProtocol]:
    """`LimitedProtocol` with these limits."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})


def tune_garbage_collector() -> None:
    """Have the collector look at what requests make, not at the model again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
