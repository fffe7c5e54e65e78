"""Node models that are fine-tunes at a service: an order for each group, and questions to what came of it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cascade.errors import BackendError, ModelError
from cascade.hosted.asker import Asker, shared_asker
from cascade.hosted.codecs import Codec, codec_of
from cascade.hosted.examples import Examples, fitting
from cascade.hosted.orders import Order
from cascade.hosted.prices import Prices, epochs_of
from cascade.hosted.questions import Answer, Question
from cascade.hosted.settings import LONGEST_SUFFIX, Settings
from cascade.nodes.contract import FittedNode, NodeModel, NodeProblem, RowsError
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import read_json, write_json
from cascade.text.texts import Texts

VERSION = 1
_FILE = "openai.json"


Scored = tuple[FloatArray, Mapping[int, str]]
"""Scores, float32, shape (n_texts, n_children), NaN for texts that failed, and why these did."""
Rounds = Generator[list[Question], list[Answer], Scored]
"""Questions, one round after another, each to be sent its answers, in their order."""


@runtime_checkable
class Asking(Protocol):
    """A node model that is asked at a service."""

    @property
    def asker(self) -> Asker:
        """Who asks."""
        ...

    def rounds(self, texts: Texts) -> Rounds:
        """The questions about texts, round by round, and what comes of them."""
        ...


class HostedModel:
    """A tuned model at a service, and how it is asked.

    Attributes
    ----------
    model
        What the service calls it.
    codec
        How texts become questions, and answers scores.
    settings
        Where it is, and how fast it may be asked.
    """

    def __init__(self, model: str, codec: Codec, settings: Settings, asker: Asker | None = None) -> None:
        self.model, self.codec, self.settings = model, codec, settings
        self._asker = asker

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return self._asker or shared_asker()

    def questions(self, texts: Texts) -> list[Question]:
        """What is asked about each text; one that is too long is cut, as its examples were."""
        return [Question(self.model, self.settings, self.codec, fitting(self.codec, text)) for text in texts]

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1].

        Raises
        ------
        RowsError
            Some texts got no answer that can be read.
        ServiceError
            The service answers nothing at all, for want of money, rights or the model.
        """
        scores, reasons = asked_alone(self.asker, self.rounds(texts))
        if reasons:
            raise RowsError(scores, reasons)
        return scores

    def rounds(self, texts: Texts) -> Rounds:
        """One round of questions; see `Asking`."""
        answers = yield self.questions(texts)
        return scored(answers, self.model, len(self.codec.children))

    def save(self, folder: Path) -> None:
        codec = self.codec.settings_key()
        write_json(folder / _FILE, {"version": VERSION, "model": self.model, "codec": codec})


def scored(answers: Sequence[Answer], model: str, n_children: int) -> Scored:
    """What one answer of a model to each text comes to."""
    scores = np.full((len(answers), n_children), np.nan, dtype=np.float32)
    reasons = {}
    for row, answer in enumerate(answers):
        if answer.scores is None:
            reasons[row] = f"{model}: {answer.why}"
        else:
            scores[row] = answer.scores
    return scores, reasons


def asked_alone(asker: Asker, rounds: Rounds) -> Scored:
    """What comes of the rounds of one model."""
    return _asked_together({"": (asker, rounds)})[""]


def scores_together(views: Mapping[str, tuple[NodeModel, Texts]]) -> dict[str, Scored]:
    """Scores of each model, NaN for texts that failed, and why these did.

    What has to be asked is asked in one call a round, so that it is in flight, or in a batch, together.
    """
    rounds = {
        name: (node.asker, node.rounds(texts))
        for name, (node, texts) in views.items()
        if isinstance(node, Asking)
    }
    asked = _asked_together(rounds)
    return {
        name: asked[name] if name in asked else _tried(partial(node.scores, texts))
        for name, (node, texts) in views.items()
    }


def _asked_together(rounds: Mapping[str, tuple[Asker, Rounds]]) -> dict[str, Scored]:
    """What comes of all rounds, the questions of each in one call for each asker."""
    found: dict[str, Scored] = {}
    answers: Mapping[str, list[Answer] | None] = dict.fromkeys(rounds)
    while len(found) < len(rounds):
        questions: dict[str, list[Question]] = {}
        for name, (_, going) in rounds.items():
            if name in found:
                continue
            try:
                questions[name] = going.send(answers[name])  # type: ignore[arg-type]  # None begins
            except StopIteration as end:
                found[name] = end.value
        answers = _answers({name: rounds[name][0] for name in questions}, questions)
    return found


