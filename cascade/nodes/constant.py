"""The node model of a group in which nothing varies: one child, or no row that differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cascade.errors import ModelError
from cascade.nodes.contract import FittedNode, NodeProblem
from cascade.system.array_types import FloatArray
from cascade.system.serialization import read_array, write_array
from cascade.text.texts import Texts


class ConstantModel:
    """Answers the same scores for every text."""

    def __init__(self, values: FloatArray) -> None:
        self.values = values

    def scores(self, texts: Texts) -> FloatArray:
        """The constant scores, shape (n_texts, n_children), each in [0, 1]."""
        return np.tile(self.values, (len(texts), 1))

    def save(self, folder: Path) -> None:
        write_array(folder / "values.npy", self.values)


class ConstantBackend:
    """Learns the share of rows that each child has."""

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The constant model; without any row every score is 0."""
        own = problem.targets[problem.own]
        values = own.mean(axis=0) if len(own) else np.zeros(len(problem.children))
        model = ConstantModel(values.astype(np.float32))
        return FittedNode(model, np.arange(len(problem.texts), dtype=np.int64), model.scores(problem.texts))

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Nothing is shared."""

    def load(self, folder: Path) -> ConstantModel:
        """The model that was saved there; ModelError where the values are none in [0, 1]."""
        values = read_array(folder / "values.npy", np.float32, (None,))
        if not ((values >= 0) & (values <= 1)).all():
            raise ModelError(f"{folder / 'values.npy'}: expected values in [0, 1]. Run `cascade fit` again.")
        return ConstantModel(np.asarray(values))


def make() -> ConstantBackend:
    """The backend; it has no options."""
    return ConstantBackend()
