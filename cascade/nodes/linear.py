"""The embedded backend: TF-IDF of words and character n-grams, one linear SVM for each child.

``fit``: the bags of all texts are hashed once, for all groups. A group weighs the features of its rows by
their idf there; a block of columns settles the penalty on one fold; then every child is trained on all rows
and on those of all folds but one, some children to a block, and the rows that were left out are scored.
``predict``: one pass over the features of a text, looked up among those of the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError
from cascade.nodes.contract import Contributions, FittedNode, NodeProblem, most_frequent_children, sampled
from cascade.nodes.known import count_texts, known_shares, known_without_itself, slot_of
from cascade.nodes.solver import LANES, Block, Solution, Weighted, weigh
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.serialization import read_array, read_json, write_array, write_json
from cascade.text.clusters import clusters_of
from cascade.text.features import DAMPED, INSIDE_WEIGHT, VERSION, VERSIONS, Bags, bags_of
from cascade.text.hashing import BUCKETS_OF_EACH, MOST_COUNTED, WIDTH
from cascade.text.occurrences import occurrences_of
from cascade.text.texts import Texts
from cascade.validation.calibration import fit_calibration, log_loss, sigmoid
from cascade.validation.folds import stratified_folds

FOLDS = 3
PENALTIES = (1.0, 3.0, 0.3, 0.1)
# A feature of one row alone teaches little, and there are many of them.
LEAST_ROWS = 2
# log(1 + n_texts) + 1 stays below for any number of texts that memory holds.
MOST_RARE = 50.0
# So many children and rows tell which penalty suits a group.
TRIED_CHILDREN = 4
TRIED_ROWS = 6_000
# From here on blocks are half as wide, as such a group is often alone on its level: a router.
MANY_ROWS = 30_000
# Margins are off by no more: a model gains nothing beyond, nor do held-out scores, which only calibrate.
TOLERANCE = 0.1
HELD_OUT_TOLERANCE = 0.1
TRIAL_TOLERANCE = 0.1
# Rows of `weights` are whole vectors of the processor.
VECTOR = 8

# So many features are multiplied at once, which keeps as many loads in flight.
_UNROLLED = 4


def bags(texts: Texts, version: int = VERSION) -> Bags:
    """The hashed features of these texts, computed once for all nodes that share the batch."""
    found: Bags = texts.features(("bags", version), lambda whole: bags_of(whole, version=version))
    return found


class Weighting:
    """Which features count at a node, and how much.

    Attributes
    ----------
    columns
        int32, shape (n_features,): the hashed columns in use, those of most rows first.
    idf
        float32, shape (n_features,): log((1 + n_texts) / (1 + n_texts_with_it)) + 1; times `INSIDE_WEIGHT`
        for characters inside words.
    rare
        The same for a feature that is not in use: it lengthens the text: unknown words lower all scores.
    """

    def __init__(self, columns: NDArray[np.int32], idf: FloatArray, rare: float) -> None:
        self.columns, self.idf, self.rare = columns, idf, rare

    @cached_property
    def slots(self) -> NDArray[np.int32]:
        """A hash table with open addressing, int32, shape (n_slots, 2): column and feature, or -1 and 0."""
        slots = np.zeros((1 << (2 * len(self.columns)).bit_length(), 2), dtype=np.int32)
        slots[:, 0] = -1
        _insert(self.columns, slots)
        return slots

    def is_sound(self) -> bool:
        """Whether the columns are distinct and within the width."""
        within = not len(self.columns) or 0 <= self.columns.min() <= self.columns.max() < WIDTH
        return bool(within and np.count_nonzero(self.slots[:, 0] >= 0) == len(self.columns))


class Idf:
    """What the features of a batch weigh at a node, in the order of `Bags.buckets`.

    Attributes
    ----------
    idf
        float32, shape (n_buckets,): see `Weighting`; `rare` for those that are not in use.
    used
        bool, shape (n_buckets,): features of `LEAST_ROWS` of the node's texts or more.
    rare
        See `Weighting`.
    """

    def __init__(self, texts: Bags) -> None:
        n_texts = len(texts)
        frequency = np.zeros(len(texts.buckets), dtype=np.int32)
        count_texts(texts.starts, texts.places, texts.rows, frequency)
        self.used = frequency >= LEAST_ROWS
        self.rare = float(np.log(1 + n_texts) + 1)
        kind = np.where(texts.buckets < BUCKETS_OF_EACH, np.float32(1), INSIDE_WEIGHT)
        idf = np.where(self.used, np.log((1 + n_texts) / (1 + frequency)) + 1, self.rare) * kind
        self.idf = idf.astype(np.float32)
        self._buckets, self._frequency = texts.buckets, frequency

    @cached_property
    def places(self) -> IntArray:
        """int64, shape (n_used,): the features in use, those of most texts first.

        What is often read lies together; the order does not depend on the texts of other nodes.
        """
        places = np.flatnonzero(self.used)
        return np.asarray(places[np.lexsort((self._buckets[places], -self._frequency[places]))])

    def weigh(self, texts: Bags) -> Weighted:
        """Texts of the batch at these weights."""
        return weigh(texts, self.idf, self.used, self.rare)

    def weighting(self, buckets: NDArray[np.int32]) -> Weighting:
        """The part that is in use, for texts of any batch."""
        return Weighting(buckets[self.places], self.idf[self.places], self.rare)


class LinearModel:
    """The fitted model of one group; its scores are sigmoid(2 * margin).

    Attributes
    ----------
    weighting
        What the rows of `weights` stand for.
    weights
        float32, shape (n_features, n_children rounded up to whole vectors), zero in what is added.
    biases
        float32, shape (n_children,).
    features
        The version of the features, one of `VERSIONS`.
    """

    def __init__(
        self, weighting: Weighting, weights: FloatArray, biases: FloatArray, features: int = VERSION
    ) -> None:
        self.weighting, self.weights, self.biases, self.features = weighting, weights, biases, features

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1]."""
        found = bags(texts, self.features)
        margins = np.empty((len(found), self.weights.shape[1]), dtype=np.float32)
        _score(
            found.starts,
            found.places,
            found.counts,
            found.left_out,
            found.buckets,
            found.rows,
            self.weighting.slots,
            self.weighting.idf,
            self.weighting.rare,
            self.weights,
            margins,
        )
        return _squashed(margins[:, : len(self.biases)] + self.biases)

    def known(self, texts: Texts) -> FloatArray:
        """The share of each text that it knows: see `known_shares`."""
        weighting = self.weighting
        found = bags(texts, self.features)
        return known_shares(found, texts, weighting.slots, weighting.idf, weighting.rare)

    def contributions(self, text: str) -> Contributions:
        """What each word did to the margin of each child: see `Contributions`.

        A feature's product of value and weight is shared by its occurrences alike, and that of an occurrence
        by the words that it lies in, see `Occurrences`.
        """
        from scipy.sparse import csr_array  # predictions do without

        found = occurrences_of(text, self.features)
        columns, owner, counts = np.unique(found.columns, return_inverse=True, return_counts=True)
        values, features = self._values(columns, counts)
        each = (values / np.maximum(counts, 1))[owner][found.owners] * found.shares
        shape = (len(found.spans), len(columns))
        pushes = csr_array((each, (found.words, owner[found.owners])), shape=shape)
        used = features >= 0
        weights = np.zeros((len(features), len(self.biases)))
        weights[used] = self.weights[features[used], : len(self.biases)]
        return Contributions(found.spans, pushes @ weights, self.biases.astype(np.float64))

    def _values(self, columns: NDArray[np.int32], counts: IntArray) -> tuple[NDArray[np.float64], IntArray]:
        """The values of features of a text of unit length, and their rows in `weights`, -1 for none."""
        slots = self.weighting.slots
        found = slots[[slot_of(column, slots) for column in columns.tolist()]].reshape(-1, 2)
        features = np.where(found[:, 0] >= 0, found[:, 1], -1)
        idf = self.weighting.rare * np.where(columns >= BUCKETS_OF_EACH, INSIDE_WEIGHT, 1)
        idf[features >= 0] = self.weighting.idf[features[features >= 0]]
        values = DAMPED[np.minimum(counts, MOST_COUNTED)] * idf
        return values / (np.sqrt((values**2).sum()) or 1), features

    def save(self, folder: Path) -> None:
        write_json(folder / "linear.json", {"features": self.features, "rare": self.weighting.rare})
        write_array(folder / "columns.npy", self.weighting.columns)
        write_array(folder / "idf.npy", self.weighting.idf)
        write_array(folder / "weights.npy", self.weights)
        write_array(folder / "biases.npy", self.biases)


