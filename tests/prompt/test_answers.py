"""What is asked for and how it is read: in each way the right answer is understood, and nothing else is."""

from __future__ import annotations

import json

import pytest
from answering_service import said, token
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cascade.hosted.logprobs import UnreadableAnswer
from cascade.nodes.contract import GroupDescription
from cascade.prompt.answers import form_of, held_to, object_in
from cascade.prompt.wording import NONE

NAMES = ("wifi", "price (room)", "Bar: food", "none of the above", 'say "hi"')
ALIASES = {"wifi": ("internet", "wlan"), "Bar: food": ("snacks",)}
WAYS = ("number", "each", "list")


def form(kind, children=NAMES, choose="many", hold="schema", **described):
    return form_of(kind, children, GroupDescription(choose=choose, aliases=ALIASES, **described), hold)


names = st.lists(
    st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=8, unique_by=str.casefold
)


@given(names.flatmap(lambda children: st.tuples(st.just(children), st.integers(0, len(children)))))
def test_the_right_answer_is_read_as_it_was_meant(drawn):
    children, place = drawn
    children = [f"{number}{name}" for number, name in enumerate(children)]
    target = [number == place for number in range(len(children))]
    for kind in WAYS:
        made = form(kind, children)
        assert list(made.read(said(made.right(target)))) == [float(mark) for mark in target]


@given(st.lists(st.booleans(), min_size=len(NAMES), max_size=len(NAMES)))
def test_several_children_are_read_as_they_were_meant_and_obey_the_schema(target):
    for kind in ("each", "list"):
        made = form(kind)
        assert list(made.read(said(made.right(target)))) == [float(mark) for mark in target]
        schema = made.fields()["response_format"]["json_schema"]
        assert schema["strict"] is True
        Draft202012Validator.check_schema(schema["schema"])
        Draft202012Validator(schema["schema"]).validate(json.loads(made.right(target)))


@given(st.text(max_size=60))
def test_whatever_is_answered_is_read_as_scores_of_children_or_refused(text):
    for kind in WAYS:
        try:
            scores = form(kind).read(said(text))
        except UnreadableAnswer:
            continue
        assert len(scores) == len(NAMES)
        assert all(0 <= score <= 1 for score in scores)


@pytest.mark.parametrize(
    "content",
    [
        '{"labels": [{"label": "pool", "confidence": 90}]}',
        '{"labels": [{"label": "wifi"}]}',
        '{"labels": [{"label": "wifi", "confidence": "much"}]}',
        '{"labels": [{"label": "wifi", "confidence": true}]}',
        '{"labels": ["wifi"]}',
        '{"labels": "wifi"}',
        '{"label": "wifi"}',
        "[]",
        "wifi",
        '{"labels": [{"label": "wifi", "confid',
    ],
)
def test_a_list_that_is_none_of_the_children_is_no_answer(content):
    with pytest.raises(UnreadableAnswer):
        form("list").read(said(content))


@pytest.mark.parametrize(
    "content", ['{"0":1}', '{"0":1,"1":0,"2":0,"3":0,"4":0,"5":1}', '{"0":7,"1":0}', "1,0,0"]
)
def test_digits_for_other_children_are_no_answer(content):
    with pytest.raises(UnreadableAnswer):
        form("each").read(said(content))


def test_refusals_and_answers_cut_short_are_no_answers():
    for kind in WAYS:
        right = form(kind).right([True, False, False, False, False])
        with pytest.raises(UnreadableAnswer, match="refused"):
            form(kind).read(said(None, refusal="I cannot do that"))
        if kind != "number":
            with pytest.raises(UnreadableAnswer, match="cut short"):
                form(kind).read(said(right, finish="length"))


@pytest.mark.parametrize(
    ("label", "meant"),
    [("WiFi", 0), ("internet", 0), ("0 wifi", 0), ("snacks", 2), ("bar:  food", 2), ("None of the above", 3)],
)
def test_names_are_understood_by_case_aliases_and_numbers(label, meant):
    answer = {"labels": [{"label": label, "confidence": 40}]}
    scores = form("list").read(said(json.dumps(answer)))
    assert scores == [0.4 if place == meant else 0 for place in range(len(NAMES))]


