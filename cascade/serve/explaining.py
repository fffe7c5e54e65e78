"""Why a text got its labels, for who asks over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from cascade.errors import BackendError
from cascade.predict.answers import Model
from cascade.serve.problems import overloaded
from cascade.serve.request_body import check_text, parse_object, wrong_kind
from cascade.show.explain import explain

MOST_CHARACTERS = 10_000
"""Of a text; what is told of a word names all its places, at every node."""

MOST_WORDS = 20
_WORDS = 4
_MOST_WAITING = 64


class Explainer:
    """Explains one text at a time; all methods are called on the event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def answer(self, model: Model, body: bytes) -> bytes:
        """What `cascade.show.explain.explain` tells of the text that a body asks about, as JSON.

        Raises
        ------
        HTTPProblem
            400 or 422 for a body that asks nothing, 503 where too many wait or a service did not answer.
        """
        text, words = _parse(body)
        async with self._in_turn():
            try:
                found = await asyncio.to_thread(explain, model, text, words)
            except BackendError as error:
                raise overloaded(f"A service did not answer: {error}", "an answer", seconds=5) from error
        told = {"model": model.digest, **found.to_json()}
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise overloaded("Too many explanations are waiting.", f"at most {_MOST_WAITING} of all clients")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1


def _parse(body: bytes) -> tuple[str, int]:
    asked = parse_object(body, "a JSON object with text", ("text", "words"))
    text = check_text(asked.get("text"), "text", MOST_CHARACTERS)
    return text, _parse_words(asked.get("words", _WORDS))


def _parse_words(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MOST_WORDS:
        raise wrong_kind("words", value, f"a whole number from 0 to {MOST_WORDS}")
    return value
