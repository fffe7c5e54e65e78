"""Rows that a model was evaluated on, with the tables that a report and a comparison are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from cascade.measure.error_causes import ErrorKinds, error_kinds
from cascade.measure.evaluate import Evaluation
from cascade.measure.known_cells import KnownCells
from cascade.model.folder import Manifest
from cascade.predict.evidence import LabelEvidence
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph

Carried = Callable[[Sequence[str], Sequence[Sequence[str]]], list[tuple[LabelEvidence, ...]]]


@dataclass(frozen=True)
class EvaluatedRows:
    """An evaluated test set.

    Attributes
    ----------
    taxonomy, manifest
        Of the model.
    texts, ids
        Of the rows.
    cells
        What was true of them and what was answered.
    evaluation
        The figures of all that.
    carried
        Tells for each of some texts what in it carries each of some labels that it was given; None where it
        would take long, or cost money.
    unanswered
        Why, of rows that were left out: a service gave no answer to them.
    """

    taxonomy: Taxonomy
    manifest: Manifest
    texts: Sequence[str]
    ids: Sequence[str | int]
    cells: KnownCells
    evaluation: Evaluation
    carried: Carried | None = None
    unanswered: tuple[str, ...] = ()

    @property
    def graph(self) -> Graph:
        return self.taxonomy.graph

    @cached_property
    def kinds(self) -> ErrorKinds:
        return error_kinds(self.cells)
