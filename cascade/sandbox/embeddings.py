"""``/v1/embeddings``: vectors by the words and pieces of words that texts share."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.rate_limits import RateLimits
from cascade.sandbox.responses import ApiError, json_body, json_response, optional_number, required_text
from cascade.sandbox.storage import Record
from cascade.sandbox.tokens import count
from cascade.system.array_types import FloatArray

MODELS: Mapping[str, int] = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072}
MOST_TEXTS, MOST_TOKENS = 2048, 8191


class Embeddings:
    """The endpoint; `counted` gets a model and the usage of each request."""

    def __init__(self, meter: RateLimits, counted: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._meter, self._counted = meter, counted

    async def create(self, request: Request) -> Response:
        body = await json_body(request)
        model = required_text(body, "model")
        if model not in MODELS:
            message = f"The model `{model}` does not exist or you do not have access to it."
            raise ApiError(404, message, "model_not_found")
        texts = _texts(body.get("input"))
        tokens = list(map(count, texts))
        if max(tokens) > MOST_TOKENS:
            message = (
                f"This model's maximum context length is {MOST_TOKENS} tokens, you requested {max(tokens)}."
            )
            raise ApiError(400, message, "context_length_exceeded", "input")
        headers = self._meter.take(sum(tokens))
        dims = optional_number(body, "dimensions", 1, MODELS[model]) or MODELS[model]
        found = await asyncio.to_thread(vectors, texts, dims)
        usage = {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}
        self._counted(model, {**usage, "completion_tokens": 0})
        data = [_entry(at, one, body.get("encoding_format")) for at, one in enumerate(found)]
        return json_response(
            {"object": "list", "data": data, "model": model, "usage": usage}, headers=headers
        )


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
        raise ApiError(
            400, "'input': expected a text, or a list of them, none empty.", "invalid_type", "input"
        )
    if not 0 < len(texts) <= MOST_TEXTS:
        raise ApiError(400, f"'input': expected 1 to {MOST_TEXTS} texts.", "invalid_value", "input")
    return texts


def _entry(at: int, vector: FloatArray, form: Any) -> Record:
    told: Any = (
        base64.b64encode(vector.astype("<f4").tobytes()).decode() if form == "base64" else vector.tolist()
    )
    return {"object": "embedding", "index": at, "embedding": told}


def vectors(texts: list[str], dims: int) -> FloatArray:
    """A vector of unit length for each text, float32, (n_texts, dims): each feature adds to one number."""
    from cascade.text.features import DAMPED, bags_of

    found = bags_of(texts)
    rows = np.repeat(np.arange(len(texts)), np.diff(found.starts))
    columns = found.buckets[found.places]
    # The next bit of a feature's number is its sign, so that those that meet in a column cancel out.
    signs = np.where((columns // dims) % 2, -1.0, 1.0)
    sums = np.zeros((len(texts), dims))
    np.add.at(sums, (rows, columns % dims), signs * DAMPED[found.counts])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(lengths > 0, lengths, 1), dtype=np.float32)
