"""Cuts that keep a promise of precision on rows to come, as far as the rows at hand can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cascade.learn.thresholds import Curve
from cascade.system.array_types import IntArray

# Of the errors that a promise allows rows at hand may make half: rows to come are never quite like them.
ALLOWED = 0.5
# With this confidence the precision at a cut is no less than its bound; several cuts are looked at, which
# takes some of it away again.
CONFIDENCE = 0.99
CUTS = 10
# Labels are given no more rows than they are true of, and a few.
WIDEST = 1.3
MOST_SHOWN = 10


@dataclass(frozen=True)
class Promise:
    """What a label was promised.

    Attributes
    ----------
    precision
        The promise, in (0, 1].
    bound
        What the precision is at least at the label's threshold, with `CONFIDENCE`; None where the rows are
        too few, or too often wrong, for any cut to keep the promise: the threshold is then the best guess.
    """

    precision: float
    bound: float | None


def lower_bound(hits: int, chosen: int) -> float:
    """The least share of true ones that `hits` of `chosen` speak for, with `CONFIDENCE`, in [0, 1].

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26, 1934: exact for any number of rows.
    """
    from scipy.special import betaincinv  # predictions do without

    return float(betaincinv(hits, chosen - hits + 1, 1 - CONFIDENCE)) if hits else 0.0


def fewest_rows(precision: float) -> int:
    """So many chosen rows, all true, are enough for a promise of less than 1."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(_demanded(precision)))


def kept_cut(curve: Curve, precision: float) -> tuple[float, float] | None:
    """The lowest cut whose precision is bound to keep the promise, and the bound; None where there is none.

    `CUTS` numbers of chosen rows are tried, which depend on how many rows are true and not on which, as the
    best of all cuts would be one that was lucky.
    """
    demanded = _demanded(precision)
    if demanded >= 1:
        return None
    chosen, hits = curve.counts()
    for place in _tried(chosen, fewest_rows(precision), curve.positives)[::-1].tolist():
        bound = lower_bound(int(hits[place]), int(chosen[place]))
        if bound >= demanded:
            return curve.cut(int(chosen[place])), bound
    return None


def keeps(precision: float, hits: int, chosen: int) -> bool:
    """Whether a label that is right in `hits` of `chosen` rows is bound to keep the promise."""
    return not chosen or lower_bound(hits, chosen) >= _demanded(precision)


def _demanded(precision: float) -> float:
    return 1 - (1 - precision) * ALLOWED


def _tried(chosen: IntArray, fewest: int, positives: int) -> IntArray:
    """Places of the cuts that choose as many rows as are tried, or as few fewer as equal scores allow."""
    most = max(fewest, round(positives * WIDEST))
    wanted = np.geomspace(fewest, most, CUTS).astype(np.int64)
    places = np.searchsorted(chosen, wanted, side="right") - 1
    return np.unique(places[(places >= 0) & (chosen[places] >= fewest)])


def promise_lines(promises: Mapping[str, Promise]) -> Iterator[str]:
    """What to say of the labels that cannot keep theirs."""
    broken: dict[float, list[str]] = {}
    for label, promise in promises.items():
        if promise.bound is None:
            broken.setdefault(promise.precision, []).append(label)
    for precision, labels in broken.items():
        shown = ", ".join(map(repr, labels[:MOST_SHOWN])) + (", ..." if len(labels) > MOST_SHOWN else "")
        enough = "no number would do" if precision >= 1 else f"{fewest_rows(precision)} right ones would do"
        yield (
            f"a precision of {precision:g} cannot be promised for {len(labels)} of {len(promises)} labels: "
            f"too few rows, or too many wrong ones ({enough}): {shown}"
        )
