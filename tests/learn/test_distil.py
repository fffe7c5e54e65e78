"""What a student learns from labelled rows and from a teacher's probabilities."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import shop_rows

from cascade.errors import BackendError, DataError
from cascade.fitted import Cascade
from cascade.learn.datasets import Dataset
from cascade.learn.distil import COPIES, Lessons, TaughtText, copies, distil, new_texts, student_taxonomy
from cascade.learn.fit import fit_out_of_fold
from cascade.taxonomy.definition import Taxonomy

PROBABILITIES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1))


def certain(taxonomy, text, names):
    """What a teacher says that is sure of these names."""
    closed = taxonomy.graph.closure(names)
    return TaughtText(text, tuple(names), dict.fromkeys(closed, 1.0))


@given(PROBABILITIES)
def test_a_name_stands_in_as_many_copies_as_its_probability_says(probabilities):
    found = list(copies(probabilities))
    assert sum(weight for _, weight in found) == pytest.approx(1)
    for name, value in probabilities.items():
        share = sum(weight for names, weight in found if name in names)
        assert abs(share - value) <= 1 / (2 * COPIES) + 1e-9


@given(PROBABILITIES)
def test_no_copy_has_a_name_without_all_that_are_likelier(probabilities):
    for names, _ in copies(probabilities):
        least = min((probabilities[name] for name in names), default=2.0)
        assert all(name in names for name, value in probabilities.items() if value > least)


def test_what_a_teacher_is_sure_of_is_one_row():
    assert list(copies({"refund": 0.99, "late": 0.01})) == [(["refund"], 1.0)]
    assert list(copies({})) == [([], 1.0)]


def test_a_text_that_equals_a_labelled_row_or_another_text_is_none_of_the_new_ones():
    known = ["where is my refund", "it came late"]
    texts = ["It came  late", "a new one", "where is my order", "A NEW one"]
    assert new_texts(known, texts).tolist() == [1, 2]
    assert new_texts([], texts).tolist() == [0, 1, 2]
    long = [f"word{number}" for number in range(24)]
    changed = [*long[:-1], "came"]
    assert new_texts([" ".join(long)], [" ".join(changed)]).tolist() == []


def test_a_student_has_the_groups_of_its_teacher_and_embedded_models():
    asked = Taxonomy.from_dict(
        {
            "name": "shop",
            "escalate": ["words", "prompt"],
            "verify": {"backend": {"kind": "prompt", "model": "gpt-4.1"}},
            "defaults": {"backend": {"kind": "prompt", "model": "gpt-4.1"}},
            "groups": {"billing": {"labels": ["refund", "invoice"], "choose": "one"}},
        }
    )
    found = student_taxonomy(asked, "words")
    assert found.graph.nodes == asked.graph.nodes
    assert found.groups["billing"].choose == "one"
    assert {group.backend.kind for group in found.groups.values()} == {"linear"}
    assert (found.escalate, found.verify) == ((), None)  # it asks nobody
    assert student_taxonomy(asked, "minilm").groups["billing"].backend.options == {"encoder": "minilm"}
    with pytest.raises(BackendError, match="--student no name"):
        student_taxonomy(asked, "no name")


# The data set


def test_no_labelled_row_and_nothing_nearly_equal_to_one_is_told_by_the_teacher(shop):
    row = shop.texts[0]
    taught = [certain(shop.taxonomy, row.upper(), ["refund"]), certain(shop.taxonomy, "quite another", [])]
    dataset = Lessons(shop.taxonomy, shop.texts, shop.labels, taught).dataset()
    assert list(dataset.texts)[len(shop.texts) :] == ["quite another"]
    assert dataset.extra.tolist() == [False] * len(shop.texts) + [True]


def test_a_group_that_is_likelier_than_its_labels_has_rows_without_them(shop):
    said = TaughtText("hm", (), {"billing": 0.75, "refund": 0.25})
    dataset = Lessons(shop.taxonomy, shop.texts, shop.labels, [said]).dataset()
    first, column = len(shop.texts), shop.taxonomy.graph.column
    for name, share in (("billing", 0.75), ("refund", 0.25), ("late", 0)):
        rows = dataset.truth.has(column[name])[first:]
        assert (rows * dataset.weights[first:]).sum() == pytest.approx(share)
    # That such a row has none of the labels is known, not open.
    assert dataset.taught("billing")[first:].all()


def test_a_labelled_row_that_names_a_group_alone_still_tells_nothing_of_its_labels(shop):
    texts, labels = [*shop.texts, "about money"], [*shop.labels, ["billing"]]
    said = TaughtText("hm", (), {"billing": 1.0})
    dataset = Lessons(shop.taxonomy, texts, labels, [said]).dataset()
    assert dataset.taught("billing").tolist() == [True] * len(shop.texts) + [False, True]


# The model


@pytest.fixture(scope="module")
def lessons(shop):
    """Twenty labelled rows, and a teacher that is right of many texts."""
    texts, labels = shop_rows(400, seed=5)
    taught = [certain(shop.taxonomy, text, names) for text, names in zip(texts, labels, strict=True)]
    return Lessons(student_taxonomy(shop.taxonomy, "words"), shop.texts[:20], shop.labels[:20], taught)


def micro_f1(folder):
    return Cascade.load(folder).evaluate(*shop_rows(200, seed=9)).micro_f1


def test_a_student_with_texts_knows_more_than_one_without(lessons, tmp_path):
    found = distil(lessons, tmp_path / "with", teacher={"teacher": "abc"})
    distil(replace(lessons, taught=[]), tmp_path / "without", teacher={})
    assert micro_f1(tmp_path / "with") > micro_f1(tmp_path / "without") + 0.05
    assert found.rows.tolist() == list(range(20))
    assert found.manifest.metrics["rows"] == 20
    told = json.loads((tmp_path / "with" / "manifest.json").read_text("utf-8"))["metrics"]["distilled"]
    assert told == {"teacher": "abc", "rows": 20, "texts": len(lessons.taught), "settled_by": "rows"}


def test_the_same_lessons_give_the_same_model(lessons, tmp_path):
    for name, jobs in (("one", 1), ("two", 2)):
        distil(lessons, tmp_path / name, teacher={}, jobs=jobs)
    digests = {Cascade.load(tmp_path / name).digest for name in ("one", "two")}
    assert len(digests) == 1


def test_without_labelled_rows_the_teacher_settles_thresholds_and_the_model_says_so(lessons, tmp_path):
    alone = replace(lessons, texts=[], labels=[])
    found = distil(alone, tmp_path / "model", teacher={}, is_calibrated=False)
    assert found.manifest.metrics["distilled"]["settled_by"] == "teacher"
    assert not Cascade.load(tmp_path / "model").manifest.is_calibrated
    assert micro_f1(tmp_path / "model") > 0.9
    assert distil(alone, tmp_path / "model", teacher={}).manifest.is_calibrated


def test_nothing_to_learn_is_told(shop, tmp_path):
    empty = Lessons(shop.taxonomy, [], [], [TaughtText("hello", (), {})])
    with pytest.raises(DataError, match="none with a label"):
        distil(empty, tmp_path / "model", teacher={})


def test_rows_of_a_group_count_what_their_copies_count(shop, tmp_path):
    texts, _ = shop_rows(60, seed=5)
    said = [TaughtText(text, (), {"delivery": 0.5, "late": 0.5}) for text in dict.fromkeys(texts)]
    lessons = Lessons(student_taxonomy(shop.taxonomy, "words"), shop.texts, shop.labels, said)
    unlike = len(new_texts(shop.texts, [one.text for one in said]))
    found = distil(lessons, tmp_path / "model", teacher={}).manifest.groups["delivery"]
    own = [names for names in shop.labels if {"late", "broken"} & {*names}]
    assert found.rows == len(own) + np.rint(unlike / 2)


def test_second_models_are_heard_at_the_rows_that_are_scored(tmp_path):
    """Rows of a teacher come first here, so that a row that is scored has another number among all rows."""
    texts, labels = shop_rows(300, seed=4)
    taxonomy = Taxonomy.from_dict(
        {
            "name": "shop",
            "defaults": {"negatives": "both"},
            "groups": {"one": {"labels": sorted({name for names in labels for name in names})}},
        }
    )
    extra = np.arange(300) < 180
    dataset = replace(Dataset.make(taxonomy, texts, labels), extra=extra)
    found = fit_out_of_fold(dataset, tmp_path / "model")
    assert found.rows.tolist() == list(range(180, 300))
    block = found.walked.blocks["one"]
    truth = dataset.targets("one")[found.rows[block.rows]]
    assert ((block.seconds > 0.5) == truth).mean() > 0.9
