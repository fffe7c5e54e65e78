"""A model that answers by words alone where they are sure, and encodes the other texts."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from processes import command, environment
from served import ask, get, serving
from tiny_encoders import MEANINGS, onnx_folder, rare_words, rows_of, static_folder

from cascade import Cascade
from cascade.encoders import fetching
from cascade.encoders.contract import counts
from cascade.errors import ModelError
from cascade.learn.fit import fit
from cascade.learn.truth import true_cells
from cascade.model.folder import MANIFEST, NODES, nodes_of, read_manifest
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.predict.files import predict_file
from cascade.predict.look import Looks
from cascade.predict.request import Request
from cascade.system.serialization import checksummed
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.selection import doubts_about
from cascade.text.texts import Texts

TAXONOMY = {
    "name": "tickets",
    "defaults": {"backend": {"kind": "linear", "encoder": "tiny"}},
    "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
}
KNOWN = {name: words[:2] for name, words in MEANINGS.items()}
# Of many words each stands in hardly any row: only their vectors tell what they mean.
RARE = rare_words(150)
LEARNED = {name: words[:100] for name, words in RARE.items()}
NEW = {name: words[100:] for name, words in RARE.items()}
BOTH = {name: [*words, *RARE[name]] for name, words in MEANINGS.items()}


def taxonomy_of(**changes):
    return Taxonomy.from_dict({**TAXONOMY, **changes})


def training_rows(count=1500):
    """Rows of well known words, and among them some of rare ones."""
    well, hardly = rows_of(KNOWN, count, seed=0), rows_of(LEARNED, count, seed=3)
    pairs = zip(zip(*well, strict=True), zip(*hardly, strict=True), strict=True)
    rows = [other if row % 10 == 0 else one for row, (one, other) in enumerate(pairs)]
    return [text for text, _ in rows], [own for _, own in rows]


def texts_of_both(count=40):
    """Texts of known words and of new ones by turns, and their labels."""
    known, new = rows_of(KNOWN, count, seed=1), rows_of(NEW, count, seed=2)
    texts = [text for pair in zip(known[0], new[0], strict=True) for text in pair]
    return texts, [own for pair in zip(known[1], new[1], strict=True) for own in pair]


@pytest.fixture(scope="module")
def folder(home, tmp_path_factory):
    place = tmp_path_factory.mktemp("looks")
    fetching.add(onnx_folder(place / "tiny", meanings=BOTH), "tiny")
    fit(taxonomy_of(), *training_rows(), place / "model")
    return place / "model"


@pytest.fixture
def model(folder):
    return Cascade.load(folder)


def content_of(folder):
    return json.loads((folder / MANIFEST).read_bytes())


def cascade(*words, **changes):
    done = subprocess.run(
        command(*words), capture_output=True, text=True, env=environment(**changes), check=False
    )
    assert "Traceback" not in done.stderr
    return done


def write_rows(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


# What is answered, and by whom


def test_texts_of_known_words_are_answered_by_words_and_the_others_by_meaning(model):
    texts, labels = texts_of_both()
    walked = model.walk(texts)
    assert walked.by_first.tolist() == [True, False] * 40
    assert model.predict(texts) == labels


def test_only_texts_in_doubt_are_encoded(model):
    known, _ = rows_of(KNOWN, 30, seed=77)
    known = [f"{text} please please" for text in known]  # no vector of these is kept
    encoded, kept, spared = counts.encoded, counts.kept, counts.spared
    model.predict(known)
    assert (counts.encoded, counts.kept) == (encoded, kept)
    assert counts.spared == spared + 30
    model.predict([*known, f"my {NEW['angry'][0]} {NEW['angry'][1]} please please"])
    assert counts.encoded == encoded + 1


def test_the_look_that_answered_gives_the_evidence(model):
    texts, labels = texts_of_both(5)
    apart = counts.taken_apart
    first = model.evidence(texts[::2])
    assert counts.taken_apart == apart
    second = model.evidence(texts[1::2])
    assert counts.taken_apart > apart
    for text, own, found in zip(
        [*texts[::2], *texts[1::2]], [*labels[::2], *labels[1::2]], [*first, *second], strict=True
    ):
        [one] = found
        assert [one.label] == own
        told = {word for span in one.spans for word in span.text.split()}
        assert told & {*BOTH[one.label], *NEW[one.label]}, text
    together = model.evidence(texts)
    assert [together[row] for row in range(0, 10, 2)] == first
    assert [together[row] for row in range(1, 10, 2)] == second


def test_an_answer_is_the_same_alone_and_in_any_company(model):
    texts, _ = texts_of_both()
    together = model.predict_proba(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(model.predict_proba([texts[row] for row in order]), together[order])
    for row in range(0, len(texts), 9):
        np.testing.assert_array_equal(model.predict_proba([texts[row]])[0], together[row])
        assert model.walk([texts[row]]).by_first.tolist() == [row % 2 == 0]


def test_an_answer_is_that_of_the_look_alone(model):
    texts, _ = texts_of_both()
    walked, first, last = model.walk(texts), *(one.walk(Texts(texts)) for one in looks_of(model))
    np.testing.assert_array_equal(walked.paths[::2], first.paths[::2])
    np.testing.assert_array_equal(walked.conditionals[::2], first.conditionals[::2])
    np.testing.assert_array_equal(walked.paths[1::2], last.paths[1::2])
    np.testing.assert_array_equal(walked.before.paths[1::2], last.before.paths[1::2])


def test_each_text_is_decided_by_the_thresholds_of_its_look(model):
    texts, _ = texts_of_both()
    walked, strict = model.walk(texts), copy.copy(model.looks.looks[0])
    strict.manifest = replace(strict.manifest, thresholds=dict.fromkeys(model.graph.nodes, 1.0))
    chosen = Looks([strict, model.looks.last], model.looks.doubts).decide(walked)
    assert not chosen[::2].any()
    np.testing.assert_array_equal(chosen[1::2], model.decide(walked)[1::2])
    assert chosen[1::2].any()


def test_the_oracle_asks_the_look_that_answered(model):
    texts, labels = texts_of_both()
    truth = true_cells(model.graph, labels)
    by_first = np.array([True, False] * 40)
    found = model.oracle(texts, truth, np.where(by_first, 0, 1).astype(np.int8))
    for start, look in enumerate(looks_of(model)):
        alone = look.oracle(Texts(texts), lambda group: truth.has(model.graph.column[group]))
        np.testing.assert_array_equal(found.paths[start::2], alone.paths[start::2])
    np.testing.assert_array_equal(model.oracle(texts, truth).paths, alone.paths)


def looks_of(model):
    return model.looks.looks[0], model.looks.last


def test_an_empty_text_is_not_answered_by_words_alone(model):
    walked = model.walk(["", "?!", "cash"])
    assert not walked.by_first[:2].any()
    assert walked.nothing_known.tolist() == [True, True, walked.nothing_known[2]]
    assert model.predict([""]) == [[]]


def test_no_texts_and_texts_of_one_kind_are_answered(model):
    assert model.predict([]) == []
    texts, labels = texts_of_both()
    assert model.predict(texts[::2]) == labels[::2]
    assert model.predict(texts[1::2]) == labels[1::2]


def test_evaluate_tells_the_share_and_has_an_oracle_of_both_looks(model):
    texts, labels = texts_of_both()
    encoded = counts.encoded + counts.kept
    found = model.evaluate(texts, labels)
    assert found.first_look == 0.5
    assert found.micro_f1 == found.oracle_router_micro_f1 == 1
    assert counts.encoded + counts.kept - encoded == 80  # half of the texts, by the walk and by the oracle
    assert model.evaluate(texts[::2], labels[::2]).first_look == 1
    assert model.evaluate(texts[1::2], labels[1::2]).first_look == 0


def test_a_copied_and_a_pickled_model_have_both_looks(model, tmp_path):
    texts, labels = texts_of_both()
    model.save(tmp_path / "copy")
    for other in (Cascade.load(tmp_path / "copy"), pickle.loads(pickle.dumps(model))):
        assert other.walk(texts).by_first.tolist() == [True, False] * 40
        assert other.predict(texts) == labels


def test_what_teaches_most_is_measured_by_the_thresholds_of_the_look_that_answered(model):
    text = texts_of_both()[0][0]
    best = int(np.nanargmax(model.predict_proba([text])[0]))
    on_edge = copy.copy(model.looks.looks[0])
    probability = float(model.predict_proba([text])[0, best])
    thresholds = on_edge.manifest.thresholds | {model.labels[best]: probability}
    on_edge.manifest = replace(on_edge.manifest, thresholds=thresholds)
    model.looks = Looks([on_edge, model.looks.last], model.looks.doubts)
    assert model.walk([text]).by_first.all()
    doubt = doubts_about(model, text)[0]
    assert (doubt.reason, doubt.label) == ("near threshold", model.labels[best])
    assert doubt.size == pytest.approx(1, abs=1e-3)


# Commands


def test_predict_tells_the_share_and_a_trace_tells_the_look(folder, tmp_path):
    texts, labels = texts_of_both()
    done = cascade("predict", write_rows(tmp_path / "rows.jsonl", texts), "--model", folder, "--trace")
    assert done.returncode == 0, done.stderr
    assert "words alone answered 40 of 80 rows (50%)" in done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["labels"] for row in rows] == labels
    assert [row["trace"][0]["look"] for row in rows] == ["first", "second"] * 40
    first, last = (one.manifest.thresholds for one in looks_of(Cascade.load(folder)))
    assert first["money"] != last["money"]
    told = [entry["threshold"] for row in rows for entry in row["trace"] if entry["node"] == "money"]
    assert set(told) == {round(float(np.float32(one["money"])), 6) for one in (first, last)}


def test_rows_and_shares_are_the_same_with_workers_and_from_a_run_that_goes_on(model, tmp_path):
    source = write_rows(tmp_path / "rows.jsonl", texts_of_both(100)[0])

    def run(name, stop=lambda _: None, **options):
        request = Request(str(source), tmp_path / name, trace=True, slice_rows=20, **options)
        outcome = predict_file(model, request, io.BytesIO(), report=stop)
        assert "words alone answered 100 of 200 rows (50%)" in outcome.notes
        return outcome, (tmp_path / name).read_bytes()

    def stop(step):
        if step.rows == 60:
            raise KeyboardInterrupt

    _, alone = run("alone.jsonl")
    assert run("two.jsonl", jobs=2)[1] == alone
    with pytest.raises(KeyboardInterrupt):
        run("stopped.jsonl", stop)
    outcome, found = run("stopped.jsonl")
    assert found == alone
    assert (outcome.resumed_from, outcome.by_first) == (60, 100)


def test_explain_tells_which_look_answered_and_why_by_that_look(folder, model):
    known = json.loads(cascade("explain", "my refund again", "--model", folder, "--json").stdout)
    assert known["look"] == "first"
    assert not [push for push in known["steps"][0]["pushes"] if "meaning" in push["word"]]
    new = cascade("explain", f"my {NEW['angry'][0]} again {NEW['angry'][1]}", "--model", folder)
    assert new.stdout.startswith("angry")
    assert "(second look)" in new.stdout
    assert "meaning (tiny) +" in new.stdout
    assert "(first look, by words alone)" in model.explain("my refund again").summary


def test_fit_and_evaluate_tell_the_share(folder, tmp_path):
    texts, labels = training_rows()
    rows = [{"text": text, "labels": own} for text, own in zip(texts, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tickets.yaml").write_text(json.dumps(TAXONOMY))
    words = ("--data", tmp_path / "rows.jsonl", "--out", tmp_path / "model", "--json")
    done = cascade("fit", tmp_path / "tickets.yaml", *words)
    assert done.returncode == 0, done.stderr
    assert "first look: words alone answer 95% of the rows out of fold" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["fitted"], summary["reused"]) == (3, 0)
    assert summary["first_look"] == read_manifest(folder).first_look.share
    told = cascade("evaluate", tmp_path / "rows.jsonl", "--model", folder)
    assert "words alone answered 9" in " ".join(told.stdout.split())


def test_a_service_answers_alike_and_counts_what_words_answered(folder, model):
    texts, _ = texts_of_both()
    with serving(folder) as (port, _):

        def figure(name):
            lines = get(port, "/metrics")[2].decode().splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith(name))

        before = figure("cascade_first_look_texts")
        status, _, body = ask(port, {"texts": texts, "trace": True})
        assert status == 200
        rows = json.loads(body)["rows"]
        assert figure("cascade_first_look_texts") == before + 40
    assert rows == prediction_rows(model, list(range(1, 81)), texts, Style(trace=True))


# The folder


def test_the_same_rows_give_the_same_bytes_and_reuse_both_looks(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "again")
    events = []
    fit(taxonomy_of(), *training_rows(), tmp_path / "again", jobs=2, report=events.append)
    assert (tmp_path / "again" / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    assert not [event for event in events if event.kind == "fitted" or event.detail.startswith("fitted")]
    assert {path.name for path in (tmp_path / "again" / NODES).iterdir()} == set(
        nodes_of(read_manifest(folder))
    )


def test_words_that_were_fitted_before_an_encoder_came_are_reused(home, folder, tmp_path):
    words = taxonomy_of(defaults={"backend": "linear"})
    fit(words, *training_rows(), tmp_path / "model")
    before = set(nodes_of(read_manifest(tmp_path / "model")))
    fit(taxonomy_of(), *training_rows(), tmp_path / "model")
    assert before < set(nodes_of(read_manifest(tmp_path / "model")))
    assert (tmp_path / "model" / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()


def test_without_a_first_look_every_text_is_encoded_and_answers_are_those_of_the_second(folder, tmp_path):
    fit(taxonomy_of(first_look=False), *training_rows(), tmp_path / "off")
    content = content_of(tmp_path / "off")
    assert "first_look" not in content
    assert set(nodes_of(read_manifest(tmp_path / "off"))) == {
        path.name for path in (tmp_path / "off" / NODES).iterdir()
    }
    off, both = Cascade.load(tmp_path / "off"), Cascade.load(folder)
    texts, labels = texts_of_both()
    assert off.walk(texts).by_first is None
    assert off.predict(texts) == labels
    np.testing.assert_array_equal(off.predict_proba(texts)[1::2], both.predict_proba(texts)[1::2])
    done = cascade("predict", write_rows(tmp_path / "rows.jsonl", texts), "--model", tmp_path / "off")
    assert "words alone" not in done.stderr


def test_too_few_rows_and_fast_encoders_make_no_first_look(folder, tmp_path):
    events = []
    fit(taxonomy_of(), *training_rows(200), tmp_path / "few", report=events.append)
    assert "first_look" not in content_of(tmp_path / "few")
    assert any(event.detail.startswith("first look: none, as words") for event in events)
    kept = {path.name for path in (tmp_path / "few" / NODES).iterdir()}
    assert kept == set(nodes_of(read_manifest(tmp_path / "few")))
    fetching.add(static_folder(tmp_path / "table"), "table")
    taxonomy = taxonomy_of(defaults={"backend": {"kind": "linear", "encoder": "table"}})
    fit(taxonomy, *training_rows(), tmp_path / "fast")
    assert "first_look" not in content_of(tmp_path / "fast")


def test_a_damaged_node_of_the_first_look_is_refused(folder, tmp_path):
    manifest = read_manifest(folder)
    own = {record.node for record in manifest.first_look.groups.values()}
    assert own.isdisjoint(record.node for record in manifest.groups.values())
    shutil.copytree(folder, tmp_path / "changed")
    place = tmp_path / "changed" / NODES / sorted(own)[0] / "biases.npy"
    place.write_bytes(place.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match=r"biases\.npy: changed since it was written"):
        Cascade.load(tmp_path / "changed")
    place.unlink()
    with pytest.raises(ModelError, match=r"biases\.npy: missing"):
        Cascade.load(tmp_path / "changed")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"doubt": -2.0}, "expected a number from 0"),
        ({"doubt": None}, "'doubt': expected float, found NoneType"),
        ({"share": 1.5}, "expected a number from 0 to 1, found 1.5"),
        ({"exclusive": ["nowhere"]}, "its contests are not those of its taxonomy"),
        ({"groups": {}}, "its groups are not those of its taxonomy"),
        ({"thresholds": {"money": 0.5}}, "'post'"),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_a_first_look_that_makes_no_sense_is_refused(folder, tmp_path, change, told):
    shutil.copytree(folder, tmp_path / "odd")
    content = content_of(folder)
    del content["sha256"]
    content["first_look"] |= change
    (tmp_path / "odd" / MANIFEST).write_bytes(checksummed(content))
    with pytest.raises(ModelError, match=told):
        Cascade.load(tmp_path / "odd")


def test_a_first_look_needs_an_encoder_beside_it(folder, tmp_path):
    fit(taxonomy_of(defaults={"backend": "linear"}), *training_rows(), tmp_path / "words")
    content = content_of(tmp_path / "words")
    del content["sha256"]
    content["first_look"] = content_of(folder)["first_look"]
    (tmp_path / "words" / MANIFEST).write_bytes(checksummed(content))
    with pytest.raises(ModelError, match="a look by words alone, and nothing dearer"):
        Cascade.load(tmp_path / "words")
