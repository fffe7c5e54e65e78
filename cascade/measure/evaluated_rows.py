"""Rows that a model was evaluated on, with the arrays that a report and a comparison are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade.measure.error_causes import ErrorKinds, Predictions, error_kinds, unknown_nodes
from cascade.measure.evaluate import Evaluation
from cascade.measure.metrics import columns, with_ancestors
from cascade.model.folder import Manifest
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph


@dataclass(frozen=True)
class EvaluatedRows:
    """An evaluated test set.

    Attributes
    ----------
    taxonomy, manifest
        Of the model.
    texts, ids
        Of the rows.
    truth
        bool, shape (n_texts, n_nodes): labels and their ancestors.
    scored, oracle
        See `evaluate`.
    evaluation
        The figures of all that.
    """

    taxonomy: Taxonomy
    manifest: Manifest
    texts: Sequence[str]
    ids: Sequence[str | int]
    truth: BoolArray
    scored: Predictions
    oracle: Predictions
    evaluation: Evaluation

    @property
    def graph(self) -> Graph:
        return self.taxonomy.graph

    @cached_property
    def labels(self) -> IntArray:
        """Columns of labels."""
        return columns(self.graph, self.graph.labels)

    @cached_property
    def truth_with_ancestors(self) -> BoolArray:
        return with_ancestors(self.graph, self.truth)

    @cached_property
    def known(self) -> BoolArray:
        """bool, shape (n_texts, n_labels): of which rows tell whether they have the label."""
        return ~unknown_nodes(self.graph, self.truth_with_ancestors)[:, self.labels]

    @cached_property
    def true(self) -> BoolArray:
        """bool, shape (n_texts, n_labels)."""
        return self.truth_with_ancestors[:, self.labels] & self.known

    @cached_property
    def chosen(self) -> BoolArray:
        """bool, shape (n_texts, n_labels)."""
        return self.scored.chosen[:, self.labels] & self.known

    @cached_property
    def paths(self) -> FloatArray:
        """float32, shape (n_texts, n_labels): path probabilities, 0 where a label was not visited."""
        return np.nan_to_num(self.scored.paths[:, self.labels])

    @cached_property
    def kinds(self) -> ErrorKinds:
        always = frozenset(one.name for one in self.taxonomy.groups.values() if one.route == "always")
        return error_kinds(self.graph, self.truth, self.scored, self.oracle, always=always)
