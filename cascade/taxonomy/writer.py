"""A taxonomy back in the format of its file, of JSON's types only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cascade.taxonomy.data import DATA_KEYS, DataSpec
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.members import Group, Label
from cascade.taxonomy.settings import AT_MOST, FIRST_LOOK, SETTING_KEYS, BackendSpec, Settings, Threshold

if TYPE_CHECKING:
    from cascade.taxonomy.definition import Taxonomy


def to_dict(taxonomy: Taxonomy) -> dict[str, Any]:
    root = taxonomy.groups[ROOT]
    plain: dict[str, Any] = {"name": taxonomy.name}
    if taxonomy.names != "plain":
        plain["names"] = taxonomy.names
    if taxonomy.description:
        plain["description"] = taxonomy.description
    if data := _data_to_dict(taxonomy.data):
        plain["data"] = data
    if taxonomy.combine != "max":
        plain["combine"] = taxonomy.combine
    if taxonomy.first_look != FIRST_LOOK:
        plain["first_look"] = False if taxonomy.first_look is None else taxonomy.first_look
    if taxonomy.escalate:
        plain["escalate"] = list(taxonomy.escalate)
    if taxonomy.verify is not None:
        asked, at_most = _setting_to_plain(taxonomy.verify.backend), taxonomy.verify.at_most
        plain["verify"] = {"backend": asked, **({} if at_most == AT_MOST else {"at_most": at_most})}
    if defaults := _settings_to_dict(root, Settings()):
        plain["defaults"] = defaults
    return plain | _Writer(taxonomy).children(root)


def _data_to_dict(data: DataSpec) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key in DATA_KEYS:
        value = getattr(data, key)
        if value not in (None, ()):
            plain[key] = list(value) if isinstance(value, tuple) else value
    return plain


def _settings_to_dict(group: Group, inherited: Settings) -> dict[str, Any]:
    """Those settings of `group` that differ from what it would inherit."""
    if group.backend != inherited.backend:
        inherited = replace(inherited, escalate=())
    plain: dict[str, Any] = {}
    for key in SETTING_KEYS:
        value = getattr(group, key)
        if value != getattr(inherited, key) and not (key == "route" and group.within is None):
            plain[key] = _setting_to_plain(value)
    return plain


def _setting_to_plain(value: Any) -> Any:
    if isinstance(value, Threshold):
        return _threshold_to_plain(value)
    if isinstance(value, BackendSpec):
        return {"kind": value.kind, **value.options} if value.options else value.kind
    if isinstance(value, tuple):
        return list(value) or False
    return value


def _threshold_to_plain(threshold: Threshold) -> Any:
    if threshold.kind in ("auto", "value"):
        return "auto" if threshold.kind == "auto" else threshold.value
    return {threshold.kind: threshold.value}


@dataclass
class _Writer:
    """Groups and labels in the file's format; what is known of a label is written where it first stands."""

    taxonomy: Taxonomy
    told: set[str] = field(default_factory=set)

    def children(self, group: Group) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name in group.children:
            if name in self.taxonomy.groups:
                child = self.taxonomy.groups[name]
                if child.within == group.name:
                    plain.setdefault("groups", {})[child.last_name] = self.group(child, group)
            elif self.taxonomy.names == "plain" or self.taxonomy.labels[name].within == group.name:
                plain.setdefault("labels", []).append(self.label(self.taxonomy.labels[name]))
        return plain

    def group(self, group: Group, within: Group) -> dict[str, Any]:
        root = self.taxonomy.groups[ROOT]
        plain = _about(group)
        plain |= _settings_to_dict(group, replace(_settings_of(within), choose=root.choose, route="model"))
        return plain | self.also_in(group) | self.children(group)

    def also_in(self, thing: Group | Label) -> dict[str, Any]:
        others = [name for name in self.taxonomy.graph.parents[thing.name] if name != thing.within]
        return {"also_in": others} if others else {}

    def label(self, label: Label) -> str | dict[str, Any]:
        about = {} if label.name in self.told else _about(label)
        if label.threshold is not None and label.name not in self.told:
            about["threshold"] = _threshold_to_plain(label.threshold)
        self.told.add(label.name)
        if self.taxonomy.names == "path":
            about |= self.also_in(label)
        return {"name": label.last_name, **about} if about else label.last_name


def _about(thing: Group | Label) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if thing.description:
        plain["description"] = thing.description
    if thing.aliases:
        plain["aliases"] = list(thing.aliases)
    return plain


def _settings_of(group: Group) -> Settings:
    return Settings(**{key: getattr(group, key) for key in SETTING_KEYS})
