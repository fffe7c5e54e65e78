"""The embedded backend: TF-IDF of words and character n-grams, one linear SVM for each child.

``fit``: the bags of all texts are hashed once, for all groups. A group weighs the features of its rows by
their idf there; a block of columns settles the penalty on one fold; then every child is trained on all rows
and on those of all folds but one, some children to a block, and the rows that were left out are scored.
``predict``: one pass over the features of a text, looked up among those of the group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascade.encoders.contract import Encoder
from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import Contributions, FittedNode, NodeProblem, most_frequent_children, sampled
from cascade.nodes.known import known_shares, known_without_itself
from cascade.nodes.meaning import RECORD, WEIGHTS, Meaning, beside, settled, vectors
from cascade.nodes.pushes import pushes_of, traces
from cascade.nodes.solver import Block, Solution, blocks_of
from cascade.nodes.weighting import LEAST_ROWS, Idf, Weighted, Weighting, gathered, planned
from cascade.nodes.weights import BOUND, BOUND_OF_SMALL, Cells, Weights, add_cells, cells_of
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.serialization import read_array, read_json, write_array, write_json
from cascade.system.vectors import add_half_products
from cascade.text.clusters import clusters_of
from cascade.text.features import DAMPED, VERSION, VERSIONS, Bags, bags_of
from cascade.text.hashing import WIDTH
from cascade.text.pieces import Pieces
from cascade.text.texts import Texts
from cascade.validation.calibration import fit_calibration, log_loss, sigmoid
from cascade.validation.folds import stratified_folds

# So many folds for texts of so many characters. A model of nine tenths of few rows is much better than one of
# two thirds, and thresholds would be settled for the worse one; of many rows two thirds teach nearly as much,
# and each fold costs time.
FOLDS = ((1_000_000, 10), (5_000_000, 5))
FEWEST_FOLDS = 3
# Texts of so many characters on average are long, and from so many of them on there are halves.
LONG_TEXTS, MOST_OF_LONG, HALVES = 500, 1_000_000, 2
# Half of the rows want less of a penalty for margins as sure as those of all rows. On US bills calibration
# errors are .006, with the same penalty .015, with three folds .005.
C_OF_HALVES = np.float32(np.sqrt(2))
PENALTIES = (1.0, 3.0, 0.3, 0.1)
# log(1 + n_texts) + 1 stays below for any number of texts that memory holds.
MOST_RARE = 50.0
# So many children, and so many rows, or as many as have so many characters, tell which penalty suits a group:
# that of few rows is too high for many.
TRIED_CHILDREN = 4
TRIED_ROWS, TRIED_CHARACTERS = 6_000, 1_400_000
# With an encoder two things are settled, on more: so many cells of rows and children, and where rows are at
# most so many, on several folds.
TRIED_CELLS = 20_000
FEW_TRIED, FOLDS_TRIED = 3_000, 3
# From so many rows, or features of rows, on there are several blocks, to be spread over threads.
MANY_ROWS, MANY_CELLS = 30_000, 10_000_000
# Margins are off by no more: a model gains nothing beyond, nor do held-out scores, which only calibrate, but
# for those of models that have to unlearn the rows they are asked about.
TOLERANCE = 0.1
TOLERANCE_OF_ALL = 0.07  # where no row is looked at twice
UNLEARNED_TOLERANCE = 0.03
# The models of thousands of labels are many, and each has rows enough to be calibrated by less.
UNLEARNED_TOLERANCE_OF_SMALL = 0.06
TRIAL_TOLERANCE = 0.1
# From so many occurrences for each feature of a batch on, all of these are looked up beforehand.
OFTEN = 2


def bags(texts: Texts, version: int = VERSION) -> Bags:
    """The hashed features of these texts, computed once for all nodes that share the batch."""
    found: Bags = texts.features(("bags", version), lambda whole: bags_of(whole, version=version))
    return found


class LinearModel:
    """The fitted model of one group; its scores are sigmoid(2 * margin).

    Attributes
    ----------
    weighting
        What the rows of `weights` stand for.
    weights
        What each feature says of each child.
    biases
        float32, shape (n_children,).
    features
        The version of the features, one of `VERSIONS`.
    meaning
        What the vector of a text says of each child; None without an encoder.
    """

    def __init__(
        self,
        weighting: Weighting,
        weights: Weights,
        biases: FloatArray,
        features: int = VERSION,
        meaning: Meaning | None = None,
    ) -> None:
        self.weighting, self.weights, self.biases, self.features = weighting, weights, biases, features
        self.meaning = meaning

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1]."""
        found, weights = bags(texts, self.features), self.weights
        table = weights.table(int((found.starts[found.rows + 1] - found.starts[found.rows]).sum()))
        width = weights.n_children if table is None else weights.width
        margins, plan = np.empty((len(found), width), dtype=np.float32), self._plan(found)
        _score(
            found.starts,
            found.places,
            found.counts,
            found.left_out,
            found.buckets,
            found.rows,
            plan,
            plan.view(np.float32),
            self.weighting.slots,
            self.weighting.idf,
            self.weighting.rare,
            self.weighting.n_common,
            _NO_TABLE if table is None else table,
            weights.starts,
            _NO_COLUMNS if table is not None else weights.columns,
            _NO_VALUES if table is not None else weights.single,
            margins,
        )
        if self.meaning is not None:
            margins[:, : len(self.biases)] += self.meaning.margins(texts)
        return _squashed(margins[:, : len(self.biases)] + self.biases)

    def _plan(self, texts: Bags) -> NDArray[np.int32]:
        """The plan of all features of the batch; of none where looking up occurrences is less work."""
        occurrences = int((texts.starts[texts.rows + 1] - texts.starts[texts.rows]).sum())
        often = occurrences >= OFTEN * len(texts.buckets)
        return self.weighting.plan(texts.buckets if often else texts.buckets[:0])

    def known(self, texts: Texts) -> FloatArray:
        """The share of each text that it knows: see `known_shares`."""
        return known_shares(bags(texts, self.features), texts, self.weighting)

    def contributions(self, texts: Texts, pieces: Sequence[Pieces] | None = None) -> Iterator[Contributions]:
        """What each word did to the margin of each child: see `Contributions`.

        A feature's product of value and weight is shared by its occurrences alike, and that of an occurrence
        by the words that it lies in, see `Occurrences`. The vector of a text counts for a word as much as is
        missed without it; what only words together do stands beside them.
        """
        n_children, rest = len(self.biases), self.biases.astype(np.float64)
        found = repeat(None) if self.meaning is None else self.meaning.contributions(texts, pieces)
        for trace, of_meaning in zip(traces(texts, self.features), found, strict=False):
            values = pushes_of(trace, self.weighting, self.weights, n_children)
            beside = {}
            if of_meaning is not None:
                values, beside = values + of_meaning[0], of_meaning[1]
            yield Contributions(trace.spans, values, rest, beside, unit=2.0)

    def save(self, folder: Path) -> None:
        own = self.weighting
        settings = {"features": self.features, "rare": own.rare, "common": own.n_common}
        write_json(folder / "linear.json", settings)
        write_array(folder / "columns.npy", self.weighting.columns)
        write_array(folder / "idf.npy", self.weighting.idf)
        self.weights.save(folder)
        write_array(folder / "biases.npy", self.biases)
        if self.meaning is not None:
            self.meaning.save(folder)


