"""Single nodes to values, with a complaint at the place of each fault."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import Place, Problem, suggestion
from cascade.taxonomy.yaml_nodes import (
    FILE_TAGS,
    MAX_DEPTH,
    MAX_EXPANDED,
    PLAIN_TAGS,
    TAG,
    in_words,
    is_null,
    members_of,
    number_of,
    only_fault,
    place_of_mark,
    too_deep,
)


def children_first(top: Node, reader: Reader) -> list[Node]:
    """All distinct nodes, each after its members; a node inside itself is a fault."""
    order: list[Node] = []
    state = {id(top): "open"}
    stack = [(top, members_of(top))]
    while stack:
        node, members = stack[-1]
        member = next(members, None)
        if member is None:
            stack.pop()
            state[id(node)] = "done"
            order.append(node)
        elif state.get(id(member)) == "open":
            raise only_fault(
                reader.place(member),
                f"{in_words(member)} contains itself, through an anchor (&) and its alias (*)",
            )
        elif id(member) not in state:
            state[id(member)] = "open"
            stack.append((member, members_of(member)))
    return order


def check_extent(nodes: Sequence[Node], reader: Reader) -> None:
    """A fault where aliases unfold to more depth or to more nodes than could be walked."""
    depth: dict[int, int] = {}
    size: dict[int, int] = {}
    for node in nodes:
        members = list(members_of(node))
        depth[id(node)] = 1 + max((depth[id(member)] for member in members), default=0)
        size[id(node)] = 1 + sum(size[id(member)] for member in members)
        if depth[id(node)] > MAX_DEPTH + 1:
            raise too_deep(reader.place(node))
        if size[id(node)] > max(MAX_EXPANDED, 10 * len(nodes)):
            message = f"aliases (*) unfold {len(nodes):,} nodes of the file to more than {MAX_EXPANDED:,}"
            raise only_fault(reader.place(node), f"{message}; write out what is meant")


def check_tags(nodes: Sequence[Node], reader: Reader) -> None:
    for node in nodes:
        if node.tag not in reader.tags:
            found = f"{in_words(node)} has the tag {node.tag.replace(TAG, '!!')!r}"
            expected = "expected text, numbers, lists and mappings only"
            reader.complain(reader.place(node), f"{found}; {expected}")


def either(words: Iterable[str]) -> str:
    *most, last = [repr(word) for word in words]
    return f"{', '.join(most)} or {last}" if most else last


def listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def on_line(place: Place) -> str:
    return f" (line {place.line})" if place.line else ""


def first_on_line(place: Place) -> str:
    return f"; first at line {place.line}" if place.line else ""


_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUE = frozenset(("true", "yes", "on"))


def _name_fault(name: str) -> str | None:
    """What makes a text unusable as the name of a label or group, or None."""
    if not name:
        return "is empty; expected a name"
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "contains a line break or a control character; expected one line of text"
    if name != name.strip():
        return "begins or ends with a blank; take the blank out of the quotes"
    return None


@dataclass(frozen=True)
class PlacedName:
    """A name that the file mentions, and where."""

    name: str
    place: Place


@dataclass
class Reader:
    """Turns single nodes into values and collects complaints about them."""

    source: str
    from_file: bool
    problems: list[Problem] = field(default_factory=list)
    faults: int = 0

    def place(self, node: Node) -> Place:
        return place_of_mark(node.start_mark, self.source)

    @property
    def tags(self) -> frozenset[str]:
        return FILE_TAGS if self.from_file else PLAIN_TAGS

    def complain(self, at: Node | Place, message: str) -> None:
        self.faults += 1
        if isinstance(at, Place):
            self.problems.append(Problem(at, message))
        elif at.tag in self.tags:  # else the tag is the fault, and has been complained of
            self.problems.append(Problem(self.place(at), message))

    def entries(self, node: MappingNode, what: str) -> dict[str, tuple[Node, Node]]:
        """Key -> nodes of key and value; a written key wins over one that ``<<`` brings."""
        own: dict[str, tuple[Node, Node]] = {}
        merged: dict[str, tuple[Node, Node]] = {}
        for key_node, value in node.value:
            if key_node.tag == TAG + "merge":
                self._merge(value, what, merged)
            elif (key := self.text(key_node, f"a key of {what}")) is not None:
                self._add_once(own, key, (key_node, value), what)
        return {**merged, **own}

    def _merge(self, node: Node, what: str, into: dict[str, tuple[Node, Node]]) -> None:
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            if isinstance(source, MappingNode):
                for key, pair in self.entries(source, what).items():
                    into.setdefault(key, pair)
            else:
                self.complain(source, f"<< of {what} is {in_words(source)}; expected the alias of a mapping")

    def _add_once(
        self, into: dict[str, tuple[Node, Node]], key: str, pair: tuple[Node, Node], what: str
    ) -> None:
        """The rule against duplicate keys; the first one counts."""
        if key in into:
            first, again = self.place(into[key][0]), self.place(pair[0])
            lines = f", at lines {first.line} and {again.line}" if again.line else ""
            self.complain(pair[0], f"{what} has the key {key!r} twice{lines}; keep one")
        else:
            into[key] = pair

    def mapping(self, node: Node, what: str, expected: str) -> dict[str, tuple[Node, Node]]:
        """Entries of a node that must be a mapping; none after a complaint."""
        if isinstance(node, MappingNode):
            return self.entries(node, what)
        self.complain(node, f"{what} is {in_words(node)}; expected {expected}")
        return {}

    def section(self, node: Node, what: str, known: Sequence[str]) -> dict[str, Node]:
        """Key -> value for the `known` keys; one without a value counts as not given, save a name."""
        expected = f"a mapping with keys such as {either(known[:3])}"
        given: dict[str, Node] = {}
        for key, (key_node, value) in self.mapping(node, what, expected).items():
            if key not in known:
                self.unknown_key(key_node, key, what, known)
            elif key == "name" or not is_null(value):
                given[key] = value
        return given

    def unknown_key(self, node: Node, key: str, what: str, known: Sequence[str]) -> None:
        hint = self.hint(key, known)
        self.complain(node, f"unknown key {key!r} in {what}; expected {either(known)}.{hint}")

    def hint(self, key: str, known: Sequence[str]) -> str:
        """What may have been meant by an unknown key."""
        return suggestion(key, known)

    def text(self, node: Node, what: str) -> str | None:
        """A scalar as it was written.

        Values of Python must be strings: what was 007 or ``no`` in somebody's YAML is lost in 7 and False.
        """
        if not isinstance(node, ScalarNode):
            self.complain(node, f"{what} is {in_words(node)}; expected text")
        elif not self.from_file and node.tag != TAG + "str":
            kind = node.tag.removeprefix(TAG)
            self.complain(node, f"{what} is {node.value} ({kind}); expected a string")
        elif _SURROGATE.search(node.value):
            self.complain(node, f"{what} contains half a character (a lone surrogate); expected text")
        else:
            return str(node.value)
        return None

    def name(self, node: Node, what: str) -> PlacedName | None:
        """A name that a label, a group or a column can have."""
        text = self.text(node, what)
        if text is None:
            return None
        if fault := _name_fault(text):
            self.complain(node, f"{what} {fault}" if not text else f"{what}, {text!r}, {fault}")
            return None
        return PlacedName(text, self.place(node))

    def names(self, node: Node, what: str) -> list[PlacedName]:
        """One name or a list of names."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        return [found for each in nodes if (found := self.name(each, what))]

    def choice(self, node: Node, what: str, options: Sequence[str]) -> str | None:
        if isinstance(node, ScalarNode) and node.value in options:
            return str(node.value)
        hint = suggestion(node.value, options) if isinstance(node, ScalarNode) else ""
        self.complain(node, f"{what} is {in_words(node)}; expected {either(options)}.{hint}")
        return None

    def flag(self, node: Node, what: str) -> bool | None:
        if isinstance(node, ScalarNode) and node.tag == TAG + "bool":
            return node.value.lower() in _TRUE
        self.complain(node, f"{what} is {in_words(node)}; expected true or false, without quotes")
        return None

    def value(self, node: Node, what: str) -> Any:
        """A Python value: mappings, lists, numbers, booleans, None and strings."""
        if isinstance(node, SequenceNode):
            return [self.value(each, what) for each in node.value]
        if isinstance(node, MappingNode):
            return {key: self.value(pair[1], what) for key, pair in self.entries(node, what).items()}
        number = number_of(node)
        if number is not None:
            return self._finite(number, node, what)
        if is_null(node):
            return None
        if node.tag == TAG + "bool":
            return node.value.lower() in _TRUE
        return node.value if self.from_file and node.tag != TAG + "str" else self.text(node, what)

    def _finite(self, number: float, node: Node, what: str) -> float:
        if not math.isfinite(number):
            self.complain(node, f"{what} is {in_words(node)}; expected a finite number")
        return number
