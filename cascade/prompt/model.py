"""A group that a language model is asked about: each text in the words of the group, its answer as scores."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cascade.hosted import tokens
from cascade.hosted.asker import Asker, shared_asker
from cascade.hosted.backend import Rounds, Scored, asked_alone
from cascade.hosted.questions import Answer, Question, Written
from cascade.nodes.contract import GroupDescription, RowsError
from cascade.prompt.answers import Endpoint, Form, Quoted, form_of
from cascade.prompt.nearest import Pool, as_written
from cascade.prompt.settings import PromptSettings
from cascade.prompt.shortlist import Shortlister
from cascade.prompt.wording import conversation, instructions, text_of
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import write_json
from cascade.text.texts import Texts

VERSION = 1
RECORD, EXAMPLES = "prompt.json", "examples.json"
ORDERS = 4
"""Children stand in one of so many orders, by the text: none is favoured for its place, and a service that
keeps the beginning of a question at hand has it so many times at most."""
LONGEST = 30_000
"""Tokens of a text; longer ones are cut."""
# No token is longer, but for a few.
_SURELY_FITTING = LONGEST
# What is asked several times has to be answered anew each time.
_WARM = 1.0


@dataclass(frozen=True)
class Asked:
    """How one text is asked about: what `cascade.hosted.questions.Question` calls a codec.

    Attributes
    ----------
    form
        How the children are answered.
    columns
        Which of the group's children they are, in the order of the question.
    n_children
        How many the group has; those that are not asked about score 0.
    system
        What is told before any text.
    examples
        Texts with their answers.
    temperature
        0 for the likeliest answer.
    extra
        What else a request has.
    again
        Why the answer before could not be used; empty for the first.
    """

    form: Form
    columns: tuple[int, ...]
    n_children: int
    system: str
    examples: tuple[tuple[str, str], ...] = ()
    temperature: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)
    again: str = ""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is asked."""
        return self.form.endpoint

    def messages(self, text: str) -> list[dict[str, str]]:
        """What the model reads."""
        return conversation(self.system, self.examples, text, self.again)

    def request(self, text: str) -> dict[str, Any]:
        """The body of the question about a text, without its ``model``."""
        if self.endpoint == "/v1/decisions":
            return {"input": self.messages(text), **self.form.fields(), **self.extra}
        asked = {"messages": self.messages(text), "temperature": self.temperature}
        return {**asked, **self.form.fields(), **self.extra}

    def read(self, choice: Mapping[str, Any]) -> FloatArray | Written:
        """One score for each child of the group, float32, shape (n_children,), in [0, 1].

        Of an answer with quotations these, by the column of the child. UnreadableAnswer where it is none.
        """
        if isinstance(self.form, Quoted):
            quotes = self.form.quotes(choice)
            return Written({str(self.columns[place]): said for place, said in quotes.items()})
        scores = np.zeros(self.n_children, dtype=np.float32)
        scores[list(self.columns)] = self.form.read(choice)
        return np.clip(scores, 0.0, 1.0)


