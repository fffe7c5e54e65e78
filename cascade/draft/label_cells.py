"""The names in a cell of labels, where no taxonomy says which there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cascade.draft.concepts import Path, clean_name
from cascade.draft.paths import separator_of
from cascade.rows.cells import flag_of, is_missing, listed
from cascade.rows.names import NONE_WORDS, folded

DELIMITERS = (";", "|", "#", "\n", "\t", ",", "/")
_BRACKETS = ("[", "(", "{")
_HOLDERS = ("label", "labels", "name", "value", "choices", "taxonomy")


def names_in(value: Any, delimiter: str | None) -> list[str | Path]:
    """The names that a cell holds, each once and in its order; a list of names within a list is a path."""
    return list(dict.fromkeys(_names(value, delimiter)))


def _names(value: Any, delimiter: str | None) -> Iterator[str | Path]:
    if isinstance(value, str):
        yield from _in_text(value, delimiter)
    elif isinstance(value, Mapping):
        yield from _in_object(value, delimiter)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            if isinstance(one, list | tuple) and one and all(isinstance(part, str) for part in one):
                yield tuple(clean_name(part) for part in one)
            else:
                yield from _names(one, None)
    elif not is_missing(value):
        yield from _in_text(str(value), None)


def _in_text(cell: str, delimiter: str | None) -> Iterator[str | Path]:
    if cell.strip()[:1] in _BRACKETS:
        held = listed(cell.strip(), delimiter or ",")
        if held is not None:
            yield from _names(held, None)
            return
    for part in cell.split(delimiter) if delimiter else [cell]:
        name = clean_name(part)
        if folded(name) not in NONE_WORDS:
            yield name


def _in_object(value: Mapping[Any, Any], delimiter: str | None) -> Iterator[str | Path]:
    """An object that holds names under a usual key, or names with whether each holds."""
    usual = [key for key in value if folded(str(key)) in _HOLDERS]
    if len(usual) == 1 and isinstance(value[usual[0]], str | list | tuple):
        yield from _names(value[usual[0]], delimiter)
        return
    yield from (clean_name(key) for key, flag in value.items() if flag_of(flag))


def delimiter_of(cells: Sequence[Any]) -> str | None:
    """The mark between names: one whose parts occur elsewhere too, so that names are fewer than cells.

    A mark between the parts of a path, which never stand in each other's places, is none.
    """
    counted = Counter(cell.strip() for cell in cells if isinstance(cell, str))
    texts = [text for text in counted if text and text[0] not in _BRACKETS]
    for mark in DELIMITERS:
        parted = [text for text in texts if mark in text]
        parts = {part.strip() for text in texts for part in text.split(mark)} - {""}
        is_path = mark in ("|", "/", "#") and (separator_of(texts) or "").strip() == mark
        # A semicolon is the mark of our own files.
        if parted and not is_path and (mark == ";" or len(parts) < len(texts)):
            return mark
    return None
