"""What the OpenAPI description says of bodies; the checks themselves are in `predict_request`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from cascade.model.evidence import NOTHING_KNOWN
from cascade.predict.look import LOOKS
from cascade.serve.explaining import MOST_CHARACTERS, MOST_WORDS
from cascade.serve.limits import Limits
from cascade.serve.predict_request import MOST_TOP
from cascade.serve.problems import MEDIA_TYPE
from cascade.serve.review_endpoints import MOST_LABELS, MOST_NOTE
from cascade.show.explain import Decision
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.settings import TIERS

_JSON = "application/json"
_SEEN = "The revision of what the row was answered when it was shown; empty where it was not."
_ID = {"type": ["string", "integer"]}
_LOOK = {"enum": list(LOOKS)}
_TIER = {"enum": list(TIERS), "description": "Which of the tiers of a group answered, where it has several."}
_PLACE: dict[str, Any] = {"type": "integer", "minimum": 0}
_SCORE = {"type": "number", "minimum": 0, "maximum": 1}


def schemas(limits: Limits) -> dict[str, Any]:
    """The bodies of requests and answers, by name."""
    return {
        "Question": {"oneOf": [_predict_schema(name, part) for name, part in _sources(limits).items()]},
        "Answers": _object({"model": {"type": "string"}, "rows": _array({"$ref": _ref("Row")})}),
        "Row": _object(
            {
                "id": _ID,
                "labels": _array({"type": "string"}),
                "scores": {"type": "object", "additionalProperties": _SCORE},
                "calibrated": {"const": False},
                "trace": _array({"oneOf": [{"$ref": _ref("Visited")}, {"$ref": _ref("Look")}]}),
                "evidence": _array({"$ref": _ref("LabelEvidence")}),
            },
            optional=("calibrated", "trace", "evidence"),
        ),
        "LabelEvidence": _object(
            {
                "label": {"type": "string"},
                "by": {"enum": ["words", "quotation"]},
                "spans": _array({"$ref": _ref("Span")}),
            }
        ),
        "Span": _object(
            {
                "start": {**_PLACE, "description": "In code points of the text as it was given."},
                "end": _PLACE,
                "text": {"type": "string"},
                "share": {**_SCORE, "description": "Of all that speaks for the label; none of a quotation."},
            },
            optional=("share",),
        ),
        "Visited": _object(
            {
                "node": {"type": "string"},
                "parent": {"type": "string"},
                "conditional": _SCORE,
                "path": _SCORE,
                "threshold": _SCORE,
                "entered": {"type": "boolean"},
                "tier": _TIER,
                "chosen": {"type": "boolean"},
            },
            optional=("entered", "tier", "chosen"),
        ),
        "Look": _object(
            {
                "node": {"const": ROOT},
                "parent": {"const": ROOT},
                "look": _LOOK,
                "tier": _TIER,
                "why": {"const": NOTHING_KNOWN},
            },
            optional=("look", "tier", "why"),
        ),
        "Wondering": _object(
            {
                "text": {"type": "string", "maxLength": MOST_CHARACTERS},
                "words": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": MOST_WORDS,
                    "description": "Told for each node, and as many against it.",
                },
            },
            optional=("words",),
        )
        | {"additionalProperties": False},
        "Explanation": _object(
            {
                "model": {"type": "string"},
                "text": {"type": "string"},
                "labels": _array(_array({})),
                "steps": _array({"$ref": _ref("Step")}),
                "silent": {"type": "object", "additionalProperties": {"type": "string"}},
                "nothing_known": {"type": "boolean"},
                "look": _LOOK,
                "evidence": _array({"$ref": _ref("LabelEvidence")}),
                "tiers": {"type": "object", "additionalProperties": _TIER},
            },
            optional=("look", "tiers"),
        ),
        "Step": _object(
            {
                "node": {"type": "string"},
                "is_group": {"type": "boolean"},
                "conditional": _SCORE,
                "path": _SCORE,
                "threshold": {**_SCORE, "type": ["number", "null"]},
                "verdict": {"enum": list(get_args(Decision))},
                "why": {"type": "string"},
                "counts": {"type": "boolean"},
                "pushes": _array({"$ref": _ref("Word")}),
                "steps": _array({"$ref": _ref("Step")}),
            }
        ),
        "Word": _object(
            {
                "word": {"type": "string"},
                "push": {"type": "number"},
                "spans": _array(_array({"type": "integer", "minimum": 0})),
            }
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


def review_schemas(names: Sequence[str]) -> dict[str, Any]:
    """Those of a review; answers are made of these names, or of any where there are none."""
    name = {"enum": list(names)} if names else {"type": "string"}
    verdict = {"enum": ["accepted", "corrected", "skipped"]}
    said = _object(
        {
            "verdict": verdict,
            "labels": _array({"type": "string"}),
            "note": {"type": "string"},
            "at": {"type": "string"},
            "revision": {"type": "string"},
        }
    )
    row = {
        "key": {"type": "string"},
        "place": {"type": "integer", "minimum": 1},
        "id": _ID,
        "text": {"type": "string"},
        "proposed": _array({"type": "string"}),
        "scores": {"type": "object", "additionalProperties": _SCORE},
        "doubts": _array(
            _object({"reason": {"type": "string"}, "label": {"type": "string"}, "size": _SCORE})
        ),
        "model": {"type": "string"},
        "said": {"oneOf": [said, {"type": "null"}]},
    }
    beginning = {"key": row["key"], "id": _ID, "beginning": row["text"]}
    states = _object({**beginning, "verdict": {"enum": [*verdict["enum"], None]}})
    counts = _object({name: {"type": "integer"} for name in (*verdict["enum"], "left")})
    empty = {"row": {"type": "null"}, "counts": counts}
    answer: dict[str, Any] = {
        "note": {"type": "string", "maxLength": MOST_NOTE},
        "seen": {"type": "string", "description": _SEEN},
    }
    labels = {**_array(name), "maxItems": MOST_LABELS}
    model = {"type": "string", "description": "Digest of the model that proposes, or proposed what was seen."}
    answer["model"] = model
    shown = {"row": {"$ref": _ref("ReviewRow")}, "counts": counts, "model": model}
    return {
        "Reviewing": _object({"answers": {"type": "string"}, "counts": counts, "rows": _array(states)}),
        "Reviewed": _object(shown),
        "ReviewNext": {"oneOf": [_object(shown), _object(empty)]},
        "ReviewReleased": _object({"counts": counts}),
        "ReviewTab": _object({"tab": {"type": "string"}}) | {"additionalProperties": False},
        "ReviewRow": _object(row),
        "ReviewAsked": _object({"tab": {"type": "string"}, "after": {"type": "string"}}, optional=("after",))
        | {"additionalProperties": False},
        "ReviewAnswer": {
            "oneOf": [
                _object({"labels": labels, "skip": {"const": False}, **answer}, optional=("skip", *answer))
                | {"additionalProperties": False},
                _object({"skip": {"const": True}, **answer}, optional=tuple(answer))
                | {"additionalProperties": False},
            ]
        },
    }


def predict_body(limits: Limits) -> dict[str, Any]:
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


def request_body(schema: str, example: dict[str, Any], told: str = "") -> dict[str, Any]:
    """The body of a request, by the name of its schema."""
    content = {"schema": {"$ref": _ref(schema)}, "examples": {"one": {"value": example}}}
    described = {"description": told} if told else {}
    return {"required": True, **described, "content": {_JSON: content}}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What is told of each status."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _ref("Problem")}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": _DESCRIPTIONS[status], "content": content} for status in statuses
    }
    if 503 in told:
        told[503]["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return told


def json_response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def text_response(description: str, media_type: str) -> dict[str, Any]:
    """An answer that is text."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


