"""The model that reads, asked over the wire."""

from __future__ import annotations

import json
import math

import jsonschema
import pytest
from prompts_to_read import NOTHING, ROOM, TEXTS, answer, messages, names_of, numbers, request, schema
from sandbox_helpers import Checker, client_of, sandbox


@pytest.fixture(scope="module")
def checker():
    return Checker()


@pytest.fixture(scope="module")
def client(tmp_path_factory, checker):
    with (
        sandbox(tmp_path_factory.mktemp("sandbox")) as process,
        client_of(process.address, checker) as client,
    ):
        yield client


def choice_of(client, body):
    known = {
        name: body.pop(name) for name in ("structured_outputs", "grammar", "guided_choice") if name in body
    }
    return client.chat.completions.create(**body, extra_body=known).choices[0]


def said(client, body):
    return choice_of(client, body).message.content


def chances(token):
    return {one.token: math.exp(one.logprob) for one in token.top_logprobs}


HELD = {
    "nothing": lambda numbers: {},
    "vLLM": lambda numbers: {"structured_outputs": {"choice": numbers}},
    "vLLM of old": lambda numbers: {"guided_choice": numbers},
    "llama.cpp": lambda numbers: {"grammar": "root ::= " + " | ".join(json.dumps(one) for one in numbers)},
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("name", TEXTS)
def test_one_number_is_answered_with_the_chances_of_all(client, name, held):
    code = numbers(names_of("number"))
    body = request("number", TEXTS[name], **HELD[held](list(code.values())))
    found = choice_of(client, body)
    assert found.message.content == code[NOTHING if name == "none" else name]
    (token,) = found.logprobs.content
    listed = chances(token)
    assert set(code.values()) <= set(listed)
    assert math.fsum(listed[number] for number in code.values()) > 0.98
    assert listed[found.message.content] == max(listed.values())


@pytest.mark.parametrize("name", TEXTS)
def test_each_choice_gets_a_0_or_1_with_its_chance(client, name):
    found = choice_of(client, request("each", TEXTS[name]))
    jsonschema.validate(json.loads(found.message.content), schema("each"))
    assert found.message.content == answer("each", [name] if name in ROOM else [])
    digits = [token for token in found.logprobs.content if token.token in ("0", "1")]
    assert len(digits) == len(ROOM)
    for token in digits:
        assert chances(token)["0"] + chances(token)["1"] > 0.98


@pytest.mark.parametrize("way", ["list", "quotes"])
@pytest.mark.parametrize("name", TEXTS)
def test_a_list_names_what_fits_and_how_sure_that_is(client, name, way):
    found = json.loads(said(client, request(way, TEXTS[name])))
    jsonschema.validate(found, schema(way))
    assert [one["label"] for one in found["labels"]][:1] == ([name] if name in ROOM else [])
    for one in found["labels"]:
        assert one.get("quote", TEXTS[name]) in TEXTS[name]
        assert 30 <= one["confidence"] <= 100


@pytest.mark.parametrize("way", ["each", "list"])
def test_without_a_schema_the_form_is_the_one_that_the_instructions_show(client, way):
    body = {"model": "reader", "messages": messages(way, TEXTS["bed"])}
    jsonschema.validate(json.loads(said(client, body)), schema(way))


@pytest.mark.parametrize(("text", "yes"), [(TEXTS["wifi"], "yes"), (TEXTS["bed"], "no")])
@pytest.mark.parametrize("opposite", ["", "\nNot: bed: beds, pillows and mattresses"])
def test_a_second_look_says_yes_or_no(client, text, yes, opposite):
    told = f"Choice: wifi: {ROOM['wifi']}{opposite}\nAnswer yes or no."
    body = request("number", text)
    body["messages"][0]["content"] = told
    found = choice_of(client, body)
    assert found.message.content == yes
    listed = chances(found.logprobs.content[0])
    assert listed["yes"] + listed["no"] > 0.98
