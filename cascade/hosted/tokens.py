"""How many tokens texts, questions and training examples have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cascade.text.tokenizer import Tokenizer, tokenizer

# What OpenAI's cookbook counts: tokens around each message, and before the answer.
A_MESSAGE = 3
AN_ANSWER = 3
# Of English; other languages and tables have fewer characters a token.
_BYTES_A_TOKEN = 4
# The package takes no million characters at once; a seam changes a token or two.
_AT_ONCE = 500_000


def is_exact() -> bool:
    """Whether tokens are counted; they are estimated where the package ``bpe-openai`` is missing."""
    return tokenizer() is not None


def count(text: str) -> int:
    """How many o200k tokens the text has: those of gpt-4o, gpt-4.1 and later models.

    Without the package ``bpe-openai`` it is estimated as one token for four bytes of UTF-8, which is about
    right for English prose.
    """
    known = tokenizer()
    return estimate(text) if known is None else len(_tokens(known, _whole(text)))


def estimate(text: str) -> int:
    """One token for four bytes of UTF-8, rounded up."""
    return -(-len(_whole(text).encode("utf-8")) // _BYTES_A_TOKEN)


def cut(text: str, most: int) -> str:
    """The longest beginning of the text with at most so many tokens, as `count` counts them.

    It may be a little shorter, where it would end within a character.
    """
    text = _whole(text)
    if len(text.encode("utf-8")) <= most:  # no token is less than a byte
        return text
    known = tokenizer()
    if known is None:
        return text.encode("utf-8")[: most * _BYTES_A_TOKEN].decode("utf-8", "ignore")
    # Hardly any token is longer, and to look at the whole of a huge text is not worth its time.
    head = text[: most * 32]
    found = _tokens(known, head)
    if len(found) <= most:
        return head
    for end in range(most, 0, -1):
        with suppress(ValueError):  # within a character
            return known.decode(found[:end])
    return ""


def of_request(body: Mapping[str, Any]) -> int:
    """Tokens of a question: of its messages, or of its prompt, and of what is asked beside them."""
    messages = body.get("messages") or body.get("input")
    if messages is None:
        return count(body["prompt"])
    beside = count(json.dumps(body["questions"], ensure_ascii=False)) if "questions" in body else 0
    return (
        AN_ANSWER
        + beside
        + sum(A_MESSAGE + count(message["role"]) + count(message["content"]) for message in messages)
    )


def of_example(line: Mapping[str, Any]) -> int:
    """Tokens of one training line, with its answer."""
    return of_request(line) + count(line.get("completion", ""))


def of_answer(completion: str) -> int:
    """Tokens that are paid for as output: those of the answer."""
    return max(count(completion), 1)


def _tokens(known: Tokenizer, text: str) -> list[int]:
    pieces = (text[start : start + _AT_ONCE] for start in range(0, len(text), _AT_ONCE))
    return [token for piece in pieces for token in known.encode(piece)]


def _whole(text: str) -> str:
    """The text with half characters replaced, which no tokeniser takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
