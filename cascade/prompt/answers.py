"""How children are answered by a model that was not trained to: what is asked for, and how it is read.

Each way has probabilities as good as its service gives them: of the Decisions API, of the token of a number,
of a digit for each child, or the confidence that the model states. What names anything but a child is none.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from cascade.hosted.answer_text import folded, on_one_line, unambiguous
from cascade.hosted.codecs import Code
from cascade.hosted.logprobs import TokenLogprobs, UnreadableAnswer, answer_text, token_logprobs
from cascade.hosted.settings import MOST_TOP_LOGPROBS
from cascade.nodes.contract import GroupDescription
from cascade.prompt.settings import Hold
from cascade.prompt.wording import NONE, choice_line, filled, text_of

Endpoint = Literal["/v1/chat/completions", "/v1/decisions"]

# At a digit there are but two answers, and their variants.
_ALTERNATIVES_OF_A_DIGIT = 5
# Beside the numbers of an answer there may be a blank, a line break and the mark of the end.
SPARE_TOKENS = 8
# A list names so many children at most, as a rule; what is longer is cut, and no answer.
_MOST_LISTED = 24
_LONGEST = 2048
EXAMPLE_CONFIDENCE = 100
_WHICH = {
    "one": "At most one of the choices is right; where several may be meant, list each of them.",
    "many": "Any of the choices may be right, one, several or none.",
}


@dataclass(frozen=True)
class Form(ABC):
    """How some children of a group are asked for and answered; `form_of` makes one.

    Attributes
    ----------
    children
        Their names, in the order of the question.
    choose
        Whether a text has at most one of them.
    description
        What is told of them.
    hold
        By which means the service holds an answer to them.
    """

    children: tuple[str, ...]
    choose: Literal["one", "many"]
    description: GroupDescription
    hold: Hold

    endpoint: ClassVar[Endpoint] = "/v1/chat/completions"
    template: ClassVar[str] = "group"

    @abstractmethod
    def how(self) -> str:
        """What is told of the form of an answer."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """What a request has beside its messages."""

    @abstractmethod
    def right(self, target: Sequence[bool]) -> str:
        """The answer to a text that has these children, bool, shape (n_children,)."""

    @abstractmethod
    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        """One score for each child, in [0, 1], from the first choice of a response.

        Raises
        ------
        UnreadableAnswer
            It is refused, cut short, of another form, or names what is no child.
        """

    def lines(self) -> list[str]:
        """What is told of each child, each on one line, by its number."""
        return [
            f"{number} {choice_line(name, self.description)}"
            for number, name in zip(self.numbers, self.children, strict=True)
        ]

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The number of each child; all have as many digits."""
        width = len(str(len(self.children)))
        return tuple(f"{number:0{width}}" for number in range(len(self.children)))


def whole_text(choice: Mapping[str, Any]) -> str:
    """The text of an answer; UnreadableAnswer where it was refused or cut short."""
    text = answer_text(choice)
    if choice.get("finish_reason") == "length":
        raise UnreadableAnswer("cut short")
    return text


@dataclass(frozen=True)
class Number(Form):
    """The number of one child, or of none: its token has the probabilities of all of them."""

    @cached_property
    def _code(self) -> Code:
        return Code(self.children, "chat", "", MOST_TOP_LOGPROBS, tuple(() for _ in self.children))

    def how(self) -> str:
        return filled(text_of("number"), {"none": self._code.written[-1]})

    def lines(self) -> list[str]:
        return [*super().lines(), f"{self._code.written[-1]} {NONE}"]

    def fields(self) -> dict[str, Any]:
        most = len(self._code.written[0]) + SPARE_TOKENS
        asked = {"max_completion_tokens": most, "logprobs": True, "top_logprobs": MOST_TOP_LOGPROBS}
        return asked | held_to(self._code.written, self.hold)

    def right(self, target: Sequence[bool]) -> str:
        return self._code.completion(target)

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        return [float(score) for score in self._code.read(choice)]


def held_to(words: Sequence[str], hold: Hold) -> dict[str, Any]:
    """What holds an answer to one of some words, where the service has such a thing."""
    if hold == "choice":
        return {"structured_outputs": {"choice": list(words)}}
    if hold == "grammar":
        return {"grammar": "root ::= " + " | ".join(json.dumps(word) for word in words)}
    return {}


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with these properties and no others, as strict answers want it."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def held_to_schema(schema: Mapping[str, Any], hold: Hold) -> dict[str, Any]:
    """What holds an answer to a JSON schema; nothing where instructions alone have to do."""
    if hold == "plain":
        return {}
    return {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
        }
    }


