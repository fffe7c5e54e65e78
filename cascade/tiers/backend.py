"""Fits the tiers of a group, settles where each hands on, and loads them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cascade.nodes.contract import (
    Backend,
    FittedNode,
    HostedBackend,
    NodeModel,
    NodeProblem,
    PromptedBackend,
    Quoting,
    ServiceBackend,
)
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.texts import Texts
from cascade.tiers.model import EmbeddedTiers, Tier, TieredModel, loaded
from cascade.tiers.settle import settle

VERSION = 1
"""Raised when the same rows would be handed on elsewhere."""


class TieredBackend:
    """Fits models of which each answers what those before it hand on.

    Parameters
    ----------
    tiers
        The backend of each tier, by its name, the cheapest first.
    most_lost
        So much micro F1 of a group's children may be lost against the last tier for all rows.
    """

    def __init__(self, tiers: Mapping[str, Backend], most_lost: float) -> None:
        self.tiers, self.most_lost = dict(tiers), most_lost

    @property
    def last(self) -> Backend:
        """What makes the model that answers all that the others hand on."""
        return list(self.tiers.values())[-1]

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:
        """The tiers that are worth it, and the held-out scores of those that would answer.

        The scores are calibrated where several tiers answer, and left as they are where it is one. ``tiers``
        of the notes tells which share of the held-out rows each answers, ``lost`` the micro F1 of the
        children that this loses among them, if there are several.
        """
        return self.joined(problem, self.last.fit(problem, workdir), workdir)

    def joined(self, problem: NodeProblem, dear: FittedNode, workdir: Path) -> FittedNode:
        """The same with the last tier as it was fitted."""
        names, rows = list(self.tiers), dear.rows
        judged = problem.of(rows)
        varies = bool((judged.targets.any(axis=0) & ~judged.targets.all(axis=0)).any())
        cheap = self._cheap(problem, rows, workdir) if varies else []
        found = settle([*(one for _, one in cheap), dear.scores], judged, self.most_lost)
        models = [*(model for model, _ in cheap), dear.model]
        used = zip(names[-len(models) :], models, found.handovers, strict=True)
        tiers = [
            Tier(name, model, handover)
            for name, model, handover in used
            if handover is not None or model is dear.model
        ]
        first = len(names) - len(models)
        shares = {name: _share(found.answered_by, place - first) for place, name in enumerate(names)}
        lost = {"lost": round(found.lost, 4)} if len(tiers) > 1 else {}
        notes = {**dear.notes, "tiers": shares, **lost}
        return FittedNode(self.model_of(tiers), rows, found.scores, notes)

    def _cheap(
        self, problem: NodeProblem, rows: IntArray, workdir: Path
    ) -> list[tuple[NodeModel, FloatArray]]:
        """The models of all tiers before the last, and their scores of these rows, unseen."""
        found = []
        for backend in list(self.tiers.values())[:-1]:
            fitted = backend.fit(problem, workdir)
            found.append((fitted.model, _at(fitted, rows)))
        return found

    def model_of(self, tiers: Sequence[Tier]) -> TieredModel:
        """The model of these tiers."""
        return EmbeddedTiers(tiers)

    def load(self, folder: Path) -> TieredModel:
        """The model that was saved there; ModelError where the folder is not such a one."""
        return self.model_of(loaded(folder, self.tiers))

    def prepare(self, texts: Texts, jobs: int) -> None:
        """What all tiers need."""
        for backend in self.tiers.values():
            backend.prepare(texts, jobs)


class ServiceTieredBackend(TieredBackend):
    """The same with a service at the end: see `ServiceBackend`.

    Cheaper tiers learn from the rows that truly reach the group, and are judged on those that the service was
    asked about.
    """

    @cached_property
    def service(self) -> Any:
        """The backend of the last tier."""
        if not isinstance(self.last, ServiceBackend):
            raise TypeError(type(self.last).__name__)
        return self.last

    @property
    def model(self) -> str | None:
        """The model that is asked as it is, if the options name one."""
        named: str | None = self.service.model
        return named

    @property
    def settings(self) -> Any:
        """Where the service is and what it is asked for."""
        return self.service.settings

    @property
    def waits(self) -> bool:
        """Whether it is asked in batches."""
        return bool(self.service.waits)

    def node(self, problem: NodeProblem, model: str) -> NodeModel:
        """The last tier alone, which answers for the children of a problem."""
        found: NodeModel = self.service.node(problem, model)
        return found

    def adopt(self, problem: NodeProblem, model: str, rows: IntArray) -> FittedNode:
        """As `ServiceBackend.adopt` has it, with the tiers before it; all these rows are asked about."""
        return self.joined(problem, self.service.adopt(problem, model, rows), Path())

    def model_of(self, tiers: Sequence[Tier]) -> TieredModel:
        """The model of these tiers."""
        from cascade.tiers.asking import AskingTiers, QuotingTiers  # who asks no service needs none of it

        return (QuotingTiers if isinstance(tiers[-1].model, Quoting) else AskingTiers)(tiers)

    def _cheap(
        self, problem: NodeProblem, rows: IntArray, workdir: Path
    ) -> list[tuple[NodeModel, FloatArray]]:
        own = np.flatnonzero(problem.own)
        return super()._cheap(problem.of(own), np.searchsorted(own, rows), workdir)


class HostedTieredBackend(ServiceTieredBackend):
    """The same with a fine-tune at a service: see `HostedBackend`."""

    def codec(self, problem: NodeProblem) -> Any:
        """How the children of a problem are asked for."""
        return self.service.codec(problem)

    def order(self, group: str, problem: NodeProblem, held_out: BoolArray) -> Any:
        """What the service has to make: the same as without tiers."""
        return self.service.order(group, problem, held_out)


class PromptedTieredBackend(ServiceTieredBackend):
    """The same with a model that is asked as it is: see `PromptedBackend`."""

    @property
    def digest(self) -> str:
        """The hash of the words that all its groups are asked with."""
        return str(self.service.digest)

    @property
    def calibration_rows(self) -> int:
        """Most rows that are worth asking about, to calibrate it."""
        return int(self.service.calibration_rows)

    @property
    def trials(self) -> int:
        """How often some of these rows may be asked about once more, to settle how it is asked."""
        return int(self.service.trials)

    def price(self, problem: NodeProblem, rows: IntArray) -> Any:
        """What a question about the rows at these positions takes, and costs."""
        return self.service.price(problem, rows)


def make(tiers: Mapping[str, Backend], most_lost: float) -> TieredBackend:
    """The backend of these tiers, with all that the last of them can do."""
    last = list(tiers.values())[-1]
    if isinstance(last, PromptedBackend):
        return PromptedTieredBackend(tiers, most_lost)
    if isinstance(last, HostedBackend):
        return HostedTieredBackend(tiers, most_lost)
    kind = ServiceTieredBackend if isinstance(last, ServiceBackend) else TieredBackend
    return kind(tiers, most_lost)


def _at(fitted: FittedNode, rows: IntArray) -> FloatArray:
    """The held-out scores of these rows of a problem."""
    order = np.argsort(fitted.rows, kind="stable")
    places = np.searchsorted(fitted.rows, rows, sorter=order)
    found: FloatArray = fitted.scores[order[places]]
    return found


def _share(answered_by: IntArray, place: int) -> float:
    return round(float(np.mean(answered_by == place)), 4) if len(answered_by) else 0.0
