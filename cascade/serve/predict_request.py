"""The body of a request to what is asked.

Most requests carry one short text, and a validation library would take longer than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cascade.predict.answers import Style
from cascade.serve.problems import Refusal
from cascade.serve.request_body import object_of, text_of, wrong

_SOURCES = ("text", "texts", "rows")
_OPTIONS = ("top", "scores", "trace")
_SCORES = ("chosen", "all")
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
    asked = object_of(body, "a JSON object with text, texts or rows", (*_SOURCES, *_OPTIONS))
    _check_sources(asked)
    source = next(name for name in _SOURCES if name in asked)
    ids, texts = _READERS[source](asked[source], most_texts)
    return Asked(ids, texts, _style(asked))


def _check_sources(asked: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if name in asked]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise Refusal(422, "What is to be answered?", found=found, expected="one of text, texts, rows")


def _one(text: Any, _: int) -> tuple[list[str | int], list[str]]:
    return [1], [text_of(text, "text")]


def _many(texts: Any, most: int) -> tuple[list[str | int], list[str]]:
    found = [text_of(text, f"texts[{place}]") for place, text in enumerate(_list(texts, "texts", most))]
    return list(range(1, len(found) + 1)), found


def _rows(rows: Any, most: int) -> tuple[list[str | int], list[str]]:
    ids, texts = [], []
    for place, row in enumerate(_list(rows, "rows", most)):
        where = f"rows[{place}]"
        if type(row) is not dict or "text" not in row:
            raise wrong(where, row, "an object with text, and id if you like")
        ids.append(_id(row.get("id", place + 1), f"{where}.id"))
        texts.append(text_of(row["text"], f"{where}.text"))
    return ids, texts


_READERS: Mapping[str, Callable[[Any, int], tuple[list[str | int], list[str]]]] = {
    "text": _one,
    "texts": _many,
    "rows": _rows,
}


def _list(value: Any, where: str, most: int) -> list[Any]:
    if type(value) is not list:
        raise wrong(where, value, "a list")
    if len(value) > most:
        title = "Too many texts for one request."
        raise Refusal(422, title, where, str(len(value)), f"at most {most}; ask several times")
    return value


def _id(value: Any, where: str) -> str | int:
    if type(value) is int:
        return value
    if type(value) is not str:
        raise wrong(where, value, "a string or a whole number")
    return text_of(value, where)


def _style(asked: Mapping[str, Any]) -> Style:
    scores, trace = asked.get("scores", "chosen"), asked.get("trace", False)
    if scores not in _SCORES:
        raise wrong("scores", scores, " or ".join(_SCORES))
    if type(trace) is not bool:
        raise wrong("trace", trace, "true or false")
    return Style(_top(asked.get("top")), scores, trace)


def _top(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value) if type(value) is float and value.is_integer() else value
    if type(number) is not int or not 1 <= number <= MOST_TOP:
        raise wrong("top", value, f"a whole number from 1 to {MOST_TOP:,}")
    return number
