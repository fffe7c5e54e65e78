"""Texts as tokens: those of o200k where ``bpe-openai`` is installed, else much the same by a pattern."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

_PATTERN = re.compile(r"\d{1,3}| ?[^\W\d_]+| ?(?:[^\w\s]|_)+|\s+")
# What a message costs beside its content, and an answer beside its own.
_PER_MESSAGE = 4
_PER_ANSWER = 3


@cache
def _encoding() -> Any:
    """The tokenizer, or None where the package is missing."""
    with warnings.catch_warnings():
        # It reads its vocabulary in a way that Python is about to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return import_module("bpe_openai").get_encoding("o200k_base")
        except ModuleNotFoundError:
            return None


@cache
def _counter() -> Callable[[str], int]:
    encoding = _encoding()
    if encoding is None:
        return lambda text: len(_PATTERN.findall(text))
    return lambda text: len(encoding.encode_ordinary(text))


def clean(text: str) -> str:
    """The text with half surrogate pairs, which UTF-8 cannot carry, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def count(text: str) -> int:
    """How many tokens a text has."""
    return _counter()(clean(text))


def count_messages(texts: list[str]) -> int:
    """How many tokens the contents of some messages cost as a prompt."""
    return _PER_ANSWER + sum(_PER_MESSAGE + count(text) for text in texts)


def identities(text: str) -> Sequence[int | str]:
    """What tells the tokens of a text from others, in their order."""
    encoding = _encoding()
    found: Sequence[int | str] = (
        _PATTERN.findall(text) if encoding is None else encoding.encode_ordinary(clean(text))
    )
    return found


@lru_cache(maxsize=100_000)
def split(text: str) -> tuple[str, ...]:
    """The tokens of a text; joined they are the text again."""
    encoding = _encoding()
    if encoding is None:
        return tuple(_PATTERN.findall(text))
    pieces = [encoding.decode([one]) for one in encoding.encode_ordinary(clean(text))]
    # A letter that several tokens share has no text of its own in each.
    return tuple(pieces) if "".join(pieces) == text else tuple(_PATTERN.findall(text))
