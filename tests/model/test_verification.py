"""Which labels are in doubt, and what an answer makes of a probability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import SHOP

from cascade.model.decide import decide
from cascade.model.descriptions import Doubting
from cascade.model.folder import Manifest
from cascade.model.soundness import check_verification
from cascade.model.verification import (
    MOST_EACH,
    DoubtFinder,
    DoubtfulLabels,
    Verification,
    checked,
    unverified,
    with_labels,
)
from cascade.model.walk import walk
from cascade.taxonomy.definition import Taxonomy

FLAT = Taxonomy.from_dict({"name": "flat", "labels": ["a", "b", "c", "d", "e", "f"]})
BACKEND = {"kind": "prompt", "model": "m"}
PLAIN = Verification(BACKEND, is_used=True, least_doubt=0.1, weights=(0.0, 1.0, 1.0))
THRESHOLDS = dict.fromkeys(FLAT.graph.labels, 0.4)


def walked(taxonomy, scores):
    """The walk of texts with these scores of the root's children."""
    scores = np.array(scores, dtype=np.float32)
    return walk(taxonomy, len(scores), lambda _: {"": scores}, lambda _group, _rows, path: path > 0)


def doubtful(scores, verification=PLAIN, thresholds=THRESHOLDS, least=0.0):
    finder = DoubtFinder(verification, FLAT.graph, thresholds)
    return finder.doubtful(walked(FLAT, scores), lambda part: decide(FLAT, thresholds, part.paths), least)


def shown(found):
    names = FLAT.graph.labels
    return [
        (row, names[label], names[rival] if rival >= 0 else "", round(float(doubt), 4))
        for row, label, rival, doubt in zip(
            found.rows.tolist(), found.labels.tolist(), found.rivals.tolist(), found.doubts, strict=True
        )
    ]


def test_the_doubt_is_what_a_right_answer_saves_and_greatest_at_the_threshold():
    scores = [[0.02, 0.39, 0.41, 0.9, 0.2, 0.99]]
    found = shown(doubtful(scores))
    by_name = {name: doubt for _, name, _, doubt in found}
    assert by_name["b"] == pytest.approx(0.39 * 0.6, abs=1e-4)
    assert by_name["c"] == pytest.approx(0.59 * 0.4, abs=1e-4)
    assert by_name["d"] == pytest.approx(0.1 * 0.4, abs=1e-4)
    # The most doubtful come first, and each is held against its most probable sibling.
    assert [name for _, name, _, _ in found] == ["c", "b", "e", "d", "a", "f"]
    assert {name: rival for _, name, rival, _ in found} == dict.fromkeys("abcde", "f") | {"f": "d"}


@given(st.floats(0, 1), st.floats(0.02, 0.98))
def test_no_doubt_is_above_that_at_the_threshold(probability, threshold):
    thresholds = dict.fromkeys(FLAT.graph.labels, threshold)
    found = doubtful([[probability] * 6], thresholds=thresholds)
    assert (found.doubts <= threshold * (1 - threshold) + 1e-6).all()
    assert len(found) == 6


def test_of_a_text_only_so_many_labels_are_asked_about_and_only_what_is_worth_it():
    found = doubtful([[0.39, 0.38, 0.37, 0.36, 0.35, 0.01], [0.01, 0.39, 0.01, 0.01, 0.01, 0.01]])
    asked = found.asked(0.1)
    assert [name for row, name, _, _ in shown(asked) if row == 0] == ["a", "b", "c", "d"]
    assert [name for row, name, _, _ in shown(asked) if row == 1] == ["b"]
    assert MOST_EACH == 4
    assert not len(found.asked(0.3))