class PromptModel:
    """A model at a service that answers for the children of one group, without any training.

    Attributes
    ----------
    settings
        How it is asked.
    children, description
        What it is asked about.
    pool, n_examples
        The rows that examples are taken from, and how many of them a question has.
    shortlister
        What tells which children a text is asked about; None where it is all of them.
    """

    def __init__(
        self,
        settings: PromptSettings,
        children: Sequence[str],
        description: GroupDescription,
        *,
        pool: Pool | None = None,
        n_examples: int = 0,
        shortlister: Shortlister | None = None,
        asker: Asker | None = None,
    ) -> None:
        self.settings, self.children, self.description = settings, tuple(children), description
        self.pool, self.n_examples, self.shortlister = pool, n_examples, shortlister
        self._asker = asker

    @property
    def model(self) -> str:
        """What the service calls it."""
        return self.settings.model

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return self._asker or shared_asker()

    @cached_property
    def kind(self) -> str:
        """How children are answered."""
        n_asked = len(self.children) if self.shortlister is None else self.shortlister.most
        return self.settings.answer_kind(n_asked, self.description.choose)

    def with_examples(self, n_examples: int) -> PromptModel:
        """The same with so many examples in a question."""
        changed = copy(self)
        changed.n_examples = n_examples
        return changed

    def questions(self, texts: Texts, asked_about: BoolArray | None = None) -> list[Question]:
        """What is asked about the texts, as often as the settings say about each.

        `asked_about` tells which children that is of each, bool, shape (n_texts, n_children), where it is not
        for the short-lister to say.
        """
        if asked_about is None and self.shortlister is not None:
            asked_about = self.shortlister.likeliest(texts)
        near = self.pool.near(texts, self.n_examples) if self.pool is not None else [_NO_ROWS] * len(texts)
        frames: dict[tuple[int, bytes], Asked] = {}
        return [
            self._question(text, sample, near[row], None if asked_about is None else asked_about[row], frames)
            for row, text in enumerate(texts)
            for sample in range(self.settings.samples)
        ]

    def rounds(self, texts: Texts, asked_about: BoolArray | None = None) -> Rounds:
        """Questions, to be sent the answers of; an answer that cannot be read is asked for once more.

        Returns
        -------
        Scores, float32, shape (n_texts, n_children), NaN for texts without an answer, and why they have none.
        """
        answers = yield from repaired(self.questions(texts, asked_about))
        return self._read(answers, len(texts))

    def scores(self, texts: Texts, asked_about: BoolArray | None = None) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1].

        Raises
        ------
        RowsError
            Some texts got no answer that can be read, asked twice.
        ServiceError
            The service answers nothing at all, for want of money, rights or the model.
        """
        scores, reasons = asked_alone(self.asker, self.rounds(texts, asked_about))
        if reasons:
            raise RowsError(scores, reasons)
        return scores

    def quotations(self, texts: Texts) -> list[dict[int, list[str]]]:
        """For each text and each child that is found in it, by column, the words that are said to show it.

        Each text is asked about once more, for its words; a text without an answer has no quotations.
        """
        asked = PromptModel(
            replace(self.settings, samples=1, answer="quoted"),
            self.children,
            self.description,
            shortlister=self.shortlister,
        )
        questions = asked.questions(texts)
        answers = self.asker.ask(questions)
        said = [{} if answer.written is None else answer.written.values for answer in answers]
        return [{int(column): list(quotes) for column, quotes in one.items()} for one in said]

    def save(self, folder: Path) -> None:
        about = self.description
        write_json(
            folder / RECORD,
            {
                "version": VERSION,
                "children": list(self.children),
                "choose": about.choose,
                "path": about.path,
                "about": about.about,
                "descriptions": dict(about.descriptions),
                "aliases": {name: list(known) for name, known in about.aliases.items()},
                "includes": {name: list(below) for name, below in about.includes.items()},
                "examples": self.n_examples,
                "shortlist": self.shortlister is not None,
            },
        )
        if self.pool is not None and self.n_examples:
            write_json(folder / EXAMPLES, as_written(self.pool))
        if self.shortlister is not None:
            self.shortlister.save(folder)

    def _read(self, answers: Sequence[Answer], n_texts: int) -> Scored:
        """The mean of the answers to each text, and why texts have none."""
        scores = np.full((n_texts, len(self.children)), np.nan, dtype=np.float32)
        reasons: dict[int, str] = {}
        often = self.settings.samples
        for row in range(n_texts):
            own = answers[row * often : (row + 1) * often]
            read = [answer.scores for answer in own if answer.scores is not None]
            if read:
                scores[row] = np.mean(read, axis=0)
            else:
                reasons[row] = f"{self.model}: {own[0].why}"
        return scores, reasons

    def _question(
        self,
        text: str,
        sample: int,
        near: IntArray,
        asked_about: BoolArray | None,
        frames: dict[tuple[int, bytes], Asked],
    ) -> Question:
        text = shortened(text)
        number = (_number_of(text) + sample) % max(ORDERS, self.settings.samples)
        key = number, b"" if asked_about is None else asked_about.tobytes()
        if key not in frames:
            frames[key] = self._frame(number, asked_about)
        asked = frames[key]
        if len(near) and self.pool is not None:
            shown = tuple(self._example(asked, self.pool, int(row)) for row in near)
            asked = replace(asked, examples=shown)
        return Question(self.model, self.settings.service, asked, text)

    def _frame(self, number: int, asked_about: BoolArray | None) -> Asked:
        """How all texts are asked about that get this order and these children."""
        order = np.random.default_rng(number).permutation(len(self.children))
        columns = order if asked_about is None else order[asked_about[order]]
        settings = self.settings
        children = [self.children[column] for column in columns]
        form = form_of(self.kind, children, self.description, settings.holds)
        system = instructions(
            settings.prompt or text_of(form.template), self.description, form.lines(), form.how()
        )
        return Asked(
            form,
            tuple(columns.tolist()),
            len(self.children),
            system,
            temperature=_WARM if settings.samples > 1 else 0.0,
            extra=settings.extra if self.kind == "decisions" else settings.extra_of_requests(),
        )

    @staticmethod
    def _example(asked: Asked, pool: Pool, row: int) -> tuple[str, str]:
        target = pool.targets[row][list(asked.columns)]
        return pool.shown(row), asked.form.right(target.tolist())


_NO_ROWS: IntArray = np.empty(0, dtype=np.int64)


def repaired(questions: list[Question]) -> Generator[list[Question], list[Answer], list[Answer]]:
    """Questions, to be sent the answers of; one that cannot be read is asked for once more."""
    answers = yield questions
    failed = [place for place, answer in enumerate(answers) if answer.is_unreadable]
    if failed:
        again = yield [_asked_again(questions[place], answers[place].why) for place in failed]
        answers = list(answers)
        for place, answer in zip(failed, again, strict=True):
            answers[place] = answer
    return answers


def _asked_again(question: Question, why: str) -> Question:
    """The question once more, with what was wrong with its answer."""
    asked = question.codec
    if not isinstance(asked, Asked):
        raise TypeError(type(asked).__name__)
    return replace(question, codec=replace(asked, again=why))


def _number_of(text: str) -> int:
    """A number that only the text decides."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=4).digest())


def shortened(text: str) -> str:
    """The text, or its first `LONGEST` tokens."""
    return text if len(text) <= _SURELY_FITTING else tokens.cut(text, LONGEST)
