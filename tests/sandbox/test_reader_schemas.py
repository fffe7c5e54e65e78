"""Answers by a schema: whatever it is made of, what the reader writes is valid."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prompts_to_read import ROOM, TEXTS, held, messages, strict

from cascade.sandbox.reader.reading import Reader
from cascade.sandbox.responses import ApiError

NAMES = [*ROOM, "01", "02", "label", "confidence", "quote", "description", "aliases", "other"]
names = st.sampled_from(NAMES)


def bounded(low, high):
    """Two bounds, either of which may be missing."""
    bounds = st.tuples(st.none() | st.integers(low, high), st.none() | st.integers(0, high - low))
    return bounds.map(lambda two: (two[0], None if two[1] is None else (two[0] or 0) + two[1]))


def told(first, second, **more):
    """A schema with the bounds that are there."""
    return lambda two: {
        **more,
        **{key: one for key, one in zip((first, second), two, strict=True) if one is not None},
    }


numbers = st.sampled_from(["integer", "number"]).flatmap(
    lambda kind: bounded(-20, 300).map(told("minimum", "maximum", type=kind))
)
texts = bounded(0, 40).map(told("minLength", "maxLength", type="string"))
enums = st.one_of(
    st.lists(names, min_size=1, max_size=5, unique=True).map(lambda one: {"type": "string", "enum": one}),
    st.lists(st.integers(-3, 3), min_size=1, max_size=4, unique=True).map(lambda one: {"enum": one}),
    st.just({"enum": ["a", 1, None, True, 2.5]}),
    st.sampled_from(["x", 3, None, [1]]).map(lambda one: {"const": one}),
)
plain = st.one_of(numbers, texts, enums, st.sampled_from([{"type": "boolean"}, {"type": "null"}]))


def made_of(inner):
    objects = st.dictionaries(names, inner, max_size=4).map(strict)
    arrays = st.tuples(inner, bounded(0, 4)).map(
        lambda two: told("minItems", "maxItems", type="array", items=two[0])(two[1])
    )
    either = st.lists(inner, min_size=1, max_size=2).map(lambda one: {"anyOf": one})
    return st.one_of(objects, arrays, either)


schemas = st.recursive(plain, made_of, max_leaves=12)
asked = st.tuples(st.sampled_from(["number", "each", "list"]), st.sampled_from(list(TEXTS.values())))


def written(schema, way="each", text=TEXTS["bed"], **more):
    body = {"model": "reader", "response_format": held(schema), **more}
    answer = Reader().answer(body, messages(way, text), 10_000)
    return json.loads("".join(step.token for step in answer.steps))


@given(schema=schemas, prompt=asked, temperature=st.sampled_from([0, 1]))
@settings(max_examples=400, deadline=None)
@example(
    schema={"type": "array", "items": {"enum": ["wifi"]}, "minItems": 3}, prompt=("each", ""), temperature=0
)
def test_whatever_a_schema_is_made_of_the_answer_is_valid(schema, prompt, temperature):
    jsonschema.validate(written(schema, *prompt, temperature=temperature), schema)


@given(least=st.integers(0, 4), kind=st.sampled_from(["integer", "number", "string", "enum", "object"]))
@settings(deadline=None)
def test_items_that_must_differ_do(least, kind):
    item = {"enum": list("abcd")} if kind == "enum" else {"type": kind}
    if kind == "object":
        item = strict({"n": {"type": "integer"}, "s": {"type": "string", "maxLength": 3}})
    schema = {"type": "array", "items": item, "minItems": least, "uniqueItems": True}
    jsonschema.validate(written(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 3, "multipleOf": 5},
        {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
        {"type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 0.6},
        {"type": ["string", "null"]},
        {"type": ["null", "integer"]},
        {"type": "string", "pattern": "^[0-9]{3}$"},
        {"type": "string", "pattern": "^[a-z]+$", "minLength": 4, "maxLength": 4},
        {"type": "string", "format": "date"},
        {"properties": {"a": {"$ref": "#/$defs/one"}}, "required": ["a"], "$defs": {"one": {"const": 4}}},
        {"allOf": [{"type": "integer"}, {"minimum": 7}]},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "required": ["a"], "additionalProperties": {"type": "integer"}},
        {},
    ],
    ids=json.dumps,
)
def test_rarer_keys_are_honoured_too(schema):
    jsonschema.validate(written(schema), schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]},
        {"$ref": "#"},
        {"anyOf": 3},
        {"enum": []},
        {"properties": {"a": 3}},
        {"properties": ["a"]},
        {"type": "array", "minItems": "x"},
        {"type": "integer", "minimum": "x"},
    ],
    ids=json.dumps,
)
def test_a_schema_that_nothing_fits_is_refused_and_not_tried_for_ever(schema):
    with pytest.raises(ApiError, match="Invalid schema"):
        written(schema)


def test_names_in_a_schema_mean_what_they_say():
    flags = strict({name: {"type": "boolean"} for name in ROOM})
    assert written(flags) == {name: name == "bed" for name in ROOM}
    sure = written(strict({name: {"type": "number", "minimum": 0, "maximum": 1} for name in ROOM}))
    assert max(sure, key=sure.get) == "bed"
    assert sure["bed"] > 0.5
    assert written({"type": "array", "items": {"enum": list(ROOM)}}) == ["bed"]
    assert written({"enum": list(ROOM)}) == "bed"
    words = {"enum": ["deliveries", "cushions and pillows"]}
    assert written(words) == "cushions and pillows"


def test_a_list_that_must_be_longer_goes_on_with_the_next_best():
    text = "The pillow, the pillow! And the internet."
    names = {"type": "array", "items": {"enum": list(ROOM)}, "minItems": 2}
    assert sorted(written(names, text=text)) == ["bed", "wifi"]
    assert written(names | {"minItems": 4}, text=TEXTS["wifi"])[0] == "wifi"
    assert sorted(written(names | {"minItems": 4}, text=TEXTS["wifi"])) == sorted(ROOM)


def test_what_is_not_told_apart_by_words_gets_the_least_that_is_allowed():
    kinds = {"n": {"type": "integer", "minimum": 3}, "x": {"type": "number"}, "none": {"type": "null"}}
    found = written(strict({**kinds, "list": {"type": "array", "items": {"type": "integer"}}}))
    assert found == {"n": 3, "x": 0, "none": None, "list": []}


TOLD = """Write descriptions.
wifi
- The router in the lobby was dead.
- No router reached our floor.

