"""A whole taxonomy from its nodes, or every complaint about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

from yaml.nodes import MappingNode, Node

from cascade.errors import Place, Problem, TaxonomyError
from cascade.system.shapes import NAME, OFF, TEXT, Key, one_of
from cascade.taxonomy.data import DataSpec, read_data
from cascade.taxonomy.graph import ROOT, Graph
from cascade.taxonomy.groups import CHILDREN, GroupDraft, GroupReader, Occurrence
from cascade.taxonomy.members import Group, Label
from cascade.taxonomy.names import Names
from cascade.taxonomy.reader import check_extent, check_tags, children_first, either
from cascade.taxonomy.rules import check_tiers, check_whole, several_parents
from cascade.taxonomy.settings import (
    FIRST_LOOK,
    SETTING_KEYS,
    TIERS_SHAPE,
    BackendSpec,
    Combine,
    Settings,
    SettingsReader,
    VerifySpec,
)
from cascade.taxonomy.yaml_nodes import in_words, only_fault

_FOLDER = r'^[^\s./\\<>:"|?*\x00-\x1f]([^/\\<>:"|?*\x00-\x1f]*[^\s./\\<>:"|?*\x00-\x1f])?$(?!\n)'
"""Most of `_folder_fault`."""
TOP: Mapping[str, Key] = {
    "name": Key("Names the model folder.", NAME | {"pattern": _FOLDER, "not": {"type": "null"}}),
    "description": Key("What the taxonomy is about.", TEXT),
    "data": Key("Where the rows are.", {"$ref": "#/$defs/data"}),
    "combine": Key("How several parents combine.", one_of(get_args(Combine))),
    "names": Key(
        "plain: a name is what stands here; path: it is the path from the top.", one_of(get_args(Names))
    ),
    "first_look": Key(
        "The micro F1 that answers by words alone, without the encoder, may lose; or off.",
        {"anyOf": [{"type": "number", "minimum": 0, "exclusiveMaximum": 1}, OFF]},
    ),
    "escalate": Key(
        "The looks at a text, the cheapest first: each hands on what it doubts.",
        TIERS_SHAPE,
    ),
    "verify": Key("What is asked about doubtful labels again.", {"$ref": "#/$defs/verify"}),
    "defaults": Key("Settings of all groups.", {"$ref": "#/$defs/settings"}),
    "groups": CHILDREN["groups"],
    "labels": CHILDREN["labels"],
}
TOP_KEYS = tuple(TOP)
MAX_NAME_BYTES = 200
"""Room for a suffix within the 255 bytes that file systems allow a folder name."""

BackendCheck = Callable[[BackendSpec], Iterable[str]]


class Parts(NamedTuple):
    """What a `Taxonomy` is made of, in its order."""

    name: str
    description: str
    data: DataSpec
    combine: Combine
    groups: Mapping[str, Group]
    labels: Mapping[str, Label]
    graph: Graph
    source: str
    notes: tuple[Problem, ...]
    names: Names
    first_look: float | None
    escalate: tuple[str, ...]
    verify: VerifySpec | None


_FORBIDDEN_IN_FOLDERS = frozenset('/\\<>:"|?*')
_WINDOWS_DEVICES = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)))
)


def _folder_fault(name: str) -> str | None:
    """What makes a name unusable as a folder name on some system, or None."""
    bad = sorted(_FORBIDDEN_IN_FOLDERS.intersection(name))
    if bad:
        return f"contains {bad[0]!r}"
    if name.startswith(".") or name.endswith("."):
        return "begins or ends with a dot"
    if name.split(".", maxsplit=1)[0].rstrip().casefold() in _WINDOWS_DEVICES:
        return "is a device on Windows"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    return None


def _check_backends(reader: SettingsReader, check: BackendCheck) -> None:
    for spec in reader.backends:
        for message in check(spec):
            reader.complain(spec.place, message)


def parse(top: Node, reader: SettingsReader, base: Path, check_backend: BackendCheck | None) -> Parts:
    """The parts of the taxonomy that begins at node `top`; TaxonomyError with every complaint about it."""
    nodes = children_first(top, reader)
    check_extent(nodes, reader)
    check_tags(nodes, reader)
    if not isinstance(top, MappingNode):
        raise only_fault(
            reader.place(top), f"the top level is {in_words(top)}; expected a mapping with {either(TOP_KEYS)}"
        )
    given = reader.section(top, "the top level", TOP_KEYS)
    sound = not reader.faults
    name = _read_name(top, given, reader)
    combine = reader.choice(given["combine"], "combine", get_args(Combine)) if "combine" in given else "max"
    data = read_data(given, reader, base)
    names = _read_names(given, reader)
    loss = reader.first_look(given["first_look"], "first_look") if "first_look" in given else FIRST_LOOK
    escalate = reader.escalate(given["escalate"], "escalate") if "escalate" in given else ()
    verify = reader.verify(given["verify"], "verify") if "verify" in given else None
    found = _read_groups(top, given, reader, names, sound)
    description = found.description(given, "the taxonomy")
    check_whole(found)
    check_tiers(found, escalate)
    if check_backend is not None:
        _check_backends(reader, check_backend)
    if reader.problems or name is None:
        raise TaxonomyError(list(dict.fromkeys(reader.problems)))
    groups = {draft.name: _group(draft) for draft in found.drafts.values()}
    return Parts(
        name=name,
        description=description,
        data=data,
        combine="max" if combine == "max" else "noisy_or",
        groups=groups,
        labels={label: _label(occurrences) for label, occurrences in found.occurrences.items()},
        graph=Graph.build({group.name: group.children for group in groups.values()}, found.occurrences),
        source=reader.source,
        notes=tuple(several_parents(found)),
        names=names,
        first_look=loss,
        escalate=escalate,
        verify=verify,
    )


def _read_name(top: Node, given: Mapping[str, Node], reader: SettingsReader) -> str | None:
    if "name" not in given:
        reader.complain(top, "the key 'name' is missing; expected for instance `name: feedback`")
        return None
    named = reader.name(given["name"], "the name of the taxonomy")
    if named and (fault := _folder_fault(named.name)):
        why = "expected a name that can be a folder's"
        reader.complain(named.place, f"the name of the taxonomy, {named.name!r}, {fault}; {why}")
        return None
    return named.name if named else None


def _read_names(given: Mapping[str, Node], reader: SettingsReader) -> Names:
    """What a name is; ``path`` after a complaint, as fewer names are refused then."""
    names = reader.choice(given["names"], "names", get_args(Names)) if "names" in given else "plain"
    return "plain" if names == "plain" else "path"


def _read_groups(
    top: MappingNode, given: Mapping[str, Node], reader: SettingsReader, names: Names, sound: bool
) -> GroupReader:
    defaults = reader.section(given["defaults"], "defaults", SETTING_KEYS) if "defaults" in given else {}
    plain = Settings(backend=BackendSpec("linear", place=Place(reader.source)))
    settings = replace(plain, **reader.settings(defaults, "defaults"))
    found = GroupReader(reader, settings, names)
    root = GroupDraft(ROOT, ROOT, None, reader.place(top), replace(settings, route="always"), sound=sound)
    found.drafts[ROOT] = root
    found.children(root, given)
    return found


def _group(draft: GroupDraft) -> Group:
    return Group(
        name=draft.name,
        last_name=draft.last_name,
        description=draft.description,
        aliases=tuple(dict.fromkeys(named.name for named in draft.aliases)),
        children=tuple(draft.children),
        within=draft.within,
        places=(draft.place, *(named.place for named in draft.also_in)),
        choose=draft.settings.choose,
        route=draft.settings.route,
        threshold=draft.settings.threshold,
        negatives=draft.settings.negatives,
        back_off=draft.settings.back_off,
        backend=draft.settings.backend,
        escalate=draft.settings.escalate,
    )


def _label(occurrences: Sequence[Occurrence]) -> Label:
    return Label(
        name=occurrences[0].name,
        last_name=occurrences[0].last_name,
        within=occurrences[0].group,
        description=next((each.description for each in occurrences if each.description), ""),
        aliases=tuple(dict.fromkeys(alias.name for each in occurrences for alias in each.aliases)),
        threshold=next((each.threshold for each in occurrences if each.threshold is not None), None),
        places=tuple(place for each in occurrences for place in each.places),
    )
