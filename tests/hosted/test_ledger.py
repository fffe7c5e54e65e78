from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from cascade.errors import BackendError
from cascade.hosted.ledger import SCHEMA, Ledger

COLUMNS = {
    "group": "billing",
    "service": "http://host/v1",
    "settings": {"base_url": "http://host/v1"},
    "base_model": "base",
    "suffix": "shop",
    "cost_usd": 1.5,
    "training_file": "file-1",
    "validation_file": None,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models" / "ledger.sqlite"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_an_order_is_there_again_after_the_file_was_closed(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        ledger.created("k", "job-1")
        ledger.succeeded("k", "job-1", "ft:base", 99, [{"step": 1.0, "train_loss": 0.5}])
    with Ledger(path) as ledger:
        (record,) = ledger.orders()
    assert (record.key, record.group, record.state, record.job, record.model) == (
        *("k", "billing", "succeeded", "job-1", "ft:base"),
    )
    assert record.settings == COLUMNS["settings"]
    assert record.result_csv == ({"step": 1.0, "train_loss": 0.5},)
    assert (record.trained_tokens, record.cost_usd) == (99, 1.5)
    assert record.intended_at <= record.created_at <= record.ended_at


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_all_files_are_for_their_owner_alone_from_the_start(path):
    with Ledger(path) as ledger, ledger.running():
        ledger.intend("k", **COLUMNS)
        files = sorted(file for file in path.parent.rglob("*") if file.is_file())
        assert [file.name.removeprefix(path.name) for file in files[:3]] == ["", "-shm", "-wal"]
        assert len(files) == 4
        assert {mode(file) for file in files} == {0o600}
        assert {mode(path.parent), mode(path.parent / "runs")} == {0o700}


def test_a_file_that_others_may_read_is_closed_to_them(path):
    Ledger(path).close()
    path.chmod(0o644)
    with Ledger(path):
        assert mode(path) == 0o600


def test_what_is_written_is_forced_onto_the_disk(path):
    with Ledger(path) as ledger:
        assert ledger.rows("PRAGMA journal_mode")[0][0] == "wal"
        assert ledger.rows("PRAGMA synchronous")[0][0] == 2


def test_another_version_is_refused(path):
    Ledger(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    database.close()
    with pytest.raises(BackendError, match=f"version {SCHEMA}, found {SCHEMA + 1}"):
        Ledger(path)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"{}"])
def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(BackendError, match="ledger"):
        Ledger(path)
    assert path.read_bytes() == content


def test_the_database_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE theirs (x)")
    database.close()
    with pytest.raises(BackendError, match="found 0"):
        Ledger(path)


def test_a_folder_in_its_place_is_told(tmp_path):
    with pytest.raises(BackendError, match="cannot be opened"):
        Ledger(tmp_path)


def test_an_order_is_reserved_by_one_run_at_a_time(path):
    with Ledger(path) as one, Ledger(path) as other, other.running() as second:
        with one.running() as first:
            assert one.reserve("k", first, **COLUMNS)
            assert one.reserve("k", first, **COLUMNS)
            assert not other.reserve("k", second, **COLUMNS)
            assert other.reserve("another", second, **COLUMNS)
        assert other.reserve("k", second, **COLUMNS)


def test_an_order_with_a_job_needs_no_reservation(path):
    with Ledger(path) as one, Ledger(path) as other, one.running() as first, other.running() as second:
        one.reserve("k", first, **COLUMNS)
        one.intend("k", **COLUMNS)
        assert not other.reserve("k", second, **COLUMNS)
        one.created("k", "job-1")
        assert other.reserve("k", second, **COLUMNS)
        assert other.order("k").job == "job-1"


def test_an_order_that_failed_is_free_for_others(path):
    with Ledger(path) as one, Ledger(path) as other, one.running() as first, other.running() as second:
        one.reserve("k", first, **COLUMNS)
        one.ended("k", "failed", "why", "")
        assert other.reserve("k", second, **COLUMNS)
        assert not one.reserve("k", first, **COLUMNS)


def _hold(path, held, done):
    with Ledger(path) as ledger, ledger.running() as owner:
        ledger.reserve("k", owner, **COLUMNS)
        held.set()
        done.wait(30)


