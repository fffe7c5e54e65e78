"""Which groups are trained, which of them at a service, and which rows those never see."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cascade.backends import make_backend
from cascade.learn.datasets import Dataset
from cascade.learn.node_fit import digests
from cascade.nodes.contract import PromptedBackend, ServiceBackend
from cascade.system.array_types import BoolArray
from cascade.taxonomy.definition import Taxonomy
from cascade.text.clusters import clusters_of
from cascade.validation.folds import folds_of_cells

# What is dear to fit is judged on one fold of so many.
TENTHS = 10
# With so many rows, and so many of each label in one fold of so many, what is cheap to fit is judged on that.
MANY_ROWS, PLENTY, THIRDS = 50_000, 100, 3


def trained_groups(taxonomy: Taxonomy) -> list[str]:
    """The groups that have a node model."""
    return [group for group in taxonomy.graph.groups if taxonomy.scored_children(group)]


def service_groups(dataset: Dataset) -> dict[str, ServiceBackend]:
    """The backend of each group whose model answers at a service.

    One that is asked as it is needs no rows; what a service makes learns nothing where nothing varies.
    """
    found: dict[str, ServiceBackend] = {}
    for group in trained_groups(dataset.taxonomy):
        spec = dataset.taxonomy.backend_of(group)
        backend = make_backend(spec.kind, spec.options)
        if not isinstance(backend, ServiceBackend):
            continue
        own = dataset.rows(group, "siblings")
        if isinstance(backend, PromptedBackend) or varies(dataset.targets(group)[own]):
            found[group] = backend
    return found


def held_out_rows(dataset: Dataset, seed: int) -> BoolArray:
    """A tenth of the rows, bool, shape (n_texts,): the same for all hosted groups, and seen by none of them.

    Every name is spread evenly, and texts that are nearly equal stand on one side.
    """
    truth = dataset.truth
    clusters = clusters_of(dataset.texts)
    fold_of = folds_of_cells(truth.rows, truth.columns, truth.n_columns, clusters, TENTHS, seed)
    return np.asarray(fold_of == 0)


def most_asked_rows(backends: Iterable[ServiceBackend]) -> int | None:
    """Most rows to ask models about that learn from none; None where one of them does, or there is none."""
    found = [one.calibration_rows if isinstance(one, PromptedBackend) else None for one in backends]
    known = [most for most in found if most is not None]
    return min(known) if known and len(known) == len(found) else None


def asked_rows(dataset: Dataset, most: int, seed: int) -> BoolArray:
    """At most about so many rows, bool, shape (n_texts,), to ask models about that learn from none.

    Every name is spread evenly, and texts that are nearly equal stand on one side.
    """
    parts = -(-len(dataset.texts) // max(most, 1))
    if parts <= 1:
        return np.ones(len(dataset.texts), dtype=bool)
    truth = dataset.truth
    clusters = clusters_of(dataset.texts)
    return np.asarray(folds_of_cells(truth.rows, truth.columns, truth.n_columns, clusters, parts, seed) == 0)


def enough_rows(dataset: Dataset, seed: int) -> BoolArray | None:
    """A third of the rows, bool, shape (n_texts,), where that is enough to settle all by; None where not.

    So it is where nine labels of ten have `PLENTY` rows among them or more: more would move no threshold, and
    a fit with all rows held out, each once, takes half as long again. Which rows they are is said by their
    texts, nearly equal ones alike, so that other rows change nothing for groups that they do not reach.
    """
    graph, truth = dataset.taxonomy.graph, dataset.truth
    counts = np.diff(truth.starts)[[graph.column[label] for label in graph.labels]]
    if len(dataset.texts) < MANY_ROWS or np.quantile(counts, 0.1) < THIRDS * PLENTY:
        return None
    first = digests(dataset.texts).view(np.uint64)[::2][clusters_of(dataset.texts)]
    return np.asarray((first + np.uint64(seed)) % np.uint64(THIRDS) == 0)


def varies(targets: BoolArray) -> bool:
    return bool((targets.any(axis=0) & ~targets.all(axis=0)).any())