def _answers(
    askers: Mapping[str, Asker], questions: Mapping[str, Sequence[Question]]
) -> dict[str, list[Answer] | None]:
    found: dict[str, list[Answer] | None] = {}
    for asker in set(askers.values()):
        mine = [name for name, own in askers.items() if own is asker]
        answers = iter(asker.ask([question for name in mine for question in questions[name]]))
        found |= {name: list(islice(answers, len(questions[name]))) for name in mine}
    return found


def _tried(scores: Callable[[], FloatArray]) -> Scored:
    try:
        return scores(), {}
    except RowsError as error:
        return error.scores, error.reasons


class OpenAIBackend:
    """Orders and adopts `HostedModel`s."""

    def __init__(self, settings: Settings, asker: Asker | None = None) -> None:
        self._settings, self._asker = settings, asker

    @property
    def settings(self) -> Settings:
        """Where the service is and what it is asked for."""
        return self._settings

    @property
    def model(self) -> str | None:
        """The model that was tuned elsewhere, if the options name one."""
        return self.settings.model

    @property
    def waits(self) -> bool:
        """Whether questions go in batches."""
        return (self._asker or shared_asker()).can_wait(self.settings)

    def codec(self, problem: NodeProblem) -> Codec:
        """How the children of a problem are asked for."""
        description = problem.description
        return codec_of(
            problem.children,
            description.descriptions,
            description.choose,
            self.settings,
            description.aliases,
            description.task,
        )

    def order(self, group: str, problem: NodeProblem, held_out: BoolArray) -> Order:
        """The fine-tune of a group; equal examples and settings have equal keys.

        Raises
        ------
        BackendError
            There are too few examples.
        """
        codec, settings = self.codec(problem), self.settings
        try:
            examples = Examples.of(problem, codec, settings, problem.seed, held_out)
        except BackendError as error:
            raise BackendError(f"{group or 'top level'}: {error}") from error
        made_of = [
            settings.address,
            settings.base_model,
            dict(settings.hyperparameters),
            problem.seed,
            hashlib.sha256(examples.training).hexdigest(),
            hashlib.sha256(examples.validation).hexdigest(),
        ]
        return Order(
            group=group,
            key=hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest(),
            settings=settings,
            training=examples.training,
            validation=examples.validation,
            suffix=settings.suffix or _suffix(group),
            seed=problem.seed,
            cost_usd=_cost(settings, examples.tokens),
        )

    def node(self, problem: NodeProblem, model: str) -> HostedModel:
        """The model of that name, as one that answers for the children of a problem."""
        return HostedModel(model, self.codec(problem), self.settings, self._asker)

    def adopt(self, problem: NodeProblem, model: str, rows: IntArray) -> FittedNode:
        """The model of that name, and its scores of the rows at these positions.

        Rows that it fails on are left out; RowsError where it fails on all.
        """
        hosted = self.node(problem, model)
        notes: dict[str, Any] = {"model": model, "answer": hosted.codec.kind}
        try:
            scores = hosted.scores(problem.texts.take(rows))
        except RowsError as error:
            scores = error.scores
            if len(error.reasons) == len(rows):
                raise
            notes["failed"] = len(error.reasons)
        answered = ~np.isnan(scores).any(axis=1)
        if not ((scores > 0) & (scores < 1)).any():
            notes["probabilities"] = "none"  # of a service without logprobs: thresholds mean nothing then
        return FittedNode(hosted, rows[answered], scores[answered], notes)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:
        """BackendError: models of all groups are ordered side by side, see `order` and `adopt`."""
        names = ", ".join(problem.children[:3])
        raise BackendError(f"{workdir}: the hosted model of {names} is ordered, not fitted here")

    def load(self, folder: Path) -> HostedModel:
        """The model that was saved there; ModelError where it is none of this version."""
        written = read_json(folder / _FILE)
        if not isinstance(written, dict) or written.get("version") != VERSION:
            raise ModelError(f"{folder / _FILE}: made by another version. Run `cascade fit` again.")
        try:
            codec = Codec.of(written["codec"])
            model = str(written["model"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder / _FILE}: not a hosted model: {error!r}") from error
        return HostedModel(model, codec, self.settings, self._asker)

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Nothing is shared between hosted groups."""


def _suffix(group: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", (group or "router").lower()).strip("-") or "group"
    return plain[:LONGEST_SUFFIX]


def _cost(settings: Settings, n_tokens: int) -> float | None:
    """USD of a training; None where the service's prices are not known."""
    prices = Prices.load()
    if settings.address != prices.service:
        return None
    return prices.training_usd(settings.base_model, n_tokens, epochs_of(settings))


def make(**options: Any) -> OpenAIBackend:
    """The backend with these options of a taxonomy."""
    return OpenAIBackend(Settings.of(options))
