"""Where quotations stand in a text, however the two were typed."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cascade.text.normal import normal
from cascade.text.quotations import standing

TEXT = (
    "I said: \u201cNobody answers my e\u0301mails\u201d \u2014 it\u2019s been  40\u00a0minutes, "
    "the of\ufb01ce didn&#39;t care."
)


def found(quotation, text=TEXT):
    return [text[start:end] for start, end in standing(text, quotation)]


@pytest.mark.parametrize(
    ("quotation", "stands"),
    [
        ("nobody answers my \u00e9mails", ["Nobody answers my e\u0301mails"]),
        ('"Nobody answers my emails"'.replace("emails", "\u00c9MAILS"), ["Nobody answers my e\u0301mails"]),
        ("it's been 40 minutes", ["it\u2019s been  40\u00a0minutes"]),
        ("the office", ["the of\ufb01ce"]),
        ("the office didn't care.", ["the of\ufb01ce didn&#39;t care"]),
        ("- it's\n been", ["\u2014 it\u2019s been"]),
        ("Nobody answers ... 40 minutes", ["Nobody answers", "40\u00a0minutes"]),
        ("nobody [...] minutes\u2026", ["Nobody", "minutes"]),
    ],
)
def test_case_blanks_quotes_and_ways_to_type_do_not_matter(quotation, stands):
    assert found(quotation) == stands


@pytest.mark.parametrize(
    "quotation",
    [
        "nobody replies",
        "body answers",
        "answers my \u00e9mail",
        "40 minutes ... nobody",
        "",
        " ",
        "...",
        '""',
        ".",
    ],
)
def test_what_does_not_stand_there_is_not_found(quotation):
    assert found(quotation) == []


def test_the_first_place_of_several_whole_ones_counts():
    assert standing("relate late, late", "late") == [(7, 11)]


def test_scripts_without_blanks_are_quoted_within_their_runs():
    assert found("\u7269\u6d41\u592a\u6162", "\u8fd9\u6b21\u7269\u6d41\u592a\u6162\u4e86") == [
        "\u7269\u6d41\u592a\u6162"
    ]
    assert found("\u0e0a\u0e49\u0e32", "\u0e2a\u0e48\u0e07\u0e0a\u0e49\u0e32\u0e21\u0e32\u0e01") == [
        "\u0e0a\u0e49\u0e32"
    ]


WORDS = [
    "Late",
    "caf\u00e9",
    "of\ufb01ce",
    "don\u2019t",
    "stra\u00dfe",
    "\u0130stanbul",
    "40",
    "e\u0301t\u00e9",
    "&amp;",
    "\u65e5\u672c",
    "!",
]
WAYS = [str.upper, str.lower, str.swapcase, lambda text: unicodedata.normalize("NFD", text)]


@given(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=10),
    st.integers(0, 9),
    st.integers(1, 10),
    st.sampled_from([" ", "  ", "\u00a0", "\n"]),
    st.sampled_from(
        [lambda text: text, lambda text: unicodedata.normalize("NFD", text), lambda text: f'"{text}"']
    ),
)
def test_any_stretch_of_words_is_found_where_it_means_the_same(words, first, count, blank, retyped):
    text, quotation = blank.join(words), " ".join(words[first : first + count])
    assume(quotation.strip("! "))
    [(start, end)] = standing(text, retyped(quotation))
    assert normal(text[start:end]) == normal(quotation)
    assert 0 <= start < end <= len(text)


@given(st.text(max_size=40), st.text(max_size=12))
def test_what_is_found_lies_in_the_text_in_its_order(text, quotation):
    places = standing(text, quotation)
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert all(one[1] <= other[0] for one, other in pairwise(places))
