"""JSON with some values replaced, and all else as it was written: order, blanks, numbers, escapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Step = str | int
Path = tuple[Step, ...]

_BLANKS = re.compile(r"[ \t\r\n]*")
_decoded = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Member:
    """Where a value stands in a text, and its key, where it has one: all as places in the text."""

    key: Step
    key_start: int
    key_stop: int
    start: int
    stop: int


def members(text: str, start: int = 0) -> list[Member]:
    """The values in the object or list that begins at `start`; of equal keys all, in order."""
    start = _after_blanks(text, start)
    return list(_members(text, start + 1, is_object=text[start] == "{"))


def _members(text: str, place: int, *, is_object: bool) -> Iterator[Member]:
    close, number = "}" if is_object else "]", 0
    place = _after_blanks(text, place)
    while text[place] != close:
        key: Step = number
        key_start = key_stop = place
        if is_object:
            key, key_stop = _decoded(text, place)
            place = _after_blanks(text, _after_blanks(text, key_stop) + 1)
        _, stop = _decoded(text, place)
        yield Member(key, key_start, key_stop, place, stop)
        number += 1
        place = _after_blanks(text, stop)
        if text[place] == ",":
            place = _after_blanks(text, place + 1)


def _after_blanks(text: str, place: int) -> int:
    found = _BLANKS.match(text, place)
    return found.end() if found else place


def with_values(text: str, values: Mapping[Path, Any]) -> str:
    """The JSON `text` with other values at some paths; a key that is not there is added at the end.

    A list that takes the place of a list is laid out as that was.

    Raises
    ------
    KeyError
        A path leads through something that is not there.
    """
    for path, value in values.items():
        text = _with_value(text, path, value)
    return text


def _with_value(text: str, path: Path, value: Any) -> str:
    start = 0
    for step in path[:-1]:
        start = _member(text, start, step).start
    try:
        found = _member(text, start, path[-1])
    except KeyError:
        return _with_member(text, start, str(path[-1]), value)
    return text[: found.start] + _written(value, text[found.start : found.stop], text) + text[found.stop :]


def _member(text: str, start: int, step: Step) -> Member:
    """The last one of this key, which is the one that counts."""
    found = [one for one in members(text, start) if one.key == step]
    if not found:
        raise KeyError(step)
    return found[-1]


def _with_member(text: str, start: int, key: str, value: Any) -> str:
    """The object that begins at `start` with one more member, laid out as those before it."""
    there = members(text, start)
    member = f"{_dumped(key, text)}{_colon(text, there)}{_written(value, '', text)}"
    if not there:
        opened = _after_blanks(text, start) + 1
        return text[:opened] + member + text[opened:]
    last = there[-1].stop
    return text[:last] + _between(text, there) + member + text[last:]


def with_keys(text: str, keys: Mapping[str, str | None]) -> str:
    """The JSON object `text` with other keys; a member whose key becomes None is taken out."""
    there = members(text)
    between = _between(text, there)
    kept = [one for one in there if keys.get(str(one.key), "") is not None]
    if not there or (len(kept) == len(there) and not any(str(one.key) in keys for one in there)):
        return text
    pieces = []
    for one in kept:
        new = keys.get(str(one.key))
        name = text[one.key_start : one.key_stop] if new is None else _dumped(new, text)
        pieces.append(name + text[one.key_stop : one.stop])
    return text[: there[0].key_start] + between.join(pieces) + text[there[-1].stop :]


def _between(text: str, there: Sequence[Member]) -> str:
    """A comma with the blanks around it."""
    if len(there) > 1:
        return text[there[0].stop : there[1].key_start]
    lead = text[1 : there[0].key_start] if there and text[:1] == "{" else ""
    return f",{lead}" if "\n" in lead else ", " if _is_spaced(text) else ","


def _colon(text: str, there: Sequence[Member]) -> str:
    return text[there[0].key_stop : there[0].start] if there else ": "


def _is_spaced(text: str) -> bool:
    return '":"' not in text and '":[' not in text and '":{' not in text


def _dumped(value: Any, text: str) -> str:
    """JSON as compact and as plain as the text around it."""
    is_ascii = text.isascii() and "\\u" in text
    separators = (", ", ": ") if _is_spaced(text) else (",", ":")
    return json.dumps(value, ensure_ascii=is_ascii, separators=separators)


def _written(value: Any, before: str, text: str) -> str:
    if not (isinstance(value, list) and before.startswith("[")):
        return _dumped(value, text)
    there = members(before)
    elements = [_dumped(one, text) for one in value]
    if not there or not elements:
        return _dumped(value, text)
    lead, tail = before[1 : there[0].start], before[there[-1].stop : -1]
    usual = f",{lead}" if "\n" in lead else ", " if _is_spaced(text) else ","
    between = before[there[0].stop : there[1].start] if len(there) > 1 else usual
    return f"[{lead}{between.join(elements)}{tail}]"
