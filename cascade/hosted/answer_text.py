"""Texts on their way into questions and answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

NONE = "none"
SEPARATOR = "\n\n###\n\n"
"""Ends the prompt of a completion; it stands nowhere else in it."""
STOP = "\n"
"""Ends a completion; no answer has one inside."""


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def harmless(text: str) -> str:
    """The text without what fails a whole job or request: ``<|``, nothing at all, half a character."""
    if not text.strip():
        return "(empty)"
    return text.encode("utf-8", "replace").decode("utf-8").replace("<|", "< |")


def prompt_of(text: str) -> str:
    return harmless(text).replace("\n###", "\n ###") + SEPARATOR


def escaped(name: str) -> str:
    """The name as a part of an answer; `unescaped` gives it back."""
    if folded(name) == NONE:
        return _hidden(name[0]) + escaped(name[1:])
    marked = re.sub(r"[\\;]|(?<=<)\|", r"\\\g<0>", name)
    return re.sub(r"^ | $|(?<= ) ", lambda found: _hidden(found[0]), _visible(marked))


def _visible(name: str) -> str:
    return "".join(letter if letter.isprintable() else _hidden(letter) for letter in name)


def _hidden(letter: str) -> str:
    return f"\\u{ord(letter):06x}"


def unescaped(part: str) -> str:
    def letter(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] and int(found[1], 16) <= 0x10FFFF else found[0][-1]

    return re.sub(r"\\u([0-9a-f]{6})|\\.", letter, part)


def folded(name: str) -> str:
    """The name without case, quotes, a full stop, and differences of white space."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(plain.strip("\"'`. \t\n").split())


def unambiguous(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    twice: set[str] = set()
    for name, number in pairs:
        if found.setdefault(name, number) != number:
            twice.add(name)
    return {name: number for name, number in found.items() if name not in twice and name not in ("", NONE)}


def marked(target: Sequence[bool]) -> Iterator[int]:
    return (number for number, mark in enumerate(target) if mark)


def digits_of(token: str) -> str | None:
    found = re.fullmatch(r"\s*([0-9]+)[\s.,;]*", token)
    return found[1] if found else None
