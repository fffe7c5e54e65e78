"""Changes of a taxonomy: labels merged or moved, groups split, so that names in rows keep a meaning; words
for what has none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cascade.errors import Place, Problem, TaxonomyError
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import Names, joined
from cascade.taxonomy.settings import SETTING_KEYS

if TYPE_CHECKING:
    from cascade.taxonomy.definition import Taxonomy

TAKEN_OVER = (*SETTING_KEYS, "also_in")
"""What the second half of a group that is split has from the first."""


@dataclass(frozen=True)
class MergeLabels:
    """`label` becomes an alias of the label `into`."""

    label: str
    into: str


@dataclass(frozen=True)
class MoveLabel:
    """`label` goes from its one group to another one, behind the labels there."""

    label: str
    source: str
    target: str


@dataclass(frozen=True)
class SplitGroup:
    """`labels` leave their group for a new one beside it, which is called `new` and has the same settings."""

    group: str
    new: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Describe:
    """A group or a label gets a description and aliases, each only if it has none; empty ones are none."""

    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()


Edit = MergeLabels | MoveLabel | SplitGroup


def edited(taxonomy: Taxonomy, edits: Sequence[Edit | Describe]) -> Taxonomy:
    """The taxonomy after some changes, which name things as they are called before all of them.

    Names that came or went in rows still mean what they did: a merged label is an alias, and so is the old
    path of what is elsewhere by now, where names are paths.

    Raises
    ------
    TaxonomyError
        The result is no taxonomy, as where a name is taken already.
    KeyError
        A change names what is not there.
    """
    plain = copy.deepcopy(taxonomy.to_dict())
    for edit in edits:
        _Values(plain, taxonomy.names).apply(edit)
    return type(taxonomy).from_dict(plain, taxonomy.source, base=taxonomy.data.base)


def names_left_behind(last_name: str, aliases: Sequence[str], source: str, target: str | None) -> list[str]:
    """What rows may call a label that was in `source`, by paths; `target` is where it is now."""
    if source == target:
        return [last_name, *aliases]
    return [joined(source, name) for name in (last_name, *aliases)]


@dataclass(frozen=True)
class _Values:
    """A taxonomy as Python values, changed in place."""

    plain: dict[str, Any]
    names: Names

    def apply(self, edit: Edit | Describe) -> None:
        if isinstance(edit, MergeLabels):
            self.merge(edit)
        elif isinstance(edit, MoveLabel):
            self.move(edit)
        elif isinstance(edit, Describe):
            self.describe(edit)
        else:
            self.split(edit)

    def merge(self, edit: MergeLabels) -> None:
        source, gone = self.taken(edit.label)
        target, labels, place = self.found(edit.into)
        last_name, aliases = _name_of(gone), _aliases_of(gone)
        if self.names == "path":
            more = names_left_behind(last_name, aliases, source, target)
        else:
            more = [last_name, *aliases]
        labels[place] = _with_aliases(labels[place], more)

    def move(self, edit: MoveLabel) -> None:
        source, entry = self.taken(edit.label)
        self.section(edit.target).setdefault("labels", []).append(self.moved(entry, source))

    def split(self, edit: SplitGroup) -> None:
        taken = [self.moved(entry, source) for source, entry in map(self.taken, edit.labels)]
        section = self.section(edit.group)
        made = {key: copy.deepcopy(section[key]) for key in TAKEN_OVER if key in section}
        above = next(groups for groups in self.all_groups() if any(one is section for one in groups.values()))
        if edit.new in above:
            message = f"group {edit.new!r} is there already; expected a new name"
            raise TaxonomyError([Problem(Place("<edit>"), message)])
        items = list(above.items())
        place = next(at for at, (_, one) in enumerate(items) if one is section)
        items.insert(place + 1, (edit.new, made | {"labels": taken}))
        above.clear()
        above.update(items)

    def describe(self, edit: Describe) -> None:
        sections = dict(self.sections())
        if edit.name in sections:
            sections[edit.name].update(_words_missing(sections[edit.name], edit))
            return
        _, labels, place = self.found(edit.name)
        entry = {"name": labels[place]} if isinstance(labels[place], str) else dict(labels[place])
        labels[place] = entry | _words_missing(entry, edit)

    def moved(self, entry: Any, source: str) -> Any:
        if self.names == "plain" or source == ROOT:
            return entry
        return _with_aliases(entry, names_left_behind(_name_of(entry), _aliases_of(entry), source, None))

    def taken(self, label: str) -> tuple[str, Any]:
        """The group of a label and its entry, which is taken out."""
        group, labels, place = self.found(label)
        return group, labels.pop(place)

    def found(self, label: str) -> tuple[str, list[Any], int]:
        """The group of a label, its list and the place in it; KeyError where there is none."""
        for group, section in self.sections():
            for place, entry in enumerate(section.get("labels", ())):
                if self.full_name(group, _name_of(entry)) == label:
                    return group, section["labels"], place
        raise KeyError(label)

    def full_name(self, group: str, last_name: str) -> str:
        return joined(group, last_name) if self.names == "path" else last_name

    def section(self, group: str) -> dict[str, Any]:
        return dict(self.sections())[group]

    def sections(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from self._below(ROOT, self.plain)

    def _below(self, name: str, section: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        yield name, section
        for last_name, child in section.get("groups", {}).items():
            yield from self._below(self.full_name(name, last_name), child)

    def all_groups(self) -> Iterator[dict[str, Any]]:
        return (section["groups"] for _, section in self.sections() if "groups" in section)


def _words_missing(entry: Mapping[str, Any], edit: Describe) -> dict[str, Any]:
    words = {"description": edit.description, "aliases": list(edit.aliases)}
    return {key: value for key, value in words.items() if value and not entry.get(key)}


def _name_of(entry: str | Mapping[str, Any]) -> str:
    return entry if isinstance(entry, str) else str(entry["name"])


def _aliases_of(entry: str | Mapping[str, Any]) -> list[str]:
    return [] if isinstance(entry, str) else list(entry.get("aliases", []))


def _with_aliases(entry: str | Mapping[str, Any], more: Sequence[str]) -> dict[str, Any]:
    plain = {"name": entry} if isinstance(entry, str) else dict(entry)
    aliases = [*plain.get("aliases", []), *more]
    return plain | {"aliases": aliases}
