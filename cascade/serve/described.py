"""What the OpenAPI description says of bodies; the checks themselves are in `asking`."""

from __future__ import annotations

from typing import Any

from cascade.serve.asking import MOST_TOP
from cascade.serve.limits import Limits
from cascade.serve.refusals import MEDIA_TYPE

_ID = {"type": ["string", "integer"]}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1}


def schemas(limits: Limits) -> dict[str, Any]:
    """The bodies of requests and answers, by name."""
    return {
        "Question": {"oneOf": [_question(name, part) for name, part in _sources(limits).items()]},
        "Answers": _object({"model": {"type": "string"}, "rows": _array({"$ref": _ref("Row")})}),
        "Row": _object(
            {
                "id": _ID,
                "labels": _array({"type": "string"}),
                "scores": {"type": "object", "additionalProperties": _SCORE},
                "trace": _array({"$ref": _ref("Visited")}),
            },
            optional=("trace",),
        ),
        "Visited": _object(
            {
                "node": {"type": "string"},
                "parent": {"type": "string"},
                "conditional": _SCORE,
                "path": _SCORE,
                "threshold": _SCORE,
                "entered": {"type": "boolean"},
                "chosen": {"type": "boolean"},
            },
            optional=("entered", "chosen"),
        ),
        "Problem": _object(
            {
                "type": {"type": "string"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "where": {"type": "string"},
                "found": {"type": "string"},
                "expected": {"type": "string"},
            },
            optional=("where", "found", "expected"),
        ),
    }


def question(limits: Limits) -> dict[str, Any]:
    """The body of a request for answers."""
    content = {
        "schema": {"$ref": _ref("Question")},
        "examples": {
            "one": {"value": {"text": "where is my refund?"}},
            "several": {"value": {"texts": ["where is my refund?", "the box was wet"], "top": 3}},
            "rows": {"value": {"rows": [{"id": "a", "text": "where is my refund?"}], "trace": True}},
        },
    }
    told = f"At most {limits.texts:,} texts and {limits.body:,} bytes."
    return {"required": True, "description": told, "content": {"application/json": content}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What is told of each status."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _ref("Problem")}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": _REFUSED[status], "content": content} for status in statuses
    }
    if 503 in told:
        told[503]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return told


def answered(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def plain(description: str, media_type: str) -> dict[str, Any]:
    """An answer that is text."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


ANSWERS = answered("A row for each text, in their order.", {"$ref": "#/components/schemas/Answers"})

_REFUSED = {
    400: "The body is no JSON in UTF-8.",
    401: "A token is needed, or it is another one.",
    408: "The body took too long to come.",
    413: "The body is too large.",
    415: "The body is not called application/json.",
    421: "The Host header names another machine.",
    422: "The JSON is not what is expected, or has too many texts: where says what is wrong.",
    503: "Too much waits already, or a hosted model did not answer. Retry-After says when to come back.",
}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"


def _sources(limits: Limits) -> dict[str, Any]:
    text = {"type": "string"}
    row = {"type": "object", "properties": {"id": _ID, "text": text}, "required": ["text"]}
    return {
        "text": text,
        "texts": {**_array(text), "maxItems": limits.texts},
        "rows": {**_array(row), "maxItems": limits.texts},
    }


def _question(source: str, part: dict[str, Any]) -> dict[str, Any]:
    top = {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_TOP}
    options = {
        "top": {**top, "description": "So many of the best labels, whatever their thresholds."},
        "scores": {"enum": ["chosen", "all"], "default": "chosen"},
        "trace": {"type": "boolean", "default": False, "description": "Why: every node that was visited."},
    }
    return _object({source: part, **options}, optional=tuple(options)) | {"additionalProperties": False}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
