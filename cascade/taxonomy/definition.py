"""The taxonomy file: read, checked as a whole, and frozen.

The file is read as YAML *nodes*, never as Python values: every complaint knows its line, and names stay
the strings that were written (``no``, ``1e3``, ``2024-01-01``). Mappings from Python become nodes as well,
so that there is one parser.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.errors import Problem, suggestion
from cascade.taxonomy.data import DataSpec
from cascade.taxonomy.graph import ROOT, Graph
from cascade.taxonomy.members import Group, Label
from cascade.taxonomy.names import SEPARATOR, Names, PathNames
from cascade.taxonomy.parser import BackendCheck, parse
from cascade.taxonomy.settings import (
    FIRST_LOOK,
    TIERS_OPTION,
    BackendSpec,
    Combine,
    SettingsReader,
    Threshold,
    VerifySpec,
)
from cascade.taxonomy.writer import to_dict
from cascade.taxonomy.yaml_nodes import compose, read_text, represent

if TYPE_CHECKING:
    from cascade.grouping.meaning import Encode


@dataclass(frozen=True, repr=False)
class Taxonomy:
    """A whole taxonomy file without faults.

    `groups` begins with the root and is in the order of the file, as is `labels`. `notes` is advice: things
    that are allowed but may be accidents. With `names` ``path`` the name of a group or a label is its path
    from the top, such as ``billing/tax``; with ``plain`` it is what the file calls it. `first_look` is the
    micro F1 that answers by words alone may lose where there is an encoder, None for no such answers;
    `escalate` names the looks that a text gets, the cheapest first; `verify` is what doubtful labels are
    asked about again, None for nothing. Two taxonomies are equal when all but places, source and notes are.
    """

    name: str
    description: str
    data: DataSpec
    combine: Combine
    groups: Mapping[str, Group]
    labels: Mapping[str, Label]
    graph: Graph
    source: str = field(default="<dict>", compare=False)
    notes: tuple[Problem, ...] = field(default=(), compare=False)
    names: Names = "plain"
    first_look: float | None = FIRST_LOOK
    escalate: tuple[str, ...] = ()
    verify: VerifySpec | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], check_backend: BackendCheck | None = None) -> Taxonomy:
        """The taxonomy in the YAML file `path`.

        Parameters
        ----------
        check_backend : called once for each backend that the file names; each string it gives becomes a
            complaint at that backend's place

        Raises
        ------
        TaxonomyError
            With every complaint about the file at once.
        """
        source = os.fspath(path)
        return cls.of_text(read_text(source), source, base=Path(source).parent, check_backend=check_backend)

    @classmethod
    def of_text(
        cls,
        text: str,
        source: str = "<text>",
        *,
        base: str | os.PathLike[str] = "",
        check_backend: BackendCheck | None = None,
    ) -> Taxonomy:
        """The taxonomy in the text of a YAML file that need not be there; otherwise as `load`."""
        top = compose(text, source)
        return cls(*parse(top, SettingsReader(source, from_file=True), Path(base), check_backend))

    @classmethod
    def from_dict(
        cls,
        mapping: Mapping[str, Any],
        source: str = "<dict>",
        *,
        base: str | os.PathLike[str] = "",
        check_backend: BackendCheck | None = None,
    ) -> Taxonomy:
        """The taxonomy in Python values of the file's own format; names must be strings.

        Parameters
        ----------
        source : stands before each complaint
        base : the folder that paths in ``data`` are relative to, by default the working folder

        Raises
        ------
        TaxonomyError
            With every complaint about `mapping` at once.
        """
        top = represent(mapping, source)
        return cls(*parse(top, SettingsReader(source, from_file=False), Path(base), check_backend))

    @classmethod
    def from_rows(
        cls,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]],
        *,
        name: str = "taxonomy",
        groups: int | None = None,
        encode: Encode | None = None,
    ) -> Taxonomy:
        """A taxonomy of the labels of some rows, in groups proposed from their texts, names and company.

        How: `cascade.grouping.proposal.propose_groups`. What is like nothing else stands at the top level.

        Parameters
        ----------
        groups : how many groups; by default settled by the data, with none for fewer than eight labels
        encode : gives texts their vectors, as `cascade.nodes.meaning.reader` of an encoder does: labels are
            alike in what they mean, too

        Raises
        ------
        TaxonomyError
            No row has a label, or a label is no name.
        ValueError
            `groups` is less than 1, or texts and labels differ in number.
        """
        from cascade.grouping.proposal import propose_groups

        proposed = propose_groups(texts, labels, n_groups=groups, encode=encode)
        given = {group: {"labels": list(own)} for group, own in proposed.groups.items()}
        return cls.from_dict({"name": name, "groups": given, "labels": list(proposed.alone)}, source="<rows>")

    def to_dict(self) -> dict[str, Any]:
        """The same taxonomy in the file's own format, of JSON's types only.

        `from_dict` of it is equal to this one. The order of keys counts, so JSON must not be sorted.
        """
        return to_dict(self)

    def resolve(self, name: str) -> str | None:
        """The label or group that `name` means, as its name or as an alias; None when unknown.

        Where names are paths: a whole path, by any parent and with aliases in the place of last names, else
        the end of one if no other path ends so; None when ambiguous.
        """
        return self._meanings.get(name) if self.names == "plain" else self.paths.resolve(name)

    def suggest(self, name: str) -> str:
        """`` Did you mean 'x'?`` with the name or alias nearest to `name`, or an empty string.

        Where names are paths and `name` is the end of several:
        `` 'x' may be 'a/x' or 'b/x'; write the path.``
        """
        return suggestion(name, self._meanings) if self.names == "plain" else self.paths.suggest(name)

    def __repr__(self) -> str:
        groups, labels = len(self.groups) - 1, len(self.labels)
        return f"Taxonomy {self.name!r}: {labels:,} labels in {groups:,} groups"

    def _repr_html_(self) -> str:
        # What draws trees lies downstream of this folder, and only a notebook asks for it here.
        html: str = import_module("cascade.show.notebook").taxonomy_html(self)
        return html

    def node(self, name: str) -> Group | Label:
        """The group or label of this name; KeyError for an unknown one."""
        return self.groups[name] if name in self.groups else self.labels[name]

    def last_name(self, name: str) -> str:
        """What a group or label is called in its groups, where no other has that name."""
        return self.node(name).last_name

    def path_to(self, name: str) -> tuple[str, ...]:
        """The last names from the top down to a group or label, by its first parents; empty for the root.

        Where names are paths these are the parts of the name.
        """
        found: list[str] = []
        while name != ROOT:
            found.append(self.last_name(name))
            name = self.first_parent(name)
        return tuple(reversed(found))

    def first_parent(self, name: str) -> str:
        """The parent that counts where one has to; KeyError for the root and unknown names."""
        within = self.node(name).within if self.names == "path" else None
        return self.graph.parents[name][0] if within is None else within

    def counterpart(self, name: str, other: Taxonomy) -> str | None:
        """What a group or label of this taxonomy is called in another one, as itself or as an alias.

        Where names are paths in one of them only, what stands at the same place, or else has the same last
        name if that is clear in both. None where there is none.
        """
        if self.names == other.names:
            return other.resolve(name) if other.names == "plain" else other.paths.at(name)
        found = other.paths.at(SEPARATOR.join(self.path_to(name)))
        last_name = self.last_name(name)
        is_clear = self.resolve(last_name) == name  # else it may mean what is called so elsewhere
        return other.resolve(last_name) if found is None and is_clear else found

    def spellings(self) -> Iterable[str]:
        """All names that `resolve` knows; where names are paths, ends that mean several things as well."""
        return self._meanings if self.names == "plain" else self.paths.spellings()

    def is_below(self, name: str, group: str) -> bool:
        """Whether the canonical `name` stands in the canonical `group`, at any depth."""
        return group in self.graph.ancestors(name)

    def threshold_of(self, label: str) -> Threshold:
        """The label's own threshold, else that of its first parent; KeyError for an unknown label."""
        own = self.labels[label].threshold
        return own if own is not None else self.groups[self.first_parent(label)].threshold

    def scored_children(self, group: str) -> tuple[str, ...]:
        """The children that the node model of `group` scores: all but the groups that are always visited."""
        return tuple(child for child in self.graph.children[group] if not self.is_always_visited(child))

    def backend_of(self, group: str) -> BackendSpec:
        """The backend that makes the node model of a group, KeyError for an unknown one.

        Where cheaper tiers come before it these stand among its options, under `TIERS_OPTION`, with the micro
        F1 that they may lose. With ``first_look: off`` nothing is answered by anything cheaper.
        """
        own = self.groups[group]
        if not own.escalate or self.first_look is None:
            return own.backend
        told = {"tiers": list(own.escalate), "most_lost": self.first_look}
        return replace(own.backend, options={**own.backend.options, TIERS_OPTION: told})

    @property
    def has_tiers(self) -> bool:
        """Whether something cheaper is named under ``escalate``, for whole rows or at a group."""
        return bool(self.escalate) or any(group.escalate for group in self.groups.values())

    def is_always_visited(self, name: str) -> bool:
        """Whether `name` is a group that is visited wherever a parent is, with conditional score 1."""
        return name in self.groups and name != ROOT and self.groups[name].route == "always"

    @cached_property
    def paths(self) -> PathNames:
        """What paths and their ends mean, also where names are plain."""
        nodes = [self.node(name) for name in self.graph.nodes]
        parts = {node.name: (node.last_name, *node.aliases) for node in nodes}
        return PathNames(parts, self.graph.parents)

    @cached_property
    def _meanings(self) -> dict[str, str]:
        named: list[Group | Label] = [*self.groups.values(), *self.labels.values()]
        meanings = {alias: thing.name for thing in named for alias in thing.aliases}
        meanings.update({thing.name: thing.name for thing in named})
        meanings.pop(ROOT)
        return meanings
