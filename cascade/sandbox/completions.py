"""``/v1/chat/completions`` and ``/v1/completions``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.answer_shapes import Shape, steps_of
from cascade.sandbox.chaos import Chaos
from cascade.sandbox.completion_objects import Question, reply
from cascade.sandbox.models import Models, untrained_shape
from cascade.sandbox.prompt_cache import PromptCache
from cascade.sandbox.rate_limits import RateLimits, retry_after
from cascade.sandbox.reader.reading import READER, Reader
from cascade.sandbox.responses import ApiError, json_body, json_response
from cascade.sandbox.storage import Record
from cascade.sandbox.stored import StoredCompletions, wants_store
from cascade.sandbox.training import Format, TrainedModel
from cascade.system.array_types import FloatArray

# Texts that are scored by one call.
_AT_ONCE = 400


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
    stored
        Answers that were to be kept.
    """

    def __init__(
        self, models: Models, chaos: Chaos | None = None, meter: RateLimits | None = None, latency: float = 0
    ) -> None:
        self.models, self.chaos, self.latency = models, chaos, latency
        self.reader, self.prompts = Reader(chaos), PromptCache()
        self._meter, self._queue = meter or RateLimits(), ScoringQueue()
        self.usage: dict[str, Counter[str]] = {}
        self.stored = StoredCompletions()

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, "chat")

    async def completion(self, request: Request) -> Response:
        return await self._answer(request, "completion")

    async def _answer(self, request: Request, format_: Format) -> Response:
        question = Question.of(await json_body(request), format_)
        is_kept = format_ == "chat" and wants_store(question.body)
        headers = self._meter.take(question.tokens)
        model = self.models.find(question.model, format_)
        self._check_awake(question.model, model)
        if self.latency:
            await asyncio.sleep(self.latency)
        found = await (self._read(question) if question.model == READER else self._score(question, model))
        # Done, paid for and kept, whether or not anybody is there to read it.
        self.count(question.model, found["usage"])
        if is_kept:
            self.stored.keep(question.body, found)
        return json_response(found, headers=headers)

    async def _score(self, question: Question, model: TrainedModel | None) -> Record:
        shape, text = _reading(question, model)
        row = shape.untrained() if model is None or text is None else await self._queue.ask(model, text)
        return reply(question, steps_of(shape.segments(row)), cached=self._cached(question))

    async def _read(self, question: Question) -> Record:
        answer = await asyncio.to_thread(self.reader.answer, question.body, question.messages, question.most)
        if answer.late and self.chaos is not None:
            await asyncio.sleep(self.chaos.pause)
        return reply(question, answer.steps, answer.finish, answer.refusal, self._cached(question))

    def _cached(self, question: Question) -> int:
        """Tokens that another prompt began with; batches and old completions have none."""
        form = question.body.get("response_format")
        return self.prompts.cached(question.model, question.messages, question.tokens, form)

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
        counter["cached_tokens"] += usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)


def _reading(question: Question, model: TrainedModel | None) -> tuple[Shape, str | None]:
    """How the answer is built, and what the model reads; None where it can make nothing of the prompt."""
    if model is None:
        return untrained_shape(question.system), None
    return model.shape, model.prompts.text(question.system, question.text)


def answer_many(
    bodies: Sequence[Mapping[str, Any]], format_: Format, models: Models, reader: Reader
) -> list[Record | ApiError]:
    """Answers of many requests at once, in their order: what a batch does."""
    found: list[Record | ApiError] = []
    waiting: dict[int, tuple[TrainedModel, list[tuple[int, Question, str]]]] = {}
    for at, body in enumerate(bodies):
        try:
            question = Question.of(body, format_)
            model = models.find(question.model, format_)
            found.append(_at_once(question, model, reader))
        except ApiError as refusal:
            found.append(refusal)
            continue
        _, text = _reading(question, model)
        if model is not None and text is not None:
            waiting.setdefault(id(model), (model, []))[1].append((at, question, text))
    for tuned, asked in waiting.values():
        rows = tuned.probabilities([text for _, _, text in asked])
        for (at, question, _), row in zip(asked, np.asarray(rows), strict=True):
            found[at] = reply(question, steps_of(tuned.shape.segments(row)))
    return found


def _at_once(question: Question, model: TrainedModel | None, reader: Reader) -> Record:
    """An answer that needs no scores; what a model makes of a text that it cannot read, else."""
    if question.model == READER:
        answer = reader.answer(question.body, question.messages, question.most)
        return reply(question, answer.steps, answer.finish, answer.refusal)
    shape, _ = _reading(question, model)
    return reply(question, steps_of(shape.segments(shape.untrained())))
