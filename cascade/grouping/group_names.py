"""Names for groups, of words that their labels share and that tell them from the others."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import cache

import numpy as np

from cascade.grouping.vectors import LABEL_MARK, Array, LabelVectors
from cascade.grouping.words import is_unspaced, singulars, words_of_name

WORDS = 2
"""Two words tell a group; one does where `ENOUGH` of its labels have it in their names."""
ENOUGH = 0.6
SHARED = 0.2
"""A word of names is the group's where so many of its labels have it, and two of them at the least."""
TELLING = 2.0
"""A word is the group's where it is so many times as frequent there as it is in all."""
_LETTERS_LEAST = 3
_CANDIDATES = 6
_STEM = 5
_LOOKED_AT = 30
# Stand in scikit-learn's list, and name groups well.
_NOUNS = {"amount", "bill", "call", "computer", "cry", "detail", "fire", "interest", "system"}


def group_names(
    names: Sequence[str], members: Sequence[Sequence[int]], known: LabelVectors, taken: Collection[str] = ()
) -> list[str]:
    """A name for each group of `members` (positions in `names`), unlike all labels, groups and `taken`.

    Words are ranked by what they add to the Kullback-Leibler divergence of the group from all labels,
    p log(p / q), where p and q are the shares of label names, or else the mean shares of texts, that have
    it. They are written as most label names are: with underscores, hyphens or blanks, in lower case or
    capitals.
    """
    used = {name.casefold() for name in (*names, *taken)}
    ranked = _Ranking(names, known)
    style = _Style(names)
    found = []
    for group in members:
        name = next(one for one in style.written(ranked.words(group)) if one.casefold() not in used)
        used.add(name.casefold())
        found.append(name)
    return found


class _Ranking:
    def __init__(self, names: Sequence[str], known: LabelVectors) -> None:
        split = [words_of_name(name) for name in names]
        self._same = singulars(word for words in split for word in words)
        self._of_name = [{self._same[word] for word in words if _can_name(word)} for words in split]
        self._everywhere = Counter(word for words in self._of_name for word in words)
        self._rates, self._words = known.rates, known.words
        self._means = np.asarray(known.rates.mean(axis=0)).ravel()

    def words(self, group: Sequence[int]) -> list[str]:
        """Words that may name the group, best first: one only where that says enough."""
        of_names, first_share = self._of_names(group)
        if first_share >= ENOUGH:
            return of_names[:1]
        named = {word for label in group for word in self._of_name[label]}
        of_texts = sorted(
            itertools.islice(self._of_texts(group), _LOOKED_AT), key=lambda word: word not in named
        )
        return list(dict.fromkeys([*of_names, *of_texts]))[:_CANDIDATES]

    def _of_names(self, group: Sequence[int]) -> tuple[list[str], float]:
        counts = Counter(word for label in group for word in self._of_name[label])
        n_all = len(self._of_name)
        shares = {word: count / len(group) for word, count in counts.items() if count >= min(2, len(group))}
        lifts = {word: share * n_all / self._everywhere[word] for word, share in shares.items()}
        worth = {
            word: share * np.log(lifts[word])
            for word, share in shares.items()
            if share >= SHARED and lifts[word] >= min(TELLING, n_all / len(group))
        }
        best = sorted(worth, key=lambda word: (-worth[word], word))
        return best, shares[best[0]] if best else 0.0

    def _of_texts(self, group: Sequence[int]) -> Iterator[str]:
        inside: Array = np.asarray(self._rates[list(group)].mean(axis=0)).ravel()
        held = np.flatnonzero(inside >= TELLING * self._means)
        worth = inside[held] * np.log(inside[held] / self._means[held])
        for place in held[np.argsort(-worth, kind="stable")]:
            word = self._words[place]
            if not word.startswith(LABEL_MARK) and _can_name(word):
                yield self._same.get(word, word)


def _can_name(word: str) -> bool:
    if not word.isalpha() or word in _function_words():
        return False
    return len(word) >= _LETTERS_LEAST or is_unspaced(word)


@cache
def _function_words() -> frozenset[str]:
    """English ones; in other languages it is by their spread over all labels that they name no group."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS - _NOUNS)


class _Style:
    def __init__(self, names: Sequence[str]) -> None:
        marks = Counter(mark for name in names for mark in "_- " if mark in name.strip())
        self._mark = marks.most_common(1)[0][0] if marks else "_"
        self._capitals = sum(name[:1].isupper() for name in names) * 2 > len(names)

    def written(self, words: Sequence[str]) -> Iterator[str]:
        """Names of these words, the best first, without an end."""
        words = list(_apart(words))
        for length in range(min(WORDS, len(words)) or 1, len(words) + 1):
            for chosen in itertools.combinations(words, length):
                yield self._joined(chosen)
        plain = self._joined(words[:WORDS] or ["group"])
        for number in itertools.count(2 if words else 1):
            yield f"{plain}{self._mark}{number}"

    def _joined(self, words: Sequence[str]) -> str:
        shown = [word.capitalize() if self._capitals else word for word in words]
        return (" & " if self._mark == " " else self._mark).join(shown)


def _apart(words: Sequence[str]) -> Iterator[str]:
    """The words that do not begin as an earlier one does: agriculture says no more than agricultural."""
    begun: set[str] = set()
    for word in words:
        if word[:_STEM] not in begun:
            begun.add(word[:_STEM])
            yield word
