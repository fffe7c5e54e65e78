"""Words as the reader compares them: normal forms, stems, and the beginnings that related words share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache

from cascade.sandbox.reader.thesaurus import meanings
from cascade.sandbox.tokens import clean

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Scripts without blanks between words: two neighbours are the nearest thing to a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")
# Words that stand in every text and say nothing of what it is about.
_IDLE_WORDS = """
a about above after again all also am an and any are as at be because been before being below
between both but by can can't could did didn't do does doesn't doing don't down during each either
else every few for from further get gets getting go goes going got had has have having he her here
hers him his how i i'd i'll i'm i've if in into is isn't it it's its itself just let like made make
makes many me might more most much must my no nor not of off on once one only or other others our
ours out over own same say says see she should so some something such than that that's the their
theirs them then there these they thing things this those through to too under until up upon us use
used user uses using very via want was wasn't we were what whatever when where whether which while
who whom whose why will with within without won't would you your yours
"""
_IDLE = frozenset(_IDLE_WORDS.split())
_STEM_LEAST = 3
_BEGINNING = 5
# How much a shared beginning counts beside a shared stem.
_SHARE_OF_BEGINNING = 0.4
_SHARE_OF_MEANING = 0.5
_MORE = 0.5
_ENDINGS = ("ingly", "edly", "ing", "ed", "ly", "er", "es", "s", "e")


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """A word without the endings of English, for comparing alone: "deliveries" and "delivery" are one."""
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    for ending in _ENDINGS:
        left = word.removesuffix(ending)
        if left != word and len(left) >= _STEM_LEAST and not left.endswith("s" if ending == "s" else " "):
            return _undoubled(left) if ending in ("ing", "ed", "er") else left
    return word


def _undoubled(word: str) -> str:
    return word[:-1] if len(word) > _STEM_LEAST and word[-1] == word[-2] and word[-1] not in "ls" else word


def words_of(text: str) -> list[str]:
    """The words of a text in normal form, idle ones left out; pairs of letters where none are parted."""
    from cascade.text.normal import (
        normal,
    )  # the compiler with it, which takes as long to load as all the rest

    found = []
    for word in _WORD.findall(normal(clean(_CAMEL.sub(" ", text)))):
        if _UNSPACED.fullmatch(word):
            found += [word[at : at + 2] for at in range(max(1, len(word) - 1))]
        elif word not in _IDLE:
            found.append(word)
    return found


@lru_cache(maxsize=50_000)
def _features_of_word(word: str) -> tuple[tuple[str, float], ...]:
    ground = stem(word)
    found = [(ground, 1.0)]
    if len(ground) >= _BEGINNING:
        found.append((f"{ground[:_BEGINNING]}-", _SHARE_OF_BEGINNING))
    return tuple(found)


@cache
def _meanings() -> Mapping[str, tuple[int, ...]]:
    """The meanings of stems."""
    found: dict[str, tuple[int, ...]] = {}
    for word, numbers in meanings().items():
        found[stem(word)] = tuple(dict.fromkeys((*found.get(stem(word), ()), *numbers)))
    return found


@lru_cache(maxsize=20_000)
def features(text: str) -> Mapping[str, float]:
    """What a text is compared by, and how much each of it counts, in (0, 1].

    Stems, the beginnings of long ones, and meanings: these count more where several words have them.
    """
    words = dict.fromkeys(words_of(text))
    found = dict(pair for word in words for pair in _features_of_word(word))
    told = Counter(
        number for ground in {stem(word) for word in words} for number in _meanings().get(ground, ())
    )
    for number, count in told.items():
        found[f"~{number}"] = min(1.0, _SHARE_OF_MEANING * (1 + _MORE * math.log(count)))
    return found
