"""A text in pieces that are taken out of it one at a time, to see what is missed without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascade.system.array_types import IntArray
from cascade.text.normal import is_mere_marks

MOST_PIECES = 16
"""Pieces of a text at first, and of a clause that is opened; each costs an encoding."""
_LONGEST = 16
_ENDS = frozenset(".!?,;:()\u2026\u3002\uff01\uff1f\uff0c\u3001\u061f\u060c")


@dataclass(frozen=True, eq=False)
class Pieces:
    """Stretches of words to be taken out of a text, and how what is missed without them belongs to words.

    Attributes
    ----------
    words
        int64, shape (n_pieces, 2): the first word of each, and the one after its last.
    spans
        int64, shape (n_pieces, 2): where each begins and ends in the text.
    shares
        float64, shape (n_words, n_pieces): what each word has of what each piece does.
    """

    words: IntArray
    spans: IntArray
    shares: NDArray[np.float64]

    def without(self, text: str) -> list[str]:
        """The text without each of them, a blank in its place."""
        return [text[:start] + " " + text[end:] for start, end in self.spans.tolist()]


def no_pieces(spans: IntArray) -> Pieces:
    """Nothing to be taken out."""
    return _made(spans, [], [])


def pieces_of(text: str, spans: IntArray, most: int = MOST_PIECES) -> Pieces:
    """Each word of a short text, else clauses: at most `most`, none of them of punctuation alone.

    Parameters
    ----------
    spans
        int64, shape (n_words, 2): where each word, or mark, begins and ends in the text.
    """
    marks = _marks(text, spans)
    cuts = _cuts(text, spans, range(len(spans)), most)
    return _made(spans, [cut for cut in cuts if not marks[cut[0] : cut[1]].all()], [])


def opened(text: str, spans: IntArray, pieces: Pieces, places: Iterable[int], most: int) -> Pieces:
    """The same pieces, with those at these places taken apart once more, each into at most `most`.

    A word has what its own part does, and of what the parts do not tell as much as the others of its piece.
    """
    marks = _marks(text, spans)
    inner = []
    for place in places:
        first, last = pieces.words[place].tolist()
        cuts = _cuts(text, spans, range(first, last), most)
        inner += [(cut, place) for cut in cuts if not marks[cut[0] : cut[1]].all()]
    return _made(spans, [(int(first), int(last)) for first, last in pieces.words], inner)


def _marks(text: str, spans: IntArray) -> NDArray[np.bool_]:
    return np.array([is_mere_marks(text[start:end]) for start, end in spans.tolist()], dtype=np.bool_)


def _made(spans: IntArray, outer: list[tuple[int, int]], inner: list[tuple[tuple[int, int], int]]) -> Pieces:
    words = [*outer, *(cut for cut, _ in inner)]
    shares = np.zeros((len(spans), len(words)))
    for place, (first, last) in enumerate(words):
        shares[first:last, place] = 1 / (last - first)
    for place, (_, parent) in enumerate(inner, len(outer)):
        first, last = words[parent]
        shares[first:last, place] -= 1 / (last - first)
    stretches = [(spans[first, 0], spans[first:last, 1].max()) for first, last in words]
    shape = (len(words), 2)
    return Pieces(
        np.array(words, dtype=np.int64).reshape(shape),
        np.array(stretches, dtype=np.int64).reshape(shape),
        shares,
    )


def _cuts(text: str, spans: IntArray, words: range, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive stretches of these words, `most` at most: single words if these are no more than that."""
    if len(words) <= most:
        yield from ((word, word + 1) for word in words)
        return
    least = -(-len(words) // most)
    longest, first = max(_LONGEST, least), words.start
    for word in words:
        length, left = word + 1 - first, words.stop - word - 1
        if left and (length < least or left < least):
            continue
        if not left or length >= longest or _ends(text, spans, word):
            yield first, word + 1
            first = word + 1


def _ends(text: str, spans: IntArray, word: int) -> bool:
    """Whether a clause ends behind a word, which is a mark or stands at the end of a line."""
    start, end = spans[word].tolist()
    return text[start:end] in _ENDS or "\n" in text[end : int(spans[word + 1, 0])]
