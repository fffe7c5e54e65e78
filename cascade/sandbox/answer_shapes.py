"""What the answers of a training file have in common, and how an answer with log probabilities is made.

Three shapes are told apart, by the answers alone:

choice
    One of some distinct answers: every answer is a single token, or none has several parts.
places
    All answers have as many tokens, and where they differ each is one of the same two ("1,0,1").
parts
    Some answers have several parts ("refund; late"): each part may be there or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from cascade.sandbox.tokens import split
from cascade.system.array_types import BoolArray, FloatArray

Kind = Literal["choice", "places", "parts"]
END = "<|end|>"
_SEPARATORS = ("; ", "\n")
_NOTHING = re.compile(r"\W*(none|nothing|no|n/?a|null|other)?\W*", re.IGNORECASE)
# Where nothing was learned no part is likelier than not.
_UNTRAINED = 0.49


@dataclass(frozen=True)
class Segment:
    """A piece of an answer: what was taken, and how probable that and everything else was."""

    taken: str
    chances: Mapping[str, float]


@dataclass(frozen=True)
class Shape:
    """How the answers of a job are built.

    Attributes
    ----------
    columns
        What each column of the targets stands for: an answer, the number of a token, or a part.
    tokens
        For ``places``: the tokens of an answer.
    values
        For ``places``: the two tokens that its places take.
    separator
        For ``parts``: what stands between two.
    nothing
        For ``parts``: the answer where there is no part; empty where none was seen.
    lead, stop
        What stands before and after every answer.
    """

    kind: Kind
    columns: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    separator: str = ""
    nothing: str = ""
    lead: str = ""
    stop: str = ""

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> Shape:
        read: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in value.items()
        }
        return cls(**read)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def bare(self, answer: str) -> str:
        """An answer without what stands around every one."""
        return answer.removeprefix(self.lead).removesuffix(self.stop)

    def targets(self, answers: Sequence[str]) -> BoolArray:
        """Which columns each answer has, bool, shape (n_answers, n_columns)."""
        column = {name: at for at, name in enumerate(self.columns)}
        targets = np.zeros((len(answers), len(self.columns)), dtype=bool)
        for row, answer in enumerate(answers):
            for name in self._named(self.bare(answer)):
                if name in column:
                    targets[row, column[name]] = True
        return targets

    def _named(self, answer: str) -> Sequence[str]:
        if self.kind == "choice":
            return (answer,)
        if self.kind == "parts":
            return answer.split(self.separator)
        return [str(at) for at, token in enumerate(split(answer)) if token == self.values[1]]

    def untrained(self) -> FloatArray:
        """Probabilities of the columns of a model that has learned nothing, shape (n_columns,)."""
        chance = 1 / len(self.columns) if self.kind == "choice" else _UNTRAINED
        return np.full(len(self.columns), chance, dtype=np.float32)

    def segments(self, row: FloatArray) -> list[Segment]:
        """The answer of a row of probabilities, shape (n_columns,), piece by piece."""
        if self.kind == "parts":
            return self._parts(row.tolist())
        pieces = self._choice(row) if self.kind == "choice" else self._places(row.tolist())
        first, stop = pieces[0], [Segment(self.stop, {self.stop: 1.0})] if self.stop else []
        led = {self.lead + text: chance for text, chance in first.chances.items()}
        return [Segment(self.lead + first.taken, led), *pieces[1:], *stop]

    def _choice(self, row: FloatArray) -> list[Segment]:
        chances = (row / max(float(row.sum()), 1e-9)).tolist()
        taken = self.columns[int(np.argmax(row))]
        return [Segment(taken, dict(zip(self.columns, chances, strict=True)))]

    def _places(self, row: Sequence[float]) -> list[Segment]:
        chance = dict(zip(self.columns, row, strict=True))
        return [
            self._place(chance[str(at)]) if str(at) in chance else Segment(token, {token: 1.0})
            for at, token in enumerate(self.tokens)
        ]

    def _place(self, chance: float) -> Segment:
        low, high = self.values
        return Segment(high if chance >= 0.5 else low, {low: 1 - chance, high: chance})

    def _parts(self, row: Sequence[float]) -> list[Segment]:
        """Parts come in a fixed order, each independent of the others: what is next follows from that."""
        passed = [at for at, chance in enumerate(row) if chance >= 0.5]
        if not passed and not self.nothing:
            passed = [int(np.argmax(row))]
        found, start = [], 0
        for number, at in enumerate(passed):
            before = self.separator if number else self.lead
            ending = self.stop if number else self._empty
            found.append(Segment(before + self.columns[at], self._next(row, start, before, ending)))
            start = at + 1
        before, ending = (self.separator, self.stop) if passed else (self.lead, self._empty)
        last = Segment(ending, self._next(row, start, before, ending))
        return [*found, last]

    @property
    def _empty(self) -> str:
        """The whole answer where there is no part."""
        return self.lead + self.nothing + self.stop

    def _next(self, row: Sequence[float], start: int, before: str, ending: str) -> dict[str, float]:
        """How probable each part that may follow is, and the end."""
        left, chances = 1.0, {}
        for at in range(start, len(row)):
            chances[before + self.columns[at]] = left * row[at]
            left *= 1 - row[at]
        return chances | {ending: left}


@dataclass(frozen=True)
class AnswerToken:
    """A token of an answer, and all that could have stood there, the likeliest first."""

    token: str
    candidates: Sequence[tuple[str, float]]


def tokens_of(text: str) -> list[AnswerToken]:
    """A text of which every token is certain."""
    return [AnswerToken(token, [(token, 1.0)]) for token in split(text)]


def steps_of(segments: Sequence[Segment]) -> list[AnswerToken]:
    """An answer token by token."""
    return [step for segment in segments for step in _steps(segment)]


def _steps(segment: Segment) -> list[AnswerToken]:
    """Each token's chance is that of all continuations that begin with what stands so far and it."""
    options = [(split(text), chance) for text, chance in segment.chances.items()]
    steps = []
    for depth, token in enumerate(split(segment.taken)):
        sums: dict[str, float] = {}
        for pieces, chance in options:
            piece = pieces[depth] if depth < len(pieces) else END
            sums[piece] = sums.get(piece, 0.0) + chance
        steps.append(AnswerToken(token, _ranked(sums)))
        options = [one for one in options if depth < len(one[0]) and one[0][depth] == token]
    return steps


