"""The Decisions API, asked by the official client."""

from __future__ import annotations

import math

import httpx2
import openai
import pytest
from prompts_to_read import NOTHING, ROOM, TEXTS, marked, messages
from sandbox_helpers import client_of, connected, requests_seen, sandbox


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture(scope="module")
def client(running):
    with client_of(running.address) as client:
        yield client


def predicates(choices=ROOM):
    return [
        {"type": "predicate", "name": f"{at:02d}", "instructions": f"The text is about {name}: {told}"}
        for at, (name, told) in enumerate(choices.items(), 1)
    ]


def one_of(choices=ROOM):
    listed = [{"value": name, "description": told} for name, told in choices.items()]
    return {
        "type": "choice",
        "name": "answer",
        "instructions": "What is the text about?",
        "choices": [*listed, {"value": NOTHING}],
    }


@pytest.mark.parametrize("name", TEXTS)
def test_predicates_tell_for_each_choice_how_probable_it_is(client, name):
    found = client.decisions.create(
        model="reader", input=messages("each", TEXTS[name]), questions=predicates()
    )
    assert [one.name for one in found.answers] == ["01", "02", "03", "04"]
    chances = {choice: one.probability for choice, one in zip(ROOM, found.answers, strict=True)}
    assert [choice for choice, chance in chances.items() if chance >= 0.5] == ([name] if name in ROOM else [])
    usage = found.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 100


@pytest.mark.parametrize("name", TEXTS)
def test_a_choice_is_one_of_its_values(client, name):
    found = client.decisions.create(model="reader", input=marked(TEXTS[name]), questions=[one_of()])
    (answer,) = found.answers
    assert answer.choice == (name if name in ROOM else NOTHING)
    assert math.fsum(one.probability for one in answer.probabilities) == pytest.approx(1)
    assert answer.confidence == max(one.probability for one in answer.probabilities)
    assert [one.value for one in answer.probabilities] == [*ROOM, NOTHING]


def test_examples_speak_in_decisions_too(client):
    text, example = "The tram rattled past at five in the morning.", "A tram rattled by all morning."
    for examples, expected in (([], False), ([(example, ["noise: at night"])], True)):
        asked = messages("each", text, examples)
        found = client.decisions.create(model="reader", input=asked, questions=predicates())
        assert (found.answers[3].probability >= 0.5) == expected


def test_a_score_lies_among_its_levels_and_true_is_not_the_text_true(client):
    levels = [{"label": "calm", "description": "quiet rooms"}, {"label": "loud", "description": "noise"}]
    questions = [
        {"type": "score", "instructions": "How loud is it?", "levels": levels},
        {"type": "choice", "instructions": "Loud?", "choices": [{"value": True}, {"value": "true"}]},
    ]
    found = client.decisions.create(model="reader", input="So much noise!", questions=questions)
    score, choice = found.answers
    assert [one.value for one in score.probabilities] == [0, 1]
    assert score.score == pytest.approx(score.probabilities[1].probability)
    assert score.score > 0.5
    assert [one.value for one in choice.probabilities] == [True, "true"]


def test_a_model_that_was_not_taught_answers_evenly(client):
    asked = [predicates()[0], one_of()]
    found = client.decisions.create(model="gpt-6-luna", input=TEXTS["wifi"], questions=asked)
    assert found.answers[0].probability == 0.5
    assert {one.probability for one in found.answers[1].probabilities} == {1 / 5}


def test_parts_of_an_input_are_read(client):
    parts = [{"type": "input_text", "text": "The bed"}, {"type": "input_json", "data": {"pillow": "soft"}}]
    asked = [{"role": "user", "content": parts}]
    found = client.decisions.create(model="reader", input=asked, questions=predicates())
    assert found.answers[2].probability > 0.5


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"model": "gpt-4.1-mini-2025-04-14"}, "not supported in the v1/decisions"),
        ({"input": ""}, "'input'"),
        ({"input": [{"role": "king", "content": "x"}]}, r"'input\[0\]'"),
        ({"input": [{"role": "user", "content": 3}]}, r"'input\[0\].content'"),
        ({"questions": []}, "1 to 400"),
        ({"questions": predicates() * 101}, "1 to 400"),
        ({"questions": [{"type": "essay"}]}, "of type predicate, choice or score"),
        ({"questions": [one_of({"a": "x"}) | {"choices": [{"value": "a"}]}]}, "2 to 255"),
        ({"questions": [one_of({str(at): "" for at in range(255)})]}, "2 to 255"),
        ({"questions": [one_of() | {"choices": [{"value": "a"}, {"value": "a"}]}]}, "twice"),
        ({"questions": [one_of() | {"choices": [{"value": 1}, {"value": 2}]}]}, "'value'"),
        ({"questions": [{"type": "predicate", "name": 3, "instructions": "x"}]}, "name"),
        ({"questions": [{"type": "predicate"}]}, "instructions"),
    ],
)
def test_a_wrong_request_is_refused(client, body, found):
    right = {"model": "reader", "input": "x", "questions": predicates()}
    with pytest.raises(openai.BadRequestError, match=found):
        client.decisions.create(**right | body)


def test_400_questions_are_answered_in_their_order_and_counted(running, client):
    names = [str(at) for at in range(400)]
    asked = [{"type": "predicate", "name": name, "instructions": f"It is {name}."} for name in names]
    found = client.decisions.create(model="reader", input="Room 7", questions=asked)
    assert [one.name for one in found.answers] == names
    counted = requests_seen(running.address)["usage"]["reader"]
    assert counted["prompt_tokens"] >= found.usage.input_tokens


def test_a_question_may_be_refused_and_others_answered(tmp_path):
    with connected(tmp_path, chaos="rate=1,kinds=refused") as (_, client):
        found = client.decisions.create(model="reader", input=TEXTS["bed"], questions=predicates())
    assert sorted(one.type for one in found.answers) == ["predicate"] * 3 + ["refusal"]


def test_limits_hold_for_decisions(tmp_path):
    with connected(tmp_path, rpm=1) as (_, client):
        client.decisions.create(model="reader", input="x", questions=predicates())
        with pytest.raises(openai.RateLimitError):
            client.decisions.create(model="reader", input="x", questions=predicates())


def test_without_a_key_there_are_no_decisions(running):
    assert httpx2.post(f"{running.address}/decisions", json={}).status_code == 401
