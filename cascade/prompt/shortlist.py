"""Which children a text is asked about where a group has too many of them to name them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cascade.encoders.contract import Encoder
from cascade.errors import BackendError
from cascade.nodes.contract import NodeProblem
from cascade.nodes.linear import LinearBackend, LinearModel
from cascade.prompt.wording import choice_line
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.text.texts import Texts


def described(problem: NodeProblem) -> NodeProblem:
    """The rows of a problem that reach its group, and behind them rows of what is told of each child.

    There are two of each child: what a single row has says nothing to a linear model.
    """
    own = np.flatnonzero(problem.own)
    told = [choice_line(child, problem.description) for child in problem.children]
    texts = Texts([*(problem.texts[int(row)] for row in own), *told, *told])
    each = np.eye(len(told), dtype=bool)
    targets = np.concatenate([problem.targets[own], each, each])
    return replace(problem, texts=texts, targets=targets, own=np.ones(len(texts), dtype=bool), part=None)


class Shortlister:
    """A linear model of what is told of children, and of rows where there are some.

    Attributes
    ----------
    model
        It scores every child.
    most
        How many children a text is asked about.
    """

    def __init__(self, model: LinearModel, most: int) -> None:
        self.model, self.most = model, most

    def likeliest(self, texts: Texts) -> BoolArray:
        """The children that each text is asked about, bool, shape (n_texts, n_children)."""
        return likeliest(self.model.scores(texts), self.most)

    def save(self, folder: Path) -> None:
        self.model.save(folder)


def likeliest(scores: FloatArray, most: int) -> BoolArray:
    """The columns with the highest scores of each row, `most` of them; bool, of the same shape."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :most]
    found = np.zeros(scores.shape, dtype=np.bool_)
    np.put_along_axis(found, best, True, axis=1)
    return found


def fitted(
    problem: NodeProblem, most: int, encoder: Encoder | None = None
) -> tuple[Shortlister, IntArray, BoolArray]:
    """A short-lister, and what it would have asked about of rows that it had not seen.

    Returns
    -------
    The short-lister; int64, shape (n_rows,), positions in the problem of its own rows; bool, shape (n_rows,
    n_children), the children of each by models of the other rows.
    """
    own = np.flatnonzero(problem.own)
    found = LinearBackend(encoder=encoder).fit(described(problem), Path())
    if not isinstance(found.model, LinearModel):
        raise TypeError(type(found.model).__name__)
    is_row = found.rows < len(own)
    asked = likeliest(found.scores[is_row], most)
    return Shortlister(found.model, most), own[found.rows[is_row]].astype(np.int64), asked


def share_kept(asked: BoolArray, targets: BoolArray) -> float | None:
    """Of the true children of rows those that are asked about, in [0, 1]; None without any."""
    true = int(targets.sum())
    return int((asked & targets).sum()) / true if true else None


def loaded(folder: Path, most: int, n_children: int, encoder: Encoder | None = None) -> Shortlister:
    """What was saved there; ModelError where it is none, BackendError where it is one of another group."""
    model = LinearBackend(encoder=encoder).load(folder)
    if len(model.biases) != n_children:
        raise BackendError(f"{folder}: a short list of {len(model.biases)} children, expected {n_children}")
    return Shortlister(model, most)
