"""What held-out rows say of a second pass: whether it may change anything, how much, and for which labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cascade.backends import verdict_model
from cascade.hosted.asker import Asker
from cascade.learn.asking import PlannedQuestions
from cascade.learn.combining import row_counts
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import believed_walk, known_truth, labels_out_of_fold
from cascade.learn.first_look import Answers, losses
from cascade.learn.truth import Cells
from cascade.model.decide import decide
from cascade.model.descriptions import Doubting
from cascade.model.folder import Manifest
from cascade.model.verification import (
    FEWEST,
    IN_DOUBT,
    LEAST_DOUBT,
    Decide,
    DoubtFinder,
    DoubtfulLabels,
    Verification,
    log_odds,
    with_labels,
)
from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.graph import Graph
from cascade.taxonomy.settings import VerifySpec
from cascade.text.clusters import clusters_of
from cascade.validation.calibration import sigmoid
from cascade.validation.doubts import NINE_OF_TEN
from cascade.validation.folds import stratified_folds
from cascade.validation.second_pass import fit_second_pass

# A swap of two siblings that was seen less often may be chance; rates are drawn to 0 by so many rows.
_FEWEST_SWAPS, _SHRINKAGE, _MOST_PAIRS = 3, 5, 500
# Two labels that rows never have together, though so many would by chance: that happens once in 150 times.
_EXPECTED = 5.0
# What is different for a label by less than this is not told.
_LEAST_DIFFERENCE = 0.01
_FOLDS = 5
# So many questions tell what one costs.
_PRICED = 50
_NO_CHANGE = (0.0, 1.0, 0.0)


def settle_verification(
    dataset: Dataset,
    rows: IntArray,
    walked: Walked,
    manifest: Manifest,
    *,
    budget_usd: float | None = None,
    asker: Asker | None = None,
) -> Verification:
    """Ask about doubtful labels of held-out rows, and settle what answers are worth.

    Parameters
    ----------
    rows
        int64, shape (n_rows,), ascending: the rows of the data set that no model knew when it scored them.
    walked
        Their combined walk.
    manifest
        What was settled of it.
    budget_usd
        What the questions may cost; None for as many as are worth it.

    Raises
    ------
    ServiceError
        The service answers nothing at all.
    """
    spec = dataset.taxonomy.verify
    if spec is None:
        raise ValueError("expected a taxonomy that says what to ask about doubtful labels")
    trial = _Trial(dataset, rows, walked, manifest, spec)
    model = verdict_model(trial.plain.backend, asker)
    asked, texts = trial.sample(model.settings.calibration_rows), dataset.texts.take(rows)
    questions = Doubting(dataset.taxonomy).of(asked, texts)
    usd = model.price(questions[:_PRICED]).usd if questions else None
    if usd and budget_usd is not None and usd * len(questions) > budget_usd:
        asked = trial.sample(int(budget_usd / usd))
        questions = Doubting(dataset.taxonomy).of(asked, texts)
    if len(asked) < FEWEST:
        return trial.unused(f"{len(asked)} doubtful labels can be asked about, and {FEWEST} are the fewest")
    return trial.settled(asked, model.yes(questions))


def planned_second_pass(dataset: Dataset) -> tuple[PlannedQuestions, int] | None:
    """What asking about labels in doubt takes at most, and how many a fit asks about; None without `verify`.

    The share of the questions is that of the texts which may have doubtful labels, with one each.
    """
    spec, graph = dataset.taxonomy.verify, dataset.taxonomy.graph
    if spec is None:
        return None
    model = verdict_model({"kind": spec.backend.kind, **spec.backend.options})
    of_labels = dataset.truth.only([graph.column[label] for label in graph.labels])
    places = np.linspace(0, len(of_labels.rows) - 1, min(len(of_labels.rows), _PRICED)).astype(np.int64)
    rows, labels = of_labels.rows[places], of_labels.columns[places]
    beside = np.array([_first_sibling(graph, graph.labels[label]) for label in labels.tolist()], np.int64)
    nothing = np.zeros(len(places))
    some = DoubtfulLabels(rows, labels, beside, nothing.astype(np.float32), nothing)
    price = model.price(Doubting(dataset.taxonomy).of(some, dataset.texts))
    most = min(int(spec.at_most * len(dataset.texts)), model.settings.calibration_rows)
    return PlannedQuestions(IN_DOUBT, spec.at_most, price), most


def _first_sibling(graph: Graph, label: str) -> int:
    labels = graph.labels
    siblings = [child for child in graph.children[graph.parents[label][0]] if child != label]
    return next((labels.index(child) for child in siblings if child in labels), -1)


class _Trial:
    """A second pass over held-out rows."""

    def __init__(
        self,
        dataset: Dataset,
        rows: IntArray,
        walked: Walked,
        manifest: Manifest,
        spec: VerifySpec,
    ) -> None:
        self.dataset, self.rows, self.manifest, self.seed = dataset, rows, manifest, manifest.seed
        self.graph, self.at_most = dataset.taxonomy.graph, spec.at_most
        self.truth = known_truth(dataset, rows)
        self.walked = believed_walk(dataset, rows, walked)
        columns = [self.graph.column[label] for label in self.graph.labels]
        self.true_labels = self.truth.only(columns)
        chosen = labels_out_of_fold(dataset, rows, walked, manifest.thresholds, manifest.exclusive)[1]
        self.plain = Verification(
            backend={"kind": spec.backend.kind, **spec.backend.options},
            is_used=False,
            least_doubt=1.0,
            weights=(0.0, 1.0, 1.0),
            confused=_confused(self.graph, self.true_labels, chosen),
            apart=_apart(self.graph, self.true_labels),
        )
        found = self.doubtful(self.plain)
        self.least_doubt = _least_doubt(found, len(rows), spec.at_most)
        self.asked = found.asked(self.least_doubt)

    @property
    def decide(self) -> Decide:
        taxonomy, manifest = self.dataset.taxonomy, self.manifest
        return lambda part: decide(taxonomy, manifest.thresholds, part.paths, manifest.exclusive)

    def doubtful(self, verification: Verification) -> DoubtfulLabels:
        finder = DoubtFinder(verification, self.graph, self.manifest.thresholds)
        return finder.doubtful(self.walked, self.decide)

    def sample(self, most: int) -> DoubtfulLabels:
        """The labels to ask about: all of a text or none, of texts by chance, `most` in all."""
        texts = np.unique(self.asked.rows)
        each = np.bincount(self.asked.rows, minlength=len(self.rows))
        order = np.random.default_rng(self.seed).permutation(texts)
        taken = order[np.cumsum(each[order]) <= most]
        return self.asked.where(np.isin(self.asked.rows, taken))

    def unused(self, why: str, notes: Mapping[str, Any] | None = None) -> Verification:
        """What is kept where answers change nothing."""
        told = {**self.figures(), **(notes or {}), "why": why}
        return replace(self.plain, least_doubt=1.0, weights=_NO_CHANGE, confused=(), apart=(), notes=told)

    def figures(self) -> dict[str, Any]:
        """Of held-out rows how many there are, and the share of them that has doubtful labels."""
        share = len(np.unique(self.asked.rows)) / max(len(self.rows), 1)
        each = len(self.asked) / max(len(self.rows), 1)
        return {"rows": len(self.rows), "share": round(share, 4), "questions": round(each, 4)}

    def settled(self, asked: DoubtfulLabels, answers: FloatArray) -> Verification:
        """What the answers about these labels come to."""
        answered = ~np.isnan(answers)
        notes: dict[str, Any] = {"asked": len(asked), "failed": int((~answered).sum())}
        asked, answers = asked.where(answered), answers[answered]
        if len(asked) < FEWEST:
            return self.unused(f"{len(asked)} answers, and {FEWEST} are the fewest", notes)
        cells = _AnsweredCells(asked, answers, self.is_true(asked), len(self.graph.labels))
        clusters = clusters_of(self.dataset.texts)[self.rows[asked.rows]]
        folds = stratified_folds(cells.targets[:, None], clusters, _FOLDS, self.seed)
        after, unheard = cells.out_of_fold(folds), cells.unheard(folds)
        before = self.answers(asked, asked.probabilities)
        then = self.answers(asked, after)
        notes |= {"micro_f1": round(_micro_f1(before), 4), "verified_micro_f1": round(_micro_f1(then), 4)}
        notes["changed"] = self.changed(asked, after)
        # What looking once more at the probabilities alone would win is not for the answers to claim.
        if not all(self.surely_better(then, one) for one in (before, self.answers(asked, unheard))):
            return self.unused("answers about held-out rows do not make them surely better", notes)
        shared, of_labels = cells.weights()
        if shared[2] <= 0:
            return self.unused("answers speak against what they say", notes)
        return replace(
            self.plain,
            is_used=True,
            least_doubt=self.least_doubt,
            weights=shared,
            label_weights={
                label: round(float(one), 6)
                for label, one in zip(self.graph.labels, of_labels.tolist(), strict=True)
                if abs(one) >= _LEAST_DIFFERENCE
            },
            notes={**self.figures(), **notes},
        )

    def is_true(self, asked: DoubtfulLabels) -> BoolArray:
        """Whether each label is true."""
        known = self.true_labels.columns * len(self.rows) + self.true_labels.rows
        return np.isin(asked.labels * len(self.rows) + asked.rows, known)

    def answers(self, asked: DoubtfulLabels, probabilities: FloatArray) -> Answers:
        """What is answered with these probabilities of the labels that were asked about."""
        columns = asked.labels + len(self.graph.nodes) - len(self.graph.labels)
        changed = with_labels(self.walked, asked.rows, columns, probabilities)
        return Answers.of(self.dataset, self.rows, changed, self.manifest)

    def surely_better(self, one: Answers, other: Answers) -> bool:
        """Whether the micro F1 of one is above that of the other in nine cases of ten.

        By the score interval of a rate, in labels: four that are righted and none made wrong are enough.
        """
        counts = row_counts(self.graph, self.dataset.truth.take(self.rows))
        lost, _ = losses(other, one, counts)
        spread = float((lost**2).sum()) + (NINE_OF_TEN / 2) ** 2
        return bool(lost.sum() > NINE_OF_TEN**2 / 2 + NINE_OF_TEN * np.sqrt(spread))

    def changed(self, asked: DoubtfulLabels, after: FloatArray) -> int:
        """How many of the labels are on the other side of their threshold now."""
        least = np.array([self.manifest.thresholds[label] for label in self.graph.labels], dtype=np.float32)
        limits = least[asked.labels]
        return int(((asked.probabilities >= limits) != (after >= limits)).sum())


@dataclass(frozen=True)
class _AnsweredCells:
    """Labels with answers and the truth."""

    asked: DoubtfulLabels
    answers: FloatArray
    targets: BoolArray
    n_labels: int

    def where(self, kept: BoolArray) -> _AnsweredCells:
        return _AnsweredCells(self.asked.where(kept), self.answers[kept], self.targets[kept], self.n_labels)

    def weights(self) -> tuple[tuple[float, float, float], Any]:
        before, answers = log_odds(self.asked.probabilities), log_odds(self.answers)
        return fit_second_pass(before, answers, self.asked.labels, self.targets, self.n_labels)

    def out_of_fold(self, folds: IntArray) -> FloatArray:
        """Probabilities after the answers, each by weights that were learned in other folds."""
        after = np.empty(len(self.answers), dtype=np.float32)
        for fold in np.unique(folds).tolist():
            after[folds == fold] = self.where(folds == fold).verified(*self.where(folds != fold).weights())
        return after

    def verified(self, shared: tuple[float, float, float], of_labels: Any) -> FloatArray:
        """Probabilities after the answers; a label whose answers count for nothing keeps its own."""
        own = shared[2] + of_labels[self.asked.labels]
        raised = shared[0] + shared[1] * log_odds(self.asked.probabilities) + own * log_odds(self.answers)
        return np.where(own > 0, sigmoid(raised), self.asked.probabilities).astype(np.float32)

    def unheard(self, folds: IntArray) -> FloatArray:
        """Probabilities weighed anew without any answer, out of fold as well."""
        before, after = log_odds(self.asked.probabilities), np.empty(len(self.answers), dtype=np.float32)
        silent = replace(self, answers=np.full_like(self.answers, 0.5))
        for fold in np.unique(folds).tolist():
            (offset, own, _), _ = silent.where(folds != fold).weights()
            after[folds == fold] = sigmoid(offset + own * before[folds == fold])
        return after


def _micro_f1(answers: Answers) -> float:
    given = len(answers.truth.rows)
    return float(2 * answers.hits.sum() / max(answers.chosen.sum() + given, 1))


def _least_doubt(found: DoubtfulLabels, n_rows: int, at_most: float) -> float:
    """From which doubt on labels are asked about, for no more than this share of the rows; 1 for none."""
    greatest = np.zeros(n_rows)
    np.maximum.at(greatest, found.rows, found.doubts)
    ranked = np.sort(greatest)[::-1]
    most = int(at_most * n_rows)
    if not most:
        return 1.0
    least = float(ranked[most - 1])
    if most < n_rows and ranked[most] == least:  # equal doubts are asked about alike
        above = ranked[ranked > least]
        least = float(above[-1]) if len(above) else 1.0
    return max(least, LEAST_DOUBT)


def _confused(graph: Graph, truth: Cells, chosen: Cells) -> tuple[tuple[str, str, float], ...]:
    """Siblings of which rows had the wrong one, and how often where the first was chosen alone."""
    beside = {
        label: {child for group in graph.parents[label] for child in graph.children[group]}
        for label in graph.labels
    }
    extra, missed = _by_row(graph.labels, chosen.without(truth)), _by_row(graph.labels, truth.without(chosen))
    swaps = Counter(
        (label, sibling)
        for row, labels in extra.items()
        for label in labels
        for sibling in missed.get(row, ())
        if sibling in beside[label]
    )
    rows_of = {label: chosen.of(place) for place, label in enumerate(graph.labels)}
    found = []
    for (label, sibling), count in swaps.items():
        if count >= _FEWEST_SWAPS:
            alone = len(np.setdiff1d(rows_of[label], rows_of[sibling], assume_unique=True))
            found.append((label, sibling, round(count / (alone + _SHRINKAGE), 6)))
    return tuple(sorted(found, key=lambda one: (-one[2], one[:2]))[:_MOST_PAIRS])


def _by_row(labels: Sequence[str], cells: Cells) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for row, column in zip(cells.rows.tolist(), cells.columns.tolist(), strict=True):
        found.setdefault(row, []).append(labels[column])
    return found


def _apart(graph: Graph, truth: Cells) -> tuple[tuple[str, str], ...]:
    """Pairs of labels that no row has together, though `_EXPECTED` rows or more would by chance."""
    counts = np.diff(truth.starts)
    frequent = np.flatnonzero(counts * counts.max(initial=0) >= _EXPECTED * truth.n_rows)
    found = []
    for place, one in enumerate(frequent.tolist()):
        rows = truth.has(one)
        for other in frequent[place + 1 :].tolist():
            expected = counts[one] * counts[other] / max(truth.n_rows, 1)
            if expected >= _EXPECTED and not rows[truth.of(other)].any():
                found.append((expected, graph.labels[one], graph.labels[other]))
    found.sort(key=lambda each: (-each[0], each[1:]))
    return tuple((one, other) for _, one, other in found[:_MOST_PAIRS])


def told_of_verification(found: Verification) -> str:
    """What came of it, in words."""
    notes = found.notes
    if not found.is_used:
        return f"second pass: none, as {notes['why']}"
    return (
        f"second pass: labels of {notes['share']:.0%} of the rows are asked about again; micro F1 "
        f"{notes['micro_f1']:.3f} without, {notes['verified_micro_f1']:.3f} with it out of fold ("
        f"{notes['changed']} of {notes['asked']} labels changed)"
    )
