"""Which changes of a taxonomy its out-of-fold scores speak for; whether they win is for a trial to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
from scipy.sparse import csr_array, triu

from cascade.changes.advice_trials import Fitted
from cascade.grouping.clustering import clusters_of
from cascade.grouping.group_names import group_names
from cascade.grouping.vectors import Array, LabelVectors, label_vectors
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edits import Edit, MergeLabels, MoveLabel, SplitGroup
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import joined

LEAST_ROWS = 3
"""Fewer rows that speak for a change are no evidence."""
NEIGHBOURS = 5
"""So many labels with texts most like its own are held against each label."""
INSEPARABLE = 0.65
"""Scores that put fewer pairs of rows the right way round tell hardly more than chance, which is .5."""
SURE = 3.0
TOGETHER = 0.9
"""Labels go together if so many of the rows of either one have both."""
DRAWN = 0.1
"""A label may belong to another group if its rows have so much path probability there, on average."""
DRAWN_NEAR = 0.03
"""So much is enough where its texts are nearest to those there."""
SPLIT_LABELS = 6
"""Groups of fewer labels are not split."""
SPLIT_SHARE = 0.1
"""So much of the errors within a group a split may hope to heal, to rank it among other changes."""


@dataclass(frozen=True)
class Candidate:
    """A change to try.

    Attributes
    ----------
    edit
        The change.
    reason
        What speaks for it.
    rows
        int64: positions of the rows that show it, the plainest first.
    hope
        How many errors it might heal at best; only to rank candidates of one kind.
    """

    edit: Edit
    reason: str
    rows: IntArray
    hope: float


def candidates(fitted: Fitted, hosted: frozenset[str]) -> list[Candidate]:
    """Changes to try, the kinds by turns, the most promising of each first; none that touches `hosted`."""
    evidence = _Evidence(fitted)
    kinds = [evidence.moves(), evidence.merges(), evidence.splits()]
    ranked = [sorted(kind, key=lambda one: -one.hope) for kind in kinds]
    turns = [one for turn in zip_longest(*ranked) for one in turn if one is not None]
    return [one for one in turns if not touched_groups(fitted.taxonomy, one.edit) & hosted]


def touched_groups(taxonomy: Taxonomy, edit: Edit) -> frozenset[str]:
    """The groups whose children or rows a change exchanges."""
    graph = taxonomy.graph
    if isinstance(edit, SplitGroup):
        return frozenset((edit.group, *graph.parents[edit.group]))
    if isinstance(edit, MergeLabels):
        ends = frozenset((*graph.parents[edit.label], *graph.parents[edit.into]))
    else:
        ends = frozenset((edit.source, edit.target))
    if len(ends) == 1:
        return ends
    return ends.union(*(graph.ancestors(end) for end in ends if end != ROOT), [ROOT])


class _Evidence:
    """Out-of-fold answers of a model, and what they say of its taxonomy."""

    def __init__(self, fitted: Fitted) -> None:
        self.fitted, self.taxonomy, self.graph = fitted, fitted.taxonomy, fitted.taxonomy.graph
        self.truth, self.chosen = fitted.cells
        # By the paths, what is taken for another shows; put together, all but the best label is held back.
        walked = fitted.out_of_fold.walked
        self.paths: FloatArray = np.nan_to_num((walked.before or walked).paths)
        self.rows = fitted.out_of_fold.rows
        self.names = self.graph.labels
        self.count: IntArray = self.truth.sum(axis=0)
        self.missed: IntArray = (self.truth & ~self.chosen).sum(axis=0)

    # Labels that are one under two names

    def merges(self) -> Iterator[Candidate]:
        for one, other in self._alike():
            if min(self.count[one], self.count[other]) >= LEAST_ROWS and self._can_merge(one, other):
                found = self._merge(one, other)
                if found is not None:
                    yield found

    def _alike(self) -> list[tuple[int, int]]:
        """Pairs of labels with texts that are like each other's, or that go together."""
        both = triu(_counts(self.truth).T @ _counts(self.truth), 1).tocoo()
        either = self.count[both.row] + self.count[both.col] - both.data
        together = both.data >= TOGETHER * either
        pairs = set(zip(both.row[together].tolist(), both.col[together].tolist(), strict=True))
        for one, vector in enumerate(self._vectors):
            likeness = self._vectors @ vector
            likeness[one] = -np.inf
            near = np.argsort(-likeness, kind="stable")[:NEIGHBOURS]
            pairs |= {(min(one, other), max(one, other)) for other in near.tolist() if likeness[other] > 0}
        return sorted(pairs)

    def _can_merge(self, one: int, other: int) -> bool:
        """Whether each stands in one place, from where another one may take its rows."""
        groups = [self.graph.parents[self.names[label]] for label in (one, other)]
        if not all(self._stands_once(self.names[label]) for label in (one, other)):
            return False
        same = groups[0] == groups[1]
        homes = all(self._is_home(parents[0]) for parents in groups)
        return (same or homes) and all(self._has_more(parents[0]) for parents in groups)

    def _merge(self, one: int, other: int) -> Candidate | None:
        """The label with fewer rows goes into the other one; of equal ones the later one goes."""
        into, label = (one, other) if self.count[one] >= self.count[other] else (other, one)
        both = self.truth[:, into] & self.truth[:, label]
        alone = [self.truth[:, at] & ~both for at in (into, label)]
        if min(int(side.sum()) for side in alone) < LEAST_ROWS:
            n_rows = int((self.truth[:, into] | self.truth[:, label]).sum())
            if both.sum() < TOGETHER * n_rows:
                return None  # the one is told by the other, which mostly stands without it
            shown, why = both, f"{int(both.sum()):,} of the {n_rows:,} rows of either have both"
        else:
            told = self._told_apart(into, label, *alone)
            if told >= INSEPARABLE or self._company_differs(alone[0], alone[1], {one, other}):
                return None
            counts = " and ".join(f"{int(side.sum()):,}" for side in alone)
            shown, why = (
                alone[0] | alone[1],
                f"of rows with one alone, {counts}, {told:.0%} of pairs are told apart, where 50% is chance",
            )
        columns = [self.graph.column[self.names[at]] for at in (into, label)]
        edit = MergeLabels(self.names[label], self.names[into])
        doubt = np.min(self.paths[:, columns], axis=1)
        return Candidate(edit, why, self._plainest(shown, doubt), float(shown.sum()))

    def _told_apart(self, into: int, label: int, first: BoolArray, second: BoolArray) -> float:
        """The share of pairs of rows, one of each label alone, that scores put the right way round.

        That is the area under the ROC curve (Hanley and McNeil, Radiology 1982).
        """
        columns = [self.graph.column[self.names[at]] for at in (into, label)]
        margin = self.paths[:, columns[0]] - self.paths[:, columns[1]]
        order = np.sort(margin[second])
        below = np.searchsorted(order, margin[first], "left")
        upto = np.searchsorted(order, margin[first], "right")
        return float((below + upto).mean() / 2 / len(order))

    def _company_differs(self, first: BoolArray, second: BoolArray, apart: set[int]) -> bool:
        """Whether some other label goes with one of the two and not so with the other one.

        Then they mean something else, as do `good_value`, with `pleased`, and `too_expensive`, whatever
        a model makes of their words. By the test of two proportions, at `SURE` standard errors.
        """
        sides = [self.truth[rows] for rows in (first, second)]
        rates = [side.mean(axis=0) for side in sides]
        pooled = np.concatenate(sides).mean(axis=0)
        error = np.sqrt(pooled * (1 - pooled) * sum(1 / len(side) for side in sides))
        differs = np.abs(rates[0] - rates[1]) > SURE * error
        differs[list(apart)] = False
        return bool(differs.any())

    # Labels that may belong elsewhere

    def moves(self) -> Iterator[Candidate]:
        targets = [group for group in self.graph.groups if self._is_home(group) and group != ROOT]
        for label, name in enumerate(self.names):
            source = self.graph.parents[name][0]
            if self.count[label] < LEAST_ROWS or not self._stands_once(name):
                continue
            if self._is_home(source) and self._has_more(source):
                found = [self._move(label, source, target) for target in targets if target != source]
                best = max(filter(None, found), key=lambda one: one.hope, default=None)
                if best is not None:
                    yield best

    def _is_home(self, group: str) -> bool:
        """Whether labels may come to a group or leave it: facets ask another question of the same texts."""
        settings = self.taxonomy.groups[group]
        is_facet = settings.choose == "one" or (group != ROOT and self.taxonomy.is_always_visited(group))
        return not is_facet and bool(self._labels_in(group))

    def _labels_in(self, group: str) -> list[str]:
        """The labels that are written in a group, not below it and not also in it."""
        labels = (child for child in self.graph.children[group] if child in self.taxonomy.labels)
        return [one for one in labels if self.taxonomy.first_parent(one) == group]

    def _has_more(self, group: str) -> bool:
        return len(self._labels_in(group)) > 1

    def _move(self, label: int, source: str, target: str) -> Candidate | None:
        name, column = self.names[label], self.graph.column
        last_name = self.taxonomy.last_name(name)
        if self.taxonomy.names == "path" and joined(target, last_name) in self.graph.column:
            return None
        own = self.truth[:, label]
        strangers = own & ~self._true_of(target)
        if strangers.sum() < LEAST_ROWS:
            return None
        drawn = float(self.paths[strangers, column[target]].mean())
        is_near = self._nearest.get(name) == target
        if drawn < (DRAWN_NEAR if is_near else DRAWN):
            return None
        lost = own & ~self.chosen[:, label]
        entered = self.paths[:, column[target]]
        reason = (
            f"{int(lost.sum()):,} of its {int(own.sum()):,} rows are missed; those without a label of "
            f"{target!r} reach that group with probability {drawn:.2f}"
            f"{', and its texts are nearest to those there' if is_near else ''}"
        )
        shown = (lost & strangers) if (lost & strangers).any() else strangers
        hope = float(self.missed[label]) * drawn * (1 + is_near)
        return Candidate(MoveLabel(name, source, target), reason, self._plainest(shown, entered), hope)

    def _true_of(self, group: str) -> BoolArray:
        inside: BoolArray = self.fitted.dataset.truth.has(self.graph.column[group])[self.rows]
        return inside

    @cached_property
    def _nearest(self) -> dict[str, str]:
        """The group whose labels' mean direction each label is nearest to, itself left out."""
        names, vectors = self.names, self._vectors
        homes = [group for group in self.graph.groups if group != ROOT and self._is_home(group)]
        if not homes:
            return {}
        inside = np.array([[name in self._members[group] for name in names] for group in homes], dtype=float)
        sums = inside @ vectors
        found = {}
        for place, name in enumerate(names):
            centres = sums - inside[:, place, None] * vectors[place]
            lengths = np.linalg.norm(centres, axis=1)
            likeness = centres @ vectors[place] / np.where(lengths == 0, 1, lengths)
            found[name] = homes[int(np.argmax(likeness))]
        return found

    @cached_property
    def _vectors(self) -> Array:
        """What tells the texts of each label from those of the others, rows of unit length."""
        names = list(self.names)
        return label_vectors(names, *self._rows_with_labels(names)).vectors

    @cached_property
    def _members(self) -> dict[str, frozenset[str]]:
        return {group: frozenset(self._labels_in(group)) for group in self.graph.groups}

    def _rows_with_labels(self, names: list[str]) -> tuple[list[str], list[list[str]]]:
        """The texts that have some of these labels, with those that they have."""
        columns = [self.names.index(name) for name in names]
        truth = self.truth[:, columns]
        places = np.flatnonzero(truth.any(axis=1))
        texts = [self.fitted.dataset.texts[int(self.rows[place])] for place in places]
        return texts, [[names[at] for at in np.flatnonzero(truth[place])] for place in places]

    # Groups that may be two

    def splits(self) -> Iterator[Candidate]:
        for group in self.graph.groups[1:]:
            labels = self._labels_in(group)
            if len(labels) >= SPLIT_LABELS and self._can_split(group, labels):
                known = label_vectors(labels, *self._rows_with_labels(labels))
                halves = {self._halves_by_confusion(labels): "what is taken for each other stays together"}
                halves.setdefault(_smaller(clusters_of(known.vectors, 2) == 1), "their texts fall into two")
                for leaving, why in halves.items():
                    if len(leaving) > 1 and all(self._stands_once(labels[place]) for place in leaving):
                        yield self._split(group, labels, leaving, why, known)

    def _stands_once(self, label: str) -> bool:
        return len(self.graph.parents[label]) == 1

    def _halves_by_confusion(self, labels: list[str]) -> tuple[int, ...]:
        """The smaller half of labels cut where the least is taken for each other.

        By the second eigenvector of the normalised Laplacian of their confusion (Shi and Malik, "Normalized
        cuts and image segmentation", 2000), which is how Bengio, Weston and Grangier, "Label embedding trees
        for large multi-class tasks" (NIPS 2010, section 3) split labels.
        """
        columns = [self.graph.column[name] for name in labels]
        truth = self.truth[:, [self.names.index(name) for name in labels]].astype(np.float64)
        taken = truth.T @ self.paths[:, columns] / np.maximum(truth.sum(axis=0), 1)[:, None]
        confused = taken + taken.T
        np.fill_diagonal(confused, 0)
        root = np.sqrt(np.maximum(confused.sum(axis=1), 1e-12))
        _, vectors = np.linalg.eigh(np.eye(len(labels)) - confused / root[:, None] / root[None, :])
        return _smaller(vectors[:, 1] / root > 0)

    def _can_split(self, group: str, labels: list[str]) -> bool:
        """Whether all that stands in a group are its own labels, and no row names the group alone."""
        whole = list(self.graph.children[group]) == labels and self._is_home(group)
        columns = [self.graph.column[child] for child in self.graph.children[group]]
        alone = self._true_of(group) & ~self.fitted.dataset.truth.dense(columns)[self.rows].any(axis=1)
        return whole and len(self.graph.parents[group]) == 1 and not alone.any()

    def _split(
        self, group: str, labels: list[str], leaving: tuple[int, ...], why: str, known: LabelVectors
    ) -> Candidate:
        staying = [place for place in range(len(labels)) if place not in leaving]
        new = group_names(labels, [staying, list(leaving)], known)[1]
        columns = [self.names.index(name) for name in labels]
        wrong = (self.truth[:, columns] != self.chosen[:, columns]).sum(axis=1)
        inside = self._true_of(group)
        errors, n_rows = int(wrong[inside].sum()), int(inside.sum())
        reason = f"{len(labels)} labels with {errors:,} errors in {n_rows:,} rows; {why}"
        edit = SplitGroup(group, self._free_name(group, new), tuple(labels[place] for place in leaving))
        hope = errors * SPLIT_SHARE
        return Candidate(edit, reason, self._plainest(inside & (wrong > 0), wrong.astype(np.float32)), hope)

    def _free_name(self, group: str, name: str) -> str:
        """The name, with a number where it is taken beside the group."""
        above = self.graph.parents[group][0]

        def is_taken(name: str) -> bool:
            if self.taxonomy.names == "path":
                return joined(above, name) in self.graph.column
            return self.taxonomy.resolve(name) is not None

        tries = (name, *(f"{name}_{number}" for number in range(2, 2 + len(self.graph.nodes))))
        return next(one for one in tries if not is_taken(one))

    def _plainest(self, shown: BoolArray, by: FloatArray) -> IntArray:
        """Positions of the rows shown, those with the most first."""
        places = np.flatnonzero(shown)
        return self.rows[places[np.argsort(-by[places], kind="stable")]]


def _smaller(side: BoolArray) -> tuple[int, ...]:
    """Positions on the side that has fewer; of equal ones that without the first."""
    is_smaller = side.sum() * 2 < len(side) or (side.sum() * 2 == len(side) and not side[0])
    return tuple(np.flatnonzero(side if is_smaller else ~side).tolist())


def _counts(cells: BoolArray) -> csr_array:
    return csr_array(cells.astype(np.int64))
