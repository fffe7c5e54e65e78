"""Fit: from labelled rows to a whole model folder. It connects stages and decides nothing of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config

from cascade.backends import faults_of, make_backend, next_tier, own_tier
from cascade.errors import DataError
from cascade.hosted.fine_tuner import FineTuner
from cascade.learn.asking import ask_ahead, rows_to_ask, usd_left
from cascade.learn.combining import exclusive_contests, learned_combination
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import believed_walk, decide_thresholds, known_truth
from cascade.learn.events import Event, Report, as_first_look, settled, silent, summary
from cascade.learn.evidence import least_known
from cascade.learn.first_look import first_look, may_pay, told_of_look
from cascade.learn.groups import enough_rows, held_out_rows, service_groups, trained_groups, varies
from cascade.learn.negatives import Trials, matched, most_others, policy_of
from cascade.learn.node_fit import (
    NodeTask,
    canonical,
    fit_node,
    made_by,
    node_key,
    read_held_out,
    scored,
    versions,
)
from cascade.learn.plan import check_lengths
from cascade.learn.promises import promise_lines
from cascade.learn.thresholds import WORTH_ASKING, route_threshold
from cascade.learn.trunks import Heads, copied_encoders, held_out_of, scored_rows, trunk_groups
from cascade.learn.verifying import settle_verification, told_of_verification
from cascade.model.combine import Combiner
from cascade.model.folder import (
    ENCODERS,
    NODES,
    FirstLook,
    GroupRecord,
    Manifest,
    SecondModel,
    locked,
    node_files,
    whole_node,
    write_manifest,
)
from cascade.model.verification import Verification
from cascade.model.walk import Walked, walk
from cascade.nodes.contract import NodeModel, NodeProblem, PromptedBackend, ServiceBackend
from cascade.rows.readings import Reading
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.engine import LOCAL, Workers, connected, has_own_backend
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.trunk.trainer import Trainer
from cascade.validation.calibration import Calibration, conditional, fit_calibration
from cascade.validation.combination import Combination

# With so many groups for each thread, none of them idles for long at the end.
FEW = 3


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
    trainer: Trainer | None = None,
    readings: Sequence[Reading] = (),
    self_contained: bool = False,
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
    trainer
        How fine-tunes of one's own are trained.
    readings
        How the rows were read, to be kept with the model.
    self_contained
        Whether the model folder gets a copy of each encoder, so that it answers where there is none.

    Raises
    ------
    DataError
        Texts and labels are not of one length, there are no rows, none with a label, or no such looks.
    ModelError
        Another fit is writing to `out`.
    CascadeError
        The cluster cannot be reached, or does not see `out`.
    """
    check_lengths(texts, labels)
    if faults := faults_of(taxonomy):
        raise DataError("; ".join(one.message for one in faults))
    if not any(labels):
        raise DataError(f"{len(texts)} rows, none with a label: nothing to learn. Check the labels column.")
    with locked(out), _cluster(engine, jobs) as workers:
        dataset = Dataset.make(taxonomy, texts, labels)
        services, trunks = fine_tuner or FineTuner(), trainer or Trainer()
        fitting = _Fit(dataset, out, seed, jobs, workers, report, services, trunks)
        return fitting.run(tuple(reading.to_dict() for reading in readings), self_contained=self_contained)


@dataclass(frozen=True)
class OutOfFold:
    """What came of a fit, with the scores that it was settled by.

    Attributes
    ----------
    manifest
        As in the model folder.
    rows
        int64, shape (n_rows,), ascending: positions of the rows that no model knew when it scored them.
    walked
        Their walk.
    """

    manifest: Manifest
    rows: IntArray
    walked: Walked


