"""A second pass from `fit` to `evaluate`, against the sandbox's reader as a process of its own."""

from __future__ import annotations

import json
import random
import re
import shutil

import pytest
import yaml
from hosted_runs import run, sandbox

# Each label has words that its description tells: rows of training have some of them, those of tests others.
WORDS = {
    "tools": ["spade", "rake", "hoe", "shears", "trowel", "barrow", "hose", "saw", "axe", "ladder"],
    "plants": ["rose", "fern", "tulip", "ivy", "moss", "lily", "oak", "birch", "daisy", "clover"],
    "birds": ["robin", "crow", "finch", "heron", "owl", "wren", "gull", "swan", "stork", "hawk"],
    "dishes": ["soup", "stew", "salad", "omelette", "pie", "risotto", "curry", "gravy", "pancake", "roast"],
}
GROUPS = {"garden": ["tools", "plants"], "others": ["birds", "dishes"]}


def rows(count, seed, words):
    draw = random.Random(seed)
    made = []
    for number in range(count):
        label = draw.choice(list(WORDS))
        text = f"a word about the {draw.choice(WORDS[label][words])}, number {number}"
        made.append({"id": f"r{number}", "text": text, "labels": [label]})
    return made


def taxonomy(address, **verify):
    asked = {"kind": "prompt", "provider": "vllm", "base_url": address, "api_key_env": "SANDBOX_KEY"}
    about = {label: f"Such as {', '.join(words)}." for label, words in WORDS.items()}
    groups = {
        name: {"labels": [{"name": label, "description": about[label]} for label in labels]}
        for name, labels in GROUPS.items()
    }
    told = {"backend": {**asked, "model": "reader", **verify.pop("backend", {})}, "at_most": "60%", **verify}
    return {"name": "yard", "data": {"train": "train.jsonl"}, "verify": told, "groups": groups}


def put(folder, described):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "yard.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    for name, made in {
        "train": rows(80, 1, slice(0, 10)),
        "test": rows(60, 2, slice(0, 10)),
    }.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
    return folder


@pytest.fixture(scope="module")
def fitted(address, tmp_path_factory):
    folder = put(tmp_path_factory.mktemp("yard"), taxonomy(address))
    done = run(folder, "fit", "yard.yaml")
    return folder, done


@pytest.fixture
def place(fitted, tmp_path):
    shutil.copytree(fitted[0], tmp_path / "yard")
    return tmp_path / "yard"


def told(done):
    return " ".join(done.stderr.split())


def test_a_fit_asks_about_held_out_rows_and_says_what_that_wins(fitted):
    folder, done = fitted
    assert "second pass: labels of" in told(done)
    assert "labels in doubt (reader):" in told(done)
    written = json.loads((folder / "models/yard/manifest.json").read_bytes())["verification"]
    assert written["is_used"]
    assert written["notes"]["verified_micro_f1"] > written["notes"]["micro_f1"]
    assert written["notes"]["share"] <= 0.6


def test_figures_are_shown_without_and_with_it(place):
    done = run(place, "evaluate", "test.jsonl", "--json")
    figures = json.loads(done.stdout)
    again = figures["second_pass"]
    assert figures["micro_f1"] > again["micro_f1"]
    assert again["righted"] > again["wronged"]
    assert 0 < again["rows"] <= again["questions"]
    assert again["unanswered"] == 0
    assert again["usd"] is None  # nobody knows the prices of the sandbox
    shown = run(place, "evaluate", "test.jsonl")
    assert "second pass" in shown.stdout
    assert f"{again['righted']} righted" in shown.stdout
    assert "kept answers" in told(shown)


