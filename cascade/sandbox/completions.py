"""``/v1/chat/completions``, ``/v1/completions`` and ``/v1/models``."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.answer_shapes import AnswerToken, Shape, steps_of
from cascade.sandbox.chaos import Chaos
from cascade.sandbox.rate_limits import RateLimits, retry_after
from cascade.sandbox.responses import ApiError, json_body, json_response, optional_number, required_text
from cascade.sandbox.storage import Record, Storage, new_id, public
from cascade.sandbox.tokens import count, count_messages
from cascade.sandbox.training import Format, TrainedModel, split_messages
from cascade.system.array_types import FloatArray

BASES: Mapping[str, tuple[Format, ...]] = {
    "gpt-4.1-2025-04-14": ("chat",),
    "gpt-4.1-mini-2025-04-14": ("chat",),
    "gpt-4.1-nano-2025-04-14": ("chat",),
    "gpt-4o-mini-2024-07-18": ("chat",),
    "gpt-6-luna": ("chat",),
    "babbage-002": ("completion",),
    "davinci-002": ("completion",),
}
MOST_TOP = {"chat": 20, "completion": 5}
# What old completions answer at most where the request does not say.
_COMPLETION_TOKENS = 16
_ANY_LENGTH = 1 << 30
# Texts that are scored by one call.
_AT_ONCE = 400
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

    @classmethod
    def of(cls, body: Mapping[str, Any], format_: Format) -> Question:
        """Read a request; ApiError where it is none."""
        for name, allowed in (("n", (None, 1)), ("stream", (None, False)), ("best_of", (None, 0, 1))):
            if body.get(name) not in allowed:
                raise ApiError(400, f"'{name}': only {allowed[1]} is known here.", "unsupported_value", name)
        model = required_text(body, "model")
        if format_ == "completion":
            system, text = "", _prompt(body)
            tokens = count(text)
        else:
            messages = _messages(body.get("messages"))
            system, text = split_messages(messages)
            tokens = count_messages([one["content"] for one in messages])
        most, stops, top = _bounds(body, format_)
        return cls(format_, model, system, text, tokens, most, stops, top)


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


# Models


class Models:
    """The models that answer: those that were tuned, and bases that have learned nothing."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._loaded: dict[str, TrainedModel] = {}

    def find(self, name: str, format_: Format) -> TrainedModel | None:
        """The model of a name, None for a base; ApiError where there is none of this format."""
        if name in BASES:
            _check_format(format_, BASES[name])
            return None
        loaded = self._loaded.get(name) or self._load(name)
        _check_format(format_, (loaded.prompts.format,))
        return loaded

    def _load(self, name: str) -> TrainedModel:
        record = self.storage.get("model", re.sub(r":ckpt-step-\d+$", "", name))
        if record is None:
            message = f"The model `{name}` does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found")
        self._loaded[name] = TrainedModel.load(self.storage.model(record["_job"]))
        return self._loaded[name]

    def _listed(self) -> list[Record]:
        bases = [_base(name) for name in BASES]
        return bases + [public(record) for record in self.storage.all("model")]

    async def list(self, request: Request) -> Response:  # noqa: ARG002 - a handler's signature
        return json_response({"object": "list", "data": self._listed()})

    async def get(self, request: Request) -> Response:
        name = request.path_params["name"]
        record = _base(name) if name in BASES else self.storage.get("model", name)
        if record is None:
            raise ApiError(404, f"The model '{name}' does not exist", "model_not_found", "model")
        return json_response(public(record))

    async def delete(self, request: Request) -> Response:
        name = request.path_params["name"]
        if self.storage.get("model", name) is None:
            raise ApiError(404, f"The model '{name}' does not exist", "model_not_found", "model")
        self.storage.drop("model", name)
        self._loaded = {one: tuned for one, tuned in self._loaded.items() if not one.startswith(name)}
        return json_response({"id": name, "object": "model", "deleted": True})


def _base(name: str) -> Record:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}


def _check_format(wanted: Format, known: Sequence[Format]) -> None:
    if wanted in known:
        return
    if wanted == "chat":
        message = "This is not a chat model and thus not supported in the v1/chat/completions endpoint."
    else:
        message = "This is a chat model and not supported in the v1/completions endpoint."
    raise ApiError(404, message, None, "model")


def untrained_shape(system: str) -> Shape:
    """How a model that learned nothing might answer: as the instructions seem to want it."""
    places = re.search(r"\b[01](?:,[01])+\b", system)
    if places:
        length = 2 * places[0].count(",") + 1
        tokens = tuple("," if at % 2 else "0" for at in range(length))
        return Shape("places", tuple(str(at) for at in range(0, length, 2)), tokens=tokens, values=("0", "1"))
    numbers = sorted({int(one) for one in re.findall(r"\b\d{1,3}\b", system)})
    return Shape("choice", tuple(str(one) for one in numbers) or ("none",))


# Answers


