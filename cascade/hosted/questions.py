"""Questions to a model at a service, what came of them, and what they used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cascade.hosted.logprobs import UnreadableAnswer
from cascade.hosted.settings import Settings
from cascade.system.array_types import FloatArray

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Written:
    """An answer in words, as JSON values, where that is what was asked for."""

    values: Mapping[str, Any]


class QuestionCodec(Protocol):
    """A way to ask about a text."""

    @property
    def endpoint(self) -> str:
        """Where it is asked, such as ``/v1/chat/completions``."""
        ...

    def request(self, text: str) -> dict[str, Any]:
        """The body of a question about one text, without its ``model``."""
        ...

    def read(self, choice: Mapping[str, Any]) -> FloatArray | Written:
        """The scores, float32, of what was answered, or its words; UnreadableAnswer where it is none."""
        ...


@dataclass(frozen=True)
class Question:
    """One text, to be asked of one model in the way of `codec`."""

    model: str
    settings: Settings
    codec: QuestionCodec
    text: str

    @property
    def is_kept(self) -> bool:
        """Whether its answer is kept as it came; vectors have a cache of their own, by text."""
        return self.codec.endpoint != "/v1/embeddings"

    def body(self) -> bytes:
        """The request's body; equal questions have equal bodies."""
        body = {"model": self.model, **self.codec.request(self.text)}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def key(self, body: bytes) -> bytes:
        """What the answer is kept under, for the question with this body."""
        address, endpoint = self.settings.address, self.codec.endpoint
        return hashlib.sha256(
            b"\0".join((b"%d" % _VERSION, address.encode(), endpoint.encode(), body))
        ).digest()


@dataclass(frozen=True, slots=True)
class PendingQuestion:
    """A question as it is sent.

    Attributes
    ----------
    sent_seconds
        How long ago it was sent before, to a service that keeps answers, without an answer being known; None
        where it was not.
    """

    question: Question
    body: bytes
    key: bytes
    sent_seconds: float | None = None

    @classmethod
    def of(cls, question: Question) -> PendingQuestion:
        body = question.body()
        return cls(question, body, question.key(body))


@dataclass(frozen=True, eq=False)
class Answer:
    """What came of a question.

    Attributes
    ----------
    scores
        float32, shape (n_children,), each in [0, 1]; None where there are none.
    written
        The words, where these were asked for; None where there are none.
    why
        Why there are none; else empty.
    is_unreadable
        Whether something was answered, and it was no answer of the kind that was asked for.
    """

    scores: FloatArray | None
    why: str = ""
    is_unreadable: bool = False
    written: Written | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What questions to one model came to.

    Attributes
    ----------
    requests
        Sent ones, `retries` included.
    prompt_tokens, cached_tokens, completion_tokens
        As the service counts them; cached ones are among those of prompts.
    retries
        Requests that were sent once more.
    unreadable
        Answers that the codec could not read, old ones included.
    from_cache
        Questions that were answered before, and cost nothing.
    batched
        Of `requests` those that went in a batch, at its price.
    found_again
        Questions whose answers the service had kept for a run that did not live to read them; they cost
        nothing more.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    unreadable: int = 0
    from_cache: int = 0
    batched: int = 0
    found_again: int = 0

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Usage:
        """One request by the ``usage`` of its response; some endpoints have other names for the same."""
        names = ("prompt", "completion") if "prompt_tokens" in told else ("input", "output")
        details = told.get(f"{names[0]}_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        counts = (told.get(f"{names[0]}_tokens"), cached, told.get(f"{names[1]}_tokens"))
        return cls(0, *(count if isinstance(count, int) else 0 for count in counts))

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class AskingProgress:
    """How far questions are that somebody waits for.

    Attributes
    ----------
    answered, asked
        Questions that were settled, and how many there are.
    trouble
        What went wrong since the last answer; empty where nothing did.
    """

    answered: int
    asked: int
    trouble: str = ""


class BatchAsker(Protocol):
    """Another way of asking, for questions that can wait."""

    def takes(self, settings: Settings) -> bool:
        """Whether questions with these settings go this way."""
        ...

    def ask(self, questions: Sequence[Question], count: Callable[[str, Usage], None]) -> list[Answer]:
        """What came of each question, in their order; `count` gets a model and what was used of it."""
        ...


def read_answer(question: Question, choice: Mapping[str, Any], count: Callable[[str, Usage], None]) -> Answer:
    """What the first choice of a response says; one that cannot be read is counted."""
    try:
        found = question.codec.read(choice)
        return Answer(None, written=found) if isinstance(found, Written) else Answer(found)
    except UnreadableAnswer as error:
        count(question.model, Usage(unreadable=1))
        return Answer(None, f"an answer that cannot be read: {error}", is_unreadable=True)
