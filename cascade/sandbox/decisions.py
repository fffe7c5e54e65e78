"""``/v1/decisions``: many questions about one input, each answered with probabilities."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.prompt_cache import PromptCache
from cascade.sandbox.rate_limits import RateLimits
from cascade.sandbox.reader.deciding import Levels, OneOf, Predicate, Question, decide, even
from cascade.sandbox.reader.reading import READER
from cascade.sandbox.responses import ApiError, json_body, json_response, json_text, required_text
from cascade.sandbox.storage import Record
from cascade.sandbox.tokens import count, count_messages

MODELS = ("gpt-6-luna", READER)
MOST_QUESTIONS, MOST_CHOICES = 400, 255
_PARTS = ("input_text", "output_text", "text", "refusal")


class Decisions:
    """The endpoint; `counted` gets a model and the usage of each request."""

    def __init__(
        self,
        meter: RateLimits,
        prompts: PromptCache,
        counted: Callable[[str, Mapping[str, Any]], None],
        chaos: Chaos | None = None,
        latency: float = 0,
    ) -> None:
        self._meter, self._prompts, self._counted = meter, prompts, counted
        self._chaos, self._latency = chaos, latency

    async def create(self, request: Request) -> Response:
        body = await json_body(request)
        model = required_text(body, "model")
        if model not in MODELS:
            message = f"The model '{model}' is not supported in the v1/decisions endpoint."
            raise ApiError(400, message, "unsupported_model", "model")
        messages, questions = _messages(body.get("input")), _questions(body.get("questions"))
        before = count_messages([one["content"] for one in messages])
        asked = before + count(json_text(body["questions"]))
        headers = self._meter.take(asked)
        cached = self._prompts.cached(model, messages, before, "decisions")
        await asyncio.sleep(self._latency)
        answers = await self._answers(model, messages, questions)
        told = {"prompt_tokens": asked, "completion_tokens": len(answers)}
        self._counted(model, told | {"prompt_tokens_details": {"cached_tokens": cached}})
        usage = _usage(asked, cached, len(answers))
        return json_response({"answers": answers, "model": model, "usage": usage}, headers=headers)

    async def _answers(
        self, model: str, messages: Sequence[Record], questions: Sequence[Question]
    ) -> list[Record]:
        if model != READER:
            return [_told(one, even(one)) for one in questions]
        kind, draw = self._chaos.reading() if self._chaos else ("", 0.0)
        found = await asyncio.to_thread(decide, messages, questions)
        if kind == "slow_token" and self._chaos:
            await asyncio.sleep(self._chaos.pause)
        answers = [_told(one, chances) for one, chances in zip(questions, found, strict=True)]
        if kind == "refused":
            at = int(draw * len(questions))
            answers[at] = {"type": "refusal", "name": questions[at].name}
        return answers


def _usage(asked: int, cached: int, told: int) -> Record:
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": told,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + told,
    }


def _told(question: Question, chances: Sequence[float]) -> Record:
    """The official answer to a question."""
    if isinstance(question, Predicate):
        return {"type": "predicate", "name": question.name, "probability": chances[0]}
    best = max(range(len(chances)), key=lambda at: chances[at])
    if isinstance(question, OneOf):
        listed: list[Record] = [
            {"value": value, "probability": chance}
            for value, chance in zip(question.values, chances, strict=True)
        ]
        told: Record = {"type": "choice", "choice": question.values[best]}
    else:
        listed = [
            {"label": label, "value": value, "probability": chance}
            for value, (label, chance) in enumerate(zip(question.labels, chances, strict=True))
        ]
        told = {"type": "score", "score": sum(at * chance for at, chance in enumerate(chances))}
    return told | {"name": question.name, "confidence": chances[best], "probabilities": listed}


# Reading requests


def _messages(value: Any) -> list[Record]:
    if isinstance(value, str) and value:
        return [{"role": "user", "content": value}]
    if not isinstance(value, list) or not value:
        raise _wrong("input", "a text, or a list of messages that is not empty")
    return [_message(one, f"input[{at}]") for at, one in enumerate(value)]


def _message(value: Any, where: str) -> Record:
    if isinstance(value, dict) and value.get("type", "message") != "message":
        return {"role": "tool", "content": _text(value.get("output") or value.get("arguments") or "", where)}
    if not isinstance(value, dict) or value.get("role") not in ("user", "developer", "system", "assistant"):
        raise _wrong(where, "a message with a role")
    return {"role": value["role"], "content": _text(value.get("content"), where)}


def _text(value: Any, where: str) -> str:
    """A text, or parts of one; JSON as it is written, and nothing of pictures."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise _wrong(f"{where}.content", "a text, or a list of parts")
    return "\n".join(
        json_text(part.get("data")) if part.get("type") == "input_json" else str(part.get("text", ""))
        for part in value
        if part.get("type") in (*_PARTS, "input_json")
    )


def _questions(value: Any) -> list[Question]:
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_QUESTIONS:
        raise _wrong("questions", f"1 to {MOST_QUESTIONS} questions")
    return [_question(one, f"questions[{at}]") for at, one in enumerate(value)]


def _question(value: Any, where: str) -> Question:
    if not isinstance(value, dict) or value.get("type") not in ("predicate", "choice", "score"):
        raise _wrong(where, "a question of type predicate, choice or score")
    name = value.get("name")
    if not isinstance(name, str | None):
        raise _wrong(f"{where}.name", "a text")
    told = _text(value.get("instructions"), f"{where}.instructions")
    if value["type"] == "predicate":
        return Predicate(name, told)
    if value["type"] == "choice":
        choices = _listed(value.get("choices"), "value", str | bool, f"{where}.choices", MOST_CHOICES)
        return OneOf(name, told, tuple(choices), tuple(choices.values()))
    levels = _listed(value.get("levels"), "label", str, f"{where}.levels", MOST_CHOICES)
    return Levels(name, told, tuple(str(label) for label in levels), tuple(levels.values()))


def _listed(value: Any, key: str, kind: Any, where: str, most: int) -> dict[str | bool, str]:
    """The values of some objects, each with its description."""
    if not isinstance(value, list) or not 2 <= len(value) <= most:
        raise _wrong(where, f"2 to {most} objects")
    if not all(isinstance(one, dict) and isinstance(one.get(key), kind) for one in value):
        raise _wrong(where, f"objects with a {key!r}")
    found = {one[key]: str(one.get("description") or "") for one in value}
    if len(found) < len(value):
        raise _wrong(where, f"no {key} twice")
    return found


def _wrong(where: str, expected: str) -> ApiError:
    return ApiError(400, f"Invalid '{where}': expected {expected}.", "invalid_value", where)