def _squashed(margins: FloatArray) -> FloatArray:
    return sigmoid(2 * margins).astype(np.float32)


class LinearBackend:
    """Fits `LinearModel`; the penalty is the best of a short grid on held-out rows."""

    def __init__(self, penalties: Sequence[float] = PENALTIES) -> None:
        self.penalties = tuple(penalties)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The model and its out-of-fold scores of every row; `notes` has the penalty ``C``.

        Blocks of children are spread as ``joblib.parallel_config`` says around the call.
        """
        from joblib import Parallel, delayed  # predictions do without

        texts = bags(problem.texts)
        idf = Idf(texts)
        rows = idf.weigh(texts)
        fold_of = stratified_folds(problem.targets, clusters_of(problem.texts), FOLDS, problem.seed)
        C = self._settle(rows, problem, fold_of)
        n_children = len(problem.children)
        most = LANES if len(texts) < MANY_ROWS else LANES // 2
        blocks = np.array_split(np.arange(n_children), -(-n_children // most))
        fits = Parallel()(
            delayed(_fit_children)(rows, problem.targets[:, block], fold_of, C, idf.places, problem.seed)
            for block in blocks
        )
        weights, biases, held_out = (np.concatenate(parts, axis=-1) for parts in zip(*fits, strict=True))
        if not len(idf.places):
            biases, held_out = _bare(problem.targets, fold_of)
        model = LinearModel(idf.weighting(texts.buckets), _whole_vectors(weights), biases)
        return FittedNode(model, np.arange(len(texts), dtype=np.int64), _squashed(held_out), {"C": C})

    def fit_once(self, problem: NodeProblem) -> LinearModel:
        """The model of all rows with the first penalty: nothing is settled, no row is held out."""
        texts = bags(problem.texts)
        idf = Idf(texts)
        found = list(
            _solutions(idf.weigh(texts), problem.targets, self._first(problem), TOLERANCE, problem.seed)
        )
        weights = np.concatenate([one.weights[idf.places] for one in found], axis=1)
        biases = np.concatenate([one.biases for one in found])
        n_children = len(problem.children)
        wide = _whole_vectors(weights[:, :n_children])
        return LinearModel(idf.weighting(texts.buckets), wide, biases[:n_children])

    def _first(self, problem: NodeProblem) -> FloatArray:
        return np.full(len(problem.children), self.penalties[0], dtype=np.float32)

    def _settle(self, rows: Weighted, problem: NodeProblem, fold_of: IntArray) -> float:
        """The penalty with the least log loss on the first fold, after calibration; of equal ones the first.

        The most frequent children stand for all of them, and a sample for many rows.
        """
        if len(self.penalties) == 1:
            return self.penalties[0]
        targets = most_frequent_children(problem, TRIED_CHILDREN).targets
        sample = sampled(np.arange(len(targets)), TRIED_ROWS, problem.seed)
        train, test = sample[fold_of[sample] != 0], sample[fold_of[sample] == 0]
        C = np.repeat(np.asarray(self.penalties, dtype=np.float32), targets.shape[1])
        repeated = np.tile(targets[train], len(self.penalties))
        scores = _fit_and_score(rows.take(train), repeated, rows.take(test), C, problem.seed)
        losses = [_loss(of_one, targets[test]) for of_one in np.split(scores, len(self.penalties), axis=1)]
        return self.penalties[int(np.argmin(losses))]

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Hash the texts and find those that nearly equal another, once for all nodes."""
        from joblib import Parallel, delayed  # predictions do without

        key = ("bags", VERSION)
        hashed = delayed(texts.features)(key, lambda whole: bags_of(whole, LEAST_ROWS, jobs))
        Parallel(min(jobs, 2), backend="threading")([hashed, delayed(clusters_of)(texts)])

    def known_without_itself(self, texts: Texts) -> FloatArray:
        """The share of each text that a model of the others knows."""
        return known_without_itself(bags(texts), texts, LEAST_ROWS)

    def fit_and_score(self, problem: NodeProblem, train: IntArray, test: IntArray) -> FloatArray:
        """Scores of the `test` rows by one fit of the `train` rows with the first penalty of the grid."""
        texts = bags(problem.texts)
        idf = Idf(texts[train])
        rows, asked = idf.weigh(texts[train]), idf.weigh(texts[test])
        return _fit_and_score(rows, problem.targets[train], asked, self._first(problem), problem.seed)

    def load(self, folder: Path) -> LinearModel:
        """The model that was saved there.

        Raises
        ------
        ModelError
            A file is missing, is not of the right type or size, or holds impossible values.
        """
        settings = read_json(folder / "linear.json")
        if not isinstance(settings, dict) or settings.get("features") not in VERSIONS:
            raise ModelError(f"{folder / 'linear.json'}: made by another version. Run `cascade fit` again.")
        rare = settings.get("rare")
        if not isinstance(rare, float) or not 0 < rare < MOST_RARE:
            raise ModelError(
                f"{folder / 'linear.json'}: expected 'rare' above 0 and below {MOST_RARE:g}, found {rare!r}. "
                "Run `cascade fit` again."
            )
        columns = read_array(folder / "columns.npy", np.int32, (None,))
        biases = read_array(folder / "biases.npy", np.float32, (None,))
        idf = read_array(folder / "idf.npy", np.float32, columns.shape)
        weights = read_array(
            folder / "weights.npy", np.float32, (len(columns), _to_whole_vectors(len(biases)))
        )
        weighting = Weighting(columns, idf, rare)
        if not weighting.is_sound():
            raise ModelError(
                f"{folder / 'columns.npy'}: expected distinct columns below {WIDTH}. Run `cascade fit` again."
            )
        for name, array in (("idf", idf), ("weights", weights), ("biases", biases)):
            if not np.isfinite(array).all():
                raise ModelError(f"{folder / name}.npy: expected finite numbers. Run `cascade fit` again.")
        if weights[:, len(biases) :].any():
            raise ModelError(
                f"{folder / 'weights.npy'}: expected zeros beyond its {len(biases)} children. "
                "Run `cascade fit` again."
            )
        return LinearModel(weighting, weights, biases, settings["features"])


