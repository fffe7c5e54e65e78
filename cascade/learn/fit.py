"""Fit: from labelled rows to a whole model folder. It connects stages and decides nothing of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

from cascade import __version__
from cascade.backends import KINDS, make_backend
from cascade.errors import BackendError, DataError, ModelError
from cascade.hosted.fine_tuner import FineTuner
from cascade.hosted.prices import NodePlan, Prices, flat_plan, node_plan
from cascade.learn.datasets import Dataset
from cascade.learn.negatives import MOST_ROWS, price_of, settle
from cascade.learn.thresholds import Curve, auto_thresholds, f1, promised_threshold, route_threshold
from cascade.model.decide import contenders, decide
from cascade.model.folder import (
    NODES,
    GroupRecord,
    Manifest,
    locked,
    node_files,
    whole_node,
    write_manifest,
    write_node,
)
from cascade.model.walk import modelled, walk
from cascade.nodes.contract import FittedNode, HostedBackend, NodeModel, NodeProblem, TrialBackend, sampled
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.arrays import read_array, write_array
from cascade.system.engine import LOCAL, Workers, connected, has_own_backend
from cascade.taxonomy.definition import Taxonomy, Threshold
from cascade.taxonomy.graph import ROOT
from cascade.text.texts import Texts
from cascade.validation.calibration import Calibration, conditional, fit_calibration
from cascade.validation.folds import heaps_of, stratified_folds

HELD_OUT_ROWS = "held_out_rows.npy"
HELD_OUT_SCORES = "held_out_scores.npy"
MOST_SUSPICIOUS = 100
# A label of a training row is suspicious beyond these out-of-fold path probabilities.
HARDLY, SURELY = 0.02, 0.9
# What is dear to fit is judged on one fold of so many.
TENTHS = 10
# With so many groups for each thread, none of them idles for long at the end.
FEW = 3


@dataclass(frozen=True)
class Event:
    """A step of `fit`: ``settled`` a policy, ``reused`` or ``fitted`` a group, ``decided`` thresholds.

    `done` of `total` groups are in the model by now.
    """

    kind: str
    group: str
    detail: str
    done: int
    total: int


Report = Callable[[Event], None]


def silent(event: Event) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Planned:
    """What `fit` would train at one group.

    Attributes
    ----------
    cost_usd
        0 for embedded models and for those that were tuned elsewhere; None where prices are not known.
    hosted
        What the fine-tune would take; None for embedded models.
    """

    group: str
    backend: str
    rows: int
    children: tuple[str, ...]
    positives: tuple[int, ...]
    negatives: str
    cost_usd: float | None = 0.0
    hosted: NodePlan | None = None


@dataclass(frozen=True)
class Plan:
    """What `fit` would train, without training it.

    Attributes
    ----------
    groups
        Those that have a node model.
    questions
        For each of `groups`, of how many texts in one it would be asked, if routing were perfect.
    flat
        One fine-tune that answers with all labels at once, of the first hosted group's base model, to compare
        with; None where no group is hosted.
    prices_of
        The day of the prices.
    """

    groups: tuple[Planned, ...]
    questions: tuple[float, ...]
    flat: NodePlan | None
    prices_of: date

    def cost_usd(self) -> float | None:
        """Of all fine-tunes; None where the price of one is not known."""
        return _sum(one.cost_usd for one in self.groups)

    def thousand_usd(self) -> float | None:
        """Of 1,000 texts through all hosted groups that they truly belong to; None where not known."""
        hosted = [(one.hosted, share) for one, share in zip(self.groups, self.questions, strict=True)]
        return _sum(
            None if plan.thousand_usd is None else plan.thousand_usd * share
            for plan, share in hosted
            if plan is not None
        )


def _sum(amounts: Iterable[float | None]) -> float | None:
    found = list(amounts)
    known = [amount for amount in found if amount is not None]
    return sum(known) if len(known) == len(found) else None


def plan(
    taxonomy: Taxonomy,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    seed: int = 0,
    tuned: Callable[[str], str] = lambda _: "",
) -> Plan:
    """What `fit` would train, group by group; nothing is sent.

    Parameters
    ----------
    tuned
        The model that an order with this key has made already, or an empty string: see `tuned_models`.
    """
    _check_lengths(texts, labels)
    dataset, prices = Dataset.make(taxonomy, texts, labels), Prices.load()
    hosted = hosted_groups(dataset)
    unseen = held_out_rows(dataset, seed) if hosted else np.zeros(len(texts), dtype=bool)
    groups = trained_groups(taxonomy)
    plans = {
        name: _hosted_plan(dataset, name, one, prices, unseen, seed, tuned) for name, one in hosted.items()
    }
    first = next(iter(hosted.values()), None)
    return Plan(
        groups=tuple(_planned(dataset, group, plans.get(group)) for group in groups),
        questions=tuple(float(dataset.reaching(group).mean()) if texts else 0.0 for group in groups),
        flat=None if first is None else _flat(dataset, first, prices, seed),
        prices_of=prices.as_of,
    )


def _hosted_plan(
    dataset: Dataset,
    group: str,
    backend: HostedBackend,
    prices: Prices,
    unseen: BoolArray,
    seed: int,
    tuned: Callable[[str], str],
) -> NodePlan:
    rows = dataset.rows(group, "all")
    problem = dataset.problem(group, rows, seed)
    codec, settings = backend.codec(problem), backend.settings
    try:
        already = tuned(backend.order(group, problem, unseen[rows]).key)
    except BackendError:
        already = ""  # it cannot be ordered, and the plan tells why
    return node_plan(group, problem, codec, settings, prices, already, unseen[rows])


def _flat(dataset: Dataset, backend: HostedBackend, prices: Prices, seed: int) -> NodePlan:
    graph = dataset.taxonomy.graph
    truth = dataset.truth[:, [graph.column[label] for label in graph.labels]]
    return flat_plan(list(dataset.texts), truth, graph.labels, backend.settings, prices, seed)


def _check_lengths(texts: Sequence[str], labels: Sequence[Sequence[str]]) -> None:
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts and {len(labels)} lists of labels: expected as many of both.")


def _planned(dataset: Dataset, group: str, hosted: NodePlan | None) -> Planned:
    rows = dataset.rows(group, "siblings")
    targets = dataset.targets(group)[rows]
    settings = dataset.taxonomy.groups[group]
    return Planned(
        group=group,
        backend=settings.backend.kind if varies(targets) else "constant",
        rows=len(rows),
        children=modelled(dataset.taxonomy, group),
        positives=tuple(int(count) for count in targets.sum(axis=0)),
        negatives="siblings" if group == ROOT else settings.negatives,
        cost_usd=0.0 if hosted is None else hosted.training_usd,
        hosted=hosted,
    )


def trained_groups(taxonomy: Taxonomy) -> list[str]:
    """The groups that have a node model."""
    return [group for group in taxonomy.graph.groups if modelled(taxonomy, group)]


def hosted_groups(dataset: Dataset) -> dict[str, HostedBackend]:
    """The backend of each group whose model a service makes and keeps."""
    found: dict[str, HostedBackend] = {}
    for group in trained_groups(dataset.taxonomy):
        spec = dataset.taxonomy.groups[group].backend
        backend = make_backend(spec.kind, spec.options)
        own = dataset.rows(group, "siblings")
        if isinstance(backend, HostedBackend) and varies(dataset.targets(group)[own]):
            found[group] = backend
    return found


def held_out_rows(dataset: Dataset, seed: int) -> BoolArray:
    """A tenth of the rows, bool, shape (n_texts,): the same for all hosted groups, and seen by none of them.

    Every name is spread evenly, and texts that are nearly equal stand on one side.
    """
    fold_of = stratified_folds(dataset.truth, heaps_of(dataset.texts), TENTHS, seed)
    return np.asarray(fold_of == 0)


def varies(targets: BoolArray) -> bool:
    return bool((targets.any(axis=0) & ~targets.all(axis=0)).any())


def fit(
    taxonomy: Taxonomy,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    out: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    engine: str | None = None,
    report: Report = silent,
    fine_tuner: FineTuner | None = None,
) -> Manifest:
    """Train every group and write the model folder `out`; what did not change since the last fit is reused.

    Parameters
    ----------
    taxonomy
        What to train.
    texts
        n_texts strings.
    labels
        For each text the names (labels or groups of the taxonomy) that it carries.
    out
        The model folder; an older model in it stays whole until the new one takes its place.
    seed
        The same seed and data give the same bytes.
    jobs
        How many threads.
    engine
        A cluster whose workers fit the groups and, block by block of its children, the router: one of
        `cascade.system.engine.ADDRESSES`. Without it, a ``joblib.parallel_config`` around the call is obeyed.
        `out` then has to be on storage that all of them share.
    report
        Told of every step.
    fine_tuner
        Where hosted models are ordered; by default at their services, whatever they cost.

    Raises
    ------
    DataError
        Texts and labels are not of one length, there are no rows, or none with a label.
    ModelError
        Another fit is writing to `out`.
    CascadeError
        The cluster cannot be reached, or does not see `out`.
    """
    _check_lengths(texts, labels)
    if not any(labels):
        raise DataError(f"{len(texts)} rows, none with a label: nothing to learn. Check the labels column.")
    with locked(out), _cluster(engine, jobs) as workers:
        dataset = Dataset.make(taxonomy, texts, labels)
        return _Fit(dataset, out, seed, jobs, workers, report, fine_tuner or FineTuner()).run()


@contextmanager
def _cluster(engine: str | None, jobs: int) -> Iterator[Workers | None]:
    """The workers of other machines, None where there are none: threads are enough for this one."""
    if engine == LOCAL or (engine is None and not has_own_backend()):
        yield None
        return
    with connected(engine, jobs) as workers:
        yield workers


@dataclass(frozen=True)
class _Fitted:
    """One group after its fit: the rows of its problem, their held-out scores by row, and the final model."""

    record: GroupRecord
    calibration: Calibration
    position: IntArray  # of each row of the data set in `held_out`, -1 where it has no such scores
    held_out: FloatArray
    model: NodeModel


@dataclass(frozen=True)
class _Task:
    """What a worker needs to make one node folder."""

    group: str
    kind: str
    options: Mapping[str, Any]
    problem: NodeProblem
    rows: IntArray
    negatives: str
    key: str
    model: str = ""  # the tuned one, of a hosted group
    judged: IntArray | None = None  # the rows that it did not see


class _Fit:
    """One run: the out-of-fold walk fits each level of groups just before it scores it."""

    def __init__(
        self,
        dataset: Dataset,
        out: Path,
        seed: int,
        jobs: int,
        workers: Workers | None,
        report: Report,
        fine_tuner: FineTuner,
    ) -> None:
        self.dataset, self.taxonomy, self.out = dataset, dataset.taxonomy, out.resolve()
        self.seed, self.jobs, self.workers, self.report, self.fine_tuner = (
            seed,
            jobs,
            workers,
            report,
            fine_tuner,
        )
        self.total = len(trained_groups(self.taxonomy))
        self.hosted = hosted_groups(dataset)
        self.held_out = held_out_rows(dataset, seed) if self.hosted else None
        # Rows that no model knows when it scores them: folds make that of all, where no model is dear.
        self.judged = (
            np.arange(len(dataset.texts)) if self.held_out is None else np.flatnonzero(self.held_out)
        )
        self.tuned: Mapping[str, str] = {}
        self.fitted: dict[str, _Fitted] = {}
        self.routes: dict[str, float] = {}
        self.paths: dict[str, FloatArray] = {}

    def run(self) -> Manifest:
        for kind, options in {
            (g.backend.kind, _written(g.backend.options)) for g in self.taxonomy.groups.values()
        }:
            make_backend(kind, json.loads(options)).prepare(self.dataset.texts, self.jobs)
        self.tuned = self.fine_tuner.models(self.out, self.orders())
        walked = walk(self.taxonomy, len(self.judged), self.score, self.enter)
        self.fit_groups([group for group in trained_groups(self.taxonomy) if group not in self.fitted])
        manifest = self.settled(walked.paths)
        write_manifest(self.out, manifest)
        return manifest

    def enter(self, group: str, path: FloatArray) -> BoolArray:
        """Set the route threshold of a group from the scores of its true rows, and let in what reaches it."""
        # A group without a model of its own has no place in the manifest for a threshold.
        free = self.taxonomy.groups[group].route == "always" or not modelled(self.taxonomy, group)
        reaching = self.dataset.reaching(group)[self.judged]
        self.routes[group] = 0.0 if free else route_threshold(path, reaching)
        self.paths[group] = np.full(len(self.dataset.texts), np.nan, dtype=np.float32)
        self.paths[group][self.judged] = path
        return path >= np.float32(self.routes[group])

    def score(self, asked: Mapping[str, IntArray]) -> Mapping[str, FloatArray]:
        """Fit the groups of a level, then score the rows that reach them: no row by a model that saw it."""
        asked = {group: self.judged[rows] for group, rows in asked.items()}
        self.fit_groups([group for group in asked if group not in self.fitted], asked)
        # Threads that wait for a service cost nothing.
        spread = Parallel(len(asked) if self.hosted else self.jobs, backend="threading")
        return dict(spread(delayed(self.honest)(group, rows) for group, rows in asked.items()))

    def honest(self, group: str, rows: IntArray) -> tuple[str, FloatArray]:
        """The group, and calibrated scores: held-out ones of training rows, the final model's of others."""
        fitted = self.fitted[group]
        place = fitted.position[rows]
        scores = np.empty((len(rows), fitted.held_out.shape[1]), dtype=np.float32)
        scores[place >= 0] = fitted.held_out[place[place >= 0]]
        if (place < 0).any():
            scores[place < 0] = fitted.model.scores(self.dataset.texts.take(rows[place < 0]))
        path = self.paths[group][rows] if group in self.paths else np.ones(len(rows), dtype=np.float32)
        return group, conditional(fitted.calibration.apply(scores), fitted.record.negatives, path)

    def fit_groups(self, groups: Sequence[str], asked: Mapping[str, IntArray] | None = None) -> None:
        """Settle the negatives of these groups, then fit or reuse each."""
        policies = self.settle_negatives(groups, asked or {})
        tasks = [self.task(group, policies[group]) for group in groups]
        notes = {task.key: whole_node(self.out, task.key) for task in tasks}
        waiting = {task.key: task for task in tasks if notes[task.key] is None}
        for task in tasks:
            if notes[task.key] is not None:
                self.arrive(task, notes[task.key] or {}, "reused")
        # The largest first, so that no thread is left alone with one at the end.
        order = sorted(waiting.values(), key=lambda task: -task.problem.targets.size)
        self.ask_ahead([task for task in order if task.model], asked or {})
        here = [(self.out, task) for task in order if not task.model]
        there = [(self.out, task) for task in order if task.model]
        asking = Parallel(max(len(there), 1), backend="threading", return_as="generator_unordered")
        for group in chain(self.parallel(_fit_node, here), asking(delayed(_fit_node)(*one) for one in there)):
            task = next(task for task in tasks if task.group == group)
            self.arrive(task, whole_node(self.out, task.key) or {}, "fitted")
        for task in tasks:
            if task.group not in self.fitted:  # the same problem as another group's
                self.arrive(task, whole_node(self.out, task.key) or {}, "reused")

    def ask_ahead(self, tasks: Sequence[_Task], asked: Mapping[str, IntArray]) -> None:
        """Have all questions of a level asked together that go in batches.

        A batch takes hours, however small it is. Who asks the same again finds the answers.
        """
        views = {}
        for task in tasks:
            backend = make_backend(task.kind, task.options)
            if isinstance(backend, HostedBackend) and backend.waits and task.judged is not None:
                rows = np.union1d(task.rows[task.judged], asked.get(task.group, task.rows[:0]))
                views[task.group] = (backend.node(task.problem, task.model), self.dataset.texts.take(rows))
        if views:
            from cascade.hosted.backend import scores_together

            scores_together(views)

    def settle_negatives(self, groups: Sequence[str], asked: Mapping[str, IntArray]) -> dict[str, str]:
        """The policy of each group, by a trial where it is ``auto``."""
        policies = {
            group: "siblings" if group == ROOT else self.taxonomy.groups[group].negatives for group in groups
        }
        open_ones = [
            group
            for group, policy in policies.items()
            if policy == "auto" and group in asked and group not in self.hosted
        ]
        trials = [self.trial(group, asked[group]) for group in open_ones if self.varies(group)]
        for group, policy in self.parallel(_settle, trials):
            policies[group] = policy
            self.tell("settled", group, f"negatives {policy}")
        return {group: "siblings" if policy == "auto" else policy for group, policy in policies.items()}

    def varies(self, group: str) -> bool:
        """Whether rows that reach the group differ in their children, so that there is something to learn."""
        return varies(self.dataset.targets(group)[self.dataset.rows(group, "siblings")])

    def trial(self, group: str, entered: IntArray) -> tuple[Any, ...]:
        """What `_settle` needs to know: rows that reach the group truly and by mistake, and their paths."""
        own = self.dataset.reaching(group)
        known = entered[self.dataset.taught(group)[entered]]
        chosen = [sampled(known[own[known] == side], MOST_ROWS, self.seed) for side in (True, False)]
        rows = np.sort(np.concatenate(chosen))
        spec = self.taxonomy.groups[group].backend
        problem = self.dataset.problem(group, rows, self.seed)
        price = price_of(self.dataset.texts, np.flatnonzero(self.dataset.taught(group) & ~own))
        return group, spec.kind, dict(spec.options), problem, self.paths[group][rows], price

    def task(self, group: str, negatives: str) -> _Task:
        spec = self.taxonomy.groups[group].backend
        rows = self.dataset.rows(group, "all" if group in self.hosted else negatives)
        problem = self.dataset.problem(group, rows, self.seed)
        constant = not varies(problem.targets[problem.own])
        kind, options = ("constant", {}) if constant else (spec.kind, dict(spec.options))
        key = _key(kind, options, problem, self.tuned.get(group, ""))
        judged = np.flatnonzero(self.held_out[rows] & problem.own) if self.held_out is not None else None
        return _Task(group, kind, options, problem, rows, negatives, key, self.tuned.get(group, ""), judged)

    def orders(self) -> Iterator[tuple[str, HostedBackend, NodeProblem, BoolArray]]:
        """What services have to make: the group, its backend, its problem, and the rows not to be seen."""
        for group, backend in self.hosted.items():
            rows = self.dataset.rows(group, "all")
            problem = self.dataset.problem(group, rows, self.seed)
            unseen = np.zeros(len(rows), dtype=bool) if self.held_out is None else self.held_out[rows]
            yield group, backend, problem, unseen

    def parallel(self, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        """The answers of `work`, as they come, from the cluster or from as many threads as there are jobs.

        Few pieces, such as the router's, are done one after another, each with all threads for itself.
        """
        if self.workers is not None:
            alone = len(arguments) == 1  # then its parts are what the workers share
            yield from [work(*arguments[0])] if alone else self.workers.run(work, arguments)
            return
        if len(arguments) < FEW * self.jobs:
            with parallel_config(backend="threading", n_jobs=self.jobs):
                answers = [work(*one) for one in arguments]
            yield from answers
            return
        spread = Parallel(self.jobs, backend="threading", return_as="generator_unordered")
        yield from spread(delayed(work)(*one) for one in arguments)

    def arrive(self, task: _Task, notes: Mapping[str, Any], how: str) -> None:
        """Take a node folder into the model."""
        folder = self.out / NODES / task.key
        rows = np.asarray(read_array(folder / HELD_OUT_ROWS, np.int64, (None,)))
        scores = np.asarray(
            read_array(folder / HELD_OUT_SCORES, np.float32, (len(rows), len(task.problem.children)))
        )
        own, targets = task.problem.own[rows] | (task.negatives == "all"), task.problem.targets[rows]
        constant = task.kind == "constant"
        calibration = (
            Calibration.identity(targets.shape[1]) if constant else fit_calibration(scores[own], targets[own])
        )
        position = np.full(len(self.dataset.texts), -1, dtype=np.int64)
        position[task.rows[rows]] = np.arange(len(rows))
        record = self.record(task, notes, calibration)
        model = make_backend(task.kind, task.options).load(folder)
        self.fitted[task.group] = _Fitted(record, calibration, position, scores, model)
        self.tell(how, task.group, _summary(record))

    def record(self, task: _Task, notes: Mapping[str, Any], calibration: Calibration) -> GroupRecord:
        positives = (task.problem.targets & task.problem.own[:, None]).sum(axis=0)
        return GroupRecord(
            backend={"kind": task.kind, **task.options},
            node=task.key,
            files=node_files(self.out, task.key),
            negatives=task.negatives,
            slopes=tuple(calibration.slopes.tolist()),
            offsets=tuple(calibration.offsets.tolist()),
            route_threshold=self.routes.get(task.group, 0.0),
            rows=int(task.problem.own.sum()),
            positives=tuple(positives.tolist()),
            notes=notes,
        )

    def tell(self, kind: str, group: str, detail: str) -> None:
        self.report(Event(kind, group, detail, len(self.fitted), self.total))

    def settled(self, paths: FloatArray) -> Manifest:
        """Thresholds, figures and suspicious labels, all from the out-of-fold paths."""
        known = self.dataset.known[self.judged]
        believed = paths if known.all() else np.where(known, paths, np.float32(np.nan))
        left = contenders(self.taxonomy, believed)
        truth = self.dataset.truth[self.judged] & known
        thresholds = self.thresholds(left, truth)
        labels = [self.taxonomy.graph.column[label] for label in self.taxonomy.graph.labels]
        chosen = decide(self.taxonomy, thresholds, left)[:, labels]
        metrics = _metrics(self.taxonomy.graph.labels, truth[:, labels], chosen)
        self.tell(
            "decided",
            ROOT,
            f"out-of-fold micro F1 {metrics['micro_f1']:.3f}, macro F1 {metrics['macro_f1']:.3f}",
        )
        return Manifest(
            taxonomy=self.taxonomy.to_dict(),
            nodes=self.taxonomy.graph.nodes,
            groups={
                group: replace(self.fitted[group].record, route_threshold=self.route(group, thresholds))
                for group in trained_groups(self.taxonomy)
            },
            thresholds=thresholds,
            metrics=metrics,
            # A sibling that `choose: one` preferred says nothing against a label that was given.
            suspicious=_suspicious(
                self.taxonomy.graph.labels, self.judged, truth[:, labels], believed[:, labels]
            ),
            seed=self.seed,
            versions=_versions(),
        )

    def route(self, group: str, thresholds: Mapping[str, float]) -> float:
        """From which path probability on a group is asked.

        A child is never above its parent: below the least threshold of what a group leads to, asking it
        changes no answer. Where a question costs money it is saved.
        """
        route = self.routes.get(group, 0.0)
        if group not in self.hosted or not route or self.taxonomy.combine == "noisy_or":
            return route
        below = [name for name in thresholds if group in self.taxonomy.graph.ancestors(name)]
        return max(route, min(thresholds[name] for name in below)) if below else route

    def thresholds(self, paths: FloatArray, truth: BoolArray) -> dict[str, float]:
        """The threshold of every label, and of every group that may be answered with."""
        graph = self.taxonomy.graph
        backing = [group for group in graph.groups if group != ROOT and self.taxonomy.groups[group].back_off]
        wanted = {label: self.taxonomy.threshold_of(label) for label in graph.labels}
        wanted |= {group: self.taxonomy.groups[group].threshold for group in backing}
        found: dict[str, float] = {}
        for names in (list(graph.labels), backing):
            columns = [graph.column[name] for name in names]
            auto = auto_thresholds(
                paths[:, columns], truth[:, columns], heaps_of(self.dataset.texts)[self.judged], self.seed
            )
            for name, column, threshold in zip(names, columns, auto.tolist(), strict=True):
                found[name] = _threshold(wanted[name], threshold, paths[:, column], truth[:, column])
        return found


def _threshold(wanted: Threshold, auto: float, path: FloatArray, truth: BoolArray) -> float:
    if wanted.kind == "auto":
        return auto
    if wanted.kind == "value" and wanted.value is not None:
        return wanted.value
    return promised_threshold(Curve.of(path, truth), wanted)


def _settle(
    group: str, kind: str, options: Mapping[str, Any], problem: NodeProblem, path: FloatArray, price: float
) -> tuple[str, str]:
    """The group and its policy; a backend too dear for a trial keeps to ``siblings``."""
    backend = make_backend(kind, options)
    if not isinstance(backend, TrialBackend):
        return group, "siblings"
    return group, settle(backend, problem, path, price)


def _fit_node(out: Path, task: _Task) -> str:
    """Make one node folder; the name of its group."""
    if not out.is_dir():
        raise ModelError(
            f"{out}: the worker on {gethostname()} does not see this folder. Put the model on storage that "
            "all machines share, under one path"
        )

    def write(folder: Path) -> Mapping[str, Any]:
        fitted = _fitted(task, folder)
        fitted.model.save(folder)
        write_array(folder / HELD_OUT_ROWS, fitted.rows)
        write_array(folder / HELD_OUT_SCORES, fitted.scores)
        return fitted.notes

    write_node(out, task.key, write)
    return task.group


def _fitted(task: _Task, folder: Path) -> FittedNode:
    backend = make_backend(task.kind, task.options)
    if isinstance(backend, HostedBackend) and task.judged is not None:
        return backend.adopt(task.problem, task.model, task.judged)
    return backend.fit(task.problem, folder)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _key(kind: str, options: Mapping[str, Any], problem: NodeProblem, model: str) -> str:
    """The hash of all that makes a node: rows, targets, children, backend, model, parameters, versions."""
    made_of = hashlib.sha256()
    made_by = [kind, KINDS[kind].version, options, problem.seed, _versions()]
    settings = [made_by, list(problem.children), len(problem.texts)]
    if model:
        settings += [model, asdict(problem.meaning)]
    made_of.update(_written(settings).encode("utf-8"))
    made_of.update(_digests(problem.texts).tobytes())
    made_of.update(np.unique(heaps_of(problem.texts), return_inverse=True)[1].tobytes())
    made_of.update(np.packbits(problem.targets).tobytes())
    made_of.update(np.packbits(problem.own).tobytes())
    return made_of.hexdigest()


def _digests(texts: Texts) -> NDArray[np.bytes_]:
    """A hash of each text, computed once for all groups."""

    def compute(whole: Sequence[str]) -> NDArray[np.bytes_]:
        raw = (text.encode("utf-8", "surrogatepass") for text in whole)
        return np.array([hashlib.blake2b(one, digest_size=16).digest() for one in raw], dtype="V16")

    digests: NDArray[np.bytes_] = texts.features("digests", compute)
    return digests


def _versions() -> dict[str, str]:
    return {"cascade": __version__} | {name: version(name) for name in ("numpy", "numba")}


def _summary(record: GroupRecord) -> str:
    settled = "".join(f", {name} = {_shown(value)}" for name, value in record.notes.items())
    return (
        f"{record.rows} rows, {len(record.positives)} children, {record.backend['kind']}, "
        f"negatives {record.negatives}{settled}"
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metrics(labels: Sequence[str], truth: BoolArray, chosen: BoolArray) -> dict[str, Any]:
    """Figures of out-of-fold decisions; the thresholds come from the same rows, which flatters a little."""
    hits, picked, positives = (truth & chosen).sum(axis=0), chosen.sum(axis=0), truth.sum(axis=0)
    each = [float(f1(int(h), int(c), int(p))) for h, c, p in zip(hits, picked, positives, strict=True)]
    occurring = [value for value, count in zip(each, positives, strict=True) if count]
    return {
        "rows": len(truth),
        "micro_f1": float(f1(int(hits.sum()), int(picked.sum()), int(positives.sum()))),
        "macro_f1": float(np.mean(occurring)) if occurring else 0.0,
        "f1": dict(zip(labels, each, strict=True)),
        "positives": dict(zip(labels, positives.tolist(), strict=True)),
    }


def _suspicious(
    labels: Sequence[str], judged: IntArray, truth: BoolArray, paths: FloatArray
) -> tuple[dict[str, Any], ...]:
    """The labels that out-of-fold probabilities contradict most; rows count from 1."""
    # What was not visited, NaN, is neither above the one nor at the other.
    rows, columns = np.nonzero(np.where(truth, ~(paths > HARDLY), paths >= SURELY))
    given, chance = truth[rows, columns], np.nan_to_num(paths[rows, columns])
    doubt = np.where(given, 1 - chance, chance)
    worst = np.lexsort((columns, rows, -doubt))[:MOST_SUSPICIOUS]
    return tuple(
        {
            "row": int(judged[rows[at]]) + 1,
            "label": labels[columns[at]],
            "given": bool(given[at]),
            "probability": round(float(chance[at]), 6),
        }
        for at in worst
    )
