from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.text.texts import Texts


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def lengths(texts):
    return np.array([len(text) for text in texts])


class Counting:
    """Lengths of texts; counts how often it was asked, and about how many texts."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(len(texts))
        return lengths(texts)


@given(st.lists(st.text(max_size=3), min_size=1, max_size=8), st.data())
@settings(deadline=None, derandomize=True, max_examples=150)
def test_texts_and_views_of_views_read_like_lists(whole, data):
    texts, plain = Texts(whole), whole
    for _ in range(data.draw(st.integers(0, 3))):
        chosen = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=10)) if plain else []
        texts, plain = texts.take(rows(*chosen)), [plain[row] for row in chosen]
    assert list(texts) == plain
    assert len(texts) == len(plain)
    assert [texts[row] for row in range(len(plain))] == plain
    assert [texts[-row] for row in range(1, len(plain) + 1)] == [
        plain[-row] for row in range(1, len(plain) + 1)
    ]
    assert list(texts[1:]) == plain[1:]
    assert list(texts[::-2]) == plain[::-2]
    assert list(reversed(texts)) == plain[::-1]
    assert texts.features("lengths", lengths).tolist() == [len(text) for text in plain]


@pytest.mark.parametrize("texts", [Texts(["a"]), Texts(["a", "b"]).take(rows(1))])
def test_a_row_beyond_the_end_is_an_index_error(texts):
    with pytest.raises(IndexError):
        texts[1]


def test_texts_tell_what_they_hold():
    view = Texts(["a", "b", "a"]).take(rows(2, 1))
    assert "a" in view
    assert "c" not in view
    assert view.index("b") == 1
    assert view.count("a") == 1


def test_features_are_computed_once_for_the_whole_and_all_views():
    compute, texts = Counting(), Texts(["a", "bb", "ccc"])
    view = texts.take(rows(2, 0))
    assert view.features("lengths", compute).tolist() == [3, 1]
    assert texts.features("lengths", compute).tolist() == [1, 2, 3]
    assert view.take(rows(0)).features("lengths", compute).tolist() == [3]
    assert texts.take(rows(1)).features("lengths", compute).tolist() == [2]
    assert compute.asked == [3]


def test_features_of_different_keys_are_kept_apart():
    texts = Texts(["a", "bb"])
    assert texts.features("lengths", lengths).tolist() == [1, 2]
    assert texts.features("twice", lambda whole: 2 * lengths(whole)).tolist() == [2, 4]
    assert texts.features("lengths", lengths).tolist() == [1, 2]


def test_other_texts_do_not_share_features():
    assert Texts(["a"]).features("lengths", lengths).tolist() == [1]
    assert Texts(["bb"]).features("lengths", lengths).tolist() == [2]


def test_sparse_features_are_selected_by_row():
    from scipy.sparse import csr_matrix

    view = Texts(["a", "bb", "ccc"]).take(rows(2, 1))
    features = view.features("sparse", lambda whole: csr_matrix(np.diag(lengths(whole))))
    assert features.toarray().tolist() == [[0, 0, 3], [0, 2, 0]]


def test_a_view_of_no_rows_has_features_of_the_right_width():
    view = Texts(["a", "bb"]).take(rows())
    assert list(view) == []
    assert view.features("square", lambda whole: np.zeros((len(whole), 5))).shape == (0, 5)


def test_no_texts_are_fine():
    texts = Texts([])
    assert list(texts) == []
    assert texts.features("lengths", lengths).tolist() == []


def test_texts_survive_pickling_with_their_rows():
    view = Texts(["a", "bb", "ccc"]).take(rows(2, 0))
    view.features("lengths", lengths)
    again = pickle.loads(pickle.dumps(view))
    assert list(again) == ["ccc", "a"]
    compute = Counting()
    assert again.features("lengths", compute).tolist() == [3, 1]
    assert compute.asked == []


def test_texts_of_texts_are_those_texts():
    assert list(Texts(Texts(["a", "b"]).take(rows(1))).take(rows(0))) == ["b"]
