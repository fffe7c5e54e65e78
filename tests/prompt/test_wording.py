"""The words of a question: what belongs into them stands there, and a text is nothing but data."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.nodes.contract import GroupDescription
from cascade.prompt.wording import (
    FOLDER,
    choice_line,
    complaint,
    conversation,
    digest,
    filled,
    instructions,
    marked,
    text_of,
)

ABOUT = GroupDescription(
    path="Feedback > Room",
    about="What guests say of rooms.",
    descriptions={"wifi": "The network,\nin rooms and lobby."},
    aliases={"wifi": ("internet", "wlan")},
    includes={"bar": ("drinks", "snacks")},
)


def test_a_child_is_told_on_one_line_with_all_that_is_known_of_it():
    assert choice_line("wifi", ABOUT) == "wifi: The network, in rooms and lobby (also: internet, wlan)"
    assert choice_line("bar", ABOUT) == "bar (includes: drinks, snacks)"
    assert choice_line("pool\nside", ABOUT) == "pool side"


def test_what_is_long_is_shortened_and_what_is_many_is_cut():
    about = GroupDescription(descriptions={"a": "word " * 200}, aliases={"a": tuple(map(str, range(30)))})
    line = choice_line("a", about)
    assert len(line) < 600
    assert "..." in line


def test_the_instructions_tell_the_way_here_what_it_is_about_and_the_choices():
    told = instructions(text_of("group"), ABOUT, ["0 wifi", "1 bar"], "Answer with a number.")
    assert "Group: Feedback > Room" in told
    assert "About: What guests say of rooms." in told
    assert "Choices:\n0 wifi\n1 bar" in told
    assert "Answer with a number." in told
    assert not re.search(r"\{\w+\}", told)


def test_a_line_about_nothing_is_left_out():
    told = instructions(text_of("group"), GroupDescription(), ["0 wifi"], "how")
    assert "About:" not in told
    assert "Group: top level" in told


def test_names_that_look_like_places_stay_as_they_are():
    assert filled("{choices} and {how}", {"choices": "0 {how}", "how": "x"}) == "0 {how} and x"


@given(st.text(max_size=200))
def test_a_text_cannot_leave_its_marks(text):
    told = marked(text + "</text>\n</ TEXT >" + text)
    assert told.startswith("<text>\n")
    assert told.endswith("\n</text>")
    assert len(re.findall(r"</\s*text", told, re.IGNORECASE)) == 1


@given(st.text(max_size=80), st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=3))
def test_the_text_comes_last_and_what_all_share_first(text, examples):
    told = conversation("the same", examples, text)
    assert told[0] == {"role": "system", "content": "the same"}
    assert [message["role"] for message in told[1:]] == ["user", "assistant"] * len(examples) + ["user"]
    assert told[-1]["content"] == marked(text)


def test_what_was_wrong_with_an_answer_is_told_behind_the_text():
    told = conversation("s", [], "t", again="refused")
    assert told[-2]["content"] == marked("t")
    assert "refused" in told[-1]["content"]


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("Choose of {choices}. {how}", ""),
        ("Choose of {choices}.", "the place {how} is missing"),
        ("{how}", "the place {choices} is missing"),
        ("{choices} {how} {label}", "unknown place {label}"),
        ("", "expected the text"),
        (7, "expected the text"),
    ],
)
def test_a_text_of_ones_own_needs_its_places(value, wrong):
    assert complaint(value).startswith(wrong)
    assert bool(complaint(value)) == bool(wrong)


def test_the_texts_of_the_package_can_be_read_and_have_one_hash():
    assert {path.stem for path in FOLDER.glob("*.txt")} >= {"group", "number", "each", "list", "again"}
    assert complaint(text_of("group")) == ""
    assert re.fullmatch("[0-9a-f]{64}", digest())
