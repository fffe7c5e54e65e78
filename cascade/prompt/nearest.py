"""Training rows that are most like a text, to be shown with their answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cascade.encoders.contract import Encoder
from cascade.nodes.contract import NodeProblem, sampled
from cascade.nodes.meaning import vectors
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.features import DAMPED, INSIDE_WEIGHT, Bags, bags_of
from cascade.text.hashing import BUCKETS_OF_EACH, WIDTH
from cascade.text.normal import normal_forms
from cascade.text.texts import Texts

MOST_KEPT = 5_000
"""Of more rows of a group a sample is kept."""
SAME_WORDS, SAME_MEANING = 0.8, 0.95
"""A row that is as like a text as this, in cosine of words or of vectors, is that text once more.

To show it would be to give the answer away: what is held out would be no test of anything.
"""
_AT_ONCE = 512
_LONGEST = 2_000
"""Of longer rows so many characters are shown."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows of a group with the children that they have.

    Attributes
    ----------
    texts
        n_rows texts, at most `MOST_KEPT`.
    targets
        bool, shape (n_rows, n_children).
    encoder
        What tells how like texts are; None for words.
    """

    texts: Texts
    targets: BoolArray
    encoder: Encoder | None = None

    @classmethod
    def of(cls, problem: NodeProblem, encoder: Encoder | None = None) -> Pool:
        """The rows of a problem that truly reach its group; one of each text, however it is typed."""
        own = np.flatnonzero(problem.own)
        forms = bare_forms([problem.texts[int(row)] for row in own])
        first = np.sort(np.unique(np.array(forms, dtype=object), return_index=True)[1]) if len(own) else own
        rows = sampled(own[first], MOST_KEPT, problem.seed)
        texts = Texts([problem.texts[int(row)] for row in rows])
        return cls(texts, problem.targets[rows], encoder)

    def __len__(self) -> int:
        return len(self.texts)

    def near(self, texts: Texts, most: int) -> list[IntArray]:
        """The rows most like each text, the likest last, at most so many, and none that is that text."""
        if not most or not len(self):
            return [np.empty(0, dtype=np.int64) for _ in texts]
        found: list[IntArray] = []
        same = SAME_WORDS if self.encoder is None else SAME_MEANING
        for start in range(0, len(texts), _AT_ONCE):
            some = texts.take(np.arange(start, min(start + _AT_ONCE, len(texts))))
            for form, likeness in zip(bare_forms(list(some)), self._likeness(some), strict=True):
                is_same = (likeness >= same) | (self._forms == form)
                allowed = np.where(is_same, -np.inf, likeness)
                best = np.argsort(-allowed, kind="stable")[:most]
                found.append(best[allowed[best] > 0][::-1])
        return found

    def shown(self, row: int) -> str:
        """A text as it is shown."""
        text = self.texts[row]
        return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."

    def _likeness(self, texts: Texts) -> FloatArray:
        """Cosines, float32, shape (n_texts, n_rows)."""
        if self.encoder is not None:
            return np.asarray(vectors(self.encoder, texts) @ vectors(self.encoder, self.texts).T)
        rows, idf = self._weighed
        return np.asarray((_unit(_counts(texts), idf) @ rows.T).toarray(), dtype=np.float32)

    @cached_property
    def _forms(self) -> NDArray[np.object_]:
        return np.array(bare_forms(list(self.texts)), dtype=object)

    @cached_property
    def _weighed(self) -> tuple[Any, NDArray[np.float32]]:
        """The rows by their features, of unit length, and what each feature weighs (idf)."""
        counts = _counts(self.texts)
        having = np.bincount(counts.indices, minlength=WIDTH)
        idf = np.log((1 + len(self)) / (1 + np.maximum(having, 1))).astype(np.float32)
        return _unit(counts, idf), idf


def bare_forms(texts: Sequence[str]) -> list[str]:
    """The words of each text in their normal form, without marks between them."""
    return [" ".join(re.findall(r"\w+", form)) for form in normal_forms(texts)]


def _counts(texts: Sequence[str]) -> Any:
    """The damped counts of the features of texts, sparse float32, shape (n_texts, `WIDTH`)."""
    bags: Bags = bags_of(list(texts))
    columns = bags.buckets[bags.places]
    inside = np.where(columns >= BUCKETS_OF_EACH, INSIDE_WEIGHT, np.float32(1))
    return csr_array((DAMPED[bags.counts] * inside, columns, bags.starts), shape=(len(texts), WIDTH))


def _unit(counts: Any, idf: NDArray[np.float32]) -> Any:
    """The same weighed, each row of unit length; a row without features has none."""
    values = counts.data * idf[counts.indices]
    row_of = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    lengths = np.sqrt(np.bincount(row_of, values * values, minlength=counts.shape[0]))
    values = values / np.maximum(lengths, 1e-9)[row_of]
    return csr_array((values.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape)


def as_written(pool: Pool) -> dict[str, Any]:
    """The pool, JSON-able."""
    children = [np.flatnonzero(row).tolist() for row in pool.targets]
    return {"texts": list(pool.texts), "children": children}


def as_read(told: Any, n_children: int, encoder: Encoder | None) -> Pool:
    """What `as_written` wrote; ValueError where it is no such thing."""
    texts, children = (told.get(name) if isinstance(told, dict) else None for name in ("texts", "children"))
    sound = isinstance(texts, list) and isinstance(children, list) and len(texts) == len(children)
    if not sound or not all(isinstance(text, str) for text in texts or ()):
        raise ValueError("expected texts with the numbers of their children")
    targets = np.zeros((len(children or ()), n_children), dtype=bool)
    for row, numbers in enumerate(children or ()):
        if not isinstance(numbers, list) or not all(
            type(one) is int and 0 <= one < n_children for one in numbers
        ):
            raise ValueError("expected the numbers of children")
        targets[row, numbers] = True
    return Pool(Texts(texts or ()), targets, encoder)
