"""Figures of merit for answers with several labels: pure functions of arrays.

`truth` and `chosen` are flags of shape (n_texts, n_columns), and `scores` are scores of the same shape, as
`cascade.measure.sparse` has them. A share of nothing is None, an F1 of nothing 0.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from cascade.measure.sparse import (
    Flags,
    Scores,
    are_in,
    both,
    by_column,
    by_row,
    flags_at,
    has,
    joined,
)
from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.graph import Graph

FloatArray = npt.NDArray[np.floating[Any]]
Interval = tuple[float, float]

_INTERVAL_PERCENT = (2.5, 97.5)
# Bounds the memory of a bootstrap: row counts of this many cells, 8 bytes each, are held at once.
_CELLS_AT_ONCE = 2_000_000


LEAST_TOLD = 0.05
BINS = 10


@dataclass(frozen=True, slots=True)
class F1Counts:
    """What an F1 is made of, kept per row so that rows can be drawn anew.

    Attributes
    ----------
    hits : sparse int array (n_texts, n_figures), what is both true and chosen
    sizes : sparse int array (n_texts, n_figures), what is true plus what is chosen
    """

    hits: Any
    sizes: Any

    @classmethod
    def of(cls, truth: Flags, chosen: Flags) -> F1Counts:
        """One figure for each column."""
        hits, true, answered = (flags.astype(np.int64) for flags in (both(truth, chosen), truth, chosen))
        return cls(hits, true + answered)

    def pooled(self, members: Flags) -> F1Counts:
        """One figure for each pool of columns; `members` are flags of shape (n_figures, n_pools)."""
        weights = members.astype(np.int64)
        return F1Counts(self.hits @ weights, self.sizes @ weights)

    def total(self) -> F1Counts:
        """One figure for all columns together."""
        return self.pooled(csr_array(np.ones((self.hits.shape[1], 1), dtype=np.bool_)))

    def f1(self) -> FloatArray:
        """F1 of each figure, 0.0 where nothing is true and nothing chosen."""
        return np.nan_to_num(_f1(self.hits.sum(axis=0), self.sizes.sum(axis=0)))

    def resampled_f1(self, seed: int, resamples: int) -> FloatArray:
        """F1 of each figure in each resample of the rows: (resamples, n_figures).

        NaN where a resample holds nothing true and nothing chosen. All tallies of the same rows see the
        same resamples for a seed.
        """
        n_texts, n_figures = self.hits.shape
        samples = np.full((resamples, n_figures), np.nan)
        if n_texts == 0:
            return samples
        rng = np.random.default_rng(seed)
        step = max(1, _CELLS_AT_ONCE // n_texts)
        for start in range(0, resamples, step):
            counts = _drawn(rng, n_texts, min(step, resamples - start))
            samples[start : start + step] = _f1(self.hits.T @ counts, self.sizes.T @ counts).T
        return samples


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals of the F1s; `columns` is (n_columns, 2), low and high."""

    micro_f1: Interval
    macro_f1: Interval
    columns: FloatArray


def micro_f1(truth: Flags, chosen: Flags) -> float:
    """F1 over all cells."""
    return float(F1Counts.of(truth, chosen).total().f1()[0])


def macro_f1(truth: Flags, chosen: Flags) -> float:
    """Mean F1 of the columns that occur in `truth`, 0.0 when none does."""
    occurs = by_column(truth) > 0
    return float(column_f1(truth, chosen)[occurs].mean()) if occurs.any() else 0.0


def column_f1(truth: Flags, chosen: Flags) -> FloatArray:
    """F1 of each column, 0.0 where nothing is true and nothing chosen."""
    return F1Counts.of(truth, chosen).f1()


def precision_at_1(truth: Flags, scores: Scores) -> float | None:
    """Share of the rows with a label whose label of the greatest score is true.

    The first of equal scores counts; a row without scores is wrong. None without rows that have a label.
    """
    counts = by_row(scores)
    rows = np.flatnonzero(counts)
    best = np.maximum.reduceat(scores.data, scores.indptr[rows])
    at_best = np.flatnonzero(scores.data == np.repeat(best, counts[rows]))
    first = at_best[np.searchsorted(at_best, scores.indptr[rows])]
    is_right = np.zeros(len(counts), dtype=np.bool_)
    is_right[rows] = has(truth, rows, scores.indices[first])
    return share(is_right[by_row(truth) > 0])


def calibration_error(truth: Flags, probabilities: Scores) -> float | None:
    """By how much probabilities are off, in [0, 1]; None where there are none of `LEAST_TOLD` or more.

    The expected calibration error of Naeini, Cooper and Hauskrecht ("Obtaining Well Calibrated Probabilities
    Using Bayesian Binning", AAAI 2015), over all cells: the mean over `BINS` equal bins of the distance
    between mean probability and true share, each counting as many cells as it has. Probabilities below
    `LEAST_TOLD`, which are nearly all, are left out: they would hide the others.
    """
    told = probabilities.data >= LEAST_TOLD
    if not told.any():
        return None
    chance, bins = _in_bins(probabilities.data[told])
    true = are_in(probabilities, truth)[told]
    away = np.bincount(bins, chance, BINS) - np.bincount(bins, true, BINS)
    return float(np.abs(away).sum() / len(chance))


