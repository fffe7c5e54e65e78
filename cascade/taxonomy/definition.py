"""The taxonomy file: read, checked as a whole, and frozen.

The file is read as YAML *nodes*, never as Python values: every complaint knows its line, and names stay
the strings that were written (``no``, ``1e3``, ``2024-01-01``). Mappings from Python become nodes as well,
so that there is one parser.
"""

from __future__ import annotations

import codecs
import glob
import io
import itertools
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Any, Literal, get_args

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import DataError, Place, Problem, TaxonomyError, suggestion
from cascade.taxonomy.graph import ROOT, Graph, find_cycles

Choose = Literal["many", "one"]
Route = Literal["model", "always"]
Negatives = Literal["auto", "siblings", "all"]
Combine = Literal["max", "noisy_or"]
ThresholdKind = Literal["auto", "value", "precision", "recall"]

INHERITED_KEYS = ("threshold", "negatives", "back_off", "backend")
SETTING_KEYS = ("choose", "route", *INHERITED_KEYS)
TOP_KEYS = ("name", "description", "data", "combine", "defaults", "groups", "labels")
DATA_KEYS = ("train", "test", "text", "labels", "labels_delimiter", "id")
GROUP_KEYS = ("description", "aliases", *SETTING_KEYS, "labels", "groups", "also_in")
LABEL_KEYS = ("name", "description", "aliases", "threshold")

MAX_DEPTH = 100
"""Lists and mappings inside each other, two for each level of groups: beyond use, within Python's stack."""
MAX_EXPANDED = 100_000
"""Nodes that aliases may unfold to before it counts as an explosion, and then only if most are aliases."""
MAX_NAME_BYTES = 200
"""Room for a suffix within the 255 bytes that file systems allow a folder name."""

BackendCheck = Callable[["BackendSpec"], Iterable[str]]


@dataclass(frozen=True)
class BackendSpec:
    """Which kind of node model a group has, and its options as Python values."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place = field(default=Place(""), compare=False)


@dataclass(frozen=True)
class Threshold:
    """How the least score of a chosen label is found; `value` is None for ``auto`` only."""

    kind: ThresholdKind = "auto"
    value: float | None = None


@dataclass(frozen=True)
class Label:
    """A name that a text can carry, with one place for each time it stands in the file."""

    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    threshold: Threshold | None = None
    places: tuple[Place, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Group:
    """An inner node with its settings, inherited ones included.

    `children` come in the order of the file, then groups that stand elsewhere and are ``also_in`` this one.
    `within` is the group that it is written in, whose settings it inherits; None for the root.
    `places` are that of its definition, then one for each ``also_in``.
    """

    name: str
    description: str
    aliases: tuple[str, ...]
    children: tuple[str, ...]
    choose: Choose
    route: Route
    threshold: Threshold
    negatives: Negatives
    back_off: bool
    backend: BackendSpec
    within: str | None
    places: tuple[Place, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class DataSpec:
    """Where the labelled rows are and which columns to read; `train` and `test` are kept as written."""

    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    text: str | None = None
    labels: str | tuple[str, ...] | None = None
    labels_delimiter: str = ";"
    id: str | None = None
    base: Path = field(default=Path(), compare=False)
    train_places: tuple[Place, ...] = field(default=(), compare=False, repr=False)
    test_places: tuple[Place, ...] = field(default=(), compare=False, repr=False)

    def files(self, which: Literal["train", "test"]) -> tuple[Path, ...]:
        """The files of `which`, relative ones taken from `base`, each once; those of a glob are sorted.

        Raises
        ------
        DataError
            For the first pattern without a file, with its place in the taxonomy.
        """
        patterns, places = (
            (self.train, self.train_places) if which == "train" else (self.test, self.test_places)
        )
        found: dict[Path, None] = {}
        for index, pattern in enumerate(patterns):
            files = self._matching(pattern)
            if not files:
                where = f"{places[index]}: " if index < len(places) else ""
                raise DataError(f"{where}{self._missing(which, pattern)}")
            found.update(dict.fromkeys(files))
        return tuple(found)

    def _matching(self, pattern: str) -> list[Path]:
        path = self.base / os.path.expanduser(pattern)  # noqa: PTH111  # the method raises for an unknown user
        if path.is_file() or not glob.has_magic(pattern):
            return [path] if path.is_file() else []
        names = glob.glob(os.path.expanduser(pattern), root_dir=self.base, recursive=True)  # noqa: PTH111, PTH207
        return sorted(path for path in (self.base / name for name in names) if path.is_file())

    def _missing(self, which: str, pattern: str) -> str:
        base = self.base.absolute()
        if glob.has_magic(pattern):
            return f"no file matches data.{which} {pattern!r}, looked for from {base}."
        path = self.base / pattern
        if path.is_dir():
            inside = pattern.rstrip("/") + "/*.jsonl"
            return f"data.{which} {pattern!r} is a folder; expected a file or a pattern such as {inside!r}."
        hint = suggestion(path.name, _names_in(path.parent))
        return f"data.{which} {pattern!r} does not exist, looked for from {base}.{hint}"


@dataclass(frozen=True)
class Taxonomy:
    """A whole taxonomy file without faults.

    `groups` begins with the root and is in the order of the file, as is `labels`. `notes` is advice: things
    that are allowed but may be accidents. Two taxonomies are equal when all but places, source and notes are.
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
        top = _compose(_file_text(source), source)
        return _taxonomy(top, _Reader(source, from_file=True), Path(source).parent, check_backend)

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
        top = _represent(mapping, source)
        return _taxonomy(top, _Reader(source, from_file=False), Path(base), check_backend)

    def to_dict(self) -> dict[str, Any]:
        """The same taxonomy in the file's own format, of JSON's types only.

        `from_dict` of it is equal to this one. The order of keys counts, so JSON must not be sorted.
        """
        return _to_dict(self)

    def resolve(self, name: str) -> str | None:
        """The label or group that `name` means, as its name or as an alias; None when unknown."""
        return self._meanings.get(name)

    def suggest(self, name: str) -> str:
        """`` Did you mean 'x'?`` with the name or alias nearest to `name`, or an empty string."""
        return suggestion(name, self._meanings)

    def threshold_of(self, label: str) -> Threshold:
        """The label's own threshold, else that of its first parent; KeyError for an unknown label."""
        own = self.labels[label].threshold
        return own if own is not None else self.groups[self.graph.parents[label][0]].threshold

    @cached_property
    def _meanings(self) -> dict[str, str]:
        named: list[Group | Label] = [*self.groups.values(), *self.labels.values()]
        meanings = {alias: thing.name for thing in named for alias in thing.aliases}
        meanings.update({thing.name: thing.name for thing in named})
        meanings.pop(ROOT)
        return meanings


