"""What handing on more or fewer questions of a group wins, and what is written of that."""

from __future__ import annotations

import itertools
import json
import subprocess

import numpy as np
import pytest
from processes import command, environment
from tiny_encoders import MEANINGS, onnx_folder, rare_words, rows_of

from cascade import Cascade
from cascade.encoders import fetching
from cascade.errors import DataError, ModelError
from cascade.learn.fit import fit
from cascade.learn.truth import true_cells
from cascade.measure.group_tuning import group_tuning_curve, set_group_doubts
from cascade.measure.tuning import cheapest, nearest
from cascade.model.folder import MANIFEST, read_manifest
from cascade.nodes.contract import RowsError
from cascade.system.serialization import checksummed
from cascade.taxonomy.definition import Taxonomy
from cascade.text.texts import Texts

KNOWN = {name: words[:2] for name, words in MEANINGS.items()}
# Of many words each stands in hardly any row: only their vectors tell what they mean.
RARE = rare_words(150)
LEARNED = {name: words[:100] for name, words in RARE.items()}
NEW = {name: words[100:] for name, words in RARE.items()}
BOTH = {name: [*words, *RARE[name]] for name, words in MEANINGS.items()}
ENCODED = {"kind": "linear", "encoder": "tiny"}
TAXONOMY = {
    "name": "tickets",
    "defaults": {"backend": "linear"},
    "groups": {
        "things": {"labels": ["money", "post"], "backend": ENCODED, "escalate": ["words", "encoder"]},
        "moods": {"labels": ["angry", "sun"]},
    },
}


def training_rows(count=2500):
    """Rows of well known words, and among them some of rare ones."""
    parts = [rows_of(words, count, seed=seed) for words, seed in ((KNOWN, 0), (LEARNED, 3))]
    pairs = [list(zip(*part, strict=True)) for part in parts]
    rows = [pairs[number % 10 == 0][number] for number in range(count)]
    return [text for text, _ in rows], [own for _, own in rows]


def rows_to_tune_with(count=60):
    """Texts of things, every other one of words that no model has learned."""
    parts = [
        rows_of({name: words[name] for name in ("money", "post")}, count, seed=7) for words in (KNOWN, NEW)
    ]
    return [[one for pair in zip(*both, strict=True) for one in pair] for both in zip(*parts, strict=True)]


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory):
    fetching.add(onnx_folder(tmp_path_factory.mktemp("tiny"), meanings=BOTH), "tiny")
    place = tmp_path_factory.mktemp("tuned") / "model"
    fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), place)
    return place


@pytest.fixture
def copied(folder, tmp_path):
    Cascade.load(folder).save(tmp_path / "copy")
    return tmp_path / "copy"


def handed_on(model, texts):
    """Of the texts that enter the group the share that its last tier answers."""
    rows = model.walk(texts).blocks["things"].rows
    return np.mean(model.node("things").answered_by(Texts(texts).take(rows)) == 1)


def micro_f1(found, truth):
    hits = sum(len(set(own) & set(true)) for own, true in zip(found, truth, strict=True))
    return 2 * hits / (sum(map(len, found)) + sum(map(len, truth)))


def test_a_curve_tells_what_handing_on_the_questions_of_a_group_wins(folder):
    texts, labels = rows_to_tune_with()
    model = Cascade.load(folder)
    curve = model.tuning_curve(texts, labels)
    shares = [point.share for point in curve.points]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    # At the least those are handed on of which nothing is found.
    rows = model.walk(texts).blocks["things"].rows
    nothing = np.isinf(model.node("things").doubts(Texts(texts).take(rows)))
    assert nothing.mean() < 0.9
    assert shares[0] == pytest.approx(nothing.mean())
    assert curve.now == pytest.approx(handed_on(model, texts))
    assert curve.points[-1].micro_f1 > curve.points[0].micro_f1
    assert [point.seconds for point in curve.points] == sorted(point.seconds for point in curve.points)
    for one, more in itertools.pairwise(curve.points):
        assert one.doubts["things"] >= more.doubts["things"]
        assert one.tiers["things"]["encoder"] < more.tiers["things"]["encoder"]