def calibration_error_by_chance(probabilities: Scores) -> float | None:
    """What `calibration_error` would be on average if each probability were exactly right, in [0, 1].

    Few rows are true in other shares than probabilities say, by chance alone. Of a bin that is by
    sqrt(2 / pi) of the standard deviation of a sum of independent trials (the mean absolute deviation of the
    normal distribution, which that sum is close to). None as there.
    """
    told = probabilities.data >= LEAST_TOLD
    if not told.any():
        return None
    chance, bins = _in_bins(probabilities.data[told])
    variance = np.bincount(bins, chance * (1 - chance), BINS)
    return float(np.sqrt(variance * 2 / np.pi).sum() / len(chance))


def _in_bins(probabilities: FloatArray) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Probabilities as float64, and the bin of each."""
    chance = probabilities.astype(np.float64)
    return chance, np.minimum((chance * BINS).astype(np.int64), BINS - 1)


def none_recall(truth: Flags, chosen: Flags) -> float | None:
    """Share of the rows without labels that got none; None when every row has a label."""
    return share(by_row(chosen)[by_row(truth) == 0] == 0)


def exact_match(truth: Flags, chosen: Flags) -> float | None:
    """Share of the rows whose labels are all right and all there; None without rows."""
    return share(by_row(truth != chosen) == 0)


def share(flags: BoolArray) -> float | None:
    """Share of `flags` that are True; None when there are none."""
    return float(flags.mean()) if flags.size else None


def closure(graph: Graph) -> Flags:
    """Each node and all of its ancestors: flags of shape (n_nodes, n_nodes)."""
    above = [
        [graph.column[name], *map(graph.column.__getitem__, graph.ancestors(name))] for name in graph.nodes
    ]
    nodes = np.repeat(np.arange(len(above)), [len(own) for own in above])
    columns = np.fromiter((column for own in above for column in own), np.int64, len(nodes))
    return flags_at(nodes, columns, (len(above), len(above)))


def with_ancestors(graph: Graph, nodes: Flags) -> Flags:
    """`nodes`, flags of shape (n_texts, n_nodes), with all ancestors of what is there."""
    return joined(nodes, closure(graph))


def of_labels(graph: Graph, table: Any) -> Any:
    """The columns of labels of a table of shape (n_texts, n_nodes), shape (n_texts, n_labels)."""
    return table[:, len(graph.nodes) - len(graph.labels) :]


def bootstrap(truth: Flags, chosen: Flags, seed: int, resamples: int = 1000) -> Intervals:
    """95 % percentile intervals of micro F1, macro F1 and the F1 of every column, rows drawn anew.

    The macro F1 of a resample is that of its rows, the mean over the columns that occur in them. A mean over
    all that occur in `truth` would count rare columns that were not drawn as 0: with 540 columns of a long
    tail and 5,000 rows the whole interval then lies below the figure itself.
    """
    tallies = F1Counts.of(truth, chosen)
    by_column = tallies.resampled_f1(seed, resamples)
    occurs = ~np.isnan(F1Counts.of(truth, truth).resampled_f1(seed, resamples))
    macro = _row_means(np.where(occurs, by_column, np.nan))
    return Intervals(
        micro_f1=as_intervals(f1_intervals(tallies.total(), seed, resamples))[0],
        macro_f1=as_intervals(_percentiles(macro[:, None]))[0],
        columns=_percentiles(by_column),
    )


def f1_intervals(tallies: F1Counts, seed: int, resamples: int = 1000) -> FloatArray:
    """95 % percentile interval of each figure's F1: (n_figures, 2), low and high."""
    return _percentiles(tallies.resampled_f1(seed, resamples))


def four_digits(value: Any) -> float:
    """A number of four significant digits, which is what a page needs."""
    return float(f"{float(value):.4g}")


def as_intervals(intervals: FloatArray) -> list[Interval]:
    """Rows of low and high as plain numbers."""
    return [(float(low), float(high)) for low, high in intervals]


def _f1(hits: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> FloatArray:
    """``2 hits / sizes``, NaN where the size is 0."""
    f1: FloatArray = np.full(hits.shape, np.nan)
    np.divide(2 * hits, sizes, out=f1, where=sizes > 0)
    return f1


def _drawn(rng: np.random.Generator, n_texts: int, resamples: int) -> npt.NDArray[np.int64]:
    """How often each row is drawn: (n_texts, resamples), each column a multinomial sample of n_texts rows."""
    counts = np.empty((n_texts, resamples), dtype=np.int64)
    for index in range(resamples):
        counts[:, index] = np.bincount(rng.integers(n_texts, size=n_texts), minlength=n_texts)
    return counts


def _row_means(samples: FloatArray) -> FloatArray:
    """Mean of each row's numbers that are not NaN; NaN where there are none."""
    known = ~np.isnan(samples)
    counts = known.sum(axis=1)
    sums = np.where(known, samples, 0.0).sum(axis=1)
    means: FloatArray = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _percentiles(samples: FloatArray) -> FloatArray:
    """Low and high of each column's numbers that are not NaN, (n_columns, 2); 0.0 where there are none."""
    result = np.zeros((samples.shape[1], 2))
    known = ~np.isnan(samples).all(axis=0)
    if known.any():
        result[known] = np.nanpercentile(samples[:, known], _INTERVAL_PERCENT, axis=0).T
    return result
