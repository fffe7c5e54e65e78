"""How well each choice fits a text, by the words they share and by examples that are like the text."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from cascade.sandbox.reader.prompts import Choice, Prompt
from cascade.sandbox.reader.words import features


@dataclass(frozen=True)
class Weights:
    """What counts how much.

    Attributes
    ----------
    name, alias, description
        Of a word by where it stands; by its best place where it stands in several.
    length
        The power of a choice's size that its score is divided by.
    shared
        The power of the share of choices that lack a word: 0 has words count the same that all have.
    slope, offset, lead
        Log odds of a choice: slope * score + offset + lead * (score less the best of the others, if less).
    nothing
        The score of "none of these".
    sharpness
        Log odds of one choice beside another for each unit of score between them.
    voice
        Log odds that examples add where all of them have a choice.
    """

    name: float = 0.7
    alias: float = 1.0
    description: float = 0.6
    length: float = 0.35
    shared: float = 1.2
    slope: float = 4.0
    offset: float = -1.3
    lead: float = 2.5
    nothing: float = 0.05
    sharpness: float = 5.0
    voice: float = 6.5


# Found by search on training rows of feedback, CLINC150, NLU++ and GoEmotions, asked group by group.
WEIGHTS = Weights()


@dataclass(frozen=True)
class Verdict:
    """What a reader makes of a text.

    Attributes
    ----------
    apart
        How probable each choice is by itself, in (0, 1), as many as there are choices.
    one
        How probable each is if there is exactly one; they sum to 1.
    """

    apart: tuple[float, ...]
    one: tuple[float, ...]

    @classmethod
    def certain(cls, at: int, n_choices: int) -> Verdict:
        """One choice and no other."""
        chances = tuple(0.999 if place == at else 0.001 for place in range(n_choices))
        return cls(chances, chances)


def judge(prompt: Prompt, weights: Weights = WEIGHTS) -> Verdict:
    """The chances of a prompt's choices."""
    if len(prompt.choices) == 1:
        return _second_look(prompt, weights)
    scores, votes = scores_of(prompt, weights), votes_of(prompt)
    apart = [_alone(at, scores, prompt, weights) + weights.voice * votes[at] for at in range(len(scores))]
    together = [
        weights.sharpness * score + weights.voice * vote for score, vote in zip(scores, votes, strict=True)
    ]
    return Verdict(tuple(map(sigmoid, apart)), tuple(softmax(together)))


def _second_look(prompt: Prompt, weights: Weights) -> Verdict:
    """Of one choice alone, beside its opposite if there is one."""
    both = (*prompt.choices, *((prompt.opposite,) if prompt.opposite else ()))
    scores = scores_of(replace(prompt, choices=both), weights)
    odds = weights.slope * scores[0] + weights.offset + weights.voice * votes_of(prompt)[0]
    if prompt.opposite:
        odds += weights.lead * (scores[0] - scores[1])
    return Verdict((sigmoid(odds),), (1.0,))


def _alone(at: int, scores: Sequence[float], prompt: Prompt, weights: Weights) -> float:
    """The log odds of a choice by itself, examples aside."""
    others = [
        score
        for place, (score, choice) in enumerate(zip(scores, prompt.choices, strict=True))
        if place != at and not choice.is_nothing
    ]
    best = max(others, default=weights.nothing)
    if prompt.choices[at].is_nothing:
        return -weights.slope * best - weights.offset
    return weights.slope * scores[at] + weights.offset + weights.lead * min(0.0, scores[at] - best)


def scores_of(prompt: Prompt, weights: Weights = WEIGHTS) -> list[float]:
    """How well each choice fits by its words, 0 where none speaks for it."""
    found = by_words(prompt.choices, features(prompt.text), weights)
    return [
        weights.nothing if choice.is_nothing else score
        for choice, score in zip(prompt.choices, found, strict=True)
    ]


