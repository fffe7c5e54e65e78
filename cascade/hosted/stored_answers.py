"""Answers that a service keeps: asked for with a mark, and found again by it.

A process that is killed, or a connection that is cut, loses the answers that are on their way, and they are
paid for. A service that was told to ``store`` them lists them, so that they need not be asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.questions import PendingQuestion
from cascade.hosted.service_errors import ServiceError

MARK = "cascade_question"
"""The entry of an answer's metadata by which it is found again: the hash of the question."""
MOST_LISTED = 20
"""An answer has a mark of its own; more are listed only by services that know no filter."""

LIST = "/chat/completions"
_LEAST_SECONDS = 15.0
"""An answer is listed a while after it was given; so long is waited at least."""
_TIMES_THE_LONGEST = 4.0
# After these a service may have answered all the same: there was no answer, or a broken one, or it came from
# what stands before the service, which waited for it in vain. All others say that it has not.
_DOUBTFUL_STATUSES = (None, 200, 408, 502, 504)
_DOUBTFUL_FROM = 520


@dataclass(frozen=True, slots=True)
class Listed:
    """What a service lists for a question.

    Attributes
    ----------
    answer
        What may stand for the answer that was lost; None where there is none.
    is_there
        Whether there was one, be it of no use.
    """

    answer: CachedAnswer | None
    is_there: bool


NOTHING = Listed(None, False)


class StoredAnswers:
    """What one service keeps, and whether it does.

    Parameters
    ----------
    address
        For messages.
    cache
        Where questions are noted that are on their way; without one nothing would ever be looked for, and
        nothing is kept at the service.
    note
        Told at most once, why it is not used.
    most_seconds
        How long an answer is looked for after its question was sent, at most.
    """

    def __init__(
        self, address: str, cache: AnswerCache | None, note: Callable[[str], None], most_seconds: float
    ) -> None:
        self._address, self._cache, self._note, self._most_seconds = address, cache, note, most_seconds
        self._is_used, self._is_taken, self._longest = True, False, 0.0

    @property
    def notes(self) -> AnswerCache | None:
        """Where questions are noted; None where nothing is kept at the service, or not any more."""
        return self._cache if self._is_used else None

    def keeps(self, asked: PendingQuestion) -> bool:
        """Whether the answer to a question is to be kept at the service."""
        return asked.question.settings.store and self.notes is not None

    @property
    def patience_seconds(self) -> float:
        """How long after a question was sent its answer may still come, by those that came."""
        if not self._longest:
            return self._most_seconds
        return min(max(_TIMES_THE_LONGEST * self._longest, _LEAST_SECONDS), self._most_seconds)

    def answered(self, seconds: float, *, was_kept: bool) -> None:
        """A question was answered after so long."""
        self._longest = max(self._longest, seconds)
        self._is_taken = self._is_taken or was_kept

    def may_be_at_fault(self, error: ServiceError) -> bool:
        """Whether a request may have been refused for what makes the service keep its answer."""
        return error.trouble == "invalid" and not self._is_taken

    def refused(self) -> None:
        """The service answered a question that it had refused with what makes it keep the answer."""
        if not self._is_taken:
            self._give_up("takes no `store`, so that it keeps no answers")

    def unlisted(self, error: ServiceError) -> None:
        """The service does not list what it keeps."""
        self._give_up(f"does not list the answers that it keeps ({_bare(error, self._address)})")

    def useless(self) -> None:
        """What is listed lacks the probabilities that were asked for."""
        self._give_up("lists its answers without their probabilities")

    def _give_up(self, why: str) -> None:
        if self._is_used:
            self._is_used = False
            self._note(
                f"{self._address}: {why}: what is on its way when a run is killed is asked, and paid for, "
                "again. Leave `store` away there"
            )


def is_doubtful(error: ServiceError) -> bool:
    """Whether the service may have answered a question all the same."""
    if error.is_unsent:
        return False
    status = error.status
    return status in _DOUBTFUL_STATUSES or (status is not None and status >= _DOUBTFUL_FROM)


def kept_body(asked: PendingQuestion) -> bytes:
    """The body of a question whose answer is to be kept under its mark."""
    told = {"store": True, "metadata": {MARK: asked.key.hex()}}
    return asked.body[:-1] + b"," + json.dumps(told, separators=(",", ":")).encode()[1:]


def query_of(asked: PendingQuestion) -> dict[str, Any]:
    """What the list is asked for."""
    mark = {MARK: asked.key.hex()}
    return {"model": asked.question.model, "metadata": mark, "limit": MOST_LISTED, "order": "desc"}


def listed_in(content: bytes, asked: PendingQuestion) -> Listed:
    """What stands in a list for a question; ValueError where it is no list."""
    body = json.loads(content)
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise ValueError("expected a list")
    ours = [one for one in data if isinstance(one, dict) and _is_marked(one, asked)]
    wants_logprobs = bool(json.loads(asked.body).get("logprobs"))
    for one in ours:
        choices = one.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(choice, dict) and (choice.get("logprobs") or not wants_logprobs):
            usage = one.get("usage")
            return Listed(CachedAnswer(choice, usage if isinstance(usage, dict) else {}), True)
    return Listed(None, bool(ours))


def _is_marked(one: Mapping[str, Any], asked: PendingQuestion) -> bool:
    metadata = one.get("metadata")
    return isinstance(metadata, dict) and metadata.get(MARK) == asked.key.hex()


def _bare(error: ServiceError, address: str) -> str:
    return str(error).removeprefix(f"{address}: ")
