"""Linear classifiers, sixteen at a time: the solver of the embedded model.

A text has hundreds of features and a group has dozens of children, and each child is trained four times: on
all rows, and on those of all folds but one. One at a time, that is the same features read over and over.
Here up to `LANES` such problems, the columns of a block, are solved together: what is read of a text serves
all of them, and the sixteen weights of a feature are one line of the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.text.features import DAMPED, Bags

LANES = 16
MAX_PASSES = 300
# The margin of a child that no row, or every row, has: P = sigmoid(2 * 4) and its complement.
SURE = np.float32(4.0)

# A row held by nothing with all margins so far beyond the border stays there when a third of the rows go.
FAR = 0.3

_UNROLLED = 4


@dataclass(frozen=True, eq=False)
class Weighted:
    """Bags as rows of unit length.

    Attributes
    ----------
    bags
        n_texts texts.
    scale
        float32, shape (n_buckets,): what a damped count is multiplied with; 0 for a feature not in use.
    inverse
        float32, shape (n_texts,): one over the length of a row, or 0 of an empty one.
    energy
        float32, shape (n_texts,): the squared length of what is in use of a row, in [0, 1].
    """

    bags: Bags
    scale: FloatArray
    inverse: FloatArray
    energy: FloatArray

    def take(self, rows: IntArray) -> Weighted:
        """The rows at these positions, in the same scale."""
        return Weighted(self.bags[rows], self.scale, self.inverse[rows], self.energy[rows])

    def margins(self, weights: FloatArray, biases: FloatArray) -> FloatArray:
        """Products with each column of `weights` (n_buckets, `LANES`), plus its bias, (n_texts, `LANES`)."""
        bags = self.bags
        margins = np.empty((len(bags), LANES), dtype=np.float32)
        _margins(
            bags.starts,
            bags.places,
            bags.counts,
            bags.rows,
            self.scale,
            self.inverse,
            weights,
            biases,
            margins,
        )
        return margins


def weigh(bags: Bags, idf: FloatArray, used: BoolArray, rare: float) -> Weighted:
    """The bags with each feature at its idf, divided by their length.

    Parameters
    ----------
    idf
        float32, shape (n_buckets,): the weight of each feature.
    used
        bool, shape (n_buckets,): features that are not in use only lengthen a row.
    rare
        The weight of the features that have no bucket.
    """
    inverse = np.empty(len(bags), dtype=np.float32)
    energy = np.empty(len(bags), dtype=np.float32)
    _lengths(
        bags.starts, bags.places, bags.counts, bags.left_out, bags.rows, idf, used, rare, inverse, energy
    )
    return Weighted(bags, np.where(used, idf, np.float32(0)), inverse, energy)


@dataclass(frozen=True, eq=False)
class Solution:
    """What a block of columns came to; columns beyond those asked for are zero.

    Attributes
    ----------
    weights
        float32, shape (n_buckets, `LANES`).
    biases
        float32, shape (`LANES`,).
    duals
        float32, shape (n_texts, `LANES`), 0 or above: how much each row holds each column in place.
    excess
        float32, shape (n_texts,): by how much the worst projected gradient of a row was beyond the tolerance
        when it was visited last; far below 0 for a row that is far from every border.
    """

    weights: FloatArray
    biases: FloatArray
    duals: FloatArray
    excess: FloatArray


class Block:
    """Up to `LANES` L2 squared-hinge SVMs over the same rows, solved together.

    Dual coordinate descent (Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM",
    ICML 2008, Algorithm 1), with all columns of a row moved before the next row. The bias is a feature of 1
    in each row, as in liblinear. A row whose projected gradients are all within the tolerance is left alone
    until no other row is off; then `solve` visits all once more, and those that have come to be off go on.

    Parameters
    ----------
    rows
        n_texts rows.
    targets
        bool, shape (n_texts, n_columns), n_columns at most `LANES`.
    C
        float32, shape (n_columns,): weight of the losses against the norm, above 0.
    seed
        Fixes the order in which rows are visited.
    """

    def __init__(self, rows: Weighted, targets: BoolArray, C: FloatArray, seed: int) -> None:
        self.rows, self.targets, self.seed = rows, targets, seed
        self._bits = _bits(targets)
        # 1 / (2 C) on the diagonal of the dual is what makes the hinge a squared one.
        self._diagonal = np.ones(LANES, dtype=np.float32)
        self._diagonal[: len(C)] = 1 / (2 * C)

    def solve(self, tolerance: float) -> Solution:
        """The columns learned from all rows, each margin to within about `tolerance`.

        A column that does not vary gets no weights and a bias of plus or minus `SURE`.
        """
        n_texts, n_buckets = len(self.rows.bags), len(self.rows.bags.buckets)
        start = Solution(
            np.zeros((n_buckets, LANES), dtype=np.float32),
            np.zeros(LANES, dtype=np.float32),
            np.zeros((n_texts, LANES), dtype=np.float32),
            np.zeros(n_texts, dtype=np.float32),
        )
        return self._descended(start, np.arange(n_texts), tolerance)

    def solve_without(self, left_out: BoolArray, whole: Solution, tolerance: float) -> Solution:
        """The columns learned from the other rows, starting from what `solve` found with all of them.

        Rows that are left out take their part of the weights with them; rows that held nothing and were
        `FAR` from every border are not looked at again. What is not yet at the optimum then knows less of
        the rows that were left out than the optimum would, not more: they held up others of their kind.
        """
        weights, biases, duals = whole.weights.copy(), whole.biases.copy(), whole.duals.copy()
        rows = self.rows
        gone = np.flatnonzero(left_out)
        read = (rows.bags.starts, rows.bags.places, rows.bags.counts, rows.bags.rows[gone])
        holding = duals[gone] * np.where(_signs(self._bits[gone]), np.float32(-1), np.float32(1))
        _add_rows(*read, rows.scale, rows.inverse[gone], holding, weights, biases)
        duals[gone] = 0
        near = np.flatnonzero(~left_out & (whole.excess > -FAR))
        return self._descended(
            Solution(weights, biases, duals, whole.excess.copy()), near, tolerance, left_out
        )

    def _descended(
        self, start: Solution, order: IntArray, tolerance: float, left_out: BoolArray | None = None
    ) -> Solution:
        """`start`, brought to the optimum over the rows in `order`."""
        learned = self.targets if left_out is None else self.targets[~left_out]
        positive = np.asarray(learned.any(axis=0))
        varies = np.zeros(LANES, dtype=np.bool_)
        varies[: learned.shape[1]] = positive & ~learned.all(axis=0)
        bags = self.rows.bags
        _descend(
            bags.starts,
            bags.places,
            bags.counts,
            bags.rows,
            self.rows.scale,
            self.rows.inverse,
            self.rows.energy,
            self._bits,
            varies,
            self._diagonal,
            tolerance,
            self.seed,
            order,
            left_out is None,
            start.weights,
            start.biases,
            start.duals,
            start.excess,
        )
        still = np.flatnonzero(~varies[: learned.shape[1]])
        start.weights[:, still] = 0
        start.biases[still] = np.where(positive[still], SURE, -SURE)
        return start


def _bits(table: BoolArray) -> NDArray[np.uint16]:
    """Each row's cells as the bits of one number, the first column lowest."""
    wide = np.zeros((len(table), LANES), dtype=bool)
    wide[:, : table.shape[1]] = table
    packed = np.packbits(wide, axis=1, bitorder="little")
    return np.asarray(packed[:, 0] + packed[:, 1].astype(np.uint16) * np.uint16(256))


