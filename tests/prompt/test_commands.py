"""Models that are asked, from `fit` to `evaluate`, against the sandbox's reader as a process of its own."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
import yaml
from answering_service import Script, Service, said
from hosted_runs import environment, run, sandbox

GROUPS = {
    "billing": {"refund": "Money back.", "invoice": "The bill itself.", "overcharged": "Charged too much."},
    "delivery": {"late": "After the agreed day.", "broken": "In pieces.", "lost": "It never arrived."},
    "account": {"password": "Signing in.", "closing": "Ending the account.", "address": "Where one lives."},
}
SAYINGS = {
    "refund": ["I want a refund", "the refund is due"],
    "invoice": ["send the invoice", "no invoice came"],
    "overcharged": ["you overcharged me", "I was overcharged"],
    "late": ["it came late", "late by a week"],
    "broken": ["it was broken", "all broken inside"],
    "lost": ["the parcel is lost", "lost on the way"],
    "password": ["my password fails", "a new password please"],
    "closing": ["closing my account", "about closing it"],
    "address": ["a new address", "my address is wrong"],
}


def rows(count, seed):
    """Texts that name their labels, among other words."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        names = draw.sample(list(SAYINGS), draw.choice([0, 1, 1, 2]))
        parts = [draw.choice(SAYINGS[name]) for name in names] or ["just saying hello"]
        made.append({"id": f"r{number}", "text": ", ".join(parts) + f" {number}", "labels": sorted(names)})
    return made


def backend(address, **options):
    told = {"kind": "prompt", "provider": "compatible", "base_url": address, "api_key_env": "SANDBOX_KEY"}
    return {**told, "model": "reader", **options}


def taxonomy(address, *, router=None, **options):
    groups = {
        name: {
            "description": f"All about {', '.join(labels)}.",
            "labels": [{"name": label, "description": about} for label, about in labels.items()],
        }
        for name, labels in GROUPS.items()
    }
    asked = backend(address, **options)
    if router is None:
        return {"name": "shop", "defaults": {"backend": asked}, "groups": groups}
    groups = {name: {**group, "backend": asked} for name, group in groups.items()}
    return {"name": "shop", "defaults": {"backend": router}, "groups": groups}


