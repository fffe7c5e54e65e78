"""What becomes of each label in another taxonomy: sure from names and aliases, or decided by a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from cascade.changes.decisions import Decision, Question
from cascade.changes.difference import TaxonomyDifference, difference
from cascade.changes.retraining import Version
from cascade.errors import nearest
from cascade.rows.names import folded
from cascade.rows.spelling import NewLabels
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

Change = Literal["kept", "renamed", "moved", "merged", "split", "open", "removed"]
_MOST_CANDIDATES = 12
_GONE = "it is gone"
_REMEMBERED_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a label.

    Attributes
    ----------
    names
        What surely stands in its place.
    candidates
        One of these is meant besides, and a person says which.
    """

    change: Change
    names: tuple[str, ...]
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowChange:
    """What becomes of the labels of a row.

    `candidates` has all of which a person says which is meant, empty where nothing is open.
    """

    labels: NewLabels
    changes: tuple[Change, ...]
    candidates: tuple[str, ...]


class OldNames:
    """The names of the old taxonomy, with those apart that were aliases in it and have labels of their own.

    A row that says such a name says already which label is meant.
    """

    def __init__(self, old: Taxonomy, new: Taxonomy, found: TaxonomyDifference) -> None:
        self._old = old
        split = {one.name: one.into for one in found.split}
        self.owner = {}
        self._apart = {}
        for spelling in old.spellings() if split else ():
            now = new.resolve(spelling)
            if now in split and old.resolve(spelling) == split[now] != spelling:
                self._apart[spelling] = now
                self.owner[now] = split[now]

    def resolve(self, name: str) -> str | None:
        """The old name, or the new one of what was split off under that name; None when unknown."""
        return self._apart.get(name) or self._old.resolve(name)

    def suggest(self, name: str) -> str:
        return self._old.suggest(name)

    def spellings(self) -> Iterable[str]:
        return self._old.spellings()

    def is_below(self, name: str, group: str) -> bool:
        return self._old.is_below(self.owner.get(name, name), group)