# From a taxonomy back to the file's format


def _to_dict(taxonomy: Taxonomy) -> dict[str, Any]:
    root = taxonomy.groups[ROOT]
    plain: dict[str, Any] = {"name": taxonomy.name}
    if taxonomy.description:
        plain["description"] = taxonomy.description
    if data := _data_to_dict(taxonomy.data):
        plain["data"] = data
    if taxonomy.combine != "max":
        plain["combine"] = taxonomy.combine
    if defaults := _settings_to_dict(root, _Settings()):
        plain["defaults"] = defaults
    return plain | _Writer(taxonomy).children(root)


def _data_to_dict(data: DataSpec) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key in DATA_KEYS:
        value = getattr(data, key)
        if value not in (None, ()) and (key, value) != ("labels_delimiter", ";"):
            plain[key] = list(value) if isinstance(value, tuple) else value
    return plain


def _settings_to_dict(group: Group, inherited: _Settings) -> dict[str, Any]:
    """Those settings of `group` that differ from what it would inherit."""
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
            if name in self.taxonomy.labels:
                plain.setdefault("labels", []).append(self.label(self.taxonomy.labels[name]))
            elif self.taxonomy.groups[name].within == group.name:
                plain.setdefault("groups", {})[name] = self.group(self.taxonomy.groups[name], group)
        return plain

    def group(self, group: Group, within: Group) -> dict[str, Any]:
        root = self.taxonomy.groups[ROOT]
        plain = _about(group)
        plain |= _settings_to_dict(group, replace(_settings_of(within), choose=root.choose, route="model"))
        others = [name for name in self.taxonomy.graph.parents[group.name] if name != within.name]
        if others:
            plain["also_in"] = others
        return plain | self.children(group)

    def label(self, label: Label) -> str | dict[str, Any]:
        about = {} if label.name in self.told else _about(label)
        if label.threshold is not None and label.name not in self.told:
            about["threshold"] = _threshold_to_plain(label.threshold)
        self.told.add(label.name)
        return {"name": label.name, **about} if about else label.name


def _about(thing: Group | Label) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if thing.description:
        plain["description"] = thing.description
    if thing.aliases:
        plain["aliases"] = list(thing.aliases)
    return plain


def _settings_of(group: Group) -> _Settings:
    return _Settings(**{key: getattr(group, key) for key in SETTING_KEYS})


# From bytes or Python values to nodes


def _file_text(source: str) -> str:
    """The text of a file without its byte order mark."""
    try:
        raw = Path(source).read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        hint = suggestion(Path(source).name, _names_in(Path(source).parent))
        raise _fault(Place(source), f"cannot be read: {error.strerror}.{hint}") from error
    except ValueError as error:
        raise _fault(Place(source), f"cannot be read: {error}") from error
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        found = f"byte 0x{raw[error.start]:02x}"
        message = f"not UTF-8: found {found}; save the file as UTF-8"
        raise _fault(_place_after(before, source), message) from error


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        return []


def _place_after(text: str, source: str) -> Place:
    lines = re.split(r"\r\n|\r|\n", text)
    return Place(source, len(lines), len(lines[-1]) + 1)


