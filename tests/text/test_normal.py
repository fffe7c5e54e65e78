"""One message, however it was typed."""

from __future__ import annotations

import json
import sys
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cascade.text.characters import (
    GONE,
    HARD,
    N_CODES,
    N_LATIN,
    classes_of_python,
    classes_of_words,
    n_codes_of,
    normal_characters,
)
from cascade.text.clusters import near_duplicates
from cascade.text.features import LOWERED, bags_of
from cascade.text.normal import CODE_POINTS, codes_of, normal, normal_codes, normal_forms, placed

WAYS = json.loads((Path(__file__).parent / "ways_to_type.json").read_text("utf-8"))

PIECES = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.text(st.sampled_from("aB &;#x1amp \n"), max_size=20),
    st.sampled_from([way for ways in WAYS for way in ways["ways"]]),
    st.sampled_from([
        "\u00ad", "\u200b", "\u200c", "\u200d", "\ufeff", "\ufe0f", "\ufe0e", "\u0301", "\u0308",
        "\u0327", "\u0345", "\u093c", "\u094d", "\u0930", "\u0928", "\u1112", "\u1161", "\u11ab",
        "\uff9e", "\uff76", "\u3099", "\u304b", "\u05e9\u05c1", "\ufb2a", "\u0644\u0651\u064e",
        "\u064a\u0654", "\u0640", "\u00b4", "e", "I\u0307", "\u00df", "\u03a3", "\u03c2", "\u1fb4",
        "&nbsp;", "&amp;", "&amp;nbsp;", "&#39;", "&#x301;", "&#173;", "&lt;", "&bogus;", "&#0;",
        "&#xD800;", "\uff06amp\uff1b", "&\u00adamp;", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
        "\U0001f469\u200d\U0001f4bb", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e0062\U000e007f",
        "\U000e0067", "\u00bd", "\u2026", "\u3000", "\x00", "\x1c", "\ud800",
    ]),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@pytest.mark.parametrize("same", WAYS, ids=[ways["what"] for ways in WAYS])
def test_a_message_has_one_form_however_it_is_typed(same):
    assert {normal(way) for way in same["ways"]} == {same["normal"]}
    # Bytes of the features, not values: places and order as well.
    bags = [bags_of([way]) for way in same["ways"]]
    features = {(bag.buckets.tobytes(), bag.places.tobytes(), bag.counts.tobytes()) for bag in bags}
    assert len(features) == 1
    assert set(near_duplicates(same["ways"]).tolist()) == {0}


def test_no_two_messages_of_the_file_are_taken_for_one():
    assert len({ways["normal"] for ways in WAYS}) == len(WAYS)


def test_each_message_is_typed_in_at_least_two_ways_and_some_in_ten():
    assert all(len(set(ways["ways"])) >= 2 for ways in WAYS)
    assert sum(len(set(ways["ways"])) >= 10 for ways in WAYS) >= 2


def test_the_older_features_told_them_apart():
    same = WAYS[0]["ways"]
    assert len({bags_of([way], version=LOWERED).buckets.tobytes() for way in same}) > 5


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_the_normal_form_of_a_normal_form_is_itself(text):
    found = normal(text)
    assert normal(found) == found
    assert "  " not in found
    assert found == found.strip()


@settings(max_examples=500, deadline=None)
@given(TEXTS)
def test_places_lie_in_the_text_in_its_order_and_lead_to_the_same_form(text):
    found = placed(text)
    assert found.text == normal(text)
    assert len(found.starts) == len(found.ends) == len(found.text)
    assert (found.starts < found.ends).all()
    assert (np.diff(found.starts) >= 0).all()
    assert (np.diff(found.ends) >= 0).all()
    if len(text):
        assert ((found.starts >= 0) & (found.ends <= len(text))).all()
    # Two characters share all of their stretch or nothing.
    starts, ends = found.starts.tolist(), found.ends.tolist()
    stretches = sorted(set(zip(starts, ends, strict=True)))
    assert all(before[1] <= after[0] for before, after in pairwise(stretches))


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_what_stretches_leave_out_is_not_to_be_seen(text):
    found = placed(text)
    covered = {place for one in zip(found.starts, found.ends, strict=True) for place in range(*map(int, one))}
    left = "".join(letter for place, letter in enumerate(text) if place not in covered)
    assert not normal(left).strip()


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=6))
def test_many_at_once_are_as_one_by_one(texts):
    assert normal_forms(texts) == [normal(text) for text in texts]
    codes, lengths = normal_codes(texts)
    letters = codes.tobytes().decode(CODE_POINTS)
    ends = np.cumsum(lengths).tolist()
    found = [letters[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert [" ".join(text.split()) for text in found] == [normal(text) for text in texts]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
@example("\u0130stanbul")
@example("\u1fb7")
def test_composed_and_decomposed_and_upper_case_are_one(text):
    for form in ("NFC", "NFD"):
        assert normal(unicodedata.normalize(form, text)) == normal(text)


def test_every_single_character_is_as_the_slow_way_has_it():
    letters = [chr(code) for code in range(N_CODES) if not 0xD800 <= code < 0xE000]
    assert normal_forms(letters) == [normal(letter) for letter in letters]


def test_plain_characters_become_characters_that_stay():
    characters = normal_characters(N_CODES)
    kept = characters.to[(characters.kinds != HARD) & (characters.to != GONE)]
    assert (characters.to[kept] == kept).all()
    assert (characters.kinds[kept] != HARD).all()


def test_entities_are_resolved_as_often_as_exports_make_them_and_no_longer_than_that():
    assert normal("a&amp;amp;nbsp;b") == "a b"
    found = normal("&" + "amp;" * 100_000)
    assert found.startswith("&amp;")


def test_joiners_stay_between_emoji_alone():
    woman, laptop = "\U0001f469", "\U0001f4bb"
    assert normal(f"{woman}\u200d{laptop}") == f"{woman}\u200d{laptop}"
    assert normal(f"{woman}\ufe0f\u200d{laptop}\ufe0f") == f"{woman}\u200d{laptop}"
    assert normal(f"{woman}\u200d") == woman
    assert normal(f"a\u200d{laptop}") == f"a{laptop}"
    assert normal("\u0995\u09cd\u200d\u09b7") == "\u0995\u09cd\u09b7"


def test_tables_of_latin_letters_say_the_same_as_those_of_all():
    some, every = normal_characters(N_LATIN), normal_characters(N_CODES)
    for name in ("to", "kinds", "joins"):
        assert_array_equal(getattr(some, name), getattr(every, name)[:N_LATIN])
    assert_array_equal(classes_of_words(N_LATIN), classes_of_words(N_CODES)[:N_LATIN])
    assert_array_equal(classes_of_python(N_LATIN), classes_of_python(N_CODES)[:N_LATIN])


@pytest.mark.parametrize("text", ["", "a", "\u02ff", "a\u0300", "\u0300", "\U0010ffff"])
def test_tables_are_as_large_as_a_text_needs(text):
    codes, _ = codes_of([text])
    assert n_codes_of(codes) > max(map(ord, text), default=0)
    assert (n_codes_of(codes) == N_LATIN) == all(ord(letter) < N_LATIN for letter in text)


def test_what_latin_letters_become_may_lie_behind_them():
    assert normal_forms(["\u00b5", "&alpha;", "\u0149"]) == ["\u03bc", "\u03b1", normal("\u0149")]


def test_sys_maxunicode_is_covered():
    assert len(normal_characters(N_CODES).to) == sys.maxunicode + 1
