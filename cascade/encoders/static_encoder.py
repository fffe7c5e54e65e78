"""Tables with a vector for each token: the vector of a text is the mean of those of its tokens.

Two formats: that of WordLlama, one array, and that of Model2Vec, which may have a weight for each token and
several tokens share a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.base import FileEncoder, unit_length
from cascade.encoders.contract import Listener, Nobody
from cascade.encoders.files import check_files, opened_tensors
from cascade.errors import ModelError
from cascade.system.array_types import FloatArray, IntArray

_SLICE = 1024
TABLES = ("embedding.weight", "embeddings")
_TYPES = ("F64", "F32", "F16", "I64", "I32", "I8", "U8")


class Table:
    """The vectors of tokens.

    Attributes
    ----------
    vectors
        float16 or float32, shape (n_vectors, dims).
    rows
        int64, shape (n_tokens,): the vector of each token; None where they are numbered alike.
    weights
        float32, shape (n_tokens,): what each token counts for; None where all count alike.
    """

    def __init__(
        self, vectors: NDArray[Any], rows: IntArray | None = None, weights: FloatArray | None = None
    ) -> None:
        self.vectors, self.rows, self.weights = vectors, rows, weights

    @classmethod
    def read(cls, path: Path) -> Table:
        """The table of a file; ModelError where there is none in it."""
        tensors = read_tensors(path)
        name = next((name for name in TABLES if name in tensors), "")
        vectors = tensors.get(name)
        if vectors is None or vectors.ndim != 2 or not vectors.size or vectors.dtype.kind != "f":
            found = ", ".join(f"{name} {one.shape}" for name, one in tensors.items()) or "no array"
            raise ModelError(f"{path}: expected a table {' or '.join(TABLES)} of two axes, found {found}.")
        rows = None if "mapping" not in tensors else tensors["mapping"].astype(np.int64)
        weights = None if "weights" not in tensors else tensors["weights"].astype(np.float32)
        if rows is not None and (rows.ndim != 1 or not 0 <= rows.min() <= rows.max() < len(vectors)):
            raise ModelError(f"{path}: 'mapping' names vectors beyond the {len(vectors)} that are there.")
        if weights is not None and (weights.ndim != 1 or not np.isfinite(weights).all()):
            raise ModelError(f"{path}: 'weights': expected one finite number for each token.")
        return cls(vectors, rows, weights)

    @property
    def n_tokens(self) -> int:
        """Tokens from this number on are not known."""
        ends = [len(self.vectors) if self.rows is None else len(self.rows)]
        return min(ends + ([] if self.weights is None else [len(self.weights)]))

    def mean(self, tokens: IntArray) -> FloatArray:
        """The weighted mean of their vectors, float32, shape (dims,); zeros for no token."""
        tokens = tokens[tokens < self.n_tokens]
        if not len(tokens):
            return np.zeros(self.vectors.shape[1], dtype=np.float32)
        found = self.vectors[tokens if self.rows is None else self.rows[tokens]].astype(np.float32)
        if self.weights is not None:
            found *= self.weights[tokens, None]
        return np.asarray(found.mean(axis=0))


class StaticEncoder(FileEncoder):
    """An encoder that is a table."""

    def encode(self, texts: Sequence[str], threads: int = 1, listener: Listener | None = None) -> FloatArray:  # noqa: ARG002 - the tokenizer takes the threads that it wants
        """The vectors of texts: see `cascade.encoders.contract.Encoder`."""
        listener, longest = listener or Nobody(), self.settings.longest
        found, cut = np.zeros((len(texts), self.dims), dtype=np.float32), 0
        for start in range(0, len(texts), _SLICE):
            given = self._given(texts[start : start + _SLICE])
            for row, one in enumerate(self._tokenizer.encode_batch(given, add_special_tokens=False), start):
                tokens = np.asarray(one.ids, dtype=np.int64)
                tokens = tokens[tokens != self._unknown]
                cut += bool(longest and len(tokens) > longest)
                found[row] = self._table.mean(tokens[: longest or None])
            listener.at(min(start + _SLICE, len(texts)), len(texts))
        if cut:
            listener.say(self._told_of_cut(cut, len(texts)))
        return unit_length(found)

    @cached_property
    def _table(self) -> Table:
        check_files(self.folder, self.stored)
        found = Table.read(self.folder / self.settings.model)
        if found.vectors.shape[1] != self.dims:
            raise ModelError(
                f"{self.folder}: expected vectors of {self.dims} numbers, found {found.vectors.shape[1]}."
            )
        return found

    @cached_property
    def _unknown(self) -> int:
        """The token of what the tokenizer does not know, which says nothing; -1 where there is none."""
        for token in ("[UNK]", "<unk>"):
            found = self._tokenizer.token_to_id(token)
            if found is not None:
                return int(found)
        return -1


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file of safetensors whose types NumPy has, by name; errors as `opened_tensors`."""
    with opened_tensors(path) as file:
        names = [name for name in file.keys() if file.get_slice(name).get_dtype() in _TYPES]  # noqa: SIM118 - no mapping
        return {name: file.get_tensor(name) for name in names}
