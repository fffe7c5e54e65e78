"""Requests for completions as they are read, and the official objects that answer them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cascade.sandbox.answer_shapes import AnswerToken, tokens_of
from cascade.sandbox.responses import ApiError, optional_number, required_text
from cascade.sandbox.storage import Record, new_id
from cascade.sandbox.tokens import count, count_messages
from cascade.sandbox.training import Format, split_messages

MOST_TOP = {"chat": 20, "completion": 5}
# What old completions answer at most where the request does not say.
_COMPLETION_TOKENS = 16
_ANY_LENGTH = 1 << 30
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
NEVER = -9999.0


@dataclass(frozen=True)
class Question:
    """A request for an answer, checked."""

    format: Format
    model: str
    system: str
    text: str
    tokens: int
    most: int
    stops: tuple[str, ...]
    top: int | None
    messages: tuple[Record, ...]
    body: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any], format_: Format) -> Question:
        """Read a request; ApiError where it is none."""
        for name, allowed in (("n", (None, 1)), ("stream", (None, False)), ("best_of", (None, 0, 1))):
            if body.get(name) not in allowed:
                raise ApiError(400, f"'{name}': only {allowed[1]} is known here.", "unsupported_value", name)
        model = required_text(body, "model")
        if format_ == "completion":
            messages, system, text = [], "", _prompt(body)
            tokens = count(text)
        else:
            messages = _messages(body.get("messages"))
            system, text = split_messages(messages)
            tokens = count_messages([one["content"] for one in messages])
        most, stops, top = _bounds(body, format_)
        return cls(format_, model, system, text, tokens, most, stops, top, tuple(messages), body)


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise ApiError(400, "'prompt': expected a text, or a list of one.", "invalid_type", "prompt")
    return prompt


def _messages(messages: Any) -> list[Record]:
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "'messages': expected a list that is not empty.", "invalid_type", "messages")
    return [_message(one, f"messages[{at}]") for at, one in enumerate(messages)]


def _message(message: Any, where: str) -> Record:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise ApiError(400, f"'{where}': expected a role of {', '.join(_ROLES)}.", "invalid_value", where)
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise ApiError(400, f"'{where}.content': expected a text.", "invalid_type", where)
    return {"role": message["role"], "content": content}


def _bounds(body: Mapping[str, Any], format_: Format) -> tuple[int, tuple[str, ...], int | None]:
    """Most tokens, stop sequences, and how many alternatives are wanted; None for no log probabilities."""
    new, old = (
        optional_number(body, name, 1, _ANY_LENGTH) for name in ("max_completion_tokens", "max_tokens")
    )
    if new is not None and old is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise ApiError(400, message, "invalid_parameter_combination")
    most = new or old or (_ANY_LENGTH if format_ == "chat" else _COMPLETION_TOKENS)
    temperature = body.get("temperature")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 2):
        raise ApiError(400, "'temperature': expected a number from 0 to 2.", "invalid_value", "temperature")
    return most, _stops(body.get("stop")), _top(body, format_)


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > 4 or not all(isinstance(one, str) for one in stops):
        raise ApiError(400, "'stop': expected at most 4 texts.", "invalid_value", "stop")
    return tuple(stops)


def _top(body: Mapping[str, Any], format_: Format) -> int | None:
    if format_ == "completion":
        return optional_number(body, "logprobs", 0, MOST_TOP[format_])
    top, wanted = optional_number(body, "top_logprobs", 0, MOST_TOP[format_]), bool(body.get("logprobs"))
    if top is not None and not wanted:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise ApiError(400, message, "invalid_value", "top_logprobs")
    return (top or 0) if wanted else None


def reply(
    question: Question, steps: Sequence[AnswerToken], finish: str = "", refusal: str = "", cached: int = 0
) -> Record:
    """The official answer object.

    Parameters
    ----------
    finish
        Why the answer ends, where that is neither its end nor a limit of the request.
    refusal
        What is said instead of an answer.
    cached
        Tokens of the prompt that were known already.
    """
    said = tokens_of(refusal) if refusal else steps
    steps, ended = _cut(said, question)
    text = "".join(step.token for step in steps)
    usage = {
        "prompt_tokens": question.tokens,
        "completion_tokens": len(steps),
        "total_tokens": question.tokens + len(steps),
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
    }
    chat = question.format == "chat"
    choice = _chat_choice(text, steps, question) if chat else _completion_choice(text, steps, question)
    return {
        "id": new_id("chatcmpl-" if chat else "cmpl-"),
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": question.model,
        "choices": [
            {"index": 0, "finish_reason": finish or ended, **(_refused(choice) if refusal else choice)}
        ],
        "usage": usage,
        "system_fingerprint": "fp_sandbox",
    }


def _refused(choice: Record) -> Record:
    """The same, said as a refusal."""
    message, logprobs = choice["message"], choice["logprobs"]
    if logprobs is not None:
        logprobs = {"content": None, "refusal": logprobs["content"]}
    return {"message": message | {"content": None, "refusal": message["content"]}, "logprobs": logprobs}


def _cut(steps: Sequence[AnswerToken], question: Question) -> tuple[Sequence[AnswerToken], str]:
    """The tokens before a stop sequence, no more than wanted, and why the answer ends."""
    finish = "stop"
    text = "".join(step.token for step in steps)
    ends = [found for stop in question.stops if (found := text.find(stop)) >= 0]
    if ends:
        kept, length = [], 0
        for step in steps:
            length += len(step.token)
            if length > min(ends):
                break
            kept.append(step)
        steps = kept
    if len(steps) > question.most or (len(steps) == question.most and not ends):
        steps, finish = steps[: question.most], "length"  # the end would have been one more
    return steps, finish


def _chat_choice(text: str, steps: Sequence[AnswerToken], question: Question) -> Record:
    logprobs = None
    if question.top is not None:
        logprobs = {"content": [_chat_token(step, question.top) for step in steps], "refusal": None}
    message: Record = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    return {"message": message, "logprobs": logprobs}


def _chat_token(step: AnswerToken, top: int) -> Record:
    spread = _spread(step)
    own = next(chance for token, chance in spread if token == step.token)
    listed = [_entry(token, chance) for token, chance in spread[:top]]
    return {**_entry(step.token, own), "top_logprobs": listed}


def _entry(token: str, chance: float) -> Record:
    return {"token": token, "logprob": _log(chance), "bytes": _bytes(token)}


@lru_cache(maxsize=10_000)
def _bytes(token: str) -> list[int]:
    return list(token.encode())


def _log(chance: float) -> float:
    return math.log(chance) if chance > 1e-12 else NEVER


def _completion_choice(text: str, steps: Sequence[AnswerToken], question: Question) -> Record:
    if question.top is None:
        return {"text": text, "logprobs": None}
    spreads = [_spread(step) for step in steps]
    own = [dict(spread)[step.token] for spread, step in zip(spreads, steps, strict=True)]
    lengths = [len(step.token) for step in steps]
    offsets = [len(question.text) + sum(lengths[:at]) for at in range(len(lengths))]
    logprobs = {
        "tokens": [step.token for step in steps],
        "token_logprobs": [_log(chance) for chance in own],
        "top_logprobs": [{t: _log(c) for t, c in spread[: question.top]} for spread in spreads],
        "text_offset": offsets,
    }
    return {"text": text, "logprobs": logprobs}


# Real models give a little to other ways of writing the same, and to what has no place there.
_VARIED = 5
_LEAK = ((" {}", 1.5e-3), ("{}.", 5e-4))
_FILLERS = (
    "The",
    "I",
    "A",
    "It",
    "This",
    "-",
    '"',
    "Yes",
    "No",
    "?",
    ":",
    "(",
    "**",
    "Sure",
    "N",
    "#",
    "...",
)
_LEAST = 1e-7


def _spread(step: AnswerToken) -> Sequence[tuple[str, float]]:
    """All tokens that could stand at a step and their chances, unlikely variants too, the likeliest first."""
    if len(step.candidates) == 1:
        return _spread_of_one(step.token)
    return _widened(step.candidates)


@lru_cache(maxsize=10_000)
def _spread_of_one(token: str) -> Sequence[tuple[str, float]]:
    return _widened([(token, 1.0)])


def _widened(candidates: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    found = dict(candidates)
    for token, chance in candidates[:_VARIED]:
        for form, share in _LEAK:
            variant = token[1:] if token.startswith(" ") and form[0] == " " else form.format(token)
            if variant and variant not in found:
                found[variant] = chance * share
                found[token] -= chance * share
    for rank, filler in enumerate(_FILLERS):
        found.setdefault(filler, _LEAST / (1 + rank))
    return sorted(found.items(), key=lambda one: -one[1])