bed
- The mattress sagged.
- A mattress full of springs."""


ENTRY = {"description": {"type": "string"}, "aliases": {"type": "array", "items": {"type": "string"}}}
NAMED = {"label": {"type": "string", "enum": ["wifi", "bed"]}, **ENTRY}


def told_of(schema, system="Write descriptions."):
    asked = [{"role": "system", "content": system}, {"role": "user", "content": TOLD}]
    answer = Reader().answer({"response_format": held(schema)}, asked, 1000)
    found = json.loads("".join(step.token for step in answer.steps))
    jsonschema.validate(found, schema)
    return found


@pytest.mark.parametrize("system", ["Write descriptions.", "Choices:\n1 wifi\n2 bed\nWrite descriptions."])
def test_descriptions_are_written_from_examples_in_the_message(system):
    found = told_of(strict({"wifi": strict(ENTRY), "bed": strict(ENTRY)}), system)
    assert "router" in found["wifi"]["description"]
    assert "mattress" in found["bed"]["description"]
    assert found["wifi"]["aliases"][0] == "router"
    assert "mattress" not in json.dumps(found["wifi"])
    listed = told_of(strict({"labels": {"type": "array", "items": strict(NAMED)}}), system)["labels"]
    assert {one["label"]: one["description"] for one in listed} == {
        name: one["description"] for name, one in found.items()
    }


def test_a_name_of_which_no_text_tells_is_described_by_words_that_mean_the_same():
    asked = [{"role": "system", "content": "Choices:\n0 invoice\n1 refund\n2 zzz\n\nDescribe them."}]
    schema = strict(dict.fromkeys(["invoice", "zzz"], strict(ENTRY)))
    answer = Reader().answer({"response_format": held(schema)}, asked, 1000)
    found = json.loads("".join(step.token for step in answer.steps))
    assert "receipt" in found["invoice"]["description"]
    assert found["zzz"] == {"description": "Zzz.", "aliases": []}


def test_one_choice_alone_is_described_by_its_name():
    found = told_of(strict(ENTRY), "Choice: wifi\nDescribe it.")
    assert found["description"].startswith("Wifi: router")


@given(seed=st.integers())
@settings(max_examples=30, deadline=None)
def test_the_order_of_choices_changes_nothing(seed):
    shuffled = list(ROOM.items())
    random.Random(seed).shuffle(shuffled)
    schema = {"type": "array", "items": {"enum": list(ROOM)}}
    body = {"response_format": held(schema)}
    for text in TEXTS.values():
        found = [
            "".join(
                step.token for step in Reader().answer(body, messages("list", text, (), choices), 99).steps
            )
            for choices in (ROOM, dict(shuffled))
        ]
        assert found[0] == found[1]
