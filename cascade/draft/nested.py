"""JSON nested as objects or lists."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cascade.draft.concepts import Outline, Path, PathEntry, clean_name, tree_of
from cascade.draft.paths import separator_of, split_path
from cascade.errors import DataError

NAME_KEYS = ("name", "label", "title", "value", "text", "id")
CHILD_KEYS = ("children", "groups", "labels", "items", "nodes", "categories", "subcategories", "options")
SAID_KEYS = ("description", "definition", "meaning", "note")
ALIAS_KEYS = ("aliases", "synonyms", "alias", "synonym")


def parsed(text: str, source: str) -> Any:
    """The JSON value of a text; DataError with the place where it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{source}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"{source}: nested too deep; expected a few levels") from error


def read_nested(value: Any, source: str) -> Outline:
    """The names in JSON.

    Understood are objects of name to what is below (``{"billing": ["refund"]}``), lists of names, paths or
    lists of names, and objects with a name and children (``{"name": "billing", "children": [...]}``),
    which may have a description and aliases.

    Raises
    ------
    DataError
        For a value that is nothing of this, with the path to it.
    """
    name, description = "", ""
    while isinstance(value, Mapping) and _name_of(value) and _children_of(value) is not None:
        name, description = _name_of(value), _said(value)
        value = _children_of(value)
    try:
        return Outline(tree_of(_below(value, (), source)), name=name, description=description)
    except RecursionError as error:
        raise DataError(f"{source}: nested too deep; expected a few levels") from error


def _below(value: Any, path: Path, source: str) -> Iterator[PathEntry]:
    if isinstance(value, Mapping) and not _name_of(value):
        for key, inner in value.items():
            yield from _named(clean_name(key), inner, path, source)
    elif isinstance(value, list):
        yield from _of_list(value, path, source)
    elif isinstance(value, Mapping):
        yield from _of_object(value, path, source)
    elif isinstance(value, str) and value.strip():
        yield PathEntry((*path, clean_name(value)), _place(path, source))
    elif value not in (None, "", True, False):
        shown = json.dumps(value)[:60]
        raise DataError(
            f"{_place(path, source)}: found {shown}; expected names, or objects and lists of names"
        )


def _named(name: str, inner: Any, path: Path, source: str) -> Iterator[PathEntry]:
    """What stands under the key `name`: what is below it, or a sentence that describes it."""
    if isinstance(inner, str):
        yield PathEntry((*path, name), _place(path, source), clean_name(inner))
    elif isinstance(inner, Mapping) and not _name_of(inner) and _is_about(inner):
        yield PathEntry((*path, name), _place(path, source), _said(inner), _aliases(inner))
        yield from _below(_children_of(inner), (*path, name), source)
    else:
        yield PathEntry((*path, name), _place(path, source))
        yield from _below(inner, (*path, name), source)


def _of_list(values: list[Any], path: Path, source: str) -> Iterator[PathEntry]:
    if values and all(isinstance(one, list) and all(isinstance(part, str) for part in one) for one in values):
        for number, parts in enumerate(values, start=1):
            own = tuple(clean_name(part) for part in parts)
            yield PathEntry((*path, *own), f"{_place(path, source)}: item {number}")
        return
    plain = [one for one in values if isinstance(one, str)]
    separator = separator_of(plain) if len(plain) == len(values) else None
    for number, one in enumerate(values, start=1):
        if isinstance(one, str):
            parts = split_path(one, separator) if separator else (clean_name(one),)
            yield PathEntry((*path, *parts), f"{_place(path, source)}: item {number}")
        else:
            yield from _below(one, path, source)


def _of_object(value: Mapping[str, Any], path: Path, source: str) -> Iterator[PathEntry]:
    name = clean_name(_name_of(value))
    yield PathEntry((*path, name), _place(path, source), _said(value), _aliases(value))
    yield from _below(_children_of(value), (*path, name), source)


def _is_about(value: Mapping[str, Any]) -> bool:
    """Whether an object says something of a name, rather than naming what is below it."""
    return bool(value) and all(key.lower() in (*CHILD_KEYS, *SAID_KEYS, *ALIAS_KEYS) for key in value)


def _name_of(value: Mapping[str, Any]) -> str:
    """The name that an object has as one of its values; several keys tell it from a group of such a name."""
    known = (*NAME_KEYS, *CHILD_KEYS, *SAID_KEYS, *ALIAS_KEYS)
    others = [key for key in value if key.lower() not in known]
    named = _first(value, NAME_KEYS)
    if not isinstance(named, str | int) or isinstance(named, bool):
        return ""
    return str(named) if len(others) < len(value) - 1 or len(value) == 1 else ""


def _children_of(value: Mapping[str, Any]) -> Any:
    return _first(value, CHILD_KEYS)


def _said(value: Mapping[str, Any]) -> str:
    said = _first(value, SAID_KEYS)
    return clean_name(said) if isinstance(said, str) else ""


def _aliases(value: Mapping[str, Any]) -> tuple[str, ...]:
    found = _first(value, ALIAS_KEYS)
    listed = found if isinstance(found, list) else [found]
    return tuple(clean_name(one) for one in listed if isinstance(one, str) and one.strip())


def _first(value: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    lowered = {key.lower(): inner for key, inner in value.items()}
    return next((lowered[key] for key in keys if lowered.get(key) is not None), None)


def _place(path: Path, source: str) -> str:
    return f"{source}: {' > '.join(path)}" if path else source
