"""Questions, and a service that answers them with their own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cascade.hosted.logprobs import UnreadableAnswer
from cascade.hosted.questions import Question
from cascade.hosted.settings import Settings

KEY = "sk-very-secret-1234567890"


@dataclass(frozen=True)
class Echo:
    """A codec whose answer is the number that the service makes of a text."""

    children: tuple[str, ...] = ("a",)
    endpoint: str = "/v1/chat/completions"

    def request(self, text):
        return {"messages": [{"role": "user", "content": text}], "temperature": 0}

    def read(self, choice: Mapping):
        content = choice["message"]["content"]
        if not content.isdigit():
            raise UnreadableAnswer("expected a number, found something else")
        return np.array([float(content)], dtype=np.float32)


def settings_of(service, **options):
    return Settings(provider="compatible", base_url=service.base_url, api_key_env="SERVICE_KEY", **options)


def questions(service, texts, model="m", **options):
    return [Question(model, settings_of(service, **options), Echo(), text) for text in texts]


def numbers(answers):
    return [None if one.scores is None else int(one.scores[0]) for one in answers]


def texts_of(count, start=0):
    """Texts of which no two have the same length."""
    return ["x" * length for length in range(start + 1, start + count + 1)]