def _fault(place: Place, message: str) -> TaxonomyError:
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
            raise _too_deep(self.place())
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def place(self) -> Place:
        """Where the next node or document begins."""
        return _mark_place(self.peek_event().start_mark, self.source)  # type: ignore[no-untyped-call]


def _too_deep(place: Place) -> TaxonomyError:
    return _fault(place, f"nested more than {MAX_DEPTH} deep; expected fewer levels")


def _compose(text: str, source: str) -> Node:
    """The one document of a YAML text."""
    try:
        loader = _Loader(text, source)
    except yaml.reader.ReaderError as error:
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed; delete it"
        raise _fault(_place_after(text[: error.position], source), message) from error
    try:
        return _single_document(loader, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _fault(_mark_place(mark, source), _syntax_message(error)) from error
    except (ValueError, OverflowError) as error:
        # PyYAML passes on what chr() and int() make of "\UFFFFFFFF" and of directives with endless numbers.
        place = _mark_place(loader.get_mark(), source)
        raise _fault(place, "not valid YAML: a number in an escape or a directive is out of range") from error


def _single_document(loader: _Loader, source: str) -> Node:
    node = loader.get_node() if loader.check_node() else None
    if node is None or (_is_null(node) and not node.value):
        raise _fault(Place(source, 1, 1), "the file is empty; expected at least `name:` and `groups:`")
    if loader.check_node():
        raise _fault(
            loader.place(), "a second document begins here; expected one taxonomy in a file, without `---`"
        )
    return node


def _mark_place(mark: Any, source: str) -> Place:
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


def _represent(value: Any, source: str) -> Node:
    try:
        return _Dumper(io.StringIO(), sort_keys=False).represent_data(value)
    except yaml.representer.RepresenterError as error:
        found = type(error.args[-1]).__name__
        expected = "expected dict, list, str, int, float, bool or None"
        raise _fault(Place(source), f"found a value of type {found}; {expected}") from error
    except RecursionError as error:
        raise _too_deep(Place(source)) from error


# Rules for the nodes of a file as a whole


_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "null", "map", "seq"))
_FILE_TAGS = _PLAIN_TAGS | {_TAG + kind for kind in ("timestamp", "merge", "value")}


def _members(node: Node) -> Iterator[Node]:
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for pair in node.value:
            yield from pair


def _children_first(top: Node, reader: _Reader) -> list[Node]:
    """All distinct nodes, each after its members; a node inside itself is a fault."""
    order: list[Node] = []
    state = {id(top): "open"}
    stack = [(top, _members(top))]
    while stack:
        node, members = stack[-1]
        member = next(members, None)
        if member is None:
            stack.pop()
            state[id(node)] = "done"
            order.append(node)
        elif state.get(id(member)) == "open":
            raise _fault(
                reader.place(member),
                f"{_found(member)} contains itself, through an anchor (&) and its alias (*)",
            )
        elif id(member) not in state:
            state[id(member)] = "open"
            stack.append((member, _members(member)))
    return order


def _check_extent(nodes: Sequence[Node], reader: _Reader) -> None:
    """A fault where aliases unfold to more depth or to more nodes than could be walked."""
    depth: dict[int, int] = {}
    size: dict[int, int] = {}
    for node in nodes:
        members = list(_members(node))
        depth[id(node)] = 1 + max((depth[id(member)] for member in members), default=0)
        size[id(node)] = 1 + sum(size[id(member)] for member in members)
        if depth[id(node)] > MAX_DEPTH + 1:
            raise _too_deep(reader.place(node))
        if size[id(node)] > max(MAX_EXPANDED, 10 * len(nodes)):
            message = f"aliases (*) unfold {len(nodes):,} nodes of the file to more than {MAX_EXPANDED:,}"
            raise _fault(reader.place(node), f"{message}; write out what is meant")


def _check_tags(nodes: Sequence[Node], reader: _Reader) -> None:
    for node in nodes:
        if node.tag not in reader.tags:
            found = f"{_found(node)} has the tag {node.tag.replace(_TAG, '!!')!r}"
            expected = "expected text, numbers, lists and mappings only"
            reader.complain(reader.place(node), f"{found}; {expected}")


# Reading single nodes


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _TAG + "null" and not node.style


def _found(node: Node) -> str:
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "a mapping"
    if _is_null(node) and not node.value:
        return "nothing"
    if _number(node) is not None and len(node.value) <= 40:
        return str(node.value)
    text = node.value if len(node.value) <= 40 else node.value[:37] + "..."
    return f"{text!r}"


def _either(words: Iterable[str]) -> str:
    *most, last = [repr(word) for word in words]
    return f"{', '.join(most)} or {last}" if most else last


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def _on_line(place: Place) -> str:
    return f" (line {place.line})" if place.line else ""


def _first_on_line(place: Place) -> str:
    return f"; first at line {place.line}" if place.line else ""


