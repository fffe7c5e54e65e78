"""Which groups `fit` would train anew, from what it has before and after.

A node model is made of its backend, its children and the rows that reach it, and so is the name of its
folder. Where both sides are models, those names tell which differ. Else the rows are not known, and what can
be told is what follows from the taxonomies: surely, or only if rows carry the names that came or went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cascade.model.folder import nodes_of
from cascade.show.tree import TOP_LEVEL
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.members import Group

if TYPE_CHECKING:
    from cascade.model.folder import GroupRecord, Manifest


_UNKNOWN = "\n"
"""No name has a line break."""


@dataclass(frozen=True)
class Version:
    """One of the two that are compared; `manifest` is None for a taxonomy that is not fitted."""

    name: str
    taxonomy: Taxonomy
    manifest: Manifest | None = None

    def group(self, name: str) -> Group:
        """The settings of a group; KeyError for an unknown one."""
        return self.taxonomy.groups[name]

    def record(self, name: str) -> GroupRecord | None:
        """What was made for a group, if anything was."""
        return self.manifest.groups.get(name) if self.manifest else None


@dataclass(frozen=True)
class RetrainedGroup:
    """A group that would be trained anew, and why; not `sure` where it depends on rows."""

    group: str
    sure: bool
    reasons: tuple[str, ...]


def trained_groups(taxonomy: Taxonomy) -> list[str]:
    """The groups that have a node model, in the order of the graph."""
    return [group for group in taxonomy.graph.groups if taxonomy.scored_children(group)]


@dataclass(frozen=True)
class RetrainingRules:
    """What the node models of both sides are made of.

    Attributes
    ----------
    was : names of `after` to those that they had before, the root among them; new names are missing
    became : names of `before` to what they are called now, as themselves or as aliases
    """

    before: Version
    after: Version
    was: Mapping[str, str]
    became: Mapping[str, str]

    def retrained(self) -> Iterator[RetrainedGroup]:
        """The groups of `after` that a fit with the models of `before` at hand would train."""
        both = self.before.manifest is not None and self.after.manifest is not None
        for group in trained_groups(self.after.taxonomy):
            found = self.from_folders(group) if both else self.from_taxonomies(group)
            if found is not None:
                yield found

    def from_folders(self, group: str) -> RetrainedGroup | None:
        record = self.after.record(group)
        if record is None or self.known_folders.issuperset(record.nodes):
            return None
        reasons = (*self.certain_reasons(group), *self.row_reasons(group))
        unnamed = ("other texts, or other labels of them",)
        return RetrainedGroup(group or TOP_LEVEL, True, reasons or unnamed)

    @cached_property
    def known_folders(self) -> frozenset[str]:
        """The node folders of the model before."""
        return frozenset(nodes_of(self.before.manifest) if self.before.manifest else ())

    def from_taxonomies(self, group: str) -> RetrainedGroup | None:
        sure, possible_reasons = tuple(self.certain_reasons(group)), tuple(self.possible_reasons(group))
        if not sure and not possible_reasons:
            return None
        return RetrainedGroup(group or TOP_LEVEL, bool(sure), sure or possible_reasons)

    def certain_reasons(self, group: str) -> Iterator[str]:
        """What makes another node model whatever the rows are."""
        was = self.was.get(group, _UNKNOWN)
        if was not in self.trained_before:
            yield "new"
            return
        yield from self.version_reasons()
        yield from self.backend_reasons(group, was)
        yield from self.negatives_reasons(group, was, sure=True)
        yield from self.children_reasons(group, was)
        if self.before.group(was).route != self.after.group(group).route:
            yield f"route {self.before.group(was).route} -> {self.after.group(group).route}"
        exchanged = self.exchanged_labels(group, was) & self.lasting_labels
        if moved := exchanged - self.exchanged_children(group, was):
            yield f"other rows belong to it or to its children, with {_some(moved)}"

    def possible_reasons(self, group: str) -> Iterator[str]:
        """What makes another node model if rows carry the names that came or went."""
        was = self.was.get(group, _UNKNOWN)
        if was not in self.trained_before:
            return
        yield from self.negatives_reasons(group, was, sure=False)
        if changed := self.exchanged_labels(group, was) - self.lasting_labels:
            yield f"if rows carry {_some(changed)}"
        elif (changed := self.uncertain_labels) and self.learns_from_all(group, was):
            yield f"it learns from all rows, so if any carry {_some(changed)}"

    def version_reasons(self) -> Iterator[str]:
        """Other versions or another seed than the model before was made with."""
        old, new = self.before.manifest, self.after.manifest
        if old is None:
            return
        versions = new.versions if new else _installed(old.versions)
        for name, version in old.versions.items():
            if versions.get(name) != version:
                yield f"{name} {version} -> {versions.get(name)}"
        if new is not None and old.seed != new.seed:
            yield f"seed {old.seed} -> {new.seed}"

    def backend_reasons(self, group: str, was: str) -> Iterator[str]:
        old, new = self.before.taxonomy.backend_of(was), self.after.taxonomy.backend_of(group)
        if old.kind != new.kind:
            yield f"backend {old.kind} -> {new.kind}"
        elif old.options != new.options:
            names = {*old.options, *new.options}
            differing = {name for name in names if old.options.get(name) != new.options.get(name)}
            yield f"options of its backend: {_some(differing)}"
        elif _is_hosted(new.kind) and self.is_described_anew(group, was):
            yield "what the service is told of it: names, descriptions, aliases or choose"

    def is_described_anew(self, group: str, was: str) -> bool:
        """Whether a hosted model reads other things of a group than before."""
        from cascade.model.descriptions import description_of  # NumPy comes with it

        return description_of(self.before.taxonomy, was) != description_of(self.after.taxonomy, group)

    def negatives_reasons(self, group: str, was: str, *, sure: bool) -> Iterator[str]:
        """Another policy, which is sure where neither is left to a trial."""
        if group == ROOT or _is_hosted(self.after.group(group).backend.kind):
            return
        old, new = self.before.group(was).negatives, self.after.group(group).negatives
        made, makes = self.before.record(was), self.after.record(group)
        used_old, used_new = made.negatives if made else old, makes.negatives if makes else new
        settled = "auto" not in {used_old, used_new}
        if (old != new or (made and makes)) and used_old != used_new and settled is sure:
            yield f"negatives {used_old} -> {used_new}"

    def children_reasons(self, group: str, was: str) -> Iterator[str]:
        old, new = self.children(group, was)
        if came := [name for name in new if name not in old]:
            yield f"children came: {_some(came)}"
        if went := [name for name in old if name not in new]:
            yield f"children went: {_some(went)}"
        if list(old) != list(new) and not came and not went:
            yield "another order of its children"

    def children(self, group: str, was: str) -> tuple[dict[str, str], dict[str, str]]:
        """What the model of a group scores, before and after: name in the group -> name."""
        sides = ((self.before.taxonomy, was), (self.after.taxonomy, group))
        old, new = (
            {taxonomy.last_name(child): child for child in taxonomy.scored_children(name)}
            for taxonomy, name in sides
        )
        return old, new

    def exchanged_children(self, group: str, was: str) -> frozenset[str]:
        """Children on one side only, of which more need not be said."""
        old, new = self.children(group, was)
        went = {old[name] for name in old if name not in new}
        came = {new[name] for name in new if name not in old}
        return frozenset(went | came | {self.was.get(name, name) for name in came})

    def row_reasons(self, group: str) -> Iterator[str]:
        """Where both are models: how many rows each learnt from."""
        made, makes = self.before.record(self.was.get(group, group)), self.after.record(group)
        if made is None or makes is None:
            return
        if made.rows != makes.rows:
            yield f"rows {made.rows:,} -> {makes.rows:,}"
        elif sorted(made.positives) != sorted(makes.positives):
            yield "rows of its children"

    def exchanged_labels(self, group: str, was: str) -> frozenset[str]:
        """Labels whose rows belong to the group, or to a child that it keeps, on one side only."""
        changed = self.labels_reaching(self.before, was) ^ self.labels_reaching(self.after, group)
        old, new = self.children(group, was)
        for child in {*old} & {*new}:
            changed |= self.labels_of(self.before, old[child]) ^ self.labels_of(self.after, new[child])
        return frozenset(changed)

    def labels_reaching(self, side: Version, group: str) -> frozenset[str]:
        """The labels whose rows reach a group; all rows of its parents reach one that is always visited."""
        found = self.labels_below(side, group)
        if group != ROOT and side.group(group).route == "always":
            found = found.union(
                *(self.labels_reaching(side, parent) for parent in side.taxonomy.graph.parents[group])
            )
        return found

    def labels_of(self, side: Version, name: str) -> frozenset[str]:
        """The label itself, or all that is a group's; labels that were merged by their old names."""
        if name in side.taxonomy.groups:
            return self.labels_below(side, name) | (
                self.merged_into_groups if side is self.after else {}
            ).get(name, frozenset())
        return frozenset((name,) if side is self.before else self.old_labels.get(name, {name}))

    def labels_below(self, side: Version, group: str) -> frozenset[str]:
        """The labels below a group. Rows that only name the group itself teach it nothing."""
        graph = side.taxonomy.graph
        labels = frozenset().union(*(self.labels_of(side, label) for label in graph.descendant_labels(group)))
        if side is self.before:
            return labels
        taken = (
            labels
            for name, labels in self.merged_into_groups.items()
            if group in {ROOT, *graph.ancestors(name)}
        )
        return labels.union(*taken)

    @cached_property
    def old_labels(self) -> Mapping[str, set[str]]:
        """The old labels whose rows carry each name now."""
        found: dict[str, set[str]] = {}
        for label in self.before.taxonomy.graph.labels:
            if label in self.became:
                found.setdefault(self.became[label], set()).add(label)
        return found

    @cached_property
    def merged_into_groups(self) -> Mapping[str, frozenset[str]]:
        """Old labels that are aliases of a group now, by the group."""
        groups = self.old_labels.keys() & self.after.taxonomy.groups.keys()
        return {group: frozenset(self.old_labels[group]) for group in groups}

    @cached_property
    def all_before(self) -> frozenset[str]:
        return self.labels_of(self.before, ROOT)

    @cached_property
    def all_after(self) -> frozenset[str]:
        return self.labels_of(self.after, ROOT)

    @cached_property
    def uncertain_labels(self) -> frozenset[str]:
        """Labels with which rows come or go, or are known less of."""
        return (self.all_before ^ self.all_after).union(*self.merged_into_groups.values())

    @cached_property
    def lasting_labels(self) -> frozenset[str]:
        """Labels on both sides: if they stand elsewhere, so do rows."""
        return self.all_before & self.all_after

    @cached_property
    def trained_before(self) -> frozenset[str]:
        return frozenset(trained_groups(self.before.taxonomy))

    def learns_from_all(self, group: str, was: str) -> bool:
        made = self.before.record(was)
        policy = made.negatives if made else self.after.group(group).negatives
        return group == ROOT or policy == "all" or _is_hosted(self.after.group(group).backend.kind)


def _is_hosted(kind: str) -> bool:
    from cascade.backends import KINDS  # NumPy comes with it

    return kind in KINDS and KINDS[kind].hosted


def _installed(names: Iterable[str]) -> dict[str, str]:
    """What a fit would be made with now."""
    from importlib.metadata import PackageNotFoundError, version

    from cascade import __version__

    found = {"cascade": __version__}
    for name in names:
        try:
            found.setdefault(name, version(name))
        except PackageNotFoundError:
            found.setdefault(name, "not installed")
    return found


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names) if isinstance(names, (set, frozenset)) else list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(map(repr, listed[:most])) + more
