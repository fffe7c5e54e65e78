"""JSON Schemas without their meaning: what kind of value one wants, and the least value that it allows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.sandbox.responses import ApiError

Schema = Mapping[str, Any]
DEEPEST = 12
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_KEYS_OF_KIND = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "minItems": "array",
    "minLength": "string",
    "pattern": "string",
    "minimum": "number",
    "maximum": "number",
}
# Texts for patterns: one of them fits most that people write.
_COMMON = ("", "a", "A", "0", "00", "000", "1", "a1", "a-1", "2026-01-01", "2026-01-01T00:00:00Z", "a@b.cd")
_FORMATS = {
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "a@b.cd",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


def impossible(what: str) -> ApiError:
    """No value can be written for a schema."""
    return ApiError(400, f"Invalid schema for response_format: {what}.", "invalid_json_schema")


def resolved(schema: Any, root: Schema) -> Schema:
    """A schema without references and alternatives, of which the first is taken.

    Raises
    ------
    ApiError
        It is none, or refers to itself.
    """
    for _ in range(DEEPEST):
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            raise impossible(f"expected an object, found {str(schema)[:40]!r}")
        if "$ref" in schema:
            schema = _referred(str(schema["$ref"]), root)
        elif name := next((one for one in _ALTERNATIVES if schema.get(one)), ""):
            schema = _merged(schema, name)
        else:
            return schema
    raise impossible("it refers to itself")


def _merged(schema: Schema, name: str) -> Schema:
    parts = schema[name]
    if not isinstance(parts, list):
        raise impossible(f"{name!r} is no list")
    found = {key: value for key, value in schema.items() if key != name}
    for part in parts if name == "allOf" else parts[:1]:
        found |= part if isinstance(part, dict) else {}
    return found


def _referred(reference: str, root: Schema) -> Any:
    found: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        found = found.get(part) if isinstance(found, dict) else None
    return found


def kind_of(schema: Schema) -> str:
    """``object``, ``array``, ``string``, ``integer``, ``number``, ``boolean`` or ``null``."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if isinstance(kind, str):
        return kind
    return next((known for name, known in _KEYS_OF_KIND.items() if name in schema), "string")


def number(kind: str, schema: Schema, share: float | None = None, at: int = 0) -> int | float:
    """A number in the bounds of a schema.

    Parameters
    ----------
    share
        Where between the bounds; None for the least. Bounds that are missing are 0 and 100, or 0 and 1 where
        the number need not be whole.
    at
        How many steps above that it lies: numbers that must differ have different ones.
    """
    step = float(schema.get("multipleOf") or (1 if kind == "integer" else 0))
    low, high = _bounds(schema, step)
    if share is not None:
        bottom = 0.0 if low is None else low
        value = bottom + share * ((max(bottom, 100.0 if step else 1.0) if high is None else high) - bottom)
    else:
        value = low if low is not None else min(0.0, 0.0 if high is None else high)
    value = _within(_stepped(value, step, low, high) + at * (step or _gap(low, high)), low, high)
    tidy = round(value, 6)
    value = tidy if _within(tidy, low, high) == tidy else value
    return int(value) if value == int(value) else value


def _within(value: float, low: float | None, high: float | None) -> float:
    value = value if low is None else max(low, value)
    return value if high is None else min(high, value)


def _bounds(schema: Schema, step: float) -> tuple[float | None, float | None]:
    """The least and the largest value, a little inside of bounds that are excluded."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if isinstance(above, int | float):
        inside = math.floor(above) + 1 if step else math.nextafter(above, math.inf)
        low = inside if low is None else max(low, inside)
    if isinstance(below, int | float):
        inside = math.ceil(below) - 1 if step else math.nextafter(below, -math.inf)
        high = inside if high is None else min(high, inside)
    return low, high


def _stepped(value: float, step: float, low: float | None, high: float | None) -> float:
    if not step:
        return value
    stepped = round(value / step) * step
    if low is not None and stepped < low:
        stepped = math.ceil(low / step) * step
    if high is not None and stepped > high:
        stepped = math.floor(high / step) * step
    return stepped


def _gap(low: float | None, high: float | None) -> float:
    return (high - low) / 1000 if low is not None and high is not None else 1.0


def fitted(text: str, schema: Schema, at: int = 0) -> str:
    """A text within the bounds of a schema, as near to the one given as that goes."""
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if at:
        text = f"{text} {at}".strip()
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if most is not None and len(text) > most:
        text = text[: int(most)]
        text = f"{text[: len(text) - len(str(at))]}{at}" if at else text
    text = text.ljust(least, ".")
    pattern = schema.get("pattern")
    return text if pattern is None else _of_pattern(str(pattern), text, least, most)


def _of_pattern(pattern: str, text: str, least: int, most: int | None) -> str:
    try:
        wanted = re.compile(pattern)
    except re.error:
        return text
    candidates = (text, *_COMMON, *(one * least for one in ("a", "A", "0", "a1")))
    longest = len(text) if most is None else most
    fitting = (one for one in candidates if least <= len(one) <= max(longest, least) and wanted.search(one))
    return next(fitting, text)


def values_of(schema: Schema) -> Sequence[Any]:
    """The values of an ``enum`` that its other keys allow, at least one."""
    listed = schema["enum"]
    if not isinstance(listed, list) or not listed:
        raise impossible("an enum has no values")
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind] if kind else []
    return [value for value in listed if not kinds or any(_is(value, one) for one in kinds)] or listed


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and value == int(value))
    return kind == {str: "string", list: "array", dict: "object", type(None): "null"}.get(type(value))
