"""For each label the words that carry it: of words, of vectors, of quotations; in files and by process."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from dataclasses import replace

import numpy as np
import openpyxl
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import command, environment
from shop import WORDS
from tiny_encoders import MEANINGS, rows_of, static_folder
from trees import manifest_of

from cascade import Cascade
from cascade.encoders import fetching
from cascade.encoders.contract import counts
from cascade.encoders.vector_cache import count
from cascade.errors import DataError
from cascade.model.folder import GroupRecord
from cascade.nodes.contract import Contributions, Quoting
from cascade.predict.evidence import AT_ONCE, _Voice, along, evidence_of
from cascade.predict.files import predict_file
from cascade.predict.job import job_of, key_of
from cascade.predict.look import Look
from cascade.predict.request import Request
from cascade.show.explain import explain
from cascade.taxonomy.definition import Taxonomy
from cascade.testing import KeywordBackend, KeywordModel
from cascade.text.occurrences import occurrences_of
from cascade.text.pieces import MOST_PIECES
from cascade.text.texts import Texts
from cascade.validation.calibration import Calibration, sigmoid
from cascade.validation.combination import Combination

TEXTS = [
    "hello my order arrived slowly and furious complaint please",
    "Charged TWICE!! the box was smashed glass, lovely thanks",
    "without vat again. money returned",
    "the order",
    "",
]


GROUP = GroupRecord(
    backend={"kind": "linear", "C": 1.0},
    node="0" * 64,
    files={},
    negatives="siblings",
    slopes=(1.0, 1.0),
    offsets=(0.0, 0.0),
    route_threshold=0.0,
    rows=9,
    positives=(4, 5),
)


@pytest.fixture(scope="module")
def model(shop_model):
    return Cascade.load(shop_model)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def rows_in(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def predict(model, source, out, *options, **changes):
    done = subprocess.run(
        command("predict", str(source), "--model", str(model), "--out", str(out), "--evidence", *options),
        env=environment(**changes), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


# Words


def test_the_words_of_a_label_are_its_evidence(model, shop):
    right = wrong = 0
    for labels, found in zip(model.predict(shop.texts), model.evidence(shop.texts), strict=True):
        assert [one.label for one in found] == labels
        for one in found:
            assert one.by == "words"
            told = {word for span in one.spans for word in span.text.split()}
            right += bool(told & set(WORDS[one.label].split()))
            wrong += not told & set(WORDS[one.label].split())
    assert right > 400
    assert wrong < 0.02 * right


def test_the_words_of_a_group_count_for_a_label_as_far_as_they_led_there(model):
    """What tells the group from others, but not the label from its siblings, is evidence for the label."""
    text = "my vat order"
    [found] = evidence_of(model.looks.last, [text], model.walk([text]), [["vat_missing"]])
    assert [span.text for span in found[0].spans] == ["vat"]


@given(st.lists(st.tuples(st.floats(-6, 3), st.floats(-3, 6)), min_size=1, max_size=4), st.floats(0.3, 1.0))
def test_what_voices_count_for_explains_all_of_the_probability(ends, certain):
    """Integrated gradients are complete: Sundararajan et al., section 3, proposition 1."""
    voices = [_Voice(np.empty((0, 2)), np.empty(0), rest, rest + rise) for rest, rise in ends]
    counted = along(voices, certain)

    def log_odds(values):
        product = certain * sigmoid(np.array(values, dtype=np.float64)).prod()
        return float(np.log(product) - np.log1p(-product))

    rise = log_odds([one.whole for one in voices]) - log_odds([one.rest for one in voices])
    assert sum(counted * [one.whole - one.rest for one in voices]) == pytest.approx(rise, abs=0.02)
    assert (counted >= 0).all()


def test_one_voice_counts_fully():
    assert along([_Voice(np.empty((0, 2)), np.empty(0), -2.0, 3.0)]) == pytest.approx([1.0])
    assert len(along([])) == 0


def test_a_text_alone_has_the_evidence_that_it_has_among_others(model, shop):
    texts = shop.texts[: AT_ONCE + 30]
    together = model.evidence(texts)
    assert together == [model.evidence([text])[0] for text in texts]


def test_explain_tells_the_same(model):
    for text in TEXTS:
        found = explain(model, text)
        assert (found.evidence,) == tuple(model.evidence([text]))
        assert [one["label"] for one in found.to_json()["evidence"]] == [name for name, _ in found.labels]


@pytest.mark.parametrize(
    "text",
    [
        "my \ufb01rst re\u00adturned money\u00a0returned, cafe\u0301!",
        "charged&nbsp;twice \u00bd \U0001f469\u200d\U0001f4bb smashed",
    ],
)
def test_places_are_those_of_the_text_as_it_came(model, text):
    for one in model.evidence([text])[0]:
        for span in one.spans:
            assert text[span.start : span.end] == span.text


def test_the_best_labels_have_evidence_however_improbable(model, source, tmp_path, shop_model):
    rows = rows_in(predict(shop_model, source, tmp_path / "out.jsonl", "--top", "2"))
    assert [[one["label"] for one in row["evidence"]] for row in rows] == [row["labels"] for row in rows]
    assert all(len(row["labels"]) == 2 for row in rows[:3])


def test_a_group_that_one_backs_off_to_has_evidence_of_its_own():
    dear = [{"name": name, "threshold": 0.999999} for name in ("refund", "bill")]
    tree = {
        "name": "t",
        "groups": {
            "money": {"back_off": True, "threshold": 0.5, "labels": dear},
            "post": {"labels": ["late"]},
        },
    }
    draw = np.random.default_rng(0)
    names = [str(name) for name in draw.choice(["refund", "bill", "late"], 300)]
    said = {"refund": "cash refundme", "bill": "cash billme", "late": "slow parcel"}
    texts = [f"{said[name]} {draw.choice(['the', 'my', 'a'])} n{row}" for row, name in enumerate(names)]
    model = Cascade.fit(Taxonomy.from_dict(tree), texts, [[name] for name in names])
    [labels], [[found]] = model.predict(["my cash"]), model.evidence(["my cash"])
    assert labels == [found.label] == ["money"]
    assert [span.text for span in found.spans] == ["cash"]


# Quotations


class QuotingModel(KeywordModel):
    """Scores by keyword, and quotes what it was told to."""

    quoted: dict[int, list[str]]

    def quotations(self, texts):
        return [self.quoted for _ in texts]


def quoting(model, group, **quoted):
    """The look of a model with another model at a group, which quotes for its children."""
    children = model.taxonomy.scored_children(group)
    scores = KeywordBackend({name: WORDS[name].split() for name in children if name in WORDS})
    stand_in = QuotingModel([scores.keywords.get(name, [name]) for name in children], 0.95, 0.05)
    stand_in.quoted = {children.index(name): told for name, told in quoted.items()}
    assert isinstance(stand_in, Quoting)
    look = model.looks.last
    nodes = {name: look.node(name) for name in look.manifest.groups}
    return Look(look.taxonomy, look.manifest, nodes | {group: stand_in}, {})


def test_a_quotation_that_stands_in_the_text_is_the_evidence(model):
    text = "My box  Arrived\nslowly, with smashed glass"
    look = quoting(model, "delivery", late=['"box arrived slowly"'], broken=["it never arrived"])
    walked = model.walk([text])
    [(late, broken)] = evidence_of(look, [text], walked, [["late", "broken"]])
    assert late.by == "quotation"
    assert [(span.text, span.share) for span in late.spans] == [("box  Arrived\nslowly", None)]
    assert late.to_json()["spans"] == [{"start": 3, "end": 22, "text": "box  Arrived\nslowly"}]
    # What was quoted for the other does not stand there: the words that led to its group are left.
    assert broken.by == "words"
    assert broken.spans


def test_the_models_of_other_groups_tell_by_words_beside_one_that_quotes(model):
    text = "arrived slowly, lovely thanks"
    look = quoting(model, "delivery", late=["slowly"])
    [found] = evidence_of(look, [text], model.walk([text]), [["late", "happy"]])
    assert [(one.by, [span.text for span in one.spans]) for one in found] == [
        ("quotation", ["slowly"]), ("words", ["lovely thanks"]),
    ]  # fmt: skip


def test_a_model_that_tells_nothing_has_no_spans(model):
    children = model.taxonomy.scored_children("mood")
    look = model.looks.last
    nodes = {name: look.node(name) for name in look.manifest.groups} | {
        "mood": KeywordModel([[name] for name in children], 0.9, 0.1)
    }
    silent = Look(look.taxonomy, look.manifest, nodes, {})
    [[found]] = evidence_of(silent, ["lovely thanks"], model.walk(["lovely thanks"]), [["happy"]])
    assert (found.by, found.spans) == ("words", ())


class Telling(KeywordModel):
    """Scores by keyword, and says of each word that it speaks for the first child, or does not."""

    def contributions(self, texts, pieces=None):
        for text in texts:
            spans = occurrences_of(text).spans
            values = np.zeros((len(spans), len(self.keywords)))
            values[:, 0] = [
                3.0 if text[start:end] in self.keywords[0] else -0.1 for start, end in spans.tolist()
            ]
            yield Contributions(spans, values, np.full(len(self.keywords), -2.0))


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((1.0, 0.0, 0.0, 0.0, 0.0), {"parcel", "slow"}),
        ((0.0, 1.0, 0.0, 0.0, 0.0), {"slow"}),
        ((0.0, 0.0, 1.0, 0.0, 0.0), {"monday"}),
        ((0.4, 0.1, 0.4, 0.2, 0.1), {"parcel", "slow", "monday"}),
    ],
)
def test_models_count_for_a_label_as_in_its_probability(weights, told):
    tree = {
        "name": "t",
        "groups": {"post": {"labels": ["late", "wet"]}, "money": {"labels": ["refund", "bill"]}},
    }
    taxonomy = Taxonomy.from_dict(tree)
    said = {"": [["parcel"], ["x"]], "post": [["slow"], ["x"]], "money": [["x"], ["x"]]}
    nodes = {name: Telling(words, 0.9, 0.1) for name, words in said.items()}
    changes = {"groups": dict.fromkeys(said, GROUP), "combination": Combination(weights).to_dict()}
    second = Telling([["monday"], ["x"]], 0.9, 0.1), Calibration.identity(2)
    look = Look(taxonomy, manifest_of(taxonomy, **changes), nodes, {"post": second})
    text = "the parcel. it was slow. on monday"
    [[found]] = evidence_of(look, [text], look.walk(Texts([text])), [["late"]])
    assert {span.text for span in found.spans} == told


def test_a_group_that_learned_from_every_row_speaks_alone():
    tree = {
        "name": "t",
        "groups": {"post": {"labels": ["late", "wet"]}, "money": {"labels": ["refund", "bill"]}},
    }
    taxonomy = Taxonomy.from_dict(tree)
    said = {"": [["parcel"], ["x"]], "post": [["slow"], ["x"]], "money": [["x"], ["x"]]}
    nodes = {name: Telling(words, 0.9, 0.1) for name, words in said.items()}
    records = {name: replace(GROUP, negatives="all" if name else "siblings") for name in said}
    look = Look(taxonomy, manifest_of(taxonomy, groups=records), nodes, {})
    [[found]] = evidence_of(look, ["slow parcel"], look.walk(Texts(["slow parcel"])), [["late"]])
    assert [span.text for span in found.spans] == ["slow"]


# Vectors

MEANT = {
    "name": "tickets",
    "first_look": "off",
    "defaults": {"backend": {"kind": "linear", "encoder": "tiny"}},
    "groups": {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}},
}


@pytest.fixture(scope="module")
def meaning(home, tmp_path_factory):
    fetching.add(static_folder(tmp_path_factory.mktemp("static") / "tiny"), "tiny")
    learned = {name: words[:2] for name, words in MEANINGS.items()}
    return Cascade.fit(Taxonomy.from_dict(MEANT), *rows_of(learned, 300, seed=0))


def test_a_word_that_is_known_by_its_meaning_alone_is_found(meaning):
    """Half of the words of each meaning stood in no training row: only their vectors tell."""
    for name, words in MEANINGS.items():
        for word in words[2:]:
            text = f"please the {word} again"
            [found] = meaning.evidence([text])
            assert [one.label for one in found] == [name], text
            assert [span.text for span in found[0].spans] == [word]


def test_in_a_long_text_it_is_found_as_well(meaning):
    filler = "the my please again, " * 5
    text = f"{filler}my cash the. {filler}"
    [found] = evidence_of(meaning.looks.last, [text], meaning.walk([text]), [["money"]])
    assert any("cash" in span.text for span in found[0].spans)
    assert sum(len(span.text) for span in found[0].spans) < 60 < len(text)


def test_no_more_texts_are_encoded_than_promised_and_none_is_kept(meaning):
    long = "the cash again please, " * 100
    texts = [long, "my box please"]
    walked = meaning.walk(texts)
    kept, before = count(), counts.taken_apart
    list(evidence_of(meaning.looks.last, texts, walked, [["money"], ["post"]]))
    assert 0 < counts.taken_apart - before <= 2 * MOST_PIECES + 3
    assert count() == kept


class AtService(Look):
    """The same look, were its encoder a service."""

    asks_encoder_service = True


def test_a_service_is_not_asked_about_texts_in_pieces(meaning):
    look = meaning.looks.last
    nodes = {name: look.node(name) for name in look.manifest.groups}
    paid = AtService(look.taxonomy, look.manifest, nodes, {})
    text, before = "please my refund, " * 8, counts.taken_apart
    [[found]] = evidence_of(paid, [text], meaning.walk([text]), [["money"]])
    assert counts.taken_apart == before
    assert all("refund" in span.text for span in found.spans)
    assert found.spans


# Files


def test_lines_of_json_tell_it_behind_the_scores(model, shop_model, source, tmp_path):
    rows = rows_in(predict(shop_model, source, tmp_path / "out.jsonl"))
    assert [list(row) for row in rows] == [["id", "labels", "scores", "evidence"]] * len(TEXTS)
    for text, row, own in zip(TEXTS, rows, model.evidence(TEXTS), strict=True):
        assert row["evidence"] == [one.to_json() for one in own]
        assert all(
            text[span["start"] : span["end"]] == span["text"]
            for one in row["evidence"]
            for span in one["spans"]
        )


def readable(model):
    """What stands in a cell."""
    told = []
    for own in model.evidence(TEXTS):
        parts = [(" ... ".join(span.text for span in one.spans), one.label) for one in own if one.spans]
        told.append("; ".join(f"{said} [{label}]" for said, label in parts))
    return told


def test_tables_tell_it_as_people_read_it(model, shop_model, source, tmp_path):
    expected = readable(model)
    assert any(" ... " in cell or "; " in cell for cell in expected)
    with predict(shop_model, source, tmp_path / "out.csv").open(newline="") as file:
        assert [row["evidence"] for row in csv.DictReader(file)] == expected
    with predict(shop_model, source, tmp_path / "kept.tsv", "--keep", "--trace").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["evidence"] for row in rows] == expected
    assert list(rows[0]) == ["id", "text", "labels", "scores", "evidence", "trace"]
    sheet = openpyxl.load_workbook(predict(shop_model, source, tmp_path / "out.xlsx")).active
    head, *cells = sheet.iter_rows(values_only=True)
    column = head.index("evidence")
    assert [row[column] or "" for row in cells] == expected


def test_parquet_has_it_as_it_is(model, shop_model, source, tmp_path):
    table = pyarrow.parquet.read_table(predict(shop_model, source, tmp_path / "out.parquet"))
    found = [one or [] for one in table.column("evidence").to_pylist()]
    assert found == [[one.to_json() for one in own] for own in model.evidence(TEXTS)]


def test_a_column_of_that_name_is_kept_beside_it(shop_model, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"text": TEXTS[0], "evidence": "mine"}) + "\n")
    [row] = rows_in(predict(shop_model, source, tmp_path / "out.jsonl", "--keep"))
    assert row["evidence (input)"] == "mine"
    assert row["evidence"][0]["label"] == row["labels"][0]


def test_a_run_with_many_workers_writes_the_same_bytes(model, shop, tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in shop.texts[:160]))
    outs = tmp_path / "alone.jsonl", tmp_path / "several.jsonl"
    for out, jobs in zip(outs, (1, 2), strict=True):
        request = Request(str(source), out, evidence=True, jobs=jobs, slice_rows=20)
        predict_file(model, request, io.BytesIO())
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert [one["label"] for one in rows_in(outs[0])[0]["evidence"]] == model.predict(shop.texts[:1])[0]


def test_a_run_that_was_stopped_without_it_is_not_gone_on_with(model, source, tmp_path):
    plain, told = (Request(str(source), tmp_path / "o.jsonl", evidence=one) for one in (False, True))
    assert key_of(job_of(model, plain)) != key_of(job_of(model, told))
    assert key_of(job_of(model, told)) == key_of(job_of(model, told))


def test_a_frame_has_a_column_of_it(model):
    frame = pd.DataFrame({"text": TEXTS}, index=list("abcde"))
    found = model.predict_frame(frame, evidence=True)
    assert list(found.columns) == ["labels", "scores", "evidence"]
    assert found["evidence"]["a"] == [one.to_json() for one in model.evidence(TEXTS[:1])[0]]
    assert list(model.predict_frame(frame).columns) == ["labels", "scores"]


def test_what_is_no_text_is_refused(model):
    with pytest.raises(DataError, match="row 2: expected a text"):
        model.evidence(["late", 3])
