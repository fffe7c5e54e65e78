"""Which texts a cheap look may answer beside a dear one, settled on rows that neither knew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.backends import asks_service, encoder_of
from cascade.learn.combining import row_counts
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import labels_out_of_fold
from cascade.learn.promises import keeps
from cascade.learn.truth import Cells
from cascade.model.decide import decide
from cascade.model.folder import FirstLook, Manifest
from cascade.model.looks import NO_DOUBT, doubts_of
from cascade.model.walk import Walked
from cascade.system.array_types import IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.validation.doubts import LEAST_SHARE, ONE_LABEL, Floats, greatest_doubt, micro_f1_lost


def may_pay(taxonomy: Taxonomy) -> bool:
    """Whether some encoder takes long enough for a first look to be worth its time.

    Tables of token vectors are read faster than words are counted.
    """
    options = [group.backend.options for group in taxonomy.groups.values()]
    if any(map(asks_service, options)):
        return True
    from cascade.encoders.store import is_fast  # who has words alone needs none of it

    return any(not is_fast(name) for name in {encoder_of(one) for one in options} if name is not None)


_KNOWS = {"words": "words alone", "encoder": "words and meaning"}


def told_of_look(look: FirstLook | None, most_lost: float, tier: str = "words") -> str:
    """What came of a look, in words."""
    knows = _KNOWS[tier]
    if look is None:
        return f"first look: none, as {knows} may lose more than {most_lost:g} of micro F1"
    if look.doubt == NO_DOUBT:
        return (
            f"first look: {knows} may lose more than {most_lost:g} of micro F1, and answer nothing; "
            "`cascade tune` hands on by share, quality or cost"
        )
    lost = f"{look.loss:.4f} of micro F1 lost" if look.loss > 0 else "nothing lost"
    return f"first look: {knows} answer {look.share:.0%} of the rows out of fold, {lost}"


@dataclass(frozen=True)
class Answers:
    """What a look answers to rows that it did not know.

    Attributes
    ----------
    hits, chosen
        int64, shape (n_rows,): its true labels and all of its labels.
    truth
        The true cells, columns as in `Graph.labels`.
    cells
        Its cells.
    """

    hits: IntArray
    chosen: IntArray
    truth: Cells
    cells: Cells

    @classmethod
    def of(cls, dataset: Dataset, rows: IntArray, walked: Walked, manifest: Manifest) -> Answers:
        """Those of the combined out-of-fold walk of these `rows` of a data set."""
        truth, cells = labels_out_of_fold(dataset, rows, walked, manifest.thresholds, manifest.exclusive)
        wrong = cells.without(truth)
        chosen = np.bincount(cells.rows, minlength=cells.n_rows)
        return cls(chosen - np.bincount(wrong.rows, minlength=cells.n_rows), chosen, truth, cells)


def first_look(
    dataset: Dataset,
    rows: IntArray,
    first: tuple[Manifest, Walked],
    second: tuple[Manifest, Walked],
    most_lost: float,
    *,
    tier: str = "words",
    before: FirstLook | None = None,
    is_wanted: bool = False,
) -> FirstLook | None:
    """What a cheaper look may answer; None where that is next to nothing.

    Parameters
    ----------
    rows
        int64, shape (n_rows,), ascending: the rows of the data set that neither knew.
    first, second
        What was settled of both, and the combined walks of these rows.
    most_lost
        So much micro F1 may be lost against the second look for all rows.
    tier, before
        What the first look knows, and what looks before it.
    is_wanted
        Whether it is kept where it may answer nothing, for `cascade tune` to say otherwise.
    """
    manifest, walked = first
    thresholds, exclusive = manifest.thresholds, manifest.exclusive
    doubts = doubts_of(walked, lambda part: decide(dataset.taxonomy, thresholds, part.paths, exclusive))
    answers = Answers.of(dataset, rows, walked, manifest), Answers.of(dataset, rows, second[1], second[0])
    counts = row_counts(dataset.taxonomy.graph, dataset.truth.take(rows))
    lost, total = losses(*answers, counts)
    bound = greatest_doubt(doubts, lost / total, ONE_LABEL / total, most_lost)
    labels = dataset.taxonomy.graph.labels
    while bound is not None and not keeps_promises(doubts <= bound, *answers, labels, second[0].promises):
        left = np.sort(doubts[doubts <= bound])
        bound = float(left[len(left) // 2 - 1]) if len(left) > 1 and left[0] < bound else None
    if bound is None or np.mean(doubts <= bound) < LEAST_SHARE:
        if not is_wanted:
            return None
        bound = NO_DOUBT
    by_first = doubts <= bound
    return FirstLook(
        doubt=bound,
        share=float(by_first.mean()) if len(by_first) else 0.0,
        loss=float(lost[by_first].sum() / total),
        groups=manifest.groups,
        thresholds=manifest.thresholds,
        combination=manifest.combination or {},
        exclusive=manifest.exclusive,
        least_known=manifest.least_known,
        tier=tier,
        first_look=before,
    )


def losses(first: Answers, second: Answers, counts: IntArray) -> tuple[Floats, float]:
    """What each row loses of micro F1 where the first look answers it, times a number that is told as well.

    Parameters
    ----------
    counts
        int64, shape (n_rows,): for how many each row counts.
    """
    given = np.bincount(first.truth.rows, minlength=first.truth.n_rows)
    return micro_f1_lost((first.hits, second.hits), (first.chosen, second.chosen), given, counts)


def keeps_promises(
    by_first: NDArray[np.bool_],
    first: Answers,
    second: Answers,
    labels: tuple[str, ...],
    promises: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Whether each precision that the second look promises is kept where the first answers some rows."""
    for place, label in enumerate(labels):
        promise = promises.get(label)
        if promise is None or promise["bound"] is None:
            continue
        own = first.cells.of(place), second.cells.of(place)
        rows = np.concatenate([own[0][by_first[own[0]]], own[1][~by_first[own[1]]]])
        if not keeps(promise["precision"], int(np.isin(rows, first.truth.of(place)).sum()), len(rows)):
            return False
    return True
