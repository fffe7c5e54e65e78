"""Answers that a service keeps, so that none is paid for twice."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from answering_service import CUT, FORBIDDEN, INVALID, LIMIT, LOST, MISSING, Reply, Script, Service, error
from echo_service import KEY, Echo, numbers, questions, settings_of, texts_of

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.asker import Asker
from cascade.hosted.questions import PendingQuestion, Question
from cascade.hosted.retry import RetryPolicy
from cascade.hosted.stored_answers import MARK, StoredAnswers

LISTS = ("GET", "/v1/chat/completions")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", KEY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.sqlite"


def hurried(path, speed=300.0, **options):
    """An asker with a cache for whom time passes so many times as fast."""
    return Asker(
        cache=AnswerCache(path, clock=lambda: time.time() * speed),
        clock=lambda: time.monotonic() * speed,
        sleep=lambda seconds: asyncio.sleep(seconds / speed),
        chance=lambda: 0.0,
        **options,
    )


def waiting_asker(path, passed, **options):
    """An asker with a cache that looks often; `passed` has seconds that passed beside those that did."""

    async def rest(seconds):
        await asyncio.sleep(min(seconds, 0.01))

    clock = {"clock": lambda: time.monotonic() + passed[0], "sleep": rest}
    return Asker(cache=AnswerCache(path), **clock, **options)


def until_there(is_there):
    end = time.monotonic() + 30
    while not is_there():
        assert time.monotonic() < end
        time.sleep(0.005)


def stored(service, texts, **options):
    return questions(service, texts, store=True, **options)


def keys_of(asked):
    return [PendingQuestion.of(one).key for one in asked]


def sent_by_a_run_that_was_killed(path, asked, ago=0.0, speed=300.0):
    """Note questions as sent, in a process that does not live to have their answers."""
    with AnswerCache(path, clock=lambda: time.time() * speed - ago) as cache:
        for one in keys_of(asked):
            cache.note_sent(one).result(10)


def answered_to_nobody(service, asked):
    """Have the service answer questions as it did when a run was killed."""
    for one in asked:
        body = {"model": one.model, **one.codec.request(one.text), "store": True}
        body["metadata"] = {MARK: PendingQuestion.of(one).key.hex()}
        headers = {"authorization": "Bearer any"}
        service.reply("POST", "/v1/chat/completions", headers, json.dumps(body).encode())


# What is sent


def test_a_question_is_sent_with_its_mark_and_without_store_as_ever(service, path):
    asked = stored(service, ["x"])
    with hurried(path) as asker:
        assert numbers(asker.ask([*asked, *questions(service, ["xx"])])) == [1, 2]
    with_store, without = sorted(service.bodies, key=lambda body: len(body["messages"][0]["content"]))
    assert with_store["store"] is True
    assert with_store["metadata"] == {MARK: keys_of(asked)[0].hex()}
    assert without.keys().isdisjoint({"store", "metadata"})


def test_the_same_question_with_and_without_store_is_asked_once(service, path):
    with hurried(path) as asker:
        asker.ask(stored(service, ["x"]) + questions(service, ["xx"]))
        assert numbers(asker.ask(questions(service, ["x"]) + stored(service, ["xx"]))) == [1, 2]
    assert set(service.texts.values()) == {1}


def test_without_a_cache_nothing_is_kept_at_the_service(service):
    with Asker() as asker:
        assert numbers(asker.ask(stored(service, ["x"]))) == [1]
    assert "store" not in service.bodies[0]


def test_what_was_answered_leaves_no_note_and_is_looked_for_nowhere(service, path):
    asked = stored(service, texts_of(30))
    with hurried(path) as asker:
        asker.ask(asked)
    with AnswerCache(path) as cache:
        assert cache.sent_seconds(keys_of(asked)) == {}
    assert service.paths[LISTS] == 0


# Answers that did not arrive


def test_an_answer_that_was_cut_off_is_found_and_not_asked_for_again(service, path):
    service.script.troubles = {"xx": [LOST], "xxx": [LOST]}
    with hurried(path) as asker:
        assert numbers(asker.ask(stored(service, texts_of(5)))) == [1, 2, 3, 4, 5]
        used = asker.usage()["m"]
    assert set(service.texts.values()) == {1}
    assert (used.found_again, used.requests, used.retries) == (2, 5, 0)


def test_without_store_it_is_paid_for_again(service, path):
    service.script.troubles = {"xx": [LOST]}
    with hurried(path) as asker:
        assert numbers(asker.ask(questions(service, texts_of(5)))) == [1, 2, 3, 4, 5]
    assert service.texts["xx"] == 2


def test_answers_on_their_way_to_a_run_that_was_killed_are_found(service, path):
    asked = stored(service, texts_of(6))
    sent_by_a_run_that_was_killed(path, asked[:3])
    answered_to_nobody(service, asked[:3])
    with hurried(path) as asker:
        assert numbers(asker.ask(asked)) == [1, 2, 3, 4, 5, 6]
        assert asker.usage()["m"].found_again == 3
        assert numbers(asker.ask(asked)) == [1, 2, 3, 4, 5, 6]
    assert set(service.texts.values()) == {1}
    assert service.paths[LISTS] == 3


def test_an_answer_that_shows_late_in_the_list_is_waited_for(service, path):
    asked = stored(service, ["x"])
    sent_by_a_run_that_was_killed(path, asked)
    answered_to_nobody(service, asked)
    service.script.unlisted_looks = 4
    with hurried(path, retry_policy=RetryPolicy(sought_seconds=1e6)) as asker:
        assert numbers(asker.ask(asked)) == [1]
    assert service.texts["x"] == 1
    assert service.paths[LISTS] == 5


def test_a_question_that_never_arrived_is_asked_after_a_while_and_holds_up_no_other(service, path):
    asked, passed = stored(service, texts_of(9)), [0.0]
    sent_by_a_run_that_was_killed(path, asked[:1], speed=1.0)
    policy = RetryPolicy(sought_seconds=100.0)
    # Who fails closes the asker first, so that nobody waits.
    with ThreadPoolExecutor(1) as pool, waiting_asker(path, passed, retry_policy=policy) as asker:
        waiting = pool.submit(asker.ask, asked)
        until_there(lambda: service.paths[LISTS] > 2 and len(service.texts) == 8)
        assert not waiting.done()
        passed[0] = 100.0
        assert numbers(waiting.result(30)) == list(range(1, 10))
    assert set(service.texts.values()) == {1}


def test_how_long_is_waited_goes_by_what_answers_take(service, path):
    asked, passed = stored(service, ["x"]), [0.0]
    sent_by_a_run_that_was_killed(path, asked, speed=1.0)
    policy = RetryPolicy(sought_seconds=1e6)
    with ThreadPoolExecutor(1) as pool, waiting_asker(path, passed, retry_policy=policy) as asker:
        waiting = pool.submit(asker.ask, asked)
        until_there(lambda: service.paths[LISTS] > 0)
        passed[0] = 1000.0
        looks = service.paths[LISTS]
        until_there(lambda: service.paths[LISTS] > looks + 2)
        assert not waiting.done()
        asker.ask(stored(service, ["xx"]))
        assert numbers(waiting.result(30)) == [1]


def test_without_a_reason_to_wait_it_is_looked_for_once(service, path):
    asked = stored(service, ["x"])
    sent_by_a_run_that_was_killed(path, asked, ago=200.0)
    with hurried(path) as asker:
        assert numbers(asker.ask(asked)) == [1]
    assert (service.paths[LISTS], service.texts["x"]) == (1, 1)


def test_a_note_of_a_clock_that_went_wrong_is_waited_for_no_longer_than_any(service, path):
    asked = stored(service, ["x"])
    sent_by_a_run_that_was_killed(path, asked, ago=-1e6)
    with hurried(path, retry_policy=RetryPolicy(sought_seconds=30.0)) as asker:
        assert numbers(asker.ask(asked)) == [1]


def test_what_another_run_has_just_answered_is_taken_from_it(service, path):
    asked, policy = stored(service, ["x"]), RetryPolicy(sought_seconds=1e6)
    with AnswerCache(path, clock=lambda: time.time() * 300.0) as other:
        other.note_sent(keys_of(asked)[0]).result(10)
        with ThreadPoolExecutor(1) as pool, hurried(path, retry_policy=policy) as asker:
            waiting = pool.submit(asker.ask, asked)
            while not service.paths[LISTS]:
                time.sleep(0.005)
            other.put(keys_of(asked)[0], CachedAnswer({"message": {"content": "7"}}, {}))
            assert numbers(waiting.result(30)) == [7]
    assert not service.texts


def test_a_run_that_goes_on_without_an_answer_is_not_waited_for_for_ever(service, path):
    asked = stored(service, ["x"])
    with AnswerCache(path, clock=lambda: time.time() * 300.0) as other:
        other.note_sent(keys_of(asked)[0]).result(10)
        with hurried(path) as asker:
            assert numbers(asker.ask(asked)) == [1]


def test_what_is_on_its_way_when_asking_ends_is_found_by_the_next(service, path):
    service.script.latency = 0.4
    asked = stored(service, texts_of(3))
    asker = Asker(cache=AnswerCache(path), parting_seconds=0.05)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.ask, asked)
        while service.in_flight < 3:
            time.sleep(0.005)
        asker.close()
        with pytest.raises(BackendError, match="closed"):
            waiting.result(10)
    with Asker(cache=AnswerCache(path)) as again:
        assert numbers(again.ask(asked)) == [1, 2, 3]
        assert again.usage()["m"].found_again == 3
    assert sorted(service.texts.values()) == [1, 1, 1]


def test_a_list_that_wants_to_be_left_alone_holds_up_no_question(service, path):
    asked, passed = stored(service, texts_of(9)), [0.0]
    sent_by_a_run_that_was_killed(path, asked[:1], speed=1.0)
    answered_to_nobody(service, asked[:1])
    service.script.listing = LIMIT
    with ThreadPoolExecutor(1) as pool, waiting_asker(path, passed) as asker:
        waiting = pool.submit(asker.ask, asked)
        until_there(lambda: service.paths[LISTS] > 0 and len(service.texts) == 9)
        service.script.listing = None
        assert numbers(waiting.result(30)) == list(range(1, 10))
        assert asker.usage()["m"].found_again == 1
    assert set(service.texts.values()) == {1}


@pytest.mark.parametrize("trouble", [error(500, "server_error"), LIMIT], ids=["broken", "limit"])
def test_a_list_that_never_comes_is_given_up(service, path, trouble):
    asked = stored(service, texts_of(3))
    sent_by_a_run_that_was_killed(path, asked[:1])
    service.script.listing = trouble
    notes = []
    with hurried(path, note=notes.append) as asker:
        assert numbers(asker.ask(asked)) == [1, 2, 3]
    assert len(notes) == 1
    assert set(service.texts.values()) == {1}


# What surely has no answer


def test_what_the_service_refused_is_asked_again_without_a_look(service, path):
    service.script.troubles = {"x": [LIMIT], "xx": [error(500, "server_error")]}
    with hurried(path) as asker:
        assert numbers(asker.ask(stored(service, texts_of(3)))) == [1, 2, 3]
    assert service.paths[LISTS] == 0


@pytest.mark.parametrize("trouble", [error(502), error(504), Reply(200, b"<html>"), CUT])
def test_what_may_have_been_answered_is_looked_for(service, path, trouble):
    service.script.troubles = {"x": [trouble]}
    with hurried(path) as asker:
        assert numbers(asker.ask(stored(service, texts_of(3)))) == [1, 2, 3]
    assert service.paths[LISTS] > 0


def test_without_a_connection_nothing_is_noted(path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    @dataclass
    class Nowhere:
        base_url: str = address

    asked = stored(Nowhere(), ["x"])
    with hurried(path) as asker, pytest.raises(BackendError, match="has not answered once"):
        asker.ask(asked)
    with AnswerCache(path) as cache:
        assert cache.sent_seconds(keys_of(asked)) == {}


# Services that cannot


@pytest.mark.parametrize(
    "listing",
    [MISSING, error(405, "method_not_allowed"), FORBIDDEN, Reply(200, b"<html>"), Reply(200, {"data": 1})],
    ids=["missing", "no method", "forbidden", "no JSON", "no list"],
)
def test_a_service_without_the_list_is_asked_at_once_and_told_of_once(service, path, listing):
    service.script.listing = listing
    asked = stored(service, texts_of(6))
    sent_by_a_run_that_was_killed(path, asked[:2])
    notes = []
    with hurried(path, note=notes.append) as asker:
        assert numbers(asker.ask(asked)) == [1, 2, 3, 4, 5, 6]
        asker.ask(stored(service, ["y" * 50]))
    assert len(notes) == 1
    assert "does not list the answers that it keeps" in notes[0]
    assert "store" not in service.bodies[-1]
    assert set(service.texts.values()) == {1}


def test_a_service_that_takes_no_store_is_asked_without_and_told_of_once(path):
    def refusing(body):
        return error(400, "unknown_parameter", "Unknown parameter: 'store'.") if "store" in body else None

    with Service(Script(answer=lambda text: str(len(text)), refuse=refusing)) as service:
        notes = []
        with hurried(path, note=notes.append) as asker:
            assert numbers(asker.ask(stored(service, texts_of(20)))) == list(range(1, 21))
            tried = sum("store" in body for body in service.bodies)
            assert numbers(asker.ask(stored(service, ["y" * 50]))) == [50]
        assert len(notes) == 1
        assert "takes no `store`" in notes[0]
        assert sum("store" in body for body in service.bodies) == tried <= 20


def test_a_question_that_is_at_fault_itself_is_not_blamed_on_store(service, path):
    service.script.always = {"x": INVALID}
    notes = []
    with hurried(path, note=notes.append) as asker:
        assert numbers(asker.ask(stored(service, ["x"]))) == [None]
        assert numbers(asker.ask(stored(service, ["x", "xx"]))) == [None, 2]
    assert notes == []
    assert service.bodies[-1].get("store") or service.bodies[-2].get("store")


def test_of_a_list_without_a_filter_only_what_is_marked_is_taken(service, path):
    service.script.knows_filter = False
    asked = stored(service, texts_of(3))
    sent_by_a_run_that_was_killed(path, asked[:2], ago=200.0)
    answered_to_nobody(service, asked[1:])
    with hurried(path) as asker:
        assert numbers(asker.ask(asked[:2])) == [1, 2]
        assert asker.usage()["m"].found_again == 1


@dataclass(frozen=True)
class WithLogprobs(Echo):
    def request(self, text):
        return {**super().request(text), "logprobs": True}


@pytest.mark.parametrize(("listed", "times"), [(None, 2), ({"content": [{"token": "1"}]}, 1)])
def test_answers_without_the_probabilities_that_were_asked_for_are_not_taken(service, path, listed, times):
    asked = [Question("m", settings_of(service, store=True), WithLogprobs(), "x")]
    sent_by_a_run_that_was_killed(path, asked)
    service.script.logprobs = listed
    answered_to_nobody(service, asked)
    notes = []
    with hurried(path, note=notes.append) as asker:
        assert numbers(asker.ask(asked)) == [1]
    assert service.texts["x"] == times
    assert len(notes) == times - 1


def test_an_answer_is_looked_for_as_long_as_those_before_it_say_and_no_longer_than_most():
    stored = StoredAnswers("http://service/v1", None, lambda _: None, most_seconds=60)
    found = [stored.patience_seconds]
    for seconds in (1, 10, 2, 30):
        stored.answered(seconds, was_kept=True)
        found.append(stored.patience_seconds)
    assert found == [60, 15, 40, 40, 60]