_NO_TABLE = np.empty((0, 0), dtype=np.int16)
_NO_TABLE.flags.writeable = False  # so that one kernel is compiled for this and for tables
_NO_COLUMNS, _NO_VALUES = np.empty(0, dtype=np.uint32), np.empty(0, dtype=np.float32)


def _squashed(margins: FloatArray) -> FloatArray:
    return sigmoid(2 * margins).astype(np.float32)


class LinearBackend:
    """Fits `LinearModel`; the penalty is the best of a short grid on held-out rows.

    Parameters
    ----------
    penalties
        The grid.
    encoder
        An encoder whose vectors stand beside the words, or the name of one of this machine.
    encoders
        A folder that may hold it, looked at first.
    """

    def __init__(
        self,
        penalties: Sequence[float] = PENALTIES,
        encoder: str | Encoder | None = None,
        encoders: Path | None = None,
    ) -> None:
        self.penalties, self._named, self._encoders = tuple(penalties), encoder, encoders

    @cached_property
    def encoder(self) -> Encoder | None:
        """The encoder; BackendError where it is not on this machine."""
        if not isinstance(self._named, str):
            return self._named
        from cascade.encoders.store import opened  # who has words alone needs none of it

        return opened(self._named, beside=self._encoders)

    def _found(self, name: str, sha256: str, dims: int) -> Encoder:
        """The encoder that a model was fitted with; BackendError where it is another one by now."""
        from cascade.encoders.store import opened

        if self._named is None or isinstance(self._named, str):
            return opened(name, sha256, self._encoders)
        if self._named.sha256 != sha256:
            raise BackendError(f"this model was fitted with another encoder than {self._named.name!r}")
        return replace(self._named, expected=dims) if is_dataclass(self._named) else self._named

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The model and its out-of-fold scores of every row, or of its part; `notes` has the penalty ``C``.

        Blocks of children are spread as ``joblib.parallel_config`` says around the call.
        """
        from joblib import Parallel, delayed  # predictions do without

        texts = bags(problem.texts)
        idf = Idf(texts)
        words = idf.weigh(texts)
        fold_of, folds = folds_of(problem, np.ones(len(texts), dtype=np.bool_))
        weight, C = self._settle_both(words, problem, fold_of, folds)
        if problem.extra is not None:
            # What another model labelled says which penalty suits so many rows, and nothing else.
            fold_of, folds = folds_of(problem, ~problem.extra)
        rows = self._beside(words, problem.texts, weight)
        # A group of many rows is often alone on its level, a router.
        is_large = len(texts) >= MANY_ROWS or len(rows.values) >= MANY_CELLS
        blocks = blocks_of(len(problem.children), 2 if is_large else 1)
        bound = BOUND_OF_SMALL if problem.small else BOUND
        tolerance = UNLEARNED_TOLERANCE_OF_SMALL if problem.small else UNLEARNED_TOLERANCE
        fits = Parallel()(
            delayed(_fit_children)(
                rows,
                problem.targets[:, block],
                fold_of,
                folds,
                C,
                problem.seed,
                bound,
                tolerance,
                words.n_features,
                problem.weights,
            )
            for block in blocks
        )
        weights = Weights.of_blocks([one[0] for one in fits], list(map(len, blocks)), words.n_features)
        biases, dense, held_out = (np.concatenate([one[part] for one in fits], axis=-1) for part in (1, 2, 3))
        if not rows.n_features:
            biases, held_out = _bare(problem.targets, fold_of)
        asked = np.flatnonzero(fold_of < folds)
        meaning = self._meaning(weight, dense)
        model = LinearModel(idf.weighting, weights, biases, meaning=meaning)
        notes = {"C": C} if meaning is None else {"C": C, "encoder": meaning.encoder.name, "weight": weight}
        return FittedNode(model, asked, _squashed(held_out[asked]), notes)

    def _beside(self, words: Weighted, texts: Texts, weight: float) -> Weighted:
        """Rows of words, with the vectors beside them where there is an encoder."""
        return words if self.encoder is None else beside(words, vectors(self.encoder, texts), weight)

    def _meaning(self, weight: float, weights: FloatArray) -> Meaning | None:
        return None if self.encoder is None else Meaning.of(self.encoder, weight, weights)

    def _settle_both(
        self, words: Weighted, problem: NodeProblem, fold_of: IntArray, folds: int
    ) -> tuple[float, float]:
        """What vectors count for beside words, and the penalty: see `settled`."""
        if self.encoder is None:
            return 0.0, self._settle(words, problem, fold_of)
        sample = sampled(np.arange(len(problem.texts)), self._most_tried(problem), problem.seed)
        tried = most_frequent_children(problem, max(TRIED_CHILDREN, TRIED_CELLS // len(sample)))
        penalties = np.asarray(self.penalties, dtype=np.float32)
        losses = np.zeros((len(WEIGHTS), len(penalties)))
        for fold in range(min(FOLDS_TRIED, folds) if len(sample) <= FEW_TRIED else 1):
            train, test = sample[fold_of[sample] != fold], sample[fold_of[sample] == fold]
            if not len(test):
                continue  # of fewer rows than folds
            for row, weight in enumerate(WEIGHTS):
                rows = self._beside(words, problem.texts, weight)
                losses[row] += _trial_losses(rows, tried, train, test, penalties)
        return settled(losses, WEIGHTS, self.penalties)

    def fit_once(self, problem: NodeProblem) -> LinearModel:
        """The model of all rows with the first penalty: nothing is settled, no row is held out."""
        texts = bags(problem.texts)
        idf = Idf(texts)
        words, C = idf.weigh(texts), self._first(problem)
        rows = self._beside(words, problem.texts, WEIGHTS[0])
        blocks = blocks_of(len(C))
        found = [
            Block(rows, problem.targets[:, block], C[block], problem.seed, problem.weights).solve(TOLERANCE)
            for block in blocks
        ]
        end = words.n_features
        cells = [cells_of(one.weights[:end, : len(block)]) for one, block in zip(found, blocks, strict=True)]
        weights = Weights.of_blocks(cells, list(map(len, blocks)), end)
        biases = [one.biases[: len(block)] for one, block in zip(found, blocks, strict=True)]
        dense = [one.weights[end:, : len(block)] for one, block in zip(found, blocks, strict=True)]
        meaning = self._meaning(WEIGHTS[0], np.concatenate(dense, axis=1))
        return LinearModel(idf.weighting, weights, np.concatenate(biases), meaning=meaning)

    def _first(self, problem: NodeProblem) -> FloatArray:
        return np.full(len(problem.children), self.penalties[0], dtype=np.float32)

    def _settle(self, rows: Weighted, problem: NodeProblem, fold_of: IntArray) -> float:
        """The penalty with the least log loss on the first fold, after calibration; of equal ones the first.

        The most frequent children stand for all of them, and a sample for many rows. Of long texts each trial
        is dear, and the first of the usual penalties as good as the best: there only a grid of one's own is
        tried.
        """
        if len(self.penalties) == 1 or (self.penalties == PENALTIES and are_long(problem.texts)):
            return self.penalties[0]
        tried = most_frequent_children(problem, TRIED_CHILDREN)
        sample = sampled(np.arange(len(problem.texts)), self._most_tried(problem), problem.seed)
        train, test = sample[fold_of[sample] != 0], sample[fold_of[sample] == 0]
        losses = _trial_losses(rows, tried, train, test, np.asarray(self.penalties, dtype=np.float32))
        return self.penalties[int(np.argmin(losses))]

    @staticmethod
    def _most_tried(problem: NodeProblem) -> int:
        """On how many rows penalties are tried."""
        characters = max(int(problem.texts.lengths().sum()), 1)
        return max(TRIED_ROWS, int(TRIED_CHARACTERS * len(problem.texts) / characters))

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Hash the texts and find those that nearly equal another, once for all nodes."""
        from joblib import Parallel, delayed  # predictions do without

        key = ("bags", VERSION)
        hashed = delayed(texts.features)(key, lambda whole: bags_of(whole, LEAST_ROWS, jobs))
        Parallel(min(jobs, 2), backend="threading")([hashed, delayed(clusters_of)(texts)])
        if self.encoder is not None:
            vectors(self.encoder, texts, jobs)

    def known_without_itself(self, texts: Texts) -> FloatArray:
        """The share of each text that a model of the others knows."""
        return known_without_itself(bags(texts), texts, LEAST_ROWS)

    def fit_and_score(self, problem: NodeProblem, train: IntArray, test: IntArray) -> FloatArray:
        """Scores of the `test` rows by one fit of the `train` rows with the first penalty of the grid."""
        texts = bags(problem.texts)
        idf = Idf(texts[train])
        rows, asked = (
            self._beside(idf.weigh(texts[part]), problem.texts.take(part), WEIGHTS[0])
            for part in (train, test)
        )
        taught = replace(
            problem,
            targets=problem.targets[train],
            weights=None if problem.weights is None else problem.weights[train],
        )
        everything, C = np.arange(len(train)), self._first(problem)
        return _trial(rows, taught, everything, C, asked, np.arange(len(test)))

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
        common = settings.get("common", 0)  # release 0.10 and before had none
        if not isinstance(common, int) or common < 0:
            raise ModelError(
                f"{folder / 'linear.json'}: expected 'common' 0 or above, found {common!r}. "
                "Run `cascade fit` again."
            )
        columns = read_array(folder / "columns.npy", np.int32, (None,))
        biases = read_array(folder / "biases.npy", np.float32, (None,))
        idf = read_array(folder / "idf.npy", np.float32, columns.shape)
        weights = Weights.load(folder, len(columns), len(biases))
        weighting = Weighting(columns, idf, rare, common)
        if not weighting.is_sound():
            raise ModelError(
                f"{folder / 'columns.npy'}: expected distinct columns below {WIDTH}, {common} or more. "
                "Run `cascade fit` again."
            )
        for name, array in (("idf", idf), ("biases", biases)):
            if not np.isfinite(array).all():
                raise ModelError(f"{folder / name}.npy: expected finite numbers. Run `cascade fit` again.")
        meaning = None
        if self._named is not None or (folder / RECORD).exists():
            meaning = Meaning.load(folder, len(biases), self._found)
        return LinearModel(weighting, weights, biases, settings["features"], meaning)


