"""Several scores of a label to one probability: a rising sum of log odds, and a curve to make it honest."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, FloatArray
from cascade.system.compiled import kernel
from cascade.validation.calibration import HALVINGS, NEAR, STEPS, logit, sigmoid

FEATURES = ("path", "own", "second", "behind_path", "behind_second")
"""What a combination sums up, in this order; in log odds, and the higher the more it speaks for a label.

``path`` is the path probability; ``own`` the score of the group's model, given the group; ``second`` that of
a second model, which learned from rows of other groups as well. The other two are 0 for the best label of a
text, else how far the label is behind it: in path probability and in the score of the second model.
"""
# So much evidence (in rows times squared log odds) has to speak for another weight than that of the product.
PRIOR = 5.0
# The curve is settled in parts between these sums, in each drawn to the sum itself with the weight of so many
# rows.
PARTS = np.arange(-5, 5.5, 0.75)
BELIEVED = 20.0
LARGEST = 1e6
SEARCHED = 30
# Newton's own forecast of what is left to gain, in nats over all cells: no weight moves by 1e-5 for it.
GOOD_ENOUGH = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Combination:
    """P(label) = sigmoid(curve(offset + sum of weights and `FEATURES`)), which rises with each of them.

    Attributes
    ----------
    weights
        One for each of `FEATURES`, 0 or above.
    offset
        Added to the sum.
    curve
        Points (sum, log odds), both ascending; straight between them, and of slope 1 beyond. Empty: log odds
        are the sum.
    """

    weights: tuple[float, ...]
    offset: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()

    @classmethod
    def product(cls) -> Combination:
        """The path probability as it is."""
        return cls((1.0, *(0.0 for _ in FEATURES[1:])))

    @property
    def is_product(self) -> bool:
        """Whether nothing but the path probability counts."""
        return not any(self.weights[1:])

    def apply(self, features: FloatArray) -> FloatArray:
        """Probabilities, float32, shape (n_cells,), of features (n_cells, n_features) in log odds."""
        return np.asarray(sigmoid(self._bent(self.sums(features))), dtype=np.float32)

    def sums(self, features: FloatArray) -> FloatArray:
        """The weighted sum of each cell, float32, shape (n_cells,)."""
        # A product of matrices would round a cell in one way here and in another there.
        found = np.full(len(features), self.offset, dtype=np.float32)
        for weight, column in zip(self.weights, features.T, strict=True):
            found += np.float32(weight) * column
        return found

    def least_path(self, probability: float, *, seconds: bool) -> float:
        """The path probability below which no label reaches `probability`, whatever else speaks for it.

        `seconds` tells whether a second model may.
        """
        sure = float(logit(np.ones(1))[0])
        low, high = 0.0, 1.0
        for _ in range(SEARCHED):
            middle = (low + high) / 2
            path = float(logit(np.array([middle]))[0])
            best = np.array([[path, sure, sure if seconds else path, 0, 0]], dtype=np.float32)
            low, high = (low, middle) if self.apply(best)[0] >= probability else (middle, high)
        return low

    def _bent(self, sums: FloatArray) -> NDArray[np.floating]:
        if not self.curve:
            return sums
        places, values = (np.array(column) for column in zip(*self.curve, strict=True))
        beyond = sums - np.clip(sums, places[0], places[-1])
        return np.asarray(np.interp(sums, places, values) + beyond)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        weights = dict(zip(FEATURES, self.weights, strict=True))
        return {"weights": weights, "offset": self.offset, "curve": [list(point) for point in self.curve]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Combination:
        """What `to_dict` gave; ValueError, TypeError or KeyError where it is no such thing."""
        weights = tuple(float(value["weights"][name]) for name in FEATURES)
        found = cls(weights, float(value["offset"]), tuple((float(x), float(y)) for x, y in value["curve"]))
        numbers = np.array([*weights, found.offset, *(number for point in found.curve for number in point)])
        steps = np.diff(np.array(found.curve).reshape(-1, 2), axis=0)
        if not (np.abs(numbers) < LARGEST).all() or min(weights) < 0 or (steps <= 0).any():
            raise ValueError("combination: expected weights of 0 or above and a rising curve")
        return found


def fit_combination(
    features: FloatArray,
    targets: BoolArray,
    weights: FloatArray,
    folds: NDArray[np.integer],
    threads: int = 1,
) -> Combination:
    """The combination with the least log loss, or the plain product with a curve where that is as good.

    A logistic regression with weights of 0 or above, drawn to the plain product by a Gaussian prior, by
    Newton's method on what is above 0 (Bertsekas, "Projected Newton methods for optimization problems with
    simple constraints", SIAM Journal on Control and Optimization 20, 1982) with step halving; then isotonic
    regression, for probabilities as by Zadrozny and Elkan (KDD 2002), of the true share in parts of the sum.
    Which of the two it is, is settled on folds.

    Parameters
    ----------
    features
        float32, shape (n_cells, n_features), in log odds: see `FEATURES`.
    targets
        bool, shape (n_cells,): whether the label is true.
    weights
        float32, of the same shape, above 0: how much each cell counts.
    folds
        int, of the same shape: cells of one number are on one side.
    threads
        How many share the work.
    """
    if not targets.any() or targets.all():
        return Combination.product()

    def lost(fold: int, is_product: bool) -> float:
        test = folds == fold
        found = _fitted(features[~test], targets[~test], weights[~test], is_product)
        return _loss(found.apply(features[test]), targets[test], weights[test])

    each = np.unique(folds).tolist()
    with ThreadPoolExecutor(threads) as pool:
        # Of the two of all cells one is not needed; which one is known last, and a thread would be idle.
        whole = [pool.submit(_fitted, features, targets, weights, is_product) for is_product in (False, True)]
        losses = [sum(pool.map(lost, each, [is_product] * len(each))) for is_product in (False, True)]
        return whole[losses[1] <= losses[0]].result()


def _loss(probabilities: FloatArray, targets: BoolArray, weights: FloatArray) -> float:
    inside = np.clip(probabilities.astype(np.float64), NEAR, 1 - NEAR)
    return float((weights * -np.where(targets, np.log(inside), np.log1p(-inside))).sum())


def _fitted(features: FloatArray, targets: BoolArray, weights: FloatArray, is_product: bool) -> Combination:
    if not targets.any() or targets.all():
        return Combination.product()
    plain = Combination.product() if is_product else regressed(features, targets, weights)
    return Combination(plain.weights, plain.offset, _curve(plain.sums(features), targets, weights))


def regressed(features: FloatArray, targets: BoolArray, weights: FloatArray) -> Combination:
    """The weights and the offset with the least log loss and pull to the product."""
    start = np.array([*Combination.product().weights, 0.0])
    rows, counted = np.ascontiguousarray(features, dtype=np.float32), weights.astype(np.float32)

    def terms(at: Floats) -> tuple[float, Floats, Floats]:
        """The loss, its slope, and how that bends."""
        away = at - start
        slope, bend = PRIOR * away, PRIOR * np.eye(len(at))
        loss = _add_losses(rows, targets, counted, at, slope, bend)
        return loss + PRIOR / 2 * float((away**2).sum()), slope, bend + np.tril(bend, -1).T

    at, reached = start, terms(start)
    for _ in range(STEPS):
        loss, slope, bend = reached
        free = (at > 0) | (slope < 0)  # a weight of 0 that would fall stays where it is
        free[-1] = True
        step = np.zeros(len(at))
        step[free] = np.linalg.solve(bend[np.ix_(free, free)], slope[free])
        if slope @ step < GOOD_ENOUGH:
            break
        for halving in range(HALVINGS):
            moved = at - 0.5**halving * step
            moved[:-1] = np.maximum(moved[:-1], 0)
            found = terms(moved)
            if found[0] < loss - 1e-4 * float(slope @ (at - moved)):
                at, reached = moved, found
                break
        else:
            break
    *each, offset = (round(float(number), 6) for number in at)
    return Combination(tuple(each), offset)


@kernel
def _add_losses(
    features: FloatArray, targets: BoolArray, weights: FloatArray, at: Floats, slope: Floats, bend: Floats
) -> float:
    """The log loss of all cells by weights `at` and their offset, the last.

    Its first derivatives are added to `slope`, its second ones to the lower half of `bend`.
    """
    last, total = len(at) - 1, 0.0
    for cell in range(len(features)):
        margin = at[last]
        for feature in range(last):
            margin += at[feature] * features[cell, feature]
        # exp of nothing above 0, so that it is never too large
        small = np.exp(-abs(margin))
        probability = (1.0 if margin > 0 else small) / (1 + small)
        total += weights[cell] * (max(margin, 0.0) + np.log1p(small) - targets[cell] * margin)
        off = weights[cell] * (probability - targets[cell])
        bent = weights[cell] * probability * (1 - probability)
        for feature in range(last):
            value = np.float64(features[cell, feature])
            slope[feature] += off * value
            bend[last, feature] += bent * value
            for other in range(feature + 1):
                bend[feature, other] += bent * value * features[cell, other]
        slope[last] += off
        bend[last, last] += bent
    return total


def _curve(sums: FloatArray, targets: BoolArray, weights: FloatArray) -> tuple[tuple[float, float], ...]:
    """Where the log odds of what is true lie in parts of the sum; parts that do not rise are joined."""
    part = np.searchsorted(PARTS, sums)
    counts = (weights, weights * targets, weights * sums)
    total, true, place = (np.bincount(part, one, len(PARTS) + 1).astype(float) for one in counts)
    filled = total > 0
    total, true, place = total[filled], true[filled], place[filled] / total[filled]
    share = (true + BELIEVED * sigmoid(place)) / (total + BELIEVED)
    blocks = rising_blocks(share, total)
    places, shares = (
        np.array([np.average(one[own], weights=total[own]) for own in blocks]) for one in (place, share)
    )
    points = [
        (round(x, 6), round(y, 6)) for x, y in zip(places.tolist(), logit(shares).tolist(), strict=True)
    ]
    return tuple(points) if len(points) > 1 and _rises(points) else ()


def rising_blocks(values: Floats, weights: Floats) -> list[slice]:
    """Stretches of the values, from first to last, whose weighted means rise, each as short as can be.

    These means are the isotonic regression of the values, found as by Barlow et al., "Statistical inference
    under order restrictions" (1972): neighbours that do not rise are joined.
    """
    ends, means, masses = [0], [], []
    for place, (value, weight) in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        ends.append(place + 1)
        means.append(value)
        masses.append(weight)
        while len(means) > 1 and means[-1] <= means[-2]:
            mass = masses[-2] + masses[-1]
            means[-2:] = [(means[-2] * masses[-2] + means[-1] * masses[-1]) / mass]
            masses[-2:] = [mass]
            del ends[-2]
    return [slice(first, last) for first, last in pairwise(ends)]


def _rises(points: list[tuple[float, float]]) -> bool:
    return all(low[0] < high[0] and low[1] < high[1] for low, high in pairwise(points))
