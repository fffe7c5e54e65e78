"""Who competes with whom, who leads, and what becomes of paths when all evidence is put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.model.combine import SLICE, Combiner, features_of
from cascade.model.contests import Contests, contest_of
from cascade.model.decide import contenders, contending, decide
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy
from cascade.validation.combination import FEATURES, Combination

TAXONOMY = Taxonomy.from_dict(
    {
        "name": "shop",
        "groups": {
            "delivery": {"labels": ["late", "lost", "refund_late"]},
            "billing": {"labels": ["charged_twice", "refund_late"]},
            "mood": {"route": "always", "labels": ["glad", "angry"]},
        },
    }
)
GRAPH = TAXONOMY.graph


def walked(scores):
    """A walk of texts whose conditional scores are given for every edge, all groups entered above .1."""
    n_texts = len(next(iter(scores.values())))

    def score(asked):
        return {group: scores[group][rows] for group, rows in asked.items()}

    return walk(TAXONOMY, n_texts, score, lambda group, rows, path: path >= 0.1)


@st.composite
def walks(draw):
    n_texts = draw(st.integers(1, 5))
    numbers = st.floats(0.015625, 0.984375, width=32)

    def table(columns):
        rows = draw(
            st.lists(
                st.lists(numbers, min_size=columns, max_size=columns), min_size=n_texts, max_size=n_texts
            )
        )
        return np.array(rows, dtype=np.float32).reshape(n_texts, columns)

    return walked({group: table(len(TAXONOMY.scored_children(group))) for group in GRAPH.groups})


def seconds_of(found, seed=0):
    random = np.random.default_rng(seed)
    return {
        group: random.uniform(
            0.01, 0.99, (len(found.blocks[group].rows), len(TAXONOMY.scored_children(group)))
        ).astype(np.float32)
        for group in ("delivery", "mood")
        if group in found.blocks
    }


LEARNED = Combination((0.5, 0.1, 0.4, 0.2, 0.1), 0.3, ((-4.0, -3.0), (0.0, 0.5), (3.0, 2.5)))


def test_what_is_always_asked_is_a_contest_of_its_own():
    assert contest_of(TAXONOMY) == {
        "late": "", "lost": "", "refund_late": "", "charged_twice": "", "glad": "mood", "angry": "mood"
    }  # fmt: skip


@settings(deadline=None)
@given(walks())
def test_distances_are_those_to_the_best_other_label_of_the_contest(found):
    contests = Contests(TAXONOMY)
    cells = contests.cells(found)
    values = cells.of({group: block.paths for group, block in found.blocks.items()})
    behind, leads = cells.behind(values, nothing=0.0), cells.leads(values)
    names, of_label = GRAPH.labels, contest_of(TAXONOMY)
    texts = cells.contests // len(contests.names)
    for cell, (text, label, value) in enumerate(zip(texts, cells.labels, values, strict=True)):
        others = [
            other
            for at, other in enumerate(values)
            if texts[at] == text
            and cells.labels[at] != label
            and of_label[names[cells.labels[at]]] == of_label[names[label]]
        ]
        assert behind[cell] == min(value - max([*others, np.float32(0)]), 0)
        if leads[cell]:
            assert value >= max([*others, np.float32(0)])
    for contest in np.unique(cells.contests):
        leaders = {int(label) for label in cells.labels[(cells.contests == contest) & leads]}
        assert len(leaders) == 1


@settings(deadline=None)
@given(walks())
def test_only_one_label_of_an_exclusive_contest_contends(found):
    dense = contenders(TAXONOMY, found.paths, [""])
    topics = [GRAPH.column[label] for label, contest in contest_of(TAXONOMY).items() if not contest]
    moods = [GRAPH.column[label] for label in ("glad", "angry")]
    assert ((~np.isnan(dense[:, topics])).sum(axis=1) <= 1).all()
    np.testing.assert_array_equal(np.isnan(dense[:, moods]), np.isnan(found.paths[:, moods]))
    np.testing.assert_array_equal(contending(TAXONOMY, found, [""]).paths[:, topics], dense[:, topics])
    best = np.nanmax(np.where(np.isnan(found.paths[:, topics]), -1, found.paths[:, topics]), axis=1)
    kept = np.nanmax(np.where(np.isnan(dense[:, topics]), -1, dense[:, topics]), axis=1)
    np.testing.assert_array_equal(best, kept)
    chosen = decide(TAXONOMY, dict.fromkeys(GRAPH.labels, 0.0), found.paths, [""])
    assert (chosen[:, topics].sum(axis=1) <= 1).all()


@settings(deadline=None)
@given(walks())
def test_what_was_visited_stays_so_and_no_label_is_above_its_groups(found):
    combiner = Combiner(TAXONOMY, LEARNED)
    combined = combiner.combined(combiner.with_seconds(found, seconds_of(found)))
    np.testing.assert_array_equal(np.isnan(combined.paths), np.isnan(found.paths))
    np.testing.assert_array_equal(combined.before.paths, found.paths)
    for group in GRAPH.groups[1:]:
        for child in GRAPH.children[group]:
            child_paths = combined.paths[:, GRAPH.column[child]]
            parents = np.nanmax(
                np.stack(
                    [np.nan_to_num(combined.paths[:, GRAPH.column[name]]) for name in GRAPH.parents[child]]
                ),
                axis=0,
            )
            assert not (child_paths > parents).any()


@settings(deadline=None)
@given(walks())
def test_a_label_of_two_parents_is_as_probable_by_both(found):
    combined = Combiner(TAXONOMY, LEARNED).combined(found)
    if "delivery" in combined.blocks and "billing" in combined.blocks:
        delivery, billing = combined.blocks["delivery"], combined.blocks["billing"]
        both = np.intersect1d(delivery.rows, billing.rows)
        one = delivery.paths[np.searchsorted(delivery.rows, both), 2]
        other = billing.paths[np.searchsorted(billing.rows, both), 1]
        np.testing.assert_array_equal(one, other)


@settings(deadline=None)
@given(walks())
def test_texts_are_combined_as_one_by_one(found):
    combiner = Combiner(TAXONOMY, LEARNED)
    found = combiner.with_seconds(found, seconds_of(found))
    together = combiner.combined(found).paths
    for text in range(found.n_texts):
        alone = combiner.combined(found.of(np.array([text]))).paths
        np.testing.assert_array_equal(alone[0], together[text])


@pytest.mark.parametrize("threads", [1, 3])
def test_many_texts_are_combined_as_few(threads):
    n_texts, random = 2 * SLICE + 7, np.random.default_rng(0)
    sizes = {group: len(TAXONOMY.scored_children(group)) for group in GRAPH.groups}
    tables = {
        group: random.uniform(0.02, 0.98, (n_texts, size)).astype(np.float32) for group, size in sizes.items()
    }
    tables[""][:-5, 1] = 0.01  # no text of the first slices enters this group
    found = walked(tables)
    combiner = Combiner(TAXONOMY, LEARNED)
    found = combiner.with_seconds(found, seconds_of(found))
    together = combiner.combined(found, threads)
    assert together.before is found
    for start in range(0, n_texts, SLICE // 2):
        rows = np.arange(start, min(start + SLICE // 2, n_texts))
        np.testing.assert_array_equal(combiner.combined(found.of(rows)).paths, together.paths[rows])


def test_without_a_second_model_the_path_stands_in_for_it():
    rows = {"": [[0.9, 0.2]], "delivery": [[0.8, 0.3, 0.1]], "billing": [[0.5, 0.6]], "mood": [[0.7, 0.2]]}
    found = walked({group: np.array(own, dtype=np.float32) for group, own in rows.items()})
    cells = Contests(TAXONOMY).cells(found)
    features = features_of(found, cells)
    assert features.shape == (len(cells), len(FEATURES))
    np.testing.assert_array_equal(features[:, 0], features[:, 2])
    np.testing.assert_array_equal(features[:, 3], features[:, 4])
    second = Combiner(TAXONOMY, LEARNED).with_seconds(found, {"delivery": np.array([[0.5, 0.5, 0.5]])})
    changed = features_of(second, Contests(TAXONOMY).cells(second))
    assert (changed[:3, 2] == 0).all()
    np.testing.assert_array_equal(changed[3:, 2], features[3:, 2])


@pytest.mark.parametrize("choose", ["one", "many"])
def test_a_group_that_chooses_one_takes_the_most_probable_by_all_evidence(choose):
    taxonomy = Taxonomy.from_dict({"name": "t", "groups": {"g": {"choose": choose, "labels": ["a", "b"]}}})

    def score(asked):
        return {
            group: np.array([[0.9]] if group == "" else [[0.6, 0.5]], dtype=np.float32) for group in asked
        }

    found = walk(taxonomy, 1, score, lambda group, rows, path: path > 0)
    combiner = Combiner(taxonomy, Combination((0.2, 0.0, 0.8, 0.0, 0.0)))
    combined = combiner.combined(
        combiner.with_seconds(found, {"g": np.array([[0.1, 0.9]], dtype=np.float32)})
    )
    chosen = decide(taxonomy, {"a": 0.1, "b": 0.1}, combined.paths)
    assert chosen[0, taxonomy.graph.column["b"]]
    assert chosen[0, taxonomy.graph.column["a"]] == (choose == "many")