def folds_of(problem: NodeProblem, judging: BoolArray) -> tuple[IntArray, int]:
    """The fold of each row, int64, shape (n_texts,), and how many there are.

    Rows that are not `judging`, bool, shape (n_texts,), are beyond the last fold: learned from in each.
    """
    if problem.part is not None:
        return np.where(problem.part, 0, 1), 1
    folds, clusters = folds_for(problem.texts), clusters_of(problem.texts)
    fold_of, judged = np.full(len(problem.texts), folds), np.flatnonzero(judging)
    fold_of[judged] = stratified_folds(problem.targets[judged], clusters[judged], folds, problem.seed)
    return fold_of, folds


def are_long(texts: Texts) -> bool:
    """Whether these are many long texts, of which few folds tell enough, and each has its price."""
    return int(texts.lengths().sum()) > max(MOST_OF_LONG, LONG_TEXTS * len(texts))


def folds_for(texts: Texts) -> int:
    """On how many folds a model of these texts is judged."""
    if are_long(texts):
        return HALVES
    characters = int(texts.lengths().sum())
    return next((folds for most, folds in FOLDS if characters <= most), FEWEST_FOLDS)


def _fit_children(
    rows: Weighted,
    targets: BoolArray,
    fold_of: IntArray,
    folds: int,
    C: float,
    seed: int,
    bound: np.float32,
    tolerance: float,
    n_words: int,
    row_weights: FloatArray | None = None,
) -> tuple[Cells, FloatArray, FloatArray, FloatArray]:
    """Weights of words, biases, weights of vectors, and held-out margins of the rows of the first folds.

    They are for some children; columns from `n_words` on are vectors.
    """
    n_children = targets.shape[1]
    each = np.full(n_children, C, dtype=np.float32)
    block = Block(rows, targets, each, seed, row_weights)
    margins = np.empty(targets.shape, dtype=np.float32)
    if folds <= FEWEST_FOLDS:
        # A fit without a third or half of the rows is cheaper than to unlearn them, and never saw them.
        part = Block(rows, targets, each * C_OF_HALVES, seed, row_weights) if folds == HALVES else block
        for fold in reversed(range(folds)):
            asked = np.flatnonzero(fold_of == fold)
            found = part.solve(TOLERANCE, np.flatnonzero(fold_of != fold), check=False)
            margins[asked] = rows.margins(asked, found.weights, found.biases)[:, :n_children]
        whole = block.solve_with_all(found, TOLERANCE_OF_ALL)
        return *_apart(whole, n_words, n_children, bound), margins
    whole = block.solve(TOLERANCE)
    for fold in range(folds):
        asked = np.flatnonzero(fold_of == fold)
        others = block.solve_without(fold_of == fold, whole, tolerance)
        margins[asked] = rows.margins(asked, others.weights, others.biases)[:, :n_children]
    return *_apart(whole, n_words, n_children, bound), margins


