"""The model ``reader``: from a request to the tokens of its answer."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade.sandbox.answer_shapes import AnswerToken, Segment, steps_of, tokens_of
from cascade.sandbox.chaos import Chaos
from cascade.sandbox.reader import trouble, writing
from cascade.sandbox.reader.filling import Filler, Pieces
from cascade.sandbox.reader.forms import YES_NO, Form, form_read, form_told, names_in, subjects_in
from cascade.sandbox.reader.prompts import Choice, Prompt, read_prompt
from cascade.sandbox.reader.scoring import Verdict, chances_of_names, judge

READER = "reader"
# Requests of which it is known how often they came.
_MOST_REMEMBERED = 20_000


@dataclass(frozen=True)
class Answer:
    """What the reader says.

    Attributes
    ----------
    steps
        The tokens.
    refusal
        What it says instead; then there are no tokens.
    finish
        Why it ends, where that is not for the limits of the request to say.
    late
        Whether it comes late.
    """

    steps: Sequence[AnswerToken]
    refusal: str = ""
    finish: str = ""
    late: bool = False


class Reader:
    """Answers requests by reading them; the same request gets the same answer.

    With a temperature it draws: equal requests that come again get the next draw, and the same row of draws
    from every new reader. A ``seed`` in the request fixes it.
    """

    def __init__(self, chaos: Chaos | None = None) -> None:
        self._chaos, self._lock = chaos, threading.Lock()
        self._asked: OrderedDict[bytes, int] = OrderedDict()

    def answer(self, body: Mapping[str, Any], messages: Sequence[Mapping[str, str]], most: int) -> Answer:
        """The answer to a request whose messages were checked; `most` tokens are allowed.

        Raises
        ------
        ApiError
            The form that is wanted is none.
        """
        told = form_told(body)
        schema = told.schema if told else None
        prompt = read_prompt(messages, names_in(schema))
        if not prompt.choices:
            prompt = replace(prompt, choices=tuple(Choice("", name) for name in subjects_in(schema)))
        form = told or form_read(prompt, _wants_object(body))
        kind, draw = self._chaos.reading() if self._chaos else ("", 0.0)
        if kind == "obeys":
            return self._obeying(form, prompt, body)
        steps = steps_of(_segments(form, prompt, judge(prompt), self._pieces(body)))
        return _troubled(kind, draw, steps, form, most)

    def _obeying(self, form: Form, prompt: Prompt, body: Mapping[str, Any]) -> Answer:
        word = trouble.obeyed(prompt)
        verdict = trouble.verdict_for(word, prompt)
        if word and verdict is None:
            return Answer(tokens_of(word))
        return Answer(steps_of(_segments(form, prompt, verdict or judge(prompt), self._pieces(body))))

    def _pieces(self, body: Mapping[str, Any]) -> Pieces:
        temperature = float(body.get("temperature") or 0)
        if not temperature:
            return Pieces()
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode("utf-8", "replace")).digest()
        seed = body.get("seed")
        count = seed if isinstance(seed, int) else self._count(key)
        return Pieces(random.Random(f"{key.hex()} {count}"), temperature)  # noqa: S311 - no secret

    def _count(self, key: bytes) -> int:
        """How often a request came before."""
        with self._lock:
            count = self._asked.pop(key, 0)
            self._asked[key] = count + 1
            if len(self._asked) > _MOST_REMEMBERED:
                self._asked.popitem(last=False)
        return count


def _wants_object(body: Mapping[str, Any]) -> bool:
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_object"


def _segments(form: Form, prompt: Prompt, verdict: Verdict, pieces: Pieces) -> list[Segment]:
    if form.schema is not None:
        Filler(prompt, verdict, form.schema, pieces).fill()
    elif form.options:
        pieces.pick(_chances(form.options, prompt, verdict))
    else:
        pieces.text(writing.description(prompt, None) or "none")
    return pieces.found


def _chances(options: Sequence[str], prompt: Prompt, verdict: Verdict) -> dict[str, float]:
    """How probable each of some texts is: yes or no, numbers, names, or words of any kind."""
    yes_no = {option.strip().casefold(): option for option in options}
    if set(yes_no) == set(YES_NO) and prompt.choices:
        yes = verdict.apart[0]
        return {yes_no["yes"]: yes, yes_no["no"]: 1 - yes}
    known = {choice.number: at for at, choice in enumerate(prompt.choices) if choice.number}
    known = {choice.name: at for at, choice in enumerate(prompt.choices)} | known
    if any(option in known for option in options):
        raw = {option: verdict.one[known[option]] if option in known else 1e-6 for option in options}
        return {option: chance / sum(raw.values()) for option, chance in raw.items()}
    return dict(zip(options, chances_of_names(options, prompt.text), strict=True))


def _troubled(kind: str, draw: float, steps: Sequence[AnswerToken], form: Form, most: int) -> Answer:
    if kind == "refused":
        return Answer((), refusal=trouble.REFUSAL)
    if kind == "cut":
        return Answer(steps[: len(steps) // 2], finish="length")
    if kind == "endless":
        return Answer(trouble.endless(steps, most), finish="length")
    if kind == "outside":
        return Answer(trouble.outside(steps, form, draw))
    return Answer(steps, late=kind == "slow_token")
