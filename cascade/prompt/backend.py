"""Node models that are asked and not trained: rows, where there are some, calibrate them and are examples."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cascade.encoders.contract import Encoder
from cascade.errors import ModelError
from cascade.hosted.asker import Asker, shared_asker
from cascade.hosted.settings import Settings
from cascade.nodes.contract import FittedNode, GroupDescription, NodeProblem, RowsError, sampled
from cascade.prompt.model import EXAMPLES, RECORD, VERSION, PromptModel
from cascade.prompt.nearest import Pool, as_read
from cascade.prompt.pricing import QuestionPrice, price_of
from cascade.prompt.settings import MOST_TRIED, TRIED_EXAMPLES, PromptSettings
from cascade.prompt.shortlist import Shortlister, fitted, loaded, share_kept
from cascade.prompt.wording import digest
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import WAY_OUT, read_json
from cascade.text.texts import Texts
from cascade.validation.doubts import best_cut

_FEWEST_TRIED = 20
# Examples make a question several times as long: they have to win so much of F1.
_LEAST_GAIN = 0.01


class PromptBackend:
    """Makes `PromptModel`s.

    Parameters
    ----------
    settings
        How they are asked.
    encoders
        A folder that may hold the encoder, looked at first.
    asker
        Who asks; by default the one of the process.
    """

    def __init__(
        self, settings: PromptSettings, encoders: Path | None = None, asker: Asker | None = None
    ) -> None:
        self.asked, self._encoders, self._asker = settings, encoders, asker

    @property
    def settings(self) -> Settings:
        """Where the service is."""
        return self.asked.service

    @property
    def model(self) -> str | None:
        """What is asked; nothing is trained."""
        return self.asked.model

    @property
    def waits(self) -> bool:
        """Whether questions go in batches."""
        return (self._asker or shared_asker()).can_wait(self.settings)

    @property
    def digest(self) -> str:
        """The hash of the words that questions are made of."""
        return digest()

    @property
    def calibration_rows(self) -> int:
        """Most rows that are worth asking about, to calibrate it."""
        return self.asked.calibration_rows

    @property
    def trials(self) -> int:
        """How often some of these rows may be asked about once more: for each number of examples."""
        return len(TRIED_EXAMPLES) if self.asked.examples is None else 0

    def price(self, problem: NodeProblem, rows: IntArray) -> QuestionPrice:
        """What a question about the rows at these positions takes at most, and costs."""
        node = self.node(problem, self.asked.model)
        if self.asked.examples is None and len(rows) >= _FEWEST_TRIED:  # they may win
            node = self._model(problem, self._pool(problem), TRIED_EXAMPLES[-1], node.shortlister)
        return price_of(node, problem.texts.take(rows), problem.targets[rows])

    @cached_property
    def encoder(self) -> Encoder | None:
        """What tells which texts are alike; BackendError where it is not on this machine."""
        if self.asked.encoder is None:
            return None
        from cascade.encoders.store import opened  # who has words alone needs none of it

        return opened(self.asked.encoder, beside=self._encoders)

    def node(self, problem: NodeProblem, model: str) -> PromptModel:  # noqa: ARG002 - the contract's signature
        """The model that answers for the children of a problem, with as many examples as the settings say."""
        shortlister = self._shortlister(problem)[0]
        n_examples = self.asked.examples or 0
        pool = self._pool(problem) if n_examples else None
        return self._model(problem, pool, n_examples, shortlister)

    def adopt(self, problem: NodeProblem, model: str, rows: IntArray) -> FittedNode:  # noqa: ARG002 - as above
        """The model, and its scores of the rows at these positions.

        No row is ever shown itself, or one that nearly equals it, and its children are short-listed by models
        of other rows. Rows that the model fails on are left out; RowsError where it fails on all.
        """
        shortlister, asked_about, notes = self._shortlister(problem)
        pool = self._pool(problem) if self.asked.examples != 0 else None
        bare = self._model(problem, pool, 0, shortlister)
        notes |= {"model": self.asked.model, "answer": bare.kind, "prompt": self.digest[:16]}
        held_out = problem.texts.take(rows)
        about = None if asked_about is None else asked_about[rows]
        n_examples, told = self._settled_examples(bare, problem, rows, about)
        node = bare.with_examples(n_examples)
        scores, failed = _scores(node, held_out, about)
        answered = ~np.isnan(scores).any(axis=1)
        notes |= {"examples": n_examples, **told, **({"failed": failed} if failed else {})}
        if len(scores) and not ((scores > 0) & (scores < 1)).any():
            notes["probabilities"] = "none"
        return FittedNode(node, rows[answered], scores[answered], notes)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The model as it is, asked about nothing: there are no scores to calibrate it with."""
        node = self.node(problem, self.asked.model)
        notes = {"model": self.asked.model, "answer": node.kind, "prompt": self.digest[:16]}
        nothing = np.empty((0, len(problem.children)), dtype=np.float32)
        return FittedNode(node, np.empty(0, dtype=np.int64), nothing, {**notes, "examples": node.n_examples})

    def load(self, folder: Path) -> PromptModel:
        """The model that was saved there; ModelError where it is none of this version."""
        told = read_json(folder / RECORD)
        if not isinstance(told, dict) or told.get("version") != VERSION:
            raise ModelError(f"{folder / RECORD}: made by another version. Run `cascade fit` again.")
        try:
            children, description = _described(told)
            n_examples = int(told["examples"])
            pool = None
            if n_examples:
                pool = as_read(read_json(folder / EXAMPLES), len(children), self.encoder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{folder}: not a model that is asked: {error!r}. {WAY_OUT}") from error
        short = None
        if told.get("shortlist"):
            short = loaded(folder, self.asked.shortlist, len(children), self.encoder)
        return PromptModel(
            self.asked,
            children,
            description,
            pool=pool,
            n_examples=n_examples,
            shortlister=short,
            asker=self._asker,
        )

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Nothing is shared between groups that are asked."""

    def _model(
        self, problem: NodeProblem, pool: Pool | None, n_examples: int, shortlister: Shortlister | None
    ) -> PromptModel:
        return PromptModel(
            self.asked,
            problem.children,
            problem.description,
            pool=pool,
            n_examples=n_examples,
            shortlister=shortlister,
            asker=self._asker,
        )

    def _pool(self, problem: NodeProblem) -> Pool | None:
        pool = Pool.of(problem, self.encoder)
        return pool if len(pool) else None

    def _shortlister(
        self, problem: NodeProblem
    ) -> tuple[Shortlister | None, BoolArray | None, dict[str, Any]]:
        """The short-lister of a wide group, what it asks about of each row unseen, and what that loses."""
        if len(problem.children) <= self.asked.shortlist:
            return None, None, {}
        shortlister, rows, asked = fitted(problem, self.asked.shortlist, self.encoder)
        everything = np.zeros(problem.targets.shape, dtype=np.bool_)
        everything[rows] = asked
        kept = share_kept(asked, problem.targets[rows])
        notes = {"shortlist": self.asked.shortlist}
        return shortlister, everything, notes if kept is None else notes | {"kept": round(kept, 4)}

    def _settled_examples(
        self, bare: PromptModel, problem: NodeProblem, rows: IntArray, about: BoolArray | None
    ) -> tuple[int, dict[str, Any]]:
        """How many examples questions have: as the settings say, or as many as win on held-out rows.

        So many more are tried as long as that wins: each time the same rows are asked about.
        """
        if bare.pool is None:
            return 0, {}
        if self.asked.examples is not None:
            return self.asked.examples, {}
        places = sampled(np.arange(len(rows)), MOST_TRIED, problem.seed)
        targets = problem.targets[rows[places]]
        if len(places) < _FEWEST_TRIED or not targets.any():
            return 0, {}
        some, those = problem.texts.take(rows[places]), None if about is None else about[places]
        figures: dict[int, float] = {}
        settled = 0
        for number in (0, *TRIED_EXAMPLES):
            figures[number] = best_f1(_scores(bare.with_examples(number), some, those)[0], targets)
            if number and figures[number] < figures[settled] + _LEAST_GAIN:
                break
            settled = number
        return settled, {"tried": {str(number): round(figure, 4) for number, figure in figures.items()}}


def _scores(node: PromptModel, texts: Texts, about: BoolArray | None) -> tuple[FloatArray, int]:
    """Scores, NaN where there are none, and how many rows that is; RowsError where it is all of them."""
    try:
        return node.scores(texts, about), 0
    except RowsError as error:
        if len(error.reasons) == len(texts):
            raise
        return error.scores, len(error.reasons)


def best_f1(scores: FloatArray, targets: BoolArray) -> float:
    """The micro F1 at the one threshold that is best for all children together, in [0, 1].

    Rows with NaN count as answered with nothing.
    """
    return best_cut(scores, targets)[1]


def _described(told: Mapping[str, Any]) -> tuple[tuple[str, ...], GroupDescription]:
    children = told["children"]
    if not isinstance(children, list) or not all(isinstance(one, str) for one in children) or not children:
        raise ValueError("expected the names of children")
    if told["choose"] not in ("one", "many"):
        raise ValueError("expected to choose one or many")
    description = GroupDescription(
        choose=told["choose"],
        path=str(told["path"]),
        about=str(told["about"]),
        descriptions={str(name): str(one) for name, one in told["descriptions"].items()},
        aliases={str(name): tuple(map(str, known)) for name, known in told["aliases"].items()},
        includes={str(name): tuple(map(str, below)) for name, below in told["includes"].items()},
    )
    return tuple(children), description


def make(*, encoders: Path | None = None, **options: Any) -> PromptBackend:
    """The backend with these options of a taxonomy."""
    return PromptBackend(PromptSettings.of(options), encoders)
