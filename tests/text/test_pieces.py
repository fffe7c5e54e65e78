"""Texts in pieces, each to be taken out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade.text.normal import is_mere_marks
from cascade.text.occurrences import occurrences_of
from cascade.text.pieces import MOST_PIECES, opened, pieces_of

LONG = (
    "The pizza came cold, and forty minutes late. The driver was lovely though!\n"
    "I would order again (if the app let me), but it asks for a password each time; that is a nuisance."
)
texts = st.one_of(
    st.lists(
        st.sampled_from(["late", "the", ",", ".", "box\n", "\u00bd", "don't", "日本", "!"]), max_size=90
    ).map(" ".join),
    st.text(max_size=80),
)


def told(pieces, text):
    return [text[start:end] for start, end in pieces.spans.tolist()]


@given(texts, st.integers(2, 30))
def test_no_word_is_in_two_pieces_and_there_are_no_more_than_asked_for(text, most):
    spans = occurrences_of(text).spans
    pieces = pieces_of(text, spans, most)
    assert len(pieces.words) <= most
    assert (pieces.words[:, 0] < pieces.words[:, 1]).all()
    assert (pieces.words[1:, 0] >= pieces.words[:-1, 1]).all()
    assert not any(map(is_mere_marks, told(pieces, text)))


@given(texts, st.integers(2, 30))
def test_what_pieces_do_is_shared_by_their_words_without_a_rest(text, most):
    spans = occurrences_of(text).spans
    pieces = pieces_of(text, spans, most)
    assert np.allclose(pieces.shares.sum(axis=0), 1)
    assert pieces.shares.shape == (len(spans), len(pieces.words))


@given(texts, st.integers(2, 8))
def test_an_opened_piece_does_as_much_as_before(text, most):
    spans = occurrences_of(text).spans
    pieces = pieces_of(text, spans, most)
    places = range(0, len(pieces.words), 2)
    inner = opened(text, spans, pieces, places, most)
    assert np.array_equal(inner.words[: len(pieces.words)], pieces.words)
    does = np.random.default_rng(0).normal(size=len(inner.words))
    for (first, last), expected in zip(pieces.words.tolist(), does.tolist(), strict=False):
        assert np.isclose((inner.shares @ does)[first:last].sum(), expected)


def test_a_short_text_is_taken_apart_word_by_word():
    text = "nobody answers my e\u0301mails!"
    assert told(pieces_of(text, occurrences_of(text).spans), text) == [
        "nobody",
        "answers",
        "my",
        "e\u0301mails",
    ]


def test_a_long_text_is_cut_where_clauses_end():
    spans = occurrences_of(LONG).spans
    assert len(spans) > MOST_PIECES
    found = told(pieces_of(LONG, spans), LONG)
    assert found[0] == "The pizza came cold,"
    assert "The driver was lovely though!" in found
    assert len(found) < MOST_PIECES


def test_the_opened_clause_is_there_word_by_word():
    spans = occurrences_of(LONG).spans
    pieces = pieces_of(LONG, spans)
    assert told(opened(LONG, spans, pieces, [0], MOST_PIECES), LONG)[len(pieces.words) :] == [
        "The", "pizza", "came", "cold",
    ]  # fmt: skip


def test_without_a_piece_the_rest_stays():
    text = "late, and cold"
    pieces = pieces_of(text, occurrences_of(text).spans)
    assert pieces.without(text) == [" , and cold", "late,   cold", "late, and  "]
