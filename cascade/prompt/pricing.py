"""What questions take and cost, before any is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.hosted import tokens
from cascade.hosted.prices import Prices
from cascade.hosted.questions import Question
from cascade.prompt.model import Asked, PromptModel
from cascade.prompt.settings import PromptSettings
from cascade.system.array_types import BoolArray
from cascade.text.texts import Texts

LEAST_CACHED = 1024
"""Services keep the beginning of a question at hand from so many tokens on."""


@dataclass(frozen=True)
class QuestionPrice:
    """What the questions about one text at one group take, on average.

    Attributes
    ----------
    provider, model
        Where, and what is asked.
    answer
        How children are answered.
    questions
        How many there are about a text.
    tokens_in, tokens_out
        Of all of them.
    tokens_shared
        Of `tokens_in` those that all texts share, and that a service may have at hand.
    usd, usd_cached
        What they cost, the second if what is shared is always at hand; None where the prices are not known.
    """

    provider: str
    model: str
    answer: str
    questions: int
    tokens_in: float
    tokens_out: float
    tokens_shared: float
    usd: float | None
    usd_cached: float | None


def price_of(node: PromptModel, texts: Texts, targets: BoolArray | None = None) -> QuestionPrice:
    """What a text takes, by these; answers are as long as those to `targets`, bool (n_texts, n_children).

    Without them one child is answered for each text. A model without any text is priced by an empty one.
    """
    if not len(texts):
        texts, targets = Texts([""]), None
    asked, often = node.questions(texts), node.settings.samples
    answers = [_target(node, targets, place // often) for place in range(len(asked))]
    return price_of_questions(node.settings, node.kind, asked, answers, often)


def price_of_questions(
    settings: PromptSettings,
    answer: str,
    questions: Sequence[Question],
    targets: Sequence[Sequence[bool]],
    often: int,
) -> QuestionPrice:
    """What so many questions about each text take; nothing where there are none.

    Parameters
    ----------
    questions
        Those about some texts, `often` about each.
    targets
        For each question which children its answer has.
    """
    found = np.array([_tokens(*one) for one in zip(questions, targets, strict=True)]).reshape(-1, 3)
    n_in, n_out, shared = (found.sum(axis=0) / max(len(questions) // often, 1)).tolist()
    prices, service = Prices.load(), settings.service
    known = service.address == prices.service
    cached = shared if shared / often >= LEAST_CACHED else 0.0

    def usd(n_cached: float) -> float | None:
        return prices.answer_usd(settings.model, n_in, n_out, n_cached, service.batch) if known else None

    return QuestionPrice(
        service.provider, settings.model, answer, often, n_in, n_out, shared, usd(0.0), usd(cached)
    )


def _target(node: PromptModel, targets: BoolArray | None, row: int) -> Sequence[bool]:
    if targets is None:
        return [column == 0 for column in range(len(node.children))]
    found: list[bool] = targets[row].tolist()
    return found


def _tokens(question: Question, target: Sequence[bool]) -> tuple[int, int, int]:
    """Tokens of a question and of its answer, and of what it shares with others."""
    asked = question.codec
    if not isinstance(asked, Asked):
        raise TypeError(type(asked).__name__)
    n_in = tokens.of_request(asked.request(question.text))
    shared = tokens.count(asked.system)
    if asked.endpoint == "/v1/decisions":  # probabilities are no output
        return n_in, 0, shared
    right = asked.form.right([target[column] for column in asked.columns])
    return n_in, tokens.of_answer(right), shared
