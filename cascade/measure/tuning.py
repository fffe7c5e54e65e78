"""What handing on more or fewer texts to a dear look wins, and what it takes: the curve of cost and F1."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.errors import DataError, ModelError
from cascade.learn.truth import Cells
from cascade.model.folder import FirstLook, Manifest, locked, read_manifest, write_manifest
from cascade.model.looks import NO_DOUBT, doubts_of
from cascade.model.walk import Walked
from cascade.predict.forecast import forecast
from cascade.predict.look import Looks
from cascade.system.array_types import BoolArray, IntArray
from cascade.text.texts import Texts

Floats = NDArray[np.float64]
SHARES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Of the rows so many are handed on, at the points of a curve."""
A_THOUSAND = 1000


@dataclass(frozen=True)
class Point:
    """What comes of handing on some of the rows to the dearest look.

    Attributes
    ----------
    share
        How many of the rows that is, in [0, 1].
    doubt
        The greatest doubt at which the answer of the cheaper looks stands.
    micro_f1, macro_f1
        Of the answers of both, the second over labels that the rows have; in [0, 1].
    seconds
        Of a thousand texts on this machine, and in waiting for services.
    usd
        Of a thousand texts; None where prices are not known, 0 where no service is asked.
    """

    share: float
    doubt: float
    micro_f1: float
    macro_f1: float
    seconds: float
    usd: float | None


@dataclass(frozen=True)
class Curve:
    """The points of a model with several looks, by rows that it has not learned from.

    Attributes
    ----------
    points
        By share, ascending: next to nothing is handed on, then more and more, at last all that the cheapest
        of three looks leaves.
    rows
        How many rows they are measured on.
    now
        The share that the model hands on as it is.
    """

    points: tuple[Point, ...]
    rows: int
    now: float


def tuning_curve(
    looks: Looks, texts: Sequence[str], truth: Cells, clock: Callable[[], float] = time.perf_counter
) -> Curve:
    """What handing on wins and takes, by rows with their labels.

    Every row is answered by the cheaper looks and by the dearest, and each is timed; what services answered
    before takes hardly any time, and is priced as if it had to be asked.

    Parameters
    ----------
    truth
        A column for each of `Graph.labels`.

    Raises
    ------
    DataError
        The model has one look only, or there are no rows.
    """
    if len(looks.looks) == 1:
        raise DataError(
            "this model has one look only, and no group that uses several tiers, so that there is nothing to "
            "hand on. Name `escalate: [words, encoder, prompt]`, or two of them, in the taxonomy, and run "
            "`cascade fit`"
        )
    if not len(texts):
        raise DataError("no rows: nothing tells what handing on would win")
    cheap = Looks(looks.looks[:-1], looks.doubts[:-1])
    first, second = (_Timed.of(one, texts, clock) for one in (cheap, Looks([looks.last])))
    doubts, answers = _doubts(cheap, first.walked), [one.labels(truth.n_columns) for one in (first, second)]
    usd = forecast(Looks([looks.last]), texts).usd
    order = np.argsort(-doubts, kind="stable")
    points = []
    for share in SHARES:
        bound, handed_on = bound_of(doubts, order, share)
        chosen = np.where(handed_on[:, None], answers[1], answers[0])
        micro, macro = f1_of(chosen, truth.dense())
        actual = float(handed_on.mean())
        seconds = first.seconds + second.seconds * actual
        dollars = None if usd is None else usd / len(texts) * actual * A_THOUSAND
        points.append(Point(actual, bound, micro, macro, seconds / len(texts) * A_THOUSAND, dollars))
    distinct = {point.share: point for point in points}
    return Curve(tuple(distinct.values()), len(texts), float((doubts > looks.doubts[-1]).mean()))


