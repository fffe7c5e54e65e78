from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_tables import table

from cascade.learn.truth import Cells
from cascade.measure import sparse
from cascade.model.decide import decide
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy

SHAPES = st.tuples(st.integers(0, 8), st.integers(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def flags(seed, shape, density=0.4):
    return np.random.default_rng(seed).random(shape) < density


def scores(seed, shape):
    """Some cells visited, a third of these with 0."""
    draw = np.random.default_rng(seed)
    found = np.maximum(draw.random(shape, dtype=np.float32) * 1.5 - 0.5, 0)
    return np.where(draw.random(shape) < 0.5, found, np.float32(np.nan)).astype(np.float32)


def everywhere(shape):
    return (at.ravel() for at in np.indices(shape))


@settings(deadline=None, derandomize=True)
@given(SHAPES, SEEDS)
def test_what_stands_where_is_what_stands_in_the_array(shape, seed):
    whole = scores(seed, shape)
    found, visited = table(whole), ~np.isnan(whole)
    assert sparse.has(found, *everywhere(shape)).tolist() == visited.ravel().tolist()
    assert sparse.values_at(found, *everywhere(shape)).tolist() == np.nan_to_num(whole).ravel().tolist()
    assert sparse.visited(found).toarray().tolist() == visited.tolist()
    rows, columns = sparse.rows_and_columns(found)
    assert [rows.tolist(), columns.tolist()] == [at.tolist() for at in np.nonzero(visited)]
    for row in range(shape[0]):
        assert sparse.columns_in(found, row).tolist() == np.flatnonzero(visited[row]).tolist()
        assert sparse.scores_in(found, row) == {at: whole[row, at] for at in np.flatnonzero(visited[row])}
    for column in range(shape[1]):
        assert sparse.rows_in(found.tocsc(), column).tolist() == np.flatnonzero(visited[:, column]).tolist()


@settings(deadline=None, derandomize=True)
@given(SHAPES, SEEDS)
def test_two_tables_are_held_against_each_other_cell_by_cell(shape, seed):
    one, other, whole = flags(seed, shape), flags(seed + 1, shape), scores(seed + 2, shape)
    assert sparse.both(table(one), table(other)).toarray().tolist() == (one & other).tolist()
    assert sparse.without(table(one), table(other)).toarray().tolist() == (one & ~other).tolist()
    kept = sparse.are_in(table(whole), table(one))
    assert kept.tolist() == one[~np.isnan(whole)].tolist()
    left = sparse.only(table(whole), kept)
    assert sparse.visited(left).toarray().tolist() == (one & ~np.isnan(whole)).tolist()
    assert left.toarray().tolist() == np.where(one, np.nan_to_num(whole), 0).tolist()
    assert sparse.by_row(table(one)).tolist() == one.sum(axis=1).tolist()
    assert sparse.by_column(table(one)).tolist() == one.sum(axis=0).tolist()


@settings(deadline=None, derandomize=True)
@given(SHAPES, st.integers(1, 5), SEEDS)
def test_a_product_tells_where_there_is_any(shape, n_columns, seed):
    one, weights = flags(seed, shape), flags(seed + 1, (shape[1], n_columns))
    found = sparse.joined(table(one), table(weights))
    assert found.toarray().tolist() == (one.astype(int) @ weights.astype(int) > 0).tolist()
    assert found.has_sorted_indices


def test_the_cells_of_labels_are_the_same_cells():
    cells = Cells.of_columns(4, [np.array([1, 3]), np.array([], dtype=np.int64), np.array([0, 1])])
    assert sparse.flags_of(cells).toarray().tolist() == cells.dense().tolist()


TREE = Taxonomy.from_dict(
    {
        "name": "t",
        "groups": {
            "a": {"labels": ["x", "y"], "groups": {"c": {"labels": ["z", "w"]}}},
            "b": {"labels": ["w", "x"]},
        },
    }
)


def walked(n_texts):
    draw = np.random.default_rng(0)

    def score(asked):
        return {
            group: draw.random((len(rows), len(TREE.graph.children[group])), dtype=np.float32)
            for group, rows in asked.items()
        }

    return walk(TREE, n_texts, score, lambda _group, _rows, path: path > 0.4)


@pytest.mark.parametrize("at_once", [1, 7, 500, 10**6])
@pytest.mark.parametrize("n_texts", [0, 1, 60])
def test_the_scores_of_a_walk_are_its_paths_whatever_is_taken_at_once(n_texts, at_once):
    seen = walked(n_texts)
    found = sparse.scores_of(seen, at_once)
    assert found.shape == seen.paths.shape
    assert np.array_equal(sparse.visited(found).toarray(), ~np.isnan(seen.paths))
    assert np.array_equal(found.toarray(), np.nan_to_num(seen.paths))
    assert found.dtype == np.float32


@pytest.mark.parametrize("n_texts", [0, 2500])
def test_what_is_decided_in_parts_is_what_is_decided_at_once(n_texts):
    seen, thresholds = walked(n_texts), dict.fromkeys(TREE.labels, 0.3)

    def of(part):
        return decide(TREE, thresholds, part.paths)

    assert np.array_equal(sparse.decided(seen, of).toarray(), of(seen))
