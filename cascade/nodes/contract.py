"""The contract between the tree and its models: texts and targets in, one score per child out.

A backend knows no tree, no file of ours but its own node folder, and no command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BackendError
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.texts import Texts

if TYPE_CHECKING:
    from cascade.text.pieces import Pieces  # Numba comes with it


@dataclass(frozen=True)
class GroupDescription:
    """What a group is about in words, for models that read them.

    Attributes
    ----------
    choose
        Whether a text has at most one of the children, or any of them.
    task
        The group's name and description.
    path
        The names of the groups above it and its own, from the top; empty at the top.
    about
        Its description.
    descriptions, aliases
        Of those children that have any, by name.
    includes
        Of those children that are groups what lies below them, by name.
    """

    choose: Literal["one", "many"] = "many"
    task: str = ""
    path: str = ""
    about: str = ""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    includes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Doubted:
    """A label of a text that is to be asked about.

    Attributes
    ----------
    text
        The text.
    label
        What the label is called in its group.
    rival
        The sibling that it may be taken for; empty where there is none.
    description
        What is told of the group and of both.
    """

    text: str
    label: str
    rival: str
    description: GroupDescription


@dataclass(frozen=True)
class NodeProblem:
    """What one group has to learn.

    Attributes
    ----------
    children
        What the children are called in the group, all different, in the order of the columns of `targets`.
    texts
        The rows to learn from.
    targets
        bool, shape (n_texts, n_children).
    own
        bool, shape (n_texts,): the rows that truly reach the group. The others serve as negatives only.
    seed
        Fixes every random choice.
    description
        What group and children are about.
    small
        Whether its model has to be small, as one of very many.
    part
        bool, shape (n_texts,): rows of which a held-out score is enough, and no other is read; None for all.
    extra
        bool, shape (n_texts,): rows that another model labelled. All models learn from them, those that score
        held-out rows as well, and no score of theirs is read; None for none.
    weights
        float32, shape (n_texts,), above 0: what an error at each row counts for; None for 1 each.
    """

    children: tuple[str, ...]
    texts: Texts
    targets: BoolArray
    own: BoolArray
    seed: int = 0
    description: GroupDescription = GroupDescription()
    small: bool = False
    part: BoolArray | None = None
    extra: BoolArray | None = None
    weights: FloatArray | None = None

    @property
    def counted(self) -> FloatArray:
        """For how many rows each of the group's own counts, 0 for the others; float32, shape (n_texts,)."""
        return np.asarray(self.own * np.float32(1) if self.weights is None else self.own * self.weights)

    def of(self, rows: IntArray) -> NodeProblem:
        """The problem of the rows at these positions alone."""
        return replace(
            self,
            texts=self.texts.take(rows),
            targets=self.targets[rows],
            own=self.own[rows],
            part=None if self.part is None else self.part[rows],
            extra=None if self.extra is None else self.extra[rows],
            weights=None if self.weights is None else self.weights[rows],
        )


