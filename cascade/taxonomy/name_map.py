"""A small YAML file of names, each with a name or a list of names: every one knows its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from cascade.errors import DataError, Place, TaxonomyError
from cascade.taxonomy.yaml_nodes import compose, place_of_mark, read_text, represent


@dataclass(frozen=True, slots=True)
class WrittenName:
    """A name as it was written, and where."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class NameEntry:
    """A name with what stands behind it: one name, or all of a list."""

    key: WrittenName
    values: tuple[WrittenName, ...]
    is_list: bool


def read_name_map(path: str | Path) -> list[NameEntry]:
    """The entries of a file, in order.

    Raises
    ------
    DataError
        It cannot be read, is no YAML, or no mapping of names to names.
    """
    try:
        text = read_text(str(path))
    except TaxonomyError as error:
        raise DataError(str(error)) from error
    return parse_name_map(text, str(path))


def parse_name_map(text: str, source: str) -> list[NameEntry]:
    """The entries of a text of YAML; raises as that does."""
    try:
        return _entries(compose(text, source), source)
    except TaxonomyError as error:
        raise DataError(str(error)) from error


def name_map_of(given: Mapping[str, Any], source: str) -> list[NameEntry]:
    """The same from Python values; raises as that does."""
    try:
        return _entries(represent(dict(given), source), source)
    except TaxonomyError as error:
        raise DataError(str(error)) from error


def _entries(top: Node, source: str) -> list[NameEntry]:
    if not isinstance(top, MappingNode):
        raise DataError(
            f"{_place(top, source)}: expected names with a name behind each, such as `late: delayed`"
        )
    return [_entry(key, value, source) for key, value in top.value]


def _entry(key: Node, value: Node, source: str) -> NameEntry:
    if isinstance(value, SequenceNode):
        names = tuple(_name(one, source) for one in value.value)
        return NameEntry(_name(key, source), names, is_list=True)
    return NameEntry(_name(key, source), (_name(value, source),), is_list=False)


def _name(node: Node, source: str) -> WrittenName:
    if not isinstance(node, ScalarNode):
        raise DataError(f"{_place(node, source)}: expected a name, or a list of names")
    return WrittenName(str(node.value), _place(node, source))


def _place(node: Node, source: str) -> Place:
    return place_of_mark(node.start_mark, source)