def test_a_killed_process_lets_go_of_what_it_reserved(path):
    context = multiprocessing.get_context("forkserver")
    held, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(path, held, done))
    process.start()
    assert held.wait(30)
    with Ledger(path) as ledger, ledger.running() as owner:
        assert not ledger.reserve("k", owner, **COLUMNS)
        process.kill()
        process.join()
        assert ledger.reserve("k", owner, **COLUMNS)
    process.close()
    assert list((path.parent / "runs").iterdir()) == []


def test_an_order_with_a_job_is_not_intended_again(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        ledger.created("k", "job-1")
        with pytest.raises(BackendError, match="already"):
            ledger.intend("k", **COLUMNS)
        assert ledger.order("k").job == "job-1"


def test_two_orders_never_have_one_job(path):
    with Ledger(path) as ledger:
        for key in ("k", "l"):
            ledger.intend(key, **COLUMNS)
        ledger.created("k", "job-1")
        assert not ledger.is_free("http://host/v1", "job-1", "l")
        assert ledger.is_free("http://host/v1", "job-1", "k")
        with pytest.raises(BackendError, match="cannot be written"):
            ledger.created("l", "job-1")
        assert ledger.order("l").state == "intended"


def test_a_job_that_failed_is_never_taken_for_a_new_one(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        ledger.created("k", "job-1")
        ledger.ended("k", "failed", "no reason", "")
        assert not ledger.knows("k")
        ledger.intend("k", **COLUMNS)
        record = ledger.order("k")
        assert (record.state, record.job, record.why) == ("intended", None, "")
        assert not ledger.is_free("http://host/v1", "job-1", "k")


def test_the_first_of_several_intents_counts(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        first = ledger.order("k").intended_at
        ledger.intend("k", **COLUMNS)
        assert ledger.order("k").intended_at == first


def test_an_order_that_was_given_up_is_new(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        ledger.created("k", "job-1")
        ledger.give_up("k")
        assert ledger.order("k") is None
        assert not ledger.is_free("http://host/v1", "job-1", "k")


@pytest.mark.parametrize(
    ("state", "is_known"),
    [("waiting", False), ("intended", True), ("created", True), ("failed", False), ("cancelled", False)],
)
def test_what_may_have_been_paid_for_is_known(path, state, is_known):
    with Ledger(path) as ledger:
        assert not ledger.knows("k")
        ledger.intend("k", **COLUMNS)
        ledger.note("k", state=state)
        assert ledger.knows("k") is is_known


def test_a_file_that_was_begun_is_told_from_one_that_was_never_sent(path):
    with Ledger(path) as ledger:
        assert ledger.file("s", "fine-tune", "d") is None
        ledger.note_file("s", "fine-tune", "d", None)
        assert ledger.file("s", "fine-tune", "d").file is None
        ledger.note_file("s", "fine-tune", "d", "file-1")
        assert ledger.file("s", "fine-tune", "d").file == "file-1"
        assert ledger.file("other", "fine-tune", "d") is None
        ledger.forget_file("s", "file-1")
        assert ledger.file("s", "fine-tune", "d") is None


def test_files_of_orders_that_may_have_a_job_are_in_use(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        assert ledger.users_of("http://host/v1", "file-1") == ["k"]
        ledger.ended("k", "failed", "", "")
        assert ledger.users_of("http://host/v1", "file-1") == []


def _write_many(path, name):
    with Ledger(Path(path)) as ledger:
        for number in range(20):
            ledger.intend(f"{name}-{number}", **COLUMNS)


def test_processes_that_write_at_once_lose_nothing(path):
    context = multiprocessing.get_context("forkserver")
    processes = [context.Process(target=_write_many, args=(path, name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
        process.close()
    with Ledger(path) as ledger:
        assert len(ledger.orders()) == 40


def test_a_job_that_failed_is_not_taken_for_the_one_that_was_made_after_it(path):
    with Ledger(path) as ledger:
        ledger.intend("k", **COLUMNS)
        ledger.created("k", "job-2")
        ledger.ended("k", "failed", "why", "", job="job-1")
        assert ledger.order("k").state == "created"
