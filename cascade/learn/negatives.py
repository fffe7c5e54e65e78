"""Which rows of other groups a node should learn from, settled by a small trial on rows that reach it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cascade.learn.thresholds import best_f1
from cascade.nodes.contract import NodeProblem, TrialBackend, most_frequent_children, sampled
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.validation.calibration import conditional, fit_calibration, logit, sigmoid
from cascade.validation.folds import stratified_folds

# A trial has to be cheap next to the fit that follows it, and one of this size told the real data sets apart.
MOST_ROWS = 2500
MOST_CHARACTERS = 1_250_000
MOST_CHILDREN = 16
FEWEST_ROWS = 20
FOLDS = 2
# A second model has to be worth its price: this much F1 for each million characters of texts that it learns
# from besides, which take about a third of a second.
F1_FOR_A_MILLION = 0.0003
# No policy is better for less, as a trial is not as exact as that.
LEAST_GAIN = 0.001
# Beyond this price a trial is not worth its own.
DEAREST = 0.03
# In a level of more groups these are a sample, as all trials together have to be cheap as well.
MOST_TRIALS = 40
# So many rows that do not enter a group teach its second model, and in all groups of a level as many as have
# so many characters: where rows are few they are worth it.
MOST_OTHERS = 2_000
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
        How many there may be of neither kind.
    """
    near = own.copy()
    near[entered] = True
    inside, others = rows[near[rows]], rows[~near[rows]]
    return np.sort(np.concatenate([inside, sampled(others, most_others, seed)]))


def rows_of(texts: Texts, characters: int) -> int:
    """How many rows have so many characters, on average."""
    return int(characters / max(float(_lengths(texts).mean()), 1))


def price_of(texts: Texts, others: IntArray) -> float:
    """The F1 that a second model has to bring for learning from these rows as well."""
    return float(_lengths(texts)[others].sum()) * F1_FOR_A_MILLION / 1e6


def _lengths(texts: Texts) -> IntArray:
    lengths: IntArray = texts.features(
        "lengths", lambda whole: np.fromiter(map(len, whole), np.int64, len(whole))
    )
    return lengths


def settle(
    backend: TrialBackend, problem: NodeProblem, path: FloatArray, price: float
) -> Literal["siblings", "both"]:
    """Whether a second model, which learns from every row, is worth its price.

    Models learn from one half of the rows and are compared on the other, both ways round: path probabilities
    alone, and half the sum of their log odds and those of the second model's scores, by micro F1 at the best
    cut. Rows that routing lets in by mistake are among them, and they are what the second model knows better.

    Parameters
    ----------
    backend
        Fits and scores cheaply.
    problem
        A sample of the rows that reach the group truly (``own``) or by mistake.
    path
        float32, shape (n_texts,): the out-of-fold path probability of the group for each of them.
    price
        By how much two have to be better, 0 or above: see `price_of`.
    """
    problem = most_frequent_children(problem, MOST_CHILDREN)
    if price > DEAREST or problem.own.all() or problem.own.sum() < FEWEST_ROWS:
        return "siblings"
    kept = problem.targets & problem.own[:, None]
    fold_of = stratified_folds(problem.targets, clusters_of(problem.texts), FOLDS, problem.seed)
    own, everywhere = (_trial(backend, problem, fold_of, path, policy) for policy in ("siblings", "all"))
    together = sigmoid((logit(own) + logit(everywhere)) / 2)
    gain = best_f1(together, kept) - best_f1(own, kept)
    return "both" if gain > max(price, LEAST_GAIN) else "siblings"


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