def _fit_children(
    rows: Weighted, targets: BoolArray, fold_of: IntArray, C: float, places: IntArray, seed: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights of the features at `places`, biases, and held-out margins of all rows, for some children."""
    n_children = targets.shape[1]
    block = Block(rows, targets, np.full(n_children, C, dtype=np.float32), seed)
    whole = block.solve(TOLERANCE)
    margins = np.empty(targets.shape, dtype=np.float32)
    for fold in range(FOLDS):
        asked = np.flatnonzero(fold_of == fold)
        others = block.solve_without(fold_of == fold, whole, HELD_OUT_TOLERANCE)
        margins[asked] = rows.take(asked).margins(others.weights, others.biases)[:, :n_children]
    return whole.weights[places, :n_children], whole.biases[:n_children], margins


def _solutions(
    rows: Weighted, targets: BoolArray, C: FloatArray, tolerance: float, seed: int
) -> Iterator[Solution]:
    """One block of columns after another."""
    for start in range(0, targets.shape[1], LANES):
        block = slice(start, start + LANES)
        yield Block(rows, targets[:, block], C[block], seed).solve(tolerance)


def _fit_and_score(
    rows: Weighted, targets: BoolArray, asked: Weighted, C: FloatArray, seed: int
) -> FloatArray:
    """Scores of the `asked` rows, one column for each of `targets`."""
    found = _solutions(rows, targets, C, TRIAL_TOLERANCE, seed)
    margins = [asked.margins(one.weights, one.biases) for one in found]
    return _squashed(np.concatenate(margins, axis=1)[:, : len(C)])


def _bare(targets: BoolArray, fold_of: IntArray) -> tuple[FloatArray, FloatArray]:
    """Biases and held-out margins without any feature: what is left is how frequent each child is."""

    def margin(learns: BoolArray) -> FloatArray:
        share = (targets[learns].sum(axis=0) + 1) / (learns.sum() + 2)
        return np.asarray(np.log(share / (1 - share)) / 2, dtype=np.float32)

    held_out = np.stack([margin(fold_of != fold) for fold in range(FOLDS)])
    return margin(fold_of >= 0), held_out[fold_of]


def _to_whole_vectors(n_children: int) -> int:
    return -(-n_children // VECTOR) * VECTOR


def _whole_vectors(weights: FloatArray) -> FloatArray:
    wide = np.zeros((len(weights), _to_whole_vectors(weights.shape[1])), dtype=np.float32)
    wide[:, : weights.shape[1]] = weights
    return wide


def _loss(scores: FloatArray, targets: BoolArray) -> float:
    return log_loss(fit_calibration(scores, targets).apply(scores), targets)


def make(C: float | Sequence[float] = PENALTIES) -> LinearBackend:
    """The backend with these penalties: one number, or a grid."""
    return LinearBackend([C] if isinstance(C, int | float) else list(C))


@kernel
def _insert(columns: NDArray[np.int32], slots: NDArray[np.int32]) -> None:
    for feature in range(len(columns)):
        slot = slot_of(columns[feature], slots)
        slots[slot, 0], slots[slot, 1] = columns[feature], feature


@kernel
def _score(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    buckets: NDArray[np.int32],
    rows: IntArray,
    slots: NDArray[np.int32],
    idf: FloatArray,
    rare: float,
    weights: FloatArray,
    margins: FloatArray,
) -> None:
    """Fill `margins` with the products of texts of unit length and weights."""
    room = _UNROLLED
    for text in rows:
        room = max(room, starts[text + 1] - starts[text] + _UNROLLED)
    values, features = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.uint64)
    width = weights.shape[1]
    for row in range(len(rows)):
        text, found = rows[row], 0
        length = left_out[text] * rare * rare
        for occurrence in range(starts[text], starts[text + 1]):
            column = buckets[np.uint64(places[occurrence])]
            slot = slot_of(column, slots)
            value = DAMPED[counts[occurrence]]
            if slots[slot, 0] >= 0:
                feature = np.uint64(slots[slot, 1])
                value *= idf[feature]
                values[found], features[found] = value, feature
                found += 1
            else:
                value *= rare * (INSIDE_WEIGHT if column >= BUCKETS_OF_EACH else np.float32(1))
            length += value * value
        for spare in range(found, found + _UNROLLED - 1):
            values[spare], features[spare] = 0, 0
        of_row = margins[row]
        of_row[:] = 0
        for at in range(0, found, _UNROLLED):
            a, b, c, d = values[at], values[at + 1], values[at + 2], values[at + 3]
            of_a, of_b = weights[features[at]], weights[features[at + 1]]
            of_c, of_d = weights[features[at + 2]], weights[features[at + 3]]
            for child in range(width):
                of_row[child] += (a * of_a[child] + b * of_b[child]) + (c * of_c[child] + d * of_d[child])
        if length > 0:
            of_row /= np.sqrt(length)
