"""What a fit would train, and what that would cost, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from cascade.backends import KINDS
from cascade.errors import BackendError, DataError
from cascade.hosted.prices import PREDICTIONS, NodePlan, Prices, flat_plan, node_plan
from cascade.learn.asking import PlannedQuestions, planned_questions, rows_to_ask, usd_of_text
from cascade.learn.datasets import Dataset
from cascade.learn.groups import held_out_rows, service_groups, trained_groups, varies
from cascade.learn.trunks import taught, trunk_groups
from cascade.learn.verifying import planned_second_pass
from cascade.nodes.contract import HostedBackend, ServiceBackend
from cascade.system.array_types import BoolArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.trunk.settings import TrunkSettings
from cascade.trunk.trainer import Trainer


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
class PlannedTrunk:
    """A fine-tune of one's own, shared by so many `groups`.

    Attributes
    ----------
    base
        The encoder that would be tuned.
    rows, steps
        How many rows teach it, and in how many steps of all epochs.
    seconds
        What that would take on this machine, by ten steps of it.
    """

    base: str
    groups: int
    rows: int
    steps: int
    seconds: float


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
    trunks
        The fine-tunes of one's own.
    asked
        What is asked at each group whose model is asked as it is.
    asked_rows
        How many rows these are asked about, to be calibrated.
    in_doubt, in_doubt_labels
        What asking about doubtful labels again takes, and how many of held-out rows a fit asks about at most;
        None and 0 where the taxonomy has no `verify`.
    """

    groups: tuple[Planned, ...]
    questions: tuple[float, ...]
    flat: NodePlan | None
    prices_of: date
    trunks: tuple[PlannedTrunk, ...] = ()
    asked: tuple[PlannedQuestions, ...] = ()
    asked_rows: int = 0
    in_doubt: PlannedQuestions | None = None
    in_doubt_labels: int = 0

    def cost_usd(self) -> float | None:
        """Of all fine-tunes and of asking to calibrate; None where a price is not known."""
        asked = usd_of_text(self.asked)
        again = 0.0 if self.in_doubt is None else self.in_doubt.price.usd
        return _sum(
            [
                *(one.cost_usd for one in self.groups),
                None if asked is None else asked * self.asked_rows,
                None if again is None else again * self.in_doubt_labels,
            ]
        )

    def thousand_usd(self) -> float | None:
        """Of 1,000 texts through all hosted groups that they truly belong to, and of what is asked again.

        None where not known.
        """
        hosted = [(one.hosted, share) for one, share in zip(self.groups, self.questions, strict=True)]
        asked = usd_of_text(self.asked)
        tuned = [
            None if plan.thousand_usd is None else plan.thousand_usd * share
            for plan, share in hosted
            if plan is not None
        ]
        again = usd_of_text([] if self.in_doubt is None else [self.in_doubt])
        return _sum([*tuned, *(None if one is None else one * PREDICTIONS for one in (asked, again))])


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
    trainer: Trainer | None = None,
) -> Plan:
    """What `fit` would train, group by group; nothing is sent.

    Parameters
    ----------
    tuned
        The model that an order with this key has made already, or an empty string: see `tuned_models`.
    trainer
        Where fine-tunes of one's own would be trained: some steps of each are, to tell how long it takes.
    """
    check_lengths(texts, labels)
    dataset, prices = Dataset.make(taxonomy, texts, labels), Prices.load()
    services = service_groups(dataset)
    hosted = {name: one for name, one in services.items() if isinstance(one, HostedBackend)}
    trunks = trunk_groups(dataset)
    asked = planned_questions(dataset, services, seed)
    unseen = held_out_rows(dataset, seed) if hosted or trunks else np.zeros(len(texts), dtype=bool)
    groups = trained_groups(taxonomy)
    plans = {
        name: _hosted_plan(dataset, name, one, prices, unseen, seed, tuned) for name, one in hosted.items()
    }
    first = next(iter(hosted.values()), None)
    in_doubt, in_doubt_labels = planned_second_pass(dataset) or (None, 0)
    return Plan(
        groups=tuple(_planned(dataset, group, plans.get(group)) for group in groups),
        questions=tuple(float(dataset.reaching(group).mean()) if texts else 0.0 for group in groups),
        flat=None if first is None else _flat(dataset, first, prices, seed),
        prices_of=prices.as_of,
        trunks=tuple(
            _planned_trunk(dataset, settings, names, unseen, seed, trainer or Trainer())
            for settings, names in trunks.items()
        ),
        asked=tuple(asked),
        asked_rows=_asked_rows(dataset, services, seed, unseen) if asked else 0,
        in_doubt=in_doubt,
        in_doubt_labels=in_doubt_labels,
    )


def _asked_rows(
    dataset: Dataset, services: Mapping[str, ServiceBackend], seed: int, unseen: BoolArray
) -> int:
    """How many rows models are asked about that learn from none."""
    rows = rows_to_ask(dataset, services, seed)
    return int((unseen if rows is None else rows).sum())


def _planned_trunk(
    dataset: Dataset,
    settings: TrunkSettings,
    groups: Sequence[str],
    unseen: BoolArray,
    seed: int,
    trainer: Trainer,
) -> PlannedTrunk:
    figures = trainer.seconds(settings, taught(dataset, groups, unseen, seed))
    return PlannedTrunk(settings.base, len(groups), *figures)


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
    truth = dataset.truth.dense([graph.column[label] for label in graph.labels])
    return flat_plan(list(dataset.texts), truth, graph.labels, backend.settings, prices, seed)


def check_lengths(texts: Sequence[str], labels: Sequence[Sequence[str]]) -> None:
    if len(texts) != len(labels):
        raise DataError(f"{len(texts)} texts and {len(labels)} lists of labels: expected as many of both.")


def _planned(dataset: Dataset, group: str, hosted: NodePlan | None) -> Planned:
    rows = dataset.rows(group, "siblings")
    targets = dataset.targets(group)[rows]
    settings = dataset.taxonomy.groups[group]
    kind = settings.backend.kind
    return Planned(
        group=group,
        backend=kind if varies(targets) or KINDS[kind].prompted else "constant",
        rows=len(rows),
        children=dataset.taxonomy.scored_children(group),
        positives=tuple(int(count) for count in targets.sum(axis=0)),
        negatives="siblings" if group == ROOT else settings.negatives,
        cost_usd=0.0 if hosted is None else hosted.training_usd,
        hosted=hosted,
    )
