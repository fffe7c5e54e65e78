"""What a node folder keeps of held-out scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.learn.node_fit import node_key, packed, unpacked
from cascade.nodes.contract import NodeProblem
from cascade.text.texts import Texts

SCORES = st.lists(st.floats(0, 1, width=32), max_size=20)


@given(SCORES)
@settings(deadline=None, derandomize=True)
def test_scores_in_half_the_room_are_as_exact_near_one_as_near_zero(values):
    scores = np.array(values, dtype=np.float32)
    found = unpacked(packed(scores))
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    tail = np.minimum(scores, 1 - scores)
    np.testing.assert_allclose(found, scores, rtol=0, atol=6.1e-5 * 2**-10 + tail.max(initial=0) * 2**-10)
    assert (np.abs(found - scores) <= np.maximum(tail * 2**-10, 1.2e-7)).all()


def test_what_is_certain_stays_certain():
    assert unpacked(packed(np.array([0, 1], dtype=np.float32))).tolist() == [0, 1]


def test_packing_again_changes_nothing():
    scores = np.random.default_rng(0).random(1000, dtype=np.float32)
    once = unpacked(packed(scores))
    np.testing.assert_array_equal(unpacked(packed(once)), once)


def test_what_makes_another_model_makes_another_key():
    problem = NodeProblem(("a",), Texts(["x", "y"]), np.array([[True], [False]]), np.ones(2, dtype=bool))
    others = [problem, replace(problem, small=True), replace(problem, part=np.array([True, False]))]
    others.append(replace(problem, part=np.array([False, True])))
    keys = [node_key("linear", {}, one, "") for one in others]
    assert len(set(keys)) == len(keys)
    assert keys[0] == node_key("linear", {}, replace(problem), "")
