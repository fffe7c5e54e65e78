"""What goes wrong with answers of language models, made on purpose."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from cascade.sandbox.answer_shapes import AnswerToken, tokens_of
from cascade.sandbox.reader.forms import Form
from cascade.sandbox.reader.prompts import Prompt
from cascade.sandbox.reader.scoring import Verdict

REFUSAL = "I'm sorry, but I can't help with that."
# An endless answer ends here where the request sets no limit.
MOST_ENDLESS = 2_000
_STRANGE = "something else entirely"
_ORDER = (
    r"\b(?:answer|reply|respond|say|write|output|print|return|choose|pick)\b"
    r"(?: (?:only|just|with|exactly|always|nothing but|the word|the number))*:? *"
)
_MARKS = "\"'`\u201c\u201d\u2018\u2019"
_QUOTED = re.compile(f"{_ORDER}[{_MARKS}]([^{_MARKS}\\n]{{1,80}})[{_MARKS}]", re.IGNORECASE)
_BARE = re.compile(_ORDER + r"([\w][\w /&-]{0,60}\w|\w)", re.IGNORECASE)
_ITEM = re.compile(r"\{[^{}]*\}")
_PAIR = re.compile(r'"[^"]*":[^,{}\[\]]+')
_INTRUDES = re.compile(r"\b(?:ignore|disregard|forget|instructions?|system prompt)\b", re.IGNORECASE)


def outside(steps: Sequence[AnswerToken], form: Form, draw: float) -> list[AnswerToken]:
    """An answer that the form does not allow: prose around it, a label that is none, half a form.

    Parameters
    ----------
    draw
        Which of them, in [0, 1).
    """
    text = "".join(step.token for step in steps)
    if form.schema is None:
        kinds = (f"The answer is {text}.", _other_than(form.options), _STRANGE, f"{text}, I think")
    else:
        kinds = (
            f"Sure! Here is the answer:\n```json\n{text}\n```\nLet me know if you need more.",
            _with_strange_label(text),
            text.replace('"', "'"),
            json.dumps({"result": text}),
        )
    return tokens_of(kinds[int(draw * len(kinds))])


def _other_than(options: Sequence[str]) -> str:
    """A number that is none of the options."""
    numbers = [int(option) for option in options if option.isdecimal()]
    return str(max(numbers, default=98) + 1)


def _with_strange_label(text: str) -> str:
    """The same object with a name that the form does not know."""
    value = json.loads(text)
    listed = value.get("labels") if isinstance(value, dict) else None
    if isinstance(listed, list):
        value["labels"] = [{"label": _STRANGE, "confidence": 90}, *listed]
    elif isinstance(value, dict):
        value = {_STRANGE: 1, **value}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def endless(steps: Sequence[AnswerToken], most: int) -> list[AnswerToken]:
    """An answer whose last part comes again and again, as many tokens as are allowed."""
    begun, part = _unending("".join(step.token for step in steps))
    found, again = tokens_of(begun), tokens_of(part)
    length = min(most, MOST_ENDLESS)
    while len(found) < length:
        found += again
    return found[:length]


def _unending(text: str) -> tuple[str, str]:
    """Where an answer stops making progress, and what it goes on with: an item, a pair, the answer itself."""
    items = [found for found in _ITEM.finditer(text) if found.end() < len(text)]
    if items:
        return text[: items[-1].end()], f",{items[-1][0]}"
    pairs = _PAIR.findall(text)
    return (text[:-1], f",{pairs[-1]}") if pairs else (text, f", {text}")


def obeyed(prompt: Prompt) -> str:
    """What an instruction inside the text says to answer; empty where it has none."""
    found = _QUOTED.search(prompt.text)
    if found is None and _INTRUDES.search(prompt.text):
        found = _BARE.search(prompt.text)
    return found[1].strip() if found else ""


def verdict_for(word: str, prompt: Prompt) -> Verdict | None:
    """A verdict for the choice of a name or number alone; None where no choice has it."""
    wanted = word.casefold()
    hits = [wanted in (choice.name.casefold(), choice.number) for choice in prompt.choices]
    if not any(hits):
        return None
    at = hits.index(True)
    return Verdict.certain(at, len(hits))
