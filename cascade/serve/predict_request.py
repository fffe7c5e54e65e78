"""The body of a request to what is asked.

Most requests carry one short text, and a validation library would take longer than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cascade.predict.extras import Style
from cascade.serve.explaining import MOST_CHARACTERS
from cascade.serve.problems import HTTPProblem
from cascade.serve.request_body import check_text, parse_object, wrong_kind

_SOURCES = ("text", "texts", "rows")
_OPTIONS = ("top", "scores", "trace", "evidence")
_SCORES = ("chosen", "all")
_FLAGS = ("trace", "evidence")
MOST_TOP = 1_000_000


class PredictRequest(NamedTuple):
    """What a request asks: as many ids as texts, and what the rows show."""

    ids: list[str | int]
    texts: list[str]
    style: Style


def parse(body: bytes, most_texts: int) -> PredictRequest:
    """What a body asks.

    Raises
    ------
    HTTPProblem
        400 for what is no JSON in UTF-8, 422 for any other fault, more than `most_texts` among them.
    """
    asked = parse_object(body, "a JSON object with text, texts or rows", (*_SOURCES, *_OPTIONS))
    _check_sources(asked)
    source = next(name for name in _SOURCES if name in asked)
    ids, texts = _READERS[source](asked[source], most_texts)
    style = _read_style(asked)
    if style.evidence:
        _check_short(texts)
    return PredictRequest(ids, texts, style)


def _check_short(texts: Sequence[str]) -> None:
    """Evidence tells of each word, so that a long text would have all others wait."""
    for place, text in enumerate(texts):
        if len(text) > MOST_CHARACTERS:
            found, expected = f"{len(text):,} characters", f"at most {MOST_CHARACTERS:,} with evidence"
            raise HTTPProblem(422, f"Text {place + 1} is too long.", "evidence", found, expected)


def _check_sources(asked: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if name in asked]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise HTTPProblem(422, "What is to be answered?", found=found, expected="one of text, texts, rows")


def _read_text(text: Any, _: int) -> tuple[list[str | int], list[str]]:
    return [1], [check_text(text, "text")]


def _read_texts(texts: Any, most: int) -> tuple[list[str | int], list[str]]:
    found = [
        check_text(text, f"texts[{place}]") for place, text in enumerate(_check_list(texts, "texts", most))
    ]
    return list(range(1, len(found) + 1)), found


def _read_rows(rows: Any, most: int) -> tuple[list[str | int], list[str]]:
    ids, texts = [], []
    for place, row in enumerate(_check_list(rows, "rows", most)):
        where = f"rows[{place}]"
        if type(row) is not dict or "text" not in row:
            raise wrong_kind(where, row, "an object with text, and id if you like")
        ids.append(_check_id(row.get("id", place + 1), f"{where}.id"))
        texts.append(check_text(row["text"], f"{where}.text"))
    return ids, texts


_READERS: Mapping[str, Callable[[Any, int], tuple[list[str | int], list[str]]]] = {
    "text": _read_text,
    "texts": _read_texts,
    "rows": _read_rows,
}


def _check_list(value: Any, where: str, most: int) -> list[Any]:
    if type(value) is not list:
        raise wrong_kind(where, value, "a list")
    if len(value) > most:
        title = "Too many texts for one request."
        raise HTTPProblem(422, title, where, str(len(value)), f"at most {most}; ask several times")
    return value


def _check_id(value: Any, where: str) -> str | int:
    if type(value) is int:
        return value
    if type(value) is not str:
        raise wrong_kind(where, value, "a string or a whole number")
    return check_text(value, where)


def _read_style(asked: Mapping[str, Any]) -> Style:
    scores, flags = asked.get("scores", "chosen"), {name: asked.get(name, False) for name in _FLAGS}
    if scores not in _SCORES:
        raise wrong_kind("scores", scores, " or ".join(_SCORES))
    for name, value in flags.items():
        if type(value) is not bool:
            raise wrong_kind(name, value, "true or false")
    return Style(_read_top(asked.get("top")), scores, **flags)


def _read_top(value: Any) -> int | None:
    if value is None:
        return None
    number = int(value) if type(value) is float and value.is_integer() else value
    if type(number) is not int or not 1 <= number <= MOST_TOP:
        raise wrong_kind("top", value, f"a whole number from 1 to {MOST_TOP:,}")
    return number
