"""What an encoder misses of a text without a piece of it.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2, with a
stretch of words for a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.contract import Encoder
from cascade.system.array_types import FloatArray, IntArray
from cascade.text.normal import normal_forms
from cascade.text.occurrences import occurrences_of
from cascade.text.pieces import Pieces, pieces_of
from cascade.text.texts import Texts

AT_ONCE = 512
"""Texts without a piece that are encoded together."""


def cut_up(texts: Texts) -> list[Pieces]:
    """The pieces of each text, computed once for all that share a batch."""

    def compute(whole: Sequence[str]) -> NDArray[np.object_]:
        found = np.empty(len(whole), dtype=np.object_)
        for row, text in enumerate(whole):
            found[row] = pieces_of(text, occurrences_of(text).spans)
        return found

    return list(texts.features("pieces", compute))


def vectors_without(encoder: Encoder, texts: Texts, pieces: Sequence[Pieces]) -> list[FloatArray]:
    """The vectors of each text without each of its pieces, float32, shape (n_pieces, dims).

    Each is made once for all nodes that share a batch, and not kept beyond it.
    """
    known = _memory(encoder, texts)
    missing: dict[str, list[tuple[dict[tuple[int, int], FloatArray], tuple[int, int]]]] = {}
    for row, (text, own) in enumerate(zip(texts, pieces, strict=True)):
        shorter = None
        for place, stretch in enumerate(map(tuple, own.spans.tolist())):
            if stretch not in known[row]:
                shorter = normal_forms(own.without(text)) if shorter is None else shorter
                missing.setdefault(shorter[place], []).append((known[row], stretch))
    for text, vector in _encoded(encoder, list(missing)).items():
        for memory, stretch in missing[text]:
            memory[stretch] = vector
    return [
        np.array([known[row][start, end] for start, end in own.spans.tolist()], dtype=np.float32).reshape(
            -1, encoder.dims
        )
        for row, own in enumerate(pieces)
    ]


def _memory(encoder: Encoder, texts: Texts) -> NDArray[np.object_]:
    """By row, the vectors of a text without a stretch that were made so far."""

    def compute(whole: Sequence[str]) -> NDArray[np.object_]:
        found = np.empty(len(whole), dtype=np.object_)
        for row in range(len(whole)):
            found[row] = {}
        return found

    memory: NDArray[np.object_] = texts.features(("without", encoder.sha256), compute)
    return memory


def _encoded(encoder: Encoder, texts: Sequence[str]) -> dict[str, FloatArray]:
    from cascade.encoders.vectors import vectors_once  # who has words alone needs none of it

    ordered = sorted(texts, key=len)
    found: dict[str, FloatArray] = {}
    for start in range(0, len(ordered), AT_ONCE):
        some = ordered[start : start + AT_ONCE]
        found |= zip(some, vectors_once(encoder, some), strict=True)
    return found


def word_spans(text: str) -> IntArray:
    """Where each word, or mark, begins and ends in a text, int64, shape (n_words, 2)."""
    return occurrences_of(text).spans