def test_a_sibling_that_was_often_the_right_one_brings_both_into_doubt():
    confused = replace(PLAIN, confused=(("a", "b", 0.5),))
    certain = [[0.95, 0.1, 0.01, 0.01, 0.01, 0.01]]
    assert [name for _, name, _, doubt in shown(doubtful(certain)) if doubt > 0.1] == []
    found = [one for one in shown(doubtful(certain, confused)) if one[3] > 0.1]
    assert found == [(0, "b", "a", 0.3), (0, "a", "b", 0.2)]
    # Where both are chosen nothing was confused.
    both = [[0.95, 0.95, 0.01, 0.01, 0.01, 0.01]]
    assert [one for one in shown(doubtful(both, confused)) if one[3] > 0.1] == []


def test_labels_that_no_row_has_together_bring_each_other_into_doubt():
    apart = replace(PLAIN, apart=(("a", "b"),))
    both = [[0.9, 0.8, 0.01, 0.01, 0.01, 0.01]]
    found = [one for one in shown(doubtful(both, apart)) if one[3] > 0.1]
    # Of odds of 9 and 4, at most one being right, the second is right in 4 of 14 cases.
    assert found == [
        (0, "b", "a", pytest.approx(0.4 * 10 / 14, abs=1e-4)),
        (0, "a", "b", pytest.approx(0.4 * 5 / 14, abs=1e-4)),
    ]
    assert [one for one in shown(doubtful([[0.9, 0.1, 0.01, 0.01, 0.01, 0.01]], apart)) if one[3] > 0.1] == []


def test_labels_whose_answers_count_for_nothing_and_texts_of_which_nothing_is_known_are_not_doubted():
    deaf = replace(PLAIN, label_weights={"a": -1.5, "b": -0.5})
    scores = [[0.4] * 6, [0.4] * 6]
    assert "a" not in {name for _, name, _, _ in shown(doubtful(scores, deaf))}
    assert "b" in {name for _, name, _, _ in shown(doubtful(scores, deaf))}
    silent = replace(walked(FLAT, scores), nothing_known=np.array([True, False]))
    finder = DoubtFinder(PLAIN, FLAT.graph, THRESHOLDS)
    found = finder.doubtful(silent, lambda part: decide(FLAT, THRESHOLDS, part.paths))
    assert set(found.rows.tolist()) == {1}


@given(st.floats(0.01, 0.99), st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.floats(0.1, 3))
def test_a_surer_yes_never_makes_a_label_less_probable(before, one, other, weight):
    low, high = sorted((one, other))
    own = np.array([weight, weight])
    given_ = np.array([before, before], dtype=np.float32)
    after = PLAIN.verified(given_, np.array([low, high], dtype=np.float32), own)
    assert after[0] <= after[1]
    assert ((after >= 0) & (after <= 1)).all()


def test_an_answer_that_could_not_be_read_changes_nothing():
    before = np.array([0.3, 0.3], dtype=np.float32)
    after = PLAIN.verified(before, np.array([np.nan, 0.9], dtype=np.float32), np.ones(2))
    assert after[0] == before[0]
    assert after[1] > 0.7


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_a_walk_is_as_it_was_without_its_second_pass(seed, n_texts):
    taxonomy = Taxonomy.from_dict(SHOP)  # with labels of several parents
    random = np.random.default_rng(seed)

    def score(asked):
        sizes = {group: (len(rows), len(taxonomy.scored_children(group))) for group, rows in asked.items()}
        return {group: random.random(size, dtype=np.float32) for group, size in sizes.items()}

    plain = walk(taxonomy, n_texts, score, lambda _group, _rows, path: path > 0.3)
    thresholds = dict.fromkeys(taxonomy.graph.nodes, 0.3)
    finder = DoubtFinder(PLAIN, taxonomy.graph, thresholds)
    asked = finder.doubtful(plain, lambda part: decide(taxonomy, thresholds, part.paths)).asked(0.05)
    answers = random.random(len(asked), dtype=np.float32)
    found = checked(PLAIN, plain, asked, answers)
    np.testing.assert_array_equal(unverified(found).paths, plain.paths)
    # What was asked about has what came of it, by whichever parents, and all else is as it was.
    changed = found.checked
    expected = plain.paths.copy()
    expected[changed.rows, changed.columns] = changed.after
    np.testing.assert_array_equal(found.paths, expected)
    # So do the parts of a walk.
    rows = np.flatnonzero(random.random(n_texts) < 0.5)
    part = found.of(rows)
    np.testing.assert_array_equal(part.paths, expected[rows])
    np.testing.assert_array_equal(unverified(part).paths, plain.paths[rows])
    again = {rows[row]: before for (row, _), (_, before, _) in part.checked.by_cell().items()}
    assert set(again) == set(changed.rows.tolist()) & set(rows.tolist())