def _ranked(sums: Mapping[str, float]) -> list[tuple[str, float]]:
    whole = sum(sums.values()) or 1.0
    return sorted(((piece, chance / whole) for piece, chance in sums.items()), key=lambda one: -one[1])


# What answers have in common


def shape_of(answers: Sequence[str], *, framed: bool) -> Shape:
    """How these answers are built; `framed` ones may all have a blank before and a stop sequence after."""
    lead, stop = _frame(answers) if framed else ("", "")
    bare = [answer.removeprefix(lead).removesuffix(stop) for answer in answers]
    shape = _unframed(bare)
    return replace(shape, lead=lead, stop=stop)


def _frame(answers: Sequence[str]) -> tuple[str, str]:
    """The blanks that all begin with, and the last word, or the blanks, that all end with."""
    lead = " " if all(answer.startswith(" ") for answer in answers) else ""
    ends = {_end(answer.removeprefix(lead)) for answer in answers}
    return lead, ends.pop() if len(ends) == 1 else ""


def _end(answer: str) -> str:
    found = re.search(r"\S(\s+)$", answer) or re.search(r"\S(\s+\S+)$", answer)
    return found[1] if found else ""


def _unframed(answers: Sequence[str]) -> Shape:
    distinct = sorted(set(answers))
    tokens = [split(answer) for answer in distinct]
    if all(len(one) == 1 for one in tokens):
        return Shape("choice", tuple(distinct))
    values = _values(tokens)
    if values:
        places = tuple(str(at) for at, token in enumerate(tokens[0]) if token in values)
        return Shape("places", places, tokens=tokens[0], values=values)
    separator = next((one for one in _SEPARATORS if any(one in answer for answer in distinct)), "")
    if not separator:
        return Shape("choice", tuple(distinct))
    return _of_parts([answer.split(separator) for answer in answers], separator)


def _values(answers: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The two tokens that answers of one length differ by, or nothing."""
    if len(answers) < 2 or len({len(one) for one in answers}) > 1:
        return ()
    columns = [set(column) for column in zip(*answers, strict=True)]
    found = sorted(set().union(*(column for column in columns if len(column) > 1)))
    return tuple(found) if len(found) == 2 and all(len(one) == 1 for one in found) else ()


def _of_parts(answers: Sequence[Sequence[str]], separator: str) -> Shape:
    joined = {part for parts in answers if len(parts) > 1 for part in parts}
    alone = Counter(parts[0] for parts in answers if len(parts) == 1)
    nothing = next((one for one in alone if one not in joined and _NOTHING.fullmatch(one)), "")
    names = (joined | set(alone)) - {nothing}
    return Shape("parts", _in_order(names, answers), separator=separator, nothing=nothing)


def _in_order(names: set[str], answers: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Parts that stand before most others first."""
    ahead: Counter[tuple[str, str]] = Counter()
    for parts in answers:
        ahead.update(combinations(parts, 2))
    lead = dict.fromkeys(names, 0)
    for (first, second), times in ahead.items():
        if times > ahead.get((second, first), 0) and first in names and second in names:
            lead[first] += 1
            lead[second] -= 1
    return tuple(sorted(names, key=lambda name: (-lead[name], name)))