_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)
_NUMBER_TAGS = frozenset(_TAG + kind for kind in ("int", "float", "str"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUE = frozenset(("true", "yes", "on"))


def _number(node: Node) -> int | float | None:
    """The number that a node without quotes says, None if it says none; may be infinite.

    YAML 1.1 takes ``1e-3`` for text; people do not.
    """
    if not isinstance(node, ScalarNode) or node.style or node.tag not in _NUMBER_TAGS:
        return None
    if node.tag == _TAG + "float" and node.value.lower().lstrip("+-") in (".inf", ".nan"):
        return float(node.value.lower().replace(".", ""))
    tagged_text = node.tag == _TAG + "str" and "e" not in node.value.lower()
    if tagged_text or not _NUMBER.fullmatch(node.value):
        return None
    # Beyond 4300 digits int() refuses; float() makes such a number infinite, which is refused later.
    return int(node.value) if _INTEGER.fullmatch(node.value) and len(node.value) < 300 else float(node.value)


def _name_fault(name: str) -> str | None:
    """What makes a text unusable as the name of a label or group, or None."""
    if not name:
        return "is empty; expected a name"
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name):
        return "contains a line break or a control character; expected one line of text"
    if name != name.strip():
        return "begins or ends with a blank; take the blank out of the quotes"
    return None


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


@dataclass(frozen=True)
class _Named:
    """A name that the file mentions, and where."""

    name: str
    place: Place


@dataclass(frozen=True)
class _Settings:
    """What a group does where it says nothing else."""

    choose: Choose = "many"
    route: Route = "model"
    threshold: Threshold = Threshold()
    negatives: Negatives = "auto"
    back_off: bool = False
    backend: BackendSpec = BackendSpec("linear")


@dataclass
class _Reader:
    """Turns single nodes into values and collects complaints about them."""

    source: str
    from_file: bool
    problems: list[Problem] = field(default_factory=list)
    faults: int = 0
    backends: list[BackendSpec] = field(default_factory=list)

    def place(self, node: Node) -> Place:
        return _mark_place(node.start_mark, self.source)

    @property
    def tags(self) -> frozenset[str]:
        return _FILE_TAGS if self.from_file else _PLAIN_TAGS

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
            if key_node.tag == _TAG + "merge":
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
                self.complain(source, f"<< of {what} is {_found(source)}; expected the alias of a mapping")

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
        self.complain(node, f"{what} is {_found(node)}; expected {expected}")
        return {}

    def section(self, node: Node, what: str, known: Sequence[str]) -> dict[str, Node]:
        """Key -> value for the `known` keys; one without a value counts as not given, save a name."""
        expected = f"a mapping with keys such as {_either(known[:3])}"
        given: dict[str, Node] = {}
        for key, (key_node, value) in self.mapping(node, what, expected).items():
            if key not in known:
                self.unknown_key(key_node, key, what, known)
            elif key == "name" or not _is_null(value):
                given[key] = value
        return given

    def unknown_key(self, node: Node, key: str, what: str, known: Sequence[str]) -> None:
        message = f"unknown key {key!r} in {what}; expected {_either(known)}."
        if key in SETTING_KEYS and "defaults" in known:
            hint = " Write it under `defaults:`."
        else:
            hint = suggestion(key, known)
        self.complain(node, message + hint)

    def text(self, node: Node, what: str) -> str | None:
        """A scalar as it was written.

        Values of Python must be strings: what was 007 or ``no`` in somebody's YAML is lost in 7 and False.
        """
        if not isinstance(node, ScalarNode):
            self.complain(node, f"{what} is {_found(node)}; expected text")
        elif not self.from_file and node.tag != _TAG + "str":
            kind = node.tag.removeprefix(_TAG)
            self.complain(node, f"{what} is {node.value} ({kind}); expected a string")
        elif _SURROGATE.search(node.value):
            self.complain(node, f"{what} contains half a character (a lone surrogate); expected text")
        else:
            return str(node.value)
        return None

    def name(self, node: Node, what: str) -> _Named | None:
        """A name that a label, a group or a column can have."""
        text = self.text(node, what)
        if text is None:
            return None
        if fault := _name_fault(text):
            self.complain(node, f"{what} {fault}" if not text else f"{what}, {text!r}, {fault}")
            return None
        return _Named(text, self.place(node))

    def names(self, node: Node, what: str) -> list[_Named]:
        """One name or a list of names."""
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        return [found for each in nodes if (found := self.name(each, what))]

    def choice(self, node: Node, what: str, options: Sequence[str]) -> str | None:
        if isinstance(node, ScalarNode) and node.value in options:
            return str(node.value)
        hint = suggestion(node.value, options) if isinstance(node, ScalarNode) else ""
        self.complain(node, f"{what} is {_found(node)}; expected {_either(options)}.{hint}")
        return None

    def flag(self, node: Node, what: str) -> bool | None:
        if isinstance(node, ScalarNode) and node.tag == _TAG + "bool":
            return node.value.lower() in _TRUE
        self.complain(node, f"{what} is {_found(node)}; expected true or false, without quotes")
        return None

    def threshold(self, node: Node, what: str) -> Threshold | None:
        if isinstance(node, MappingNode):
            return self._tuned_threshold(node, what)
        if isinstance(node, ScalarNode) and node.value == "auto":
            return Threshold()
        value = _number(node)
        if value is None:
            expected = "'auto', a number from 0 to 1, {precision: 0.9} or {recall: 0.95}"
            self.complain(node, f"{what} is {_found(node)}; expected {expected}.{self._auto_hint(node)}")
        elif not 0 <= value <= 1:
            self.complain(node, f"{what} is {node.value}; expected a number from 0 to 1")
        else:
            return Threshold("value", float(value))
        return None

    @staticmethod
    def _auto_hint(node: Node) -> str:
        if not isinstance(node, ScalarNode):
            return ""
        return (
            " Take it out of the quotes."
            if _NUMBER.fullmatch(node.value)
            else suggestion(node.value, ["auto"])
        )

    def _tuned_threshold(self, node: MappingNode, what: str) -> Threshold | None:
        kinds: tuple[Literal["precision", "recall"], ...] = ("precision", "recall")
        before = self.faults
        given = self.section(node, what, kinds)
        if len(given) != 1:
            if self.faults == before:
                found = "both" if given else "an empty mapping"
                self.complain(node, f"{what} is {found}; expected {{precision: 0.9}} or {{recall: 0.95}}")
            return None
        kind = next(kind for kind in kinds if kind in given)
        value = _number(given[kind])
        if value is None or not 0 < value <= 1:
            expected = "expected a number above 0, at most 1"
            self.complain(given[kind], f"{kind} of {what} is {_found(given[kind])}; {expected}")
            return None
        return Threshold(kind, float(value))

    def backend(self, node: Node, what: str) -> BackendSpec | None:
        """``linear``, or ``{kind: linear, C: 1}``; which kinds and options exist is for others to say."""
        if not isinstance(node, MappingNode):
            kind = self.name(node, what)
            return self._backend(kind.name, {}, node) if kind else None
        entries = self.entries(node, what)
        if "kind" not in entries:
            self.complain(node, f"{what} has no key 'kind'; expected for instance {{kind: linear, C: 1}}")
            return None
        kind = self.name(entries["kind"][1], f"kind of {what}")
        options = {
            key: self.value(pair[1], f"{key} of {what}") for key, pair in entries.items() if key != "kind"
        }
        return self._backend(kind.name, options, node) if kind else None

    def _backend(self, kind: str, options: dict[str, Any], node: Node) -> BackendSpec:
        spec = BackendSpec(kind, options, self.place(node))
        if not any(spec == other and spec.place == other.place for other in self.backends):
            self.backends.append(spec)
        return spec

    def value(self, node: Node, what: str) -> Any:
        """A Python value: mappings, lists, numbers, booleans, None and strings."""
        if isinstance(node, SequenceNode):
            return [self.value(each, what) for each in node.value]
        if isinstance(node, MappingNode):
            return {key: self.value(pair[1], what) for key, pair in self.entries(node, what).items()}
        number = _number(node)
        if number is not None:
            return self._finite(number, node, what)
        if _is_null(node):
            return None
        if node.tag == _TAG + "bool":
            return node.value.lower() in _TRUE
        return node.value if self.from_file and node.tag != _TAG + "str" else self.text(node, what)

    def _finite(self, number: float, node: Node, what: str) -> float:
        if not math.isfinite(number):
            self.complain(node, f"{what} is {_found(node)}; expected a finite number")
        return number

    def settings(self, given: Mapping[str, Node], of: str) -> dict[str, Any]:
        """The settings that a section gives, by the names of `_Settings`; faulty ones are left out."""
        readers: dict[str, Callable[[Node, str], Any]] = {
            "choose": lambda node, what: self.choice(node, what, get_args(Choose)),
            "route": lambda node, what: self.choice(node, what, get_args(Route)),
            "threshold": self.threshold,
            "negatives": lambda node, what: self.choice(node, what, get_args(Negatives)),
            "back_off": self.flag,
            "backend": self.backend,
        }
        found = {key: read(given[key], f"{key} of {of}") for key, read in readers.items() if key in given}
        return {key: value for key, value in found.items() if value is not None}


# Reading groups and labels


@dataclass(frozen=True)
class _Stand:
    """A label at one place of the file."""

    group: str
    name: str
    place: Place
    description: str = ""
    aliases: tuple[_Named, ...] = ()
    threshold: Threshold | None = None


@dataclass
class _Draft:
    """A group while the file is read; `sound` tells whether its children could be read without complaint."""

    name: str
    within: str | None
    place: Place
    settings: _Settings
    description: str = ""
    aliases: list[_Named] = field(default_factory=list)
    also_in: list[_Named] = field(default_factory=list)
    children: list[str] = field(default_factory=list)
    sound: bool = True

    @property
    def title(self) -> str:
        return f"group {self.name!r}" if self.name else "the top level"


@dataclass
class _Walk:
    """Goes down the groups of a file and notes what stands where."""

    reader: _Reader
    defaults: _Settings
    drafts: dict[str, _Draft] = field(default_factory=dict)
    stands: dict[str, list[_Stand]] = field(default_factory=dict)

    def children(self, draft: _Draft, given: Mapping[str, Node]) -> None:
        """Reads ``labels`` and ``groups`` of a group, in the order in which they are written."""
        before = self.reader.faults
        for key, node in given.items():
            if key == "labels":
                self.labels(draft, node)
            elif key == "groups":
                self.groups(draft, node)
        draft.sound = draft.sound and self.reader.faults == before

    def groups(self, draft: _Draft, node: Node) -> None:
        what, expected = f"groups of {draft.title}", "a mapping such as {billing: {labels: [refund]}}"
        for key_node, value in self.reader.mapping(node, what, expected).values():
            named = self.reader.name(key_node, f"the name of a group in {draft.title}")
            if named and self._defined_once(named, draft):
                draft.children.append(named.name)
                self.group(named, value, draft)

    def _defined_once(self, named: _Named, within: _Draft) -> bool:
        first = self.drafts.get(named.name)
        if first is None:
            return True
        way_out = f"write `also_in: [{within.name}]` there instead" if within.name else "keep one"
        again = f"group {named.name!r} is defined twice{_first_on_line(first.place)}"
        self.reader.complain(named.place, f"{again}; {way_out}")
        return False

    def group(self, named: _Named, node: Node, within: _Draft) -> None:
        reader, what = self.reader, f"group {named.name!r}"
        inherited = replace(within.settings, choose=self.defaults.choose, route=self.defaults.route)
        draft = _Draft(named.name, within.name, named.place, inherited)
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
        if _is_null(node):
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

    def labels(self, draft: _Draft, node: Node) -> None:
        what = f"labels of {draft.title}"
        if isinstance(node, SequenceNode):
            for each in node.value:
                stand = self.label(each, draft)
                if stand and self._once_in_group(stand, draft):
                    draft.children.append(stand.name)
                    self.stands.setdefault(stand.name, []).append(stand)
        else:
            hint = "[refund]" if isinstance(node, ScalarNode) else "[{name: refund, description: Money back}]"
            self.reader.complain(node, f"{what} is {_found(node)}; expected a list such as {hint}")

    def _once_in_group(self, stand: _Stand, draft: _Draft) -> bool:
        first = next((old for old in self.stands.get(stand.name, []) if old.group == draft.name), None)
        if first is None:
            return True
        message = f"label {stand.name!r} stands twice in {draft.title}{_first_on_line(first.place)}"
        self.reader.complain(stand.place, f"{message}; keep one")
        return False

    def label(self, node: Node, draft: _Draft) -> _Stand | None:
        what = f"a label of {draft.title}"
        if isinstance(node, MappingNode):
            return self._long_label(node, draft, what)
        if isinstance(node, SequenceNode):
            self.reader.complain(node, f"{what} is a list; expected a name or a mapping with the key 'name'")
            return None
        named = self.reader.name(node, f"the name of {what}")
        return _Stand(draft.name, named.name, named.place) if named else None

    def _long_label(self, node: MappingNode, draft: _Draft, what: str) -> _Stand | None:
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
        return _Stand(draft.name, named.name, named.place, description, tuple(aliases), threshold)


def _short_form_slip(node: MappingNode) -> str | None:
    """The right form of ``- refund: Money back``, None for any other mapping."""
    if len(node.value) != 1:
        return None
    key, value = node.value[0]
    plain_key = isinstance(key, ScalarNode) and key.tag != _TAG + "merge"
    if not plain_key or key.value in LABEL_KEYS or suggestion(key.value, LABEL_KEYS):
        return None
    if _is_null(value):
        return f"the name alone, without a colon: `- {key.value}`"
    text = value.value if isinstance(value, ScalarNode) and len(value.value) <= 60 else "..."
    return f"`- {{name: {key.value}, description: {text}}}`"


# Rules for the groups and labels together


def _check_labels_are_no_groups(walk: _Walk) -> None:
    for name, stands in walk.stands.items():
        if name not in walk.drafts:
            continue
        label, group = stands[0].place, walk.drafts[name].place
        if label < group:
            message = f"group {name!r} has the name of a label{_on_line(label)}"
        else:
            message = f"label {name!r} has the name of a group{_on_line(group)}"
        walk.reader.complain(max(label, group), f"{message}; rename one of them")


def _check_labels_agree(walk: _Walk) -> None:
    """A label that says different things in two groups is likely two labels by accident."""
    for name, stands in walk.stands.items():
        for key in ("description", "threshold"):
            told = [stand for stand in stands if getattr(stand, key) not in ("", None)]
            for stand in told[1:]:
                if getattr(stand, key) != getattr(told[0], key):
                    other = (
                        f"another {key} than in {walk.drafts[told[0].group].title}{_on_line(told[0].place)}"
                    )
                    walk.reader.complain(
                        stand.place, f"label {name!r} has {other}; keep one, or rename a label"
                    )


def _check_aliases(walk: _Walk) -> None:
    """An alias means one thing only, and never something that has that name itself."""
    owners: dict[str, tuple[str, Place]] = {}
    for owner, alias in _aliases(walk):
        named = _place_of(walk, alias.name)
        first, place = owners.setdefault(alias.name, (owner, alias.place))
        if named is not None and alias.name != owner:
            kind = "group" if alias.name in walk.drafts else "label"
            clash = f"is also the name of a {kind}{_on_line(named)}"
        elif first != owner:
            clash = f"is also an alias of {first!r}{_on_line(place)}"
        else:
            continue
        walk.reader.complain(alias.place, f"alias {alias.name!r} of {owner!r} {clash}; expected one meaning")


def _aliases(walk: _Walk) -> Iterator[tuple[str, _Named]]:
    for draft in walk.drafts.values():
        yield from ((draft.name, alias) for alias in draft.aliases)
    for name, stands in walk.stands.items():
        yield from ((name, alias) for stand in stands for alias in stand.aliases)


def _place_of(walk: _Walk, name: str) -> Place | None:
    if name in walk.drafts:
        return walk.drafts[name].place
    return walk.stands[name][0].place if name in walk.stands else None


def _join_also_in(walk: _Walk) -> None:
    """Makes each group a child of the groups that it is also in, and complains of names that are none."""
    for draft in walk.drafts.values():
        for named in draft.also_in:
            parent = walk.drafts.get(named.name)
            if parent is None:
                _complain_of_unknown_group(walk, draft, named)
            elif draft.name in parent.children:
                message = (
                    f"also_in of {draft.title} names {named.name!r}, which it is in already; take it out"
                )
                walk.reader.complain(named.place, message)
            else:
                parent.children.append(draft.name)


def _complain_of_unknown_group(walk: _Walk, draft: _Draft, named: _Named) -> None:
    if named.name in walk.stands:
        why = "which is a label; expected a group."
    else:
        hint = suggestion(named.name, [name for name in walk.drafts if name])
        why = f"which is not defined; expected a group.{hint}"
    walk.reader.complain(named.place, f"also_in of {draft.title} names {named.name!r}, {why}")


def _check_cycles(walk: _Walk) -> None:
    for cycle in find_cycles(_group_edges(walk)):
        # Nesting alone makes no cycle, so that at least one of its edges is an also_in.
        steps = itertools.pairwise(cycle)
        guilty = (at for above, below in steps for at in walk.drafts[below].also_in if at.name == above)
        path = " -> ".join(cycle)
        walk.reader.complain(next(guilty).place, f"groups form a cycle: {path}; take out this also_in")


def _group_edges(walk: _Walk) -> dict[str, list[str]]:
    """Group -> groups in it; names that are also those of labels do not confuse it."""
    edges: dict[str, list[str]] = {name: [] for name in walk.drafts}
    for draft in walk.drafts.values():
        for above in dict.fromkeys([draft.within, *(named.name for named in draft.also_in)]):
            if above in edges:
                edges[above].append(draft.name)
    return edges


def _check_groups_have_children(walk: _Walk) -> None:
    for draft in walk.drafts.values():
        if draft.sound and not draft.children:
            what = f"{draft.title} has no labels and no groups"
            walk.reader.complain(draft.place, f"{what}; expected for instance labels: [refund]")


def _check_backends(reader: _Reader, check: BackendCheck) -> None:
    for spec in reader.backends:
        for message in check(spec):
            reader.complain(spec.place, message)


def _several_parents(walk: _Walk) -> Iterator[Problem]:
    for name, stands in walk.stands.items():
        if len(stands) > 1:
            groups = [f"{stand.group or 'the top level'}{_on_line(stand.place)}" for stand in stands]
            count = "two" if len(stands) == 2 else str(len(stands))
            message = f"label {name!r} stands in groups {_and(groups)}: one label with {count} parents"
            yield Problem(stands[-1].place, message)


# The whole


def _taxonomy(top: Node, reader: _Reader, base: Path, check_backend: BackendCheck | None) -> Taxonomy:
    nodes = _children_first(top, reader)
    _check_extent(nodes, reader)
    _check_tags(nodes, reader)
    if not isinstance(top, MappingNode):
        raise _fault(
            reader.place(top), f"the top level is {_found(top)}; expected a mapping with {_either(TOP_KEYS)}"
        )
    given = reader.section(top, "the top level", TOP_KEYS)
    sound = not reader.faults
    name = _read_name(top, given, reader)
    combine = reader.choice(given["combine"], "combine", get_args(Combine)) if "combine" in given else "max"
    data = _read_data(given, reader, base)
    walk = _read_groups(top, given, reader, sound)
    description = walk.description(given, "the taxonomy")
    _check_whole(walk)
    if check_backend is not None:
        _check_backends(reader, check_backend)
    if reader.problems or name is None or combine is None:
        raise TaxonomyError(list(dict.fromkeys(reader.problems)))
    groups = {draft.name: _group(draft) for draft in walk.drafts.values()}
    return Taxonomy(
        name=name,
        description=description,
        data=data,
        combine="max" if combine == "max" else "noisy_or",
        groups=groups,
        labels={label: _label(stands) for label, stands in walk.stands.items()},
        graph=Graph.build({group.name: group.children for group in groups.values()}, walk.stands),
        source=reader.source,
        notes=tuple(_several_parents(walk)),
    )


def _read_name(top: Node, given: Mapping[str, Node], reader: _Reader) -> str | None:
    if "name" not in given:
        reader.complain(top, "the key 'name' is missing; expected for instance `name: feedback`")
        return None
    named = reader.name(given["name"], "the name of the taxonomy")
    if named and (fault := _folder_fault(named.name)):
        why = "expected a name that can be a folder's"
        reader.complain(named.place, f"the name of the taxonomy, {named.name!r}, {fault}; {why}")
        return None
    return named.name if named else None


def _read_data(given: Mapping[str, Node], reader: _Reader, base: Path) -> DataSpec:
    if "data" not in given:
        return DataSpec(base=base)
    data = reader.section(given["data"], "data", DATA_KEYS)
    train = reader.names(data["train"], "data.train") if "train" in data else []
    test = reader.names(data["test"], "data.test") if "test" in data else []
    return DataSpec(
        train=tuple(named.name for named in train),
        test=tuple(named.name for named in test),
        text=_read_column(data, "text", reader),
        labels=_read_label_columns(data, reader),
        labels_delimiter=_read_delimiter(data, reader),
        id=_read_column(data, "id", reader),
        base=base,
        train_places=tuple(named.place for named in train),
        test_places=tuple(named.place for named in test),
    )


def _read_column(data: Mapping[str, Node], key: str, reader: _Reader) -> str | None:
    """A column name as written: that of a real file may begin with a blank, but is never empty."""
    if key not in data:
        return None
    column = reader.text(data[key], f"data.{key}")
    if column == "":
        reader.complain(data[key], f"data.{key} is empty; expected the name of a column")
    return column


def _read_label_columns(data: Mapping[str, Node], reader: _Reader) -> str | tuple[str, ...] | None:
    node = data.get("labels")
    if not isinstance(node, SequenceNode):
        return _read_column(data, "labels", reader)
    columns = [_read_column({"labels": each}, "labels", reader) for each in node.value]
    if not columns:
        reader.complain(node, "data.labels is an empty list; expected a column, or a list of 0/1 columns")
    for index, column in enumerate(columns):
        if column in columns[:index]:
            reader.complain(node.value[index], f"data.labels names the column {column!r} twice; keep one")
    return tuple(column for column in columns if column is not None)


def _read_delimiter(data: Mapping[str, Node], reader: _Reader) -> str:
    if "labels_delimiter" not in data:
        return ";"
    delimiter = reader.text(data["labels_delimiter"], "data.labels_delimiter")
    if delimiter == "":
        reader.complain(data["labels_delimiter"], "data.labels_delimiter is empty; expected for instance ';'")
    return delimiter or ";"


def _read_groups(top: MappingNode, given: Mapping[str, Node], reader: _Reader, sound: bool) -> _Walk:
    defaults = reader.section(given["defaults"], "defaults", SETTING_KEYS) if "defaults" in given else {}
    plain = _Settings(backend=BackendSpec("linear", place=Place(reader.source)))
    settings = replace(plain, **reader.settings(defaults, "defaults"))
    walk = _Walk(reader, settings)
    root = _Draft(ROOT, None, reader.place(top), replace(settings, route="always"), sound=sound)
    walk.drafts[ROOT] = root
    walk.children(root, given)
    return walk


def _check_whole(walk: _Walk) -> None:
    _check_labels_are_no_groups(walk)
    _check_labels_agree(walk)
    _check_aliases(walk)
    _join_also_in(walk)
    _check_cycles(walk)
    _check_groups_have_children(walk)


def _group(draft: _Draft) -> Group:
    return Group(
        name=draft.name,
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
    )


def _label(stands: Sequence[_Stand]) -> Label:
    return Label(
        name=stands[0].name,
        description=next((stand.description for stand in stands if stand.description), ""),
        aliases=tuple(dict.fromkeys(alias.name for stand in stands for alias in stand.aliases)),
        threshold=next((stand.threshold for stand in stands if stand.threshold is not None), None),
        places=tuple(stand.place for stand in stands),
    )