def put(folder, described, *, count=0):
    folder.mkdir(parents=True, exist_ok=True)
    if count:
        described = {**described, "data": {"train": "train.jsonl"}}
    (folder / "shop.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    for name, (number, seed) in {"train": (count, 1), "test": (60, 2)}.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows(number, seed))
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    return folder


@pytest.fixture(scope="module")
def untaught(tmp_path_factory, address):
    """A folder with a model that was made of no row, and what `fit` said."""
    folder = put(tmp_path_factory.mktemp("untaught"), taxonomy(address))
    return folder, run(folder, "fit", "shop.yaml")


def n_questions(address):
    with urlopen(f"{address.removesuffix('/v1')}/sandbox/requests") as answer:
        counts = json.load(answer)["requests"]
    return sum(count for name, count in counts.items() if "completions" in name)


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def evaluated(folder):
    return json.loads(run(folder, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)


PREDICT = ("predict", "test.jsonl", "--model", "models/shop")


# Without a row


def test_a_taxonomy_without_rows_makes_a_model_that_asks(untaught, address):
    folder, done = untaught
    assert "0 rows, 4 groups fitted" in done.stdout
    assert "not calibrated" in done.stderr
    assert evaluated(folder)["micro_f1"] > 0.7


def test_what_was_answered_is_not_asked_again(untaught, address):
    folder, _ = untaught
    first = run(folder, *PREDICT)
    asked = n_questions(address)
    assert run(folder, *PREDICT).stdout == first.stdout
    assert n_questions(address) == asked
    assert "kept answers" in first.stderr


def test_fit_asks_nothing_without_rows_and_what_stands_is_reused(tmp_path, address):
    folder, asked = put(tmp_path, taxonomy(address)), n_questions(address)
    run(folder, "fit", "shop.yaml")
    assert "0 groups fitted, 4 reused" in run(folder, "fit", "shop.yaml").stdout
    changed = taxonomy(address)
    changed["groups"]["billing"]["labels"][0]["description"] = "Paid back."
    put(folder, changed)
    assert "1 groups fitted, 3 reused" in run(folder, "fit", "shop.yaml").stdout
    assert n_questions(address) == asked


def test_every_prediction_of_such_a_model_says_so(untaught, tmp_path):
    folder, _ = untaught
    assert all(json.loads(line)["calibrated"] is False for line in run(folder, *PREDICT).stdout.splitlines())
    for name in ("out.csv", "out.xlsx", "out.jsonl"):
        run(folder, *PREDICT, "--out", tmp_path / name)
    head, row, *_ = (tmp_path / "out.csv").read_text("utf-8").splitlines()
    assert head.endswith(",calibrated")
    assert row.endswith(",false")


def test_cheaper_looks_need_rows_and_the_last_look_is_what_the_backends_say(tmp_path, address):
    folder = put(tmp_path, {**taxonomy(address), "escalate": ["words", "prompt"]})
    assert "names no training rows" in run(folder, "fit", "shop.yaml", code=1).stderr
    put(tmp_path, {**taxonomy(address), "escalate": ["words", "encoder"]})
    told = run(folder, "fit", "shop.yaml", code=1).stderr
    assert "escalate ends with 'encoder', and the backends of the groups know 'prompt' at most" in told


def test_groups_that_learn_need_rows(tmp_path, address):
    folder = put(tmp_path, taxonomy(address, router={"kind": "linear"}))
    told = run(folder, "fit", "shop.yaml", code=1).stderr
    assert "names no training rows" in told


# With rows


@pytest.fixture(scope="module")
def taught(tmp_path_factory, address):
    folder = put(tmp_path_factory.mktemp("taught"), taxonomy(address), count=150)
    return folder, run(folder, "fit", "shop.yaml")


def test_rows_calibrate_what_is_asked(taught):
    folder, done = taught
    found = evaluated(folder)
    assert found["micro_f1"] > 0.85
    assert found["calibration_error"] < 0.1
    assert "answer = list" in done.stderr
    assert "calibrated" not in json.loads(run(folder, *PREDICT).stdout.splitlines()[0])


def test_a_budget_below_the_fewest_rows_sends_nothing(tmp_path, address):
    described = taxonomy(address)
    described["defaults"] = {"backend": {"kind": "prompt", "model": "gpt-4.1", "api_key_env": "SANDBOX_KEY"}}
    folder, asked = put(tmp_path, described, count=60), n_questions(address)
    told = run(folder, "fit", "shop.yaml", "--budget", "0.001", code=1).stderr
    assert "more than --budget 0.001. Nothing was sent" in told
    assert n_questions(address) == asked


def test_a_dry_run_tells_of_rows_tokens_and_dollars(tmp_path):
    described = taxonomy("unused")
    described["defaults"] = {"backend": {"kind": "prompt", "model": "gpt-4.1", "api_key_env": "SANDBOX_KEY"}}
    folder = put(tmp_path, described, count=60)
    told = run(folder, "fit", "shop.yaml", "--dry-run")
    assert "$" in told.stdout
    assert "60 rows are asked about to calibrate" in told.stderr
    found = json.loads(run(folder, "fit", "shop.yaml", "--dry-run", "--json").stdout)
    assert [one["group"] for one in found["asked"]] == ["", *GROUPS]
    assert found["asked_rows"] == 60
    assert found["cost_usd"] > 0


@pytest.mark.parametrize(
    "options", [{"answer": "number"}, {"answer": "each", "hold": "schema"}, {"hold": "schema"}]
)
def test_every_way_of_answering_finds_the_labels(tmp_path, address, options):
    described = taxonomy(address, **options)
    if options.get("answer") == "number":
        described["defaults"]["choose"] = "one"
    folder = put(tmp_path, described)
    run(folder, "fit", "shop.yaml")
    single = [row for row in rows(80, 3) if len(row["labels"]) == 1]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in single), "utf-8")
    assert evaluated(folder)["precision_at_1"] > 0.7