def _signs(bits: NDArray[np.uint16]) -> BoolArray:
    """The cells back again, shape (n_texts, `LANES`)."""
    return np.asarray((bits[:, None] >> np.arange(LANES, dtype=np.uint16)) & 1, dtype=bool)


@kernel
def _lengths(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    rows: IntArray,
    idf: FloatArray,
    used: BoolArray,
    rare: float,
    inverse: FloatArray,
    energy: FloatArray,
) -> None:
    for row in range(len(rows)):
        text = rows[row]
        kept, lost = 0.0, left_out[text] * rare * rare
        for occurrence in range(starts[text], starts[text + 1]):
            place = np.uint64(places[occurrence])
            value = DAMPED[counts[occurrence]] * idf[place]
            if used[place]:
                kept += value * value
            else:
                lost += value * value
        whole = kept + lost
        inverse[row] = 1 / np.sqrt(whole) if whole > 0 else 0
        energy[row] = kept / whole if whole > 0 else 0


@kernel
def _unpack(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    text: int,
    scale: FloatArray,
    inverse: float,
    values: FloatArray,
    features: NDArray[np.uint64],
) -> int:
    """How many features of a text are in use; `values` and `features` get them, and zeros behind."""
    found = 0
    for occurrence in range(starts[text], starts[text + 1]):
        place = np.uint64(places[occurrence])
        values[found] = DAMPED[counts[occurrence]] * scale[place] * inverse
        features[found] = place
        found += scale[place] > 0  # without a branch, which would often be guessed wrongly
    for spare in range(found, found + _UNROLLED):
        values[spare] = 0
        features[spare] = 0
    return found


@kernel
def _multiply(
    values: FloatArray, features: NDArray[np.uint64], found: int, weights: FloatArray, margins: FloatArray
) -> None:
    """Add the product of a row with the weights to `margins`; four features at once keep loads in flight."""
    for at in range(0, found, _UNROLLED):
        a, b, c, d = values[at], values[at + 1], values[at + 2], values[at + 3]
        of_a, of_b = weights[features[at]], weights[features[at + 1]]
        of_c, of_d = weights[features[at + 2]], weights[features[at + 3]]
        for lane in range(len(margins)):
            margins[lane] += (a * of_a[lane] + b * of_b[lane]) + (c * of_c[lane] + d * of_d[lane])


