"""Encoders that are a service: ``/v1/embeddings``, asked as all else is asked there.

Questions go through the one `Asker` of the process, so that limits, repeats, waiting and the counting of
tokens are those of hosted models. Each has many texts, and its answer is not kept as it came: vectors have a
cache of their own, by text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from cascade.encoders.contract import Listener, Nobody
from cascade.errors import BackendError, suggestion
from cascade.hosted.asker import shared_asker
from cascade.hosted.logprobs import UnreadableAnswer
from cascade.hosted.questions import Question
from cascade.hosted.settings import OPTIONS, Settings
from cascade.system.array_types import FloatArray

MODEL, DIMENSIONS, PREFIX = "api", "dimensions", "prefix"
SHARED = ("provider", "base_url", "api_key_env", "concurrency", "limits")
KEYS = (MODEL, DIMENSIONS, PREFIX, *SHARED)
ENDPOINT = "/v1/embeddings"
# A request has so many texts at most, and so many characters in all; so many of them are in flight together.
_TEXTS, _CHARACTERS, _REQUESTS = 128, 100_000, 64
# Services refuse longer ones, of about 8,000 tokens.
_LONGEST = 20_000


def complaint(value: Mapping[str, Any]) -> str:
    """What is wrong with an encoder as a taxonomy describes it, or an empty string."""
    for name, one in value.items():
        if name not in KEYS:
            return f"unknown key {name!r}, expected {', '.join(KEYS)}.{suggestion(str(name), KEYS)}"
        if name in SHARED and (wrong := OPTIONS[name](one)):
            return f"{name}: {wrong}"
    model, dims, prefix = value.get(MODEL), value.get(DIMENSIONS), value.get(PREFIX, "")
    if not isinstance(model, str) or not model.strip():
        return f"api: expected the name of a model, found {model!r}"
    if dims is not None and (type(dims) is not int or dims < 1):
        return f"dimensions: expected a whole number of 1 or more, found {dims!r}"
    if not isinstance(prefix, str):
        return f"prefix: expected a text, found {prefix!r}"
    return "" if _settings(value).address else "base_url is missing: this provider has no address of its own"


def _settings(value: Mapping[str, Any]) -> Settings:
    return Settings.of({name: one for name, one in value.items() if name in SHARED})


@dataclass(frozen=True)
class _Embedding:
    """How vectors are asked for; the text of a question is a JSON list of texts."""

    dims: int | None
    children: tuple[str, ...] = ()
    endpoint: str = ENDPOINT

    def request(self, text: str) -> dict[str, Any]:
        """The body of a question but the model."""
        asked = {"input": json.loads(text), "encoding_format": "float"}
        return asked if self.dims is None else {**asked, "dimensions": self.dims}

    def read(self, choice: Mapping[str, Any]) -> FloatArray:
        """The vectors, float32, shape (n_texts, dims), in the order of the texts."""
        try:
            entries = sorted(choice["data"], key=lambda entry: entry["index"])
            found = np.array([_vector(entry["embedding"]) for entry in entries], dtype=np.float32)
        except (LookupError, TypeError, ValueError, binascii.Error) as error:
            raise UnreadableAnswer("expected vectors of one length") from error
        if found.ndim != 2 or not np.isfinite(found).all():
            raise UnreadableAnswer("expected vectors of one length, of finite numbers")
        return found


def _vector(told: Any) -> Any:
    """A vector as numbers, or as the base64 of its float32."""
    return np.frombuffer(base64.b64decode(told), dtype="<f4") if isinstance(told, str) else told


@dataclass(frozen=True)
class ApiEncoder:
    """An encoder at a service; what it is called tells which it is, as its files cannot be looked at.

    Attributes
    ----------
    settings
        Where the service is.
    name
        The model.
    dimensions
        How long vectors shall be; None for as long as the model makes them.
    prefix
        What stands before each text.
    expected
        How long they are known to be.
    """

    settings: Settings
    name: str
    dimensions: int | None = None
    prefix: str = ""
    expected: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, value: Mapping[str, Any], expected: int | None = None) -> ApiEncoder:
        """That of a taxonomy's description, about which there is no complaint."""
        return cls(_settings(value), value[MODEL], value.get(DIMENSIONS), value.get(PREFIX, ""), expected)

    @property
    def sha256(self) -> str:
        """The hash of address, model and how it is asked."""
        told = [self.settings.address, self.name, self.dimensions, self.prefix]
        return hashlib.sha256(json.dumps(told).encode("utf-8")).hexdigest()

    @cached_property
    def dims(self) -> int:
        """How long each vector is; the service is asked where nobody knows."""
        known = self.expected or self.dimensions
        return known or int(self._asked([["a"]], Nobody(), 1)[0].shape[1])

    def encode(self, texts: Sequence[str], threads: int = 1, listener: Listener | None = None) -> FloatArray:  # noqa: ARG002 - the service takes the time
        """The vectors of texts: see `cascade.encoders.contract.Encoder`.

        Raises
        ------
        BackendError
            The service does not answer, or not with vectors of the length that is known.
        """
        listener = listener or Nobody()
        long = sum(len(text) > _LONGEST for text in texts)
        if long:
            listener.say(
                f"{self.name}: of {long:,} of {len(texts):,} texts the first {_LONGEST:,} characters are sent"
            )
        parts = list(_parts([self.prefix + text[:_LONGEST] for text in texts]))
        found = self._asked(parts, listener, len(texts))
        vectors = np.concatenate(found) if found else np.zeros((0, self.dims), dtype=np.float32)
        if vectors.shape != (len(texts), self.dims):
            raise BackendError(
                f"{self.settings.address}: {self.name} gave vectors of {vectors.shape[1]} numbers, expected "
                f"{self.dims}: another model answers under this name. Run `cascade fit` again"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def _asked(self, parts: Sequence[Sequence[str]], listener: Listener, total: int) -> list[FloatArray]:
        """The vectors of each part."""
        codec: Any = _Embedding(self.dimensions)
        found: list[FloatArray] = []
        done = 0
        for start in range(0, len(parts), _REQUESTS):
            some = parts[start : start + _REQUESTS]
            questions = [
                Question(self.name, self.settings, codec, json.dumps(list(part), ensure_ascii=False))
                for part in some
            ]
            for part, answer in zip(some, shared_asker().ask(questions), strict=True):
                vectors = answer.scores
                if vectors is None or len(vectors) != len(part):
                    why = (
                        answer.why
                        or f"{len(part)} texts got {0 if vectors is None else len(vectors)} vectors"
                    )
                    raise BackendError(f"{self.settings.address}: {self.name} gave no vectors: {why}")
                found.append(vectors)
                done += len(part)
            listener.at(done, total)
        return found


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    """Consecutive texts that go in one request."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == _TEXTS or characters + len(text) > _CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
