"""Which rows of other groups a node should learn from, settled by a small trial on rows that reach it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cascade.backends.base import FloatArray, IntArray, NodeProblem, TrialBackend, most_frequent_children
from cascade.calibrate import conditional, fit_calibration
from cascade.folds import stratified_folds
from cascade.thresholds import best_f1

# A trial has to be cheap next to the fit that follows it, and one of this size told the real data sets apart.
MOST_ROWS = 1500
MOST_CHILDREN = 8
FEWEST_ROWS = 20
FOLDS = 2
# `all` has to be worth its price: for each time that its rows outnumber the group's own, this much F1. So a
# wide taxonomy over long texts is fitted in minutes rather than hours, and its groups stay independent.
F1_FOR_EACH_FOLD_OF_ROWS = 0.0015


def sampled(rows: IntArray, most: int, seed: int) -> IntArray:
    """At most `most` of `rows`, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


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
        How many times as many rows ``all`` would learn from, at least 1.
    """
    problem = most_frequent_children(problem, MOST_CHILDREN)
    if problem.own.all() or problem.own.sum() < FEWEST_ROWS:
        return "siblings"
    kept = problem.targets & problem.own[:, None]
    fold_of = stratified_folds(problem.targets, problem.texts, FOLDS, problem.seed)
    reached = {policy: _trial(backend, problem, fold_of, path, policy) for policy in ("siblings", "all")}
    figures = {policy: best_f1(scores, kept) for policy, scores in reached.items()}
    return "all" if figures["all"] > figures["siblings"] + price * F1_FOR_EACH_FOLD_OF_ROWS else "siblings"


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