def test_an_embedded_router_leads_to_groups_that_are_asked(tmp_path, address):
    folder = put(tmp_path, taxonomy(address, router={"kind": "linear"}), count=150)
    done = run(folder, "fit", "shop.yaml")
    assert re.search(r"fitted top level \(.*linear", done.stderr)
    assert evaluated(folder)["micro_f1"] > 0.7
    asked = run(folder, *PREDICT, "--dry-run")
    assert "top level" not in asked.stdout
    assert "about" not in asked.stdout.splitlines()[1]


def test_batches_give_the_same_answers(untaught, tmp_path, address):
    folder, _ = untaught
    run(folder, *PREDICT, "--out", tmp_path / "at_once.jsonl")
    apart = {"CASCADE_HOME": str(tmp_path / "home of another")}
    done = run(folder, *PREDICT, "--batch", "--out", tmp_path / "batched.jsonl", **apart)
    assert (tmp_path / "batched.jsonl").read_bytes() == (tmp_path / "at_once.jsonl").read_bytes()
    assert "in batches)" in done.stderr


# Before anything is sent, and what is sent


def test_a_forecast_tells_questions_and_tokens_beside_one_flat_question(untaught, address):
    folder, _ = untaught
    asked = n_questions(address)
    told = run(folder, *PREDICT, "--dry-run")
    assert "all labels at once" in told.stdout
    assert re.search(r"60 texts, about \d\.\d questions and \d+ tokens a text", told.stderr)
    assert n_questions(address) == asked


def test_what_is_forecast_is_about_what_is_asked(taught, tmp_path, address):
    folder, _ = taught
    told = run(folder, *PREDICT, "--dry-run").stderr
    forecast = float(re.search(r"about (\d+\.\d) questions", told)[1])
    before = n_questions(address)
    run(folder, *PREDICT, "--no-cache")
    assert (n_questions(address) - before) / 60 == pytest.approx(forecast, rel=0.4)


def test_the_messages_that_are_shown_are_those_that_are_sent(untaught, tmp_path):
    folder, _ = untaught
    (tmp_path / "one.jsonl").write_text('{"text": "I want a refund, please"}\n', "utf-8")
    words = ("predict", tmp_path / "one.jsonl", "--model", "models/shop", "--no-cache", "--debug-http")
    sent = [
        line.partition(" {")[2] for line in run(folder, *words).stderr.splitlines() if line.startswith("POST")
    ]
    bodies = [json.loads("{" + body) for body in sent]
    shown = json.loads(run(folder, "explain", "I want a refund, please", "--prompt", "--json").stdout)
    assert shown in bodies
    inside = json.loads(
        run(folder, "explain", "I want a refund, please", "--prompt", "billing", "--json").stdout
    )
    assert inside in bodies
    words = run(folder, "explain", "I want a refund, please", "--prompt", "billing").stdout
    assert "[system]" in words
    assert "refund: Money back." in words
    assert "no group 'bills'" in run(folder, "explain", "x", "--prompt", "bills", code=1).stderr


def test_evidence_is_what_was_quoted_where_it_stands_in_the_text(untaught, tmp_path):
    folder, _ = untaught
    (tmp_path / "one.jsonl").write_text('{"text": "Hello. I want a refund, please"}\n', "utf-8")
    done = run(folder, "predict", tmp_path / "one.jsonl", "--model", "models/shop", "--evidence")
    row = json.loads(done.stdout)
    assert row["labels"] == ["refund"]
    [found] = row["evidence"]
    assert found["by"] == "quotation"
    for span in found["spans"]:
        assert "Hello. I want a refund, please"[span["start"] : span["end"]] == span["text"]
    assert any("refund" in span["text"] for span in found["spans"])


