"""Questions of the Decisions API, as the reader answers them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cascade.sandbox.reader.prompts import Choice, Prompt, read_prompt
from cascade.sandbox.reader.scoring import judge

_ABOUT = re.compile(r"(?:is|it is|it's) about (?=\S)", re.IGNORECASE)


@dataclass(frozen=True)
class Predicate:
    """Whether something is true of the input."""

    name: str | None
    instructions: str


@dataclass(frozen=True)
class OneOf:
    """Which of some values fits the input."""

    name: str | None
    instructions: str
    values: tuple[str | bool, ...]
    descriptions: tuple[str, ...]


@dataclass(frozen=True)
class Levels:
    """How much of something the input has; levels come in their order."""

    name: str | None
    instructions: str
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]


Question = Predicate | OneOf | Levels


def decide(messages: Sequence[Mapping[str, str]], questions: Sequence[Question]) -> list[Sequence[float]]:
    """Probabilities for each question: of being true, or of each value, which sum to 1.

    Predicates are weighed against each other, as the choices of one prompt are.
    """
    prompt = read_prompt(messages)
    predicates = [one for one in questions if isinstance(one, Predicate)]
    opposite = _opposite(predicates[0]) if len(predicates) == 1 else prompt.opposite
    prompted = replace(prompt, choices=tuple(map(_predicated, predicates)), opposite=opposite)
    apart = iter(judge(prompted).apart)
    return [
        (next(apart),) if isinstance(one, Predicate) else judge(_asking(prompt, one)).one for one in questions
    ]


def even(question: Question) -> Sequence[float]:
    """The same for a model that has learned nothing."""
    if isinstance(question, Predicate):
        return (0.5,)
    options = question.values if isinstance(question, OneOf) else question.labels
    return (1 / len(options),) * len(options)


def _predicated(question: Predicate) -> Choice:
    """What a statement is about, as a choice that goes by the question's name in answers of examples."""
    head, _ = _heads(question.instructions)
    found = _ABOUT.search(question.instructions)
    told = question.instructions[found.end() :] if found else question.instructions
    if head:
        told = head
    return Choice.parse(" ".join(told.split()), question.name or "")


def _opposite(question: Predicate) -> Choice | None:
    """What a statement says that the input is not about."""
    _, told = _heads(question.instructions)
    return Choice.parse(told) if told else None


def _heads(instructions: str) -> tuple[str, str]:
    """What stands behind ``Choice:`` and ``Not:`` at the beginning of a line; empty where nothing does."""
    found = (re.search(rf"(?im)^{head}:\s*(\S.*)$", instructions) for head in ("choice", "not"))
    choice, opposite = (one[1] if one else "" for one in found)
    return choice, opposite


def _asking(prompt: Prompt, question: OneOf | Levels) -> Prompt:
    """The prompt with the options of a question for its choices; their numbers are those that it had."""
    numbers = {choice.name: choice.number for choice in prompt.choices}
    options = question.values if isinstance(question, OneOf) else question.labels
    choices = tuple(
        replace(
            Choice.parse(f"{told}: {words}" if words else told, numbers.get(told, ""), (told,)), name=told
        )
        for told, words in zip(map(_said, options), question.descriptions, strict=True)
    )
    return replace(prompt, choices=choices)


def _said(option: str | bool) -> str:
    return option if isinstance(option, str) else ("yes" if option else "no")
