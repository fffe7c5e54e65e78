from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cascade.fitted import Cascade
from cascade.rows.row import Row
from cascade.taxonomy.definition import Taxonomy
from cascade.teach import selection as teaching
from cascade.teach.selection import LEAST_DOUBT, disagreement, greedy, likeness, nearness, select_rows

TREE = {
    "name": "shop",
    "groups": {
        "billing": {"labels": ["refund", "overcharged", "gift"]},
        "delivery": {"labels": ["late", "broken", "refund"]},
        "mood": {"choose": "one", "route": "always", "labels": ["pleased", "cross"]},
    },
}
LABELS = ("refund", "overcharged", "late", "broken", "pleased", "cross")
# What people write as often for one as for the other.
VAGUE = {"refund": "money", "overcharged": "money", "pleased": "oh", "cross": "oh"}
inside = st.floats(0.001, 0.999)


def texts_and_labels(seed=1, count=400):
    draw = np.random.default_rng(seed)
    for number in range(count):
        names = list(draw.choice(LABELS, draw.integers(1, 4), replace=False))
        if {"pleased", "cross"} <= set(names):
            names.remove("cross")
        if number % 40 == 0:
            names.append("gift")
        said = [VAGUE[name] if name in VAGUE and draw.random() < 0.5 else f"{name}word" for name in names]
        words = [*said, *draw.choice(["the", "my", "please"], 4), f"n{number}"]
        yield " ".join(draw.permutation(words)), names


def rows(*texts):
    return [Row(number, number, text, (), {}, "f") for number, text in enumerate(texts, 1)]


@pytest.fixture(scope="module")
def model():
    texts, labels = zip(*texts_and_labels(), strict=True)
    return Cascade.fit(Taxonomy.from_dict(TREE), texts, labels)


def numbers(selection):
    return [one.row.number for one in selection.selected]


# Doubts


@given(inside, inside)
def test_doubt_is_greatest_at_the_threshold_and_falls_with_the_odds(path, least):
    near = nearness(np.array([least, path, path**2]), np.array([least, least, least]))
    assert near[0] == pytest.approx(1)
    assert 0 < near[1] <= 1
    if path <= least:
        assert near[2] <= near[1]
    odds = path / (1 - path) / (least / (1 - least))
    assert near[1] == pytest.approx(2 * min(odds, 1) / (1 + odds) if odds < 1 else 2 / (1 + odds))


def test_what_was_not_visited_is_not_in_doubt():
    assert nearness(np.array([np.nan, 0.0, 1.0]), np.array([0.5, 0.5, 0.5])).tolist() == [
        0.0,
        pytest.approx(0, abs=1e-4),
        pytest.approx(0, abs=1e-4),
    ]


def test_parents_disagree_as_far_as_both_may_say_something():
    above = np.array([[1, 0.5, np.nan], [1, 0.5, np.nan], [0.9, 0.0, 0.8], [0.3, np.nan, np.nan]])
    says = np.array([[0.8, 0.8, np.nan], [0.9, 0.1, np.nan], [0.2, 0.9, 0.7], [0.9, np.nan, np.nan]])
    assert disagreement(above, says).tolist() == pytest.approx([0, 0.4, 0.4, 0])


def test_a_text_between_two_labels_teaches_more_than_a_clear_one(model):
    found = select_rows(
        model, rows("lateword my the my the", "refundword the my the my", "money my the my the"), 3
    )
    assert found.rows == 3
    assert numbers(found)[0] == 3
    assert "refund" in {doubt.label for doubt in found.selected[0].doubts}


def test_a_text_without_an_answer_is_in_doubt(model):
    [found] = select_rows(model, rows("an unheard of thing"), 1).selected
    assert ("nothing chosen", "", 1.0) in found.doubts


def test_rivals_are_compared_with_each_other_where_one_is_chosen(model):
    [found] = select_rows(model, rows("oh my lateword"), 1).selected
    doubts = {doubt.label: doubt.size for doubt in found.doubts if doubt.reason == "near threshold"}
    assert {"pleased", "cross"} <= set(doubts)
    assert doubts["pleased"] == pytest.approx(doubts["cross"], abs=0.2)


def test_doubts_are_told_the_greatest_first_and_none_that_is_small(model):
    for one in select_rows(model, rows(*(text for text, _ in texts_and_labels(2, 50))), 50).selected:
        sizes = [doubt.size for doubt in one.doubts]
        assert sizes == sorted(sizes, reverse=True)
        assert all(LEAST_DOUBT <= size <= 1 for size in sizes)


