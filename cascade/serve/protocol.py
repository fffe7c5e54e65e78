"""The HTTP protocol of a connection, with an end to everything that a client may begin and not finish."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cascade.serve.limits import Limits

_FLUSH_SECONDS = 30.0
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class OverLimitError(Exception):
    """Ends the parsing of what a client sends; never leaves this module."""


class LimitedProtocol(HttpToolsProtocol):
    """The protocol of uvicorn, held to limits.

    Limited are time, size and fields of a head, the size of a body, what is asked before an answer was given,
    what clients do not read, and open connections.
    """

    limits: ClassVar[Limits]
    unread: ClassVar[dict[LimitedProtocol, int]]
    """Bytes of answers that are waited with, by their connections."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._heads = self._head_bytes = self._body_bytes = 0
        self._in_body = False
        self._deadline: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._refusal: bytes | None = None
        self._answered: RequestResponseCycle | None = None
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self.limits.connections:
            self.transport.abort()
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        self._forget_unread()
        self._stop_answering()
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

    def on_message_begin(self) -> None:
        self._fields = self._field_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called for the fields of a head, and for those behind a body in chunks."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > self.limits.headers or self._field_bytes > self.limits.head:
            self._refusal = _TOO_LARGE
            raise OverLimitError
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self.limits.pipelined:
            self._refusal = b""
            raise OverLimitError
        self._forget_deadline()
        self._heads += 1
        self._head_bytes = self._body_bytes = 0
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._refusal is None:
            super().send_400_response(msg)
        elif self._refusal:
            self._end(self._refusal)
        else:  # what was asked before is still answered
            self.cycle.keep_alive = False

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits for a client that does not read its answer; not for ever.
        self.loop.call_later(_FLUSH_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        """Called when a client does not read as fast as it is answered."""
        super().pause_writing()
        size = self.transport.get_write_buffer_size()
        # An answer that is larger than all that may wait is still given where nothing else does.
        if self.unread and sum(self.unread.values()) + size > self.limits.held:
            self.transport.abort()
            return
        self.unread[self] = size
        self._expect_reading(size)

    def resume_writing(self) -> None:
        self._forget_unread()
        super().resume_writing()

    def _expect_reading(self, size: int) -> None:
        self._reading = self.loop.call_later(self.limits.unread_seconds, self._check_reading, size)

    def _check_reading(self, before: int) -> None:
        """Cut a connection whose client has read nothing since."""
        size = self.transport.get_write_buffer_size()
        if size >= before:
            self.transport.abort()
        else:
            self.unread[self] = size
            self._expect_reading(size)

    def _forget_unread(self) -> None:
        self.unread.pop(self, None)
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

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
        self._stop_answering()
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def _stop_answering(self) -> None:
        """Have nothing written any more: the base class knows only of the request that came last."""
        self.pipeline.clear()
        if self._answered is not None:
            self._answered.disconnected = True
            self._answered.message_event.set()


def limited_protocol(limits: Limits) -> type[LimitedProtocol]:
    """`LimitedProtocol` with these limits."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits, "unread": {}})


def tune_garbage_collector() -> None:
    """Have the collector look at what requests make, not at the model again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
