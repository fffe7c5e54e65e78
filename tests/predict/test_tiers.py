"""Words, meaning, and a language model: each answers where it is sure, and hands on the rest."""

from __future__ import annotations

import json
import re
import subprocess

import numpy as np
import pytest
import yaml
from answering_service import Script, Service, said
from hypothesis import given
from hypothesis import strategies as st
from processes import command, environment
from tiny_encoders import MEANINGS, onnx_folder, rare_words, rows_of

from cascade import Cascade
from cascade.encoders import fetching
from cascade.errors import DataError, ModelError, TaxonomyError
from cascade.learn.fit import fit
from cascade.measure import tuning
from cascade.measure.tuning import Point, affordable, cheapest, nearest
from cascade.model.folder import read_manifest
from cascade.model.looks import NO_DOUBT
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.taxonomy.definition import Taxonomy

KNOWN = {name: words[:2] for name, words in MEANINGS.items()}
RARE = rare_words(150)
LEARNED = {name: words[:100] for name, words in RARE.items()}
NEW = {name: words[100:] for name, words in RARE.items()}
BOTH = {name: [*words, *RARE[name]] for name, words in MEANINGS.items()}
# What neither words nor vectors know, and the service does.
SECRET = rare_words(50, seed=9)
MEANING_OF = {
    word: name for known in (MEANINGS, RARE, SECRET) for name, words in known.items() for word in words
}


def answer(body):
    """A language model that knows each word."""
    text = body["messages"][-1]["content"]
    names = {MEANING_OF[word] for word in re.findall(r"\w+", text) if word in MEANING_OF}
    choices = re.findall(r"^\d+ (\w+)", body["messages"][0]["content"], re.MULTILINE)
    below = {"things": {"money", "post"}, "moods": {"angry", "sun"}}
    fits = [name for name in choices if name in names or below.get(name, set()) & names]
    return said(json.dumps({"labels": [{"label": name, "confidence": 95} for name in fits]}))


def taxonomy_of(address, *escalate):
    asked = {"kind": "prompt", "provider": "compatible", "base_url": address, "api_key_env": "SERVICE_KEY"}
    return {
        "name": "tickets",
        "escalate": list(escalate),
        "defaults": {"backend": {**asked, "model": "m", "encoder": "tiny", "examples": 0}},
        "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
    }


def training_rows(count=1500):
    """Rows of well known words, and among them some of rare ones."""
    parts = [rows_of(words, count, seed=seed) for words, seed in ((KNOWN, 0), (LEARNED, 3))]
    pairs = [list(zip(*part, strict=True)) for part in parts]
    rows = [pairs[number % 10 == 0][number] for number in range(count)]
    return [text for text, _ in rows], [own for _, own in rows]


def texts_of_all(count=20):
    """Texts of known, of new and of secret words by turns, and their labels."""
    parts = [rows_of(words, count, seed=seed) for words, seed in ((KNOWN, 1), (NEW, 2), (SECRET, 4))]
    rows = [
        row for together in zip(*(zip(*part, strict=True) for part in parts), strict=True) for row in together
    ]
    return [text for text, _ in rows], [own for _, own in rows]


@pytest.fixture(scope="module")
def service():
    with Service(Script(choose=answer)) as running:
        yield running


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory, service):
    place = tmp_path_factory.mktemp("tiers")
    fetching.add(onnx_folder(place / "tiny", meanings=BOTH), "tiny")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SERVICE_KEY", "any")
        described = Taxonomy.from_dict(taxonomy_of(service.base_url, "words", "encoder", "prompt"))
        fit(described, *training_rows(), place / "model")
    return place / "model"


@pytest.fixture
def model(folder, monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "any")
    return Cascade.load(folder)


def test_a_model_has_a_look_for_each_tier(folder, model):
    first = read_manifest(folder).first_look
    assert first.tier == "encoder"
    assert first.first_look.tier == "words"
    assert len(model.looks.looks) == 3
    kinds = [{group.backend.kind for group in look.taxonomy.groups.values()} for look in model.looks.looks]
    assert kinds == [{"linear"}, {"linear"}, {"prompt"}]


def test_each_text_is_answered_by_the_cheapest_look_that_is_sure(model, service):
    texts, labels = texts_of_all()
    model.looks.doubts = (model.looks.doubts[0], sure_enough(model))
    service.bodies.clear()
    walked = model.walk(texts)
    known, new, secret = (walked.answered_by[start::3] for start in range(3))
    assert [np.mean(part == 0) for part in (known, secret)] == [1, 0]
    assert np.mean(new == 1) > 0.1
    assert np.mean(secret == 2) > 0.9
    assert right(model.predict(texts), labels) >= 0.95
    asked = {re.search(r"<text>\n(.*)\n", body["messages"][-1]["content"])[1] for body in service.bodies}
    assert asked <= {text for text, look in zip(texts, walked.answered_by, strict=True) if look == 2}


def test_a_trace_tells_which_look_answered(model):
    texts, _ = texts_of_all(4)
    model.looks.doubts = (model.looks.doubts[0], sure_enough(model))
    rows = prediction_rows(model, list(range(len(texts))), texts, Style(trace=True))
    looks = [row["trace"][0]["look"] for row in rows]
    assert looks[0] == "first"
    assert looks[2] == "third"


def test_an_answer_is_the_same_alone_and_in_any_company(model):
    texts, _ = texts_of_all(6)
    model.looks.doubts = (model.looks.doubts[0], sure_enough(model))
    together = model.predict_proba(texts)
    for row in range(len(texts)):
        np.testing.assert_allclose(model.predict_proba([texts[row]])[0], together[row], atol=1e-6)


