"""Texts as tokens: those of o200k where ``bpe-openai`` is installed, else much the same by a pattern."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache

from cascade.text.tokenizer import tokenizer

_PATTERN = re.compile(r"\d{1,3}| ?[^\W\d_]+| ?(?:[^\w\s]|_)+|\s+")
# What a message costs beside its content, and an answer beside its own.
_PER_MESSAGE = 4
_PER_ANSWER = 3


@cache
def _counter() -> Callable[[str], int]:
    known = tokenizer()
    if known is None:
        return lambda text: len(_PATTERN.findall(text))
    return lambda text: len(known.encode(text))


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
    known = tokenizer()
    return _PATTERN.findall(text) if known is None else known.encode(clean(text))


@lru_cache(maxsize=100_000)
def split(text: str) -> tuple[str, ...]:
    """The tokens of a text; joined they are the text again."""
    known = tokenizer()
    if known is not None:
        with suppress(ValueError):  # a letter that several tokens share has no text of its own in each
            pieces = tuple(known.decode([one]) for one in known.encode(clean(text)))
            if "".join(pieces) == text:
                return pieces
    return tuple(_PATTERN.findall(text))