def reply(question: Question, shape: Shape, row: FloatArray) -> Record:
    """The official answer object."""
    steps, finish = _cut(steps_of(shape.segments(row)), question)
    text = "".join(step.token for step in steps)
    usage = {
        "prompt_tokens": question.tokens,
        "completion_tokens": len(steps),
        "total_tokens": question.tokens + len(steps),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    }
    chat = question.format == "chat"
    choice = _chat_choice(text, steps, question) if chat else _completion_choice(text, steps, question)
    return {
        "id": new_id("chatcmpl-" if chat else "cmpl-"),
        "object": "chat.completion" if chat else "text_completion",
        "created": int(time.time()),
        "model": question.model,
        "choices": [{"index": 0, "finish_reason": finish, **choice}],
        "usage": usage,
        "system_fingerprint": "fp_sandbox",
    }


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


# Requests


class ScoringQueue:
    """Scores texts that arrive together by one call for each model."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[TrainedModel, list[tuple[str, asyncio.Future[FloatArray]]]]] = {}
        self._pool = ThreadPoolExecutor(1, "scoring")
        self._task: asyncio.Task[None] | None = None

    async def ask(self, model: TrainedModel, text: str) -> FloatArray:
        """The probabilities of a text, float32, shape (n_columns,)."""
        future: asyncio.Future[FloatArray] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id(model), (model, []))[1].append((text, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # what arrived with the first is read now
            key = next(iter(self._waiting))
            model, waiting = self._waiting.pop(key)
            part, rest = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            if rest:
                self._waiting[key] = (model, rest)
            await self._score(model, part)

    async def _score(
        self, model: TrainedModel, part: Sequence[tuple[str, asyncio.Future[FloatArray]]]
    ) -> None:
        texts = [text for text, _ in part]
        loop = asyncio.get_running_loop()
        try:
            rows = await loop.run_in_executor(self._pool, model.probabilities, texts)
        except Exception as error:  # each asker gets it
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
            return
        for row, (_, future) in zip(rows, part, strict=True):
            if not future.done():  # who asked may have hung up
                future.set_result(row)


class Completions:
    """The endpoints.

    Attributes
    ----------
    usage
        Requests answered and tokens, by model.
    """

    def __init__(
        self, models: Models, chaos: Chaos | None = None, meter: RateLimits | None = None, latency: float = 0
    ) -> None:
        self.models, self.chaos, self.latency = models, chaos, latency
        self._meter, self._queue = meter or RateLimits(), ScoringQueue()
        self.usage: dict[str, Counter[str]] = {}

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, "chat")

    async def completion(self, request: Request) -> Response:
        return await self._answer(request, "completion")

    async def _answer(self, request: Request, format_: Format) -> Response:
        question = Question.of(await json_body(request), format_)
        headers = self._meter.take(question.tokens)
        model = self.models.find(question.model, format_)
        self._check_awake(question.model, model)
        if self.latency:
            await asyncio.sleep(self.latency)
        shape, text = _reading(question, model)
        row = shape.untrained() if model is None or text is None else await self._queue.ask(model, text)
        found = reply(question, shape, row)
        self.count(question.model, found["usage"])
        return json_response(found, headers=headers)

    def _check_awake(self, name: str, model: TrainedModel | None) -> None:
        if model is not None and self.chaos is not None and self.chaos.asleep(name):
            message = f"The model {name} is still being loaded. Please try again later."
            raise ApiError(429, message, "model_not_ready", None, retry_after(self.chaos.pause / 3))

    def count(self, model: str, usage: Mapping[str, Any]) -> None:
        """Add to `usage`."""
        counter = self.usage.setdefault(model, Counter())
        counter["requests"] += 1
        counter["prompt_tokens"] += usage["prompt_tokens"]
        counter["completion_tokens"] += usage["completion_tokens"]


def _reading(question: Question, model: TrainedModel | None) -> tuple[Shape, str | None]:
    """How the answer is built, and what the model reads; None where it can make nothing of the prompt."""
    if model is None:
        return untrained_shape(question.system), None
    return model.shape, model.prompts.text(question.system, question.text)


def answer_many(
    bodies: Sequence[Mapping[str, Any]], format_: Format, models: Models
) -> list[Record | ApiError]:
    """Answers of many requests at once, in their order: what a batch does."""
    found: list[Record | ApiError] = []
    waiting: dict[int, tuple[TrainedModel, list[tuple[int, Question, str]]]] = {}
    for at, body in enumerate(bodies):
        try:
            question = Question.of(body, format_)
            model = models.find(question.model, format_)
        except ApiError as refusal:
            found.append(refusal)
            continue
        shape, text = _reading(question, model)
        found.append(reply(question, shape, shape.untrained()) if model is None or text is None else {})
        if model is not None and text is not None:
            waiting.setdefault(id(model), (model, []))[1].append((at, question, text))
    for tuned, asked in waiting.values():
        rows = tuned.probabilities([text for _, _, text in asked])
        for (at, question, _), row in zip(asked, np.asarray(rows), strict=True):
            found[at] = reply(question, tuned.shape, row)
    return found
