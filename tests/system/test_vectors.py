"""Whole vectors of the processor give what one number at a time gives, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.errors import TypingError

from cascade.system.array_types import FloatArray
from cascade.system.vectors import (
    CACHE_LINE,
    UNROLLED,
    VECTOR,
    add_half_products,
    add_multiples,
    add_products,
    empty_table,
)

WIDTHS = [VECTOR * vectors for vectors in (1, 2, 3, 4, 5, 7, 8, 9)]


def row_of(n_cells: int, n_features: int, seed: int) -> tuple[FloatArray, np.ndarray]:
    draw = np.random.default_rng(seed)
    values = draw.normal(size=n_cells).astype(np.float32)
    return values, draw.integers(0, n_features, n_cells).astype(np.int32)


@pytest.mark.parametrize("width", WIDTHS)
def test_products_are_added_four_cells_at_a_time(width: int) -> None:
    values, features = row_of(40, 50, width)
    weights = np.random.default_rng(1).normal(size=(50, width)).astype(np.float32)
    margins = np.random.default_rng(2).normal(size=width).astype(np.float32)
    expected = margins.copy()
    for at in range(8, 32, UNROLLED):
        a, b, c, d = values[at : at + UNROLLED, None] * weights[features[at : at + UNROLLED]]
        expected += (a + b) + (c + d)
    add_products(values, features, 8, 32, weights, margins)
    assert margins.tobytes() == expected.tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_products_with_halves_are_those_with_the_same_numbers_one_cell_after_another(width: int) -> None:
    values, features = row_of(41, 50, width)
    halves = np.random.default_rng(1).normal(size=(50, width)).astype(np.float16)
    halves[0] = np.resize([0, -0.0, 6e-8, -3e-6, 65504, -65504, 1, -0.01], width)  # the least and the largest
    features[9] = 0
    margins = np.random.default_rng(2).normal(size=width).astype(np.float32)
    expected = margins.copy()
    for at in range(7, 40):
        expected += values[at] * halves[features[at]].astype(np.float32)
    add_half_products(values, features, 7, 40, halves.view(np.int16), margins)
    assert margins.tobytes() == expected.tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_multiples_reach_the_rows_of_their_cells_and_no_others(width: int) -> None:
    values, features = row_of(40, 50, width)
    weights = np.random.default_rng(1).normal(size=(50, width)).astype(np.float32)
    steps = np.random.default_rng(2).normal(size=width).astype(np.float32)
    expected = weights.copy()
    for at in range(7, 30):
        expected[features[at]] += values[at] * steps
    add_multiples(values, features, 7, 30, steps, weights, -1)
    assert weights.tobytes() == expected.tobytes()


@pytest.mark.parametrize("width", WIDTHS)
def test_multiples_reach_the_vectors_that_are_named_and_no_others(width: int) -> None:
    values, features = row_of(40, 50, width)
    weights = np.random.default_rng(1).normal(size=(50, width)).astype(np.float32)
    steps = np.random.default_rng(2).normal(size=width).astype(np.float32)
    for which in np.random.default_rng(3).integers(0, 2 ** (width // VECTOR), 20).tolist():
        named = np.repeat([bool(which >> at & 1) for at in range(width // VECTOR)], VECTOR)
        expected = weights.copy()
        for at in range(7, 30):
            expected[features[at], named] += values[at] * steps[named]
        add_multiples(values, features, 7, 30, steps, weights, which)
        assert weights.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_tables_begin_on_a_line_of_memory_and_are_empty(dtype: type) -> None:
    for n_rows, n_columns in ((0, 8), (1, 8), (1000, 24), (70_000, 32)):
        table = empty_table(n_rows, n_columns, dtype)
        assert (table.shape, table.dtype) == ((n_rows, n_columns), dtype)
        assert not n_rows or table.ctypes.data % CACHE_LINE == 0
        assert table.flags.c_contiguous
        assert not table.any()


def test_a_row_without_cells_changes_nothing() -> None:
    values, features = row_of(4, 5, 0)
    weights = np.ones((5, VECTOR), dtype=np.float32)
    margins = np.arange(VECTOR, dtype=np.float32)
    add_products(values, features, 4, 4, weights, margins)
    add_multiples(values, features, 4, 4, margins, weights, -1)
    assert margins.tolist() == list(range(VECTOR))
    assert (weights == 1).all()


def test_tables_that_do_not_lie_row_by_row_are_refused() -> None:
    values, features = row_of(4, 5, 0)
    across = np.ones((VECTOR, 5), dtype=np.float32).T
    with pytest.raises(TypingError, match="expected contiguous arrays"):
        add_products(values, features, 0, 4, across, np.zeros(VECTOR, dtype=np.float32))


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"NUMBA_DISABLE_JIT": "1"}, id="python"),
        pytest.param({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, id="any processor"),
    ],
)
def test_they_do_the_same_without_the_compiler_and_on_any_processor(environment: dict[str, str]) -> None:
    inside = "test_products or test_multiples or test_a_row"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", __file__, "-k", inside],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert f"{4 * len(WIDTHS) + 1} passed" in ran.stdout
