"""Which changes of a taxonomy its out-of-fold scores speak for; whether they win is for a trial to say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
from scipy.sparse import triu

from cascade.changes.advice_trials import Fitted
from cascade.grouping.clustering import clusters_of
from cascade.grouping.group_names import group_names
from cascade.grouping.vectors import Array, LabelVectors, label_vectors
from cascade.measure.sparse import (
    Flags,
    Scores,
    are_in,
    by_column,
    by_row,
    columns_in,
    flags_of,
    joined,
    only,
    rows_and_columns,
    rows_in,
    scores_of,
    values_at,
    without,
)
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edits import Edit, MergeLabels, MoveLabel, SplitGroup
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import joined as path_of

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
        self.rows = fitted.out_of_fold.rows
        self.nodes = fitted.dataset.truth.take(self.rows)
        self.names, self.column = self.graph.labels, self.graph.column
        self.place = {name: at for at, name in enumerate(self.names)}
        self.count: IntArray = by_column(self.truth)
        self.missed: IntArray = by_column(without(self.truth, self.chosen))

    @cached_property
    def _paths(self) -> Scores:
        """Path probabilities of nodes by columns.

        By these, what is taken for another shows; put together, all but the best label is held back.
        """
        walked = self.fitted.out_of_fold.walked
        return scores_of(walked.before or walked).tocsc()

    @cached_property
    def _truth(self) -> Flags:
        """True labels by columns."""
        return self.truth.tocsc()

    @cached_property
    def _chosen(self) -> Flags:
        """Chosen labels by columns."""
        return self.chosen.tocsc()

    def _path(self, name: str, rows: IntArray) -> FloatArray:
        """The path probability of a node at some rows, which ascend, float32; 0 where it was not visited."""
        column = self.column[name]
        visited = rows_in(self._paths, column)
        values = self._paths.data[self._paths.indptr[column] :][: len(visited)]
        at = np.searchsorted(visited, rows)
        return np.where(
            np.append(visited, -1)[at] == rows, np.append(values, np.float32(0))[at], np.float32(0)
        )

    # Labels that are one under two names

    def merges(self) -> Iterator[Candidate]:
        for one, other in self._alike():
            if min(self.count[one], self.count[other]) >= LEAST_ROWS and self._can_merge(one, other):
                found = self._merge(one, other)
                if found is not None:
                    yield found

    def _alike(self) -> list[tuple[int, int]]:
        """Pairs of labels with texts that are like each other's, or that go together."""
        counts = self.truth.astype(np.int64)
        both = triu(counts.T @ counts, 1).tocoo()
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
        rows = [rows_in(self._truth, at) for at in (into, label)]
        both = np.intersect1d(rows[0], rows[1], assume_unique=True)
        alone = [np.setdiff1d(side, both, assume_unique=True) for side in rows]
        if min(map(len, alone)) < LEAST_ROWS:
            n_rows = len(np.union1d(*rows))
            if len(both) < TOGETHER * n_rows:
                return None  # the one is told by the other, which mostly stands without it
            shown, why = both, f"{len(both):,} of the {n_rows:,} rows of either have both"
        else:
            told = self._told_apart(self.names[into], self.names[label], *alone)
            if told >= INSEPARABLE or self._company_differs(alone[0], alone[1], {one, other}):
                return None
            counts = " and ".join(f"{len(side):,}" for side in alone)
            shown, why = (
                np.union1d(*alone),
                f"of rows with one alone, {counts}, {told:.0%} of pairs are told apart, where 50% is chance",
            )
        edit = MergeLabels(self.names[label], self.names[into])
        doubt = np.minimum(*(self._path(self.names[at], shown) for at in (into, label)))
        return Candidate(edit, why, self._plainest(shown, doubt), float(len(shown)))

    def _told_apart(self, into: str, label: str, first: IntArray, second: IntArray) -> float:
        """The share of pairs of rows, one of each label alone, that scores put the right way round.

        That is the area under the ROC curve (Hanley and McNeil, Radiology 1982).
        """
        margins = [self._path(into, rows) - self._path(label, rows) for rows in (first, second)]
        order = np.sort(margins[1])
        below = np.searchsorted(order, margins[0], "left")
        upto = np.searchsorted(order, margins[0], "right")
        return float((below + upto).mean() / 2 / len(order))

    def _company_differs(self, first: IntArray, second: IntArray, apart: set[int]) -> bool:
        """Whether some other label goes with one of the two and not so with the other one.

        Then they mean something else, as do `good_value`, with `pleased`, and `too_expensive`, whatever
        a model makes of their words. By the test of two proportions, at `SURE` standard errors.
        """
        counts = [by_column(self.truth[rows]) for rows in (first, second)]
        rates = [own / len(rows) for own, rows in zip(counts, (first, second), strict=True)]
        pooled = (counts[0] + counts[1]) / (len(first) + len(second))
        error = np.sqrt(pooled * (1 - pooled) * (1 / len(first) + 1 / len(second)))
        differs = np.abs(rates[0] - rates[1]) > SURE * error
        differs[list(apart)] = False
        return bool(differs.any())

    # Labels that may belong elsewhere

    def moves(self) -> Iterator[Candidate]:
        for label, drawn in self._drawn.items():
            name = self.names[label]
            source = self.graph.parents[name][0]
            if self._stands_once(name) and self._is_home(source) and self._has_more(source):
                found = [self._move(label, source, *to) for to in drawn.items() if to[0] != source]
                best = max(filter(None, found), key=lambda one: one.hope, default=None)
                if best is not None:
                    yield best

    @cached_property
    def _drawn(self) -> dict[int, dict[str, float]]:
        """Where labels may belong: of each the groups that its rows without a label there are drawn to.

        With the path probability of the group at these rows, on average; where that may be enough for a move,
        and they are no fewer than `LEAST_ROWS`.
        """
        targets = [group for group in self.graph.groups if self._is_home(group) and group != ROOT]
        columns = [self.column[target] for target in targets]
        inside, paths = flags_of(self.nodes.only(columns)), self._paths[:, columns].tocsr()
        outside = only(paths, ~are_in(paths, inside))
        sums = joined(self.truth.T.tocsr(), outside.astype(np.float64))
        labels, at = rows_and_columns(sums)
        belonging = joined(self.truth.T.tocsr().astype(np.int64), inside.astype(np.int64))
        strangers = self.count[labels] - values_at(belonging, labels, at)
        shares = sums.data / np.maximum(strangers, 1)
        found: dict[int, dict[str, float]] = {}
        for place in np.flatnonzero((shares >= DRAWN_NEAR) & (strangers >= LEAST_ROWS)).tolist():
            found.setdefault(int(labels[place]), {})[targets[at[place]]] = float(shares[place])
        return found

    def _is_home(self, group: str) -> bool:
        """Whether labels may come to a group or leave it: facets ask another question of the same texts."""
        settings = self.taxonomy.groups[group]
        is_facet = settings.choose == "one" or (group != ROOT and self.taxonomy.is_always_visited(group))
        return not is_facet and bool(self._labels_in[group])

    @cached_property
    def _labels_in(self) -> dict[str, list[str]]:
        """The labels that are written in each group, not below it and not also in it."""
        found: dict[str, list[str]] = {}
        for group, children in self.graph.children.items():
            labels = (child for child in children if child in self.taxonomy.labels)
            found[group] = [one for one in labels if self.taxonomy.first_parent(one) == group]
        return found

    def _has_more(self, group: str) -> bool:
        return len(self._labels_in[group]) > 1

    def _move(self, label: int, source: str, target: str, drawn: float) -> Candidate | None:
        name = self.names[label]
        is_near = self._nearest.get(name) == target
        if drawn < (DRAWN_NEAR if is_near else DRAWN):
            return None
        if self.taxonomy.names == "path" and path_of(target, self.taxonomy.last_name(name)) in self.column:
            return None
        own = rows_in(self._truth, label)
        strangers = np.setdiff1d(own, self.nodes.of(self.column[target]), assume_unique=True)
        lost = np.setdiff1d(own, rows_in(self._chosen, label), assume_unique=True)
        reason = (
            f"{len(lost):,} of its {len(own):,} rows are missed; those without a label of "
            f"{target!r} reach that group with probability {drawn:.2f}"
            f"{', and its texts are nearest to those there' if is_near else ''}"
        )
        both = np.intersect1d(lost, strangers, assume_unique=True)
        shown = both if len(both) else strangers
        hope = float(self.missed[label]) * drawn * (1 + is_near)
        rows = self._plainest(shown, self._path(target, shown))
        return Candidate(MoveLabel(name, source, target), reason, rows, hope)

    @cached_property
    def _nearest(self) -> dict[str, str]:
        """The group whose labels' mean direction each label is nearest to, itself left out."""
        names, vectors = self.names, self._vectors
        homes = [group for group in self.graph.groups if group != ROOT and self._is_home(group)]
        if not homes:
            return {}
        members = [frozenset(self._labels_in[group]) for group in homes]
        inside = np.array([[name in own for name in names] for own in members], dtype=float)
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
        """What tells the texts of each label from those of the others, rows of unit length.

        By their words, and where there is an encoder by what they mean.
        """
        names = list(self.names)
        return label_vectors(names, *self._rows_with_labels(names), self.fitted.encode).vectors

    def _rows_with_labels(self, names: list[str]) -> tuple[list[str], list[list[str]]]:
        """The texts that have some of these labels, with those that they have."""
        truth = self._truth[:, [self.place[name] for name in names]].tocsr()
        places = np.flatnonzero(by_row(truth)).tolist()
        texts = [self.fitted.dataset.texts[int(self.rows[place])] for place in places]
        return texts, [[names[at] for at in columns_in(truth, place)] for place in places]

    # Groups that may be two

    def splits(self) -> Iterator[Candidate]:
        for group in self.graph.groups[1:]:
            labels = self._labels_in[group]
            if len(labels) >= SPLIT_LABELS and self._can_split(group, labels):
                known = label_vectors(labels, *self._rows_with_labels(labels), self.fitted.encode)
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
        places = [self.place[name] for name in labels]
        truth = self._truth[:, places].astype(np.float64)
        sums = (truth.T @ self._paths[:, [self.column[name] for name in labels]]).toarray()
        taken = sums / np.maximum(self.count[places], 1)[:, None]
        confused = taken + taken.T
        np.fill_diagonal(confused, 0)
        root = np.sqrt(np.maximum(confused.sum(axis=1), 1e-12))
        _, vectors = np.linalg.eigh(np.eye(len(labels)) - confused / root[:, None] / root[None, :])
        return _smaller(vectors[:, 1] / root > 0)

    def _can_split(self, group: str, labels: list[str]) -> bool:
        """Whether all that stands in a group are its own labels, and no row names the group alone."""
        whole = list(self.graph.children[group]) == labels and self._is_home(group)
        if not whole or len(self.graph.parents[group]) > 1:
            return False
        told = [self.nodes.of(self.column[child]) for child in labels]
        return not len(np.setdiff1d(self.nodes.of(self.column[group]), np.concatenate(told)))

    def _split(
        self, group: str, labels: list[str], leaving: tuple[int, ...], why: str, known: LabelVectors
    ) -> Candidate:
        staying = [place for place in range(len(labels)) if place not in leaving]
        new = group_names(labels, [staying, list(leaving)], known)[1]
        places, inside = [self.place[name] for name in labels], self.nodes.of(self.column[group])
        wrong = by_row((self._truth[:, places] != self._chosen[:, places]).tocsr())[inside]
        errors = int(wrong.sum())
        reason = f"{len(labels)} labels with {errors:,} errors in {len(inside):,} rows; {why}"
        edit = SplitGroup(group, self._free_name(group, new), tuple(labels[place] for place in leaving))
        rows = self._plainest(inside[wrong > 0], wrong[wrong > 0])
        return Candidate(edit, reason, rows, errors * SPLIT_SHARE)

    def _free_name(self, group: str, name: str) -> str:
        """The name, with a number where it is taken beside the group."""
        above = self.graph.parents[group][0]

        def is_taken(name: str) -> bool:
            if self.taxonomy.names == "path":
                return path_of(above, name) in self.column
            return self.taxonomy.resolve(name) is not None

        tries = (name, *(f"{name}_{number}" for number in range(2, 2 + len(self.graph.nodes))))
        return next(one for one in tries if not is_taken(one))

    def _plainest(self, shown: IntArray, by: FloatArray | IntArray) -> IntArray:
        """Positions of the rows shown, those with the most first."""
        return self.rows[shown[np.argsort(-by, kind="stable")]]


def _smaller(side: BoolArray) -> tuple[int, ...]:
    """Positions on the side that has fewer; of equal ones that without the first."""
    is_smaller = side.sum() * 2 < len(side) or (side.sum() * 2 == len(side) and not side[0])
    return tuple(np.flatnonzero(side if is_smaller else ~side).tolist())
