"""What out-of-fold scores settle of how evidence is put together, and of who excludes whom."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cascade.errors import ModelError
from cascade.fitted import Cascade
from cascade.learn.combining import (
    NONE_SHARE,
    exclusive_contests,
    learned_combination,
    row_counts,
    texts_of_cells,
)
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import decide_thresholds
from cascade.learn.fit import fit
from cascade.learn.truth import true_cells
from cascade.model.contests import Contests
from cascade.model.folder import MANIFEST, NODES, read_manifest
from cascade.model.walk import Block, Walked
from cascade.nodes.linear import make
from cascade.predict.look import Look
from cascade.taxonomy.definition import Taxonomy
from cascade.text.texts import Texts
from cascade.validation.calibration import Calibration, sigmoid
from cascade.validation.combination import FEATURES

GROUPS = {
    "delivery": {"labels": ["late", "lost"]},
    "billing": {"labels": ["refund", "charged_twice"]},
}
FACET = {"mood": {"route": "always", "choose": "one", "labels": ["glad", "angry"]}}
WORDS = {
    "late": ["late", "delayed", "waiting"],
    "lost": ["lost", "missing", "vanished"],
    "refund": ["refund", "money", "back"],
    "charged_twice": ["charged", "twice", "double"],
    "glad": ["thanks", "great"],
    "angry": ["terrible", "awful"],
}


def taxonomy(groups=GROUPS, negatives="both"):
    return Taxonomy.from_dict({"name": "t", "defaults": {"negatives": negatives}, "groups": groups})


def rows(n_rows, most=1, nothing=0, seed=0):
    """Texts with words of up to `most` labels each, the last of them with none."""
    random = np.random.default_rng(seed)
    filler = [f"word{number}" for number in range(40)]
    texts, labels = [], []
    names = ["late", "lost", "refund", "charged_twice"]
    for row in range(n_rows):
        own = (
            []
            if row >= n_rows - nothing
            else random.choice(names, random.integers(1, most + 1), replace=False)
        )
        words = [str(random.choice(WORDS[name])) for name in own] + random.choice(filler, 6).tolist()
        texts.append(" ".join(random.permutation(words)))
        labels.append([str(name) for name in own])
    return texts, labels


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    out = tmp_path_factory.mktemp("combined") / "model"
    events = []
    fit(taxonomy(), *rows(600, nothing=12), out, report=events.append)
    return out, events


def truth_of(labels, groups=GROUPS):
    return true_cells(taxonomy(groups).graph, labels)


@pytest.mark.parametrize(("most", "expected"), [(300, 150), (2000, 1000), (3000, 1000)])
def test_rows_are_drawn_by_the_cells_that_are_possible(most, expected):
    """Of 1,000 rows with two labels each in "delivery", and two in "billing" that are all but impossible.

    The group beside the labels of "delivery" is none, however probable.
    """
    groups = {"delivery": {**GROUPS["delivery"], "groups": {"billing": GROUPS["billing"]}}}
    own, rows_of_all, blocks = taxonomy(groups), np.arange(1000), {}
    for group, path in (("delivery", 0.5), ("billing", 1e-5)):
        paths = np.full((1000, len(own.graph.children[group])), path, dtype=np.float32)
        blocks[group] = Block(rows_of_all, np.ones(1000, dtype=np.float32), paths, paths)
    walked = Walked(own.graph, 1000, blocks)
    found = texts_of_cells(Contests(own), walked, most, seed=0)
    assert len(found) == expected
    assert (np.diff(found) > 0).all()


def test_a_sample_of_rows_speaks_for_the_same_combination_as_all():
    own, random = taxonomy(), np.random.default_rng(0)
    names = ["late", "lost", "refund", "charged_twice"]
    labels = [[names[row % 4]] for row in range(8000)]
    blocks = {}
    for group, children in (("delivery", names[:2]), ("billing", names[2:])):
        true = np.array([[name in row for name in children] for row in labels])
        paths, seconds = (
            sigmoid(np.where(true, 1, -1.5) + random.normal(size=true.shape)).astype(np.float32)
            for _ in range(2)
        )
        ones = np.ones(8000, dtype=np.float32)
        blocks[group] = Block(np.arange(8000), ones, paths, paths, seconds)
    walked, truth = Walked(own.graph, 8000, blocks), truth_of(labels)
    every, few = (
        learned_combination(own, truth, walked, np.arange(8000), seed=0, most_cells=most)
        for most in (100_000, 10_000)
    )
    assert every != few
    assert every.weights[2] > 0.5
    np.testing.assert_allclose(few.weights[:3], every.weights[:3], atol=0.2)


def test_rows_without_labels_count_for_a_tenth_of_all():
    labels = [["late"]] * 950 + [[]] * 50
    counts = row_counts(taxonomy().graph, truth_of(labels))
    assert counts[:950].tolist() == [1] * 950
    assert counts[950:].sum() / counts.sum() == pytest.approx(NONE_SHARE, abs=0.01)


@pytest.mark.parametrize(("some", "none", "each"), [(100, 0, 1), (100, 60, 1), (0, 9, 1), (10_000, 3, 10)])
def test_rows_without_labels_count_once_where_there_are_enough_and_never_for_too_many(some, none, each):
    counts = row_counts(taxonomy().graph, truth_of([["late"]] * some + [[]] * none))
    assert counts[some:].tolist() == [each] * none


def test_contests_are_exclusive_where_rows_have_one_label_each():
    one = [["late"], ["refund"], []] * 50
    assert exclusive_contests(taxonomy(), truth_of(one)) == ("",)
    assert exclusive_contests(taxonomy(), truth_of([*one, *[["late", "refund"]] * 5])) == ()
    assert exclusive_contests(taxonomy(), truth_of(one[:60])) == ()


def test_a_facet_is_a_contest_of_its_own_and_choose_says_enough_of_it():
    groups = GROUPS | FACET
    both = [["late", "glad"], ["refund", "angry"]] * 60
    assert exclusive_contests(taxonomy(groups), truth_of(both, groups)) == ("",)
    free = GROUPS | {"mood": {"route": "always", "labels": ["glad", "angry"]}}
    assert exclusive_contests(taxonomy(free), truth_of(both, free)) == ("", "mood")


def test_what_is_learned_stands_in_the_manifest_and_loads_again(model):
    out, _ = model
    manifest = read_manifest(out)
    assert set(manifest.combination["weights"]) == set(FEATURES)
    assert all(weight >= 0 for weight in manifest.combination["weights"].values())
    assert manifest.exclusive == ("",)
    seconds = [record.second for name, record in manifest.groups.items() if name]
    assert all(second is not None and second.node != manifest.groups[""].node for second in seconds)
    assert {path.name for path in (out / NODES).iterdir()} == {
        node for record in manifest.groups.values() for node in record.nodes
    }
    loaded = Cascade.load(out)
    assert loaded.predict(["the parcel is delayed", "I was charged double"]) == [["late"], ["charged_twice"]]


def test_one_label_at_most_is_answered_where_no_row_has_two_and_that_is_said(model):
    out, events = model
    told = [event.detail for event in events if event.kind == "noted"]
    assert "no row has two labels, so at most one is answered" in told
    answers = Cascade.load(out).predict(["delayed and charged twice", "lost, and I want a refund"])
    assert [len(answer) for answer in answers] == [1, 1]


def test_second_models_are_told_of(model):
    told = [(event.group, event.detail) for event in model[1] if event.kind == "noted"]
    for group in GROUPS:
        assert any(name == group and detail.startswith("second model fitted (") for name, detail in told)


def test_where_rows_have_several_labels_several_are_answered(tmp_path):
    fit(taxonomy(), *rows(600, most=2), tmp_path / "model")
    loaded = Cascade.load(tmp_path / "model")
    assert loaded.manifest.exclusive == ()
    assert set(loaded.predict(["it is late and lost"])[0]) == {"late", "lost"}


def test_probabilities_are_above_their_paths_where_other_evidence_says_so(model):
    out, _ = model
    walked = Cascade.load(out).walk(rows(200, seed=5)[0])
    labels = slice(-4, None)
    changed = np.abs(walked.paths[:, labels] - walked.before.paths[:, labels])
    assert np.nanmax(changed) > 0.01
    np.testing.assert_array_equal(np.isnan(walked.paths), np.isnan(walked.before.paths))


def test_a_second_model_that_was_changed_is_refused(model, tmp_path):
    import shutil

    shutil.copytree(model[0], tmp_path / "model")
    second = read_manifest(tmp_path / "model").groups["delivery"].second
    (tmp_path / "model" / NODES / second.node / "biases.npy").write_bytes(b"")
    with pytest.raises(ModelError, match="changed since it was written"):
        Cascade.load(tmp_path / "model")


@pytest.mark.parametrize("broken", [{"weights": {}}, "much", 3, {"weights": None}])
def test_a_manifest_with_another_combination_is_refused(model, tmp_path, broken):
    import shutil

    from cascade.system.serialization import checksummed

    shutil.copytree(model[0], tmp_path / "model")
    path = tmp_path / "model" / MANIFEST
    content = json.loads(path.read_bytes())
    content = content.get("content", content)
    content.pop("checksum", None)
    path.write_bytes(checksummed({**content, "combination": broken}))
    with pytest.raises(ModelError, match="cascade fit"):
        Cascade.load(tmp_path / "model")


def test_a_model_without_a_combination_answers_by_its_paths(model, tmp_path):
    from dataclasses import replace

    loaded = Cascade.load(model[0])
    nodes = {group: loaded.node(group) for group in loaded.manifest.groups}
    plain = Look(loaded.taxonomy, replace(loaded.manifest, combination=None), nodes, {})
    walked = plain.walk(Texts(["the parcel is delayed"]))
    assert walked.before is None
    found = loaded.walk(["the parcel is delayed"]).before
    np.testing.assert_array_equal(walked.paths, found.paths)


def test_second_scores_are_those_of_the_second_model(model):
    out, _ = model
    texts = rows(50, seed=7)[0]
    found = Cascade.load(out).walk(texts)
    for group in ("delivery", "billing"):
        second, block = read_manifest(out).groups[group].second, found.blocks[group]
        scores = make().load(out / NODES / second.node).scores(Texts(texts).take(block.rows))
        expected = Calibration(np.array(second.slopes), np.array(second.offsets)).apply(scores)
        np.testing.assert_allclose(block.seconds, expected, rtol=1e-5)
        assert np.ptp(expected) > 0.1


def decided(scores, labels, exclusive=()):
    """What is settled for labels `a` and `b` at these probabilities, a row for each text."""
    flat = Taxonomy.from_dict({"name": "t", "labels": ["a", "b"]})
    dataset = Dataset.make(flat, [f"text {row}" for row in range(len(labels))], labels)
    every, paths = np.arange(len(labels)), np.array(scores, dtype=np.float32)
    block = Block(every, np.ones(len(labels), dtype=np.float32), paths, paths)
    walked = Walked(flat.graph, len(labels), {"": block})
    return decide_thresholds(dataset, every, walked, exclusive, seed=0)


def test_thresholds_are_higher_where_the_few_rows_without_labels_stand_for_many():
    # From .3 to .32 lie 18 rows of `a` and 12 others: enough as they are, not if these count for more.
    scores = [[score, 0.01] for score in [*np.linspace(0.3, 0.95, 600), *np.linspace(0.3, 0.32, 12)]]
    nothing = decided(scores, [["a"]] * 600 + [[]] * 12).thresholds["a"]
    named = decided(scores, [["a"]] * 600 + [["b"]] * 12).thresholds["a"]
    assert named < 0.31 < nothing


def test_thresholds_of_exclusive_labels_do_not_see_what_comes_second():
    scores, labels = [[0.9, 0.8]] * 50 + [[0.1, 0.7]] * 50, [["a"]] * 50 + [["b"]] * 50
    assert decided(scores, labels, [""]).metrics["micro_f1"] == 1
    assert decided(scores, labels).metrics["micro_f1"] < 0.9
