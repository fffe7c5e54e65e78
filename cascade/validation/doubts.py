"""How doubtful a cheap answer is, and up to which doubt hardly anything is lost by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, FloatArray
from cascade.system.compiled import kernel

Floats = NDArray[np.float64]

# With so many standard errors the loss on rows to come is no more than its bound in nine cases of ten.
NINE_OF_TEN = 1.2816
# What a label that only one of two answers has right is to micro F1, before it is divided by all labels.
ONE_LABEL = 2.0
# What answers fewer rows costs more than it saves.
LEAST_SHARE = 0.05


@kernel
def expected_errors(
    probabilities: FloatArray, chosen: BoolArray, first: int, may_be_none: bool, found: Floats
) -> None:
    """Fill `found` with the number of answers of each row that are expected to be wrong.

    A chosen one is wrong with 1 less its probability, any other that is not NaN with its probability.

    Parameters
    ----------
    probabilities, chosen
        shape (n_rows, n_columns).
    first
        The column from which on they count; what is chosen before it makes an answer, and nothing else.
    may_be_none
        Whether to choose nothing is an answer like others; if not, the number is infinite there.
    found
        shape (n_rows,).
    """
    for row in range(len(probabilities)):
        total, is_some = 0.0, may_be_none
        for is_chosen in chosen[row]:
            is_some |= is_chosen
        for column in range(first, probabilities.shape[1]):
            probability = probabilities[row, column]
            if not np.isnan(probability):
                total += 1.0 - probability if chosen[row, column] else probability
        found[row] = total if is_some else np.inf


def micro_f1_lost(
    hits: tuple[NDArray[np.number], NDArray[np.number]],
    chosen: tuple[NDArray[np.number], NDArray[np.number]],
    given: NDArray[np.number],
    counts: NDArray[np.number],
) -> tuple[Floats, float]:
    """What each row loses of micro F1 where the cheap one answers it, times a number that is told as well.

    Micro F1 is 2 hits / (chosen + given): this is its differential at the answers of the dear one.

    Parameters
    ----------
    hits, chosen
        Of the cheap and of the dear one, each of shape (n_rows,): the true labels of each row and all of
        its labels.
    given
        shape (n_rows,): how many labels it has in truth.
    counts
        shape (n_rows,): for how many each row counts.
    """
    total = float(max((counts * (chosen[1] + given)).sum(), 1))
    micro_f1 = 2 * (counts * hits[1]).sum() / total
    lost = 2 * (hits[1] - hits[0]) - micro_f1 * (chosen[1] - chosen[0])
    return np.asarray(counts * lost, dtype=np.float64), total


def greatest_doubt(doubts: Floats, lost: Floats, one_label: float, most_lost: float) -> float | None:
    """The greatest doubt up to which the cheap one loses no more than it may; None where there is none.

    It is looked for from the least doubt up, and ends where the upper bound of the loss first is too high:
    so no bound is the best of many that were tried (fixed sequence testing, as in Angelopoulos et al., "Learn
    then test", 2021). The bound is the score interval of a rate, with `NINE_OF_TEN`: without any loss among
    them it takes some 800 rows before anything may be answered cheaply for a loss of 0.002.

    Parameters
    ----------
    doubts
        shape (n_rows,).
    lost
        shape (n_rows,): what each row loses where the cheap one answers it.
    one_label
        The same for a row with one label of which only the dear one has it right.
    """
    order = np.argsort(doubts, kind="stable")
    spread = np.cumsum(lost[order] ** 2) + (NINE_OF_TEN * one_label / 2) ** 2
    bounds = np.cumsum(lost[order]) + NINE_OF_TEN**2 * one_label / 2 + NINE_OF_TEN * np.sqrt(spread)
    ranked = doubts[order]
    # Equal doubts are answered alike, and who doubts without end answers nothing.
    ends = np.append(ranked[1:] != ranked[:-1], True) & np.isfinite(ranked)
    kept = np.logical_and.accumulate((bounds <= most_lost) | ~ends) & ends
    return float(ranked[kept][-1]) if kept.any() else None


def best_cut(scores: FloatArray, targets: BoolArray) -> tuple[float, float]:
    """The one least score of what is chosen with the greatest micro F1 over all columns, and that figure.

    Equally good ones are decided for the highest. It lies between what is chosen and the next score below;
    infinite where choosing anything is of no use.

    Parameters
    ----------
    scores
        shape (n_rows, n_columns), each in [0, 1]; NaN is never chosen.
    targets
        bool, of the same shape.
    """
    flat = np.nan_to_num(scores, nan=-1.0).ravel()
    order = np.argsort(-flat, kind="stable")
    ranked = flat[order]
    hits = np.cumsum(targets.ravel()[order])
    ends = np.append(np.diff(ranked) != 0, True)
    f1 = np.where(ends & (ranked >= 0), 2 * hits / (np.arange(1, len(flat) + 1) + targets.sum()), 0)
    figure = float(f1.max(initial=0.0))
    if figure == 0:
        return float("inf"), 0.0
    last = int(np.argmax(f1))
    below = max(float(ranked[last + 1]), 0.0) if last + 1 < len(ranked) else 0.0
    return (float(ranked[last]) + below) / 2, figure