def test_a_label_that_is_rare_counts_for_more(model):
    weights = dict(zip(model.graph.labels, teaching._DoubtScorer(model).weights.tolist(), strict=False))
    assert weights["gift"] == max(weights.values()) > 2
    assert min(weights.values()) >= 1 / 3


# Choice


def test_the_same_text_is_picked_once(model):
    found = select_rows(model, rows(*["money my the my the"] * 5, "oh the my the my lateword"), 6)
    assert sorted(numbers(found)) == [1, 6]
    assert (found.rows, found.doubtful) == (6, 6)


class Unanswered:
    """A model whose service does not answer for some texts."""

    def __init__(self, model, *texts):
        self._model, self._texts = model, texts

    def __getattr__(self, name):
        return getattr(self._model, name)

    def walk(self, texts):
        failed = {place: "busy" for place, text in enumerate(texts) if text in self._texts}
        return replace(self._model.walk(texts), failed=failed)


def test_what_a_service_did_not_answer_for_is_told_and_not_picked(model):
    texts = ["an unheard of thing", "money my the my the", "another thing unheard of"]
    found = select_rows(Unanswered(model, texts[0]), rows(*texts), 3)
    assert 1 not in numbers(found)
    assert numbers(found)
    assert [(row.number, why) for row, why in found.failed] == [(1, "busy")]
    assert found.rows == 3


def test_nothing_is_picked_of_nothing(model):
    assert select_rows(model, [], 5).selected == []


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30))
def test_less_is_the_beginning_of_more(model, most):
    texts = rows(*(text for text, _ in texts_and_labels(3, 60)))
    assert numbers(select_rows(model, texts, most)) == numbers(select_rows(model, texts, 30))[:most]


def test_it_does_not_matter_in_what_pieces_rows_are_walked(model):
    texts = rows(*(text for text, _ in texts_and_labels(4, 80)))
    assert select_rows(model, iter(texts), 20, at_once=7) == select_rows(model, texts, 20)


def test_of_many_rows_the_most_doubtful_are_held(model):
    texts = rows(*(text for text, _ in texts_and_labels(5, 200)))
    whole = select_rows(model, texts, 5)
    held = select_rows(model, texts, 5, at_once=10, least_held=20)
    assert numbers(held)[0] == numbers(whole)[0]
    assert (held.rows, held.doubtful) == (whole.rows, whole.doubtful)


sizes = st.lists(st.lists(st.sampled_from([0, 0.25, 0.5, 1]), min_size=3, max_size=3), min_size=1, max_size=8)


@given(sizes, st.integers(1, 8))
def test_each_is_the_one_that_adds_most(matrix, most):
    doubts, weights = np.array(matrix), np.array([1.0, 2.0, 0.5])
    like = sparse.csr_array(np.eye(len(doubts)))
    chosen = greedy(sparse.csr_array(doubts), weights, like, most)

    def worth(places):
        return float(np.sqrt(doubts[places].sum(axis=0)) @ weights)

    assert len(set(chosen)) == len(chosen) <= most
    for place, one in enumerate(chosen):
        before = chosen[:place]
        others = [worth([*before, other]) for other in range(len(doubts)) if other not in before]
        assert worth([*before, one]) == pytest.approx(max(others))
        assert worth([*before, one]) > worth(before)
    if len(chosen) < min(most, len(doubts)):
        assert worth(list(range(len(doubts)))) == pytest.approx(worth(chosen))


def test_of_two_that_add_as_much_the_one_unlike_the_first_is_next():
    doubts, weights = sparse.csr_array(np.diag([1.0, 0.5, 0.5])), np.ones(3)
    like = sparse.csr_array([[1.0, 0], [0.9, np.sqrt(1 - 0.81)], [0, 1.0]])
    assert greedy(doubts, weights, like, 3) == [0, 2, 1]


def test_texts_are_alike_as_far_as_they_share_words():
    like = likeness(["the parcel is late", "The parcel is LATE", "money back", "", "the money"])
    products = (like @ like.T).toarray()
    assert products[0, 1] == pytest.approx(1)
    assert products[0, 2] == products[3].sum() == 0
    assert 0 < products[0, 4] < products[2, 4] < 1
    assert likeness([]).shape[0] == 0
    assert likeness(["", ""]).shape[0] == 2