def test_check_knows_models_that_are_asked(untaught):
    folder, _ = untaught
    assert run(folder, "check", "shop.yaml").returncode == 0


# What goes wrong


def test_with_trouble_no_row_is_lost_and_no_label_invented(tmp_path):
    chaos = "seed=3,rate=0.25,pause=0.05,kinds=outside+refused+cut+endless+obeys+cut_before"
    with sandbox(tmp_path / "sandbox", "--chaos", chaos) as at:
        folder = put(tmp_path / "shop", taxonomy(at, hold="schema"))
        run(folder, "fit", "shop.yaml")
        out, errors = tmp_path / "out.jsonl", tmp_path / "errors.jsonl"
        words = ("cascade", *PREDICT, "--out", out, "--errors", errors)
        done = run(folder, *words[1:], code=3)
        measured = run(folder, "evaluate", "test.jsonl", "--model", "models/shop", code=3)
    answered = lines(out)
    refused = lines(errors)
    assert sorted([row["id"] for row in answered] + [row["id"] for row in refused]) == sorted(
        row["id"] for row in rows(60, 2)
    )
    assert {label for row in answered for label in row["labels"]} <= set(SAYINGS)
    assert all("cannot be read" in row["reason"] for row in refused)
    assert "unreadable" in done.stderr
    # Those that fail where the router would have been right are left out of its figures, too.
    left_out = int(re.search(r"(\d+) rows left out", measured.stderr)[1])
    assert left_out >= len(refused)
    assert f"{60 - left_out} rows;" in measured.stdout


def test_ctrl_c_stops_asking_and_the_same_command_goes_on(tmp_path):
    with sandbox(tmp_path / "sandbox", "--latency", "0.2") as at:
        folder = put(tmp_path / "shop", taxonomy(at, hold="schema", concurrency=2))
        run(folder, "fit", "shop.yaml")
        words = [sys.executable, "-m", "cascade", *PREDICT, "--out", "out.jsonl"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, cwd=folder, env=environment(), **quiet) as process:
            while n_questions(at) < 4:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate()
        asked = n_questions(at)
        assert process.returncode == 130
        assert "interrupted" in told
        assert asked < 40  # of 60 for the router alone
        run(folder, *PREDICT, "--out", "out.jsonl")
    assert [row["id"] for row in lines(folder / "out.jsonl")] == [row["id"] for row in rows(60, 2)]


def by_words(body):
    """Children whose names stand in the text, as a list."""
    text = body["messages"][-1]["content"]
    names = [name for name in (*GROUPS, *SAYINGS) if re.search(rf"^\d+ {name}", asked(body), re.MULTILINE)]
    found = [name for name in names if name in text or any(word in text for word in GROUPS.get(name, ()))]
    return said(json.dumps({"labels": [{"label": name, "confidence": 90} for name in found]}))


def asked(body):
    return body["messages"][0]["content"]


def test_a_run_that_is_stopped_pays_for_no_answer_twice(tmp_path):
    with Service(Script(choose=by_words, latency=0.3)) as service:
        folder = put(tmp_path / "shop", taxonomy(service.base_url, concurrency=4))
        run(folder, "fit", "shop.yaml")
        words = [sys.executable, "-m", "cascade", *PREDICT, "--out", "out.jsonl"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for stop in (signal.SIGTERM, signal.SIGINT):
            with subprocess.Popen(words, cwd=folder, env=environment(), **quiet) as process:
                before = len(service.bodies)
                while len(service.bodies) < before + 6 or not service.in_flight:
                    assert process.poll() is None
                    time.sleep(0.01)
                process.send_signal(stop)
                assert process.wait(30) == 128 + stop
        run(folder, *PREDICT, "--out", "out.jsonl")
        bodies = [json.dumps(body) for body in service.bodies]
    assert len(bodies) == len(set(bodies)) > 60
    assert [row["id"] for row in lines(folder / "out.jsonl")] == [row["id"] for row in rows(60, 2)]
