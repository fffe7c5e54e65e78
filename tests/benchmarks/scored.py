"""Scored rows: written by all systems alike, and read back as F1.

Runs in our environment and in that of the peers, so only the standard library is imported.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# What systems without thresholds of their own are tried with; nothing at or below the least is written.
CUTS = tuple(step / 20 for step in range(1, 15))
LEAST = CUTS[0]


class F1(NamedTuple):
    """Micro F1, and macro F1: the mean over the labels that occur in the test rows."""

    micro: float
    macro: float


def of_matrix(scores: Any) -> Iterator[tuple[list[int], list[float]]]:
    """Columns and scores of each row of a dense array that are above `LEAST`; NaN is not."""
    for row in scores:
        columns = (row > LEAST).nonzero()[0]
        yield columns.tolist(), row[columns].tolist()


def of_sparse(scores: Any) -> Iterator[tuple[list[int], list[float]]]:
    """The same of a CSR matrix."""
    columns, values = scores.indices.tolist(), scores.data.tolist()
    for start, end in zip(scores.indptr[:-1].tolist(), scores.indptr[1:].tolist(), strict=True):
        pairs = [pair for pair in zip(columns[start:end], values[start:end], strict=True) if pair[1] > LEAST]
        yield [column for column, _ in pairs], [value for _, value in pairs]


def write(path: Path, labels: Sequence[str], rows: Iterable[tuple[list[int], list[float]]]) -> None:
    """One JSON object a row, numbered from 1, with the score of each label that has one."""
    with path.open("w", encoding="utf-8") as out:
        for number, (columns, values) in enumerate(rows, 1):
            scores = {labels[j]: round(value, 6) for j, value in zip(columns, values, strict=True)}
            out.write(json.dumps({"id": number, "scores": scores}) + "\n")


def f1_of_answers(test: Path, answers: Path) -> F1:
    """F1 of the labels that `cascade predict` chose with the thresholds of its model."""
    return _f1(_labels_of(test), [row["labels"] for row in _rows(answers)])


def best_f1(test: Path, scored: Path) -> F1:
    """F1 at the one of `CUTS` that has the best micro F1 on these very rows."""
    truth, scores = _labels_of(test), [row["scores"] for row in _rows(scored)]
    return max(
        _f1(truth, [[label for label, score in row.items() if score > cut] for row in scores]) for cut in CUTS
    )


def _rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _labels_of(path: Path) -> list[list[str]]:
    return [row["labels"] for row in _rows(path)]


def _f1(truth: Sequence[Sequence[str]], chosen: Sequence[Sequence[str]]) -> F1:
    hits: Counter[str] = Counter()
    # A label's F1 is 2 hits / (times given + times chosen).
    given = Counter(label for row in truth for label in row)
    both = given + Counter(label for row in chosen for label in row)
    for of_row, picked in zip(truth, chosen, strict=True):
        hits.update(set(of_row).intersection(picked))
    micro = 2 * hits.total() / max(both.total(), 1)
    return F1(micro, sum(2 * hits[label] / both[label] for label in given) / max(len(given), 1))
