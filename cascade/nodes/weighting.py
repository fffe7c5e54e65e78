"""The rows of one node as its solver reads them: features numbered anew, at their idf, of unit length.

A group of some hundred rows has some thousand of the features of the batch. Numbered among themselves, those
of most rows first, all that is computed for it grows with its rows, and what is often read lies together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.vectors import UNROLLED, add_products
from cascade.text.features import DAMPED, INSIDE_WEIGHT, Bags
from cascade.text.hashing import BUCKETS_OF_EACH, WIDTH

# A feature of one row alone teaches little, and there are many of them.
LEAST_ROWS = 2
# What is in more than these shares of the rows says little where a row has hundreds of features, and takes
# much of the time. So it is left out where rows are enough to tell, and of so many features on average.
COMMON, COMMON_INSIDE = 0.5, 0.35  # words and pairs of words; characters inside words
ROWS_TO_TELL, LONG = 100, 500


class Weighting:
    """Which features count at a node, and how much.

    Attributes
    ----------
    columns
        int32, shape (n_features,): the hashed columns in use, common ones and then those of most rows first.
    idf
        float32, shape (n_features,): log((1 + n_texts) / (1 + n_texts_with_it)) + 1; times `INSIDE_WEIGHT`
        for characters inside words.
    rare
        The same for a feature that is not in use: it lengthens the text: unknown words lower all scores.
    n_common
        The first so many features count for nothing, neither for a margin nor for a length.
    """

    def __init__(self, columns: NDArray[np.int32], idf: FloatArray, rare: float, n_common: int = 0) -> None:
        self.columns, self.idf, self.rare, self.n_common = columns, idf, rare, n_common

    @cached_property
    def slots(self) -> NDArray[np.int32]:
        """A hash table with open addressing, int32, shape (n_slots, 2): column and feature, or -1 and 0."""
        slots = np.zeros((1 << (2 * len(self.columns)).bit_length(), 2), dtype=np.int32)
        slots[:, 0] = -1
        _insert(self.columns, slots)
        return slots

    def is_sound(self) -> bool:
        """Whether the columns are distinct and within the width, and there are all that count for nothing."""
        within = not len(self.columns) or 0 <= self.columns.min() <= self.columns.max() < WIDTH
        distinct = np.count_nonzero(self.slots[:, 0] >= 0) == len(self.columns)
        return bool(within and distinct and 0 <= self.n_common <= len(self.columns))

    def plan(self, columns: NDArray[np.int32]) -> NDArray[np.int32]:
        """What is to be done with each of these columns of a batch, int32, shape (n_columns, 2).

        First the number of the feature, -1 where it counts for no margin; then, as the bits of a float32,
        what it weighs in the length of a text: 0 where it is common.
        """
        plan = np.empty((len(columns), 2), dtype=np.int32)
        _plan_by_slots(columns, self.slots, self.idf, self.rare, self.n_common, plan, plan.view(np.float32))
        return plan

    def places(self, columns: NDArray[np.int32]) -> IntArray:
        """The number of each feature, int64, -1 for one that is not in use."""
        places = np.empty(len(columns), dtype=np.int64)
        _look_up(columns, self.slots, places)
        return places


@dataclass(frozen=True, eq=False)
class Weighted:
    """Texts as rows of unit length.

    Attributes
    ----------
    starts
        int64, shape (n_texts + 1,): row i has the cells starts[i] to starts[i + 1], a multiple of `UNROLLED`:
        they are filled up with zeros.
    features
        int32, shape (n_cells,): see `Weighting`; only those that count, and 0 in what fills a row up.
    values
        float32, shape (n_cells,): what each weighs; 0 in what fills a row up.
    energy
        float32, shape (n_texts,): the squared length of what counts of a row, in [0, 1].
    n_features
        How many features are in use.
    """

    starts: IntArray
    features: NDArray[np.int32]
    values: FloatArray
    energy: FloatArray
    n_features: int

    def __len__(self) -> int:
        return len(self.energy)

    def margins(self, rows: IntArray, weights: FloatArray, biases: FloatArray) -> FloatArray:
        """Products of these rows with each column of `weights` (n_features, n_lanes), plus its bias.

        float32, shape (n_rows, n_lanes).
        """
        margins = np.empty((len(rows), len(biases)), dtype=np.float32)
        _margins(self.starts, self.features, self.values, rows, weights, biases, margins)
        return margins


class Idf:
    """The features of some texts: those of `LEAST_ROWS` of them or more, and what each weighs.

    Attributes
    ----------
    weighting
        What is in use.
    """

    def __init__(self, texts: Bags) -> None:
        n_texts = len(texts)
        frequency = np.zeros(len(texts.buckets), dtype=np.int32)
        touched = np.empty(min(len(frequency), _n_occurrences(texts)), dtype=np.int32)
        n_touched = _count_texts(texts.starts, texts.places, texts.rows, frequency, touched)
        places = touched[:n_touched]
        places = places[frequency[places] >= LEAST_ROWS]
        # The order does not depend on the texts of other nodes.
        order = (n_texts - frequency[places].astype(np.int64)) * WIDTH + texts.buckets[places]
        places = places[np.argsort(order)]
        n_common = 0
        if n_texts >= ROWS_TO_TELL and _n_occurrences(texts) >= LONG * n_texts:
            most = np.where(texts.buckets[places] < BUCKETS_OF_EACH, COMMON, COMMON_INSIDE) * n_texts
            is_common = frequency[places] > most
            n_common = int(np.count_nonzero(is_common))
            places = np.concatenate([places[is_common], places[~is_common]])
        columns, rare = texts.buckets[places], float(np.log(1 + n_texts) + 1)
        kind = np.where(columns < BUCKETS_OF_EACH, np.float32(1), INSIDE_WEIGHT)
        idf = (np.log((1 + n_texts) / (1 + frequency[places])) + 1) * kind
        self.weighting = Weighting(columns, idf.astype(np.float32), rare, n_common)
        # As `Weighting.plan` has it, for what these texts have of the batch: zeros take no time.
        self._plan, self._rows = np.zeros((len(texts.buckets), 2), dtype=np.int32), texts.rows
        weights, own = self._plan.view(np.float32), self.weighting
        _plan_by_places(
            texts.buckets, touched[:n_touched], places, own.idf, rare, n_common, self._plan, weights
        )

    def weigh(self, texts: Bags) -> Weighted:
        """Texts of the batch at these weights; what is not in use lengthens them."""
        if texts.rows is not self._rows:
            self._plan_rest(texts)
        most = _n_occurrences(texts) + (UNROLLED - 1) * len(texts)
        starts = np.zeros(len(texts) + 1, dtype=np.int64)
        features, values = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.float32)
        energy = np.empty(len(texts), dtype=np.float32)
        _weigh(
            texts.starts,
            texts.places,
            texts.counts,
            texts.left_out,
            texts.rows,
            self._plan,
            self._plan.view(np.float32),
            self.weighting.rare,
            starts,
            features,
            values,
            energy,
        )
        features.resize(starts[-1], refcheck=False)
        values.resize(starts[-1], refcheck=False)
        return Weighted(starts, features, values, energy, len(self.weighting.columns))

    def _plan_rest(self, texts: Bags) -> None:
        """Have the plan tell of what only these texts have."""
        plan, weights = self._plan, self._plan.view(np.float32)
        _plan_unknown(
            texts.starts, texts.places, texts.rows, texts.buckets, self.weighting.rare, plan, weights
        )


def _n_occurrences(texts: Bags) -> int:
    return int((texts.starts[texts.rows + 1] - texts.starts[texts.rows]).sum())


@kernel
def _count_texts(
    starts: IntArray,
    places: NDArray[np.int32],
    rows: IntArray,
    frequency: NDArray[np.int32],
    touched: NDArray[np.int32],
) -> int:
    """Count the texts of each feature; `touched` gets those of any, and the answer is how many they are."""
    found = 0
    for text in rows:
        for occurrence in range(starts[text], starts[text + 1]):
            place = places[occurrence]
            if not frequency[place]:
                touched[found] = place
                found += 1
            frequency[place] += 1
    return found


@kernel
def _plan_by_places(
    columns: NDArray[np.int32],
    touched: NDArray[np.int32],
    places: NDArray[np.int32],
    idf: FloatArray,
    rare: float,
    n_common: int,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
) -> None:
    """Fill a plan of `columns` where they are `touched`; those at `places` are the features."""
    for place in touched:
        plan[place, 0], plan_weights[place, 1] = -1, weight_of_unknown(columns[place], rare)
    for feature in range(len(places)):
        is_common = feature < n_common
        plan[places[feature], 0] = -1 if is_common else feature
        plan_weights[places[feature], 1] = np.float32(0) if is_common else idf[feature]


@kernel
def _plan_unknown(
    starts: IntArray,
    places: NDArray[np.int32],
    rows: IntArray,
    columns: NDArray[np.int32],
    rare: float,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
) -> None:
    """Fill a plan where these texts have what it does not tell of: there it has zeros, and nowhere else."""
    for text in rows:
        for occurrence in range(starts[text], starts[text + 1]):
            place = places[occurrence]
            if plan[place, 0] == 0 and plan_weights[place, 1] == 0:
                plan[place, 0], plan_weights[place, 1] = -1, weight_of_unknown(columns[place], rare)


@kernel
def weight_of_unknown(column: int, rare: float) -> np.float32:
    """What a feature that is not in use weighs in the length of a text."""
    return np.float32(rare * (INSIDE_WEIGHT if column >= BUCKETS_OF_EACH else np.float32(1)))


@kernel
def _plan_by_slots(
    columns: NDArray[np.int32],
    slots: NDArray[np.int32],
    idf: FloatArray,
    rare: float,
    n_common: int,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
) -> None:
    """Fill a plan of `columns`, whose features are looked up."""
    for at in range(len(columns)):
        plan[at, 0], plan_weights[at, 1] = planned(columns[at], slots, idf, rare, n_common)


@kernel
def planned(
    column: int, slots: NDArray[np.int32], idf: FloatArray, rare: float, n_common: int
) -> tuple[int, np.float32]:
    """What `Weighting.plan` says of one column."""
    feature = place_of(column, slots)
    if feature < 0:
        return -1, weight_of_unknown(column, rare)
    if feature < n_common:
        return -1, np.float32(0)
    return feature, idf[feature]


@kernel
def gathered(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    text: int,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
    features: NDArray[np.int32],
    values: FloatArray,
    begin: int,
) -> tuple[int, float, float]:
    """Write the features of a text that count, and their weights, from `begin` on.

    The answer is where they end, their squared length, and that of the text, but for what is left out of it.
    """
    end, kept, whole = begin, 0.0, 0.0
    for occurrence in range(starts[text], starts[text + 1]):
        place = places[occurrence]
        feature = plan[place, 0]
        value = DAMPED[counts[occurrence]] * plan_weights[place, 1]
        # Written in any case and kept or not: which it is cannot be foreseen by a processor.
        features[end], values[end] = feature, value
        end += feature >= 0
        square = np.float64(value) * value
        whole += square
        kept += square if feature >= 0 else 0.0
    return end, kept, whole


@kernel
def _weigh(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    rows: IntArray,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
    rare: float,
    own_starts: IntArray,
    features: NDArray[np.int32],
    values: FloatArray,
    energy: FloatArray,
) -> None:
    end = 0
    for row in range(len(rows)):
        text, begin = rows[row], end
        end, kept, whole = gathered(starts, places, counts, text, plan, plan_weights, features, values, begin)
        whole += left_out[text] * rare * rare
        values[begin:end] *= np.float32(1 / np.sqrt(whole) if whole > 0 else 0)
        energy[row] = kept / whole if whole > 0 else 0
        while (end - begin) % UNROLLED:
            features[end], values[end] = 0, 0
            end += 1
        own_starts[row + 1] = end


@kernel
def _margins(
    starts: IntArray,
    features: NDArray[np.int32],
    values: FloatArray,
    rows: IntArray,
    weights: FloatArray,
    biases: FloatArray,
    margins: FloatArray,
) -> None:
    for place in range(len(rows)):
        row = rows[place]
        margins[place] = biases
        add_products(values, features, starts[row], starts[row + 1], weights, margins[place])


@kernel
def _slot(column: int, slots: NDArray[np.int32]) -> int:
    """Where a column stands in the hash table, or would."""
    mask = len(slots) - 1
    # Columns are hashes already, but only up to the size of the table do their low bits differ.
    slot = (column ^ (column >> 10)) & mask
    while slots[slot, 0] != column and slots[slot, 0] >= 0:
        slot = (slot + 1) & mask
    return slot


@kernel
def _insert(columns: NDArray[np.int32], slots: NDArray[np.int32]) -> None:
    for feature in range(len(columns)):
        slot = _slot(columns[feature], slots)
        slots[slot, 0], slots[slot, 1] = columns[feature], feature


@kernel
def place_of(column: int, slots: NDArray[np.int32]) -> int:
    """The number of a column in the hash table, or -1."""
    slot = _slot(column, slots)
    return slots[slot, 1] if slots[slot, 0] >= 0 else -1


@kernel
def _look_up(columns: NDArray[np.int32], slots: NDArray[np.int32], places: IntArray) -> None:
    for at in range(len(columns)):
        places[at] = place_of(columns[at], slots)