def test_what_was_chosen_is_what_the_model_does_then(folder, copied):
    texts, labels = rows_to_tune_with()
    model = Cascade.load(copied)
    curve = model.tuning_curve(texts, labels)
    for point in (curve.points[0], cheapest(curve.points, curve.points[-1].micro_f1), curve.points[-1]):
        set_group_doubts(copied, read_manifest(copied), point)
        tuned = Cascade.load(copied)
        assert handed_on(tuned, texts) == pytest.approx(point.share)
        assert micro_f1(tuned.predict(texts), labels) == pytest.approx(point.micro_f1)
        assert tuned.manifest.groups["things"].notes["tiers"] == point.tiers["things"]
        assert "lost" not in tuned.manifest.groups["things"].notes  # that was said of where the fit hands on
    with pytest.raises(ModelError, match="another model was written here"):
        set_group_doubts(copied, model.manifest, curve.points[0])


def test_the_next_fit_settles_it_anew(folder, copied):
    texts, labels = rows_to_tune_with()
    before = read_manifest(copied)
    points = Cascade.load(copied).tuning_curve(texts, labels).points
    assert set_group_doubts(copied, before, points[-1]) != before
    assert fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), copied) == before


@pytest.mark.parametrize("doubt", ["much", None, True, [1]])
def test_a_folder_with_a_doubt_that_is_none_is_refused(copied, doubt):
    told = json.loads((copied / MANIFEST).read_bytes())
    told["groups"]["things"]["notes"]["doubt"] = doubt
    (copied / MANIFEST).write_bytes(
        checksummed({name: one for name, one in told.items() if name != "sha256"})
    )
    with pytest.raises(ModelError, match=r"expected tiers, and a number for doubt.*cascade fit"):
        Cascade.load(copied)


def test_the_command_prints_the_curve_and_writes_what_was_chosen(copied, tmp_path):
    texts, labels = rows_to_tune_with(30)
    rows = [json.dumps({"text": text, "labels": own}) + "\n" for text, own in zip(texts, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(rows), "utf-8")

    def tune(*words, code=0):
        told = command("tune", "rows.jsonl", "--model", "copy", *words)
        done = subprocess.run(
            told, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    before = (copied / MANIFEST).read_bytes()
    shown = tune()
    assert "100%" in shown.stdout
    assert "of the questions of groups with tiers as it is" in shown.stderr
    assert (copied / MANIFEST).read_bytes() == before
    found = json.loads(tune("--share", "1", "--json").stdout)
    assert found["chosen"]["share"] == 1.0
    told = tune("--share", "1")
    assert "hands on 100% of such questions at things now" in told.stderr
    assert (
        Cascade.load(copied).manifest.groups["things"].notes["doubt"] == found["chosen"]["doubts"]["things"]
    )


def test_without_tiers_that_are_used_there_is_nothing_to_tune(home, tmp_path):
    plain = {
        **TAXONOMY,
        "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
    }
    fit(Taxonomy.from_dict(plain), *training_rows(200), tmp_path / "model")
    with pytest.raises(DataError, match="no group that uses several tiers"):
        Cascade.load(tmp_path / "model").tuning_curve(["a"], [[]])


def test_the_point_with_the_fewest_questions_is_there_for_a_share_of_none(folder):
    points = Cascade.load(folder).tuning_curve(*rows_to_tune_with(30)).points
    assert nearest(points, 0.0) == points[0]


class Failing:
    """A model that has no answer for texts with a word, and notes what it is asked about."""

    def __init__(self, model, word):
        self.model, self.word, self.asked = model, word, []

    def scores(self, texts):
        self.asked += list(texts)
        scores = self.model.scores(texts)
        failed = {row: "no answer" for row, text in enumerate(texts) if self.word in text}
        scores[list(failed)] = np.nan
        if failed:
            raise RowsError(scores, failed)
        return scores


def test_each_text_is_asked_about_once_and_one_without_an_answer_has_no_label(folder):
    texts, labels = rows_to_tune_with()
    model = Cascade.load(folder)
    look, word = model.looks.last, texts[1].split()[0]
    failing = Failing(look.node("things").last, word)
    changed = look.with_nodes({"things": look.node("things").with_last(failing)})
    truth = true_cells(model.graph, labels).only([model.graph.column[one] for one in model.graph.labels])
    curve = group_tuning_curve(changed, texts, truth)
    assert sorted(failing.asked) == sorted(set(texts))
    best = model.tuning_curve(texts, labels).points[-1]
    assert 0 < curve.points[-1].micro_f1 < best.micro_f1
    assert curve.points[-1].tiers == best.tiers
