"""The groups and labels of a file as they are written, read from the top down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import Place, suggestion
from cascade.taxonomy.reader import PlacedName, first_on_line
from cascade.taxonomy.settings import SETTING_KEYS, Settings, SettingsReader, Threshold
from cascade.taxonomy.yaml_nodes import TAG, in_words, is_null

GROUP_KEYS = ("description", "aliases", *SETTING_KEYS, "labels", "groups", "also_in")
LABEL_KEYS = ("name", "description", "aliases", "threshold")


@dataclass(frozen=True)
class Occurrence:
    """A label at one place of the file."""

    group: str
    name: str
    place: Place
    description: str = ""
    aliases: tuple[PlacedName, ...] = ()
    threshold: Threshold | None = None


@dataclass
class GroupDraft:
    """A group while the file is read; `sound` tells whether its children could be read without complaint."""

    name: str
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
            named = self.reader.name(key_node, f"the name of a group in {draft.title}")
            if named and self._defined_once(named, draft):
                draft.children.append(named.name)
                self.group(named, value, draft)

    def _defined_once(self, named: PlacedName, within: GroupDraft) -> bool:
        first = self.drafts.get(named.name)
        if first is None:
            return True
        way_out = f"write `also_in: [{within.name}]` there instead" if within.name else "keep one"
        again = f"group {named.name!r} is defined twice{first_on_line(first.place)}"
        self.reader.complain(named.place, f"{again}; {way_out}")
        return False

    def group(self, named: PlacedName, node: Node, within: GroupDraft) -> None:
        reader, what = self.reader, f"group {named.name!r}"
        inherited = replace(within.settings, choose=self.defaults.choose, route=self.defaults.route)
        draft = GroupDraft(named.name, within.name, named.place, inherited)
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
        first = next((old for old in self.occurrences.get(found.name, []) if old.group == draft.name), None)
        if first is None:
            return True
        message = f"label {found.name!r} stands twice in {draft.title}{first_on_line(first.place)}"
        self.reader.complain(found.place, f"{message}; keep one")
        return False

    def label(self, node: Node, draft: GroupDraft) -> Occurrence | None:
        what = f"a label of {draft.title}"
        if isinstance(node, MappingNode):
            return self._long_label(node, draft, what)
        if isinstance(node, SequenceNode):
            self.reader.complain(node, f"{what} is a list; expected a name or a mapping with the key 'name'")
            return None
        named = self.reader.name(node, f"the name of {what}")
        return Occurrence(draft.name, named.name, named.place) if named else None

    def _long_label(self, node: MappingNode, draft: GroupDraft, what: str) -> Occurrence | None:
        if slip := _short_form_slip(node):
            self.reader.complain(node, f"{what} has the one key {node.value[0][0].value!r}; expected {slip}")
            return None
        reader = self.reader
        before = reader.faults
        given = reader.section(node, what, LABEL_KEYS)
        if "name" not in given:
            if reader.faults == before:
                reader.complain(node, f"{what} has no key 'name'; expected for instance {{name: refund}}")
            return None
        named = reader.name(given["name"], f"the name of {what}")
        title = f"label {named.name!r}" if named else what
        aliases = reader.names(given["aliases"], f"an alias of {title}") if "aliases" in given else []
        threshold = (
            reader.threshold(given["threshold"], f"threshold of {title}") if "threshold" in given else None
        )
        description = self.description(given, title)
        if named is None:
            return None
        return Occurrence(draft.name, named.name, named.place, description, tuple(aliases), threshold)


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