def test_prose_and_code_marks_around_json_do_no_harm():
    inside = '{"labels": [{"label": "wifi", "confidence": 70}]}'
    told = form("list").read(said(f"Sure! Here it is:\n```json\n{inside}\n```"))
    assert told[0] == 0.7
    assert object_in('x {"a": {"b": 1}} y') == {"a": {"b": 1}}


def test_the_probabilities_of_a_number_are_those_of_its_token():
    made = form("number", ("wifi", "price"), choose="one")
    chances = {"1": 0.6, "0": 0.3, "2": 0.1}
    scores = made.read(said("1", logprobs=[token("1", **chances)]))
    assert scores == pytest.approx([0.3, 0.6], abs=1e-6)
    assert made.lines()[-1] == f"2 {NONE}"


def test_the_probability_of_each_child_is_that_of_its_digit_and_not_of_digits_in_keys():
    made = form("each", ("wifi", "price"))
    steps = [
        token('{"', **{'{"': 1.0}),
        token("0", **{"0": 1.0}),
        token('":', **{'":': 1.0}),
        token("1", **{"1": 0.8, "0": 0.2}),
        token(',"', **{',"': 1.0}),
        token("1", **{"1": 1.0}),
        token('":', **{'":': 1.0}),
        token("0", **{"0": 0.9, "1": 0.1}),
        token("}", **{"}": 1.0}),
    ]
    assert made.read(said('{"0":1,"1":0}', logprobs=steps)) == pytest.approx([0.8, 0.1], abs=1e-6)


def test_digits_that_share_a_token_with_a_mark_have_their_probabilities_too():
    made = form("each", ("wifi", "price"))
    steps = [
        token('{"0', **{'{"0': 1.0}),
        token('":1', **{'":1': 0.7, '":0': 0.3}),
        token(',"1', **{',"1': 1.0}),
        token('":0', **{'":0': 0.9, '":1': 0.1}),
        token("}", **{"}": 1.0}),
    ]
    assert made.read(said('{"0":1,"1":0}', logprobs=steps)) == pytest.approx([0.7, 0.1], abs=1e-6)


def test_decisions_are_predicates_or_one_choice():
    many, one = form("decisions"), form("decisions", choose="one")
    questions = many.fields()["questions"]
    assert [question["type"] for question in questions] == ["predicate"] * len(NAMES)
    answers = [{"type": "predicate", "name": str(at), "probability": at / 10} for at in range(len(NAMES))]
    assert many.read({"answers": answers}) == [0.0, 0.1, 0.2, 0.3, 0.4]
    [question] = one.fields()["questions"]
    assert [choice["value"] for choice in question["choices"]] == [*NAMES, NONE]
    told = [{"value": name, "probability": 0.1} for name in [*NAMES, NONE]]
    answer = {"type": "choice", "choice": NONE, "confidence": 0.5, "probabilities": told}
    assert one.read({"answers": [answer]}) == [0.1] * len(NAMES)


def test_a_decision_that_is_refused_or_missing_is_no_answer():
    made = form("decisions", ("wifi", "price"))
    with pytest.raises(UnreadableAnswer, match="refused"):
        made.read({"answers": [{"type": "predicate", "probability": 0.5}, {"type": "refusal"}]})
    for answers in ([], [{"type": "predicate", "probability": 2}] * 2, None):
        with pytest.raises(UnreadableAnswer):
            made.read({"answers": answers})


def test_answers_are_held_by_what_the_service_has():
    assert held_to(("0", "1"), "choice") == {"structured_outputs": {"choice": ["0", "1"]}}
    assert held_to(("0", "1"), "grammar") == {"grammar": 'root ::= "0" | "1"'}
    assert held_to(("0", "1"), "schema") == {}
    assert "response_format" not in form("list", hold="plain").fields()
    assert "structured_outputs" in form("number", hold="choice").fields()