def test_a_curve_tells_what_handing_on_wins_and_the_point_is_written(folder, model, tmp_path):
    texts, labels = texts_of_all(30)
    curve = model.tuning_curve(texts, labels)
    figures = [point.micro_f1 for point in curve.points]
    assert curve.points[-1].share == pytest.approx(np.mean(model.walk(texts).answered_by > 0))
    assert figures[-1] == max(figures) > figures[0]
    assert [point.seconds for point in curve.points] == sorted(point.seconds for point in curve.points)
    assert all(point.usd is None for point in curve.points)
    model.save(tmp_path / "copy")
    copy = Cascade.load(tmp_path / "copy")
    point = cheapest(curve.points, 0.99)
    tuning.set_doubt(tmp_path / "copy", copy.manifest, point, 0.0)
    tuned = Cascade.load(tmp_path / "copy")
    assert right(tuned.predict(texts), labels) >= 0.95
    assert np.mean(tuned.walk(texts).answered_by == 2) == pytest.approx(point.share)
    with pytest.raises(ModelError, match="another model was written here"):
        tuning.set_doubt(tmp_path / "copy", copy.manifest, point, 0.0)


def test_the_command_prints_the_curve_and_writes_what_was_chosen(model, tmp_path):
    model.save(tmp_path / "copy")
    texts, labels = texts_of_all(20)
    rows = [json.dumps({"text": text, "labels": own}) + "\n" for text, own in zip(texts, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(rows), "utf-8")

    def tune(*words, code=0):
        told = command("tune", "rows.jsonl", "--model", "copy", *words)
        key = {"SERVICE_KEY": "any"}
        done = subprocess.run(
            told, cwd=tmp_path, env=environment(**key), capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    before = (tmp_path / "copy" / "manifest.json").read_bytes()
    shown = tune()
    assert "handed on" in shown.stdout
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == before
    found = json.loads(tune("--quality", "0.99", "--json").stdout)
    assert found["chosen"]["micro_f1"] >= 0.99
    assert (tmp_path / "copy" / "manifest.json").read_bytes() != before
    assert "prices of this model are not known" in tune("--budget", "1", code=1).stderr
    assert "say one of" in tune("--budget", "1", "--share", "0.1", code=2).stderr


def test_without_a_second_look_there_is_nothing_to_tune(home, tmp_path):
    plain = {**taxonomy_of("http://127.0.0.1:1/v1"), "defaults": {"backend": "linear"}}
    del plain["escalate"]
    fit(Taxonomy.from_dict(plain), *training_rows(200), tmp_path / "model")
    with pytest.raises(DataError, match="one look only"):
        Cascade.load(tmp_path / "model").tuning_curve(["a"], [[]])


@pytest.mark.parametrize(
    ("escalate", "told"),
    [
        (["words", "magic"], "escalate has 'magic'"),
        (["prompt", "words"], "expected two or more, in the order"),
        (["words"], "expected two or more"),
        (["words", "words"], "expected two or more"),
    ],
)
def test_tiers_are_named_in_their_order(escalate, told):
    text = yaml.safe_dump({"name": "n", "escalate": escalate, "labels": ["a", "b"]})
    with pytest.raises(TaxonomyError, match=told):
        Taxonomy.from_dict(yaml.safe_load(text))


def test_tiers_survive_the_way_through_a_file():
    described = taxonomy_of("http://127.0.0.1:1/v1", "words", "prompt")
    assert Taxonomy.from_dict(described).to_dict()["escalate"] == ["words", "prompt"]


def sure_enough(model):
    """The doubt up to which the second look is hardly ever wrong."""
    return cheapest(model.tuning_curve(*texts_of_all(30)).points, 0.99).doubt


def right(answers, labels):
    """The share of texts whose answer is right."""
    return np.mean([own == true for own, true in zip(answers, labels, strict=True)])


# The points of a curve

figures = st.floats(0, 1)
points = st.lists(st.tuples(figures, figures), min_size=1, max_size=9, unique_by=lambda one: one[0]).map(
    lambda pairs: [Point(share, 1 - share, f1, f1, share, share) for share, f1 in sorted(pairs)]
)


@given(points, figures)
def test_the_cheapest_point_reaches_the_quality_and_no_cheaper_one_does(points, quality):
    if all(point.micro_f1 < quality for point in points):
        with pytest.raises(DataError, match="no share reaches"):
            cheapest(points, quality)
        return
    found = cheapest(points, quality)
    assert found.micro_f1 >= quality
    assert all(point.micro_f1 < quality for point in points if point.share < found.share)


@given(points, figures)
def test_the_nearest_point_hands_on_no_more_than_was_said_where_that_can_be(points, share):
    found = nearest(points, share)
    assert found.share <= share or found is points[0]


@given(points, st.floats(0, 2))
def test_what_is_affordable_costs_no_more(points, usd):
    found = affordable(points, usd)
    assert found.usd <= usd or found is points[0]
    assert all(point.micro_f1 <= found.micro_f1 for point in points if point.usd <= usd)


doubts = st.lists(
    st.one_of(st.floats(0, 5), st.sampled_from([np.inf, -np.inf])), min_size=1, max_size=30
).map(np.array)


@given(doubts, figures)
def test_the_most_doubtful_are_handed_on_and_equal_doubts_alike(doubts, share):
    order = np.argsort(-doubts, kind="stable")
    bound, handed_on = tuning.bound_of(doubts, order, share)
    assert (handed_on == (doubts > bound)).all()
    assert handed_on[doubts == np.inf].all()
    assert not handed_on[doubts == -np.inf].any()
    assert bound >= NO_DOUBT
