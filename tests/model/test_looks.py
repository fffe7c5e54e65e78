"""Two looks at one batch: what makes the first doubt, and the walk of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import SHOP

from cascade.model.decide import decide
from cascade.model.looks import doubts_of, joined
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy

# A graph with labels and groups of several parents, and a group that is always visited.
TAXONOMY = Taxonomy.from_dict(SHOP)
LABELS = len(TAXONOMY.graph.labels)
THRESHOLDS = dict.fromkeys(TAXONOMY.graph.nodes, 0.3)


def walked_of(n_texts, seed):
    """A walk of random scores, as it is combined: with second scores, what it was before, and more."""
    random = np.random.default_rng(seed)

    def score(asked):
        sizes = {group: (len(rows), len(TAXONOMY.scored_children(group))) for group, rows in asked.items()}
        return {group: random.random(size, dtype=np.float32) for group, size in sizes.items()}

    plain = walk(TAXONOMY, n_texts, score, lambda _group, _rows, path: path > 0.3)
    blocks = {
        group: replace(block, seconds=random.random(block.paths.shape, dtype=np.float32))
        if group in ("", "billing")
        else block
        for group, block in plain.blocks.items()
    }
    before = replace(plain, blocks=blocks)
    halves = {group: block.paths / 2 for group, block in blocks.items()}
    found = before.with_paths(halves, before=before)
    failed = {row: f"row {row}" for row in range(0, n_texts, 5)}
    return replace(found, failed=failed, nothing_known=random.random(n_texts) < 0.2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.data())
def test_parts_of_a_walk_are_joined_to_the_whole(seed, n_texts, data):
    whole = walked_of(n_texts, seed)
    places = st.integers(0, 2)
    by_look = np.array(data.draw(st.lists(places, min_size=n_texts, max_size=n_texts)), dtype=np.int8)
    found = joined(by_look, [whole.of(np.flatnonzero(by_look == look)) for look in range(3)])
    for name in ("paths", "conditionals", "seconds", "nothing_known"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    np.testing.assert_array_equal(found.before.paths, whole.before.paths)
    assert found.failed == whole.failed
    assert list(found.answered_by) == list(by_look)
    assert list(found.by_first) == list(by_look == 0)
    for name in TAXONOMY.graph.nodes:
        for mine, expected in zip(found.node(name), whole.node(name), strict=True):
            np.testing.assert_array_equal(mine, expected)
    # Parents come first, as in any walk.
    order = {group: place for place, group in enumerate(found.blocks)}
    parents = TAXONOMY.graph.parents
    assert all(
        order[one] < order[group] for group in order if group for one in parents[group] if one in order
    )


def test_what_only_one_walk_has_is_missing_for_the_texts_of_the_other():
    one, other = walked_of(4, seed=1), walked_of(4, seed=2)
    bare = replace(
        other,
        blocks={group: replace(block, seconds=None) for group, block in other.blocks.items()},
        before=None,
        nothing_known=None,
        failed={},
    )
    by_look = np.array([0, 1] * 4, dtype=np.int8)
    found = joined(by_look, [one, bare])
    assert np.isnan(found.seconds[1::2]).all()
    np.testing.assert_array_equal(found.seconds[::2], one.seconds)
    np.testing.assert_array_equal(found.before.paths[1::2], bare.paths)
    assert not found.nothing_known[1::2].any()
    assert joined(by_look, [bare, bare]).before is None
    assert joined(by_look, [bare, bare]).nothing_known is None


# Doubt


def decided(walked):
    return decide(TAXONOMY, THRESHOLDS, walked.paths)


def test_doubt_is_the_number_of_labels_that_are_expected_to_be_wrong():
    walked = replace(walked_of(50, seed=3), nothing_known=None)
    paths, chosen = walked.paths[:, -LABELS:], decided(walked)[:, -LABELS:]
    wrong = np.nansum(np.where(chosen, 1 - paths.astype(np.float64), paths), axis=1)
    some = chosen.any(axis=1)
    assert 0 < some.sum() < 50
    np.testing.assert_allclose(doubts_of(walked, decided), np.where(some, wrong, np.inf), rtol=1e-6)


def test_a_text_without_an_answer_or_of_which_nothing_is_known_is_doubted_without_end():
    walked = walked_of(50, seed=3)
    doubts, some = doubts_of(walked, decided), decided(walked).any(axis=1)
    assert (walked.nothing_known & some).any()
    np.testing.assert_array_equal(np.isinf(doubts), walked.nothing_known | ~some)


def test_a_text_is_doubted_alike_in_any_company():
    walked = walked_of(4100, seed=4)
    doubts = doubts_of(walked, decided)
    for row in (0, 1, 1999, 2000, 4099):
        assert doubts_of(walked.of(np.array([row])), decided)[0] == doubts[row]


# Of two moods that are certain only one can be chosen: so much is wrong in any case.
@pytest.mark.parametrize(("sure", "expected"), [(0.0, np.inf), (1.0, 1.0)])
def test_who_is_certain_of_every_label_doubts_only_what_cannot_be(sure, expected):
    whole = walk(
        TAXONOMY,
        1,
        lambda asked: {
            group: np.full((1, len(TAXONOMY.scored_children(group))), sure, np.float32) for group in asked
        },
        lambda _group, _rows, path: path > 0,
    )
    [doubt] = doubts_of(whole, decided)
    assert doubt == expected
