"""Answers that are larger than they should be are refused while they come, packed ones too."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterable, AsyncIterator

from httpx2 import AsyncByteStream, AsyncClient, DecodingError, Response

from cascade.hosted.service_errors import OversizedAnswer

_AT_ONCE = 64 * 1024


def limit_answers(client: AsyncClient, most_bytes: int) -> None:
    """Have a client raise OversizedAnswer for larger answers, except contents of files: see `download`."""

    async def limit(response: Response) -> None:
        is_content = response.request.url.path.endswith("/content") and response.status_code < 400
        response.stream = _LimitedStream(response, None if is_content else most_bytes)

    client.headers["Accept-Encoding"] = "gzip"
    hooks = client.event_hooks
    client.event_hooks = {**hooks, "response": [*hooks.get("response", []), limit]}


class _LimitedStream(AsyncByteStream):
    """The unpacked body of a response, up to so many bytes."""

    def __init__(self, response: Response, most_bytes: int | None) -> None:
        assert isinstance(response.stream, AsyncByteStream)  # noqa: S101 - of an asynchronous client
        self._source, self._most = response.stream, most_bytes
        self._what = f"the answer to {response.request.method} {response.request.url.path}"
        self._is_packed = response.headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip")
        if self._is_packed:
            del response.headers["content-encoding"]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in _unpacked(self._source) if self._is_packed else self._source:
            size += len(part)
            if self._most is not None and size > self._most:
                raise OversizedAnswer(self._what, self._most)
            yield part

    async def aclose(self) -> None:
        await self._source.aclose()


async def _unpacked(parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The content of a compressed body in small pieces, however much a little of it makes."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    async for part in parts:
        left = part
        while left:
            try:
                piece = unpacker.decompress(left, _AT_ONCE)
            except zlib.error as error:
                raise DecodingError(str(error)) from error
            yield piece
            left = unpacker.unconsumed_tail
