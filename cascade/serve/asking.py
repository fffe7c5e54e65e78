"""The body of a request to what is asked: JSON that nobody vouches for, checked by hand.

Most requests carry one short text, and a validation library would take longer than the model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

from cascade.answers import Style
from cascade.errors import suggestion
from cascade.serve.refusals import Refusal, shown

_SOURCES = ("text", "texts", "rows")
_OPTIONS = ("top", "scores", "trace")
_SCORES = ("chosen", "all")
_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_TOP = 1_000_000


class Asked(NamedTuple):
    """What a request asks: as many ids as texts, and what the rows show."""

    ids: list[str | int]
    texts: list[str]
    style: Style


def parse(body: bytes, most_texts: int) -> Asked:
    """What a body asks.

    Raises
    ------
    Refusal
        400 for what is no JSON in UTF-8, 422 for any other fault, more than `most_texts` among them.
    """
    asked = _decoded(body)
    if type(asked) is not dict:
        raise _wrong("", asked, "a JSON object with text, texts or rows")
    _check_keys(asked)
    source = next(name for name in _SOURCES if name in asked)
    ids, texts = _READERS[source](asked[source], most_texts)
    return Asked(ids, texts, _style(asked))


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body.decode(), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Refusal(400, "The body is not JSON.", where, error.msg, "a JSON object") from error
    except UnicodeDecodeError as error:
        found = f"byte 0x{body[error.start]:02x}"
        raise Refusal(400, "The body is not UTF-8.", f"byte {error.start}", found, "UTF-8") from error
    except RecursionError as error:
        raise Refusal(400, "The body is nested too deeply.", expected="a flat JSON object") from error
    except ValueError as error:
        raise Refusal(400, "The body is not JSON.", found=str(error), expected="a JSON object") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have")


def _check_keys(asked: Mapping[str, Any]) -> None:
    for key in asked:
        if key not in _SOURCES and key not in _OPTIONS:
            known = (*_SOURCES, *_OPTIONS)
            hint = suggestion(key[:100], known).strip()
            raise Refusal(422, f"Unknown key. {hint}".strip(), found=shown(key), expected=", ".join(known))
    given = [name for name in _SOURCES if name in asked]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise Refusal(422, "What is to be answered?", found=found, expected="one of text, texts, rows")


def _wrong(where: str, found: Any, expected: str) -> Refusal:
    return Refusal(422, f"{where or 'The body'} is of the wrong kind.", where, shown(found), expected)


def _one(text: Any, _: int) -> tuple[list[str | int], list[str]]:
    return [1], [_text(text, "text")]


def _many(texts: Any, most: int) -> tuple[list[str | int], list[str]]:
    found = [_text(text, f"texts[{place}]") for place, text in enumerate(_list(texts, "texts", most))]
    return list(range(1, len(found) + 1)), found


def _rows(rows: Any, most: int) -> tuple[list[str | int], list[str]]:
    ids, texts = [], []
    for place, row in enumerate(_list(rows, "rows", most)):
        where = f"rows[{place}]"
        if type(row) is not dict or "text" not in row:
            raise _wrong(where, row, "an object with text, and id if you like")
        ids.append(_id(row.get("id", place + 1), f"{where}.id"))
        texts.append(_text(row["text"], f"{where}.text"))
    return ids, texts


_READERS: Mapping[str, Callable[[Any, int], tuple[list[str | int], list[str]]]] = {
    "text": _one,
    "texts": _many,
    "rows": _rows,
}


def _list(value: Any, where: str, most: int) -> list[Any]:
    if type(value) is not list:
        raise _wrong(where, value, "a list")
    if len(value) > most:
        title = "Too many texts for one request."
        raise Refusal(422, title, where, str(len(value)), f"at most {most}; ask several times")
    return value


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _wrong(where, value, "a string")
    if not value.isascii() and _SURROGATE.search(value):
        raise Refusal(422, "Half of a surrogate pair is no text.", where, shown(value), "Unicode text")
    return value


def _id(value: Any, where: str) -> str | int:
    if type(value) is int:
        return value
    if type(value) is not str:
        raise _wrong(where, value, "a string or a whole number")
    return _text(value, where)


def _style(asked: Mapping[str, Any]) -> Style:
    scores, trace = asked.get("scores", "chosen"), asked.get("trace", False)
    if scores not in _SCORES:
        raise _wrong("scores", scores, " or ".join(_SCORES))
    if type(trace) is not bool:
        raise _wrong("trace", trace, "true or false")
    return Style(_top(asked.get("top")), scores, trace)


def _top(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value) if type(value) is float and value.is_integer() else value
    if type(number) is not int or not 1 <= number <= MOST_TOP:
        raise _wrong("top", value, f"a whole number from 1 to {MOST_TOP:,}")
    return number
