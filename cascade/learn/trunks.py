"""Groups whose models are heads of a trunk that is trained for all of them: what each has to learn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cascade.backends import encoder_of, make_backend
from cascade.learn.datasets import Dataset
from cascade.learn.groups import trained_groups, varies
from cascade.learn.node_fit import digests
from cascade.nodes.contract import NodeProblem
from cascade.system.array_types import BoolArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.trunk.backend import TrunkBackend
from cascade.trunk.heads import Head, Lesson
from cascade.trunk.settings import TrunkSettings
from cascade.trunk.trainer import ALL, Taught, Trainer


def trunk_groups(dataset: Dataset) -> dict[TrunkSettings, list[str]]:
    """The groups of each trunk, by how that is trained: those with equal settings share one."""
    found: dict[TrunkSettings, list[str]] = {}
    for group in trained_groups(dataset.taxonomy):
        spec = dataset.taxonomy.groups[group].backend
        backend = make_backend(spec.kind, spec.options)
        own = dataset.rows(group, "siblings")
        if isinstance(backend, TrunkBackend) and varies(dataset.targets(group)[own]):
            found.setdefault(replace(backend.settings, words=True), []).append(group)
    return found


def held_out_of(
    dataset: Dataset,
    trunks: Iterable[TrunkSettings],
    out: Path,
    trainer: Trainer,
    held_out: BoolArray,
    seed: int,
) -> BoolArray:
    """The rows to hold out: none that a trunk of `out` has seen which can be built on."""
    for settings in trunks:
        held_out = trainer.held_out(out, settings, seed, digests(dataset.texts), held_out)
    return held_out


def taught(dataset: Dataset, groups: Iterable[str], held_out: BoolArray, seed: int) -> Taught:
    """What the heads of these groups learn: two each, of the group's own rows and of all rows.

    The first tells children apart where the group is certain, the second whatever the router says; at the
    root both would be one.
    """
    lessons: dict[str, Lesson] = {}
    children: dict[str, tuple[str, ...]] = {}
    for group in groups:
        for name, negatives in ((group, "siblings"), (group + ALL, "all")):
            if group == ROOT and negatives == "all":
                continue
            rows = dataset.rows(group, negatives)
            problem = dataset.problem(group, rows, seed)
            lesson = Lesson.of(problem, rows)
            # Of all rows nearly none has a child: to compete with that teaches nothing more.
            lessons[name] = replace(lesson, exclusive=False) if negatives == "all" else lesson
            children[name] = problem.children
    return Taught(dataset.texts, digests(dataset.texts), lessons, children, held_out, seed)


@dataclass
class Heads:
    """The heads of all groups that have one.

    Attributes
    ----------
    found
        By group, and with `ALL` behind it that of all rows.
    trunks
        The keys of the trunks that they belong to.
    encoders
        The files of their encoders, by the sha256 of these.
    """

    found: dict[str, Head] = field(default_factory=dict)
    trunks: list[str] = field(default_factory=list)
    encoders: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        trunks: Mapping[TrunkSettings, Iterable[str]],
        out: Path,
        trainer: Trainer,
        held_out: BoolArray,
        seed: int,
    ) -> Heads:
        """Those of each trunk, which is trained or found in `out`."""
        from cascade.encoders import store

        heads = cls()
        for settings, groups in trunks.items():
            trunk, found = trainer.heads(out, settings, taught(dataset, groups, held_out, seed))
            heads.found |= found
            heads.trunks.append(trunk.key)
            heads.encoders[trunk.encoder] = store.files_in(out / store.ENCODERS, trunk.encoder)
        return heads

    def of_task(self, group: str, negatives: str) -> Head | None:
        """That of a group for its own rows or for all; None where it has none."""
        return self.found.get(group + ALL if negatives == "all" and group != ROOT else group)


def scored_rows(problem: NodeProblem, rows: BoolArray, negatives: str) -> BoolArray:
    """Which of the rows that were held out have a score of a problem: where it is certain, its own."""
    return np.asarray(rows & (problem.own | (negatives == "all")))


def copied_encoders(taxonomy: Taxonomy, folder: Path) -> dict[str, dict[str, str]]:
    """Put a copy of each encoder into a model folder; the sha256 of its files, by its own."""
    from cascade.encoders import store  # who has words alone needs none of it

    named = {encoder_of(group.backend.options) for group in taxonomy.groups.values()} - {None}
    found = [store.opened(name) for name in sorted(filter(None, named))]
    return {one.sha256: store.copy(one, folder / store.ENCODERS) for one in found}