def fit_out_of_fold(
    dataset: Dataset, out: Path, *, seed: int = 0, jobs: int = 1, report: Report = silent
) -> OutOfFold:
    """Fit as `fit` does, on this machine, and give the out-of-fold scores as well; ModelError as there.

    There is one look only. Data sets that share their `Texts` share what was computed of these.
    """
    with locked(out):
        fitting = _Fit(dataset, out, seed, jobs, None, report, FineTuner(), Trainer())
        manifest = fitting.trained()
        write_manifest(out, manifest)
        return OutOfFold(manifest, fitting.scored, fitting.walked)


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
    """One group after its fit: the rows of its problem, their held-out scores by row, and the final model.

    That is loaded where it is asked, once or twice, and not kept: all of them together would take more room
    than what they were fitted on.
    """

    record: GroupRecord
    calibration: Calibration
    rows: IntArray  # of the data set that have held-out scores, ascending
    held_out: FloatArray
    load: Callable[[], NodeModel]


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
        trainer: Trainer,
    ) -> None:
        self.dataset, self.taxonomy, self.out = dataset, dataset.taxonomy, out.resolve()
        self.seed, self.jobs, self.workers, self.report = seed, jobs, workers, report
        self.fine_tuner, self.trainer = fine_tuner, trainer
        self.total = len(trained_groups(self.taxonomy))
        # Before anything asks for what this computes with all threads.
        self.prepare()
        self.hosted, self.trunks = service_groups(dataset), trunk_groups(dataset)
        self.held_out = self.unseen_rows()
        # Rows that no model knows when it scores them: folds make that of all, where no model is dear and no
        # part of the rows is enough.
        some = self.held_out is not None or dataset.extra is not None
        self.part = None if some else enough_rows(dataset, seed)
        unknown = self.part if dataset.extra is None else ~dataset.extra
        unknown = unknown if self.held_out is None else self.held_out
        self.scored = np.arange(len(dataset.texts)) if unknown is None else np.flatnonzero(unknown)
        self.tuned: Mapping[str, str] = {}
        self.heads = Heads()
        trained = frozenset(group for groups in self.trunks.values() for group in groups)
        self.trials = Trials(dataset, seed, frozenset(self.hosted), trained)
        self.policies: dict[str, str] = {}  # of negatives, as far as settled
        self.fitted: dict[str, _Fitted] = {}
        # The second models of groups whose negatives are ``both``: they learned from every row.
        self.seconds: dict[str, _Fitted] = {}
        self.routes: dict[str, float] = {}
        # Of each group the rows that enter it, and its path probability at each.
        self.entered: dict[str, tuple[IntArray, FloatArray]] = {}
        self.walked = Walked(self.taxonomy.graph, 0, {})

    def run(self, readings: tuple[Mapping[str, Any], ...], *, self_contained: bool = False) -> Manifest:
        manifest = self.trained()
        copied = copied_encoders(self.taxonomy, self.out) if self_contained else {}
        encoders = {**self.heads.encoders, **copied}
        trunks = tuple(self.heads.trunks)
        manifest = replace(manifest, readings=readings, encoders=encoders, trunks=trunks)
        manifest = replace(manifest, verification=self.verification(manifest))
        tier, most_lost = own_tier(self.taxonomy), self.taxonomy.first_look
        manifest = replace(manifest, first_look=self.first_look(manifest, tier, most_lost))
        write_manifest(self.out, manifest)
        return manifest

    def trained(self) -> Manifest:
        """Train every group, and settle what the out-of-fold walk says; only node folders are written."""
        self.tuned = self.fine_tuner.models(self.out, self.orders())
        if self.held_out is not None:
            self.heads = Heads.of(self.dataset, self.trunks, self.out, self.trainer, self.held_out, self.seed)
        self.fit_tasks([self.task(group, "siblings") for group in self.early()])
        self.walked = walk(
            self.taxonomy, len(self.scored), self.score, self.enter, is_marginal=self.learned_from_all
        )
        self.fit_level([group for group in trained_groups(self.taxonomy) if group not in self.policies])
        return self.settled()

    def first_look(self, manifest: Manifest, tier: str, most_lost: float | None) -> FirstLook | None:
        """A cheaper look, for the rows that it answers as well: fitted by the same stages, if that pays."""
        found, is_wanted = next_tier(self.taxonomy, tier), bool(self.taxonomy.escalate)
        if found is None or most_lost is None:
            return None
        if not is_wanted and (self.held_out is not None or not may_pay(self.taxonomy)):
            return None
        name, cheaper = found
        dataset, report = replace(self.dataset, taxonomy=cheaper), partial(as_first_look, self.report)
        services, trunks = self.fine_tuner, self.trainer
        alone = _Fit(dataset, self.out, self.seed, self.jobs, self.workers, report, services, trunks)
        first = alone.trained()
        before = alone.first_look(first, name, most_lost)
        # A dear look has scores of fewer rows, and not always of those that a cheap one has.
        rows, at, own = np.intersect1d(alone.scored, self.scored, return_indices=True)
        looks = (first, alone.walked.of(at)), (manifest, self.walked.of(own))
        look = first_look(dataset, rows, *looks, most_lost, tier=name, before=before, is_wanted=is_wanted)
        self.tell("noted", ROOT, told_of_look(look, most_lost, name))
        return look

    def unseen_rows(self) -> BoolArray | None:
        """The rows that are held out for models that are dear to fit; None where there is none."""
        if not self.hosted and not self.trunks:
            return None
        rows = rows_to_ask(self.dataset, self.hosted, self.seed, self.fine_tuner.budget_usd)
        if rows is not None and not self.trunks:
            return rows
        rows = held_out_rows(self.dataset, self.seed)
        return held_out_of(self.dataset, self.trunks, self.out, self.trainer, rows, self.seed)

    def verification(self, manifest: Manifest) -> Verification | None:
        """What asking about doubtful labels again may change, settled by asking about held-out rows."""
        if self.taxonomy.verify is None:
            return None
        left = usd_left(self.dataset, self.hosted, self.seed, self.fine_tuner.budget_usd, len(self.scored))
        found = settle_verification(self.dataset, self.scored, self.walked, manifest, budget_usd=left)
        self.tell("noted", ROOT, told_of_verification(found))
        return found

    def prepare(self) -> None:
        """Have each backend compute what all of its groups share."""
        specs = [self.taxonomy.backend_of(group) for group in self.taxonomy.groups]
        for kind, options in {(spec.kind, canonical(spec.options)) for spec in specs}:
            make_backend(kind, json.loads(options)).prepare(self.dataset.texts, self.jobs)

    def learned_from_all(self, group: str) -> bool:
        return group in self.fitted and self.fitted[group].record.negatives == "all"

    def enter(self, group: str, rows: IntArray, path: FloatArray) -> BoolArray:
        """Set the route threshold of a group from the scores of its true rows, and let in what reaches it."""
        # A group without a model of its own has no place in the manifest for a threshold.
        free = self.taxonomy.groups[group].route == "always" or not self.taxonomy.scored_children(group)
        rows = self.scored[rows]
        least = WORTH_ASKING if isinstance(self.hosted.get(group), PromptedBackend) else 0.0
        reaching = self.dataset.reaching(group)[rows]
        self.routes[group] = 0.0 if free else route_threshold(path, reaching, least)
        inside = path >= np.float32(self.routes[group])
        self.entered[group] = rows[inside], path[inside]
        return inside

    def paths_of(self, group: str, rows: IntArray) -> FloatArray:
        """Path probability of a group at rows that enter it, 1 at the root; float32, shape (n_rows,)."""
        if group not in self.entered:
            return np.ones(len(rows), dtype=np.float32)
        entered, path = self.entered[group]
        return np.asarray(path[np.searchsorted(entered, rows)])

    def score(self, asked: Mapping[str, IntArray]) -> Mapping[str, FloatArray]:
        """Fit the groups of a level, then score the rows that reach them: no row by a model that saw it."""
        asked = {group: self.scored[rows] for group, rows in asked.items()}
        self.fit_level([group for group in asked if group not in self.policies], asked)
        # Threads that wait for a service cost nothing.
        spread = Parallel(len(asked) if self.hosted else self.jobs, backend="threading")
        return dict(spread(delayed(self.held_out_scores)(group, rows) for group, rows in asked.items()))

    def held_out_scores(self, group: str, rows: IntArray) -> tuple[str, FloatArray]:
        """The group, and calibrated scores: held-out ones of training rows, the final model's of others."""
        fitted = self.fitted[group]
        path = self.paths_of(group, rows)
        return group, conditional(self.calibrated(fitted, rows), fitted.record.negatives, path)

    def calibrated(self, fitted: _Fitted, rows: IntArray) -> FloatArray:
        place = np.searchsorted(fitted.rows, rows)
        held_out = np.append(fitted.rows, -1)[place] == rows
        scores = np.empty((len(rows), fitted.held_out.shape[1]), dtype=np.float32)
        scores[held_out] = fitted.held_out[place[held_out]]
        if not held_out.all():
            scores[~held_out] = scored(fitted.load(), self.texts_of(rows[~held_out]))
        return fitted.calibration.apply(scores)

    def texts_of(self, rows: IntArray) -> Texts:
        """Those of rows that are scored: with a trunk in a batch of their own, as no other is encoded."""
        if not self.trunks:
            return self.dataset.texts.take(rows)
        return self.scored_texts.take(np.searchsorted(self.scored, rows))

    @cached_property
    def scored_texts(self) -> Texts:
        """The texts of all rows that are scored."""
        return self.dataset.texts.apart(self.scored)

    def second_scores(self) -> dict[str, FloatArray]:
        """Calibrated scores by models that learned from every row, for the blocks of the walk."""
        alone = {group: one for group, one in self.fitted.items() if one.record.negatives == "all"}
        blocks = self.walked.blocks
        found = {group: one for group, one in {**alone, **self.seconds}.items() if group in blocks}
        spread = Parallel(self.jobs, backend="threading")
        rows = (self.scored[blocks[group].rows] for group in found)
        scores = spread(delayed(self.calibrated)(*one) for one in zip(found.values(), rows, strict=True))
        return dict(zip(found, scores, strict=True))

    def early(self) -> list[str]:
        """The groups whose models learn from their own rows, whatever comes of those above them.

        All of them are fitted together, the router among them, so that no thread waits for it.
        """
        return [
            group
            for group in trained_groups(self.taxonomy)
            if group not in self.hosted and (group == ROOT or self.taxonomy.groups[group].negatives != "all")
        ]

    def fit_level(self, groups: Sequence[str], asked: Mapping[str, IntArray] | None = None) -> None:
        """Settle the negatives of these groups, then fit or reuse what they lack."""
        asked = asked or {}
        policies = self.settle_negatives(groups, asked)
        self.policies |= policies
        most = most_others(self.dataset.texts, list(policies.values()).count("both"))
        lacking = [task for group in groups for task in self.lacking(group, asked.get(group), most)]
        self.fit_tasks(lacking, asked)

    def lacking(self, group: str, entered: IntArray | None, most_others: int) -> Iterator[NodeTask]:
        """What there is to fit for a group once its negatives are settled."""
        negatives = self.policies[group]
        if group not in self.fitted:
            yield self.task(group, negatives, entered, most_others)
        elif negatives == "both" and self.fitted[group].record.backend["kind"] != "constant":
            yield replace(self.task(group, "all", entered, most_others), is_second=True)

    def fit_tasks(self, tasks: Sequence[NodeTask], asked: Mapping[str, IntArray] | None = None) -> None:
        """Fit or reuse each."""
        notes = {task.key: whole_node(self.out, task.key) for task in tasks}
        waiting = {task.key: task for task in tasks if notes[task.key] is None}
        for task in tasks:
            if notes[task.key] is not None:
                self.arrive(task, notes[task.key] or {}, "reused")
        # The largest first, so that no thread is left alone with one at the end.
        order = sorted(waiting.values(), key=lambda task: -task.problem.targets.size)
        ask_ahead([task for task in order if task.model], asked or {}, self.dataset.texts)
        here = [(self.out, task) for task in order if not task.model]
        there = [(self.out, task) for task in order if task.model]
        asking = Parallel(max(len(there), 1), backend="threading", return_as="generator_unordered")
        for key in chain(self.parallel(fit_node, here), asking(delayed(fit_node)(*one) for one in there)):
            self.arrive(waiting[key], whole_node(self.out, key) or {}, "fitted")
        for task in tasks:
            if task.group not in (self.seconds if task.is_second else self.fitted):
                # the same problem as another group's
                self.arrive(task, whole_node(self.out, task.key) or {}, "reused")

    def settle_negatives(self, groups: Sequence[str], asked: Mapping[str, IntArray]) -> dict[str, str]:
        """The policy of each group, by a trial where it is ``auto``."""
        open_ones = [group for group in groups if group in asked and self.trials.is_open(group)]
        found: dict[str, str] = {}
        while tried := self.trials.tried(open_ones, found):
            rows = ((group, asked[group], self.paths_of(group, asked[group])) for group in tried)
            found |= self.parallel(policy_of, [(one[0], *self.trials.trial(*one)) for one in rows])
        policies = self.trials.policies(groups, open_ones, found)
        for group in open_ones:
            self.tell("settled", group, f"negatives {policies[group]}")
        return policies

    def task(
        self, group: str, negatives: str, entered: IntArray | None = None, most_others: int = 0
    ) -> NodeTask:
        """What makes a model of a group under one policy."""
        spec = self.taxonomy.backend_of(group)
        rows = self.dataset.rows(group, "all" if group in self.hosted else negatives)
        if negatives == "all" and entered is not None and self.taxonomy.groups[group].negatives != "all":
            near = self.trials.nearest(group, entered, self.paths_of(group, entered))
            rows = matched(rows, self.dataset.reaching(group), near, most_others, self.seed)
        problem = self.dataset.problem(group, rows, self.seed)
        if self.part is not None:
            problem = replace(problem, part=self.part[rows])
        constant = group not in self.hosted and not varies(problem.targets[problem.own])
        kind, options = ("constant", {}) if constant else (spec.kind, dict(spec.options))
        head = None if constant else self.heads.of_task(group, negatives)
        model = self.tuned.get(group, "")
        key = node_key(kind, options, problem, made_by(self.hosted.get(group), model, head))
        held_out = None
        if self.held_out is not None:
            held_out = np.flatnonzero(
                scored_rows(problem, self.held_out[rows], negatives if head is not None else "siblings")
            )
        return NodeTask(group, kind, options, problem, rows, negatives, key, model, held_out, head=head)

    def orders(self) -> Iterator[tuple[str, ServiceBackend, NodeProblem, BoolArray]]:
        """What services have to make: the group, its backend, its problem, and the rows not to be seen."""
        for group, backend in self.hosted.items():
            rows = self.dataset.rows(group, "all")
            problem = self.dataset.problem(group, rows, self.seed)
            unseen = np.zeros(len(rows), dtype=bool) if self.held_out is None else self.held_out[rows]
            yield group, backend, problem, unseen

    def parallel(self, work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        """The answers of `work`, as they come, from the cluster or from a thread for each job.

        Few pieces, such as the router's, come one after another, with all threads for each.
        """
        if self.workers is not None:
            alone = len(arguments) == 1  # then its parts are what the workers share
            yield from [work(*arguments[0])] if alone else self.workers.run(work, arguments)
            return
        if len(arguments) < FEW * self.jobs:
            yield from (_spread(self.jobs, work, one) for one in arguments)
            return
        spread = Parallel(self.jobs, backend="threading", return_as="generator_unordered")
        yield from spread(delayed(_spread)(self.jobs, work, one) for one in arguments)

    def arrive(self, task: NodeTask, notes: Mapping[str, Any], how: str) -> None:
        """Take a node folder into the model."""
        folder = self.out / NODES / task.key
        rows, scores = read_held_out(folder, len(task.problem.children))
        own, targets = task.problem.own[rows] | (task.negatives == "all"), task.problem.targets[rows]
        constant = task.kind == "constant"
        calibration = (
            Calibration.identity(targets.shape[1]) if constant else fit_calibration(scores[own], targets[own])
        )
        record = self.record(task, notes, calibration)
        load = partial(make_backend(task.kind, task.options, self.out / ENCODERS).load, folder)
        arrived = self.seconds if task.is_second else self.fitted
        arrived[task.group] = _Fitted(record, calibration, task.rows[rows], scores, load)
        if task.is_second:
            learned = f"{how} ({len(task.rows)} rows{settled(notes)})"
            self.tell("noted", task.group, f"second model {learned}")
        else:
            self.tell(how, task.group, summary(record))

    def record(self, task: NodeTask, notes: Mapping[str, Any], calibration: Calibration) -> GroupRecord:
        counted = task.problem.counted
        positives = np.rint(counted.astype(np.float64) @ task.problem.targets).astype(np.int64)
        return GroupRecord(
            backend={"kind": task.kind, **task.options},
            node=task.key,
            files=node_files(self.out, task.key),
            negatives=task.negatives,
            slopes=tuple(calibration.slopes.tolist()),
            offsets=tuple(calibration.offsets.tolist()),
            route_threshold=self.routes.get(task.group, 0.0),
            rows=int(np.rint(counted.sum(dtype=np.float64))),
            positives=tuple(positives.tolist()),
            notes=notes,
        )

    def tell(self, kind: str, group: str, detail: str) -> None:
        self.report(Event(kind, group, detail, len(self.fitted), self.total))

    def settled(self) -> Manifest:
        """The manifest, with what is decided from the out-of-fold walk."""
        truth = known_truth(self.dataset, self.scored)
        combiner = Combiner(self.taxonomy, Combination.product())
        self.walked = combiner.with_seconds(self.walked, self.second_scores())
        believed = believed_walk(self.dataset, self.scored, self.walked)
        clusters = clusters_of(self.dataset.texts)[self.scored]
        combination = learned_combination(self.taxonomy, truth, believed, clusters, self.seed, self.jobs)
        exclusive = exclusive_contests(self.taxonomy, truth)
        for name in exclusive:
            self.tell("noted", name, "no row has two labels, so at most one is answered")
        self.walked = Combiner(self.taxonomy, combination).combined(self.walked, self.jobs)
        found = decide_thresholds(self.dataset, self.scored, self.walked, exclusive, self.seed)
        for line in promise_lines(found.promises):
            self.tell("noted", ROOT, line)
        self.tell("decided", ROOT, found.summary())
        return Manifest(
            taxonomy=self.taxonomy.to_dict(),
            nodes=self.taxonomy.graph.nodes,
            groups={
                group: self.settled_record(group, self.route(group, found.thresholds, combination))
                for group in trained_groups(self.taxonomy)
            },
            thresholds=dict(found.thresholds),
            metrics=dict(found.metrics),
            suspicious=found.suspicious,
            seed=self.seed,
            versions=versions(),
            combination=combination.to_dict(),
            exclusive=exclusive,
            promises={label: asdict(promise) for label, promise in found.promises.items()},
            least_known=least_known(self.dataset, self.scored, self.walked, found, exclusive, self.hosted),
        )

    def settled_record(self, group: str, route: float) -> GroupRecord:
        """The record of a group; of one at a service it tells the share of the rows that ask there."""
        record, notes = self.fitted[group].record, {}
        if group in self.hosted:
            asking = np.count_nonzero(self.paths_of_all(group) >= np.float32(route))
            notes = {"entered": round(asking / max(len(self.scored), 1), 4)}
        return replace(
            record,
            negatives=self.policies[group],
            route_threshold=route,
            second=self.second_record(group),
            notes={**record.notes, **notes},
        )

    def paths_of_all(self, group: str) -> FloatArray:
        """Path probability of a group at the rows that enter it."""
        return self.entered[group][1] if group in self.entered else np.ones(len(self.scored), np.float32)

    def second_record(self, group: str) -> SecondModel | None:
        if group not in self.seconds:
            return None
        record = self.seconds[group].record
        return SecondModel(record.node, record.files, record.slopes, record.offsets, record.notes)

    def route(self, group: str, thresholds: Mapping[str, float], combination: Combination) -> float:
        """From which path probability on a group is asked.

        The path of a child is never above that of its parent: where no child can reach its threshold any
        more, asking the group changes no answer. Where a question costs money it is saved.
        """
        route = self.routes.get(group, 0.0)
        if group not in self.hosted or not route or self.taxonomy.combine == "noisy_or":
            return route
        below = [name for name in thresholds if group in self.taxonomy.graph.ancestors(name)]
        if not below:
            return route
        least = min(thresholds[name] for name in below)
        return max(route, combination.least_path(least, seconds=bool(self.seconds)))


def _spread(jobs: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The answer of `work`, which may share out its parts: a large one is not to be waited for at the end."""
    with parallel_config(backend="threading", n_jobs=jobs):
        return work(*arguments)
