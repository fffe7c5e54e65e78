"""What waits for a service: calls with many questions, and each question with all calls that wait for it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from cascade.hosted.answer_cache import CachedAnswer
from cascade.hosted.questions import AskingProgress, PendingQuestion


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """An answer, or why there is none."""

    answer: CachedAnswer | None
    why: str = ""


class AskCall:
    """One call of `Asker.ask`, as the loop sees it: how much is missing, and who waits for it.

    Attributes
    ----------
    trouble
        What went wrong since the last answer; empty where nothing did.
    """

    def __init__(self, missing: int) -> None:
        self.done: Future[dict[bytes, FoundAnswer]] = Future()
        self.is_over = False
        self.trouble = ""
        self._found: dict[bytes, FoundAnswer] = {}
        self._missing = missing

    @property
    def progress(self) -> AskingProgress:
        return AskingProgress(len(self._found), self._missing, self.trouble)

    def put(self, key: bytes, found: FoundAnswer) -> None:
        self._found[key] = found
        self.trouble = ""
        if len(self._found) == self._missing and not self.is_over:
            self.is_over = True
            self.done.set_result(self._found)

    def fail(self, error: Exception) -> None:
        if not self.is_over:
            self.is_over = True
            self.done.set_exception(error)


@dataclass(eq=False, slots=True)
class QueuedRequest:
    """A question on its way, with all calls that wait for its answer.

    Attributes
    ----------
    sought_since
        When it was sent, by the clock, where the service may have an answer that did not arrive; None where
        it has none.
    looks
        How often that was looked for since.
    is_kept
        Whether it was sent so that the service keeps the answer.
    without_store
        Whether it is sent without that, as it was refused with it.
    """

    asked: PendingQuestion
    calls: list[AskCall]
    tries: int = 0
    troubles: int = 0
    begun: float = 0.0
    is_probe: bool = False
    sought_since: float | None = None
    looks: int = 0
    is_kept: bool = False
    without_store: bool = False

    @property
    def model(self) -> str:
        return self.asked.question.model

    @property
    def is_wanted(self) -> bool:
        return not all(call.is_over for call in self.calls)

    def end(self, found: FoundAnswer) -> None:
        for call in self.calls:
            call.put(self.asked.key, found)

    def fail(self, error: Exception) -> None:
        for call in self.calls:
            call.fail(error)