def test_labels_are_changed_where_they_were_visited_and_nowhere_else():
    plain = walked(FLAT, [[0.5] * 6, [0.25] * 6])
    found = with_labels(plain, np.array([1]), np.array([2]), np.array([0.75], dtype=np.float32))
    assert found.paths[1].tolist() == [0.25, 0.25, 0.75, 0.25, 0.25, 0.25]
    assert found.paths[0].tolist() == [0.5] * 6
    assert plain.paths[1].tolist() == [0.25] * 6


def test_what_is_no_verification_is_refused():
    sound = {**vars(replace(PLAIN, confused=(("a", "b", 0.5),), apart=(("c", "d"),)))}
    assert Verification.of({**sound, "confused": [["a", "b", 0.5]], "apart": [["c", "d"]]}).apart == (
        ("c", "d"),
    )
    for wrong in ({"weights": [1, 2]}, {"least_doubt": "x"}, {"is_used": 1}, {"label_weights": {"a": "x"}}):
        with pytest.raises((TypeError, ValueError)):
            Verification.of({**sound, **wrong})


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": {"kind": "prompt", "model": "another"}},
        {"label_weights": {"nobody": 0.5}},
        {"confused": (("a", "nobody", 0.5),)},
        {"apart": (("nobody", "a"),)},
        {"weights": (0.0, float("nan"), 1.0)},
        {"label_weights": {"a": float("inf")}},
        {"least_doubt": 2.0},
    ],
)
def test_a_second_pass_of_another_taxonomy_or_of_impossible_numbers_is_refused(changes):
    asked = Taxonomy.from_dict({**FLAT.to_dict(), "verify": {"backend": BACKEND}})
    check_verification(asked, manifest_with(PLAIN))
    with pytest.raises(ValueError, match=r"taxonomy|expected a number"):
        check_verification(asked, manifest_with(replace(PLAIN, **changes)))
    with pytest.raises(ValueError, match="taxonomy"):
        check_verification(FLAT, manifest_with(PLAIN))


def manifest_with(verification):
    return Manifest({}, FLAT.graph.nodes, {}, THRESHOLDS, {}, (), 0, {}, verification=verification)


def test_a_label_of_two_groups_is_described_where_what_it_is_taken_for_stands():
    taxonomy = Taxonomy.from_dict(
        {
            "name": "two",
            "groups": {
                "first": {"description": "One.", "labels": ["a", "b"]},
                "second": {"description": "Two.", "labels": ["a", "c"]},
            },
        }
    )
    number = {label: place for place, label in enumerate(taxonomy.graph.labels)}
    labels = np.array([number["a"]] * 4 + [number["b"]])
    rivals = np.array([number["b"], number["c"], -1, -1, number["c"]])
    nothing = np.zeros(5)
    asked = DoubtfulLabels(np.zeros(5, np.int64), labels, rivals, nothing.astype(np.float32), nothing)
    found = [(one.label, one.rival, one.description.path) for one in Doubting(taxonomy).of(asked, ["t"])]
    # What stands in no group of the label is not told of.
    assert found == [
        ("a", "b", "first"),
        ("a", "c", "second"),
        ("a", "", "first"),
        ("a", "", "first"),
        ("b", "", "first"),
    ]