@dataclass(frozen=True)
class Each(Form):
    """A 0 or 1 for each child, by its number: each digit has its probability."""

    def how(self) -> str:
        form = self.right([place % 2 == 1 for place in range(len(self.children))])
        return filled(text_of("each"), {"form": form})

    def fields(self) -> dict[str, Any]:
        digit = {"type": "integer", "enum": [0, 1]}
        most = len(self.children) * (len(self.numbers[0]) + 6) + SPARE_TOKENS
        asked = {"max_completion_tokens": most, "logprobs": True, "top_logprobs": _ALTERNATIVES_OF_A_DIGIT}
        return asked | held_to_schema(object_schema(dict.fromkeys(self.numbers, digit)), self.hold)

    def right(self, target: Sequence[bool]) -> str:
        return json.dumps(
            {number: int(mark) for number, mark in zip(self.numbers, target, strict=True)},
            separators=(",", ":"),
        )

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        text = whole_text(choice)
        stated = self._stated(text)
        steps = _by_place(token_logprobs(choice, text))
        begun = len(text) - len(text.lstrip())
        for found in re.finditer(r'"(\d+)"\s*:\s*([01])\b', text):
            step = steps.get(found.start(2) - begun)
            if step is not None and found[1] in stated:
                stated[found[1]] = _share_of_one(step, stated[found[1]])
        return [stated[number] for number in self.numbers]

    def _stated(self, text: str) -> dict[str, float]:
        answer = object_in(text)
        if answer.keys() != set(self.numbers):
            raise UnreadableAnswer(f"expected a 0 or 1 for each of {len(self.numbers)} numbers, and no other")
        if not all(value in (0, 1, "0", "1") for value in answer.values()):
            raise UnreadableAnswer("expected the digits 0 and 1, found something else")
        return {number: float(value) for number, value in answer.items()}


def _by_place(steps: Sequence[TokenLogprobs]) -> dict[int, TokenLogprobs]:
    """The step that wrote each character of an answer."""
    found: dict[int, TokenLogprobs] = {}
    place = 0
    for number, step in enumerate(steps):
        token = step.token.lstrip() if number == 0 else step.token
        for _ in token:
            found[place] = step
            place += 1
    return found


def _share_of_one(step: TokenLogprobs, stated: float) -> float:
    """P("1") at a token that is one digit and marks; what is stated where it is another one, or has none."""

    def heard(token: str) -> str | None:
        found = re.fullmatch(r"[^0-9]*([01])[^0-9]*", token)
        return found[1] if found else None

    masses = step.masses(heard)
    if heard(step.token) is None or not masses:
        return stated
    least = step.bound(1)
    return share_of(*(masses.get(digit, least) for digit in "01"))


def share_of(other: float, one: float) -> float:
    """Of two log masses the share of the second."""
    return 1.0 / (1.0 + math.exp(min(other - one, 700.0)))


@dataclass(frozen=True)
class Listed(Form):
    """The children that may fit, by name, each with the confidence that the model states."""

    def how(self) -> str:
        return filled(text_of("list"), {"which": _WHICH[self.choose]})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Each child as it stands in a question."""
        return tuple(on_one_line(name) for name in self.children)

    @cached_property
    def _number_of(self) -> Mapping[str, int]:
        """What a name may mean, where it can mean one child only."""
        given = [
            (number, name, self.description.aliases.get(name, ()))
            for number, name in enumerate(self.children)
        ]
        names = unambiguous((folded(name), number) for number, name, _ in given)
        aliases = unambiguous((folded(alias), number) for number, _, known in given for alias in known)
        taken = {folded(name) for name in self.children}
        return {name: number for name, number in aliases.items() if name not in taken} | names

    def fields(self) -> dict[str, Any]:
        entry = {
            "label": {"type": "string", "enum": list(dict.fromkeys(self.names))},
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
        }
        labels = {"type": "array", "items": object_schema(entry)}
        sizes = sorted((len(name.encode()) // 2 + 14 for name in self.names), reverse=True)
        most = min(SPARE_TOKENS + sum(sizes[:_MOST_LISTED]), _LONGEST)
        return {"max_completion_tokens": most} | held_to_schema(object_schema({"labels": labels}), self.hold)

    def right(self, target: Sequence[bool]) -> str:
        chosen = [name for name, mark in zip(self.names, target, strict=True) if mark]
        entries = [{"label": name, "confidence": EXAMPLE_CONFIDENCE} for name in chosen]
        return json.dumps({"labels": entries}, ensure_ascii=False)

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        labels = object_in(whole_text(choice)).get("labels")
        if not isinstance(labels, list):
            raise UnreadableAnswer("expected a list of labels, found something else")
        scores = [0.0] * len(self.children)
        for entry in labels:
            number, confidence = self._entry(entry)
            scores[number] = max(scores[number], confidence)
        return scores

    def _entry(self, entry: Any) -> tuple[int, float]:
        told = entry if isinstance(entry, dict) else {}
        label, confidence = told.get("label"), told.get("confidence")
        if not isinstance(label, str):
            raise UnreadableAnswer("expected a label with a confidence, found something else")
        number = self._number_named(label)
        if number is None:
            raise UnreadableAnswer(f"expected some of {len(self.names)} choices, found another name")
        return number, stated_confidence(confidence)

    def quotes(self, choice: Mapping[str, Any]) -> dict[int, list[str]]:
        """What was quoted for each child, by its place; UnreadableAnswer as `read`."""
        self.read(choice)
        found: dict[int, list[str]] = {}
        for entry in object_in(answer_text(choice))["labels"]:
            quote = entry.get("quote")
            if isinstance(quote, str) and quote.strip():
                found.setdefault(self._entry(entry)[0], []).append(quote)
        return found

    def _number_named(self, label: str) -> int | None:
        """The child that a label names, with its number before it or not."""
        if label in self.names:
            return self.names.index(label)
        number, _, bare = label.partition(" ")
        by_number = number in self.numbers and folded(bare) == folded(self.names[int(number)])
        return int(number) if by_number else self._number_of.get(folded(label))


def stated_confidence(value: Any) -> float:
    """A stated confidence in [0, 1]; UnreadableAnswer where it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnreadableAnswer("expected a confidence from 0 to 100, found something else")
    return min(max(float(value) / 100, 0.0), 1.0)


