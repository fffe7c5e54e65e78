"""Texts that mean nearly the same, and rows that they contradict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array
from tiny_encoders import MEANINGS, onnx_folder, rows_of

from cascade.changes.advice import study
from cascade.changes.near_texts import NEAR, contradicted, encode_of, near_texts
from cascade.encoders import fetching
from cascade.fitted import Cascade
from cascade.taxonomy.definition import Taxonomy

FLAGS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        arrays(np.bool_, (n, n), elements=st.booleans()), arrays(np.bool_, (n, 3), elements=st.booleans())
    )
)


def taxonomy(**backend):
    return Taxonomy.from_dict(
        {
            "name": "tickets",
            "defaults": {"backend": {"kind": "linear", **backend}},
            "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
        }
    )


@given(st.integers(0, 30), st.integers(0, 1000))
def test_near_are_all_others_whose_vectors_nearly_agree(n_texts, seed):
    random = np.random.default_rng(seed)
    found = random.normal(size=(n_texts, 3)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found[::5] = 0
    expected = found @ found.T >= NEAR
    np.fill_diagonal(expected, False)
    assert np.array_equal(near_texts(found).toarray(), expected)


@given(FLAGS)
def test_a_row_is_contradicted_where_half_or_more_of_its_near_texts_say_otherwise(drawn):
    near, truth = drawn
    near = (near | near.T) & ~np.eye(len(near), dtype=bool)
    expected = np.zeros_like(truth)
    for row, label in np.ndindex(truth.shape):
        others = truth[near[row], label]
        expected[row, label] = len(others) > 0 and 2 * (others != truth[row, label]).sum() >= len(others)
    found = contradicted(csr_array(near.astype(np.int64)), csr_array(truth))
    assert np.array_equal(found.toarray(), expected)


@pytest.fixture(scope="module")
def rows(home, tmp_path_factory):
    """Rows of four meanings, of which five of money are said to be of post, in words that others have not."""
    fetching.add(onnx_folder(tmp_path_factory.mktemp("onnx") / "tiny"), "tiny")
    texts, labels = rows_of(MEANINGS, 160, seed=0)
    torn = [f"please {word} the {word} {word} again" for word in (*MEANINGS["money"], "refund")]
    return [*texts, *torn], [*labels, *(["post"] for _ in torn)]


def test_rows_are_named_that_texts_of_the_same_meaning_contradict(rows):
    model = Cascade.fit(taxonomy(encoder="tiny"), *rows)
    told = {one.labels[0]: one for one in study(model, *rows, most=0).advice if one.kind == "contradicting"}
    assert set(told["post"].rows) <= set(range(160, 165))
    assert "5 rows other than half or more of the texts that mean nearly the same" in told["post"].reason


def test_where_models_know_words_alone_nothing_is_said_of_meaning(rows):
    model = Cascade.fit(taxonomy(), *rows)
    assert not any("mean nearly the same" in one.reason for one in study(model, *rows, most=0).advice)


def test_an_encoder_that_is_not_here_leaves_the_words():
    assert encode_of(taxonomy(encoder="gone")) is None
    assert encode_of(taxonomy()) is None
