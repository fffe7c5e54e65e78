"""Words and their meaning at one group, from the taxonomy's file to what is answered."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess

import numpy as np
import pytest
from processes import command, environment
from tiny_encoders import MEANINGS, onnx_folder, rare_words, rows_of

from cascade import Cascade
from cascade.encoders import fetching
from cascade.encoders.contract import counts
from cascade.errors import DataError, ModelError
from cascade.learn.fit import fit
from cascade.model.folder import MANIFEST, NODES, read_manifest
from cascade.nodes.contract import Escalating, Knowing
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.show.explain import explain
from cascade.show.tree import tree_of_model, tree_of_taxonomy
from cascade.system.home import VARIABLE
from cascade.system.serialization import checksummed
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.text.texts import Texts

KNOWN = {name: words[:2] for name, words in MEANINGS.items()}
# Of many words each stands in hardly any row: only their vectors tell what they mean.
RARE = rare_words(150)
LEARNED = {name: words[:100] for name, words in RARE.items()}
NEW = {name: words[100:] for name, words in RARE.items()}
BOTH = {name: [*words, *RARE[name]] for name, words in MEANINGS.items()}
ENCODED = {"kind": "linear", "encoder": "tiny"}
TIERS = {"backend": ENCODED, "escalate": ["words", "encoder"]}
TAXONOMY = {
    "name": "tickets",
    "defaults": {"backend": ENCODED},
    "groups": {
        "things": {"labels": ["money", "post"], **TIERS},
        "moods": {"labels": ["angry", "sun"]},
    },
}


def training_rows(count=2500):
    """Rows of well known words, and among them some of rare ones."""
    parts = [rows_of(words, count, seed=seed) for words, seed in ((KNOWN, 0), (LEARNED, 3))]
    pairs = [list(zip(*part, strict=True)) for part in parts]
    rows = [pairs[number % 10 == 0][number] for number in range(count)]
    return [text for text, _ in rows], [own for _, own in rows]


def texts_of(words, count=40, seed=1):
    """Texts of things alone."""
    return rows_of({name: words[name] for name in ("money", "post")}, count, seed=seed)


@pytest.fixture(scope="module")
def encoder(home, tmp_path_factory):
    fetching.add(onnx_folder(tmp_path_factory.mktemp("tiny"), meanings=BOTH), "tiny")


@pytest.fixture(scope="module")
def told():
    """What the fit of `folder` told."""
    return []


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory, told):
    place = tmp_path_factory.mktemp("tiers") / "model"
    fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), place, report=told.append)
    return place


@pytest.fixture
def model(folder):
    return Cascade.load(folder)


def cascade(*words, code=0, **changes):
    done = subprocess.run(
        command(*words), capture_output=True, text=True, env=environment(**changes), check=False
    )
    assert done.returncode == code, done.stderr
    return done


# What is answered, and by whom


def test_only_the_group_that_says_so_has_tiers(model):
    assert isinstance(model.node("things"), Escalating)
    assert not isinstance(model.node("moods"), Escalating)
    assert not isinstance(model.node(ROOT), Escalating)
    assert model.manifest.first_look is None


def test_known_words_are_answered_by_words_and_new_ones_by_their_meaning(model):
    node = model.node("things")
    known, labels = texts_of(KNOWN)
    assert node.tiers == ("words", "encoder")
    assert (node.answered_by(Texts(known)) == 0).mean() > 0.9
    assert (node.answered_by(Texts(texts_of(NEW)[0])) == 1).mean() > 0.9
    assert model.predict(known) == labels


def test_the_answers_are_those_of_the_dearest_tier_but_for_what_may_be_lost(model, folder, tmp_path):
    plain = {**TAXONOMY, "first_look": "off"}
    fit(Taxonomy.from_dict(plain), *training_rows(), tmp_path / "plain")
    dear = Cascade.load(tmp_path / "plain")
    assert not isinstance(dear.node("things"), Escalating)
    for words in (KNOWN, NEW):
        texts, labels = texts_of(words, 200, seed=5)
        right = [
            np.mean([own == true for own, true in zip(one.predict(texts), labels, strict=True)])
            for one in (model, dear)
        ]
        assert right[0] >= right[1] - 0.01


def test_only_what_words_doubt_is_encoded(encoder, tmp_path):
    described = {**TAXONOMY, "defaults": {"backend": "linear"}}
    fit(Taxonomy.from_dict(described), *training_rows(), tmp_path / "model")
    model = Cascade.load(tmp_path / "model")
    known = [f"{text} please please please" for text in texts_of(KNOWN)[0]]  # no vector of these is kept
    encoded, kept = counts.encoded, counts.kept
    model.predict(known)
    assert (counts.encoded, counts.kept) == (encoded, kept)
    model.predict([*known, f"my {KNOWN['money'][0]} and {KNOWN['post'][0]} {NEW['money'][0]} please please"])
    assert counts.encoded == encoded + 1


def test_an_answer_is_the_same_alone_and_in_any_company(model):
    texts = [text for words in (KNOWN, NEW) for text in texts_of(words, 10)[0]]
    together = model.predict_proba(texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(model.predict_proba([text])[0], together[row], atol=1e-6)


def test_words_speak_for_what_words_answered_and_all_pushes_make_up_the_score(model):
    node = model.node("things")
    assert isinstance(node, Knowing)
    texts = Texts([texts_of(NEW, 1)[0][0], texts_of(KNOWN, 1)[0][0], "nothing of it"])
    found = list(node.contributions_by_tier(texts))
    assert [bool(one.beside) for one in found] == [place == 1 for place in node.answered_by(texts)]
    for one, scores in zip(found, node.scores(texts), strict=True):
        whole = (one.values.sum(axis=0) + one.rest + sum(one.beside.values())) * one.unit
        np.testing.assert_allclose(1 / (1 + np.exp(-whole)), scores, atol=1e-3)


# What is told


def test_fit_tells_the_share_of_each_tier(told, folder):
    [line] = [event.detail for event in told if event.group == "things" and event.kind == "fitted"]
    notes = read_manifest(folder).groups["things"].notes
    assert f"tiers = words {notes['tiers']['words']:.0%} / encoder {notes['tiers']['encoder']:.0%}" in line
    assert 0.7 < notes["tiers"]["words"] < 1
    assert sum(notes["tiers"].values()) == pytest.approx(1)
    assert notes["lost"] <= 0.002


def test_a_trace_tells_which_tier_answered_at_which_group(model):
    texts = [texts_of(KNOWN, 1)[0][0], texts_of(NEW, 1)[0][0]]
    rows = prediction_rows(model, [1, 2], texts, Style(trace=True))
    found = [{one["node"]: one["tier"] for one in row["trace"] if "tier" in one} for row in rows]
    assert found == [{"things": "words"}, {"things": "encoder"}]


def test_an_explanation_tells_which_tier_answered(model, folder):
    text = texts_of(KNOWN, 1)[0][0]
    found = explain(model, text)
    assert found.tiers == {"things": "words"}
    assert found.to_json()["tiers"] == {"things": "words"}
    done = cascade("explain", text, "--model", str(folder))
    assert "things: answered by its tier 'words'" in done.stderr


def test_a_tree_tells_the_tiers_and_their_shares(model, folder):
    fitted = {node.name: node for node in tree_of_model(model.taxonomy, model.manifest).children}
    assert fitted["things"].tiers == read_manifest(folder).groups["things"].notes["tiers"]
    assert fitted["moods"].tiers is None
    plain = {node.name: node for node in tree_of_taxonomy(model.taxonomy).children}
    assert plain["things"].tiers == {"words": None, "encoder": None}
    shown = cascade("inspect-tree", str(folder)).stdout
    assert "tiers words 9" in shown
    found = json.loads(cascade("inspect-tree", str(folder), "--format", "json").stdout)
    assert found["children"][0]["tiers"].keys() == {"words", "encoder"}


# The folder


def test_a_second_fit_makes_the_same_bytes_and_reuses_what_did_not_change(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    told = []
    fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), tmp_path / "model", report=told.append)
    assert {event.group for event in told if event.kind == "reused"} == {"", "things", "moods"}
    assert (tmp_path / "model" / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    told.clear()
    fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), tmp_path / "anew", jobs=2, report=told.append)
    assert (tmp_path / "anew" / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


@pytest.mark.parametrize("change", ["first_look", "choose"])
def test_what_decides_where_is_handed_on_makes_another_node_of_this_group_alone(folder, tmp_path, change):
    shutil.copytree(folder, tmp_path / "model")
    told = []
    described = copy.deepcopy(TAXONOMY)
    if change == "first_look":
        described["first_look"] = 0.1
    else:
        described["groups"]["things"]["choose"] = "one"
    fit(Taxonomy.from_dict(described), *training_rows(), tmp_path / "model", report=told.append)
    assert [event.group for event in told if event.kind == "fitted"] == ["things"]


def test_a_model_that_has_its_encoder_with_it_answers_where_there_is_none(folder, tmp_path, monkeypatch):
    fit(Taxonomy.from_dict(TAXONOMY), *training_rows(), tmp_path / "model", self_contained=True)
    texts = texts_of(NEW, 5)[0]
    expected = Cascade.load(folder).predict_proba(texts)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "home of another"))
    assert Cascade.load(tmp_path / "model").predict_proba(texts).tobytes() == expected.tobytes()


def test_a_model_is_copied_with_all_its_tiers(model, tmp_path):
    model.save(tmp_path / "copy")
    copied, texts = Cascade.load(tmp_path / "copy"), texts_of(NEW, 5)[0]
    assert copied.predict_proba(texts).tobytes() == model.predict_proba(texts).tobytes()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_file_of_a_tier_that_was_changed_is_noticed(folder, tmp_path, damage):
    shutil.copytree(folder, tmp_path / "model")
    node = read_manifest(folder).groups["things"].node
    damage(tmp_path / "model" / NODES / node / "words" / "biases.npy")
    with pytest.raises(ModelError, match=r"words/biases\.npy: (missing|changed)"):
        Cascade.load(tmp_path / "model")


def test_a_manifest_whose_tiers_are_not_those_of_its_taxonomy_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    content = json.loads((folder / MANIFEST).read_bytes())
    content["groups"]["things"]["backend"]["escalate"]["most_lost"] = 0.5
    del content["sha256"]
    (tmp_path / "model" / MANIFEST).write_bytes(checksummed(content))
    with pytest.raises(ModelError, match="another backend than in its taxonomy"):
        Cascade.load(tmp_path / "model")


# What is not worth it, and what cannot be


def test_few_rows_leave_a_group_as_it_is_without_tiers(encoder, tmp_path):
    texts, labels = training_rows(150)
    fit(Taxonomy.from_dict(TAXONOMY), texts, labels, tmp_path / "tiers")
    plain = {**TAXONOMY, "first_look": "off"}
    fit(Taxonomy.from_dict(plain), texts, labels, tmp_path / "plain")
    found, dear = Cascade.load(tmp_path / "tiers"), Cascade.load(tmp_path / "plain")
    assert found.node("things").tiers == ("encoder",)
    assert found.manifest.groups["things"].notes["tiers"] == {"words": 0.0, "encoder": 1.0}
    some = texts_of(NEW, 20)[0]
    assert found.predict_proba(some).tobytes() == dear.predict_proba(some).tobytes()


def test_tiers_that_end_otherwise_than_the_backend_are_refused_before_anything_is_trained(tmp_path):
    described = {**TAXONOMY, "defaults": {"backend": "linear", "escalate": ["words", "encoder"]}}
    with pytest.raises(DataError, match="linear model of words alone, and nothing is cheaper"):
        fit(Taxonomy.from_dict(described), *training_rows(20), tmp_path / "model")
    assert not (tmp_path / "model").exists()
