"""How what speaks for a label becomes its probability, learned from out-of-fold scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascade.learn.truth import Cells
from cascade.model.combine import features_of
from cascade.model.contests import Contests, contest_of
from cascade.model.walk import Walked
from cascade.nodes.contract import sampled
from cascade.system.array_types import BoolArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph
from cascade.validation.calibration import sigmoid
from cascade.validation.combination import Combination, fit_combination

# A dozen numbers are settled as well by so many rows, and so many cells of them, as by more.
MOST_ROWS, MOST_CELLS = 20_000, 600_000
# Cells below are hardly ever true, and there are many of them.
LEAST_PATH_LOGIT = -7.0
# People label what has a label: rows without one are rarer among training rows than in use, or are at least
# taken to be a tenth of what comes, as far as no row counts for more than so many.
NONE_SHARE, MOST_FOR_ONE = 0.1, 10
# Of the rows with a label so many at most may have two, where one label a row is the rule.
EXCEPTIONS = 0.001
FEWEST_ROWS = 100


def learned_combination(
    taxonomy: Taxonomy,
    truth: Cells,
    walked: Walked,
    clusters: IntArray,
    seed: int,
    threads: int = 1,
    most_cells: int = MOST_CELLS,
) -> Combination:
    """The combination that out-of-fold scores speak for, see `fit_combination`.

    Parameters
    ----------
    truth
        What is true at the rows of the walk, a column for each of `Graph.nodes`.
    walked
        Out-of-fold path probabilities, NaN where nothing is known of the truth, and scores of second models.
    clusters
        int64, shape (n_rows,): rows of one number stay on one side of a fold.
    threads
        How many share the work.
    most_cells
        It is learned from rows that have about so many cells.
    """
    rows = sampled(np.arange(walked.n_texts), MOST_ROWS, seed)
    if len(rows) < walked.n_texts:
        walked, truth, clusters = walked.of(rows), truth.take(rows), clusters[rows]
    contests = Contests(taxonomy)
    rows = texts_of_cells(contests, walked, most_cells, seed)
    if len(rows) < walked.n_texts:
        walked, truth, clusters = walked.of(rows), truth.take(rows), clusters[rows]
    cells = contests.cells(walked)
    features = features_of(walked, cells)
    texts = cells.contests // len(contests.names)
    targets = _true(taxonomy.graph, truth, texts, cells.labels)
    kept = targets | (features[:, 0] > LEAST_PATH_LOGIT)
    counts = row_counts(taxonomy.graph, truth).astype(np.float32)
    weights, folds = counts[texts[kept]], clusters[texts[kept]] % 2
    return fit_combination(features[kept], targets[kept], weights, folds, threads)


def texts_of_cells(contests: Contests, walked: Walked, most: int, seed: int) -> IntArray:
    """Rows that have about `most` of the cells that are not all but impossible, int64, ascending."""
    least, possible = sigmoid(np.array(LEAST_PATH_LOGIT)), 0
    for group, (places, _, _) in contests.labels.items():
        if group in walked.blocks:
            possible += int(np.count_nonzero(walked.blocks[group].paths[:, places] > least))
    share = min(most / max(possible, 1), 1.0)
    return sampled(np.arange(walked.n_texts), round(share * walked.n_texts), seed)


def row_counts(graph: Graph, truth: Cells) -> IntArray:
    """For how many each row counts, int64, shape (n_rows,): 1, and more for rows without a label.

    Where these are fewer than `NONE_SHARE` of all, they are taken to be that many.
    """
    labelled = np.zeros(truth.n_rows, dtype=bool)
    labelled[truth.only(_columns(graph)).rows] = True
    none, some = np.count_nonzero(~labelled), np.count_nonzero(labelled)
    if not none or not some:
        return np.ones(truth.n_rows, dtype=np.int64)
    wanted = round(NONE_SHARE / (1 - NONE_SHARE) * some / none)
    return np.where(labelled, 1, min(max(wanted, 1), MOST_FOR_ONE))


def exclusive_contests(taxonomy: Taxonomy, truth: Cells) -> tuple[str, ...]:
    """The contests of which no row, but for few exceptions, has two labels, and ``choose`` says no such."""
    labels: dict[str, list[str]] = {}
    for label, name in contest_of(taxonomy).items():
        labels.setdefault(name, []).append(label)
    return tuple(
        name
        for name, own in labels.items()
        if not _is_chosen(taxonomy, name, own)
        and _is_exclusive(truth.only([taxonomy.graph.column[label] for label in own]))
    )


def _is_chosen(taxonomy: Taxonomy, name: str, labels: Sequence[str]) -> bool:
    """Whether ``choose: one`` says the same already."""
    return taxonomy.groups[name].choose == "one" and set(labels) <= set(taxonomy.graph.children[name])


def _is_exclusive(truth: Cells) -> bool:
    labels_of_row = np.bincount(truth.rows, minlength=truth.n_rows)
    some, several = np.count_nonzero(labels_of_row), np.count_nonzero(labels_of_row > 1)
    return bool(truth.n_columns > 1 and some >= FEWEST_ROWS and several <= EXCEPTIONS * some)


def _columns(graph: Graph) -> Sequence[int]:
    return [graph.column[label] for label in graph.labels]


def _true(graph: Graph, truth: Cells, rows: IntArray, labels: IntArray) -> BoolArray:
    """Whether each of these labels is true at its row."""
    of_labels = truth.only(_columns(graph))
    known = of_labels.columns * truth.n_rows + of_labels.rows
    return np.isin(labels * truth.n_rows + rows, known)