@dataclass(frozen=True)
class LabelChanges:
    """The way from the names of one taxonomy to those of another.

    Parameters
    ----------
    decisions
        What a person said of some of the old names.
    """

    old: Taxonomy
    new: Taxonomy
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @cached_property
    def difference(self) -> TaxonomyDifference:
        return difference(Version("", self.old), Version("", self.new))

    @cached_property
    def old_names(self) -> OldNames:
        """By which the rows are read."""
        return OldNames(self.old, self.new, self.difference)

    def outcome(self, name: str) -> Outcome | None:
        """What becomes of an old name; None where nobody has said, and nothing tells."""
        if name not in self._outcomes:
            decision = self.decisions.get(name)
            self._outcomes[name] = self._told(name) if decision is None else self._decided(name, decision)
        return self._outcomes[name]

    @cached_property
    def _outcomes(self) -> dict[str, Outcome | None]:
        return {}

    def _told(self, name: str) -> Outcome | None:
        if name in self.old_names.owner:
            return Outcome("split", (name,))
        now = self.old.counterpart(name, self.new)
        if now is None or name in self._splits or self._became_group(name, now):
            return None
        return Outcome(self._change(name, now), (now,))

    def _decided(self, name: str, decision: Decision) -> Outcome:
        if decision.is_open:
            candidates = decision.names or self._candidates(name)
            sure = self._sure(candidates) if decision.names else self._nearest_group(name)
            return Outcome("open", (sure,) if sure else (), candidates)
        if not decision.names:
            return Outcome("removed", ())
        now = decision.names[0]
        return Outcome(self._change(name, now), (now,))

    def _change(self, name: str, now: str) -> Change:
        if any(one.name == name for one in self.difference.merged):
            return "merged"
        if name != now:
            was_there = now in self.old.graph.column and self.old.counterpart(now, self.new) == now
            return "merged" if was_there else "renamed"
        return "moved" if any(one.name == name for one in self.difference.moved) else "kept"

    @cached_property
    def _splits(self) -> dict[str, tuple[str, ...]]:
        """Old names that are still there -> the new ones that were aliases of them."""
        found: dict[str, list[str]] = {}
        for one in self.difference.split:
            found.setdefault(one.into, []).append(one.name)
        return {name: tuple(new) for name, new in found.items()}

    def _became_group(self, name: str, now: str) -> bool:
        return name in self.old.labels and now in self.new.groups

    # What is proposed

    def questions(self, rows: Mapping[str, int]) -> list[Question]:
        """What to ask about old names that so many rows have, where nothing tells what becomes of them."""
        order = (*self.old.graph.nodes, *self.old_names.owner)
        found = [
            self._question(name, rows[name]) for name in order if rows.get(name) and not self.outcome(name)
        ]
        taken = {one.proposal.names[0] for one in found if one.proposal.names and not one.proposal.is_open}
        return [
            one if one.why != _GONE else replace(one, proposal=one.proposal.without(taken)) for one in found
        ]

    def _question(self, name: str, rows: int) -> Question:
        now = self.old.counterpart(name, self.new)
        if name in self._splits:
            there = (now,) if now is not None else ()
            proposal = Decision((*there, *self._splits[name]), is_open=True)
            return Question(name, proposal, rows, "it was split")
        if now is not None:
            return Question(name, Decision((), is_open=True), rows, f"it is the group {now!r} now")
        return Question(name, self._proposal(name), rows, _GONE)

    def _proposal(self, name: str) -> Decision:
        fresh = [one.name for one in self.difference.added]
        called_so = self.new.paths.candidates(self.old.last_name(name))
        if meant := tuple(one for one in called_so if one in fresh) or called_so:
            return Decision(meant, is_open=len(meant) > 1)
        if (same := self._described_alike(name, fresh)) is not None:
            return Decision((same,))
        near = _named_like(self.old.last_name(name), {one: self.new.last_name(one) for one in fresh})
        if near is not None:
            return Decision((near,))
        group = self._nearest_group(name)
        if group in self.new.labels:
            return Decision((group,))
        below = self._candidates(name)
        if 1 < len(below) <= _MOST_CANDIDATES and group:
            return Decision(below, is_open=True)
        return Decision((group,)) if group else Decision(())

    def _described_alike(self, name: str, fresh: Sequence[str]) -> str | None:
        """The one new name that has an alias or the description of an old one; None for none or several."""
        old = self.old.node(name)
        meant = {folded(alias) for alias in old.aliases}
        found = [
            one
            for one in fresh
            if meant.intersection(map(folded, self.new.node(one).aliases))
            or (old.description and self.new.node(one).description == old.description)
        ]
        return found[0] if len(found) == 1 else None

    def _candidates(self, name: str) -> tuple[str, ...]:
        """Labels that may stand in the place of an old name: new ones in its group, else all of that."""
        group = self._nearest_group(name)
        if not group or group in self.new.labels:
            return (group,) if group else ()
        below = self.new.graph.descendant_labels(group)
        fresh = {one.name for one in self.difference.added}
        return tuple(one for one in below if one in fresh) or below

    def _nearest_group(self, name: str) -> str:
        """What the name is now, else the nearest group above it that is still there; `ROOT` for none."""
        while name != ROOT:
            now = self.old.counterpart(name, self.new)
            if now is not None:
                return now
            name = self.old.first_parent(name)
        return ROOT

    def _sure(self, candidates: Sequence[str]) -> str:
        """The deepest group that all of them stand in; `ROOT` for none."""
        graph = self.new.graph
        above = [graph.ancestors(one) | ({one} if one in self.new.groups else set()) for one in candidates]
        common = frozenset.intersection(*map(frozenset, above)) if above else frozenset()
        return max(common, key=lambda one: (graph.depth(one), -graph.column[one]), default=ROOT)

    # Rows

    def of_row(self, labels: tuple[str, ...]) -> RowChange:
        """What becomes of the labels of a row; KeyError for one of which nothing tells that."""
        found = self._rows.get(labels)
        if found is None:
            found = self._of_row(labels)
            if len(self._rows) < _REMEMBERED_ROWS:
                self._rows[labels] = found
        return found

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], RowChange]:
        return {}

    def _of_row(self, labels: Sequence[str]) -> RowChange:
        outcomes = {label: self._known(label) for label in labels}
        names = dict.fromkeys(name for one in outcomes.values() if not one.candidates for name in one.names)
        for one in outcomes.values():
            if one.candidates:  # the group is said where no more is known, and only there
                names |= dict.fromkeys(name for name in one.names if not self._is_said(name, names))
        became = {
            label: tuple(name for name in one.names if name in names) for label, one in outcomes.items()
        }
        candidates = dict.fromkeys(name for one in outcomes.values() for name in one.candidates)
        changes = tuple(one.change for one in outcomes.values())
        return RowChange(NewLabels(tuple(names), became), changes, tuple(candidates))

    def _known(self, label: str) -> Outcome:
        found = self.outcome(label)
        if found is None:
            raise KeyError(label)
        return found

    def _is_said(self, group: str, names: Iterable[str]) -> bool:
        return any(name == group or self.new.is_below(name, group) for name in names)

    def became(self) -> dict[str, tuple[str, ...]]:
        """Each old name -> what surely stands in its place; nothing for those that no row has."""
        names = (*self.old.graph.nodes, *self.old_names.owner)
        found = {name: self.outcome(name) for name in names}
        return {name: () if one is None else one.names for name, one in found.items()}


def _named_like(name: str, names: Mapping[str, str]) -> str | None:
    """The one whose last name is spelled much like `name`, or alone has all of its words; None for none."""
    near = nearest(name, names.values())
    if near is not None:
        return next(one for one, last in names.items() if last == near)
    words = set(folded(name).split())
    found = [one for one, last in names.items() if words <= set(folded(last).split())]
    return found[0] if len(found) == 1 else None


def count_changes(changes: Iterable[Change]) -> dict[str, int]:
    """How many labels of rows were changed in which way, in a fixed order."""
    counts = Counter(changes)
    order: tuple[Change, ...] = ("kept", "renamed", "moved", "merged", "split", "open", "removed")
    return {change: counts[change] for change in order if counts[change]}
