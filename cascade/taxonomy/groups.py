"""The groups and labels of a file as they are written, read from the top down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import Place, suggestion
from cascade.system.shapes import NAME, NAMES, TEXT, Key
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import Names, PathNames, joined
from cascade.taxonomy.reader import PlacedName, first_on_line
from cascade.taxonomy.settings import SETTINGS, Settings, SettingsReader, Threshold
from cascade.taxonomy.yaml_nodes import TAG, in_words, is_null

CHILDREN: Mapping[str, Key] = {
    "labels": Key(
        "Its labels: names, or mappings with name, description, aliases and threshold.",
        {"type": "array", "items": {"$ref": "#/$defs/label"}},
    ),
    "groups": Key(
        "Its groups, by name.",
        {"type": "object", "propertyNames": NAME, "additionalProperties": {"$ref": "#/$defs/group"}},
    ),
}
GROUP: Mapping[str, Key] = {
    "description": Key("What the group is about, for people.", TEXT),
    "aliases": Key("Other names that the data have for it.", NAMES),
    **SETTINGS,
    **CHILDREN,
    "also_in": Key("Further groups that this group stands in.", NAMES),
}
LABEL: Mapping[str, Key] = {
    "name": Key("The name of the label.", NAME),
    "description": Key("What the label means, for people.", TEXT),
    "aliases": Key("Other names that the data have for it.", NAMES),
    "threshold": SETTINGS["threshold"],
    "also_in": Key("Further groups that this label stands in; with names: path only.", NAMES),
}
GROUP_KEYS = tuple(GROUP)
PATH_LABEL_KEYS = tuple(LABEL)
LABEL_KEYS = tuple(key for key in LABEL if key != "also_in")
"""Without paths a name is repeated in each group instead."""


@dataclass(frozen=True)
class Occurrence:
    """A label at one place of the file; `name` is its path where names are paths."""

    group: str
    name: str
    last_name: str
    place: Place
    description: str = ""
    aliases: tuple[PlacedName, ...] = ()
    threshold: Threshold | None = None
    also_in: tuple[PlacedName, ...] = ()

    @property
    def title(self) -> str:
        return f"label {self.name!r}"

    @property
    def places(self) -> tuple[Place, ...]:
        return (self.place, *(named.place for named in self.also_in))


@dataclass
class GroupDraft:
    """A group while the file is read; `sound` tells whether its children could be read without complaint."""

    name: str
    last_name: str
    within: str | None
    place: Place
    settings: Settings
    description: str = ""
    aliases: list[PlacedName] = field(default_factory=list)
    also_in: list[PlacedName] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    sound: bool = True

    @property
    def title(self) -> str:
        return f"group {self.name!r}" if self.name else "the top level"


@dataclass
class GroupReader:
    """Goes down the groups of a file and notes what stands where."""

    reader: SettingsReader
    defaults: Settings
    names: Names = "plain"
    drafts: dict[str, GroupDraft] = field(default_factory=dict)
    occurrences: dict[str, list[Occurrence]] = field(default_factory=dict)

    def children(self, draft: GroupDraft, given: Mapping[str, Node]) -> None:
        """Reads ``labels`` and ``groups`` of a group, in the order in which they are written."""
        before = self.reader.faults
        for key, node in given.items():
            if key == "labels":
                self.labels(draft, node)
            elif key == "groups":
                self.groups(draft, node)
        draft.sound = draft.sound and self.reader.faults == before

    def groups(self, draft: GroupDraft, node: Node) -> None:
        what, expected = f"groups of {draft.title}", "a mapping such as {billing: {labels: [refund]}}"
        for key_node, value in self.reader.mapping(node, what, expected).values():
            written = self.reader.name(key_node, f"the name of a group in {draft.title}")
            if written and self._defined_once(named := self.named(written, draft), draft):
                draft.children.append(named.name)
                self.group(named, written.name, value, draft)

    def named(self, written: PlacedName, within: GroupDraft) -> PlacedName:
        """What is called so in a group, by the name that it has everywhere."""
        if self.names == "plain":
            return written
        return PlacedName(joined(within.name, written.name), written.place)

    def _defined_once(self, named: PlacedName, within: GroupDraft) -> bool:
        first = self.drafts.get(named.name)
        if first is None:
            return True
        if self.names == "path":
            way_out = f"the one in {within.title} has the same path: rename one of them"
        else:
            way_out = f"write `also_in: [{within.name}]` there instead" if within.name else "keep one"
            way_out += two_by_path(within.name != first.within)
        again = f"group {named.name!r} is defined twice{first_on_line(first.place)}"
        self.reader.complain(named.place, f"{again}; {way_out}")
        return False

    def group(self, named: PlacedName, last_name: str, node: Node, within: GroupDraft) -> None:
        reader, what = self.reader, f"group {named.name!r}"
        inherited = replace(within.settings, choose=self.defaults.choose, route=self.defaults.route)
        draft = GroupDraft(named.name, last_name, within.name, named.place, inherited)
        self.drafts[named.name] = draft
        before = reader.faults
        given = self.group_section(node, what)
        draft.sound = reader.faults == before
        draft.settings = replace(inherited, **reader.settings(given, what))
        draft.description = self.description(given, what)
        draft.aliases = reader.names(given["aliases"], f"an alias of {what}") if "aliases" in given else []
        draft.also_in = reader.names(given["also_in"], f"also_in of {what}") if "also_in" in given else []
        self.children(draft, given)

    def group_section(self, node: Node, what: str) -> dict[str, Node]:
        if is_null(node):
            return {}
        if isinstance(node, SequenceNode):
            self.reader.complain(node, f"{what} is a list; expected a mapping such as {{labels: [refund]}}")
            return {}
        return self.reader.section(node, what, GROUP_KEYS)

    def description(self, given: Mapping[str, Node], what: str) -> str:
        return (
            self.reader.text(given["description"], f"description of {what}") or ""
            if "description" in given
            else ""
        )

    def labels(self, draft: GroupDraft, node: Node) -> None:
        what = f"labels of {draft.title}"
        if isinstance(node, SequenceNode):
            for each in node.value:
                found = self.label(each, draft)
                if found and self._once_in_group(found, draft):
                    draft.children.append(found.name)
                    self.occurrences.setdefault(found.name, []).append(found)
        else:
            hint = "[refund]" if isinstance(node, ScalarNode) else "[{name: refund, description: Money back}]"
            self.reader.complain(node, f"{what} is {in_words(node)}; expected a list such as {hint}")

    def _once_in_group(self, found: Occurrence, draft: GroupDraft) -> bool:
        others = self.occurrences.get(found.name, [])
        first = next((old for old in others if old.group == draft.name or self.names == "path"), None)
        if first is None:
            return True
        if first.group == draft.name:
            message, way_out = f"stands twice in {draft.title}", "keep one"
        else:
            message, way_out = "is the path of two labels", "rename one of them"
        self.reader.complain(found.place, f"{found.title} {message}{first_on_line(first.place)}; {way_out}")
        return False

    def label(self, node: Node, draft: GroupDraft) -> Occurrence | None:
        what = f"a label of {draft.title}"
        if isinstance(node, MappingNode):
            return self._long_label(node, draft, what)
        if isinstance(node, SequenceNode):
            self.reader.complain(node, f"{what} is a list; expected a name or a mapping with the key 'name'")
            return None
        written = self.reader.name(node, f"the name of {what}")
        if written is None:
            return None
        return Occurrence(draft.name, self.named(written, draft).name, written.name, written.place)

    def _long_label(self, node: MappingNode, draft: GroupDraft, what: str) -> Occurrence | None:
        if slip := _short_form_slip(node):
            self.reader.complain(node, f"{what} has the one key {node.value[0][0].value!r}; expected {slip}")
            return None
        reader = self.reader
        before = reader.faults
        given = reader.section(node, what, PATH_LABEL_KEYS if self.names == "path" else LABEL_KEYS)
        if "name" not in given:
            if reader.faults == before:
                reader.complain(node, f"{what} has no key 'name'; expected for instance {{name: refund}}")
            return None
        written = reader.name(given["name"], f"the name of {what}")
        named = self.named(written, draft) if written else None
        title = f"label {named.name!r}" if named else what
        aliases = reader.names(given["aliases"], f"an alias of {title}") if "aliases" in given else []
        threshold = (
            reader.threshold(given["threshold"], f"threshold of {title}") if "threshold" in given else None
        )
        description = self.description(given, title)
        also_in = reader.names(given["also_in"], f"also_in of {title}") if "also_in" in given else []
        if written is None or named is None:
            return None
        return Occurrence(
            draft.name,
            named.name,
            written.name,
            named.place,
            description,
            tuple(aliases),
            threshold,
            tuple(also_in),
        )

    # What is asked once all is read

    @property
    def members(self) -> Iterator[GroupDraft | Occurrence]:
        """Groups, then labels at each of their places."""
        yield from self.drafts.values()
        yield from chain.from_iterable(self.occurrences.values())

    @property
    def all_names(self) -> Mapping[str, None]:
        return dict.fromkeys((*self.drafts, *self.occurrences))

    def last_name(self, name: str) -> str:
        """What a group or a label is called in its groups."""
        return (self.drafts.get(name) or self.occurrences[name][0]).last_name

    def place_of(self, name: str) -> Place:
        """Where a group or a label is defined."""
        return (self.drafts.get(name) or self.occurrences[name][0]).place

    def group_meant(self, name: str) -> GroupDraft | None:
        """The group of this name or, where names are paths, the one whose path ends so."""
        known = name if self.names == "plain" else self.group_paths.resolve(name)
        return self.drafts.get(known) if known else None

    @cached_property
    def group_paths(self) -> PathNames:
        """The paths of groups, each by the group that it is written in."""
        groups = [draft for draft in self.drafts.values() if draft.within is not None]
        parents = {draft.name: (draft.within or ROOT,) for draft in groups}
        return PathNames({draft.name: (draft.last_name,) for draft in groups}, parents)

    def parents_of(self, name: str) -> dict[str, None]:
        """The groups that a group or a label is written in or ``also_in``, as far as these are defined."""
        members = [self.drafts[name]] if name in self.drafts else self.occurrences[name]
        within = [each.within if isinstance(each, GroupDraft) else each.group for each in members]
        also = [self.group_meant(named.name) for each in members for named in each.also_in]
        groups = [*(self.drafts.get(group or ROOT) for group in within), *also]
        return dict.fromkeys(group.name for group in groups if group is not None)

    def called(self, name: str, last_name: str) -> list[str]:
        """How a node is written with this last name: the name alone, or the path by each of its parents."""
        if self.names == "plain":
            return [last_name]
        return [joined(group, last_name) for group in self.parents_of(name)]


def two_by_path(would_settle: bool) -> str:
    """What else can be done where a plain name stands for two things, if `names: path` tells them apart."""
    return ", or if they are two things write `names: path` at the top" if would_settle else ""


def _short_form_slip(node: MappingNode) -> str | None:
    """The right form of ``- refund: Money back``, None for any other mapping."""
    if len(node.value) != 1:
        return None
    key, value = node.value[0]
    plain_key = isinstance(key, ScalarNode) and key.tag != TAG + "merge"
    if not plain_key or key.value in LABEL_KEYS or suggestion(key.value, LABEL_KEYS):
        return None
    if is_null(value):
        return f"the name alone, without a colon: `- {key.value}`"
    text = value.value if isinstance(value, ScalarNode) and len(value.value) <= 60 else "..."
    return f"`- {{name: {key.value}, description: {text}}}`"