@kernel
def _longest(starts: IntArray, rows: IntArray) -> int:
    longest = 0
    for text in rows:
        longest = max(longest, starts[text + 1] - starts[text])
    return longest + _UNROLLED


@kernel
def _margins(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    rows: IntArray,
    scale: FloatArray,
    inverse: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
    margins: FloatArray,
) -> None:
    room = _longest(starts, rows)
    values, features = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint64)
    for row in range(len(rows)):
        found = _unpack(starts, places, counts, rows[row], scale, inverse[row], values, features)
        margins[row] = biases
        _multiply(values, features, found, weights, margins[row])


@kernel
def _shuffle(order: IntArray, active: int, state: np.uint64) -> np.uint64:
    """Put the first `active` into another order (Fisher and Yates, by xorshift64); the generator's state."""
    for last in range(active - 1, 0, -1):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        other = np.int64(state % np.uint64(last + 1))
        order[last], order[other] = order[other], order[last]
    return state


@kernel
def _add_row(
    values: FloatArray,
    features: NDArray[np.uint64],
    found: int,
    steps: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
) -> None:
    """Add the row to each column of the weights, as often as `steps` says."""
    for lane in range(len(steps)):
        biases[lane] += steps[lane]
    for at in range(found):
        of, value = weights[features[at]], values[at]
        # Not `LANES`: a loop of known length is unrolled into single steps and no vectors.
        for lane in range(weights.shape[1]):
            of[lane] += value * steps[lane]


@kernel
def _add_rows(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    rows: IntArray,
    scale: FloatArray,
    inverse: FloatArray,
    steps: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
) -> None:
    room = _longest(starts, rows)
    values, features = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint64)
    for row in range(len(rows)):
        if np.any(steps[row] != 0):
            found = _unpack(starts, places, counts, rows[row], scale, inverse[row], values, features)
            _add_row(values, features, found, steps[row], weights, biases)


@kernel
def _move(
    margins: FloatArray,
    duals: FloatArray,
    steps: FloatArray,
    targets: np.uint16,
    varies: BoolArray,
    energy: float,
    diagonal: FloatArray,
) -> tuple[np.bool_, np.float32]:
    """Move the duals of one row; whether any moved, and by how much the worst was off."""
    widest = np.float32(0)
    worst = np.float32(-100)
    for lane in range(len(steps)):
        sign = np.float32(((np.int32(targets) >> lane) & 1) * 2 - 1)
        on = np.float32(varies[lane])
        gradient = sign * margins[lane] - np.float32(1) + duals[lane] * diagonal[lane]
        # Without a dual that could shrink, a gradient above 0 is as it should be, and tells how far off.
        off = abs(gradient) if duals[lane] > 0 else -gradient
        moved = max(duals[lane] - gradient / (energy + diagonal[lane]), np.float32(0)) * on
        step = moved - duals[lane]
        duals[lane] = moved
        steps[lane] = step * sign
        widest = max(widest, abs(step))
        worst = max(worst, off if varies[lane] else np.float32(-100))
    return widest > 0, worst


@kernel
def _descend(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    rows: IntArray,
    scale: FloatArray,
    inverse: FloatArray,
    energy: FloatArray,
    targets: NDArray[np.uint16],
    varies: BoolArray,
    diagonal: FloatArray,
    tolerance: float,
    seed: int,
    order: IntArray,
    check: bool,
    weights: FloatArray,
    biases: FloatArray,
    duals: FloatArray,
    excess: FloatArray,
) -> None:
    """Bring weights, biases and duals to the optimum over the rows in `order`.

    With `check` all rows are visited again once none is off.
    """
    room = _longest(starts, rows)
    values, features = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint64)
    margins, steps = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    active = len(order)
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    for _ in range(MAX_PASSES):
        state = _shuffle(order, active, state)
        kept = 0
        for visit in range(active):
            row = order[visit]
            found = _unpack(starts, places, counts, rows[row], scale, inverse[row], values, features)
            margins[:] = biases
            _multiply(values, features, found, weights, margins)
            moved, worst = _move(
                margins, duals[row], steps, targets[row], varies, energy[row] + np.float32(1), diagonal
            )
            if moved:
                _add_row(values, features, found, steps, weights, biases)
            excess[row] = worst - tolerance
            if worst > tolerance:
                order[kept], order[visit] = order[visit], order[kept]
                kept += 1
        if not kept and not check:
            return
        # Rows that were left alone early may be off by now.
        check &= kept > 0
        active = kept or len(order)
