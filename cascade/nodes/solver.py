"""Linear classifiers, many at a time: the solver of the embedded model.

A text has hundreds of features and a group has dozens of children, and each child is trained four times: on
all rows, and on those of all folds but one. One at a time, that is the same features read over and over.
Here up to `LANES` such problems, the columns of a block, are solved together: what is read of a text serves
all of them, and the weights of a feature are a few vectors of the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.nodes.weighting import Weighted
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.vectors import VECTOR, add_multiples, add_products, empty_table

LANES = 32
MAX_PASSES = 300
# Where no row is looked at twice, as in large problems, a row's vector of columns is not moved that is off by
# so much of the tolerance or less: that is a sixth of the work, for steps that bring margins hardly nearer.
IDLE = 0.5
# The margin of a child that no row, or every row, has: P = sigmoid(2 * 4) and its complement.
SURE = np.float32(4.0)

# A row held by nothing with all margins so far beyond the border stays there when a third of the rows go.
FAR = 0.3


@dataclass(frozen=True, eq=False)
class Solution:
    """What a block of columns came to; columns beyond those asked for are zero.

    Attributes
    ----------
    weights
        float32, shape (n_features, n_lanes): as many as there are columns, rounded up to whole vectors.
    biases
        float32, shape (n_lanes,).
    duals
        float32, shape (n_texts, n_lanes), 0 or above: how much each row holds each column in place.
    excess
        float32, shape (n_texts,): by how much the worst margin of a row was beyond the tolerance when it was
        visited last; far below 0 for a row that is far from every border.
    """

    weights: FloatArray
    biases: FloatArray
    duals: FloatArray
    excess: FloatArray


class Block:
    """Up to `LANES` L2 squared-hinge SVMs over the same rows, solved together.

    Dual coordinate descent (Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear SVM",
    ICML 2008, Algorithm 1), with all columns of a row moved before the next row. The bias is a feature of 1
    in each row, as in liblinear. A row whose margins are all within the tolerance of where its duals would
    bring them is left alone until no other row is off; then `solve` visits all once more, and those that have
    come to be off go on.

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
    weights
        float32, shape (n_texts,), above 0: what the loss at each row counts for; None for 1 each.
    """

    def __init__(
        self,
        rows: Weighted,
        targets: BoolArray,
        C: FloatArray,
        seed: int,
        weights: FloatArray | None = None,
    ) -> None:
        self.rows, self.targets, self.seed = rows, targets, seed
        self.lanes = -(-targets.shape[1] // VECTOR) * VECTOR
        self._bits = _bits(targets)
        # 1 / (2 C) on the diagonal of the dual is what makes the hinge a squared one.
        self._diagonal = np.ones(self.lanes, dtype=np.float32)
        self._diagonal[: len(C)] = 1 / (2 * C)
        # What counts for less is held in place by less.
        ones = np.ones(len(rows), dtype=np.float32)
        self._softness = ones if weights is None else (1 / weights).astype(np.float32)

    def solve(self, tolerance: float, rows: IntArray | None = None, *, check: bool = True) -> Solution:
        """The columns learned from these rows, or from all, each margin to within about `tolerance`.

        Without `check` no row is looked at again that was left alone: some margins are further off. A column
        that does not vary gets no weights and a bias of plus or minus `SURE`.
        """
        n_texts = len(self.rows)
        start = Solution(
            empty_table(self.rows.n_features, self.lanes),
            np.zeros(self.lanes, dtype=np.float32),
            np.zeros((n_texts, self.lanes), dtype=np.float32),
            np.zeros(n_texts, dtype=np.float32),
        )
        learned = np.arange(n_texts) if rows is None else rows.copy()
        idle = 0.0 if check else IDLE
        return self._descended(start, learned, learned.copy(), tolerance, check, idle)

    def solve_with_all(self, some: Solution, tolerance: float) -> Solution:
        """The columns learned from all rows, going on from what `solve` found with some; it is used up.

        No row is looked at again that was left alone: a lower tolerance brings more for the same time.
        """
        some.biases[~some.duals.any(axis=0)] = 0  # `SURE` was said of what did not vary
        everything = np.arange(len(self.rows))
        return self._descended(some, everything, everything.copy(), tolerance, False, IDLE)

    def solve_without(self, left_out: BoolArray, whole: Solution, tolerance: float) -> Solution:
        """The columns learned from the other rows, starting from what `solve` found with all of them.

        Rows that are left out take their part of the weights with them; rows that held nothing and were
        `FAR` from every border are not looked at again. What is not yet at the optimum then knows less of
        the rows that were left out than the optimum would, not more: they held up others of their kind.
        """
        weights = empty_table(*whole.weights.shape)
        weights[:] = whole.weights
        biases, duals = whole.biases.copy(), whole.duals.copy()
        rows = self.rows
        gone = np.flatnonzero(left_out)
        signs = np.where(_signs(self._bits[gone])[:, : self.lanes], np.float32(-1), np.float32(1))
        _add_rows(rows.starts, rows.features, rows.values, gone, duals[gone] * signs, weights, biases)
        duals[gone] = 0
        near = np.flatnonzero(~left_out & (whole.excess > -FAR))
        start = Solution(weights, biases, duals, whole.excess.copy())
        return self._descended(start, np.flatnonzero(~left_out), near, tolerance, False, 0.0)

    def _descended(
        self, start: Solution, learned: IntArray, order: IntArray, tolerance: float, check: bool, idle: float
    ) -> Solution:
        """`start`, brought to the optimum over the rows in `order`, which are among those `learned` from."""
        targets = self.targets if len(learned) == len(self.targets) else self.targets[learned]
        positive = np.asarray(targets.any(axis=0))
        varies = np.zeros(self.lanes, dtype=np.bool_)
        varies[: targets.shape[1]] = positive & ~targets.all(axis=0)
        _descend(
            self.rows.starts,
            self.rows.features,
            self.rows.values,
            self.rows.energy,
            self._bits,
            varies,
            self._diagonal,
            self._softness,
            tolerance,
            self.seed,
            order,
            check,
            idle * tolerance,
            start.weights,
            start.biases,
            start.duals,
            start.excess,
        )
        still = np.flatnonzero(~varies[: targets.shape[1]])
        start.weights[:, still] = 0
        start.biases[still] = np.where(positive[still], SURE, -SURE)
        return start


def blocks_of(n_columns: int, least_blocks: int = 1) -> list[IntArray]:
    """The columns in blocks of whole vectors, `LANES` at most; so many blocks where vectors are enough."""
    vectors = -(-n_columns // VECTOR)
    n_blocks = max(-(-n_columns // LANES), min(least_blocks, vectors), 1)
    ends = np.cumsum([len(own) for own in np.array_split(np.arange(vectors), n_blocks)]) * VECTOR
    return np.split(np.arange(n_columns), ends[:-1])


def _bits(table: BoolArray) -> NDArray[np.uint32]:
    """Each row's cells as the bits of one number, the first column lowest."""
    wide = np.zeros((len(table), 32), dtype=bool)
    wide[:, : table.shape[1]] = table
    return np.packbits(wide, axis=1, bitorder="little").view(np.uint32)[:, 0]


