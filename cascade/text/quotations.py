"""Where a quotation stands in a text, however the two were typed."""

from __future__ import annotations

from cascade.text.characters import N_CODES, WORD, classes_of_words, is_unparted
from cascade.text.normal import normal, placed

_LEFT_OUT = "\u2026"
_QUOTES = "\"'"


def standing(text: str, quotation: str) -> list[tuple[int, int]]:
    """Where each passage of a quotation begins and ends in a text, in the order of the text; empty for none.

    Case, blanks, and kinds of quotes and dashes do not matter, see `cascade.text.normal`; nor do quotes and a
    full stop around the quotation. Where it leaves something out with ``...``, all its passages have to stand
    in the text, one behind the other. A passage begins and ends with whole words. The first place counts.
    """
    found = placed(text)
    places: list[tuple[int, int]] = []
    at = 0
    passages = _passages(quotation)
    for passage in passages:
        start = _find(found.text, passage, at)
        if start < 0:
            return []
        at = start + len(passage)
        places.append((int(found.starts[start]), int(found.ends[at - 1])))
    return places


def _passages(quotation: str) -> list[str]:
    """The normal forms of what a quotation quotes, without what stands around it."""
    whole = normal(quotation.replace(_LEFT_OUT, "...")).replace("[...]", "...")
    passages = [_bare(part) for part in whole.split("...")]
    return [passage for passage in passages if passage]


def _bare(passage: str) -> str:
    return passage.strip(_QUOTES + " ").removesuffix(".").strip(_QUOTES + " ")


def _find(text: str, passage: str, at: int) -> int:
    """Where a passage stands as whole words at or behind a place, -1 for nowhere."""
    start = text.find(passage, at)
    while start >= 0 and _is_within(text, start, start + len(passage)):
        start = text.find(passage, start + 1)
    return start


def _is_within(text: str, start: int, end: int) -> bool:
    """Whether a word is cut at one of the ends."""
    return _cuts(text, start) or _cuts(text, end)


def _cuts(text: str, place: int) -> bool:
    sides = [ord(letter) for letter in text[max(place - 1, 0) : place + 1]]
    return (
        0 < place < len(text)
        and all(classes_of_words(N_CODES)[code] == WORD for code in sides)
        and not any(map(is_unparted, sides))
    )