def _apart(
    whole: Solution, n_words: int, n_children: int, bound: np.float32
) -> tuple[Cells, FloatArray, FloatArray]:
    """Weights of words, without those near 0, biases, and weights of vectors."""
    words, dense = whole.weights[:n_words, :n_children], whole.weights[n_words:, :n_children]
    return cells_of(words, bound), whole.biases[:n_children], dense


def _trial(
    rows: Weighted, taught: NodeProblem, train: IntArray, C: FloatArray, texts: Weighted, asked: IntArray
) -> FloatArray:
    """Scores of some of the `texts` by a fit of some of the `rows`, a column for each target."""
    margins, targets = [], taught.targets
    for block in blocks_of(targets.shape[1]):
        solver = Block(rows, targets[:, block], C[block], taught.seed, taught.weights)
        found = solver.solve(TRIAL_TOLERANCE, train, check=not are_long(taught.texts))
        margins.append(texts.margins(asked, found.weights, found.biases)[:, : len(C[block])])
    return _squashed(np.concatenate(margins, axis=1))


def _trial_losses(
    rows: Weighted, problem: NodeProblem, train: IntArray, test: IntArray, penalties: FloatArray
) -> list[float]:
    """The log loss, after calibration, of the `test` rows by models of the `train` rows, for each penalty."""
    targets = problem.targets
    C = np.repeat(penalties, targets.shape[1])
    each = replace(problem, targets=np.tile(targets, len(penalties)))
    scores = _trial(rows, each, train, C, rows, test)
    return [_loss(of_one, targets[test]) for of_one in np.split(scores, len(penalties), axis=1)]


