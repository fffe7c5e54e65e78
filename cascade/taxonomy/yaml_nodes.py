"""YAML text and Python values as nodes that know their place, and the rules for a file as a whole."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import Place, Problem, TaxonomyError, suggestion
from cascade.system.files import read_at_most

MAX_DEPTH = 100
"""Lists and mappings inside each other, two for each level of groups: beyond use, within Python's stack."""
MOST_BYTES = 64 << 20
"""A hundred thousand labels with descriptions take a quarter of that."""
MAX_EXPANDED = 100_000
"""Nodes that aliases may unfold to before it counts as an explosion, and then only if most are aliases."""


def read_text(source: str) -> str:
    """The text of a file without its byte order mark."""
    try:
        raw = _bounded(source).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        hint = suggestion(Path(source).name, names_in(Path(source).parent))
        raise only_fault(Place(source), f"cannot be read: {error.strerror}.{hint}") from error
    except ValueError as error:
        raise only_fault(Place(source), f"cannot be read: {error}") from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        found = f"byte 0x{raw[error.start]:02x}"
        message = f"not UTF-8: found {found}; save the file as UTF-8"
        raise only_fault(_place_after(before, source), message) from error


def _bounded(source: str) -> bytes:
    raw = read_at_most(Path(source), MOST_BYTES)
    if raw is None:
        raise only_fault(
            Place(source), f"has more than {MOST_BYTES >> 20} MiB; expected a taxonomy, a file of YAML"
        )
    return raw


def names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []


def _place_after(text: str, source: str) -> Place:
    lines = re.split(r"\r\n|\r|\n", text)
    return Place(source, len(lines), len(lines[-1]) + 1)


def only_fault(place: Place, message: str) -> TaxonomyError:
    """The one complaint about something of which nothing more can be read."""
    return TaxonomyError([Problem(place, message)])


class _Loader(yaml.SafeLoader):
    """Stops at nodes nested so deep that composing them would exhaust Python's stack."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source
        self.depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        if self.depth > MAX_DEPTH:
            raise too_deep(self.place())
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def place(self) -> Place:
        """Where the next node or document begins."""
        return place_of_mark(self.peek_event().start_mark, self.source)  # type: ignore[no-untyped-call]


def too_deep(place: Place) -> TaxonomyError:
    return only_fault(place, f"nested more than {MAX_DEPTH} deep; expected fewer levels")


def compose(text: str, source: str) -> Node:
    """The one document of a YAML text."""
    try:
        loader = _Loader(text, source)
    except yaml.reader.ReaderError as error:
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed; delete it"
        raise only_fault(_place_after(text[: error.position], source), message) from error
    try:
        return _single_document(loader, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise only_fault(place_of_mark(mark, source), _syntax_message(error)) from error
    except (ValueError, OverflowError) as error:
        # PyYAML passes on what chr() and int() make of "\UFFFFFFFF" and of directives with endless numbers.
        place = place_of_mark(loader.get_mark(), source)
        raise only_fault(
            place, "not valid YAML: a number in an escape or a directive is out of range"
        ) from error


def _single_document(loader: _Loader, source: str) -> Node:
    node = loader.get_node() if loader.check_node() else None
    if node is None or (is_null(node) and not node.value):
        raise only_fault(Place(source, 1, 1), "the file is empty; expected at least `name:` and `groups:`")
    if loader.check_node():
        raise only_fault(
            loader.place(), "a second document begins here; expected one taxonomy in a file, without `---`"
        )
    return node


def place_of_mark(mark: Any, source: str) -> Place:
    return Place(source, mark.line + 1, mark.column + 1) if mark is not None else Place(source)


_SYNTAX_HINTS = {
    "'\\t'": "indent with blanks, not with tabs",
    "mapping values are not allowed": "put quotes around a text that contains `: `",
    "expected <block end>": "is the indentation the same as that of the lines above?",
    "undefined alias": "put quotes around a text that begins with `*`",
    "found character '@'": "put quotes around a text that begins with `@`",
    "found character '`'": "put quotes around a text that begins with a backquote",
    "found character '%'": "put quotes around a text that begins with `%`",
}


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    message = f"not valid YAML: {', '.join(parts)}"
    hints = [hint for sign, hint in _SYNTAX_HINTS.items() if sign in message]
    return "; ".join([message, *hints[:1]])


class _Dumper(yaml.SafeDumper):
    """Makes nodes of Python values; strings are quoted, so that they are never taken for anything else."""

    def quoted(self, data: str | PurePath) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", str(data), style='"')

    def plain_mapping(self, data: Mapping[Any, Any]) -> MappingNode:
        return self.represent_mapping("tag:yaml.org,2002:map", data)


_Dumper.add_representer(str, _Dumper.quoted)
_Dumper.add_multi_representer(str, _Dumper.quoted)
_Dumper.add_multi_representer(PurePath, _Dumper.quoted)
_Dumper.add_multi_representer(dict, _Dumper.plain_mapping)
_Dumper.add_multi_representer(MappingProxyType, _Dumper.plain_mapping)


def represent(value: Any, source: str) -> Node:
    try:
        return _Dumper(io.StringIO(), sort_keys=False).represent_data(value)
    except yaml.representer.RepresenterError as error:
        found = type(error.args[-1]).__name__
        expected = "expected dict, list, str, int, float, bool or None"
        raise only_fault(Place(source), f"found a value of type {found}; {expected}") from error
    except RecursionError as error:
        raise too_deep(Place(source)) from error


# Rules for the nodes of a file as a whole


TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = frozenset(TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
FILE_TAGS = PLAIN_TAGS | {TAG + kind for kind in ("timestamp", "merge", "value")}


def members_of(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for pair in node.value:
            yield from pair


# Reading single nodes


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == TAG + "null" and not node.style


def in_words(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "a mapping"
    if is_null(node) and not node.value:
        return "nothing"
    if number_of(node) is not None and len(node.value) <= 40:
        return str(node.value)
    text = node.value if len(node.value) <= 40 else node.value[:37] + "..."
    return f"{text!r}"


NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_NUMBER_TAGS = frozenset(TAG + kind for kind in ("int", "float", "str"))


def number_of(node: Node) -> int | float | None:
    """The number that a node without quotes says, None if it says none; may be infinite.

    YAML 1.1 takes ``1e-3`` for text; people do not.
    """
    if not isinstance(node, ScalarNode) or node.style or node.tag not in _NUMBER_TAGS:
        return None
    if node.tag == TAG + "float" and node.value.lower().lstrip("+-") in (".inf", ".nan"):
        return float(node.value.lower().replace(".", ""))
    tagged_text = node.tag == TAG + "str" and "e" not in node.value.lower()
    if tagged_text or not NUMBER.fullmatch(node.value):
        return None
    # Beyond 4300 digits int() refuses; float() makes such a number infinite, which is refused later.
    return int(node.value) if _INTEGER.fullmatch(node.value) and len(node.value) < 300 else float(node.value)