@dataclass(frozen=True)
class _Timed:
    """The walk of all texts by some looks, what they answer, and how long both took."""

    looks: Looks
    walked: Walked
    chosen: BoolArray
    seconds: float

    @classmethod
    def of(cls, looks: Looks, texts: Sequence[str], clock: Callable[[], float]) -> _Timed:
        started = clock()
        walked = looks.walk(Texts(list(texts)))
        chosen = looks.decide(walked)
        return cls(looks, walked, chosen, clock() - started)

    def labels(self, n_labels: int) -> BoolArray:
        """What is answered, bool, shape (n_texts, n_labels)."""
        return self.chosen[:, -n_labels:] if n_labels else self.chosen[:, :0]


def _doubts(looks: Looks, walked: Walked) -> Floats:
    """How much the dearest of some looks doubts each text, float64, shape (n_texts,).

    Below all doubts for a text that a cheaper one answered, which is not handed on whatever is chosen.
    """
    found = np.full(len(walked), -np.inf)
    rows, look, part, _ = looks.parts(walked)[-1]
    found[rows] = doubts_of(part, look.decide)
    return found


def bound_of(doubts: Floats, order: IntArray, share: float) -> tuple[float, BoolArray]:
    """The bound of doubt at which about so many rows are handed on, and which those are."""
    count = round(share * len(doubts))
    bound = NO_DOUBT if count >= len(doubts) else max(float(doubts[order[count]]), NO_DOUBT)
    if bound == np.inf:  # who found nothing is handed on first, and whole
        bound = float(doubts[doubts < np.inf].max(initial=NO_DOUBT))
    return bound, np.asarray(doubts > bound)


def f1_of(chosen: BoolArray, truth: BoolArray) -> tuple[float, float]:
    """Micro F1, and macro F1 over labels that the rows have, each in [0, 1], of arrays (n_rows, n_labels)."""
    hits, n_chosen, n_true = ((chosen & truth).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0))
    total = int((n_chosen + n_true).sum())
    micro = 2 * int(hits.sum()) / total if total else 0.0
    occurring = n_true > 0
    each = 2 * hits[occurring] / np.maximum((n_chosen + n_true)[occurring], 1)
    return float(micro), float(each.mean()) if occurring.any() else 0.0


def cheapest(points: Sequence[Point], quality: float) -> Point:
    """The point with the fewest rows handed on that reaches a micro F1; DataError where none does."""
    for point in points:
        if point.micro_f1 >= quality:
            return point
    best = max(points, key=lambda point: point.micro_f1)
    raise DataError(
        f"no share reaches a micro F1 of {quality:g}; the best is {best.micro_f1:.3f}, with "
        f"{best.share:.0%} of the rows handed on"
    )


def affordable(points: Sequence[Point], usd: float) -> Point:
    """The best point whose thousand texts cost no more, or the cheapest; DataError without prices."""
    if any(point.usd is None for point in points):
        raise DataError(
            "the prices of this model are not known: say --share or --quality instead of --budget"
        )
    within = [point for point in points if (point.usd or 0) <= usd]
    return max(within, key=lambda point: point.micro_f1, default=points[0])


def nearest(points: Sequence[Point], share: float) -> Point:
    """The point that hands on the most rows, but no more than this share; or else the fewest there can be.

    Rows for which the cheaper looks find nothing are handed on in any case.
    """
    return max((one for one in points if one.share <= share), key=lambda one: one.share, default=points[0])


def set_doubt(folder: Path, manifest: Manifest, point: Point, loss: float) -> Manifest:
    """Have the model of a folder hand on as at a point; the manifest that it has then.

    Raises
    ------
    ModelError
        Another model stands there by now, or a fit is writing to it.
    """
    look = manifest.first_look
    if look is None:
        raise ModelError(f"{folder}: this model has one look only")
    with locked(folder):
        if read_manifest(folder) != manifest:
            raise ModelError(f"{folder}: another model was written here meanwhile. Run the command again")
        changed: FirstLook = replace(look, doubt=point.doubt, share=1 - point.share, loss=loss)
        found = replace(manifest, first_look=changed)
        write_manifest(folder, found)
        return found
