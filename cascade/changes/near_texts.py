"""Texts that mean nearly the same, as a model's encoder has it, and whose labels contradict each other."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from cascade.backends import encoder_of
from cascade.errors import BackendError
from cascade.grouping.meaning import Encode
from cascade.measure.sparse import Flags, flags_at, rows_and_columns, values_at
from cascade.nodes.meaning import reader
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy

NEAR = 0.9
"""Texts whose vectors have this cosine or more mean nearly the same.

By `minilm` 5,016 pairs of 9,000 training rows of CLINC150 do, and 99.7 % of them have the same labels; from
.85 to .9 it is 98.4 %, from .8 to .85 95.5 %. Runs of words in common find one pair there.
"""
MOST_TEXTS = 20_000
"""Each text is held against all others: of more of them words are all that is compared."""
_AT_ONCE = 1000


def encode_of(taxonomy: Taxonomy) -> Encode | None:
    """What gives texts the vectors that models of a taxonomy know; None where no encoder is named or here.

    Those at a service are left out: it would be paid for what they have not seen.
    """
    from cascade.encoders.store import opened  # who has words alone needs none of it

    named = (encoder_of(group.backend.options) for group in taxonomy.groups.values())
    for name in dict.fromkeys(filter(None, named)):
        with contextlib.suppress(BackendError):
            return reader(opened(name))
    return None


def near_texts(vectors: FloatArray, least: float = NEAR) -> Any:
    """Which texts mean nearly the same, none as it itself: sparse int64, shape (n_texts, n_texts).

    Parameters
    ----------
    vectors
        Of unit length, shape (n_texts, dims); zeros are near nothing.
    """
    rows: list[IntArray] = []
    columns: list[IntArray] = []
    for start in range(0, len(vectors), _AT_ONCE):
        row, column = np.nonzero(vectors[start : start + _AT_ONCE] @ vectors.T >= least)
        is_other = row + start != column
        rows.append(row[is_other] + start)
        columns.append(column[is_other])
    found = np.concatenate([np.empty(0, dtype=np.int64), *rows])
    cells = (np.ones(len(found), dtype=np.int64), (found, np.concatenate([found[:0], *columns])))
    return csr_array(cells, shape=(len(vectors), len(vectors)))


def contradicted(near: Any, truth: Flags) -> Flags:
    """Where half or more of the near texts of a row say otherwise than it, shape (n_texts, n_labels).

    They have a label that it has not, or have not one that it has.
    """
    having = csr_array(near @ truth.astype(np.int64))
    having.sort_indices()
    n_near = np.asarray(near.sum(axis=1)).ravel()
    given = rows_and_columns(truth)
    lacking = n_near[given[0]] - values_at(having, *given)
    lost = _at(given, (2 * lacking >= n_near[given[0]]) & (n_near[given[0]] > 0))
    others = rows_and_columns(having)
    is_other = ~values_at(truth, *others).astype(np.bool_)
    missed = _at(others, is_other & (2 * values_at(having, *others) >= n_near[others[0]]))
    cells = [np.concatenate(both) for both in zip(lost, missed, strict=True)]
    return flags_at(cells[0], cells[1], truth.shape)


def _at(cells: tuple[IntArray, IntArray], wanted: BoolArray) -> tuple[IntArray, IntArray]:
    return cells[0][wanted], cells[1][wanted]
