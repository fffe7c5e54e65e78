"""Models that are asked as they are: which rows to calibrate them with, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.backends import KINDS, faults_of, make_backend
from cascade.errors import BackendError, DataError
from cascade.learn.datasets import Dataset
from cascade.learn.events import Event, Report, silent, summary
from cascade.learn.groups import asked_rows, most_asked_rows, trained_groups
from cascade.learn.node_fit import NodeTask, fit_node, made_by, node_key, versions
from cascade.model.folder import GroupRecord, Manifest, locked, node_files, whole_node, write_manifest
from cascade.nodes.contract import PromptedBackend, ServiceBackend, sampled
from cascade.prompt.settings import MOST_TRIED
from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.text.texts import Texts
from cascade.validation.combination import FEATURES, Combination

# So many rows tell what a question takes.
_PRICED = 50
# Fewer rows calibrate nothing.
_FEWEST = 20
PLAIN = 0.5
"""The threshold where no row says anything else: what is likelier than not."""


@dataclass(frozen=True)
class PlannedQuestions:
    """What is asked at a group whose model is asked as it is.

    Attributes
    ----------
    group
        Its name.
    share
        Of all rows those that truly reach it, in [0, 1].
    price
        What a text takes, see `cascade.prompt.pricing.QuestionPrice`.
    """

    group: str
    share: float
    price: Any


def planned_questions(
    dataset: Dataset, backends: Mapping[str, ServiceBackend], seed: int
) -> list[PlannedQuestions]:
    """What is asked at each group that is asked as it is, by a sample of the rows that reach it."""
    found = []
    for group, backend in backends.items():
        if isinstance(backend, PromptedBackend):
            rows = dataset.rows(group, "all")
            problem = dataset.problem(group, rows, seed)
            some = sampled(np.flatnonzero(problem.own), _PRICED, seed)
            share = float(dataset.reaching(group).mean()) if len(dataset.texts) else 1.0
            found.append(PlannedQuestions(group, share, backend.price(problem, some)))
    return found


def usd_of_text(questions: Iterable[PlannedQuestions]) -> float | None:
    """What a text costs at the groups that it truly belongs to; None where a price is not known."""
    each = [None if one.price.usd is None else one.price.usd * one.share for one in questions]
    known = [usd for usd in each if usd is not None]
    return sum(known) if len(known) == len(each) else None


def rows_to_ask(
    dataset: Dataset, backends: Mapping[str, ServiceBackend], seed: int, budget_usd: float | None = None
) -> BoolArray | None:
    """The rows that calibrate models that learn from none, bool, shape (n_texts,); None where one does learn.

    Raises
    ------
    BackendError
        The budget has not enough for the fewest rows that calibrate anything.
    """
    most = most_asked_rows(backends.values())
    if most is None:
        return None
    usd = None if budget_usd is None else usd_of_text(planned_questions(dataset, backends, seed))
    if usd and budget_usd is not None:
        trials = max(one.trials for one in backends.values() if isinstance(one, PromptedBackend))
        affordable = int(max(budget_usd / usd - MOST_TRIED * trials, budget_usd / usd / (1 + trials)))
        if affordable < min(_FEWEST, len(dataset.texts)):
            raise BackendError(
                f"to ask about {_FEWEST} rows, the fewest that calibrate anything, costs about "
                f"{usd * _FEWEST:.2g} USD: more than --budget {budget_usd:g}. Nothing was sent"
            )
        most = min(most, affordable)
    return asked_rows(dataset, most, seed)


def usd_left(
    dataset: Dataset,
    backends: Mapping[str, ServiceBackend],
    seed: int,
    budget_usd: float | None,
    n_rows: int,
) -> float | None:
    """What of a budget is left after asking about so many rows; None where there is no budget."""
    if budget_usd is None:
        return None
    usd = usd_of_text(planned_questions(dataset, backends, seed)) or 0.0
    return max(budget_usd - usd * n_rows, 0.0)


def ask_ahead(tasks: Iterable[NodeTask], asked: Mapping[str, IntArray], texts: Texts) -> None:
    """Have all questions of a level asked together that go in batches.

    A batch takes hours, however small it is. Who asks the same again finds the answers.

    Parameters
    ----------
    tasks
        What is to be fitted at services.
    asked
        Of groups the rows of the data set, with these `texts`, that reach them beside those held out.
    """
    views = {}
    for task in tasks:
        backend = make_backend(task.kind, task.options)
        if isinstance(backend, ServiceBackend) and backend.waits and task.held_out is not None:
            rows = np.union1d(task.rows[task.held_out], asked.get(task.group, task.rows[:0]))
            views[task.group] = (backend.node(task.problem, task.model), texts.take(rows))
    if views:
        from cascade.hosted.backend import scores_together  # who asks no service needs none of it

        scores_together(views)


def is_asked_alone(taxonomy: Taxonomy) -> bool:
    """Whether all models of a taxonomy are asked as they are, so that it needs no rows; cheaper looks do."""
    return not learning_groups(taxonomy) and not taxonomy.has_tiers


def learning_groups(taxonomy: Taxonomy) -> list[str]:
    """The groups whose models learn from rows."""
    kinds = {group: taxonomy.groups[group].backend.kind for group in trained_groups(taxonomy)}
    return [group for group, kind in kinds.items() if not KINDS[kind].prompted]


def fit_untaught(taxonomy: Taxonomy, out: Path, *, seed: int = 0, report: Report = silent) -> Manifest:
    """Make a model folder that asks, of a taxonomy without any row; nothing is sent.

    Its scores are what the model says, not calibrated, and thresholds are plain: a label is chosen that is
    likelier than not in a group that is, unless the taxonomy says a number.

    Raises
    ------
    DataError
        A group's model learns from rows.
    ModelError
        Another fit is writing to `out`.
    """
    learning = learning_groups(taxonomy)
    if taxonomy.has_tiers and not learning:
        raise DataError(
            f"{taxonomy.source}: no rows, and what is cheaper under `escalate` learns from them. Give "
            "--data FILE, or leave `escalate` away"
        )
    if learning:
        names = ", ".join(group or "top level" for group in learning[:3])
        raise DataError(
            f"{taxonomy.source}: no rows, and {len(learning)} groups learn from them: {names}. Give --data "
            "FILE, or ask a model as it is: `backend: {kind: prompt, ...}`"
        )
    if faults := faults_of(taxonomy):
        raise DataError("; ".join(one.message for one in faults))
    dataset = Dataset.make(taxonomy, [], [])
    groups = trained_groups(taxonomy)
    with locked(out):
        records = {}
        for group in groups:
            records[group], how = _untaught_group(dataset, group, out, seed)
            report(Event(how, group, summary(records[group]), len(records), len(groups)))
        manifest = Manifest(
            taxonomy=taxonomy.to_dict(),
            nodes=taxonomy.graph.nodes,
            groups=records,
            thresholds=_plain_thresholds(taxonomy),
            metrics={"rows": 0},
            suspicious=(),
            seed=seed,
            versions=versions(),
            combination=Combination(tuple(float(name == "own") for name in FEATURES)).to_dict(),
            is_calibrated=False,
        )
        if taxonomy.verify is not None:
            why = "second pass: none, as no row tells what answers about doubtful labels are worth"
            report(Event("noted", ROOT, why, len(groups), len(groups)))
        write_manifest(out, manifest)
        return manifest


def _untaught_group(dataset: Dataset, group: str, out: Path, seed: int) -> tuple[GroupRecord, str]:
    """The record of a group that is asked, and whether its folder was ``fitted`` or ``reused``."""
    taxonomy = dataset.taxonomy
    spec = taxonomy.groups[group].backend
    backend, rows = make_backend(spec.kind, spec.options), np.empty(0, dtype=np.int64)
    if not isinstance(backend, PromptedBackend):
        raise TypeError(spec.kind)
    problem = dataset.problem(group, rows, seed)
    model = backend.model or ""
    key = node_key(spec.kind, spec.options, problem, made_by(backend, model, None))
    task = NodeTask(group, spec.kind, dict(spec.options), problem, rows, "siblings", key, model)
    notes = whole_node(out, key)
    how = "fitted" if notes is None else "reused"
    if notes is None:
        notes = whole_node(out, fit_node(out, task))
    n_children = len(problem.children)
    record = GroupRecord(
        backend={"kind": spec.kind, **spec.options},
        node=key,
        files=node_files(out, key),
        negatives="siblings",
        slopes=(1.0,) * n_children,
        offsets=(0.0,) * n_children,
        route_threshold=_plain_route(taxonomy, group),
        rows=0,
        positives=(0,) * n_children,
        notes=notes or {},
    )
    return record, how


def _plain_route(taxonomy: Taxonomy, group: str) -> float:
    """A group is entered where it is likelier than not, and so is each group above it."""
    if group == ROOT or taxonomy.groups[group].route == "always":
        return 0.0
    steps = [name for name in (group, *taxonomy.graph.ancestors(group)) if name != ROOT]
    return float(PLAIN ** len(steps))


def _plain_thresholds(taxonomy: Taxonomy) -> dict[str, float]:
    """A number where the taxonomy says one; promises of precision and recall need rows."""
    wanted = {label: taxonomy.threshold_of(label) for label in taxonomy.graph.labels}
    wanted |= {
        group: taxonomy.groups[group].threshold
        for group in taxonomy.graph.groups
        if group != ROOT and taxonomy.groups[group].back_off
    }
    return {
        name: PLAIN if one.kind != "value" or one.value is None else one.value for name, one in wanted.items()
    }
