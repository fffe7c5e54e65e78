"""The form in which an answer is wanted: one of some texts, or JSON by a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.sandbox.reader.prompts import Choice, Prompt
from cascade.sandbox.reader.schemas import Schema
from cascade.sandbox.responses import ApiError

YES_NO = ("yes", "no")
_RULE = re.compile(r'\s*root\s*::=\s*("(?:[^"\\]|\\.)*"(?:\s*\|\s*"(?:[^"\\]|\\.)*")*)\s*')
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_EACH = re.compile(r'"(\d+)"\s*:\s*[01]\b')
_LIST = re.compile(r'"labels"\s*:')
_ANSWER = re.compile(r'"answer"\s*:')
_WHOLE: Schema = {"type": "integer", "enum": [0, 1]}


@dataclass(frozen=True)
class Form:
    """What an answer may be.

    Attributes
    ----------
    options
        The texts of which it is one; empty where a schema says what it is.
    schema
        A JSON Schema, or None.
    """

    options: tuple[str, ...] = ()
    schema: Schema | None = None


def form_told(body: Mapping[str, Any]) -> Form | None:
    """The form that the fields of a request hold the answer to; None where they say nothing of it.

    Raises
    ------
    ApiError
        A field is not what it should be.
    """
    schema = _schema(body)
    if schema is not None:
        return Form(schema=schema)
    choice = _structured(body, "choice")
    if choice is not None:
        return Form(_texts(choice, "choice"))
    grammar = body.get("grammar") or _structured(body, "grammar")
    return None if grammar is None else Form(_of_grammar(grammar))


def _schema(body: Mapping[str, Any]) -> Schema | None:
    wanted = body.get("response_format")
    if not isinstance(wanted, dict | None):
        raise ApiError(400, "'response_format': expected an object.", "invalid_type", "response_format")
    schema: Any = _structured(body, "json")
    if wanted and wanted.get("type") == "json_schema":
        held = wanted.get("json_schema")
        # llama.cpp also takes the schema where its type is said.
        schema = held.get("schema") if isinstance(held, dict) else wanted.get("schema")
        if not isinstance(schema, dict):
            message = "Missing required parameter: 'response_format.json_schema.schema'."
            raise ApiError(400, message, "missing_required_parameter", "response_format.json_schema.schema")
    elif wanted and wanted.get("type") == "json_object" and isinstance(wanted.get("schema"), dict):
        schema = wanted["schema"]
    if schema is not None and not isinstance(schema, dict):
        raise ApiError(400, "The JSON schema is no object.", "invalid_type", "structured_outputs.json")
    return schema


def _structured(body: Mapping[str, Any], name: str) -> Any:
    """A field of ``structured_outputs``, or what vLLM called it before."""
    held = body.get("structured_outputs")
    told = held.get(name) if isinstance(held, dict) else None
    return body.get(f"guided_{name}") if told is None else told


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise ApiError(400, f"'{where}': expected a list of texts that is not empty.", "invalid_type", where)
    return tuple(dict.fromkeys(value))


def _of_grammar(grammar: Any) -> tuple[str, ...]:
    found = _RULE.fullmatch(grammar) if isinstance(grammar, str) else None
    if found is None:
        message = """'grammar': only a root of texts is known here, such as root ::= "01" | "02"."""
        raise ApiError(400, message, "invalid_grammar", "grammar")
    literals = (literal.replace(r"\'", "'") for literal in _LITERAL.findall(found[1]))
    try:
        return tuple(dict.fromkeys(json.loads(literal, strict=False) for literal in literals))
    except ValueError:
        raise ApiError(400, "'grammar': an escape is not known here.", "invalid_grammar", "grammar") from None


def form_read(prompt: Prompt, as_json: bool) -> Form:
    """The form that the instructions, or the answers of the examples, ask for."""
    told = "\n".join([prompt.instructions, *(answer for _, answer in prompt.examples[:1])])
    if not prompt.choices:
        return Form(schema={"type": "object"}) if as_json else Form()
    if _LIST.search(told):
        return Form(schema=list_schema([one.name for one in prompt.choices], '"quote"' in told))
    if _EACH.search(told):
        return Form(schema=each_schema(prompt.choices))
    if len(prompt.choices) == 1 and not prompt.choices[0].number:
        return Form(schema=answer_schema()) if _ANSWER.search(told) else Form(YES_NO)
    if as_json:
        return Form(schema=each_schema(prompt.choices))
    return Form(tuple(choice.number for choice in prompt.choices))


def each_schema(choices: Sequence[Choice]) -> Schema:
    """An object with a 0 or 1 for every choice."""
    keys = [choice.number or choice.name for choice in choices]
    return {"type": "object", "properties": dict.fromkeys(keys, _WHOLE), "required": keys}


def answer_schema() -> Schema:
    """Yes or no, and a confidence."""
    properties: dict[str, Schema] = {
        "answer": {"type": "string", "enum": list(YES_NO)},
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_schema(names: Sequence[str], quotes: bool) -> Schema:
    """A list of names, each with a confidence and, if wanted, words of the text."""
    quote: dict[str, Schema] = {"quote": {"type": "string"}} if quotes else {}
    properties: dict[str, Schema] = {
        "label": {"type": "string", "enum": list(names)},
        **quote,
        "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
    }
    items = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "object",
        "properties": {"labels": {"type": "array", "items": items}},
        "required": ["labels"],
    }


def subjects_in(schema: Schema | None) -> tuple[str, ...]:
    """What a schema wants something told of: texts of enums, and names of objects within objects."""
    found: dict[str, None] = {}
    for part in _parts_of(schema):
        listed, properties = part.get("enum"), part.get("properties")
        if isinstance(listed, list):
            found.update(dict.fromkeys(one for one in listed if isinstance(one, str)))
        if isinstance(properties, dict):
            nested = [
                name for name, one in properties.items() if isinstance(one, dict) and "properties" in one
            ]
            found.update(dict.fromkeys(nested))
    return tuple(found)


def names_in(schema: Schema | None) -> tuple[str, ...]:
    """The texts of all enums and the names of all properties, by which names in a prompt are known."""
    found: dict[str, None] = dict.fromkeys(subjects_in(schema))
    for part in _parts_of(schema):
        if isinstance(part.get("properties"), dict):
            found.update(dict.fromkeys(part["properties"]))
    return tuple(found)


def _parts_of(value: Any) -> Iterator[Schema]:
    """A schema and all within it."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _parts_of(one)
