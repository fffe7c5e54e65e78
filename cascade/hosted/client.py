"""Clients of services, which send nothing twice and take no answer larger than it should be."""

from __future__ import annotations

import asyncio
import os
from typing import IO, TYPE_CHECKING

from cascade.errors import BackendError
from cascade.hosted.service_errors import OversizedAnswer
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from openai import AsyncOpenAI

MOST_BYTES = 32 * 1024 * 1024
"""Of any answer but the content of a file; a page of a hundred jobs has less than one."""
_TIMEOUT_SECONDS = 600.0
_DOWNLOAD_SECONDS = 3600.0
_AT_ONCE = 64 * 1024


def key_of(settings: Settings) -> str:
    """The key; BackendError where the variable is not set."""
    if fault := key_fault(settings):
        raise BackendError(fault)
    return os.environ[settings.api_key_env].strip()


def key_fault(settings: Settings) -> str:
    """That there is no key, where the variable is not set or empty, and a way out; else an empty string."""
    if os.environ.get(settings.api_key_env, "").strip():
        return ""
    return (
        f"{settings.address}: no key: the environment variable {settings.api_key_env} is not set. Set "
        "it, or name another one as `api_key_env`; a service without keys takes any word"
    )


def connect(
    settings: Settings, http_client: AsyncClient | None = None, most_bytes: int = MOST_BYTES
) -> AsyncOpenAI:
    """A client of the service that sends nothing twice: who asks decides what may be repeated.

    Parameters
    ----------
    most_bytes
        Of an answer; larger ones are refused before they are held. Contents of files have the limit of
        `download`.

    Raises
    ------
    BackendError
        The package or the key is missing.
    """
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient
    except ModuleNotFoundError as error:
        raise BackendError("hosted models need the package 'openai'. Run: pip install openai") from error
    from cascade.hosted.response_limits import limit_answers

    if http_client is None:
        import httpx2

        most = settings.concurrency + settings.traits.most_jobs
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
        # With the package's own client a question took 1.3 times the processor time.
        http_client = DefaultAioHttpClient(limits=limits, timeout=_TIMEOUT_SECONDS)
    limit_answers(http_client, most_bytes)
    return AsyncOpenAI(
        api_key=key_of(settings),
        base_url=settings.address,
        max_retries=0,
        timeout=_TIMEOUT_SECONDS,
        http_client=http_client,
    )


async def download(client: AsyncOpenAI, file: str, into: IO[bytes], most_bytes: int) -> None:
    """Write the content of a file at the service, piece by piece.

    Raises
    ------
    OversizedAnswer
        It has more than `most_bytes`.
    TimeoutError
        It takes more than an hour.
    """
    size = 0
    async with (
        asyncio.timeout(_DOWNLOAD_SECONDS),
        client.files.with_streaming_response.content(file) as response,
    ):
        async for part in response.iter_bytes(_AT_ONCE):
            size += len(part)
            if size > most_bytes:
                raise OversizedAnswer(f"the content of {file}", most_bytes)
            into.write(part)
