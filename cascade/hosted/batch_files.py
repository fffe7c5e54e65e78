"""The lines of batch files: questions on their way in, and results on their way out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.hosted.questions import Question


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """A question as it stands in a file."""

    question: Question
    id: str
    line: bytes

    @classmethod
    def of(cls, question: Question) -> BatchQuestion:
        body = question.body()
        name, endpoint = question.key(body).hex(), question.codec.endpoint
        head = json.dumps({"custom_id": name, "method": "POST", "url": endpoint})
        return cls(question, name, head[:-1].encode() + b', "body": ' + body + b"}\n")

    @property
    def group(self) -> tuple[tuple[str, str], str, str]:
        """Questions that may be in one batch have the same one."""
        return self.question.settings.service, self.question.model, self.question.codec.endpoint


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a line has no answer, and whether it may have one next time."""

    why: str
    may_pass: bool


def result_of(line: bytes) -> tuple[str, dict[str, Any] | None, Mapping[str, Any], Failure]:
    """Custom id, choice, usage and failure of a line of a result file; the id is empty where it is none."""
    try:
        told = json.loads(line)
        name = str(told["custom_id"])
        error, response = told.get("error") or {}, told.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            return name, dict(body["choices"][0]), dict(body.get("usage") or {}), Failure("", False)
        error = error or body.get("error") or {}
        code = str(error.get("code") or error.get("type") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _name_of(line), None, {}, Failure("an answer without a choice", True)
    may_pass = not isinstance(status, int) or status in (0, 408, 409, 429) or status >= 500
    return (
        name,
        None,
        {},
        Failure(" ".join(filter(None, (str(status or ""), code))) or "no answer", may_pass),
    )


def _name_of(line: bytes) -> str:
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
        return str(json.loads(line)["custom_id"])
    return ""


def parts_of(
    group: Sequence[BatchQuestion], most_requests: int, most_bytes: int
) -> Iterator[list[BatchQuestion]]:
    """Consecutive questions that fit into one batch."""
    part: list[BatchQuestion] = []
    size = 0
    for one in group:
        if part and (len(part) >= most_requests or size + len(one.line) > most_bytes):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one.line)
    if part:
        yield part
