"""Examples: the rows most like a text, and never that text itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.nodes.contract import NodeProblem
from cascade.prompt.nearest import Pool, as_read, as_written
from cascade.text.texts import Texts

ROWS = [
    "the parcel came two days late",
    "late again, the parcel is always late",
    "my invoice has the wrong amount on it",
    "the invoice never came by mail",
    "kind courier, carried it upstairs",
]


def pool_of(texts, own=None):
    targets = np.zeros((len(texts), 2), dtype=bool)
    targets[::2, 0] = True
    return Pool.of(
        NodeProblem(("a", "b"), Texts(texts), targets, own=np.ones(len(texts), bool) if own is None else own)
    )


def test_the_rows_most_like_a_text_come_last():
    [near] = pool_of(ROWS).near(Texts(["where is my invoice, it has a wrong amount"]), 2)
    assert [ROWS[row] for row in near][-1] == ROWS[2]
    assert len(near) <= 2


@pytest.mark.parametrize(
    "text", [ROWS[0], ROWS[0].upper() + "!", f" {ROWS[0]}. ", f"?! {ROWS[0]} ;-) ... @ &"]
)
def test_a_text_is_never_its_own_example_however_it_is_typed(text):
    [near] = pool_of(ROWS).near(Texts([text]), 5)
    assert ROWS[0] not in [ROWS[row] for row in near]
    assert ROWS[1] in [ROWS[row] for row in near]


def test_rows_of_other_groups_and_rows_told_twice_are_left_out():
    own = np.array([True, True, False, True, True])
    pool = pool_of([*ROWS[:4], ROWS[0].upper()], own)
    assert list(pool.texts) == [ROWS[0], ROWS[1], ROWS[3]]


@given(
    st.lists(st.text(max_size=30), max_size=12),
    st.integers(0, 4),
    st.lists(st.text(max_size=30), min_size=1, max_size=4),
)
def test_any_rows_give_few_examples_each_once(rows, most, texts):
    pool = pool_of(rows)
    for near in pool.near(Texts(texts), most):
        assert len(set(near.tolist())) == len(near) <= most
        assert all(0 <= row < len(pool) for row in near)


def test_nothing_in_common_is_no_example():
    [near] = pool_of(ROWS).near(Texts(["zzz qqq"]), 3)
    assert len(near) == 0


def test_what_is_written_is_read_back():
    pool = pool_of(ROWS)
    again = as_read(as_written(pool), 2, None)
    assert list(again.texts) == list(pool.texts)
    assert (again.targets == pool.targets).all()


@pytest.mark.parametrize(
    "told",
    [
        {},
        [],
        {"texts": ["a"], "children": []},
        {"texts": ["a"], "children": [[2]]},
        {"texts": [1], "children": [[0]]},
    ],
)
def test_what_is_no_pool_is_refused(told):
    with pytest.raises(ValueError, match="expected"):
        as_read(told, 2, None)
