"""The words of texts and of names, as they are compared and as they are shown."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

# Ideographs and kana are written without blanks: pairs of neighbours are the words, as Lucene's CJKAnalyzer
# has it.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W{_UNSPACED}_]+(?:['\u2019][^\W\d_]+)?")
_CAMEL_CASE = re.compile(r"(?<=[^\W\d_])(?<=[a-z])(?=[A-Z])")
_PLURAL_LEAST = 4


def words_of(text: str) -> Iterator[str]:
    """The words of a text in their order, in lower case and without composed forms apart."""
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold()):
        if is_unspaced(word):
            yield from (word[at : at + 2] for at in range(max(len(word) - 1, 1)))
        else:
            yield word


def words_of_name(name: str) -> list[str]:
    """The words of a name, each once: ``cardDeclined`` and ``Card declined`` have the same."""
    return list(dict.fromkeys(words_of(spelt_out(name))))


def spelt_out(name: str) -> str:
    """A name with blanks between its words: ``card Declined`` for ``cardDeclined``."""
    return _CAMEL_CASE.sub(" ", name.replace("_", " "))


def is_unspaced(word: str) -> bool:
    """Whether the word is of a script that is written without blanks."""
    return "\u3040" <= word[0] <= "\u9fff" or "\uf900" <= word[0] <= "\ufaff"


def singulars(words: Iterable[str]) -> dict[str, str]:
    """Each word -> the one that stands for it: ``cards`` -> ``card`` where both are there, else itself."""
    known = set(words)
    found = {}
    for word in known:
        bare = word[:-1] if word.endswith("s") and len(word) >= _PLURAL_LEAST else word
        found[word] = bare if bare in known else word
    return found
