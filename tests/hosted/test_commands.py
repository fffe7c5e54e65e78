"""Hosted groups from `fit` to `evaluate`, against the sandbox as a process of its own."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from hosted_runs import (
    FIT,
    GROUPS,
    KEY,
    PREDICT,
    backend,
    environment,
    put,
    rows,
    run,
    sandbox,
    taxonomy,
)

from cascade.fitted import Cascade
from cascade.taxonomy.definition import Taxonomy
from cascade.validation.combination import Combination


def told(address):
    """What the sandbox counted."""
    with urlopen(f"{address.removesuffix('/v1')}/sandbox/requests") as answer:
        return json.load(answer)


def n_questions(address):
    counts = told(address)["requests"]
    return sum(count for name, count in counts.items() if "completions" in name)


def n_batches_of(address):
    return told(address)["requests"].get("POST /v1/batches", 0)


def jobs_of(address):
    with openai.OpenAI(api_key=KEY, base_url=address) as client:
        return [(job.metadata["cascade_key"], job.status) for job in client.fine_tuning.jobs.list()]


@pytest.fixture
def apart(tmp_path):
    """The environment of a user who has ordered and asked nothing yet."""
    return {"CASCADE_HOME": str(tmp_path / "home of another")}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, address):
    """A folder with data and a fitted model, and what `fit` said."""
    folder = put(tmp_path_factory.mktemp("shop"), taxonomy(address))
    return folder, run(folder, "fit", "shop.yaml", "--data", "train.jsonl", "--yes")


# The whole life


def test_every_group_is_one_job_and_the_labels_are_right(fitted, address):
    folder, _ = fitted
    found = json.loads(run(folder, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)
    assert found["micro_f1"] > 0.85
    listed = json.loads(run(folder, "jobs", "--model", "models/shop", "--json").stdout)["jobs"]
    assert sorted(job["group"] for job in listed) == ["", *sorted(GROUPS)]
    assert {job["state"] for job in listed} == {"succeeded"}
    assert all(job["curve"] for job in listed)


def test_a_second_run_orders_and_asks_nothing(fitted, address):
    folder, _ = fitted
    first = run(folder, *PREDICT)
    n_jobs, n_asked = len(jobs_of(address)), n_questions(address)
    assert "4 reused" in run(folder, *FIT).stdout
    second = run(folder, *PREDICT)
    assert second.stdout == first.stdout
    assert (len(jobs_of(address)), n_questions(address)) == (n_jobs, n_asked)
    assert run(folder, *PREDICT, "--no-cache").stdout == first.stdout
    assert n_questions(address) > n_asked


def test_batches_give_the_same_answers_level_by_level(fitted, address, tmp_path, apart):
    folder, _ = fitted
    at_once = run(folder, *PREDICT, "--out", tmp_path / "at_once.jsonl")
    n_asked, n_batches = n_questions(address), n_batches_of(address)
    batched = run(folder, *PREDICT, "--batch", "--out", tmp_path / "batched.jsonl", **apart)
    assert (tmp_path / "batched.jsonl").read_bytes() == (tmp_path / "at_once.jsonl").read_bytes()
    # One for the router, then one for each group, whatever the number of texts.
    assert (n_questions(address), n_batches_of(address)) == (n_asked, n_batches + 1 + len(GROUPS))
    assert "in batches)" in batched.stderr
    assert "in batches)" not in at_once.stderr
    again = run(folder, *PREDICT, "--batch", "--out", tmp_path / "again.jsonl", **apart)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "at_once.jsonl").read_bytes()
    assert n_batches_of(address) == n_batches + 1 + len(GROUPS)
    assert "in batches)" not in again.stderr


def test_a_taxonomy_may_ask_for_batches_from_fit_on(fitted, address, tmp_path, apart):
    folder = put(tmp_path, taxonomy(address) | {"defaults": {"backend": backend(address, batch=True)}})
    n_jobs, n_asked, n_batches = len(jobs_of(address)), n_questions(address), n_batches_of(address)
    run(folder, *FIT, **apart)
    assert (len(jobs_of(address)), n_questions(address)) == (n_jobs, n_asked)
    assert 0 < n_batches_of(address) - n_batches <= 1 + len(GROUPS)
    run(folder, *PREDICT, "--out", "batched.jsonl", **apart)
    run(fitted[0], *PREDICT, "--out", tmp_path / "at_once.jsonl")
    assert (folder / "batched.jsonl").read_bytes() == (tmp_path / "at_once.jsonl").read_bytes()


@contextmanager
def served(folder):
    """The address of a service of the model."""
    command = [sys.executable, "-m", "cascade", "serve", "--port", "0", "--model", "models/shop"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment(), **quiet) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def asked_over_http(url, path, body):
    """Status and JSON of an answer."""
    request = Request(f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_hosted_models_are_reviewed_and_served(tmp_path):
    pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
    with ExitStack() as running:
        address = running.enter_context(sandbox(tmp_path / "sandbox"))
        folder = put(tmp_path / "shop", taxonomy(address))
        run(folder, *FIT)
        rows_there = [json.loads(line) for line in (folder / "test.jsonl").read_text("utf-8").splitlines()]
        predicted = [json.loads(line) for line in run(folder, *PREDICT).stdout.splitlines()]
        n_asked = n_questions(address)
        reviewed = run(folder, "review", "test.jsonl", "--model", "models/shop", "--rows", "5")
        assert "5 rows; " in reviewed.stdout
        assert "kept answers" in reviewed.stderr
        assert n_questions(address) == n_asked
        url = running.enter_context(served(folder))
        texts = [row["text"] for row in rows_there]
        status, told_ = asked_over_http(url, "/v1/predict", {"texts": texts})
        assert (status, told_["rows"]) == (200, predicted)
        assert n_questions(address) == n_asked
        status, told_ = asked_over_http(url, "/v1/explain", {"text": texts[0]})
        assert status == 200
        assert [name for name, _ in told_["labels"]] == predicted[0]["labels"]
        assert "a service does not tell" in told_["silent"][""]
    # The sandbox and the service are gone; a service without a sandbox says so and does not fall.
    with served(folder) as url:
        for path, body in (("/v1/predict", {"text": "unheard of"}), ("/v1/explain", {"text": "unheard of"})):
            status, told_ = asked_over_http(url, path, body)
            assert (status, told_["title"][:26]) == (503, "A service did not answer: ")
        assert asked_over_http(url, "/v1/predict", {"text": texts[0]})[0] == 200


def test_batches_are_for_hosted_models_and_kept_answers(fitted, tmp_path):
    folder, _ = fitted
    assert "leave --no-cache away" in run(folder, *PREDICT, "--batch", "--no-cache", code=2).stderr
    embedded = {name: {"labels": labels} for name, labels in GROUPS.items()}
    mine = put(tmp_path, {"name": "shop", "groups": embedded})
    run(mine, *FIT[:-1])
    assert "leave --batch away" in run(mine, *PREDICT, "--batch", code=2).stderr


def test_groups_that_cannot_be_chosen_are_not_asked(fitted):
    folder, _ = fitted
    traced = [json.loads(line) for line in run(folder, *PREDICT, "--trace").stdout.splitlines()]
    manifest = json.loads((folder / "models" / "shop" / "manifest.json").read_text())
    combination = Combination.from_dict(manifest["combination"])
    for group, names in GROUPS.items():
        least = min(manifest["thresholds"][name] for name in names)
        assert (
            manifest["groups"][group]["route_threshold"] >= combination.least_path(least, seconds=False) > 0
        )
    assert len(traced) == 120


def test_no_key_and_no_text_is_shown_or_kept_where_others_read(fitted, home):
    folder, fit = fitted
    predicted = run(folder, *PREDICT, "--no-cache")
    for said in (fit.stdout, fit.stderr, predicted.stderr, predicted.stdout):
        assert KEY not in said
        assert "no17" not in re.split(r"\W+", said)
    shown = run(folder, *PREDICT, "--no-cache", "--debug-http").stderr
    assert KEY not in shown
    assert "no17" in re.split(r"\W+", shown)
    for name in ("jobs.sqlite", "answers.sqlite"):
        assert (home / name).stat().st_mode & 0o777 == 0o600
    files = [path for place in (folder, home) for path in place.rglob("*") if path.is_file()]
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_hosted_and_embedded_groups_go_together(fitted, address, tmp_path):
    folder, _ = fitted
    listed = json.loads(run(folder, "jobs", "--model", "models/shop", "--json").stdout)["jobs"]
    tuned = {job["group"]: job["model"] for job in listed}
    settings = {
        "delivery": {"backend": "linear"},
        "account": {"backend": backend(address, model=tuned["account"])},
    }
    mixed = put(tmp_path / "mixed", taxonomy(address, **settings))
    n_jobs = len(jobs_of(address))
    run(mixed, *FIT)
    assert len(jobs_of(address)) == n_jobs  # root and billing are those of before
    found = json.loads(run(mixed, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)
    assert found["micro_f1"] > 0.85


def test_python_fits_inside_a_running_loop(address, monkeypatch):
    monkeypatch.setenv("SANDBOX_KEY", KEY)
    train = rows(360, 1)

    async def fit():
        tree = Taxonomy.from_dict(taxonomy(address))
        return Cascade.fit(tree, [row["text"] for row in train], [row["labels"] for row in train])

    model = asyncio.run(fit())
    assert model.is_hosted
    assert model.predict(["hello the refundword today"]) == [["refund"]]


# One user, several model folders


def test_two_fits_at_once_with_the_same_orders_pay_once_and_have_the_same_model(tmp_path):
    with sandbox(tmp_path / "sandbox") as address:
        folders = [put(tmp_path / name, taxonomy(address)) for name in ("one", "other")]
        command = [sys.executable, "-m", "cascade", *FIT]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        running = [subprocess.Popen(command, cwd=one, env=environment(), **quiet) for one in folders]
        told = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], told
        keys = [key for key, _ in jobs_of(address)]
        assert len(keys) == len(set(keys)) == 1 + len(GROUPS)
        listed = [run(one, "jobs", "--model", "models/shop", "--json").stdout for one in folders]
        assert listed[0] == listed[1]
        first, second = (run(one, *PREDICT).stdout for one in folders)
        assert first == second


def test_emptying_the_cache_costs_answers_and_no_job(fitted, address):
    folder, _ = fitted
    run(folder, *PREDICT)
    n_jobs, n_asked = len(jobs_of(address)), n_questions(address)
    assert json.loads(run(folder, "cache", "--json").stdout)["answers"] > 100
    run(folder, "cache", "clear")
    assert json.loads(run(folder, "cache", "--json").stdout)["answers"] == 0
    assert run(folder, "jobs", "--model", "models/shop").stdout.count("succeeded") == 1 + len(GROUPS)
    assert "4 reused" in run(folder, *FIT).stdout
    run(folder, *PREDICT)
    assert len(jobs_of(address)) == n_jobs
    assert n_questions(address) > n_asked


# Consent


def test_a_dry_run_tells_what_it_takes_and_sends_nothing(tmp_path):
    folder = put(tmp_path, taxonomy("https://api.openai.com/v1", delivery={"backend": "linear"}))
    shown = run(folder, *FIT[:-1], "--dry-run", SANDBOX_KEY="")
    assert "all labels at once" in shown.stdout
    assert "stop answering on 2027-01-14" in shown.stderr
    assert not (folder / "models").exists()
    planned = json.loads(run(folder, *FIT[:-1], "--dry-run", "--json").stdout)
    costs = {one["group"]: one["cost_usd"] for one in planned["groups"]}
    assert costs["delivery"] == 0
    hosted = [one["hosted"] for one in planned["groups"] if one["hosted"]]
    assert [one["group"] for one in hosted] == ["", "billing", "account"]
    for one in hosted:  # USD 5 for a million tokens, three times through
        assert one["training_usd"] == pytest.approx(one["training_tokens"] * 3 * 5 / 1e6)
    assert planned["cost_usd"] == pytest.approx(sum(costs.values()))
    # Without training, the router is asked about each text, and a group about those that reach it.
    shares = {
        name: sum(bool(set(row["labels"]) & set(GROUPS[name])) for row in rows(360, 1)) / 360
        for name in GROUPS
    }
    asked = sum(one["thousand_usd"] * shares.get(one["group"], 1) for one in hosted)
    assert planned["thousand_usd"] == pytest.approx(asked)
    assert planned["flat"]["kind"] == "names"


def test_a_dry_run_knows_what_is_tuned_already(fitted):
    folder, _ = fitted
    shown = run(folder, *FIT[:-1], "--dry-run")
    assert shown.stderr.count("tuned already, ft:") == 1 + len(GROUPS)
    planned = json.loads(run(folder, *FIT[:-1], "--dry-run", "--json").stdout)
    assert planned["cost_usd"] == 0
    assert "tuned already" not in run(folder, *FIT[:-1], "--dry-run", "--seed", "5").stderr


def test_a_dry_run_without_prices_says_so(address, tmp_path, apart):
    folder = put(tmp_path, taxonomy(address))
    planned = run(folder, *FIT[:-1], "--dry-run", "--json", **apart).stdout
    assert json.loads(planned)["cost_usd"] is None
    assert "not known" in run(folder, *FIT[:-1], "--dry-run", **apart).stdout


def test_a_budget_that_does_not_do_stops_before_anything_is_sent(tmp_path):
    folder = put(tmp_path, taxonomy("https://api.openai.com/v1"))
    refused = run(folder, *FIT, "--budget", "0.01", code=1).stderr
    assert "more than --budget 0.01. Nothing was sent" in refused


def test_nothing_is_sent_without_consent(address, tmp_path, apart):
    folder = put(tmp_path, taxonomy(address) | {"description": "Another one."})
    before = told(address)
    refused = run(folder, *FIT[:-1], code=1, **apart).stderr
    assert "4 fine-tunes at" in refused
    assert "nothing was sent. Say --yes" in refused
    assert (
        "--yes" in run(folder, *FIT[:-1], "--budget", "5", code=1, **apart).stderr
    )  # the price is not known
    no_key = run(folder, *FIT, code=1, SANDBOX_KEY="", **apart).stderr
    assert "the environment variable SANDBOX_KEY is not set" in no_key
    after = told(address)
    assert after["requests"] == before["requests"] | {
        name: count for name, count in after["requests"].items() if "sandbox" in name
    }


def test_a_fit_that_does_not_wait_is_gone_on_with(address, tmp_path):
    folder = put(tmp_path, taxonomy(address) | {"description": "Not waited for."})
    left = run(folder, *FIT, "--detach")
    assert "fine-tunes are under way" in left.stderr or "4 groups" in left.stdout
    followed = run(folder, "jobs", "--model", "models/shop", "--follow", "--json")
    assert {one["state"] for one in json.loads(followed.stdout)["jobs"]} <= {"succeeded", "waiting"}
    run(folder, *FIT)
    shown = run(folder, "jobs", "--model", "models/shop").stdout
    assert shown.count("succeeded") == 1 + len(GROUPS)
    assert "loss" in shown.splitlines()[0]
    keys = [key for key, _ in jobs_of(address)]
    assert len(keys) == len(set(keys))


# What goes wrong


def killed_after(folder, words, seconds):
    """Start a command and kill it so many seconds later, unless it ended before."""
    command = [sys.executable, "-m", "cascade", *map(str, words)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment(), **quiet) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()


def run_until_done(folder, *words, tries=8):
    """Services that let jobs fail want the command once more."""
    command = [sys.executable, "-m", "cascade", *map(str, words)]
    for _ in range(tries):
        done = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done
    raise AssertionError(done.stderr)


@pytest.mark.slow  # after a doubt about a job, cascade looks for it for half a minute
@pytest.mark.parametrize(
    ("moments", "chaos"),
    [
        (2, "seed=1,rate=0.1,pause=0.05,kinds=limit+cut_after+cut_before"),
        (20, "seed=2,rate=0.2,pause=0.1"),
    ],
)
def test_whoever_is_killed_pays_each_job_once_and_loses_no_row(tmp_path, fitted, address, moments, chaos):
    calm, draw = fitted[0], random.Random(moments)
    run(calm, *PREDICT, "--out", tmp_path / "calm.jsonl")
    with sandbox(tmp_path / "sandbox", "--chaos", chaos) as at:
        folder = put(tmp_path / "shop", taxonomy(at))
        for _ in range(moments):
            killed_after(folder, FIT, draw.uniform(0.8, 4))
        run_until_done(folder, *FIT)
        paid = Counter(key for key, status in jobs_of(at) if status == "succeeded")
        assert sorted(paid.values()) == [1] * (1 + len(GROUPS))
        asked = (*PREDICT, "--out", "predicted.jsonl", "--no-cache")
        for _ in range(moments):
            killed_after(folder, asked, draw.uniform(0.8, 3))
        run_until_done(folder, *asked)
    assert (folder / "predicted.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()


# Elsewhere


def test_exported_files_train_a_model_that_can_be_named(address, tmp_path):
    folder = put(tmp_path, taxonomy(address))
    told_of = json.loads(
        run(folder, "export", "shop.yaml", "--data", "train.jsonl", "--out", "files", "--json").stdout
    )
    (billing,) = [one for one in told_of["groups"] if one["group"] == "billing"]
    training = folder / billing["folder"] / "training.jsonl"
    assert len(training.read_bytes().splitlines()) == billing["training"]
    with openai.OpenAI(api_key=KEY, base_url=address) as client:
        file = client.files.create(file=training, purpose="fine-tune")
        client.files.wait_for_processing(file.id, poll_interval=0.1)
        job = client.fine_tuning.jobs.create(model=billing["base_model"], training_file=file.id)
        while job.status not in {"succeeded", "failed"}:
            time.sleep(0.1)
            job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded"
    mine = put(
        tmp_path / "mine",
        taxonomy(address, billing={"backend": backend(address, model=job.fine_tuned_model)}),
    )
    run(mine, *FIT)
    found = json.loads(run(mine, "evaluate", "test.jsonl", "--model", "models/shop", "--json").stdout)
    assert found["micro_f1"] > 0.85


def test_an_export_does_not_write_into_a_folder_of_others(address, tmp_path):
    folder = put(tmp_path, taxonomy(address))
    (folder / "files").mkdir()
    (folder / "files" / "mine.txt").touch()
    refused = run(folder, "export", "shop.yaml", "--data", "train.jsonl", "--out", "files", code=1)
    assert "expected a new or empty folder" in refused.stderr