def _signs(bits: NDArray[np.uint32]) -> BoolArray:
    """The cells back again, shape (n_texts, `LANES`)."""
    return np.asarray((bits[:, None] >> np.arange(32, dtype=np.uint32)) & 1, dtype=bool)


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
def _add_rows(
    starts: IntArray,
    features: NDArray[np.int32],
    values: FloatArray,
    rows: IntArray,
    steps: FloatArray,
    weights: FloatArray,
    biases: FloatArray,
) -> None:
    """Add each row to each column of the weights, as often as its `steps` say."""
    for place in range(len(rows)):
        moves = False
        for step in steps[place]:
            moves |= step != 0
        if moves:
            row = rows[place]
            biases += steps[place]
            add_multiples(values, features, starts[row], starts[row + 1], steps[place], weights, -1)


@kernel
def _move(
    first: int,
    margins: FloatArray,
    duals: FloatArray,
    biases: FloatArray,
    steps: FloatArray,
    targets: np.uint32,
    varies: BoolArray,
    energy: float,
    diagonal: FloatArray,
    softness: float,
    idle: float,
) -> tuple[bool, np.float32]:
    """Move the duals of one row and one vector of columns, and the biases; whether any moved, how far off.

    That is the projected gradient of the worst or, where some may be `idle`, the way of the farthest to where
    its dual has to be, in units of its margin; where that is `idle` or less none moves. A dual that is 0, as
    it has to be, is so far below 0 as its margin is beyond the border.
    """
    longest, worst = np.float32(0), np.float32(-100)
    for lane in range(first, first + VECTOR):
        sign = np.float32(((np.int64(targets) >> lane) & 1) * 2 - 1)
        on = np.float32(varies[lane])
        gradient = sign * margins[lane] - np.float32(1) + duals[lane] * diagonal[lane] * softness
        curvature = energy + diagonal[lane] * softness
        step = (max(duals[lane] - gradient / curvature, np.float32(0)) - duals[lane]) * on
        steps[lane] = step * sign
        way = abs(step) * curvature if idle > 0 else abs(gradient)
        off = way if duals[lane] > 0 else -gradient
        longest = max(longest, abs(step))
        worst = max(worst, off if varies[lane] else np.float32(-100))
    if not longest or worst <= idle:
        return False, worst
    for lane in range(first, first + VECTOR):
        duals[lane] += steps[lane] * np.float32(((np.int64(targets) >> lane) & 1) * 2 - 1)
        biases[lane] += steps[lane]
    return True, worst


@kernel
def _descend(
    starts: IntArray,
    features: NDArray[np.int32],
    values: FloatArray,
    energy: FloatArray,
    targets: NDArray[np.uint32],
    varies: BoolArray,
    diagonal: FloatArray,
    softness: FloatArray,
    tolerance: float,
    seed: int,
    order: IntArray,
    check: bool,
    idle: float,
    weights: FloatArray,
    biases: FloatArray,
    duals: FloatArray,
    excess: FloatArray,
) -> None:
    """Bring weights, biases and duals to the optimum over the rows in `order`.

    With `check` all rows are visited again once none is off.
    """
    margins, steps = np.empty(len(biases), dtype=np.float32), np.empty(len(biases), dtype=np.float32)
    active = len(order)
    state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    for _ in range(MAX_PASSES):
        state = _shuffle(order, active, state)
        kept = 0
        for visit in range(active):
            row = order[visit]
            start, end = starts[row], starts[row + 1]
            margins[:] = biases
            add_products(values, features, start, end, weights, margins)
            worst, which = np.float32(-100), np.int64(0)
            for first in range(0, len(biases), VECTOR):
                moved, off = _move(
                    first,
                    margins,
                    duals[row],
                    biases,
                    steps,
                    targets[row],
                    varies,
                    energy[row] + np.float32(1),
                    diagonal,
                    softness[row],
                    idle,
                )
                worst = max(worst, off)
                which |= np.int64(moved) << (first // VECTOR)
            if which:
                add_multiples(values, features, start, end, steps, weights, int(which))
            excess[row] = worst - tolerance
            if worst > tolerance:
                order[kept], order[visit] = order[visit], order[kept]
                kept += 1
        if not kept and not check:
            return
        # Rows that were left alone early may be off by now.
        check &= kept > 0
        active = kept or len(order)
