"""Words before a service, against the sandbox as a process of its own: it is asked about what words doubt."""

from __future__ import annotations

import json
import random
import re
import shutil
from urllib.request import urlopen

import numpy as np
import pytest
import yaml
from hosted_runs import KEY, run, sandbox
from tiny_encoders import MEANINGS, onnx_folder

from cascade import Cascade
from cascade.encoders import fetching
from cascade.model.folder import read_manifest
from cascade.text.texts import Texts

GROUPS = {"billing": ["refund", "invoice", "overcharged"], "delivery": ["late", "broken", "lost"]}
LABELS = [label for labels in GROUPS.values() for label in labels]
# Each of these stands in hardly any row, and in the description of its label, which the service reads.
RARE = {
    label: [
        "".join(random.Random(f"{label} {number}").choices("bdfgklmnprstaeiou", k=8)) for number in range(40)
    ]
    for label in LABELS
}
FILLER = ["please", "hello", "today", "again", "still", "about", "order", "thanks"]
PREDICT = ("predict", "test.jsonl", "--model", "models/shop")


def rows(count, seed, described, known):
    """Texts that name group and label, or for the label a rare word: of the `known` ones, or another."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        label = draw.choice(list(LABELS))
        words = RARE[label][:20] if known else RARE[label][20:]
        said = draw.choice(words) if draw.random() < described else label
        group = next(name for name, labels in GROUPS.items() if label in labels)
        text = " ".join([*draw.choices(FILLER, k=3), group, said])
        made.append({"id": f"r{number}", "text": text, "labels": [label]})
    return made


def taxonomy(address, kind="prompt", tiers=("words", "prompt"), **options):
    asked = {"kind": kind, "provider": "compatible", "base_url": address, "api_key_env": "SANDBOX_KEY"}
    groups = {
        name: {
            "description": f"All about {name}.",
            "labels": [{"name": label, "description": " ".join(RARE[label])} for label in labels],
        }
        for name, labels in GROUPS.items()
    }
    groups["billing"] |= {"backend": asked | options, "escalate": list(tiers)}
    return {"name": "shop", "first_look": 0.05, "data": {"train": "train.jsonl"}, "groups": groups}


def put(folder, described, count=500):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    made = {"train": rows(count, 1, 0.1, known=True), "test": rows(60, 2, 0.3, known=False)}
    for name, own in made.items():
        lines = "".join(json.dumps(row) + "\n" for row in own)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as found:
        yield found


@pytest.fixture(scope="module")
def prompted(tmp_path_factory, address):
    """A folder with a model that asks about what words doubt, and what `fit` said."""
    asked = {"model": "reader", "calibration_rows": 500, "examples": 0}
    folder = put(tmp_path_factory.mktemp("prompted"), taxonomy(address, **asked))
    return folder, run(folder, "fit", "shop.yaml")


def n_questions(address):
    with urlopen(f"{address.removesuffix('/v1')}/sandbox/requests") as answer:
        counts = json.load(answer)["requests"]
    return sum(count for name, count in counts.items() if "completions" in name)


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def tiers_of(folder):
    """The share of each tier at the group, out of fold."""
    return read_manifest(folder / "models" / "shop").groups["billing"].notes["tiers"]


def traced(folder, home):
    """Of the test rows that enter the group the tier that answered them."""
    done = run(folder, *PREDICT, "--trace", CASCADE_HOME=str(home))
    found = {row["id"]: {one["node"]: one.get("tier") for one in row["trace"]} for row in lines(done.stdout)}
    return {name: own["billing"] for name, own in found.items() if own.get("billing")}


def test_a_service_is_asked_about_what_words_doubt_and_nothing_else(prompted, address, tmp_path):
    folder, _ = prompted
    asked = n_questions(address)
    tiers = traced(folder, tmp_path / "home of another")
    texts = {row["id"]: row["text"] for row in lines((folder / "test.jsonl").read_text("utf-8"))}
    doubted = {texts[name] for name, tier in tiers.items() if tier == "prompt"}
    assert n_questions(address) - asked == len(doubted)
    assert 0 < len(doubted) < len(tiers) / 2


def test_what_words_do_not_know_the_service_answers_right(prompted):
    folder, _ = prompted
    found = json.loads(run(folder, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)
    of_group = [found["per_label"][label]["f1"] for label in GROUPS["billing"]]
    assert min(of_group) > 0.9


def test_fit_tells_the_shares_and_what_the_service_was_asked(prompted):
    folder, done = prompted
    shares = tiers_of(folder)
    assert 0.5 < shares["words"] < 1
    assert f"tiers = words {shares['words']:.0%} / prompt {shares['prompt']:.0%}" in done.stderr
    assert "reader" in done.stderr


def test_a_dry_run_counts_the_questions_that_words_would_hand_on(prompted, address, monkeypatch):
    monkeypatch.setenv("SANDBOX_KEY", KEY)
    folder, _ = prompted
    asked = n_questions(address)
    told = run(folder, *PREDICT, "--dry-run").stdout
    assert n_questions(address) == asked
    model = Cascade.load(folder / "models" / "shop")
    texts = [row["text"] for row in lines((folder / "test.jsonl").read_text("utf-8"))]
    entered = model.walk(texts).blocks["billing"].rows
    node = model.node("billing")
    tiers = node.answered_by(Texts([texts[row] for row in entered]))
    assert re.search(rf"^billing +list +{np.count_nonzero(tiers == 1)} ", told, re.MULTILINE)


def test_the_question_that_would_be_asked_is_shown(prompted):
    folder, _ = prompted
    shown = run(folder, "explain", "hello refund", "--model", "models/shop", "--prompt", "billing").stdout
    assert "hello refund" in shown


def test_a_second_fit_reuses_the_group_and_asks_nothing(prompted, address):
    folder, _ = prompted
    asked = n_questions(address)
    assert "0 groups fitted, 3 reused" in run(folder, "fit", "shop.yaml").stdout
    assert n_questions(address) == asked


def test_the_tier_that_answered_gives_the_evidence(prompted, tmp_path):
    folder, _ = prompted
    tiers = traced(folder, tmp_path / "home of another")
    found = {row["id"]: row for row in lines(run(folder, *PREDICT, "--evidence").stdout)}
    ways = {
        (tiers[name], one["by"])
        for name, row in found.items()
        for one in row["evidence"]
        if name in tiers and one["label"] in GROUPS["billing"] and one["spans"]
    }
    assert ways == {("words", "words"), ("prompt", "quotation")}


def test_an_explanation_has_the_words_where_words_answered_and_says_so_where_a_service_did(prompted):
    folder, _ = prompted
    explain = ("explain", "--model", "models/shop")
    by_words = run(folder, *explain, "please again order billing refund")
    assert "billing: answered by its tier 'words'" in by_words.stderr
    assert re.search(r"refund \+\d\.\d\d", by_words.stdout.split("[x] refund")[1])
    asked = run(folder, *explain, f"please again order billing {RARE['refund'][30]}").stderr
    assert "billing: answered by its tier 'prompt'" in asked
    assert "billing: a model of kind prompt does not tell" in asked


def test_a_tuned_model_comes_after_words_and_is_ordered_as_without_them(tmp_path, address):
    folder = put(tmp_path, taxonomy(address, "openai", ("words", "openai")), count=900)
    described = taxonomy(address, "openai", ("words", "openai"))
    put(folder, {**described, "first_look": 0.2}, count=900)
    done = run(folder, "fit", "shop.yaml", "--yes")
    shares = tiers_of(folder)
    assert 0.5 < shares["words"] <= 1
    assert "tiers = words" in done.stderr
    found = json.loads(run(folder, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)
    assert found["micro_f1"] > 0.7
    jobs = json.loads(run(folder, "jobs", "--model", "models/shop", "--json").stdout)["jobs"]
    put(folder, {**described, "first_look": "off"}, count=900)
    run(folder, "fit", "shop.yaml", "--yes")
    again = json.loads(run(folder, "jobs", "--model", "models/shop", "--json").stdout)["jobs"]
    assert [one["job"] for one in jobs] == [one["job"] for one in again]


def test_three_tiers_answer_one_group(home, tmp_path, address):
    fetching.add(onnx_folder(tmp_path / "tiny", meanings=MEANINGS), "tiny")
    asked = {"model": "reader", "calibration_rows": 500, "examples": 0, "encoder": "tiny"}
    folder = put(tmp_path / "shop", taxonomy(address, tiers=("words", "encoder", "prompt"), **asked))
    run(folder, "fit", "shop.yaml")
    shares = tiers_of(folder)
    assert list(shares) == ["words", "encoder", "prompt"]
    assert shares["words"] > 0.5
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert len(lines(run(folder, *PREDICT).stdout)) == 60


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"escalate": ["words", "encoder"]}, "ends with 'encoder', and its backend is prompt"),
        ({"escalate": ["words", "encoder", "prompt"]}, "has 'encoder', and its backend names none"),
        ({"escalate": ["prompt", "words"]}, "expected two or more, in the order"),
        ({"escalate": ["words", "magic"]}, "has 'magic'; expected some of words"),
        ({"backend": {"kind": "encoder", "base": "tiny"}}, "stands with a fine-tune of your own"),
        ({"backend": "linear"}, "stands with a linear model of words alone"),
    ],
)
def test_tiers_that_cannot_be_are_told_at_their_place(tmp_path, address, changes, told):
    described = taxonomy(address, model="reader")
    described["groups"]["billing"] |= changes
    done = run(put(tmp_path, described), "check", "shop.yaml", code=1)
    assert told in done.stderr + done.stdout
    assert "shop.yaml:" in done.stderr + done.stdout


def test_whole_rows_and_groups_do_not_both_hand_on(tmp_path, address):
    described = {**taxonomy(address, model="reader"), "escalate": ["words", "prompt"]}
    done = run(put(tmp_path, described), "check", "shop.yaml", code=1)
    assert "group 'billing' has `escalate`, and so has the top level" in done.stderr + done.stdout


def test_tiers_learn_from_rows(tmp_path, address):
    described = taxonomy(address, model="reader")
    described["defaults"] = {"backend": described["groups"]["billing"]["backend"]}
    del described["data"]
    done = run(put(tmp_path, described), "fit", "shop.yaml", code=1)
    assert "names no training rows" in done.stderr


def test_tuning_asks_about_each_text_once_and_what_it_chose_is_asked_about(prompted, address, tmp_path):
    folder, _ = prompted
    place = tmp_path / "shop"
    shutil.copytree(folder, place)
    home = {"CASCADE_HOME": str(tmp_path / "home of another")}
    entered = len(traced(place, tmp_path / "home of a third"))
    asked = n_questions(address)
    words = ("tune", "test.jsonl", "--model", "models/shop")
    told = run(place, *words, "--share", "0.5", "--json", **home)
    assert n_questions(address) - asked == entered
    chosen = json.loads(told.stdout)["chosen"]
    assert 0 < chosen["share"] <= 0.5
    assert chosen["usd"] is None  # nobody knows the prices of the sandbox
    assert tiers_of(place)["prompt"] == pytest.approx(chosen["share"], abs=1e-3)
    tiers = list(traced(place, tmp_path / "home").values())
    assert tiers.count("prompt") / len(tiers) == pytest.approx(chosen["share"], abs=1e-3)


def test_in_python_no_text_is_asked_about_twice_for_all_points(prompted, address, monkeypatch):
    folder, _ = prompted
    monkeypatch.setenv("SANDBOX_KEY", KEY)
    model, tested = Cascade.load(folder / "models" / "shop"), rows(40, 9, 0.3, known=False)
    texts = [row["text"] for row in tested]
    asked = n_questions(address)
    curve = model.tuning_curve(texts, [row["labels"] for row in tested])
    assert 0 < n_questions(address) - asked <= len(set(texts))
    assert curve.points[-1].share == 1.0
