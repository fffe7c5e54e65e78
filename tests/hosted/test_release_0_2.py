"""What release 0.2 kept in a model folder goes into the user's data folder when the model is used."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing

import pytest
from answering_service import Script, Service
from echo_service import KEY, numbers, questions, texts_of
from stand_in_service import order_of, stand_in, tune

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.batches import BatchOptions, ask_in_batches
from cascade.hosted.fine_tuner import tuned_models
from cascade.hosted.folder_jobs import ledger_for, orders_of, records_of
from cascade.hosted.ledger import Ledger
from cascade.hosted.release_0_2 import take_over_answers
from cascade.system.home import home as user_home
from cascade.system.locks import lock

# As release 0.2 made its tables.
JOBS = """
CREATE TABLE files (service TEXT NOT NULL, purpose TEXT NOT NULL, digest TEXT NOT NULL, file TEXT,
    at REAL NOT NULL, PRIMARY KEY (service, purpose, digest)) WITHOUT ROWID;
CREATE TABLE orders (key TEXT PRIMARY KEY, "group" TEXT NOT NULL, service TEXT NOT NULL,
    settings TEXT NOT NULL, base_model TEXT NOT NULL, suffix TEXT NOT NULL, cost_usd REAL,
    state TEXT NOT NULL,
    marked INTEGER NOT NULL DEFAULT 1, training_file TEXT, validation_file TEXT, job TEXT, model TEXT,
    trained_tokens INTEGER, result_csv TEXT NOT NULL DEFAULT '[]', estimated_end REAL,
    intended_at REAL NOT NULL, created_at REAL, ended_at REAL, why TEXT NOT NULL DEFAULT '',
    advice TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE UNIQUE INDEX one_order_a_job ON orders (service, job) WHERE job IS NOT NULL;
CREATE TABLE spent (service TEXT NOT NULL, job TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
    why TEXT NOT NULL, PRIMARY KEY (service, job)) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
ANSWERS = """
CREATE TABLE answers (key BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
BATCHES = """
CREATE TABLE batches (key TEXT PRIMARY KEY, address TEXT NOT NULL, model TEXT NOT NULL,
    endpoint TEXT NOT NULL, file TEXT, batch TEXT, state TEXT NOT NULL, requests INTEGER NOT NULL);
CREATE TABLE requests (id TEXT NOT NULL, batch TEXT NOT NULL, PRIMARY KEY (id, batch)) WITHOUT ROWID;
CREATE TABLE answers (id TEXT PRIMARY KEY, choice TEXT NOT NULL) WITHOUT ROWID;
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SERVICE_KEY", KEY)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def written(path, tables, **rows):
    """A database in WAL mode, as release 0.2 leaves it behind."""
    with closing(sqlite3.connect(path)) as file:
        file.execute("PRAGMA journal_mode = WAL")
        file.executescript(tables)
        for table, values in rows.items():
            for row in values:
                names = ", ".join(f'"{name}"' for name in row)
                marks = ", ".join("?" * len(row))
                file.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
        file.commit()


def order_row(url, group, state="created", job="ftjob-1", **more):
    settings = {"provider": "openai", "base_url": url, "base_model": "base"}
    row = {"key": f"key-of-{group}", "group": group, "service": url, "settings": json.dumps(settings)}
    row |= {"base_model": "base", "suffix": "shop", "state": state, "job": job, "intended_at": 1.0}
    return row | more


def test_a_job_that_runs_is_followed_and_not_ordered_again(model):
    with stand_in() as service:
        service.finishes = False
        tune([order_of(service.url, "billing")], model / "elsewhere.sqlite", wait=False)
        service.finishes = True
        written(model / "jobs.sqlite", JOBS, orders=[order_row(service.url, "billing")])
        ledger_for(model).close()
        (outcome,), _ = tune([order_of(service.url, "billing")], user_home() / "jobs.sqlite")
        assert (outcome.state, outcome.job) == ("succeeded", "ftjob-1")
        assert len(service.jobs) == 1


def test_orders_files_and_spent_jobs_are_taken_over_once(model):
    rows = [
        order_row("http://s/v1", "billing", "succeeded", "ftjob-1", model="ft:one", created_at=2.0),
        order_row("http://s/v1", "mood", "intended", None),
    ]
    spent = [
        {"service": "http://s/v1", "job": "ftjob-0", "key": "key-of-mood", "state": "failed", "why": "no"}
    ]
    files = [{"service": "http://s/v1", "purpose": "fine-tune", "digest": "d", "file": "file-1", "at": 1.0}]
    written(model / "jobs.sqlite", JOBS, orders=rows, spent=spent, files=files)
    with ledger_for(model) as ledger:
        assert {one.group: one.state for one in records_of(model, ledger)} == {
            "billing": "succeeded",
            "mood": "intended",
        }
        assert ledger.file("http://s/v1", "fine-tune", "d").file == "file-1"
        assert not ledger.is_free("http://s/v1", "ftjob-0", "key-of-mood")
        ledger.ended("key-of-mood", "failed", "why", "")
    with ledger_for(model) as ledger:
        assert ledger.order("key-of-mood").state == "failed"
    assert sorted(path.name for path in model.iterdir()) == [
        "jobs.json",
        "jobs.sqlite.lock",
        "jobs.sqlite.moved",
    ]
    assert set(orders_of(model).values()) == {"billing", "mood"}


def test_of_an_order_in_both_the_one_that_came_further_stays(model):
    rows = [
        order_row("http://s/v1", "billing", "succeeded", "ftjob-1", model="ft:theirs"),
        order_row("http://s/v1", "mood", "created", "ftjob-2"),
    ]
    written(model / "jobs.sqlite", JOBS, orders=rows)
    with Ledger(user_home() / "jobs.sqlite") as ledger:
        ours = {"group": "g", "service": "http://s/v1", "settings": {}, "base_model": "b", "suffix": ""}
        ledger.intend("key-of-billing", **ours)
        ledger.intend("key-of-mood", **ours)
        ledger.succeeded("key-of-mood", "ftjob-9", "ft:ours", None, [])
    with ledger_for(model) as ledger:
        assert ledger.order("key-of-billing").model == "ft:theirs"
        assert ledger.order("key-of-mood").model == "ft:ours"


def test_a_dry_run_knows_the_models_of_a_folder_and_changes_nothing(model):
    rows = [
        order_row("http://s/v1", "billing", "succeeded", model="ft:one"),
        order_row("http://s/v1", "mood", job="j"),
    ]
    written(model / "jobs.sqlite", JOBS, orders=rows)
    model_of = tuned_models(model)
    assert (model_of("key-of-billing"), model_of("key-of-mood"), model_of("another")) == ("ft:one", "", "")
    assert [path.name for path in model.iterdir()] == ["jobs.sqlite"]
    assert not user_home().exists()


def test_a_ledger_that_release_0_2_is_using_is_left_alone(model):
    written(model / "jobs.sqlite", JOBS, orders=[order_row("http://s/v1", "billing")])
    with (model / "jobs.sqlite.lock").open("ab") as file:
        assert lock(file)
        with pytest.raises(BackendError, match="another run"):
            ledger_for(model)
    ledger_for(model).close()
    assert orders_of(model) == {"key-of-billing": "billing"}


def test_what_is_no_ledger_stays_where_it_is(model):
    (model / "jobs.sqlite").write_bytes(b"no database" * 500)
    with pytest.raises(BackendError, match="expected a ledger of jobs"):
        ledger_for(model)
    assert (model / "jobs.sqlite").exists()


def test_kept_answers_cost_nothing_again(model, tmp_path):
    packed = zlib.compress(json.dumps([{"text": "a"}, {"prompt_tokens": 3}]).encode())
    written(model / "answers.sqlite", ANSWERS, answers=[{"key": b"k" * 32, "answer": packed}])
    with Ledger(tmp_path / "ledger") as ledger, AnswerCache(tmp_path / "answers") as cache:
        take_over_answers(cache, ledger, model)
        assert cache.get([b"k" * 32]) == {b"k" * 32: CachedAnswer({"text": "a"}, {"prompt_tokens": 3})}
    assert list(model.iterdir()) == []


def test_a_batch_that_runs_and_answers_of_others_are_not_paid_for_again(model, tmp_path):
    with Service(Script(answer=lambda text: str(len(text)))) as service:
        asked = questions(service, texts_of(3))
        ids = [question.key(question.body()).hex() for question in asked]
        lines = [
            {
                "custom_id": name,
                "method": "POST",
                "url": question.codec.endpoint,
                "body": json.loads(question.body()),
            }
            for name, question in zip(ids[1:], asked[1:], strict=True)
        ]
        service.files["file-0"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        service.batches["batch_0000"] = {
            "id": "batch_0000", "object": "batch", "created_at": 1, "status": "validating", "polls": 0,
            "endpoint": asked[0].codec.endpoint, "input_file_id": "file-0", "completion_window": "24h",
            "output_file_id": None, "error_file_id": None, "errors": None,
        }  # fmt: skip
        choice = {"message": {"content": "1"}}
        batch = {"key": "b", "address": service.base_url, "model": "m", "endpoint": asked[0].codec.endpoint}
        batch |= {"file": "file-0", "batch": "batch_0000", "state": "open", "requests": 2}
        written(
            model / "batches.sqlite",
            BATCHES,
            batches=[batch, batch | {"key": "old", "batch": "batch_9", "state": "ended"}],
            requests=[{"id": name, "batch": "b"} for name in ids[1:]] + [{"id": ids[0], "batch": "old"}],
            answers=[{"id": ids[0], "choice": json.dumps(choice)}],
        )
        with Ledger(tmp_path / "ledger") as ledger, AnswerCache(tmp_path / "answers") as cache:
            take_over_answers(cache, ledger, model)
            answers = ask_in_batches(asked, ledger, cache, BatchOptions(poll_seconds=0.01))
        assert numbers(answers) == [1, 2, 3]
        assert len(service.batches) == 1
        assert sum(service.texts.values()) == 2
    assert list(model.iterdir()) == []


def test_answers_that_cannot_be_kept_stay_where_they_are(model, tmp_path):
    written(model / "answers.sqlite", ANSWERS, answers=[{"key": b"k" * 32, "answer": b"a"}])
    (tmp_path / "answers").write_bytes(b"no database" * 500)
    refused = pytest.raises(BackendError, match="cannot be kept")
    with Ledger(tmp_path / "ledger") as ledger, AnswerCache(tmp_path / "answers") as cache, refused:
        take_over_answers(cache, ledger, model)
    assert (model / "answers.sqlite").exists()
