from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from answering_service import BROKEN, CUT, INVALID, LIMIT, MISSING, OVERLOADED, QUOTA, Reply, Script, Service
from echo_service import KEY, Echo, numbers, questions, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache
from cascade.hosted.asker import Asker
from cascade.hosted.batch_files import result_of
from cascade.hosted.batch_store import BatchStore
from cascade.hosted.batches import MARK, MOST_ROUNDS, Batches, BatchOptions, ask_in_batches
from cascade.hosted.job_service import Polling
from cascade.hosted.ledger import Ledger
from cascade.hosted.questions import Usage
from cascade.hosted.service_errors import ServiceError


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", KEY)


@pytest.fixture
def service():
    with Service(Script(answer=lambda text: str(len(text)))) as running:
        yield running


async def no_sleep(seconds):
    assert seconds >= 0


def ledger_of(folder):
    return Ledger(folder / "jobs.sqlite")


def ask(asked, folder, sleep=no_sleep, count=lambda *_: None, **options):
    """What comes of questions to a run whose ledger and answers are in a folder."""
    chosen = BatchOptions(polling=Polling(sleep=sleep), **options)
    with ledger_of(folder) as ledger, AnswerCache(folder / "answers.sqlite") as cache:
        return ask_in_batches(asked, ledger, cache, chosen, count)


def requests_of(service, batch):
    return [json.loads(line) for line in service.files[batch["input_file_id"]].decode().splitlines()]


PAGE = Reply(200, b"<html>busy</html>", {"content-type": "text/html"})


WHAT = ("http://host/v1", "m", "/v1/chat/completions")


class Killed(BaseException):
    """The process ends here."""


def killed_at(kind):
    def report(step):
        if step.kind == kind:
            raise Killed

    return report


# Answers and files


def test_answers_come_in_the_order_of_questions_though_results_do_not(service, tmp_path):
    asked = questions(service, texts_of(50))
    assert numbers(ask(asked[::-1], tmp_path)) == list(range(50, 0, -1))
    assert len(service.batches) == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("mn"), st.integers(1, 30)), max_size=40), st.integers(1, 9))
def test_any_questions_in_batches_of_any_size_are_answered_once(tmp_path_factory, drawn, most):
    with Service(Script(answer=lambda text: str(len(text)))) as service:
        asked = [questions(service, ["x" * length], model)[0] for model, length in drawn]
        folder = tmp_path_factory.mktemp("batches")
        assert numbers(ask(asked, folder, most_requests=most)) == [length for _, length in drawn]
        assert sum(service.texts.values()) == len(set(drawn))
        for batch in service.batches.values():
            requests = requests_of(service, batch)
            assert len(requests) <= most
            assert len({request["body"]["model"] for request in requests}) == 1
            assert len({request["custom_id"] for request in requests}) == len(requests)


def test_a_file_has_no_more_than_the_bytes_that_are_allowed(service, tmp_path):
    ask(questions(service, texts_of(40, start=100)), tmp_path, most_bytes=2000)
    assert len(service.batches) > 1
    assert all(len(service.files[batch["input_file_id"]]) <= 2000 for batch in service.batches.values())


def test_batches_are_asked_for_as_the_service_wants_it(service, tmp_path):
    ask(questions(service, ["x"]), tmp_path)
    (batch,) = service.batches.values()
    assert batch["endpoint"] == Echo().endpoint
    assert batch["completion_window"] == "24h"
    assert batch["metadata"][MARK]


def test_what_was_answered_in_a_folder_is_not_asked_again(service, tmp_path):
    asked = questions(service, texts_of(5))
    first = numbers(ask(asked, tmp_path))
    assert numbers(ask(asked, tmp_path)) == first
    assert numbers(ask([*asked, *questions(service, ["x" * 70])], tmp_path)) == [*first, 70]
    assert set(service.texts.values()) == {1}


def test_nothing_asked_is_nothing_sent(service, tmp_path):
    assert ask([], tmp_path) == []
    assert not service.files