@dataclass(frozen=True)
class Quoted(Listed):
    """The same with the words of the text that show each child."""

    def how(self) -> str:
        return text_of("quote")

    def fields(self) -> dict[str, Any]:
        quoted: dict[str, Any] = {"label": {"type": "string", "enum": list(dict.fromkeys(self.names))}}
        quoted |= {
            "quote": {"type": "string"},
            "confidence": {"type": "integer", "minimum": 0, "maximum": 100},
        }
        labels = {"type": "array", "items": object_schema(quoted)}
        return {"max_completion_tokens": _LONGEST} | held_to_schema(
            object_schema({"labels": labels}), self.hold
        )


@dataclass(frozen=True)
class Decided(Form):
    """Probabilities of the Decisions API: a predicate for each child, or one choice among all."""

    endpoint: ClassVar[Endpoint] = "/v1/decisions"
    template: ClassVar[str] = "decisions"

    def how(self) -> str:
        return ""

    @property
    def _names(self) -> list[str]:
        return [*map(on_one_line, self.children), NONE]

    def fields(self) -> dict[str, Any]:
        if self.choose == "one":
            told = [self._told(name) for name in self._names]
            choice = {
                "type": "choice",
                "name": "answer",
                "instructions": "Which choice does the text belong to?",
            }
            return {"questions": [{**choice, "choices": told}]}
        return {
            "questions": [
                {
                    "type": "predicate",
                    "name": number,
                    "instructions": f"The text belongs to this choice: {choice_line(name, self.description)}",
                }
                for number, name in zip(self.numbers, self.children, strict=True)
            ]
        }

    def _told(self, name: str) -> dict[str, str]:
        line = choice_line(name, self.description)
        return {"value": name} if line == name else {"value": name, "description": line}

    def right(self, target: Sequence[bool]) -> str:
        chosen = [name for name, mark in zip(self._names, target, strict=False) if mark]
        return "; ".join(chosen) or NONE

    def read(self, choice: Mapping[str, Any]) -> Sequence[float]:
        answers = choice.get("answers")
        expected = 1 if self.choose == "one" else len(self.children)
        if not isinstance(answers, list) or len(answers) != expected:
            raise UnreadableAnswer(f"expected {expected} answers, found something else")
        if any(not isinstance(one, dict) or one.get("type") == "refusal" for one in answers):
            raise UnreadableAnswer("refused")
        if self.choose == "many":
            return [stated_probability(one.get("probability")) for one in answers]
        told = {one.get("value"): one.get("probability") for one in answers[0].get("probabilities") or ()}
        return [stated_probability(told.get(name)) for name in self._names[:-1]]


def stated_probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UnreadableAnswer("expected a probability, found something else")
    return float(value)


def object_in(text: str) -> dict[str, Any]:
    """The JSON object of an answer, with or without words and marks of code around it."""
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1])
    except (ValueError, RecursionError):
        found = None
    if start < 0 or not isinstance(found, dict):
        raise UnreadableAnswer("expected a JSON object, found something else")
    return found


_FORMS: Mapping[str, type[Form]] = {
    "number": Number,
    "each": Each,
    "list": Listed,
    "decisions": Decided,
    "quoted": Quoted,
}


def form_of(kind: str, children: Sequence[str], description: GroupDescription, hold: Hold) -> Form:
    """How these children of a group are asked for, in their order; `kind` is as `answer_kind` says."""
    return _FORMS[kind](tuple(children), description.choose, description, hold)
