"""Figures of a teacher and its students side by side, on rows that were put aside or out of fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.learn.fit import OutOfFold
from cascade.learn.truth import true_cells
from cascade.measure.evaluate import Evaluation
from cascade.measure.metrics import of_labels, precision_at_1
from cascade.measure.sparse import flags_of, scores_of


@dataclass(frozen=True)
class Figures:
    """What a model reaches, each in [0, 1]; None where it cannot be told."""

    micro_f1: float | None
    macro_f1: float | None
    precision_at_1: float | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> Figures:
        """Those of rows that were put aside."""
        return cls(evaluation.micro_f1, evaluation.macro_f1, evaluation.precision_at_1)

    @classmethod
    def out_of_fold(cls, found: OutOfFold, labels: Sequence[Sequence[str]]) -> Figures:
        """Those of the rows of a fit by models that did not know them.

        Parameters
        ----------
        labels
            The names that each of these rows carries.
        """
        graph, metrics = found.walked.graph, found.manifest.metrics
        truth, scores = flags_of(true_cells(graph, labels)), scores_of(found.walked)
        first = precision_at_1(of_labels(graph, truth), of_labels(graph, scores))
        return cls(metrics["micro_f1"], metrics["macro_f1"], first)
