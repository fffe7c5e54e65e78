"""Which rows of other groups a node should learn from, settled by a small trial on rows that reach it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cascade.backends import make_backend
from cascade.learn.datasets import Dataset
from cascade.learn.groups import varies
from cascade.learn.thresholds import best_f1
from cascade.nodes.contract import NodeProblem, TrialBackend, most_frequent_children, sampled
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.graph import ROOT
from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.validation.calibration import conditional, fit_calibration, logit, sigmoid
from cascade.validation.folds import stratified_folds

# A trial has to be cheap next to the fit that follows it, and one of this size told the real data sets apart.
MOST_ROWS = 2500
MOST_CHARACTERS = 600_000
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
# In a level of more groups these are a sample, as all trials together have to be cheap as well; the first few
# are enough where nearly all of them agree. The other groups follow where the majority is clear.
FIRST_TRIALS, MOST_TRIALS = 10, 40
AGREED, CLEAR = 7 / 8, 2 / 3
# As many rows that enter a group by mistake as belong there teach its second model, but at least those that
# have so many characters, and at most those that have so many.
LEAST_NEAREST, MOST_NEAREST = 2_000_000, 4_000_000
# So many rows that do not enter a group teach its second model, and in all groups of a level as many as have
# so many characters: where rows are few they are worth it.
MOST_OTHERS = 2_000
OTHERS_IN_LEVEL = 20_000_000


def nearest(own: BoolArray, entered: IntArray, path: FloatArray, least: int, most: int) -> IntArray:
    """Of the rows that enter a group by mistake those of the highest path, ascending.

    They are one for each row of its own.

    Parameters
    ----------
    own
        bool, shape (n_texts,): the rows that truly belong to the group.
    entered
        The rows at which it was entered out of fold.
    path
        float32, shape (n_entered,): its path probability there.
    least, most
        So many are learned from in any case, and no more.
    """
    by_mistake = ~own[entered]
    order = np.argsort(-path[by_mistake], kind="stable")[: min(max(int(own.sum()), least), most)]
    return np.sort(entered[by_mistake][order])


def matched(rows: IntArray, own: BoolArray, near: IntArray, most_others: int, seed: int) -> IntArray:
    """Of the `rows` that could teach a group those that reach it, truly or by mistake, and some others.

    What a router brings is what a group has to tell apart (the matcher-aware negatives of Yu et al., "PECOS:
    Prediction for Enormous and Correlated Output Spaces", JMLR 23, 2022); of the rest a sample shows what
    there is. With few groups that is all of it.

    Parameters
    ----------
    own
        bool, shape (n_texts,): the rows that truly belong to the group.
    near
        Others that reach it, see `nearest`.
    most_others
        How many there may be of neither kind.
    """
    chosen = own.copy()
    chosen[near] = True
    inside, others = rows[chosen[rows]], rows[~chosen[rows]]
    return np.sort(np.concatenate([inside, sampled(others, most_others, seed)]))


def most_others(texts: Texts, groups: int) -> int:
    """How many rows that do not enter it may teach the second model of each of so many groups of a level."""
    return min(MOST_OTHERS, rows_of(texts, OTHERS_IN_LEVEL) // max(groups, 1))


def rows_of(texts: Texts, characters: int) -> int:
    """How many rows have so many characters, on average."""
    return int(characters / max(float(texts.lengths().mean()), 1))


def price_of(texts: Texts, others: IntArray) -> float:
    """The F1 that a second model has to bring for learning from these rows as well."""
    return float(texts.lengths()[others].sum()) * F1_FOR_A_MILLION / 1e6


Trial = tuple[str, Mapping[str, Any], NodeProblem, FloatArray, float]
"""Kind and options of a backend, and what `settle` asks for besides."""


@dataclass(frozen=True)
class Trials:
    """Which rows of other groups those of a data set learn from, as far as trials have to tell.

    Attributes
    ----------
    dataset
        The rows.
    seed
        Fixes which of them are tried.
    hosted, trained
        Groups whose models are too dear for a trial: at a service each row costs money; of a trunk a second
        head costs nothing, so that there are two where nobody says otherwise.
    """

    dataset: Dataset
    seed: int
    hosted: frozenset[str]
    trained: frozenset[str] = frozenset()

    def is_open(self, group: str) -> bool:
        """Whether the policy of a group is for a trial to settle."""
        if self._said(group) != "auto" or group in self.hosted | self.trained:
            return False
        # Rows that reach the group have to differ in their children, so that there is something to learn.
        return varies(self.dataset.targets(group)[self.dataset.rows(group, "siblings")])

    def tried(self, groups: Sequence[str], settled: Mapping[str, str]) -> list[str]:
        """Which groups of a level to try next, of all sizes; none where what was `settled` tells enough."""
        if not settled:
            return self._spread(groups, FIRST_TRIALS)
        share = list(settled.values()).count("both") / len(settled)
        if max(share, 1 - share) >= AGREED:
            return []
        return [group for group in self._spread(groups, MOST_TRIALS) if group not in settled]

    def _spread(self, groups: Sequence[str], most: int) -> list[str]:
        """At most so many of the groups, from the largest to the smallest."""
        if not groups:
            return []
        by_size = sorted(groups, key=lambda group: -len(self.dataset.rows(group, "siblings")))
        return [by_size[at] for at in np.unique(np.linspace(0, len(groups) - 1, most).astype(int)).tolist()]

    def trial(self, group: str, entered: IntArray, path: FloatArray) -> Trial:
        """A trial on rows that reach the group truly and by mistake; `path` has its probability at each."""
        own = self.dataset.reaching(group)
        taught = self.dataset.taught(group)[entered]
        known, path = entered[taught], path[taught]
        most = min(MOST_ROWS, rows_of(self.dataset.texts, MOST_CHARACTERS))
        chosen = [sampled(np.flatnonzero(own[known] == side), most, self.seed) for side in (True, False)]
        places = np.sort(np.concatenate(chosen))
        spec = self.dataset.taxonomy.groups[group].backend
        problem = self.dataset.problem(group, known[places], self.seed)
        price = price_of(self.dataset.texts, self.nearest(group, known, path))
        return spec.kind, dict(spec.options), problem, path[places], price

    def nearest(self, group: str, entered: IntArray, path: FloatArray) -> IntArray:
        """The rows that enter the group by mistake and teach its second model, see `nearest`."""
        least, most = (rows_of(self.dataset.texts, each) for each in (LEAST_NEAREST, MOST_NEAREST))
        return nearest(self.dataset.reaching(group), entered, path, least, most)

    def policies(
        self, groups: Sequence[str], open_ones: Sequence[str], settled: Mapping[str, str]
    ) -> dict[str, str]:
        """The policy of each of the `groups` of a level, some of whose `open_ones` trials have `settled`."""
        # The others do what most of those did that were tried; twice the room and time want a clear majority.
        common = "both" if list(settled.values()).count("both") > CLEAR * len(settled) else "siblings"
        found = {group: self._said(group) for group in groups}
        found |= {group: settled.get(group, common) for group in open_ones}
        automatic = {group: "both" if group in self.trained else "siblings" for group in groups}
        return {group: automatic[group] if one == "auto" else one for group, one in found.items()}

    def _said(self, group: str) -> str:
        return "siblings" if group == ROOT else self.dataset.taxonomy.groups[group].negatives


def settled_policy(
    kind: str, options: Mapping[str, Any], problem: NodeProblem, path: FloatArray, price: float
) -> str:
    """What a trial comes to; a backend too dear for one keeps to ``siblings``."""
    backend = make_backend(kind, options)
    return settle(backend, problem, path, price) if isinstance(backend, TrialBackend) else "siblings"


def policy_of(group: str, *trial: Any) -> tuple[str, str]:
    """The group, and what its trial comes to."""
    return group, settled_policy(*trial)


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
        By how much two have to be better, 0 or above.
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