def test_only_the_owner_may_read_the_state(service, tmp_path):
    ask(questions(service, ["x"]), tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_usage_is_counted_by_model(service, tmp_path):
    counted: dict[str, Usage] = {}

    def count(model, usage):
        counted[model] = counted.get(model, Usage()) + usage

    service.script.answer = lambda text: "nonsense" if text == "xx" else "1"
    answers = ask(questions(service, texts_of(3)), tmp_path, count=count)
    assert counted == {"m": Usage(3, 30, 12, 6, unreadable=1, batched=3)}
    assert numbers(answers) == [1, None, 1]
    assert "nonsense" not in answers[1].why


# What expires or fails


def test_expired_requests_alone_are_sent_again(service, tmp_path):
    service.script.expire = [lambda place: place % 3 == 0, lambda place: place == 0]
    steps = []
    assert numbers(ask(questions(service, texts_of(20)), tmp_path, report=steps.append)) == list(range(1, 21))
    assert [len(requests_of(service, batch)) for batch in service.batches.values()] == [20, 7, 1]
    assert set(service.texts.values()) == {1}
    assert [step.requests for step in steps if step.kind == "again"] == [7, 1]


def test_what_expires_again_and_again_is_given_up(service, tmp_path):
    service.script.expire = [lambda place: True] * MOST_ROUNDS
    asked = questions(service, texts_of(3))
    answers = ask(asked, tmp_path)
    assert numbers(answers) == [None] * 3
    assert "batch_expired" in answers[0].why
    assert len(service.batches) == MOST_ROUNDS
    assert numbers(ask(asked, tmp_path)) == [1, 2, 3]


def test_a_request_that_is_at_fault_fails_its_row_only(service, tmp_path):
    service.script.always = {"xx": INVALID}
    answers = ask(questions(service, texts_of(4)), tmp_path)
    assert numbers(answers) == [1, None, 3, 4]
    assert "400" in answers[1].why
    assert len(service.batches) == 1


def test_when_all_requests_fail_there_is_no_output_file(service, tmp_path):
    service.script.always = dict.fromkeys(texts_of(3), INVALID)
    assert numbers(ask(questions(service, texts_of(3)), tmp_path)) == [None] * 3
    (batch,) = service.batches.values()
    assert batch["output_file_id"] is None


@pytest.mark.parametrize("trouble", [LIMIT, OVERLOADED, BROKEN], ids=["limit", "overloaded", "broken"])
def test_a_request_that_the_service_failed_is_sent_again(service, tmp_path, trouble):
    service.script.troubles = {"xx": [trouble]}
    assert numbers(ask(questions(service, texts_of(4)), tmp_path)) == [1, 2, 3, 4]
    assert [len(requests_of(service, batch)) for batch in service.batches.values()] == [4, 1]


def test_a_batch_that_failed_as_a_whole_is_sent_again(service, tmp_path):
    service.script.fail_batches = ["server_error"]
    assert numbers(ask(questions(service, texts_of(4)), tmp_path)) == [1, 2, 3, 4]


def test_a_batch_that_fails_again_and_again_says_why(service, tmp_path):
    service.script.fail_batches = ["invalid_json_line"] * MOST_ROUNDS
    assert "invalid_json_line" in ask(questions(service, ["x"]), tmp_path)[0].why


def test_too_many_tokens_at_once_are_shared_by_smaller_batches(service, tmp_path):
    service.script.fail_batches = ["token_limit_exceeded"] * 6
    asked = questions(service, texts_of(256))
    assert numbers(ask(asked, tmp_path, most_requests=256)) == list(range(1, 257))
    sizes = [len(requests_of(service, batch)) for batch in service.batches.values()]
    assert sizes[0] == 256
    assert sizes[-1] < 128


def test_a_batch_that_somebody_cancelled_is_not_sent_again_unasked(service, tmp_path):
    def cancel(step):
        if step.kind == "created":
            service.batches[step.batch]["status"] = "cancelled"

    asked = questions(service, texts_of(3))
    with pytest.raises(BackendError, match="cancelled"):
        ask(asked, tmp_path, report=cancel)
    assert numbers(ask(asked, tmp_path)) == [1, 2, 3]
    assert len(service.batches) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"custom_id": "a", "response": {"status_code": 200, "body": {"choices": [1]}}}',
        b"\xff",
    ],
    ids=["deep", "no choice", "no text"],
)
def test_a_line_that_is_no_result_is_no_answer(line):
    name, choice, usage, failure = result_of(line)
    assert (name in ("", "a"), choice, usage, failure.may_pass) == (True, None, {}, True)


