"""How much of a text a model knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.nodes.contract import Knowing, KnowingBackend, NodeProblem
from cascade.nodes.linear import LEAST_ROWS, LinearBackend
from cascade.text.texts import Texts

ROWS = ["refund please", "late parcel", "refund the parcel", "please be late!", "the late refund?"] * 4


@pytest.fixture(scope="module")
def model():
    targets = np.array([["refund" in row, "late" in row] for row in ROWS])
    problem = NodeProblem(("refund", "late"), Texts(ROWS), targets, np.ones(len(ROWS), dtype=bool))
    return LinearBackend([1.0]).fit_once(problem)


def test_backend_and_model_say_that_they_can_tell(model):
    assert isinstance(model, Knowing)
    assert isinstance(LinearBackend(), KnowingBackend)


def test_all_of_a_training_row_is_known_and_nothing_of_another_script(model):
    shares = model.known(Texts([*ROWS[:5], "возврат", "退款", ""]))
    assert shares.dtype == np.float32
    assert shares[:5].tolist() == [1.0] * 5
    assert shares[5:].tolist() == [0.0] * 3


def test_a_text_is_known_the_less_the_more_it_says_that_is_new(model):
    shares = model.known(Texts(["refund", "refund quickly", "refund quickly, dear colleagues of the shop"]))
    assert 1 >= shares[0] > shares[1] > shares[2] > 0


@pytest.mark.parametrize(
    "text", ["!", "?!?", "... --- ...", "\u2026", "\u3002", "\u00ad!", "&#33;", " \u2014 "]
)
def test_punctuation_says_nothing_however_well_it_is_known(model, text):
    assert model.known(Texts([text])).tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_a_share_is_from_nothing_to_all(model, text):
    (share,) = model.known(Texts([text])).tolist()
    assert 0 <= share <= 1


def test_what_a_row_alone_has_is_not_known_without_it():
    rows = [*["refund please"] * LEAST_ROWS, "refund please", "unheard-of words", "unheard-of words", "!"]
    shares = LinearBackend().known_without_itself(Texts(rows)).tolist()
    assert shares[: LEAST_ROWS + 1] == [1.0] * (LEAST_ROWS + 1)
    assert shares[-3:] == [0.0] * 3
