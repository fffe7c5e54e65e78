"""The stretches of a text that speak for something, from what each of its words does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.text.normal import is_mere_marks

MOST_SPANS = 3
LEAST_SHARE = 0.15
"""A span is told where it has at least so much of all that speaks for a label; the best one always is."""
# So many times what a word speaks on average has a word to speak to be worth telling, or to bridge a gap.
FLOOR = 0.9
_SENTENCE_ENDS = frozenset(".!?\u2026\u3002\uff01\uff1f\u061f")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text.

    Attributes
    ----------
    start, end
        Where it begins and ends, in code points of the text as it was given.
    text
        What stands there.
    share
        What it has of all that speaks for a label, in [0, 1]; None for a quotation.
    """

    start: int
    end: int
    text: str
    share: float | None = None

    @classmethod
    def of(cls, text: str, start: int, end: int, share: float | None = None) -> Span:
        """That of a text."""
        return cls(start, end, text[start:end], share)

    def to_json(self) -> dict[str, Any]:
        """``start``, ``end``, ``text``, and ``share`` where there is one."""
        told = {"start": self.start, "end": self.end, "text": self.text}
        return told if self.share is None else told | {"share": round(self.share, 3)}


def best_spans(text: str, spans: IntArray, values: NDArray[np.float64]) -> tuple[Span, ...]:
    """The few stretches that speak most, in the order of the text; none crosses the end of a sentence.

    They are the maximal scoring subsequences (Ruzzo and Tompa, "A linear time algorithm for finding all
    maximal scoring subsequences", ISMB 1999) of words, each with what it does less `FLOOR` of the average: so
    neighbours that speak for it become one stretch, with a weak word between two strong ones.

    Parameters
    ----------
    spans
        int64, shape (n_words, 2), neither column ever falls: where each word begins and ends.
    values
        float64, shape (n_words,): what each does; above 0 speaks for it.
    """
    words = _apart(text, spans, values)
    total = sum(max(word.value, 0.0) for word in words)
    if not total > 0:
        return ()
    floor = FLOOR * total / len(words)
    found = []
    for sentence in _sentences(text, words):
        for first, last in maximal(np.array([word.value - floor for word in sentence])):
            if stretch := _without_marks(sentence[first:last]):
                value = sum(word.value for word in stretch)
                found.append(Span.of(text, stretch[0].start, stretch[-1].end, min(value / total, 1.0)))
    best = sorted(found, key=_share, reverse=True)[:MOST_SPANS]
    kept = [span for span in best if span is best[0] or _share(span) >= LEAST_SHARE]
    return tuple(sorted((span for span in kept if _share(span) > 0), key=lambda span: span.start))


def _share(span: Span) -> float:
    return span.share or 0.0


def joined(text: str, places: Iterable[tuple[int, int]]) -> tuple[Span, ...]:
    """Quoted places, those that overlap as one, at most `MOST_SPANS`, in the order of the text."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(list(places)[:MOST_SPANS]):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return tuple(Span.of(text, start, end) for start, end in found)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    value: float
    is_mark: bool

    @classmethod
    def of(cls, text: str, start: int, end: int, value: float) -> _Word:
        return cls(start, end, value, is_mere_marks(text[start:end]))

    def and_then(self, other: _Word, text: str) -> _Word:
        """Both as one."""
        return _Word.of(text, self.start, max(self.end, other.end), self.value + other.value)


def _apart(text: str, spans: IntArray, values: NDArray[np.float64]) -> list[_Word]:
    """Words as people see them: what comes of one stretch, such as "1" and "2" of a half, is one.

    So is what a mark joins without blanks, such as "don't" and "12.50".
    """
    found: list[_Word] = []
    for (start, end), value in zip(spans.tolist(), values.tolist(), strict=True):
        new = _Word.of(text, start, end, value)
        if found and start < found[-1].end:
            new = found.pop().and_then(new, text)
        elif _is_joined(found, new):
            mark, before = found.pop(), found.pop()
            new = before.and_then(mark, text).and_then(new, text)
        found.append(new)
    return found


def _is_joined(words: Sequence[_Word], new: _Word) -> bool:
    if len(words) < 2 or not words[-1].is_mark or words[-2].is_mark or new.is_mark:
        return False
    return words[-2].end == words[-1].start and words[-1].end == new.start


def _sentences(text: str, words: Sequence[_Word]) -> Iterable[Sequence[_Word]]:
    first = 0
    for place, word in enumerate(words):
        behind = text[word.end : words[place + 1].start] if place + 1 < len(words) else "\n"
        if text[word.start : word.end] in _SENTENCE_ENDS or "\n" in behind:
            yield words[first : place + 1]
            first = place + 1


def _without_marks(words: Sequence[_Word]) -> Sequence[_Word]:
    """The same without punctuation at its ends: that is nothing to be read."""
    kept = [place for place, word in enumerate(words) if not word.is_mark]
    return words[kept[0] : kept[-1] + 1] if kept else ()


def maximal(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """All maximal scoring subsequences, as first places and places behind the last, in their order.

    Each has the greatest sum of all subsequences that overlap it and no greater one: no part at either end of
    it sums up to 0 or less.
    """
    found: list[tuple[int, int]] = []
    before: list[tuple[float, float]] = []  # of each the sum of all scores before it, and of those to its end
    total = 0.0
    for place, score in enumerate(scores.tolist()):
        total += score
        if score <= 0:
            continue
        start, left, right = place, total - score, total
        while True:
            at = next((n for n in range(len(found) - 1, -1, -1) if before[n][0] < left), -1)
            if at < 0 or before[at][1] >= right:
                break
            start, left = found[at][0], before[at][0]
            del found[at:], before[at:]
        found.append((start, place + 1))
        before.append((left, right))
    return found