# Troubles of calls


@pytest.mark.parametrize("place", ["upload", "create"])
@pytest.mark.parametrize(
    "trouble", [LIMIT, OVERLOADED, BROKEN, PAGE], ids=["limit", "overloaded", "broken", "page"]
)
def test_calls_are_repeated_when_trouble_passes(service, tmp_path, place, trouble):
    service.script.troubles = {place: [trouble] * 2}
    assert numbers(ask(questions(service, texts_of(4)), tmp_path)) == [1, 2, 3, 4]
    assert len(service.batches) == 1


def test_a_fresh_file_that_is_not_found_yet_is_waited_for(service, tmp_path):
    service.script.troubles = {"create": [MISSING]}
    assert numbers(ask(questions(service, texts_of(4)), tmp_path)) == [1, 2, 3, 4]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_batch_that_was_created_though_nobody_heard_is_not_created_twice(service, tmp_path, forgets):
    service.script.troubles = {"create": [CUT]}
    service.script.forget_metadata = forgets
    asked = questions(service, texts_of(14))
    assert numbers(ask(asked, tmp_path, most_requests=2)) == list(range(1, 15))
    assert len(service.batches) == 7


def test_no_money_stops_and_costs_nothing_twice(service, tmp_path):
    service.script.troubles = {"create": [Reply(429, QUOTA.body)]}
    asked = questions(service, texts_of(4))
    with pytest.raises(ServiceError) as caught:
        ask(asked, tmp_path)
    assert caught.value.trouble == "quota"
    assert numbers(ask(asked, tmp_path)) == [1, 2, 3, 4]
    assert len(service.batches) == 1


# Stopped and begun again


def test_a_run_that_was_stopped_goes_on_with_the_same_batches(service, tmp_path):
    asked = questions(service, texts_of(6))
    with pytest.raises(Killed):
        ask(asked, tmp_path, report=killed_at("created"))
    assert numbers(ask(asked, tmp_path)) == list(range(1, 7))
    assert len(service.batches) == 1


def test_a_run_that_was_stopped_while_a_batch_was_created_finds_it(service, tmp_path):
    async def killed(_):
        raise Killed

    service.script.troubles = {"create": [CUT]}
    asked = questions(service, texts_of(6))
    with pytest.raises(Killed):
        ask(asked, tmp_path, sleep=killed)
    steps = []
    assert numbers(ask(asked, tmp_path, report=steps.append)) == list(range(1, 7))
    assert steps[0].kind == "found"
    assert len(service.batches) == 1


def test_a_run_that_was_stopped_before_a_batch_was_created_creates_it(service, tmp_path):
    async def killed(_):
        raise Killed

    service.script.troubles = {"upload": [BROKEN]}
    asked = questions(service, texts_of(6))
    with pytest.raises(Killed):
        ask(asked, tmp_path, sleep=killed)
    assert numbers(ask(asked, tmp_path)) == list(range(1, 7))
    assert len(service.batches) == 1


@pytest.mark.parametrize("model", ["m", "n"])
def test_a_batch_of_other_questions_is_left_to_who_asked_them(service, tmp_path, model):
    others = questions(service, texts_of(3, start=50), model)
    with pytest.raises(Killed):
        ask(others, tmp_path, report=killed_at("created"))
    assert numbers(ask(questions(service, texts_of(3)), tmp_path)) == [1, 2, 3]
    assert not any(service.texts[question.text] for question in others)
    assert numbers(ask(others, tmp_path)) == [51, 52, 53]
    assert len(service.batches) == 2


def test_two_runs_with_the_same_questions_share_a_batch(service, tmp_path):
    asked, second = questions(service, texts_of(5)), []

    def report(event):
        if event.kind == "created" and not second:
            second.append(pool.submit(ask, asked, tmp_path))
            while service.paths["GET", f"/v1/batches/{event.batch}"] < 1:
                time.sleep(0.01)

    service.script.polls = 3
    with ThreadPoolExecutor(1) as pool:
        first = ask(asked, tmp_path, report=report)
        assert numbers(first) == numbers(second[0].result(30)) == [1, 2, 3, 4, 5]
    assert len(service.batches) == 1
    assert set(service.texts.values()) == {1}


