"""Thresholds from out-of-fold path probabilities: of labels, for the best F1 or a promise; of routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.taxonomy.settings import Threshold
from cascade.validation.calibration import logit, sigmoid
from cascade.validation.folds import folds_of_cells

Keys = NDArray[np.uint32]

# Share of a group's true rows that routing has to keep.
KEPT = 0.995
# A group as probable as this is always asked: where few rows part cleanly, all of the true ones score near 1
# out of fold, and a text that is a little unlike them would end at the router.
ALWAYS_ASKED = 0.1
# Where a model is asked in words, one question in twenty has to find something: a router that is not sure
# would have nearly every group asked about nearly every text.
WORTH_ASKING = 0.05
# Positives at which a label's own threshold weighs as much as the global one; which of them is settled on
# held-out rows, as flat data want little of it and noisy data much.
SHRINKAGES = (10.0, 30.0, 100.0, 300.0, 1000.0)
# So many times rows are parted into so many folds. Held-out micro F1 + macro F1 is greater by .0004 to .004
# on five sets than with three thirds of one parting.
FOLDS, ROUNDS = 3, 3
# Figures nearer than this are equal but for rounding.
ROUNDING = 1e-12
# The key of a score of 1 whose row is not true.
KEY_OF_ONE = np.uint32(~(int(np.float32(1).view(np.uint32)) << 1) & 0xFFFFFFFF)


@dataclass(frozen=True)
class Curve:
    """Scores of some rows, from the highest down, and the truth of each: every way to cut them.

    Rows at or above a cut are chosen. Equal scores are never parted, and each cut stands half way between two
    of them, or on the upper one where float32 has nothing in between. Where a score is 1, no cut chooses
    nothing.

    Attributes
    ----------
    keys
        uint32, shape (n_visited,), ascending: see `_keys`.
    positives
        How many rows are true, whether visited or not.
    """

    keys: Keys
    positives: int

    @classmethod
    def of(cls, scores: FloatArray, truth: BoolArray) -> Curve:
        """The curve of scores in [0, 1], shape (n_texts,); NaN (not visited) is never chosen."""
        visited = ~np.isnan(scores)
        return cls(np.sort(_keys(scores[visited], truth[visited])), int(truth.sum()))

    @classmethod
    def of_visited(cls, scores: FloatArray, truth: BoolArray, positives: int) -> Curve:
        """The curve of scores of visited rows alone, of which `truth` tells; `positives` counts all rows."""
        return cls(np.sort(_keys(scores, truth)), positives)

    @classmethod
    def of_all(cls, curves: Sequence[Curve]) -> Curve:
        """The curve of the rows of all of them."""
        keys = np.concatenate([np.empty(0, dtype=np.uint32), *(curve.keys for curve in curves)])
        keys.sort()
        return cls(keys, sum(curve.positives for curve in curves))

    def counts(self) -> tuple[IntArray, IntArray]:
        """How many rows each cut chooses, from nothing down, and how many of them are true; int64."""
        ranks = self.keys >> np.uint32(1)
        none = [] if len(ranks) and self.keys[0] <= KEY_OF_ONE else [0]
        last = [len(ranks)] if len(ranks) else []
        chosen = np.concatenate([none, np.flatnonzero(ranks[1:] != ranks[:-1]) + 1, last]).astype(np.int64)
        hits = np.concatenate([[0], np.cumsum(_truth(self.keys), dtype=np.int64)])
        return chosen, hits[chosen]

    def cut(self, chosen: int) -> float:
        """The cut that chooses so many rows, exactly a float32 number."""
        above = _scores(self.keys[chosen - 1 : chosen])[0] if chosen else np.float32(1)
        below = _scores(self.keys[chosen : chosen + 1])[0] if chosen < len(self.keys) else np.float32(0)
        middle = (above + below) / 2
        return float(middle if middle > below else above)

    def best(self, share: float = 0.0, hits: int = 0, total: int = 0) -> tuple[int, int, float]:
        """How many rows the best cut chooses, how many of them are true, and its figure.

        The figure is `share` of the F1 of this curve alone, and the micro F1 of this and other curves: of
        their rows `hits` are both chosen and true, and `total` counts the chosen and the true. Of equally
        good cuts the highest is taken.
        """
        others = (self.positives, share, hits, total)
        _, _, greatest = _reaching(self.keys, *others, np.inf)
        return _reaching(self.keys, *others, greatest - ROUNDING)


def _keys(scores: FloatArray, truth: BoolArray) -> Keys:
    """Whole numbers in the order of falling scores, true rows first among equal ones.

    They are the bits of the scores, which are in the order of the scores where these are 0 or above, then one
    bit for the truth, all of them turned over: sorted much faster than floats, and in half the room.
    """
    bits = scores.astype(np.float32).view(np.uint32)
    return ~(bits << np.uint32(1) | truth)  # the sign, which zero may have, is shifted out


def _scores(keys: Keys) -> FloatArray:
    return (~keys >> np.uint32(1)).view(np.float32)


def _truth(keys: Keys) -> BoolArray:
    return (~keys & np.uint32(1)).astype(bool)


@kernel
def _chosen(keys: Keys, last: np.uint32) -> tuple[int, int]:
    """How many of the keys up to the last one are true, and how many there are."""
    chosen, above = 0, len(keys)
    while chosen < above:
        middle = (chosen + above) // 2
        if keys[middle] <= last:
            chosen = middle + 1
        else:
            above = middle
    hits = 0
    for key in keys[:chosen]:
        hits += ~key & 1
    return hits, chosen


@kernel
def _reaching(
    keys: Keys, positives: int, share: float, hits: int, total: int, wanted: float
) -> tuple[int, int, float]:
    """What `Curve.best` tells of the first cut from above whose figure is at least `wanted`.

    Where there is none, the lowest cut and the greatest figure of all.
    """
    greatest = -np.inf
    own_hits = 0
    for chosen in range(len(keys) + 1):
        if chosen:
            own_hits += ~keys[chosen - 1] & 1
        if 0 < chosen < len(keys) and keys[chosen - 1] >> 1 == keys[chosen] >> 1:
            continue
        if chosen == 0 and len(keys) and keys[0] <= KEY_OF_ONE:
            continue
        own_total, whole = chosen + positives, total + chosen + positives
        own = 2 * own_hits / own_total if own_total else 0.0
        figure = share * own + (2 * (hits + own_hits) / whole if whole else 0.0)
        greatest = max(greatest, figure)
        if figure >= wanted:
            return chosen, own_hits, figure
        # What a lower cut comes to at most, were all that is true above this one.
        most = share * (2 * positives / own_total) + 2 * (hits + positives) / whole if own_total else 0.0
        if most < greatest:
            break
    return len(keys), own_hits, greatest


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
    hits = total = 0
    for rank, label in enumerate(order, 1):
        curve = curves[label]
        chosen, own_hits, _ = curve.best(1 / rank, hits, total)
        cuts[label] = curve.cut(chosen)
        hits += own_hits
        total += chosen + curve.positives
    return cuts


def global_cut(curves: Sequence[Curve]) -> float:
    """The one cut over all labels with the greatest micro F1."""
    whole = Curve.of_all(curves)
    chosen, _, _ = whole.best()
    return whole.cut(chosen)


def best_f1(scores: FloatArray, truth: BoolArray) -> float:
    """Micro F1 at the best cut over all labels."""
    _, _, figure = Curve.of(scores.ravel(), truth.ravel()).best()
    return figure


def shrunk(
    cuts: Sequence[float] | NDArray[np.floating], whole: float, positives: NDArray[np.int64], shrinkage: float
) -> FloatArray:
    """Cuts drawn to the global one, in log odds, with weight shrinkage / (positives + shrinkage); float32.

    A weight of 0 or 1, and two equal cuts, give that cut to the bit: a detour over log odds would move rows.
    """
    own = np.asarray(cuts)
    weight = positives / np.maximum(positives + shrinkage, 1e-12)
    drawn = weight * logit(own) + (1 - weight) * logit(np.asarray(whole))
    return np.select([(weight == 1) | (own == whole), weight == 0], [own, whole], sigmoid(drawn)).astype(
        np.float32
    )


@dataclass(frozen=True, eq=False)
class LabelScores:
    """Scores of one label and where it is true.

    Attributes
    ----------
    rows
        int64, shape (n_visited,), ascending: the rows at which the label was visited, some more than once
        where they count for several.
    scores
        float32, of the same shape: its path probability at each.
    positives
        int64, ascending: the rows at which it is true, visited or not.
    """

    rows: IntArray
    scores: FloatArray
    positives: IntArray

    @classmethod
    def of(cls, scores: FloatArray, truth: BoolArray) -> LabelScores:
        """From scores of all rows, shape (n_texts,), NaN where not visited, and the truth of each."""
        rows = np.flatnonzero(~np.isnan(scores))
        return cls(rows, scores[rows], np.flatnonzero(truth))

    @cached_property
    def truth(self) -> BoolArray:
        """Whether the label is true at each of `rows`."""
        return np.asarray(
            np.append(self.positives, -1)[np.searchsorted(self.positives, self.rows)] == self.rows
        )

    def repeated(self, counts: IntArray) -> LabelScores:
        """With each row as often as it counts, shape (n_texts,); rows where the label is true count once."""
        if counts.max(initial=1) == 1:
            return self
        times = np.where(self.truth, 1, counts[self.rows])
        return LabelScores(np.repeat(self.rows, times), np.repeat(self.scores, times), self.positives)

    def curve(self) -> Curve:
        """Every way to cut all rows."""
        return Curve.of_visited(self.scores, self.truth, len(self.positives))

    def curves(self, fold_of: IntArray, folds: int) -> list[Curve]:
        """Every way to cut the rows of each fold."""
        keys, rows = self._ranked
        parted, ends = np.empty_like(keys), np.zeros(folds + 1, dtype=np.int64)
        _part(keys, rows, fold_of, parted, ends)
        positives = np.bincount(fold_of[self.positives], minlength=folds)
        return [
            Curve(parted[start:end], count)
            for (start, end), count in zip(pairwise(ends.tolist()), positives.tolist(), strict=True)
        ]

    @cached_property
    def _ranked(self) -> tuple[Keys, NDArray[np.uint32]]:
        """The keys, ascending, and the row of each: sorted once, however often they are parted."""
        both = _keys(self.scores, self.truth).astype(np.uint64) << np.uint64(32) | self.rows.astype(np.uint64)
        both.sort()
        return (both >> np.uint64(32)).astype(np.uint32), both.astype(np.uint32)


@kernel
def _part(keys: Keys, rows: NDArray[np.uint32], fold_of: IntArray, parted: Keys, ends: IntArray) -> None:
    """Write the keys fold by fold, each in its order; those of fold i lie from ends[i] to ends[i + 1]."""
    for row in rows:
        ends[fold_of[row] + 1] += 1
    for fold in range(1, len(ends)):
        ends[fold] += ends[fold - 1]
    place = ends[:-1].copy()
    for at in range(len(keys)):
        fold = fold_of[rows[at]]
        parted[place[fold]] = keys[at]
        place[fold] += 1


def auto_thresholds(labels: Sequence[LabelScores], clusters: IntArray, seed: int) -> FloatArray:
    """Thresholds for the best micro F1 + macro F1 on rows like these, float32, shape (n_labels,).

    Cuts are found on each of some folds alone, of several partings, and averaged in log odds, as the one best
    cut of a label is a matter of a few rows (Breiman, "Bagging predictors", Machine Learning 24, 1996). How
    far labels are drawn to the global threshold is settled on the rows of folds that had no part in a cut.

    Parameters
    ----------
    labels
        Out-of-fold path probabilities of each label.
    clusters
        int64, shape (n_texts,): rows of one number stay on one side.
    seed
        Fixes the folds.
    """
    positives = np.array([len(label.positives) for label in labels], dtype=np.int64)
    if not positives.any():
        return np.full(len(labels), 0.5, dtype=np.float32)
    rows = np.concatenate([label.positives for label in labels])
    columns = np.repeat(np.arange(len(labels)), positives)
    figures = np.zeros((len(SHRINKAGES), 2, len(labels)), dtype=np.int64)
    cuts: list[_Cuts] = []
    for parting in range(ROUNDS):
        fold_of = folds_of_cells(rows, columns, len(labels), clusters, FOLDS, seed * ROUNDS + parting)
        curves = [label.curves(fold_of, FOLDS) for label in labels]
        folds = [[of_label[fold] for of_label in curves] for fold in range(FOLDS)]
        found = [_Cuts.of(fold) for fold in folds]
        for fold, own in zip(folds, found, strict=True):
            others = [other for other in found if other is not own]
            known = positives - own.positives
            for index, shrinkage in enumerate(SHRINKAGES):
                figures[index] += reached(fold, _averaged(others, known, shrinkage))
        cuts += found
    best = int(np.argmax([_micro_plus_macro(hits, chosen, ROUNDS * positives) for hits, chosen in figures]))
    return _averaged(cuts, positives, SHRINKAGES[best])


@dataclass(frozen=True, eq=False)
class _Cuts:
    """What some rows say: the best cut of each label, how many of them have it, and the global cut."""

    own: NDArray[np.float64]
    positives: IntArray
    whole: float

    @classmethod
    def of(cls, curves: Sequence[Curve]) -> _Cuts:
        positives = np.array([curve.positives for curve in curves], dtype=np.int64)
        return cls(np.array(micro_macro_cuts(curves)), positives, global_cut(curves))


def reached(curves: Sequence[Curve], cuts: FloatArray) -> IntArray:
    """How many rows at or above each label's cut are true, and how many there are, (2, n_labels)."""
    last = _keys(cuts, np.zeros(len(cuts), dtype=bool))
    return np.array([_chosen(curve.keys, key) for curve, key in zip(curves, last, strict=True)]).T


