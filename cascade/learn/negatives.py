"""Which rows of other groups a node should learn from, settled by a small trial on rows that reach it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cascade.learn.thresholds import best_f1
from cascade.nodes.contract import NodeProblem, TrialBackend, most_frequent_children, sampled
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.validation.calibration import conditional, fit_calibration
from cascade.validation.folds import stratified_folds

# A trial has to be cheap next to the fit that follows it, and one of this size told the real data sets apart.
MOST_ROWS = 2500
MOST_CHARACTERS = 1_250_000
MOST_CHILDREN = 16
FEWEST_ROWS = 20
FOLDS = 2
# `all` has to be worth its price: this much F1 for each million characters of other groups' texts, which is
# about what a tenth of a second of fitting has to bring. So short texts, and few of them, are free to choose.
F1_FOR_A_MILLION = 0.001
# No policy is better for less, as a trial is not as exact as that.
LEAST_GAIN = 0.003
# Beyond this price a trial is not worth its own.
DEAREST = 0.03
# In a level of more groups these are a sample, as all trials together have to be cheap as well.
MOST_TRIALS = 40
# Rows of so many characters that do not enter them teach the groups of a level, together, that want all rows.
OTHERS_IN_LEVEL = 20_000_000


def matched(rows: IntArray, own: BoolArray, entered: IntArray, most_others: int, seed: int) -> IntArray:
    """Of the `rows` that could teach a group those that reach it, truly or by mistake, and some others.

    What a router brings is what a group has to tell apart (the matcher-aware negatives of Yu et al., "PECOS:
    Prediction for Enormous and Correlated Output Spaces", JMLR 23, 2022); of the rest a sample shows what
    there is. With few groups that is all of it.

    Parameters
    ----------
    own
        bool, shape (n_texts,): the rows that truly belong to the group.
    entered
        The rows at which it was entered out of fold.
    most_others
        How many there may be of neither kind; they are as many as of these two kinds where that is more.
    """
    near = own.copy()
    near[entered] = True
    inside, others = rows[near[rows]], rows[~near[rows]]
    return np.sort(np.concatenate([inside, sampled(others, max(most_others, len(inside)), seed)]))


def rows_of(texts: Texts, characters: int) -> int:
    """How many rows have so many characters, on average."""
    return int(characters / max(float(_lengths(texts).mean()), 1))


def price_of(texts: Texts, others: IntArray) -> float:
    """The F1 that ``all`` has to bring for learning from these rows as well."""
    return float(_lengths(texts)[others].sum()) * F1_FOR_A_MILLION / 1e6


def _lengths(texts: Texts) -> IntArray:
    lengths: IntArray = texts.features(
        "lengths", lambda whole: np.fromiter(map(len, whole), np.int64, len(whole))
    )
    return lengths


def settle(
    backend: TrialBackend, problem: NodeProblem, path: FloatArray, price: float
) -> Literal["siblings", "all"]:
    """The policy with the better F1 on what the group will really be asked about.

    Both policies learn from one half of the rows and are compared on the other, both ways round: by the
    micro F1 of path probabilities at the best cut. Rows that routing lets in by mistake are among them,
    and they are what tells the policies apart.

    Parameters
    ----------
    backend
        Fits and scores cheaply.
    problem
        A sample of the rows that reach the group truly (``own``) or by mistake.
    path
        float32, shape (n_texts,): the out-of-fold path probability of the group for each of them.
    price
        By how much ``all`` has to be better, 0 or above: see `price_of`.
    """
    problem = most_frequent_children(problem, MOST_CHILDREN)
    if price > DEAREST or problem.own.all() or problem.own.sum() < FEWEST_ROWS:
        return "siblings"
    kept = problem.targets & problem.own[:, None]
    fold_of = stratified_folds(problem.targets, clusters_of(problem.texts), FOLDS, problem.seed)
    reached = {policy: _trial(backend, problem, fold_of, path, policy) for policy in ("siblings", "all")}
    figures = {policy: best_f1(scores, kept) for policy, scores in reached.items()}
    return "all" if figures["all"] > figures["siblings"] + max(price, LEAST_GAIN) else "siblings"


def _trial(
    backend: TrialBackend, problem: NodeProblem, fold_of: IntArray, path: FloatArray, policy: str
) -> FloatArray:
    """Held-out path probabilities of every row under one policy, shape (n_texts, n_children)."""
    scores = np.zeros(problem.targets.shape, dtype=np.float32)
    for fold in range(FOLDS):
        train = np.flatnonzero((fold_of != fold) & (problem.own | (policy == "all")))
        test = np.flatnonzero(fold_of == fold)
        scores[test] = backend.fit_and_score(problem, train, test)
    judged = problem.own | (policy == "all")
    calibration = fit_calibration(scores[judged], problem.targets[judged])
    return path[:, None] * conditional(calibration.apply(scores), policy, path)