def by_words(choices: Sequence[Choice], text: Mapping[str, float], weights: Weights) -> list[float]:
    """How much of what is told of each choice stands in the text; words that few choices have count more."""
    tables = [_table(choice, weights) for choice in choices]
    holders = Counter(name for table in tables for name in table)
    rarity = {
        name: (1 - (count - 1) / len(tables)) ** weights.shared
        for name, count in holders.items()
        if name in text
    }
    return [
        sum(text[name] * value * rarity[name] for name, value in table.items() if name in rarity)
        / max(1.0, sum(table.values())) ** weights.length
        for table in tables
    ]


@lru_cache(maxsize=20_000)
def _table(choice: Choice, weights: Weights) -> Mapping[str, float]:
    """What is told of a choice, and how much each part counts."""
    told = [(choice.description, weights.description), (choice.name, weights.name)]
    told += [(alias, weights.alias) for alias in choice.aliases]
    found: dict[str, float] = {}
    for text, weight in told:
        for name, value in features(text).items():
            found[name] = max(found.get(name, 0.0), weight * value)
    return found


# Examples

# The share of examples that says nothing for or against a choice, and the likeness that has half a say.
_USUAL = 0.2
_DOUBT = 0.2


def votes_of(prompt: Prompt) -> list[float]:
    """What examples say of each choice, in (-1, 1), 0 without any: the share that has it, by likeness.

    Examples that are hardly like the text have little to say.
    """
    text = features(prompt.text)
    heard, votes = 0.0, [0.0] * len(prompt.choices)
    for example, answer in prompt.examples:
        said = answered(answer, prompt.choices)
        like = likeness(text, features(example)) if said else 0.0
        heard += like
        for at, has in said.items():
            votes[at] += like * has
    return [(vote - _USUAL * heard) / (heard + _DOUBT) for vote in votes]


def likeness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The cosine of two texts, in [0, 1]."""
    shared = sum(value * other[name] for name, value in one.items() if name in other)
    return shared / math.sqrt(_square(one) * _square(other)) if shared else 0.0


def _square(bag: Mapping[str, float]) -> float:
    return sum(value * value for value in bag.values())


@lru_cache(maxsize=20_000)
def answered(answer: str, choices: tuple[Choice, ...]) -> Mapping[int, bool]:
    """Which choices an answer gives and which it leaves out, by their places; empty where it says nothing."""
    given = _given(answer.strip())
    if given is None:
        return {}
    said = {one.casefold() for one in given}
    if len(choices) == 1 and said <= {"yes", "no"}:
        return {0: "yes" in said}
    found = {at: choice.number in given or choice.name in given for at, choice in enumerate(choices)}
    return found if not given or any(found.values()) else {}


def _given(answer: str) -> set[str] | None:
    """The numbers and names in an answer, of whichever form; None for none."""
    try:
        value = json.loads(answer)
    except ValueError:
        return {answer.strip(' ."').removesuffix(".")} if answer else None
    return set(_named(value)) if isinstance(value, dict | list) else {answer}


def _named(value: Any) -> list[str]:
    if isinstance(value, dict) and "label" not in value:
        return [name for key, one in value.items() for name in _under(key, one)]
    if isinstance(value, dict):
        return [str(value["label"])]
    if isinstance(value, list):
        return [name for one in value for name in _named(one)]
    return [value] if isinstance(value, str) else []


def _under(key: str, value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return _named(value)
    if isinstance(value, str) and not re.fullmatch(r"(?i)yes|no", value):
        return [value]
    return [key] if value not in (0, False, None) and str(value).casefold() != "no" else []


def chances_of_names(names: Sequence[str], text: str, weights: Weights = WEIGHTS) -> list[float]:
    """Shares of names of which nothing else is told, that sum to 1."""
    scores = by_words([Choice("", name) for name in names], features(text), weights)
    return softmax([weights.sharpness * score for score in scores])


def softmax(values: Sequence[float]) -> list[float]:
    """Shares that sum to 1."""
    if not values:
        return []
    most = max(values)
    raised = [math.exp(value - most) for value in values]
    return [one / sum(raised) for one in raised]


def sigmoid(value: float) -> float:
    """Log odds as a probability."""
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))
