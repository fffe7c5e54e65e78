"""The model that reads, asked over the wire."""

from __future__ import annotations

import json
import math

import jsonschema
import openai
import pytest
from prompts_to_read import NOTHING, ROOM, TEXTS, answer, held, messages, names_of, numbers, request, schema
from sandbox_helpers import SPEC, Checker, chat_lines, client_of, code, ended, rows, sandbox, uploaded

from cascade.sandbox.reader.prompts import read_prompt
from cascade.sandbox.reader.scoring import judge


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


def test_the_chances_of_numbers_are_those_of_exactly_one_choice(client):
    body = request("number", "The internet and the soft pillow.")
    listed = chances(choice_of(client, body).logprobs.content[0])
    expected = judge(read_prompt(body["messages"], names_of("number"))).one
    assert [listed[f"{at:02d}"] for at in range(1, 6)] == pytest.approx(expected, abs=0.005)


def test_a_question_that_is_asked_again_is_answered_as_before(client):
    body = request("number", TEXTS["bed"])
    again = [*body["messages"], {"role": "user", "content": "Your answer was no number. Answer again."}]
    assert said(client, body | {"messages": again}) == said(client, body)


# Examples


@pytest.mark.parametrize("way", ["number", "each", "list"])
def test_examples_like_the_text_speak_for_their_answers(client, way):
    text = "The tram rattled past at five in the morning."
    examples = [("A tram rattled by all morning.", ["noise: at night"]), ("It was fine.", [])]
    assert said(client, request(way, text)) == answer(way, []).replace(" ", "")
    found = said(client, request(way, text, examples))
    if way == "list":
        assert [one["label"] for one in json.loads(found)["labels"]] == ["noise: at night"]
    else:
        assert found == answer(way, ["noise: at night"])


# Drawn answers


def drawn(client, n_times, **more):
    body = request("number", "The internet and the pillow.", temperature=1, **more)
    return [said(client, body) for _ in range(n_times)]


def test_with_a_temperature_answers_are_drawn_and_every_new_reader_draws_the_same(tmp_path):
    found = []
    for name in "ab":
        with sandbox(tmp_path / name) as process, client_of(process.address) as client:
            found.append(drawn(client, 20))
            assert len(set(drawn(client, 8, seed=7))) == 1
    assert found[0] == found[1]
    assert {"01", "03"} <= set(found[0])


# Batches and models


def test_a_batch_of_readings_answers_as_requests_do(client):
    bodies = [request("each", text) for text in TEXTS.values()]
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
        for name, body in zip(TEXTS, bodies, strict=True)
    ]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    batch = client.batches.create(
        input_file_id=uploaded(client, content, "batch"),
        endpoint="/v1/chat/completions",
        completion_window="24h",
    )
    batch = ended(client.batches.retrieve, batch.id)
    assert batch.request_counts.completed == len(TEXTS)
    found = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
    answers = {
        line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in found
    }
    assert answers == {name: said(client, body) for name, body in zip(TEXTS, bodies, strict=True)}


def test_the_reader_is_listed_and_learns_nothing(client):
    assert "reader" in [one.id for one in client.models.list()]
    with pytest.raises(openai.NotFoundError, match="This is a chat model"):
        client.completions.create(model="reader", prompt="hello")
    training = uploaded(client, chat_lines(rows(20, seed=1), code))
    with pytest.raises(openai.BadRequestError, match="not available for fine-tuning"):
        client.fine_tuning.jobs.create(model="reader", training_file=training)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "schema"),
        ({"response_format": held({"anyOf": 3})}, "schema"),
        ({"response_format": held({"$ref": "#"})}, "refers to itself"),
        ({"structured_outputs": {"choice": []}}, "choice"),
        ({"grammar": "root ::= [0-9]+"}, "grammar"),
        ({"grammar": 'root ::= "\\q"'}, "grammar"),
    ],
)
def test_a_form_that_is_none_is_refused(client, more, found):
    with pytest.raises(openai.BadRequestError, match=found):
        choice_of(client, request("number", TEXTS["bed"]) | more)


def test_every_exchange_with_the_reader_was_as_the_official_description_has_it(client, checker):
    if not SPEC.exists():
        pytest.skip(f"no {SPEC.name}: the description is not part of the project")
    for way in ("number", "each", "list", "quotes"):
        said(client, request(way, TEXTS["wifi"], [("The bed!", ["bed"])]))
    assert checker.faults == []
    assert ("POST", "/v1/chat/completions") in checker.checked
