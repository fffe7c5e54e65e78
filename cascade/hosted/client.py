"""Clients of services, which send nothing twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cascade.errors import BackendError
from cascade.hosted.settings import Settings

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from openai import AsyncOpenAI

_TIMEOUT_SECONDS = 600.0


def key_of(settings: Settings) -> str:
    """The key; BackendError where the variable is not set."""
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise BackendError(
            f"{settings.address}: no key: the environment variable {settings.api_key_env} is not set. Set "
            "it, or name another one as `api_key_env`; a service without keys takes any word"
        )
    return key


def connect(settings: Settings, http_client: AsyncClient | None = None) -> AsyncOpenAI:
    """A client of the service that sends nothing twice: who asks decides what may be repeated.

    Raises
    ------
    BackendError
        The package or the key is missing.
    """
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient
    except ModuleNotFoundError as error:
        raise BackendError("hosted models need the package 'openai'. Run: pip install openai") from error
    if http_client is None:
        import httpx2

        most = settings.concurrency + settings.traits.most_jobs
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
        # With the package's own client a question took 1.3 times the processor time.
        http_client = DefaultAioHttpClient(limits=limits, timeout=_TIMEOUT_SECONDS)
    return AsyncOpenAI(
        api_key=key_of(settings),
        base_url=settings.address,
        max_retries=0,
        timeout=_TIMEOUT_SECONDS,
        http_client=http_client,
    )