def _bare(targets: BoolArray, fold_of: IntArray) -> tuple[FloatArray, FloatArray]:
    """Biases and held-out margins without any feature: what is left is how frequent each child is."""

    def margin(learns: BoolArray) -> FloatArray:
        share = (targets[learns].sum(axis=0) + 1) / (learns.sum() + 2)
        return np.asarray(np.log(share / (1 - share)) / 2, dtype=np.float32)

    held_out = np.stack([margin(fold_of != fold) for fold in range(fold_of.max(initial=0) + 1)])
    return margin(fold_of >= 0), held_out[fold_of]


def _loss(scores: FloatArray, targets: BoolArray) -> float:
    return log_loss(fit_calibration(scores, targets).apply(scores), targets)


def make(
    C: float | Sequence[float] = PENALTIES,
    encoder: str | Encoder | None = None,
    encoders: Path | None = None,
) -> LinearBackend:
    """The backend with these penalties, one number or a grid, and an encoder, if one is named."""
    return LinearBackend([C] if isinstance(C, int | float) else list(C), encoder, encoders)


@kernel
def _score(
    starts: IntArray,
    places: NDArray[np.int32],
    counts: NDArray[np.uint8],
    left_out: FloatArray,
    buckets: NDArray[np.int32],
    rows: IntArray,
    plan: NDArray[np.int32],
    plan_weights: FloatArray,
    slots: NDArray[np.int32],
    idf: FloatArray,
    rare: float,
    n_common: int,
    table: NDArray[np.int16],
    ends: IntArray,
    children: NDArray[np.uint32],
    weights: FloatArray,
    margins: FloatArray,
) -> None:
    """Fill `margins` with the products of texts of unit length and weights."""
    room = 0
    for text in rows:
        room = max(room, starts[text + 1] - starts[text])
    values, features = np.empty(room, dtype=np.float32), np.empty(room, dtype=np.int32)
    for row in range(len(rows)):
        text, found, length = rows[row], 0, 0.0
        if len(plan):
            found, _, length = gathered(starts, places, counts, text, plan, plan_weights, features, values, 0)
        else:
            for occurrence in range(starts[text], starts[text + 1]):
                feature, weight = planned(buckets[places[occurrence]], slots, idf, rare, n_common)
                value = DAMPED[counts[occurrence]] * weight
                features[found], values[found] = feature, value
                found += feature >= 0
                length += np.float64(value) * value
        length += left_out[text] * rare * rare
        of_row = margins[row]
        of_row[:] = 0
        if len(table):
            add_half_products(values, features, 0, found, table, of_row)
        else:
            add_cells(values, features, found, ends, children, weights, of_row)
        if length > 0:
            of_row /= np.sqrt(length)
