"""Thresholds from out-of-fold path probabilities: of labels, for the best F1 or a promise; of routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.backends.base import BoolArray, FloatArray
from cascade.calibrate import logit, sigmoid
from cascade.folds import stratified_folds
from cascade.taxonomy import Threshold

# Share of a group's true rows that routing has to keep.
KEPT = 0.995
# A group as probable as this is always asked: where few rows part cleanly, all of the true ones score near 1
# out of fold, and a text that is a little unlike them would end at the router.
ALWAYS_ASKED = 0.1
# Positives at which a label's own threshold weighs as much as the global one; which of them is settled on
# held-out rows, as flat data want little of it and noisy data much.
SHRINKAGES = (10.0, 30.0, 100.0, 300.0, 1000.0)
FOLDS = 3
# Figures nearer than this are equal but for rounding.
ROUNDING = 1e-12
ONE, ZERO = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)


@dataclass(frozen=True)
class Curve:
    """One label's counts at every place where its scores can be cut, from nothing chosen down.

    Attributes
    ----------
    cuts
        float32, shape (n_cuts,), descending: scores at or above the cut are chosen. Equal scores are never
        parted, and each cut stands half way between two of them, or on the upper one where float32 has
        nothing in between. Where a score is 1, no cut chooses nothing.
    chosen, hits
        int64, shape (n_cuts,): how many rows are chosen, and how many of them are true.
    positives
        How many rows are true.
    """

    cuts: FloatArray
    chosen: NDArray[np.int64]
    hits: NDArray[np.int64]
    positives: int

    @classmethod
    def of(cls, scores: FloatArray, truth: BoolArray) -> Curve:
        """The curve of scores in [0, 1], shape (n_texts,); NaN (not visited) is never chosen."""
        positives = int(truth.sum())
        visited = ~np.isnan(scores)
        scores, truth = scores[visited].astype(np.float32), truth[visited]
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], np.concatenate([[0], np.cumsum(truth[order])])
        last = (
            np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True)) + 1
            if len(ranked)
            else np.array([], int)
        )
        at = np.concatenate([[0], last]).astype(np.int64)
        above = np.concatenate([ONE, ranked])[at]
        below = np.concatenate([ranked, ZERO])[at]
        middle = (above + below) / 2
        cuts = np.where(middle > below, middle, above)
        reached = at[int(len(ranked) > 0 and ranked[0] >= 1) :]
        return cls(cuts[-len(reached) :], reached, hits[reached].astype(np.int64), positives)


@dataclass(frozen=True)
class Counts:
    """True positives, chosen and positives, summed over labels."""

    hits: int = 0
    chosen: int = 0
    positives: int = 0

    def plus(self, curve: Curve, cut: int) -> Counts:
        return Counts(
            self.hits + int(curve.hits[cut]),
            self.chosen + int(curve.chosen[cut]),
            self.positives + curve.positives,
        )


def f1(hits: NDArray[np.int64] | int, chosen: NDArray[np.int64] | int, positives: int) -> NDArray[np.float64]:
    """2 hits / (chosen + positives), 0 where nothing is chosen and nothing true."""
    total = np.asarray(chosen + positives, dtype=np.float64)
    return np.where(total > 0, 2 * np.asarray(hits) / np.maximum(total, 1), 0.0)


def micro_macro_cuts(curves: Sequence[Curve]) -> list[float]:
    """One cut for each label that makes micro F1 + macro F1 greatest, label by label.

    "micromacro-freq" of Lin and Lin, "On the Thresholding Strategy for Infrequent Labels in Multi-label
    Classification" (CIKM 2023), section 4.3: labels are taken from the most frequent to the rarest, and each
    one's cut is the best for its own F1 (over the number of labels so far) plus the micro F1 with all labels
    before it. Of equally good cuts the highest is taken.
    """
    order = sorted(range(len(curves)), key=lambda label: (-curves[label].positives, label))
    cuts = [1.0] * len(curves)
    so_far = Counts()
    for rank, label in enumerate(order, 1):
        curve = curves[label]
        own = f1(curve.hits, curve.chosen, curve.positives) / rank
        micro = f1(so_far.hits + curve.hits, so_far.chosen + curve.chosen, so_far.positives + curve.positives)
        best = _first_best(own + micro)
        cuts[label] = float(curve.cuts[best])
        so_far = so_far.plus(curve, best)
    return cuts


def global_cut(scores: FloatArray, truth: BoolArray) -> float:
    """The one cut over all labels with the greatest micro F1."""
    curve = Curve.of(scores.ravel(), truth.ravel())
    return float(curve.cuts[_first_best(f1(curve.hits, curve.chosen, curve.positives))])


def _first_best(figures: NDArray[np.float64]) -> int:
    return int((figures >= figures.max() - ROUNDING).argmax())


def best_f1(scores: FloatArray, truth: BoolArray) -> float:
    """Micro F1 at the global cut."""
    curve = Curve.of(scores.ravel(), truth.ravel())
    return float(f1(curve.hits, curve.chosen, curve.positives).max())


def shrunk(cuts: Sequence[float], whole: float, positives: NDArray[np.int64], shrinkage: float) -> FloatArray:
    """Cuts drawn to the global one, in log odds, with weight shrinkage / (positives + shrinkage); float32.

    A weight of 0 or 1, and two equal cuts, give that cut to the bit: a detour over log odds would move rows.
    """
    own = np.asarray(cuts)
    weight = positives / np.maximum(positives + shrinkage, 1e-12)
    drawn = weight * logit(own) + (1 - weight) * logit(np.asarray(whole))
    return np.select([(weight == 1) | (own == whole), weight == 0], [own, whole], sigmoid(drawn)).astype(
        np.float32
    )


def auto_thresholds(scores: FloatArray, truth: BoolArray, texts: Sequence[str], seed: int) -> FloatArray:
    """Thresholds for the best micro F1 + macro F1 on rows like these, float32, shape (n_labels,).

    How far labels are drawn to the global threshold is settled by cross-validation over the same rows.

    Parameters
    ----------
    scores
        float32, shape (n_texts, n_labels): out-of-fold path probabilities, NaN where not visited.
    truth
        bool, of the same shape.
    texts
        n_texts strings; equal ones stay on one side.
    seed
        Fixes the folds.
    """
    if not truth.any():
        return np.full(truth.shape[1], 0.5, dtype=np.float32)
    shrinkage = _settled_shrinkage(scores, truth, texts, seed)
    return _at(scores, truth, [shrinkage])[0]


def _at(scores: FloatArray, truth: BoolArray, shrinkages: Sequence[float]) -> list[FloatArray]:
    """Thresholds at each of the shrinkages."""
    curves = [Curve.of(scores[:, label], truth[:, label]) for label in range(truth.shape[1])]
    cuts, whole = micro_macro_cuts(curves), global_cut(scores, truth)
    positives = truth.sum(axis=0)
    return [shrunk(cuts, whole, positives, shrinkage) for shrinkage in shrinkages]


def _settled_shrinkage(scores: FloatArray, truth: BoolArray, texts: Sequence[str], seed: int) -> float:
    fold_of = stratified_folds(truth, texts, FOLDS, seed)
    chosen = np.zeros((len(SHRINKAGES), *truth.shape), dtype=bool)
    for fold in range(FOLDS):
        train, test = fold_of != fold, fold_of == fold
        for index, cuts in enumerate(_at(scores[train], truth[train], SHRINKAGES)):
            chosen[index, test] = scores[test] >= cuts
    return SHRINKAGES[int(np.argmax([_micro_plus_macro(truth, one) for one in chosen]))]


def _micro_plus_macro(truth: BoolArray, chosen: BoolArray) -> float:
    hits, picked, positives = (truth & chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0)
    each = np.where(positives > 0, 2 * hits / np.maximum(picked + positives, 1), 0.0)
    micro = float(f1(int(hits.sum()), int(picked.sum()), int(positives.sum())))
    return micro + float(each.sum() / max(int((positives > 0).sum()), 1))


def promised_threshold(curve: Curve, wanted: Threshold) -> float:
    """The cut that keeps a promise: the most recall at that precision, or the most precision at that recall.

    Of cuts with equal recall the one with more precision is taken, and the other way round.
    Where no cut reaches the precision, the one with the greatest precision; where even the lowest cut falls
    short of the recall (rows that routing lost), the lowest one.
    """
    least = wanted.value or 0.0
    some = np.flatnonzero(curve.chosen)
    if not len(some) or not curve.positives:
        return float(curve.cuts[0])
    precision, recall = curve.hits[some] / curve.chosen[some], curve.hits[some] / curve.positives
    if wanted.kind == "recall":
        kept, first, second = recall >= least, precision, recall
        fallback = len(some) - 1
    else:
        kept, first, second = precision >= least, recall, precision
        fallback = int(np.lexsort((recall, precision))[-1])
    enough = np.flatnonzero(kept)
    best = enough[np.lexsort((second[enough], first[enough]))[-1]] if len(enough) else fallback
    return float(curve.cuts[some][best])


def route_threshold(path: FloatArray, truth: BoolArray) -> float:
    """The greatest path probability that keeps `KEPT` of a group's true rows, at most `ALWAYS_ASKED`.

    It is 0 where none of them was ever scored.

    Parameters
    ----------
    path
        float32, shape (n_texts,): out-of-fold path probabilities of the group, NaN where not scored.
    truth
        bool, of the same shape: rows that truly belong to it.
    """
    kept = np.sort(path[truth & ~np.isnan(path)])
    return min(float(kept[int(len(kept) * (1 - KEPT))]), ALWAYS_ASKED) if len(kept) else 0.0
