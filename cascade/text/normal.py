"""The one normal form of a text: however a message was typed, the same characters.

Close to NFKC_Casefold (Unicode Standard Annex 44), with HTML entities, quotes, dashes, digits and blanks of
one kind besides; docs/text.md has the whole of it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.system.compiled import kernel
from cascade.text.characters import (
    AMPERSAND,
    BLACK_FLAG,
    CODE_POINTS,
    GONE,
    HARD,
    JOINER,
    MARK,
    N_CODES,
    TAGS,
    n_codes_of,
    normal_characters,
)

# An entity may hold another one: "&amp;nbsp;" is what exports make of "&nbsp;". More than this, none does.
MOST_ROUNDS = 4
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# What becomes of ASCII outside of entities.
_ASCII = bytes(range(128)).lower().replace(b"`", b"'") + bytes(range(128, 256))
_CONTROLS = bytes(code for code in range(128) if not chr(code).isprintable() and not chr(code).isspace())
_CONTROL = re.compile(f"[{re.escape(_CONTROLS.decode())}]")
_ASCII_BLANKS = bytes(ord(" ") if code < 128 and chr(code).isspace() else code for code in _ASCII)
# What is no punctuation that ends, parts or quotes: marks of other scripts, dashes and quotes among them.
_SAYING = re.compile(
    r"[^\s.!?,;'\"_\-\u2010-\u2026\u00a1\u00b7\u00bf\u060c\u061b\u061f\u3001\u3002\uff01\uff0c\uff0e\uff1b\uff1f]"
)
_BLANKS = re.compile(r" {2,}")
_LOOSE_TAGS = re.compile(f"(?<![{BLACK_FLAG}{TAGS}])[{TAGS}]+")
_FIVE_SKINS: Final = range(0x1F3FB, 0x1F400)
# Numbers: a letter in a kernel has all that numba knows of strings loaded with it.
_HASH, _A, _Z = np.uint32(ord("#")), np.uint32(ord("a")), np.uint32(ord("z"))


def normal(text: str) -> str:
    """The normal form of a text; that of a normal form is itself.

    Halves of surrogate pairs become "?".
    """
    if text.isascii() and "&" not in text:
        return " ".join(text.encode().translate(_ASCII, _CONTROLS).decode().split())
    text = text.encode("utf-8", "replace").decode("utf-8")
    for _ in range(MOST_ROUNDS):
        before, text = text, _once(text)
        if text == before:
            break
    return _BLANKS.sub(" ", text).strip(" ")


def is_mere_marks(text: str) -> bool:
    """Whether a text is nothing but punctuation that ends, parts or quotes what others say, and blanks.

    An emoji is not, nor are signs that people make faces of.
    """
    return not _SAYING.search(text) or not _SAYING.search(normal(text))


def _once(text: str) -> str:
    if "&" in text:
        text = _ENTITY.sub(_resolved, text)
    # Composed first: what is done to a letter is not always what is done to the letter under a mark.
    text = unicodedata.normalize("NFC", text).translate(normal_characters(N_CODES).strings)
    text = unicodedata.normalize("NFC", text)
    if JOINER in text:
        text = "".join(letter for at, letter in enumerate(text) if _is_seen(text, at))
    return _LOOSE_TAGS.sub("", text)


def _resolved(entity: re.Match[str]) -> str:
    """What an HTML entity stands for; itself where it is none."""
    return html.unescape(entity[0])


def _is_seen(text: str, at: int) -> bool:
    """Whether a character is no joiner, or one between two emoji."""
    if text[at] != JOINER:
        return True
    return 0 < at < len(text) - 1 and _is_emoji(text[at - 1]) and _is_emoji(text[at + 1])


def _is_emoji(letter: str) -> bool:
    return unicodedata.category(letter) == "So" or ord(letter) in _FIVE_SKINS


# With places


@dataclass(frozen=True, eq=False)
class Placed:
    """A normal form, and where each of its characters comes from.

    Attributes
    ----------
    text
        The same as `normal` gives.
    starts, ends
        int64, shape (len(text),): character i comes from original[starts[i]:ends[i]]. Neither ever falls.
        What became one, or several, lies in the same stretch; what is gone belongs to the character before.
    """

    text: str
    starts: IntArray
    ends: IntArray


def placed(text: str) -> Placed:
    """The normal form of a text, with places."""
    places = np.arange(len(text), dtype=np.int64)
    if text.isascii() and "&" not in text and not _CONTROL.search(text):
        found = Placed(text.encode().translate(_ASCII_BLANKS).decode(), places, places + 1)
    else:
        found = _placed_rounds(Placed(text.encode("utf-8", "replace").decode("utf-8"), places, places + 1))
    blank = np.array([letter == " " for letter in found.text], dtype=np.bool_)
    inside = ~blank
    inside[1:] |= inside[:-1]  # the first blank of each run, but at the beginning
    kept = np.flatnonzero(inside)
    if len(kept) and found.text[kept[-1]] == " ":
        kept = kept[:-1]
    shown = "".join(found.text[at] for at in kept.tolist())
    return Placed(shown, *_apart(found.starts[kept], found.ends[kept]))


def _placed_rounds(found: Placed) -> Placed:
    for _ in range(MOST_ROUNDS):
        before, found = found, _placed_once(found)
        if found.text == before.text:
            break
    return found


def _apart(starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """The same stretches, where those that overlap have become one."""
    new = np.ones(len(starts), dtype=np.bool_)
    new[1:] = starts[1:] >= ends[:-1]
    of_stretch = np.cumsum(new) - 1
    last = np.append(np.flatnonzero(new), len(starts))[1:] - 1
    return starts[new][of_stretch], ends[last][of_stretch]


def _placed_once(found: Placed) -> Placed:
    """What `_once` does, one piece after the other."""
    pieces, origins = _without_entities(found)
    text, stretches = "".join(pieces), _stretches("".join(pieces))
    made: list[str] = []
    firsts: list[int] = []
    lasts: list[int] = []
    for start, end in stretches:
        new = _once(text[start:end])
        made.append(new)
        firsts += [int(origins[0][start])] * len(new)
        lasts += [int(origins[1][end - 1])] * len(new)
    starts, ends = np.array(firsts, dtype=np.int64), np.array(lasts, dtype=np.int64)
    return Placed("".join(made), starts, ends)


def _without_entities(found: Placed) -> tuple[list[str], tuple[IntArray, IntArray]]:
    """The text in pieces, with HTML entities resolved, and where each character of them begins and ends."""
    pieces: list[str] = []
    firsts: list[int] = []
    lasts: list[int] = []
    at = 0
    for entity in (*_ENTITY.finditer(found.text), None):
        start, end = entity.span() if entity else (len(found.text), len(found.text))
        pieces.append(found.text[at:start])
        firsts += range(at, start)
        lasts += range(at, start)
        if entity:
            pieces.append(_resolved(entity))
            firsts += [start] * len(pieces[-1])
            lasts += [end - 1] * len(pieces[-1])
        at = end
    return pieces, (
        found.starts[np.array(firsts, dtype=np.int64)],
        found.ends[np.array(lasts, dtype=np.int64)],
    )


def _stretches(text: str) -> list[tuple[int, int]]:
    """Pieces of a text that become what they become whatever stands beside them, none of them empty."""
    joins = normal_characters(N_CODES).joins
    cuts = [0]
    cuts += [at for at in range(1, len(text)) if not joins[ord(text[at])] and not _joins_on(text, at)]
    return list(zip(cuts, [*cuts[1:], len(text)], strict=True)) if text else []


def _joins_on(text: str, at: int) -> bool:
    """Whether the character before is a joiner, perhaps with what goes behind it."""
    strings = normal_characters(N_CODES).strings
    at -= 1
    while at > 0 and strings.get(ord(text[at]), " ") == "":
        at -= 1
    return text[at] == JOINER


# Many at once


@kernel
def simplify(
    codes: NDArray[np.uint32],
    lengths: IntArray,
    to: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    found: NDArray[np.uint32],
    hard: NDArray[np.bool_],
) -> np.int64:
    """Bring texts whose characters are all plain into the normal form, but for runs of blanks.

    `codes` are those of one text after the other; `found` gets what is left, and `lengths` becomes how much;
    the answer is how much in all. `hard` gets which texts need `normal`: of these, characters may be wrong.
    """
    start = end = np.int64(0)
    for text in range(len(lengths)):
        first, after_mark = end, False
        hard[text] = False
        last = start + lengths[text]
        for place in range(start, last):
            code = codes[place]
            kind = kinds[code]
            code = to[code]
            if kind:
                hard[text] |= kind == HARD or (kind == MARK and after_mark)
                hard[text] |= kind == AMPERSAND and place + 1 < last and _may_name(to[codes[place + 1]])
            after_mark = kind == MARK or (after_mark and code == GONE)
            found[end] = code
            end += code != GONE
        start = last
        lengths[text] = end - first
    return end


@kernel
def _may_name(code: np.uint32) -> np.bool_:
    """Whether an HTML entity may go on like this after its "&"."""
    return np.bool_(_A <= code <= _Z or code in (_HASH, GONE))


def normal_codes(texts: Sequence[str]) -> tuple[NDArray[np.uint32], IntArray]:
    """The code points of the normal forms, one text after the other, and how many each has.

    Runs of blanks are left as they are, and blanks at the ends.
    """
    codes, lengths = codes_of(texts)
    characters, hard = normal_characters(n_codes_of(codes)), np.empty(len(texts), dtype=np.bool_)
    found = np.empty(len(codes), dtype=np.uint32)
    codes = found[: simplify(codes, lengths, characters.to, characters.kinds, found, hard)]
    if not hard.any():
        return codes, lengths
    ends = np.cumsum(lengths)
    pieces, at = [], 0
    for row in np.flatnonzero(hard).tolist():
        (own, (length,)), end = codes_of([normal(texts[row])]), int(ends[row])
        pieces += [codes[at : end - lengths[row]], own]
        at, lengths[row] = end, length
    return np.concatenate([*pieces, codes[at:]]), lengths


def normal_forms(texts: Sequence[str]) -> list[str]:
    """`normal` of each text, faster for many."""
    codes, lengths = normal_codes(texts)
    whole = codes.tobytes().decode(CODE_POINTS)
    ends = np.cumsum(lengths).tolist()
    return [" ".join(whole[start:end].split()) for start, end in zip([0, *ends], ends, strict=False)]


def codes_of(texts: Sequence[str]) -> tuple[NDArray[np.uint32], IntArray]:
    """The code points of texts, one text after the other, and how many each has."""
    encoded = "".join(texts).encode(CODE_POINTS, "replace")
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.frombuffer(encoded, dtype=np.uint32), lengths
