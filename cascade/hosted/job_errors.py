"""What errors of services mean for a fine-tune, and the way out of each."""

from __future__ import annotations

from cascade.hosted.service_errors import ServiceError

CLOSED = "training_not_available"
"""The code with which a service refuses fine-tunes to an organisation for good."""


def names_metadata(error: ServiceError) -> bool:
    return error.trouble == "invalid" and "metadata" in str(error).lower()


def says_too_many(error: ServiceError) -> bool:
    """Some services tell of too many jobs at once with a status other than 429."""
    said = f"{error.code} {error}".lower()
    words = ("too many", "simultaneous", "concurrent", "at the same time")
    speaks_of_jobs = any(word in said for word in ("job", "run", "training"))
    return error.trouble == "invalid" and speaks_of_jobs and any(word in said for word in words)


def says_no_file(error: ServiceError) -> bool:
    """A file that was sent just now may be unknown for some seconds."""
    said = f"{error.code} {error}".lower()
    words = (
        "not found",
        "not exist",
        "no such",
        "not ready",
        "not been processed",
        "not processed",
        "not_found",
    )
    return error.trouble in ("invalid", "missing") and "file" in said and any(word in said for word in words)


def advice_of(error: ServiceError) -> str:
    if error.code == CLOSED:
        return (
            "Name another service by `base_url`, use the embedded model (`backend: linear`), or train the "
            "files of `cascade export` elsewhere"
        )
    return {
        "quota": "Look at the account's balance and limits, then run again: what was made is kept",
        "forbidden": "Check the key and what it may do",
        "invalid": "Change what the message names in the group's options",
        "missing": "Check base_model and base_url",
        "oversized": "",
        "unreachable": "",
    }.get(error.trouble, "Run again later: what was made is kept")


def advice_of_job(code: str, said: str, is_unsafe: bool) -> str:
    words = f"{code} {said}".lower()
    if is_unsafe or "moderation" in words or "unsafe" in words or "safety" in words:
        return (
            "The service's safety checks refuse these texts. Look at the group's rows, or use the embedded "
            "model (`backend: linear`)"
        )
    if "quota" in words or "billing" in words:
        return "Look at the account's balance and limits, then run again"
    if "file" in words or "example" in words:
        return "Look at the lines that `cascade export` writes for this group"
    return "Run again for a new job, or look at this one in the service's console"
