"""What each character is: what it becomes in the normal form, and what part it has in words.

Both follow Python's Unicode tables. Saved models depend on them: a change of a rule needs a new `VERSION` of
the features.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import BoolArray

CODE_POINTS = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"  # one uint32 each
N_CODES = sys.maxunicode + 1
N_LATIN = 0x300  # ASCII and Latin letters; behind them come combining marks and all other scripts

OTHER, WORD, SPACE, IDEOGRAPH = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
"""A mark, which is a word of its own; a part of a word; what parts words; and a word that parts others."""

PLAIN, HARD, MARK, AMPERSAND = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
"""A character that becomes one character or none, whatever stands around it; one that may not; a combining
mark, which stays in its place unless another stands before it; and the start of an HTML entity, perhaps."""

GONE = np.uint32(0xFFFFFFFF)
JOINER = "\u200d"
BLACK_FLAG = "\U0001f3f4"
TAGS = "\U000e0020-\U000e007f"  # which spell the region of a flag, behind it

# Of one kind each: what phones, word processors and keyboards of other languages write for ' and " and -. The
# acute accent on its own comes before NFKC, which would make a blank and an accent of it.
_ALIKE = {
    "'": "`\u00b4\u2018\u2019\u201a\u201b\u2032\u2035\u02b9\u02bb\u02bc\u02bd\u02c8\u2039\u203a\u05f3\uff07",
    '"': "\u201c\u201d\u201e\u201f\u2033\u2036\u00ab\u00bb\u02ba\u05f4\u301d\u301e\u301f\uff02",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u02d7\u05be\ufe58\ufe63\uff0d",
    # Keyboards for Arabic and for Persian have these letters at different code points, and look alike.
    "\u06cc": "\u064a\u0649",
    "\u06a9": "\u0643",
}
# Format and control characters go; so do these, which are not seen either (Default_Ignorable_Code_Point).
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u3164\uffa0"
# Vowels of Hebrew and Arabic, which most people leave out, cantillation, and the stroke that only stretches.
_POINTS = re.compile(
    "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u0640\u064b-\u0652\u0656-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed]"
)
# Where characters may change: all but ideographs, syllables of Hangul and Yi, Tangut, private use, and planes
# without any.
_BLOCKS = (
    (0, 0x3400), (0xA000, 0xAC00), (0xD7A4, 0xD800), (0xF900, 0x17000), (0x18D00, 0x20000),
    (0x2F800, 0x2FA20), (0xE0000, 0xE1000),
)  # fmt: skip
# Behind it are planes without any, tags, and private use: no word and no white space.
_LAST_WORDS = 0x40000
_BETWEEN = "\ufdd0"  # a noncharacter, which joins nothing
# Vowels and consonants that close a syllable of Hangul.
_CLOSING_JAMO = range(0x1161, 0x11C3)
# Scripts that write no blanks between words: their vowel signs part what would be one word otherwise.
_UNPARTED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))
# Ideographs and kana, each a word of its own.
_SINGLE = (
    (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3031, 0x3035), (0x3038, 0x303C),
    (0x3041, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0x1AFF0, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Normal:
    """The normal form of single characters.

    Attributes
    ----------
    to
        uint32, shape (n_codes,): what a character becomes, `GONE` for nothing; of those that are not plain,
        themselves.
    kinds
        uint8, shape (n_codes,): `PLAIN`, `HARD`, `MARK` or `AMPERSAND`.
    strings
        What every character becomes that changes, by code point, as `str.translate` takes it.
    joins
        bool, shape (n_codes,): what may become one with the character before.
    """

    to: NDArray[np.uint32]
    kinds: NDArray[np.uint8]
    strings: Mapping[int, str]
    joins: BoolArray


def n_codes_of(codes: NDArray[np.uint32]) -> int:
    """How many code points the tables need for these: `N_LATIN`, or all, for a tenth of a second."""
    return N_LATIN if codes.max(initial=0) < N_LATIN else N_CODES


@cache
def normal_characters(n_codes: int) -> Normal:
    """What `cascade.text.normal` does to each of the first `n_codes` code points."""
    strings, marks = _changed(n_codes)
    composing = _composing(n_codes)
    to = np.arange(N_CODES, dtype=np.uint32)
    kinds = np.zeros(N_CODES, dtype=np.uint8)
    joins = np.zeros(N_CODES, dtype=np.bool_)
    kinds[marks] = MARK
    joins[marks] = joins[_CLOSING_JAMO] = True
    kinds[_CLOSING_JAMO] = HARD
    for code in composing:
        kinds[code], joins[code] = HARD, True
    for code, string in strings.items():
        first = unicodedata.normalize("NFD", string)[:1]
        if not string:
            to[code], kinds[code], joins[code] = GONE, PLAIN, True
        elif len(string) > 1 or joins[ord(first)] or ord(first) in composing:
            kinds[code], joins[code] = HARD, bool(joins[ord(first)])
        else:
            to[code] = ord(string)
    for code in (ord(JOINER), *range(0xE0020, 0xE0080)):
        kinds[code], joins[code] = HARD, True
    kinds[to == ord("&")] = AMPERSAND
    return Normal(to[:n_codes], kinds[:n_codes], strings, joins[:n_codes])


def _changed(n_codes: int) -> tuple[dict[int, str], list[int]]:
    """What each character becomes that changes, and the combining marks that do not."""
    given = [letter for letter, _ in _looked_at(n_codes)]
    strings = {ord(old): new for old, new in zip(given, _folded(given), strict=True)}
    again = {code: new for code, new in strings.items() if new != chr(code)}
    strings |= zip(again, _folded(list(again.values())), strict=True)
    for letter, category in _looked_at(n_codes):
        if letter.isspace():
            strings[ord(letter)] = " "
        elif category in ("Cc", "Cf") and not _is_kept(ord(letter)):
            strings[ord(letter)] = ""
        elif category == "Nd":
            strings[ord(letter)] = str(unicodedata.digit(letter))
    strings |= dict.fromkeys([*map(ord, _UNSEEN), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)], "")
    strings |= _alike()
    changed = {
        code: new for code, new in zip(strings, _without_points(strings), strict=True) if new != chr(code)
    }
    return changed, [
        ord(letter) for letter in given if unicodedata.combining(letter) and ord(letter) not in changed
    ]


def _is_kept(code: int) -> bool:
    """Whether a format character is settled by what stands around it."""
    return code == ord(JOINER) or 0xE0020 <= code < 0xE0080


@cache
def _looked_at(n_codes: int) -> tuple[tuple[str, str], ...]:
    """Of the first code points those that may change, and combining marks, with their categories.

    Letters without case stay as they are unless they have a decomposition.
    """
    letters = [chr(code) for first, last in _BLOCKS for code in range(first, min(last, n_codes))]
    return tuple(
        (letter, category)
        for letter, category in zip(letters, map(unicodedata.category, letters), strict=True)
        if category not in ("Cn", "Cs", "Co") and (category != "Lo" or unicodedata.decomposition(letter))
    )


def _folded(strings: list[str]) -> list[str]:
    """NFKC, casefolded, NFKC, and the kinds of quotes and dashes, of each."""
    whole = _BETWEEN.join(strings).translate(_alike())  # one call for all
    whole = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", whole).casefold())
    return whole.translate(_alike()).split(_BETWEEN)


def _alike() -> dict[int, str]:
    return {ord(letter): kind for kind, letters in _ALIKE.items() for letter in letters}


def _without_points(strings: Mapping[int, str]) -> list[str]:
    return _POINTS.sub("", _BETWEEN.join(strings.values())).split(_BETWEEN)


def _composing(n_codes: int) -> frozenset[int]:
    """Characters that may become one with the one before: second halves of canonical decompositions."""
    halves = (unicodedata.decomposition(letter).split() for letter, _ in _looked_at(n_codes))
    return frozenset(int(pair[1], 16) for pair in halves if len(pair) == 2 and pair[0][0] != "<")


def is_unparted(code: int) -> bool:
    """Whether a code point is of a script that writes no blanks between words, and has letters."""
    return any(first <= code <= last for first, last in _UNPARTED)


@cache
def classes_of_words(n_codes: int) -> NDArray[np.uint8]:
    r"""`OTHER`, `WORD`, `SPACE` or `IDEOGRAPH` for each of the first code points, uint8, shape (n_codes,).

    They are those of texts in the normal form. Words are runs of ``\w`` and combining marks, which carry
    vowels in many scripts. Ideographs and kana are words one by one. Scripts without blanks between words
    keep their marks apart.
    """
    classes = classes_of_python(n_codes).copy()
    marks = [ord(letter) for letter, category in _looked_at(n_codes) if category in ("Mn", "Mc", "Me")]
    classes[marks] = WORD
    for first, last in _UNPARTED:
        classes[first : last + 1] = classes_of_python(n_codes)[first : last + 1]
    for first, last in _SINGLE:
        of_script = classes[first : last + 1]
        of_script[of_script == WORD] = IDEOGRAPH
    return classes


@cache
def classes_of_python(n_codes: int) -> NDArray[np.uint8]:
    """Whether each of the first code points is white space, of a word or something else, as `re` has it."""
    first = np.arange(min(_LAST_WORDS, n_codes), dtype=np.uint32)
    planes = first.tobytes().decode(CODE_POINTS, "surrogatepass")
    classes = np.full(n_codes, OTHER, dtype=np.uint8)
    for kind, pattern in ((WORD, r"\w+"), (SPACE, r"\s+")):
        for found in re.finditer(pattern, planes):
            classes[found.start() : found.end()] = kind
    return classes
