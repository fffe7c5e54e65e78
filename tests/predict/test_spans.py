"""Which stretches of a text are told, from what its words do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.predict.spans import LEAST_SHARE, MOST_SPANS, Span, best_spans, joined, maximal
from cascade.text.normal import is_mere_marks
from cascade.text.occurrences import occurrences_of

# Ligatures, halves, letters in two code points, entities, soft hyphens, emoji of several, ideographs.
WORDS = [
    "late", "\ufb01t", "\u00bd", "a\u00bdb", "cafe\u0301", "&amp;", "a&nbsp;b", "re\u00adfund", "don\u2019t",
    "\U0001f469\U0001f3fd\u200d\U0001f4bb", "日本", "!", "?!", ".", "\n", "stra\u00dfe", "12.50", "\u0130",
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=20).map("".join),
    st.text(max_size=40),
)


@st.composite
def texts_with_values(draw):
    text = draw(texts)
    spans = occurrences_of(text).spans
    values = draw(st.lists(st.floats(-3, 3), min_size=len(spans), max_size=len(spans)))
    return text, spans, np.array(values, dtype=np.float64)


@given(texts_with_values())
def test_spans_lie_in_the_text_in_its_order_and_none_over_another(drawn):
    text, spans, values = drawn
    found = best_spans(text, spans, values)
    assert len(found) <= MOST_SPANS
    for span in found:
        assert 0 <= span.start < span.end <= len(text)
        assert span.text == text[span.start : span.end]
        assert 0 < span.share <= 1
        assert not is_mere_marks(span.text)
    assert all(one.end <= other.start for one, other in pairwise(found))


@given(texts_with_values())
def test_spans_begin_and_end_with_whole_words(drawn):
    text, spans, values = drawn
    inside = {place for start, end in spans.tolist() for place in range(start + 1, end)}
    for span in best_spans(text, spans, values):
        cuts = {span.start, span.end} & inside
        # Only where one character became several words does a word begin within another one.
        assert all(any(place in (start, end) for start, end in spans.tolist()) for place in cuts)


@given(texts_with_values())
def test_what_has_too_small_a_share_is_left_out_but_for_the_best(drawn):
    found = best_spans(*drawn)
    shares = sorted((span.share for span in found), reverse=True)
    assert all(share >= LEAST_SHARE for share in shares[1:])


@given(texts_with_values(), st.floats(0.1, 10))
def test_only_what_words_do_beside_each_other_matters(drawn, factor):
    text, spans, values = drawn
    whole = np.round(values * 16) / 16  # products of these are exact enough for ties to stay ties
    found, scaled = (best_spans(text, spans, of) for of in (whole, whole * 2.0 ** round(factor)))
    assert [(one.start, one.end) for one in found] == [(one.start, one.end) for one in scaled]


@given(st.lists(st.integers(-4, 4), max_size=14))
def test_maximal_sequences_are_those_of_their_definition(scores):
    """Ruzzo and Tompa's own: the best sequence, then the same of what lies before and behind it."""

    def split(first, last):
        sums = [
            (sum(scores[start:end]), -(end - start), -start, end)
            for start in range(first, last)
            for end in range(start + 1, last + 1)
        ]
        value, _, start, end = max(sums, default=(0, 0, 0, 0))
        return [*split(first, -start), (-start, end), *split(end, last)] if value > 0 else []

    found = maximal(np.array(scores, dtype=np.float64))
    expected = split(0, len(scores))
    # Of equal sums several choices are right: what they sum up to is one.
    assert sum(sum(scores[a:b]) for a, b in found) == sum(sum(scores[a:b]) for a, b in expected)
    assert all(one[1] <= other[0] for one, other in pairwise(found))
    for first, last in found:
        assert all(sum(scores[first:end]) > 0 for end in range(first + 1, last + 1))
        assert all(sum(scores[start:last]) > 0 for start in range(first, last))


def told(text, **values):
    spans = occurrences_of(text).spans
    words = [text[start:end] for start, end in spans.tolist()]
    return [one.text for one in best_spans(text, spans, np.array([values.get(word, 0.0) for word in words]))]


def test_neighbours_become_one_span_with_a_weak_word_between():
    text = "nobody from you answers my mails and the box was wet"
    assert told(text, nobody=2.0, answers=2.0, mails=1.0) == ["nobody from you answers my mails"]


def test_a_span_ends_with_its_sentence_or_line():
    assert told("It was late. Late again", late=1.0, Late=1.0) == ["late", "Late"]
    assert told("so late\nlate again", late=1.0) == ["late", "late"]


def test_words_with_a_mark_inside_are_told_whole():
    assert told("I don't pay 12.50 a week", don=1.0) == ["don't"]
    assert told("I don't pay 12.50 a week", **{"50": 1.0}) == ["12.50"]


@pytest.mark.parametrize("values", [{}, {"late": -1.0}, {"!": 1.0}])
def test_where_nothing_speaks_for_it_nothing_is_told(values):
    assert told("late!", **values) == []


def test_the_best_is_told_however_small_its_share():
    text = " ".join(f"w{number}" for number in range(40))
    spans = occurrences_of(text).spans
    values = np.tile([1.0, -1.0], 20)
    values[0] = 1.5
    [found] = best_spans(text, spans, values)
    assert found.text == "w0"
    assert found.share < LEAST_SHARE


def test_quoted_places_that_overlap_become_one():
    text = "late and cold and wet"
    assert joined(text, [(9, 13), (0, 8), (5, 13)]) == (Span(0, 13, "late and cold"),)
