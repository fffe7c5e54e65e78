"""Free writing, as far as a reader of words goes: quotations, descriptions and other names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cascade.sandbox.reader.prompts import Choice, Prompt
from cascade.sandbox.reader.scoring import WEIGHTS, by_words
from cascade.sandbox.reader.thesaurus import meanings
from cascade.sandbox.reader.words import features, stem, words_of

MOST_WORDS = 5
_CLAUSE = re.compile(r"[^.!?;:,\n]+")
_NUMBERED = re.compile(r"\d+")
_MARKS = ("<text>", "</text>")


def quotation(prompt: Prompt, choice: Choice) -> str:
    """The part of the text, between two marks of punctuation, that speaks most for a choice."""
    clauses = [clause.strip() for clause in _CLAUSE.findall(prompt.text) if clause.strip()]
    scores = [by_words([choice], features(clause), WEIGHTS)[0] for clause in clauses]
    return clauses[scores.index(max(scores))] if clauses else ""


def description(prompt: Prompt, choice: Choice | None) -> str:
    """A sentence of a name and the words that are most telling beside it."""
    told = telling(prompt, choice)
    name = " ".join(words_in_name(choice.name)) if choice else ""
    listed = " and ".join(part for part in (", ".join(told[:-1]), *told[-1:]) if part)
    if not name:
        return f"{listed}.".capitalize() if listed else ""
    return f"{name}: {listed}.".capitalize() if listed else f"{name}.".capitalize()


def words_in_name(name: str) -> list[str]:
    """``courier_rude`` as words."""
    return [part for part in re.split(r"[\W_]+", name) if part]


def telling(prompt: Prompt, choice: Choice | None) -> list[str]:
    """Words that stand where a name is spoken of and seldom elsewhere, the most telling first."""
    sections = _sections(prompt)
    own = Counter(words_of(sections.get(choice.name, "") if choice else prompt.text))
    everywhere = Counter(word for part in sections.values() for word in set(words_of(part)))
    known = {stem(word) for word in words_of(choice.name)} if choice else set()
    weight = {
        word: count / max(1, everywhere[word])
        for word, count in own.items()
        if stem(word) not in known and not _NUMBERED.fullmatch(word) and len(word) > 2
    }
    if not weight and choice:
        return _alike(choice.name)
    return sorted(weight, key=lambda word: (-weight[word], word))[:MOST_WORDS]


def _alike(name: str) -> list[str]:
    """Words that mean nearly what those of a name do."""
    own = words_of(name)
    wanted = {meaning for word in own for meaning in meanings().get(word, ())}
    known = {stem(word) for word in own}
    found = (word for word, has in meanings().items() if wanted & set(has) and stem(word) not in known)
    return [word for word, _ in zip(found, range(MOST_WORDS), strict=False)]


@lru_cache(maxsize=16)
def _sections(prompt: Prompt) -> Mapping[str, str]:
    """What is told of each choice: the rest of a line that begins with its name, and the lines below it."""
    names = sorted((choice.name for choice in prompt.choices), key=len, reverse=True)
    found: dict[str, str] = {}
    current = ""
    for line in prompt.whole.splitlines():
        if line.strip() in _MARKS:
            continue
        begun = _begun(line, names)
        current = begun or (current if line.strip() else "")
        if current:
            rest = line.partition(begun)[2].replace("(includes:", "") if begun else line
            found[current] = f"{found.get(current, '')}\n{rest}"
    return found


def _begun(line: str, names: Sequence[str]) -> str:
    """The name that a line begins with, after numbers, dashes and the like."""
    bare = line.lstrip(" \t-*#>0123456789.)\"'`")
    for name in names:
        if bare.startswith(name) and not bare[len(name) : len(name) + 1].isalnum():
            return name
    return ""