def _averaged(parts: Sequence[_Cuts], positives: IntArray, shrinkage: float) -> FloatArray:
    """Thresholds of labels with so many positives; a part counts for a label as much as it has of them."""
    cuts = _mean(np.array([part.own for part in parts]), np.array([part.positives for part in parts]))
    whole = float(_mean(np.array([part.whole for part in parts]), np.ones(len(parts))))
    return shrunk(cuts, whole, positives, shrinkage)


def _mean(cuts: NDArray[np.float64], weights: NDArray[np.number]) -> NDArray[np.float64]:
    """The weighted mean over the first axis, in log odds.

    It never leaves the range of the cuts, as it else would where these are so near 0 or 1 that log odds end.
    """
    mean = sigmoid((logit(cuts) * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1))
    return np.asarray(np.clip(mean, cuts.min(axis=0), cuts.max(axis=0)))


def _micro_plus_macro(hits: IntArray, chosen: IntArray, positives: IntArray) -> float:
    each = np.where(positives > 0, 2 * hits / np.maximum(chosen + positives, 1), 0.0)
    micro = float(f1(int(hits.sum()), int(chosen.sum()), int(positives.sum())))
    return micro + float(each.sum() / max(int((positives > 0).sum()), 1))


def promised_threshold(curve: Curve, wanted: Threshold) -> float:
    """The cut that keeps a promise: the most recall at that precision, or the most precision at that recall.

    Of cuts with equal recall the one with more precision is taken, and the other way round.
    Where no cut reaches the precision, the one with the greatest precision; where even the lowest cut falls
    short of the recall (rows that routing lost), the lowest one.
    """
    least = wanted.value or 0.0
    chosen, hits = curve.counts()
    some = chosen > 0
    if not some.any() or not curve.positives:
        return curve.cut(int(chosen[0]))
    chosen, hits = chosen[some], hits[some]
    precision, recall = hits / chosen, hits / curve.positives
    if wanted.kind == "recall":
        kept, first, second = recall >= least, precision, recall
        fallback = len(chosen) - 1
    else:
        kept, first, second = precision >= least, recall, precision
        fallback = int(np.lexsort((recall, precision))[-1])
    enough = np.flatnonzero(kept)
    best = enough[np.lexsort((second[enough], first[enough]))[-1]] if len(enough) else fallback
    return curve.cut(int(chosen[best]))


def route_threshold(path: FloatArray, truth: BoolArray, least: float = 0.0) -> float:
    """The greatest path probability that keeps `KEPT` of a group's true rows, at most `ALWAYS_ASKED`.

    It is 0, or `least`, where none of them was ever scored.

    Parameters
    ----------
    path
        float32, shape (n_texts,): out-of-fold path probabilities of the group, NaN where not scored.
    truth
        bool, of the same shape: rows that truly belong to it.
    least
        No less than this, whatever is lost: `WORTH_ASKING` where each question is paid for.
    """
    kept = np.sort(path[truth & ~np.isnan(path)])
    found = min(float(kept[int(len(kept) * (1 - KEPT))]), ALWAYS_ASKED) if len(kept) else 0.0
    return max(found, least)