def test_a_run_waits_while_another_is_about_to_create_the_batch(service, tmp_path):
    asked = questions(service, texts_of(5))
    with ledger_of(tmp_path) as ledger, ledger.running() as owner:
        store = BatchStore(ledger, owner)
        with store.planning():
            store.intend([question.key(question.body()).hex() for question in asked], *WHAT)
        looks = []

        async def sleep(_):
            looks.append(len(service.files))
            if len(looks) == 3:
                ((record, _),) = store.batches_of({question.key(question.body()).hex() for question in asked})
                store.end(record.key)

        assert numbers(ask(asked, tmp_path, sleep=sleep)) == [1, 2, 3, 4, 5]
    assert looks[:3] == [0, 0, 0]
    assert len(service.batches) == 1


def test_a_damaged_cache_is_told_before_anything_is_lost(service, tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database" * 500)
    asked = questions(service, ["x"])
    with pytest.raises(BackendError, match=r"answers cannot be kept.*cascade cache clear"):
        ask(asked, tmp_path)
    (tmp_path / "answers.sqlite").unlink()
    assert numbers(ask(asked, tmp_path)) == [1]
    assert len(service.batches) == 1


def test_a_batch_that_is_over_leaves_nothing_but_answers(service, tmp_path):
    ask(questions(service, texts_of(4)), tmp_path)
    with ledger_of(tmp_path) as ledger:
        assert ledger.rows("SELECT * FROM batches") == []
        assert ledger.rows("SELECT * FROM batch_requests") == []


def test_answers_that_are_dropped_at_once_are_answers_all_the_same(service, tmp_path):
    with ledger_of(tmp_path) as ledger, AnswerCache(tmp_path / "answers.sqlite", most_bytes=0) as cache:
        chosen = BatchOptions(polling=Polling(sleep=no_sleep))
        assert numbers(ask_in_batches(questions(service, texts_of(9)), ledger, cache, chosen)) == list(
            range(1, 10)
        )
        assert cache.count() == 0


def test_a_result_file_that_is_too_large_is_refused_and_its_batch_kept(service, tmp_path):
    service.script.answer = lambda text: "7" * 100_000
    asked = questions(service, texts_of(400))
    with pytest.raises(ServiceError, match=r"content of file-1 is larger than 32 MiB"):
        ask(asked, tmp_path, most_answer_bytes=1)
    assert len(service.batches) == 1
    assert all(answer.scores is not None for answer in ask(asked, tmp_path))
    assert len(service.batches) == 1


def test_the_ledger_has_no_texts_and_no_key(service, tmp_path):
    def stop(event):
        if event.kind == "created":
            raise Killed

    with pytest.raises(Killed):
        ask(questions(service, ["words of somebody"]), tmp_path, report=stop)
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as file:
        told = "".join(file.iterdump())
    assert "batch_requests" in told
    assert "words of somebody" not in told
    assert os.environ["SERVICE_KEY"] not in told


# As a part of asking


def test_an_asker_has_in_batches_asked_what_can_wait(service, tmp_path):
    patient = questions(service, texts_of(3))
    patient = [replace(one, settings=replace(one.settings, batch=True)) for one in patient]
    urgent = questions(service, ["x" * 7])
    cache = AnswerCache(tmp_path / "answers.sqlite")
    with Asker(cache=cache, batches=Batches(partial(ledger_of, tmp_path), cache)) as asker:
        assert numbers(asker.ask([patient[0], *urgent, *patient[1:]])) == [1, 7, 2, 3]
        (used,) = asker.usage().values()
    assert (used.requests, used.batched) == (4, 3)
    assert len(service.batches) == 1
    assert not Batches(partial(ledger_of, tmp_path), cache).takes(urgent[0].settings)
    assert Batches(partial(ledger_of, tmp_path), cache, everything=True).takes(urgent[0].settings)


def test_threads_that_ask_in_batches_wait_for_each_other(service, tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    batches = Batches(partial(ledger_of, tmp_path), cache, everything=True)
    with Asker(cache=cache, batches=batches) as asker, ThreadPoolExecutor(4) as pool:
        asked = [questions(service, texts_of(count)) for count in (2, 5, 3, 4)]
        found = [numbers(answers) for answers in pool.map(asker.ask, asked)]
    assert found == [list(range(1, len(one) + 1)) for one in asked]
    assert sum(service.texts.values()) == 5
