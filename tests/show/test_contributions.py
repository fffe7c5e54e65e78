"""What words did to a decision value, held against the scores themselves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.nodes.constant import ConstantModel
from cascade.nodes.contract import Explainable, NodeProblem
from cascade.nodes.linear import LinearBackend
from cascade.text.features import bags_of
from cascade.text.normal import normal
from cascade.text.occurrences import occurrences_of
from cascade.text.texts import Texts

WORDS = [
    "re\u00adfund",
    "don\u2019t",
    "cafe\u0301",
    "\uff26\uff35\uff2c\uff2c",
    "&amp;",
    "a&nbsp;b",
    "\U0001f469\U0001f3fd\u200d\U0001f4bb",
    "refund",
    "please",
    "late",
    "don't",
    "café",
    "İstanbul",
    "ΣΊΣΥΦΟΣ",
    "!",
    "?",
    "日本",
    "a",
    "the the",
]
texts = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(max_size=60),
    st.just("ha" * 600),
)


@pytest.fixture(scope="module")
def model():
    draw = np.random.default_rng(3)
    rows = [" ".join(draw.choice(WORDS, draw.integers(1, 8))) for _ in range(200)]
    targets = np.array([[word in row for word in ("refund", "late", "?")] for row in rows])
    problem = NodeProblem(("refund", "late", "asks"), Texts(rows), targets, np.ones(len(rows), dtype=bool))
    return LinearBackend([1.0]).fit_once(problem)


@settings(max_examples=150, deadline=None)
@given(texts)
def test_occurrences_are_what_the_bags_count(text):
    found, bags = occurrences_of(text), bags_of([text])
    counted = {
        int(bags.buckets[place]): int(count) for place, count in zip(bags.places, bags.counts, strict=True)
    }
    traced = Counter(found.columns.tolist())
    assert {column: min(count, 255) for column, count in traced.items()} == counted
    shares = np.bincount(found.owners, found.shares, len(found.columns))
    assert np.allclose(shares, 1)
    assert len(found.words) == 0 or (found.words.min() >= 0 and found.words.max() < len(found.spans))


@settings(max_examples=200, deadline=None)
@given(texts)
def test_words_are_cut_out_of_the_text_in_their_order(text):
    spans = occurrences_of(text).spans
    assert (spans[:, 0] >= 0).all()
    assert (spans[:, 0] < spans[:, 1]).all()
    assert (spans[:, 1] <= len(text)).all()
    assert (np.diff(spans, axis=0) >= 0).all()
    covered = {place for start, end in spans.tolist() for place in range(start, end)}
    # What is outside of all words is not to be seen.
    assert not normal("".join(letter for place, letter in enumerate(text) if place not in covered))


@settings(max_examples=200, deadline=None)
@given(texts)
def test_a_word_becomes_what_its_stretch_of_the_text_becomes(text):
    found = occurrences_of(text)
    words = [normal(text[start:end]) for start, end in found.spans.tolist()]
    own = [occurrences_of(word).columns[0] for word in words if len(occurrences_of(word).spans) == 1]
    assert set(own) <= set(found.columns.tolist())


@settings(max_examples=150, deadline=None)
@given(texts)
def test_contributions_sum_up_to_the_decision_value(model, text):
    [found] = model.contributions(Texts([text]))
    margins = found.values.sum(axis=0) + found.rest
    (scores,) = model.scores(Texts([text]))
    # The score is sigmoid(2 * margin), of margins in single precision.
    assert np.allclose(1 / (1 + np.exp(-2 * margins)), scores, atol=2e-5)
    assert found.values.shape == (len(found.spans), 3)


def test_the_word_that_makes_a_label_is_the_one_that_pushes_most(model):
    text = "please refund the café"
    [found] = model.contributions(Texts([text]))
    best = found.spans[found.values[:, 0].argmax()]
    assert text[best[0] : best[1]] == "refund"


def test_a_text_without_words_has_the_intercept_alone(model):
    [found] = model.contributions(Texts([""]))
    assert found.values.shape == (0, 3)
    assert np.array_equal(found.rest, model.biases)


def test_models_tell_whether_they_can_explain(model):
    assert isinstance(model, Explainable)
    assert not isinstance(ConstantModel(np.zeros(1, dtype=np.float32)), Explainable)
