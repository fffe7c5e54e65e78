"""Single labels of single texts, asked about again: yes or no, beside what they may be taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cascade.hosted.asker import Asker, shared_asker
from cascade.hosted.backend import Rounds, asked_alone, scored
from cascade.hosted.questions import Question
from cascade.nodes.contract import Doubted
from cascade.prompt.model import Asked, repaired, shortened
from cascade.prompt.pricing import QuestionPrice, price_of_questions
from cascade.prompt.settings import PromptSettings
from cascade.prompt.verdict_forms import verdict_of
from cascade.prompt.wording import instructions, text_of
from cascade.system.array_types import FloatArray


class VerdictModel:
    """A model at a service that says yes or no to one label of one text, without any training.

    Attributes
    ----------
    settings
        How it is asked. Its examples, samples and short lists are of no use here.
    """

    def __init__(self, settings: PromptSettings, asker: Asker | None = None) -> None:
        self.settings = settings
        self._asker = asker
        self._frames: dict[tuple[str, str, str], Asked] = {}

    @property
    def model(self) -> str:
        """What the service calls it."""
        return self.settings.model

    def yes(self, doubted: Sequence[Doubted]) -> FloatArray:
        """How probable the answer yes is for each, float32, shape (n_doubted,), in [0, 1].

        NaN where there is no answer that can be read, asked twice.

        Raises
        ------
        ServiceError
            The service answers nothing at all, for want of money, rights or the model.
        """
        if not doubted:
            return np.empty(0, dtype=np.float32)
        scores, _ = asked_alone(self._asker or shared_asker(), self._rounds(doubted))
        return scores[:, 0]

    def price(self, doubted: Sequence[Doubted]) -> QuestionPrice:
        """What a question takes and costs, by the mean of these; what labels share is too little to count."""
        questions = self.questions(doubted)
        price = price_of_questions(self.settings, "yes or no", questions, [[True]] * len(questions), 1)
        return replace(price, tokens_shared=0.0, usd_cached=price.usd)

    def questions(self, doubted: Sequence[Doubted]) -> list[Question]:
        """What is asked about each."""
        return [self._question(one) for one in doubted]

    def _rounds(self, doubted: Sequence[Doubted]) -> Rounds:
        answers = yield from repaired(self.questions(doubted))
        return scored(answers, self.model, 1)

    @property
    def _kind(self) -> str:
        return self.settings.answer_kind(1, "one")

    def _question(self, one: Doubted) -> Question:
        key = one.label, one.rival, one.description.path
        if key not in self._frames:
            self._frames[key] = self._frame(one)
        return Question(self.model, self.settings.service, self._frames[key], shortened(one.text))

    def _frame(self, one: Doubted) -> Asked:
        """How any text is asked about that label, beside that rival."""
        settings, kind = self.settings, self._kind
        children = [one.label, *([one.rival] if one.rival else [])]
        form = verdict_of(kind, children, one.description, settings.holds)
        template = settings.prompt or text_of(form.template)
        system = instructions(template, one.description, form.lines(), form.how())
        extra = settings.extra if kind == "decisions" else settings.extra_of_requests()
        return Asked(form, (0,), 1, system, extra=extra)
