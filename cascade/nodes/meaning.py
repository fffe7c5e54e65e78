"""What an encoder makes of texts, as columns beside those of their words: the solver sees one row of both.

Vectors are as long as the words of a row, 1, times a weight that each group settles. Where rows are few,
words have been seen too seldom to say much, and the vector has to count for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.contract import Encoder
from cascade.errors import ModelError
from cascade.nodes.occlusion import cut_up, vectors_without
from cascade.nodes.weighting import Weighted
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.serialization import WAY_OUT, read_array, read_json, write_array, write_json
from cascade.system.vectors import UNROLLED
from cascade.text.normal import normal_forms
from cascade.text.pieces import Pieces
from cascade.text.texts import Texts

WEIGHTS = (1.0, 0.5, 2.0)
# A trial is not exact: another weight and penalty have to be better than the first by so much of log loss.
LEAST_GAIN = 0.02
RECORD, VALUES = "encoder.json", "meaning.npy"


def vectors(encoder: Encoder, texts: Texts, threads: int | None = None) -> FloatArray:
    """The vectors of the normal forms of texts, (n_texts, dims), computed once for all that share a batch."""

    def compute(whole: Sequence[str]) -> FloatArray:
        from cascade.encoders.vectors import vectors_of  # who has words alone needs none of it

        return vectors_of(encoder, normal_forms(whole), threads)

    found: FloatArray = texts.features(("vectors", encoder.sha256), compute)
    return found


def reader(encoder: Encoder) -> Callable[[Sequence[str]], FloatArray]:
    """What gives texts their vectors, (n_texts, dims); those that a fit has made are kept already."""
    return lambda texts: vectors(encoder, Texts(texts))


def settled(
    losses: NDArray[np.float64], weights: Sequence[float], penalties: Sequence[float]
) -> tuple[float, float]:
    """The weight and the penalty with the least loss, shape (n_weights, n_penalties).

    The first of both where they lose hardly more: with few rows the least is often a matter of chance.
    """
    if losses.min() > (1 - LEAST_GAIN) * losses[0, 0]:
        return weights[0], penalties[0]
    weight, penalty = divmod(int(np.argmin(losses)), len(penalties))
    return weights[weight], penalties[penalty]


def beside(rows: Weighted, meaning: FloatArray, weight: float) -> Weighted:
    """Rows with the columns of vectors, float32, shape (n_texts, dims), behind those of words."""
    dims = meaning.shape[1]
    width = -(-dims // UNROLLED) * UNROLLED
    starts = rows.starts + width * np.arange(len(rows) + 1)
    features = np.empty(starts[-1], dtype=np.int32)
    values = np.empty(starts[-1], dtype=np.float32)
    energy = rows.energy + np.float32(weight**2) * (meaning**2).sum(axis=1)
    _interleave(
        rows.starts,
        rows.features,
        rows.values,
        meaning,
        np.float32(weight),
        rows.n_features,
        width,
        features,
        values,
    )
    return Weighted(starts, features, values, energy.astype(np.float32), rows.n_features + dims)


@kernel
def _interleave(
    starts: IntArray,
    words: NDArray[np.int32],
    counts: FloatArray,
    meaning: FloatArray,
    weight: np.float32,
    n_words: int,
    width: int,
    features: NDArray[np.int32],
    values: FloatArray,
) -> None:
    end, dims = 0, meaning.shape[1]
    for row in range(len(meaning)):
        for at in range(starts[row], starts[row + 1]):
            features[end], values[end] = words[at], counts[at]
            end += 1
        for column in range(width):
            is_there = column < dims
            features[end] = n_words + column if is_there else 0
            values[end] = meaning[row, column] * weight if is_there else np.float32(0)
            end += 1


@dataclass(frozen=True, eq=False)
class Meaning:
    """What the vector of a text says of each child of a group.

    Attributes
    ----------
    encoder
        Makes the vectors.
    weight
        What they counted for beside words.
    values
        float32, shape (dims, n_children): as precise as half precision, the weight in it.
    """

    encoder: Encoder
    weight: float
    values: FloatArray

    @classmethod
    def of(cls, encoder: Encoder, weight: float, weights: FloatArray) -> Meaning:
        """That of the solver's weights, which are for vectors times `weight`."""
        halves = (weights * np.float32(weight)).astype(np.float16)
        return cls(encoder, weight, np.ascontiguousarray(halves.astype(np.float32)))

    def margins(self, texts: Texts) -> FloatArray:
        """Products with the vectors of texts, float32, shape (n_texts, n_children)."""
        found = np.zeros((len(texts), self.values.shape[1]), dtype=np.float32)
        _multiply(vectors(self.encoder, texts), self.values, found)
        return found

    def contributions(
        self, texts: Texts, pieces: Sequence[Pieces] | None
    ) -> Iterator[tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]]:
        """For each text what its words do to each child by its vector, and under a name what is left.

        The first is of shape (n_words, n_children), by occlusion: see `cascade.nodes.occlusion`.
        """
        pieces = cut_up(texts) if pieces is None else pieces
        whole = self.margins(texts).astype(np.float64)
        for of_text, vectors_of_text, own in zip(
            whole, vectors_without(self.encoder, texts, pieces), pieces, strict=True
        ):
            missed = own.shares @ (of_text - vectors_of_text.astype(np.float64) @ self.values)
            yield missed, {f"meaning ({self.encoder.name})": of_text - missed.sum(axis=0)}

    def save(self, folder: Path) -> None:
        told = {
            "name": self.encoder.name,
            "sha256": self.encoder.sha256,
            "dims": len(self.values),
            "weight": self.weight,
        }
        write_json(folder / RECORD, told)
        write_array(folder / VALUES, self.values.astype(np.float16))

    @classmethod
    def load(cls, folder: Path, n_children: int, find: Callable[[str, str, int], Encoder]) -> Meaning:
        """What `save` wrote.

        Parameters
        ----------
        find
            Called with its name, its sha256 and the length of its vectors, answers the encoder.

        Raises
        ------
        BackendError
            The encoder is not on this machine, or is another one here.
        ModelError
            A file is missing or damaged.
        """
        told = read_json(folder / RECORD)
        if not isinstance(told, dict) or not _are_types(told, _TYPES):
            raise ModelError(f"{folder / RECORD}: expected name, sha256, dims and weight. {WAY_OUT}")
        encoder = find(told["name"], told["sha256"], told["dims"])
        values = read_array(folder / VALUES, np.float16, (encoder.dims, n_children))
        if not np.isfinite(values).all():
            raise ModelError(f"{folder / VALUES}: expected finite numbers. {WAY_OUT}")
        return cls(encoder, told["weight"], values.astype(np.float32))


_TYPES: dict[str, type] = {"name": str, "sha256": str, "dims": int, "weight": float}


def _are_types(value: dict[str, object], types: dict[str, type]) -> bool:
    return all(type(value.get(name)) is expected for name, expected in types.items())


@kernel
def _multiply(meaning: FloatArray, values: FloatArray, margins: FloatArray) -> None:
    for row in range(len(meaning)):
        of_row = margins[row]
        for column in range(meaning.shape[1]):
            value, of = meaning[row, column], values[column]
            for child in range(len(of_row)):
                of_row[child] += value * of[child]
