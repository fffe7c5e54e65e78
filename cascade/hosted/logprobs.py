"""The tokens of an answer with their log probabilities, as services list them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

# Services write -9999.0 for "very unlikely", which is no probability.
_VERY_UNLIKELY = -9000.0
# The rest of the mass is known no better than the rounding of what is listed.
_LEAST_REST = 1e-9


class UnreadableAnswer(ValueError):  # noqa: N818 - it says of an answer what it is
    """An answer that cannot be read; the message has no part of it, as it may quote the text."""


@dataclass(frozen=True)
class TokenLogprobs:
    """One token of an answer, with what could have stood there.

    Attributes
    ----------
    token
        What the model wrote.
    listed
        Natural logarithms of probabilities, by token; the written one is among them where it has one.
    """

    token: str
    listed: Mapping[str, float]

    def masses(self, heard: Callable[[str], str | None]) -> dict[str, float]:
        """The log masses of the answers that `heard` makes of the listed tokens; None is no answer."""
        found: dict[str, list[float]] = {}
        for token, value in self.listed.items():
            answer = heard(token)
            if answer is not None:
                found.setdefault(answer, []).append(value)
        return {answer: log_sum(values) for answer, values in found.items()}

    def bound(self, missing: int) -> float:
        """The log mass of each of so many answers that are not listed: an even share of the rest of the mass.

        No more than the least of those listed, which are the likeliest.
        """
        rest = 1.0 - math.fsum(map(math.exp, self.listed.values()))
        return min(*self.listed.values(), math.log(max(rest, _LEAST_REST)) - math.log(max(missing, 1)))


def answer_text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    if isinstance(message, Mapping):
        if message.get("refusal"):
            raise UnreadableAnswer("refused")
        text = message.get("content")
    else:
        text = choice.get("text")
    if choice.get("finish_reason") == "content_filter":
        raise UnreadableAnswer("stopped by the service's filter")
    if not isinstance(text, str) or not text.strip():
        raise UnreadableAnswer("empty")
    return text


def token_logprobs(choice: Mapping[str, Any], text: str | None) -> list[TokenLogprobs]:
    """The tokens of the answer from its first letter on; those that follow its text are left out.

    Such are the marks of an end that some services list.
    """
    given = choice.get("logprobs")
    if not isinstance(given, Mapping):
        return []
    content = given.get("content")
    steps = list(map(_chat_step, content)) if isinstance(content, list) else _old_steps(given)
    begun = dropwhile(lambda step: not step.token.strip(), steps)
    return list(begun if text is None else _within(begun, len(text.strip())))


def _within(steps: Iterable[TokenLogprobs], length: int) -> Iterator[TokenLogprobs]:
    """The steps that make so many letters, without those before the first that is no white space."""
    letters = ""
    for step in steps:
        if len(letters) >= length:
            return
        letters = (letters + step.token).lstrip()
        yield step


def _chat_step(given: Any) -> TokenLogprobs:
    if not isinstance(given, Mapping):
        return TokenLogprobs("", {})
    top = given.get("top_logprobs")
    listed = top if isinstance(top, list) else []
    pairs = [(one.get("token"), one.get("logprob")) for one in listed if isinstance(one, Mapping)]
    return _step(given.get("token"), given.get("logprob"), pairs)


def _old_steps(given: Mapping[str, Any]) -> list[TokenLogprobs]:
    """The steps of the old completions, where tokens, their values and alternatives are three lists."""
    tokens = given.get("tokens")
    if not isinstance(tokens, list):
        return []
    values, tops = (_as_long(given.get(name), len(tokens)) for name in ("token_logprobs", "top_logprobs"))
    return [
        _step(token, value, list(top.items()) if isinstance(top, Mapping) else [])
        for token, value, top in zip(tokens, values, tops, strict=True)
    ]


def _as_long(values: Any, length: int) -> list[Any]:
    return values if isinstance(values, list) and len(values) == length else [None] * length


def _step(token: Any, value: Any, pairs: Iterable[tuple[Any, Any]]) -> TokenLogprobs:
    token = token if isinstance(token, str) else ""
    listed = {
        one: float(min(logprob, 0.0))
        for one, logprob in ((token, value), *pairs)
        if isinstance(one, str) and isinstance(logprob, int | float) and _VERY_UNLIKELY < logprob < math.inf
    }
    return TokenLogprobs(token, listed)


def have_probabilities(steps: Sequence[TokenLogprobs]) -> bool:
    """Whether the tokens that matter have any: those with digits, if there are some."""
    matter = [step for step in steps if re.search("[0-9]", step.token)] or steps
    return bool(matter) and all(step.listed for step in matter)


def share_of_one(step: TokenLogprobs, place: int) -> float:
    """P("1") at one digit of a token, given the digits before it in the same token; in [0, 1]."""
    begun = bits(step.token)[:place]

    def heard(token: str) -> str | None:
        found = bits(token)
        return found[place] if len(found) > place and found.startswith(begun) else None

    masses = step.masses(heard)
    zero, one = (masses.get(digit, -math.inf) for digit in "01")
    least = step.bound(1)
    zero, one = (least if math.isinf(value) else value for value in (zero, one))
    return 1.0 / (1.0 + math.exp(min(zero - one, 700.0)))


def bits(token: str) -> str:
    return "".join(letter for letter in token if letter in "01")


def log_sum(values: Sequence[float]) -> float:
    """The logarithm of a sum of exponentials; -inf of nothing."""
    most = max(values, default=-math.inf)
    if len(values) == 1 or math.isinf(most):
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))
