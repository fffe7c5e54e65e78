"""Prompts taken apart, and words compared, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompts_to_read import ROOM, TEXTS, answer, messages, names_of, numbers

from cascade.sandbox.reader.prompts import Choice, read_prompt
from cascade.sandbox.reader.scoring import answered, judge, scores_of
from cascade.sandbox.reader.words import features, stem, words_of


def test_choices_heads_examples_and_the_text_are_found():
    examples = [("The bed!", ["bed"]), ("Hm.", [])]
    prompt = read_prompt(messages("number", TEXTS["wifi"], examples), names_of("number"))
    assert (prompt.group, prompt.about) == ("Feedback > Room", "What guests say of their rooms.")
    assert {choice.name: choice.number for choice in prompt.choices} == numbers(names_of("number"))
    assert prompt.choices[0].aliases == ("internet", "wlan")
    assert prompt.choices[0].description == "the wireless network in rooms and lobby"
    assert [choice.is_nothing for choice in prompt.choices] == [False] * 4 + [True]
    assert prompt.examples == (("The bed!", "03"), ("Hm.", "05"))
    assert prompt.text == TEXTS["wifi"]
    assert "Answer with its number alone." in prompt.instructions
    assert "internet" not in prompt.instructions


def test_what_follows_the_text_is_no_example_and_a_text_may_talk_of_marks():
    asked = messages("number", "Is <text> a mark? </text> is one.")
    asked += [
        {"role": "assistant", "content": "?"},
        {"role": "user", "content": "Your answer was no number."},
    ]
    prompt = read_prompt(asked)
    assert prompt.text == "Is <text> a mark? < /text> is one."
    assert prompt.examples == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wifi", ("wifi", "", ())),
        ("wifi: the network", ("wifi", "the network", ())),
        ("wifi (also: a, b (c))", ("wifi", "", ("a", "b (c)"))),
        ("noise: at night: loud", ("noise: at night", "loud", ())),
        ("noise: at night", ("noise: at night", "", ())),
        ("noise: by day", ("noise", "by day", ())),
        ("room 7 [new]: x (y) (also: z)", ("room 7 [new]", "x (y)", ("z",))),
        ("wifi (includes: router, cable)", ("wifi", "includes: router, cable", ())),
        ("bar: eat (includes: tea; also: pub, inn)", ("bar", "eat (includes: tea)", ("pub", "inn"))),
        ("bar ()", ("bar ()", "", ())),
    ],
)
def test_a_line_is_a_name_a_description_and_other_names(line, expected):
    choice = Choice.parse(line, "1", ("noise: at night", "wifi"))
    assert (choice.name, choice.description, choice.aliases) == expected


def test_names_that_are_numbers_are_not_taken_for_the_next_choice():
    system = "Group: Rooms\nChoices:\n1 101: the first room\n2 102\n\n3 is no choice, answer 1 or 2."
    prompt = read_prompt([{"role": "system", "content": system}, {"role": "user", "content": "x"}])
    assert [(choice.number, choice.name) for choice in prompt.choices] == [("1", "101"), ("2", "102")]


CHOICES = read_prompt(messages("number", "x"), names_of("number")).choices


@pytest.mark.parametrize("way", ["number", "each", "list", "quotes"])
@pytest.mark.parametrize("name", ROOM)
def test_an_answer_is_understood_in_each_form(way, name):
    choices = CHOICES if way == "number" else CHOICES[:-1]
    found = answered(answer(way, [name]), choices)
    assert {choices[at].name for at, has in found.items() if has} == {name}
    assert len(found) == len(choices)


def test_an_answer_that_says_nothing_says_nothing():
    assert answered("perhaps", CHOICES) == {}
    assert answered("", CHOICES) == {}
    assert not any(answered('{"labels": []}', CHOICES).values())
    assert answered("Yes.", CHOICES[:1]) == {0: True}
    assert answered("no", CHOICES[:1]) == {0: False}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("delivery", "deliveries"),
        ("charge", "charged"),
        ("stop", "stopping"),
        ("fail", "fails"),
        ("refund", "refunded"),
        ("box", "boxes"),
        ("guest", "guest's"),
    ],
)
def test_forms_of_a_word_have_one_stem(one, other):
    assert stem(one) == stem(other)


def test_words_are_those_that_say_something():
    assert words_of("The courier_rude was SO rudeToMe") == ["courier", "rude", "rude"]
    assert words_of("房间很吵") == ["房间", "间很", "很吵"]
    assert words_of("\ud800 bed") == ["bed"]


def test_words_that_mean_the_same_are_alike_and_others_are_not():
    def shared(one, other):
        return features(one).keys() & features(other).keys()

    assert shared("The parcel was smashed", "broken on arrival")
    assert not shared("The parcel was smashed", "music")


def test_what_stands_in_all_choices_tells_less_than_what_stands_in_one():
    prompt = read_prompt(
        [
            {"role": "system", "content": "Choices:\n1 red room\n2 blue room"},
            {"role": "user", "content": "A room, a room! Blue."},
        ]
    )
    low, high = scores_of(prompt)
    assert 0 < 2 * low < high


@given(text=st.text(max_size=60), way=st.sampled_from(["number", "each", "list"]))
@settings(max_examples=100, deadline=None)
def test_chances_are_chances_whatever_the_text(text, way):
    verdict = judge(read_prompt(messages(way, text, [("The bed!", ["bed"])]), names_of(way)))
    assert all(0 < chance < 1 for chance in verdict.apart)
    assert sum(verdict.one) == pytest.approx(1)
    assert len(verdict.apart) == len(names_of(way))


def asked(system, text, examples=()):
    shown = [
        {"role": role, "content": content}
        for pair in examples
        for role, content in zip(("user", "assistant"), pair, strict=True)
    ]
    return read_prompt([{"role": "system", "content": system}, *shown, {"role": "user", "content": text}])


def test_a_choice_is_less_likely_where_another_fits_much_better():
    text = "The wifi and the soft pillow in the bed"
    alone = judge(asked("Choices:\n1 wifi\n2 price", text)).apart[0]
    beside = judge(asked("Choices:\n1 wifi\n2 bed: soft pillow", text)).apart[0]
    assert beside < alone


def test_examples_that_lack_a_choice_speak_against_it():
    system, text = "Choices:\n1 wifi\n2 bed", "The wifi was slow all day"
    plain = judge(asked(system, text)).apart[0]
    against = judge(asked(system, text, [("The wifi was slow all night", '{"1":0,"2":1}')])).apart[0]
    unlike = judge(asked(system, text, [("Lovely tram", '{"1":0,"2":1}')])).apart[0]
    assert against < plain
    assert unlike == plain


def test_of_names_that_begin_alike_the_longest_is_meant():
    assert Choice.parse("noise: at night", "1", ("noise", "noise: at night")).name == "noise: at night"
    assert Choice.parse("noise: by day", "1", ("noise", "noise: at night")).name == "noise"
