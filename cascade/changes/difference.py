"""What became of a taxonomy or a model: names, settings, F1, and the groups that `fit` would train anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from cascade.changes.retraining import RetrainedGroup, RetrainingRules, Version, trained_groups
from cascade.show.tree import TOP_LEVEL
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.members import Group, Label
from cascade.taxonomy.settings import Threshold, VerifySpec

if TYPE_CHECKING:
    from cascade.model.folder import Manifest

Kind = Literal["label", "group"]

_GROUP_SETTINGS = (
    "description", "aliases", "choose", "route", "threshold", "negatives", "back_off", "backend", "escalate"
)  # fmt: skip
_LABEL_SETTINGS = ("description", "aliases", "threshold")


@dataclass(frozen=True)
class NodePlace:
    """A label or a group on one side only, and its parents there, the root as `TOP_LEVEL`."""

    name: str
    kind: Kind
    parents: tuple[str, ...]


@dataclass(frozen=True)
class NodeMove:
    """A name with other parents than before; the root is `TOP_LEVEL`."""

    name: str
    kind: Kind
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class AliasChange:
    """A name that is an alias of another one on the other side."""

    name: str
    into: str
    kind: Kind


@dataclass(frozen=True)
class SettingChange:
    """A setting of a group or a label that was changed, written as in the file; None where there is none."""

    name: str
    kind: Literal["label", "group", "taxonomy"]
    setting: str
    before: Any
    after: Any


@dataclass(frozen=True)
class F1Change:
    """The out-of-fold F1 of a label in both models, each in [0, 1]; a renamed label has its new name."""

    label: str
    before: float
    after: float


@dataclass(frozen=True)
class TaxonomyDifference:
    """What changed from one side to the other, names in the order of the taxonomies.

    Attributes
    ----------
    renamed : names whose old one is an alias of a new one
    paths : names of what is called the same in its group, and whose name is its path on one side only
    merged : names that are now an alias of a name that was there already, or of one that takes several
    split : new names that were an alias of a name that is still there
    moved : names on both sides with other parents
    f1 : labels whose F1 differs, the greatest change first; empty unless both are models
    overall : micro and macro F1, before and after; empty unless both are models
    retrained : groups of `after` that `fit` would train
    kept : how many groups it would take as they are
    rows_known : whether that comes from the content of node models, not from taxonomies alone
    """

    before: str
    after: str
    added: tuple[NodePlace, ...] = ()
    removed: tuple[NodePlace, ...] = ()
    renamed: tuple[AliasChange, ...] = ()
    paths: tuple[AliasChange, ...] = ()
    merged: tuple[AliasChange, ...] = ()
    split: tuple[AliasChange, ...] = ()
    moved: tuple[NodeMove, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    f1: tuple[F1Change, ...] = ()
    overall: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    retrained: tuple[RetrainedGroup, ...] = ()
    kept: int = 0
    rows_known: bool = False

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return asdict(self)


def difference(before: Version, after: Version) -> TaxonomyDifference:
    """What changed from `before` to `after`."""
    names = _NameMatching(before.taxonomy, after.taxonomy)
    retrained = tuple(RetrainingRules(before, after, names.was, names.became).retrained())
    return TaxonomyDifference(
        before=before.name,
        after=after.name,
        added=names.added,
        removed=names.removed,
        renamed=tuple(one for one in names.renamed if one not in names.paths),
        paths=names.paths,
        merged=names.merged,
        split=names.split,
        moved=tuple(names.moves()),
        settings=tuple(_settings(names)),
        f1=_f1_changes(before.manifest, after.manifest, names.was),
        overall=_overall(before.manifest, after.manifest),
        retrained=retrained,
        kept=len(trained_groups(after.taxonomy)) - len(retrained),
        rows_known=before.manifest is not None and after.manifest is not None,
    )


# Names


@dataclass(frozen=True)
class _NameMatching:
    """Which name of one taxonomy is which of the other; by place where names are paths on one side only."""

    before: Taxonomy
    after: Taxonomy

    @cached_property
    def became(self) -> dict[str, str]:
        """What each old name is called now, as itself or as an alias; a name that is gone is left out."""
        found = {name: self.before.counterpart(name, self.after) for name in self.before.graph.nodes}
        return {ROOT: ROOT} | {name: now for name, now in found.items() if now is not None}

    @cached_property
    def was(self) -> dict[str, str]:
        """The old name of each that is there still, under its own or a new name."""
        same = {name: name for name in (ROOT, *self.after.graph.nodes) if name in self.same}
        return same | {one.into: one.name for one in self.renamed}

    @cached_property
    def same(self) -> frozenset[str]:
        """Names on both sides."""
        return frozenset(name for name, now in self.became.items() if name == now)

    @cached_property
    def _aliased(self) -> tuple[AliasChange, ...]:
        gone = [name for name in self.before.graph.nodes if name not in self.same and name in self.became]
        return tuple(AliasChange(name, self.became[name], _kind(self.before, name)) for name in gone)

    @cached_property
    def renamed(self) -> tuple[AliasChange, ...]:
        targets = [one.into for one in self._aliased]
        return tuple(
            one
            for one in self._aliased
            if one.into not in self.same
            and targets.count(one.into) == 1
            and one.kind == _kind(self.after, one.into)
        )

    @property
    def merged(self) -> tuple[AliasChange, ...]:
        return tuple(one for one in self._aliased if one not in self.renamed)

    @cached_property
    def paths(self) -> tuple[AliasChange, ...]:
        if self.before.names == self.after.names:
            return ()
        old, new = self.before.last_name, self.after.last_name
        return tuple(one for one in self.renamed if old(one.name) == new(one.into))

    @property
    def split(self) -> tuple[AliasChange, ...]:
        fresh = [name for name in self.after.graph.nodes if name not in self.was]
        lasting = frozenset(self.was.values())
        whole = {name: self.after.counterpart(name, self.before) for name in fresh}
        return tuple(
            AliasChange(name, into, _kind(self.after, name))
            for name, into in whole.items()
            if into in lasting and into
        )

    @property
    def added(self) -> tuple[NodePlace, ...]:
        known = {*self.was, *(one.name for one in self.split)}
        fresh = [name for name in self.after.graph.nodes if name not in known]
        turned = [name for name in self.after.graph.nodes if self._changed_kind(name)]
        return tuple(_node_place(self.after, name) for name in (*fresh, *turned))

    @property
    def removed(self) -> tuple[NodePlace, ...]:
        gone = [
            name for name in self.before.graph.nodes if name not in self.became or self._changed_kind(name)
        ]
        return tuple(_node_place(self.before, name) for name in gone)

    def _changed_kind(self, name: str) -> bool:
        """Whether a label became a group of that name, or a group a label."""
        return name in self.same and _kind(self.before, name) != _kind(self.after, name)

    def moves(self) -> Iterator[NodeMove]:
        """Names on both sides whose parents are others, in whatever order."""
        for name in self.after.graph.nodes:
            if name in self.was:
                before = self.before.graph.parents[self.was[name]]
                after = self.after.graph.parents[name]
                if {self.became.get(parent) for parent in before} != set(after):
                    yield NodeMove(name, _kind(self.after, name), _shown(before), _shown(after))


def _kind(taxonomy: Taxonomy, name: str) -> Kind:
    return "group" if name in taxonomy.groups else "label"


def _node_place(taxonomy: Taxonomy, name: str) -> NodePlace:
    return NodePlace(name, _kind(taxonomy, name), _shown(taxonomy.graph.parents[name]))


def _shown(parents: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(parent or TOP_LEVEL for parent in parents)


# Settings


def _settings(names: _NameMatching) -> Iterator[SettingChange]:
    before, after = names.before, names.after
    for what in ("name", "description", "combine", "names", "first_look", "escalate", "verify"):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            yield SettingChange(after.name, "taxonomy", what, _of_taxonomy(old), _of_taxonomy(new))
    for name in (ROOT, *after.graph.nodes):
        was = names.was.get(name)
        if was is not None and _kind(before, was) == _kind(after, name):
            yield from _changed(name, before.node(was), after.node(name))


def _of_taxonomy(value: Any) -> Any:
    if isinstance(value, VerifySpec):
        return {"backend": _plain(value.backend), "at_most": value.at_most}
    return value


def _changed(name: str, before: Group | Label, after: Group | Label) -> Iterator[SettingChange]:
    kind: Kind = "group" if isinstance(after, Group) else "label"
    for setting in _GROUP_SETTINGS if kind == "group" else _LABEL_SETTINGS:
        old, new = getattr(before, setting), getattr(after, setting)
        if old != new:
            yield SettingChange(name or TOP_LEVEL, kind, setting, _plain(old), _plain(new))


def _plain(value: Any) -> Any:
    if isinstance(value, Threshold):
        return {"auto": "auto", "value": value.value}.get(value.kind, f"{value.kind} {value.value}")
    if hasattr(value, "options"):
        return {"kind": value.kind, **value.options} if value.options else value.kind
    return list(value) if isinstance(value, tuple) else value


# Figures


def _f1_changes(
    before: Manifest | None, after: Manifest | None, was: Mapping[str, str]
) -> tuple[F1Change, ...]:
    if before is None or after is None:
        return ()
    old, new = before.metrics.get("f1", {}), after.metrics.get("f1", {})
    changes = [F1Change(label, old[was[label]], new[label]) for label in new if was.get(label) in old]
    differing = [one for one in changes if one.before != one.after]
    return tuple(sorted(differing, key=lambda one: -abs(one.after - one.before)))


def _overall(before: Manifest | None, after: Manifest | None) -> dict[str, tuple[float, float]]:
    if before is None or after is None:
        return {}
    wanted = [name for name in ("micro_f1", "macro_f1") if name in before.metrics and name in after.metrics]
    return {name: (before.metrics[name], after.metrics[name]) for name in wanted}