def sampled(rows: IntArray, most: int, seed: int) -> IntArray:
    """At most `most` of `rows`, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def most_frequent_children(problem: NodeProblem, most: int) -> NodeProblem:
    """The problem with at most `most` of its children, those with the most rows, in their order."""
    if len(problem.children) <= most:
        return problem
    columns = np.sort(np.argsort(-problem.targets.sum(axis=0), kind="stable")[:most])
    children = tuple(problem.children[column] for column in columns)
    return replace(problem, children=children, targets=problem.targets[:, columns])


class RowsError(BackendError):
    """Some texts could not be scored; the others were.

    Attributes
    ----------
    scores
        float32, shape (n_texts, n_children): NaN in the rows that failed.
    reasons
        Why, by position of the text.
    """

    def __init__(self, scores: FloatArray, reasons: Mapping[int, str]) -> None:
        self.scores, self.reasons = scores, dict(reasons)
        first = next(iter(self.reasons.values()), "")
        super().__init__(
            f"{len(self.reasons)} of {len(scores)} texts could not be scored, the first: {first}"
        )


class NodeModel(Protocol):
    """A fitted model at one group."""

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1].

        RowsError where some texts cannot be scored, as may happen at a service.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write arrays as ``.npy`` and the rest as JSON into an existing, empty folder."""
        ...


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each word of a text pushed the decision values of a group's children by.

    Attributes
    ----------
    spans
        int64, shape (n_words, 2): where each word, or mark, begins and ends in the text.
    values
        float64, shape (n_words, n_children), in units of the decision value before calibration, which is
        monotone: what is above 0 speaks for the child.
    rest
        float64, shape (n_children,): the decision value of a text without words. With the `values` and what
        is `beside` it sums up to that of the text.
    beside
        float64, shape (n_children,): what the text as a whole pushed by, under a name for it.
    unit
        What 1 of all these is in log odds of the score.
    """

    spans: IntArray
    values: NDArray[np.float64]
    rest: NDArray[np.float64]
    beside: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    unit: float = 1.0


@runtime_checkable
class Explainable(Protocol):
    """A node model that can tell what each word of a text did."""

    def contributions(self, texts: Texts, pieces: Sequence[Pieces] | None = None) -> Iterator[Contributions]:
        """The contributions of the words of each text.

        A model that reads a text as a whole takes `pieces` out of each, and sees what is missed: by default
        those of `cascade.text.pieces.pieces_of`. One that counts words needs none.
        """
        ...


@runtime_checkable
class Quoting(Protocol):
    """A node model that can quote from a text what speaks for a child."""

    def quotations(self, texts: Texts) -> Sequence[Mapping[int, Sequence[str]]]:
        """For each text and each child that it was given, by column, what was quoted, the best first.

        Only what stands in the text will count, see `cascade.text.quotations.standing`: nothing has to be
        checked here. A text that was not asked about has no child.
        """
        ...


@runtime_checkable
class Knowing(Protocol):
    """A node model that can tell how much of a text it knows."""

    def known(self, texts: Texts) -> FloatArray:
        """The share of each text that it knows, float32, shape (n_texts,), in [0, 1]: 0 is nothing."""
        ...


@runtime_checkable
class Escalating(NodeModel, Protocol):
    """A node model of several tiers, each of which answers the texts that it does not doubt too much."""

    @property
    def tiers(self) -> Sequence[str]:
        """What they are called, the cheapest first."""
        ...

    @property
    def last(self) -> NodeModel:
        """The model that answers what the others hand on."""
        ...

    def answered_by(self, texts: Texts) -> IntArray:
        """Which of the `tiers` answers each text, int64, shape (n_texts,); the last one is not asked."""
        ...

    def doubts(self, texts: Texts) -> NDArray[np.float64]:
        """How much the tier before the last doubts each text, float64, shape (n_texts,).

        Below all doubts for a text that a cheaper one answers, infinite where it finds or knows nothing.
        """
        ...

    def with_doubt(self, doubt: float) -> Escalating:
        """The same, with the answers of the tier before the last standing up to this doubt."""
        ...

    def with_last(self, model: NodeModel) -> Escalating:
        """The same, with another model for what is handed on to the last tier."""
        ...

    def contributions_by_tier(
        self, texts: Texts, pieces: Sequence[Pieces] | None = None
    ) -> Iterator[Contributions | None]:
        """As `Explainable.contributions`, by the tier that answers the text; None where that cannot tell."""
        ...


@dataclass(frozen=True)
class FittedNode:
    """A model, with scores that it did not give its own training rows.

    Attributes
    ----------
    model
        The model, fitted on all rows of the problem.
    rows
        int64, shape (n_held_out,): positions in the problem whose scores are honest, all after k folds.
    scores
        float32, shape (n_held_out, n_children): the scores of those rows by models that never saw them.
    notes
        What the backend settled on its own (such as the penalty), for the manifest; JSON-able.
    """

    model: NodeModel
    rows: IntArray
    scores: FloatArray
    notes: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Fits and loads node models of one kind."""

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:
        """The fitted model and its held-out scores; `workdir` is for what must outlive the process."""
        ...

    def load(self, folder: Path) -> NodeModel:
        """The model that `NodeModel.save` wrote; ModelError where the folder is not such a one."""
        ...

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Compute on `jobs` threads what several nodes share, before their problems are spread."""
        ...


@runtime_checkable
class ServiceBackend(Backend, Protocol):
    """A backend whose models answer at a service: one is named there, and taken over with what it says."""

    @property
    def model(self) -> str | None:
        """The model that is asked as it is, if the options name one."""
        ...

    @property
    def settings(self) -> Any:
        """Where the service is and what it is asked for."""
        ...

    @property
    def waits(self) -> bool:
        """Whether it is asked in batches, which take hours however small they are."""
        ...

    def node(self, problem: NodeProblem, model: str) -> NodeModel:
        """The model of that name, as one that answers for the children of a problem."""
        ...

    def adopt(self, problem: NodeProblem, model: str, rows: IntArray) -> FittedNode:
        """The model of that name, and its scores of the rows at these positions, which it must not know."""
        ...


@runtime_checkable
class HostedBackend(ServiceBackend, Protocol):
    """A backend whose models are made by a service, too: ordered side by side, then adopted."""

    def codec(self, problem: NodeProblem) -> Any:
        """How the children of a problem are asked for."""
        ...

    def order(self, group: str, problem: NodeProblem, held_out: BoolArray) -> Any:
        """What the service has to make for a problem of which the rows `held_out` must not be seen."""
        ...


@runtime_checkable
class PromptedBackend(ServiceBackend, Protocol):
    """A backend whose models are asked as they are, in words that are made of the group."""

    @property
    def digest(self) -> str:
        """The hash of the words that all its groups are asked with."""
        ...

    @property
    def calibration_rows(self) -> int:
        """Most rows that are worth asking about, to calibrate it."""
        ...

    @property
    def trials(self) -> int:
        """How often some of these rows may be asked about once more, to settle how it is asked."""
        ...

    def price(self, problem: NodeProblem, rows: IntArray) -> Any:
        """What a question about the rows at these positions takes, and costs."""
        ...


@runtime_checkable
class KnowingBackend(Protocol):
    """A backend whose models can tell how much of a text they know."""

    def known_without_itself(self, texts: Texts) -> FloatArray:
        """The share of each text that a model of all the other texts knows, as `Knowing.known` gives it."""
        ...


@runtime_checkable
class TrialBackend(Protocol):
    """A backend cheap enough to try things out with."""

    def fit_and_score(self, problem: NodeProblem, train: IntArray, test: IntArray) -> FloatArray:
        """Scores of the `test` rows by a model of the `train` rows, shape (n_test, n_children), in [0, 1]."""
        ...
