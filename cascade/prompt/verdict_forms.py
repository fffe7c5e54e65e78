"""How yes or no to one child is asked for, and how it is read: by the means that a service has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cascade.hosted.logprobs import UnreadableAnswer, token_logprobs
from cascade.hosted.settings import MOST_TOP_LOGPROBS
from cascade.nodes.contract import GroupDescription
from cascade.prompt.answers import (
    EXAMPLE_CONFIDENCE,
    SPARE_TOKENS,
    Endpoint,
    Form,
    held_to,
    held_to_schema,
    object_in,
    object_schema,
    share_of,
    stated_confidence,
    stated_probability,
    whole_text,
)
from cascade.prompt.settings import Hold
from cascade.prompt.wording import choice_line, text_of

_YES, _NO = "yes", "no"


@dataclass(frozen=True)
class Verdict(Form):
    """Yes or no to the first child; the second, if there is one, is what it may be taken for.

    The token of the answer has the probabilities of both words.
    """

    template: ClassVar[str] = "verdict"

    def how(self) -> str:
        return text_of("yes_or_no")

    def lines(self) -> list[str]:
        heads = ("Choice", "Not")
        told = (choice_line(name, self.description) for name in self.children)
        return [f"{head}: {line}" for head, line in zip(heads, told, strict=False)]

    def fields(self) -> dict[str, Any]:
        asked = {
            "max_completion_tokens": SPARE_TOKENS,
            "logprobs": True,
            "top_logprobs": MOST_TOP_LOGPROBS,
        }
        return asked | held_to((_YES, _NO), self.hold)

    def right(self, target: Sequence[bool]) -> str:
        return _YES if target[0] else _NO

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        text = whole_text(choice)
        said = _yes_or_no(text)
        if said is None:
            raise UnreadableAnswer("expected yes or no, found something else")
        for step in token_logprobs(choice, text):
            masses = step.masses(_yes_or_no)
            if _yes_or_no(step.token) is not None and masses:
                least = step.bound(1)
                return [share_of(masses.get(_NO, least), masses.get(_YES, least))]
        return [float(said == _YES)]


def _yes_or_no(text: str) -> str | None:
    """The word that a text, or a token, says with marks around it or without."""
    bare = text.strip(" \t\r\n\"'*.!`").casefold()
    return bare if bare in (_YES, _NO) else None


@dataclass(frozen=True)
class Sure(Verdict):
    """The same with the confidence that the model states, for services without probabilities."""

    def how(self) -> str:
        return text_of("sure")

    def fields(self) -> dict[str, Any]:
        answer = {
            "answer": {"type": "string", "enum": [_YES, _NO]},
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
        }
        return {"max_completion_tokens": 4 * SPARE_TOKENS} | held_to_schema(object_schema(answer), self.hold)

    def right(self, target: Sequence[bool]) -> str:
        return json.dumps({"answer": super().right(target), "confidence": EXAMPLE_CONFIDENCE})

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        told = object_in(whole_text(choice))
        said = _yes_or_no(str(told.get("answer")))
        if said is None:
            raise UnreadableAnswer("expected yes or no, found something else")
        confidence = stated_confidence(told.get("confidence"))
        return [confidence if said == _YES else 1.0 - confidence]


@dataclass(frozen=True)
class Predicated(Verdict):
    """The same as a predicate of the Decisions API."""

    endpoint: ClassVar[Endpoint] = "/v1/decisions"
    template: ClassVar[str] = "decisions"

    def how(self) -> str:
        return ""

    def fields(self) -> dict[str, Any]:
        told = "\n".join([text_of("statement"), *self.lines()])
        return {"questions": [{"type": "predicate", "name": "answer", "instructions": told}]}

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        answers = choice.get("answers")
        if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], dict):
            raise UnreadableAnswer("expected an answer, found something else")
        if answers[0].get("type") == "refusal":
            raise UnreadableAnswer("refused")
        return [stated_probability(answers[0].get("probability"))]


_VERDICTS: Mapping[str, type[Verdict]] = {"list": Sure, "decisions": Predicated}


def verdict_of(kind: str, children: Sequence[str], description: GroupDescription, hold: Hold) -> Verdict:
    """How yes or no to the first child is asked for.

    `kind` is how a service answers for one child, see `PromptSettings.answer_kind`.
    """
    return _VERDICTS.get(kind, Verdict)(tuple(children), description.choose, description, hold)