ANSWERS = json_response("A row for each text, in their order.", {"$ref": "#/components/schemas/Answers"})
EXPLANATION = json_response("The walk.", {"$ref": "#/components/schemas/Explanation"})
OVERVIEW = json_response("All rows, in the order of the queue.", {"$ref": "#/components/schemas/Reviewing"})
NEXT = json_response(
    "The first row without an answer that no other tab shows; null for none.",
    {"$ref": "#/components/schemas/ReviewNext"},
)
RELEASED = json_response("It is free.", {"$ref": "#/components/schemas/ReviewReleased"})
ROW = json_response("The row, and what was said of it.", {"$ref": "#/components/schemas/Reviewed"})
KEY = [{"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}]
KEY_AND_SEEN = [
    *KEY,
    {"name": "seen", "in": "query", "description": _SEEN, "schema": {"type": "string"}},
]

_DESCRIPTIONS = {
    400: "The body is no JSON in UTF-8.",
    404: "There is no such row.",
    409: "Somebody else has answered the row meanwhile: said has what they said.",
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


def _predict_schema(source: str, part: dict[str, Any]) -> dict[str, Any]:
    top = {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_TOP}
    options = {
        "top": {**top, "description": "So many of the best labels, whatever their thresholds."},
        "scores": {"enum": ["chosen", "all"], "default": "chosen"},
        "trace": {"type": "boolean", "default": False, "description": "Why: every node that was visited."},
        "evidence": {
            "type": "boolean",
            "default": False,
            "description": f"What carries each label; of texts of up to {MOST_CHARACTERS:,} characters.",
        },
    }
    return _object({source: part, **options}, optional=tuple(options)) | {"additionalProperties": False}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