def test_predictions_say_what_was_asked_again_and_a_repeat_asks_nothing(place):
    done = run(place, "predict", "test.jsonl", "--trace", "--out", "a.jsonl")
    answers = [json.loads(line) for line in (place / "a.jsonl").read_text("utf-8").splitlines()]
    asked = [entry for row in answers for entry in row["trace"] if "before" in entry]
    assert len(answers) == 60
    assert asked
    labels = {label for labels in GROUPS.values() for label in labels}
    for entry in asked:
        assert entry["node"] in labels
        assert entry.get("beside", "tools") in labels - {entry["node"]}
        assert 0 <= entry["yes"] <= 1
    rows_asked = sum(any("before" in entry for entry in row["trace"]) for row in answers)
    assert f"labels of {rows_asked} of 60 rows" in told(done)
    before = run(place, "predict", "test.jsonl", "--dry-run")
    assert int(re.search(r"labels in doubt +yes or no +(\d+)", before.stdout)[1]) == len(asked)
    assert "nothing was sent" in told(before)
    again = run(place, "predict", "test.jsonl", "--trace", "--out", "b.jsonl")
    assert (place / "b.jsonl").read_bytes() == (place / "a.jsonl").read_bytes()
    assert "(reader): 0 requests" in told(again)


def test_one_text_is_answered_alone_as_it_is_among_others(place):
    run(place, "predict", "test.jsonl", "--out", "all.jsonl")
    answers = (place / "all.jsonl").read_text("utf-8").splitlines()
    line = (place / "test.jsonl").read_text("utf-8").splitlines()[17]
    (place / "one.jsonl").write_text(line + "\n", "utf-8")
    assert run(place, "predict", "one.jsonl").stdout.strip() == answers[17]


def test_what_it_would_take_is_told_before_anything_is_sent(place):
    planned = json.loads(run(place, "fit", "yard.yaml", "--dry-run", "--json").stdout)
    assert planned["in_doubt"]["share"] == 0.6
    assert planned["in_doubt_labels"] == 48
    assert "48 doubtful labels of held-out rows" in told(run(place, "fit", "yard.yaml", "--dry-run"))


def test_a_reason_says_what_was_asked_beside_what(place):
    rows_ = [json.loads(line) for line in (place / "test.jsonl").read_text("utf-8").splitlines()]
    run(place, "predict", "test.jsonl", "--trace", "--out", "t.jsonl")
    answers = [json.loads(line) for line in (place / "t.jsonl").read_text("utf-8").splitlines()]
    row = next(at for at, one in enumerate(answers) if any("before" in entry for entry in one["trace"]))
    shown = " ".join(run(place, "explain", rows_[row]["text"]).stdout.replace("│", " ").split())
    assert "it was asked about again" in shown


def test_answers_of_chaos_lose_no_row(fitted, tmp_path):
    folder = tmp_path / "chaos"
    with sandbox(tmp_path, "--chaos", "seed=3,rate=0.4,kinds=outside+refused+cut+endless+obeys") as address:
        put(folder, taxonomy(address))
        run(folder, "fit", "yard.yaml")
        done = run(folder, "predict", "test.jsonl", "--out", "a.jsonl")
    assert len((folder / "a.jsonl").read_text("utf-8").splitlines()) == 60
    assert "refused" not in told(done)


def test_a_service_that_refuses_all_is_told_and_the_next_fit_goes_on(address, tmp_path):
    folder = put(tmp_path / "gone", taxonomy(address, backend={"model": "gone"}))
    assert "gone" in told(run(folder, "fit", "yard.yaml", code=1))
    assert not (folder / "models/yard/manifest.json").exists()
    put(folder, taxonomy(address))
    done = run(folder, "fit", "yard.yaml")
    assert "second pass: labels of" in told(done)
    assert "reused top level" in told(done)


def test_what_has_no_meaning_there_is_refused_before_anything_is_trained(address, tmp_path):
    folder = put(tmp_path / "idle", taxonomy(address, backend={"examples": 4}))
    assert "option 'examples'" in told(run(folder, "fit", "yard.yaml", code=1))
    assert not (folder / "models").exists() or not list((folder / "models").iterdir())


def test_without_rows_there_is_no_second_pass(address, tmp_path):
    described = taxonomy(address)
    del described["data"]
    described["defaults"] = {"backend": described["verify"]["backend"]}
    folder = put(tmp_path / "untaught", described)
    done = run(folder, "fit", "yard.yaml")
    assert "second pass: none, as no row tells" in told(done)
    assert len(run(folder, "predict", "test.jsonl").stdout.splitlines()) == 60
