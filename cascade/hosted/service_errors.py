"""What services answer instead of what was asked for, in words of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import BackendError

if TYPE_CHECKING:
    from openai import APIConnectionError

Trouble = Literal[
    "limit",  # too much at once: wait as long as it says
    "daily",  # enough for today: wait long
    "overloaded",  # the service has too much to do: wait longer
    "loading",  # an idle model wakes up: wait
    "quota",  # no money or no right: waiting never helps
    "forbidden",  # this key may not do this
    "missing",  # there is no such thing, or not yet
    "invalid",  # the request itself is at fault
    "lost",  # nobody knows whether it arrived
    "broken",  # the service failed
    "oversized",  # the answer is larger than any should be, and was not taken
    "unreachable",  # it was waited for long enough
]
TRANSIENT: frozenset[str] = frozenset({"limit", "overloaded", "loading", "lost", "broken"})
"""Troubles that are worth another try of a request that may be sent twice."""
DOUBTFUL: frozenset[str] = frozenset({"lost", "broken", "overloaded"})
"""Troubles after which nobody knows whether the service did what it was asked for."""


class ServiceError(BackendError):
    """What a service answered instead of what was asked for.

    Attributes
    ----------
    trouble
        What kind it is.
    status
        The HTTP status; None where there was no answer.
    code
        The service's own word, or an empty string.
    retry_after
        Seconds that it asks to wait; None where it does not say.
    is_unsent
        Whether the request has surely not arrived: there was no connection.
    """

    def __init__(
        self,
        message: str,
        trouble: Trouble,
        status: int | None,
        code: str,
        retry_after: float | None,
        *,
        is_unsent: bool = False,
    ) -> None:
        super().__init__(message)
        self.trouble, self.status, self.code, self.retry_after = trouble, status, code, retry_after
        self.is_unsent = is_unsent


class OversizedAnswer(Exception):  # noqa: N818 - it says of an answer what it is
    """An answer is larger than any of its kind should be; no more of it was taken than is allowed."""

    def __init__(self, what: str, most_bytes: int) -> None:
        super().__init__(f"{what} is larger than {most_bytes / 2**20:,.0f} MiB, and was refused")


def service_error(error: Exception, address: str) -> ServiceError:
    """An error of the ``openai`` package as one of ours; what is no error of it is raised as it is.

    The message has no key and no text of a row: services quote both, so that it is their code and the head of
    their sentence only where nothing of that can stand in it.
    """
    import httpx2
    import openai

    if (oversized := _oversized(error)) is not None:
        message = f"{address}: {oversized}. Check what listens there (base_url)"
        return ServiceError(message, "oversized", 200, "", None)
    if isinstance(error, TimeoutError):
        return ServiceError(f"{address}: no answer in time", "lost", None, "", None)
    if isinstance(error, httpx2.RequestError):  # a body that is read piece by piece
        return ServiceError(f"{address}: the answer broke off: {_type_name(error)}", "lost", None, "", None)
    if isinstance(error, openai.APIConnectionError):
        reason = _reason_of_silence(error)
        return ServiceError(f"{address}: {reason}", "lost", None, "", None, is_unsent=_is_unsent(error))
    if isinstance(error, openai.APIResponseValidationError):
        return ServiceError(f"{address}: an answer that is no JSON of this kind", "broken", 200, "", None)
    if not isinstance(error, openai.APIStatusError):
        raise error
    code, said = _code_and_message(error)
    trouble = _trouble_of(error.status_code, code, said)
    message = f"{address}: {error.status_code} {code or trouble}"
    if trouble not in ("quota", "forbidden") and error.status_code in (400, 404, 409, 422):
        message += f": {without_secrets(said)}"
    return ServiceError(
        message + _advice(trouble, code), trouble, error.status_code, code, _retry_after(error)
    )


def _oversized(error: BaseException | None) -> OversizedAnswer | None:
    """The refusal that an error was made of, if it was."""
    while error is not None and not isinstance(error, OversizedAnswer):
        error = error.__cause__ or error.__context__
    return error


def _is_unsent(error: BaseException | None) -> bool:
    """Whether no connection came about, by what an error was made of."""
    import aiohttp
    import httpx2

    while error is not None and not isinstance(error, aiohttp.ClientConnectorError | httpx2.ConnectError):
        error = error.__cause__ or error.__context__
    return error is not None


def _reason_of_silence(error: APIConnectionError) -> str:
    """Why there is no answer; the transport tells every lost connection as a timeout."""
    import aiohttp
    from openai import APITimeoutError

    cause = error.__cause__ and (error.__cause__.__cause__ or error.__cause__)
    is_late = isinstance(error, APITimeoutError) and not isinstance(cause, aiohttp.ClientConnectionError)
    if is_late or isinstance(cause, aiohttp.ServerTimeoutError):
        return "no answer in time"
    return f"cannot be reached, or hung up: {_type_name(cause)}"


def _code_and_message(error: Any) -> tuple[str, str]:
    """Code and sentence of an error, which services put into different places."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    told = inner if isinstance(inner, dict) else body
    code = told.get("code") or told.get("type") or ""
    return str(code), str(told.get("message") or "")


def _trouble_of(status: int, code: str, said: str) -> Trouble:
    if code in ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"):
        return "quota"
    if status == 429:
        if code.startswith("daily_") or "per day" in said:
            return "daily"
        return "loading" if "still being loaded" in said else "limit"
    by_status: dict[int, Trouble] = {401: "forbidden", 402: "quota", 403: "forbidden", 404: "missing"}
    by_status |= {408: "lost", 503: "overloaded"}
    if status in by_status:
        return by_status[status]
    return "broken" if status >= 500 else "invalid"


def _advice(trouble: Trouble, code: str) -> str:
    if code == "training_not_available":
        return (
            ". This organisation may not start fine-tunes there (OpenAI closes them). Use another service by "
            "`base_url`, the embedded model (`backend: linear`), or train the files of `cascade export` "
            "elsewhere"
        )
    return {
        "quota": ". Waiting does not help: look at the account's balance and limits",
        "forbidden": ". Check the key and what it may do",
        "daily": ". The limit of the day is reached",
    }.get(trouble, "")


def _retry_after(error: Any) -> float | None:
    headers = error.response.headers
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < 86_400:
            return seconds
    return None


_SECRET = re.compile(r"\b(sk|key|Bearer)[-_ ][\w*.-]{4,}", re.IGNORECASE)
_LONGEST_QUOTE = 160


def without_secrets(said: str) -> str:
    """The head of a service's sentence without what looks like a key, and without what it quotes."""
    bare = re.sub(r"(['\"`]).{40,}?\1", "'...'", _SECRET.sub("...", " ".join(said.split())))
    return bare[:_LONGEST_QUOTE]


def _type_name(cause: BaseException | None) -> str:
    return type(cause).__name__ if cause is not None else "no reason given"
