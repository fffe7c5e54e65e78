from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from answering_service import (
    BROKEN,
    CUT,
    DAILY,
    FORBIDDEN,
    INVALID,
    LIMIT,
    LOADING,
    MISSING,
    OVERLOADED,
    QUOTA,
    Reply,
    Script,
    Service,
)
from echo_service import KEY, numbers, questions, settings_of, texts_of
from hypothesis import given, settings
from hypothesis import strategies as st
from places import HELPERS, ROOT

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache
from cascade.hosted.asker import Asker, shared_asker
from cascade.hosted.codecs import codec_of
from cascade.hosted.questions import AskingProgress, Question, Usage
from cascade.hosted.retry import RetryPolicy
from cascade.hosted.service_errors import ServiceError
from cascade.hosted.settings import Limits


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", KEY)


def hurried(speed=300.0, **options):
    """An asker for whom time passes so many times as fast."""
    return Asker(
        clock=lambda: time.monotonic() * speed,
        sleep=lambda seconds: asyncio.sleep(seconds / speed),
        chance=lambda: 0.5,
        **options,
    )


# Order and equal questions


def test_answers_come_in_the_order_of_questions_whatever_the_delays():
    delays: dict[str, float] = {}
    with Service(Script(answer=str, latency=lambda text: delays[text])) as service, Asker() as asker:
        serial = iter(range(10**6))

        @settings(max_examples=25, deadline=None)
        @given(st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.02]), min_size=1, max_size=40))
        def check(drawn):
            texts = [str(next(serial)) for _ in drawn]
            delays.update(zip(texts, drawn, strict=True))
            assert numbers(asker.ask(questions(service, texts))) == [int(text) for text in texts]

        check()


def test_nothing_asked_is_nothing_answered(service):
    with Asker() as asker:
        assert asker.ask([]) == []
    assert not service.texts


def test_many_threads_get_their_own_answers(service):
    service.script.latency = 0.005
    with Asker() as asker, ThreadPoolExecutor(12) as pool:
        calls = [texts_of(30, start=7 * number) for number in range(12)]
        found = list(pool.map(lambda texts: numbers(asker.ask(questions(service, texts))), calls))
    assert found == [[len(text) for text in texts] for texts in calls]


def test_equal_questions_are_asked_once_in_a_call_and_in_flight(service):
    service.script.latency = 0.1
    with Asker() as asker, ThreadPoolExecutor(8) as pool:
        asked = [questions(service, ["xx", "xxx", "xx"]) for _ in range(8)]
        found = list(pool.map(lambda one: numbers(asker.ask(one)), asked))
    assert found == [[2, 3, 2]] * 8
    assert set(service.texts.values()) == {1}


def test_another_model_or_text_is_another_question(service):
    with Asker() as asker:
        asker.ask(
            questions(service, ["xx"], "m") + questions(service, ["xx"], "n") + questions(service, ["x"], "m")
        )
    assert service.models == {"m": 2, "n": 1}


def test_texts_of_any_letters_arrive():
    texts = ["ä€😀", 'quo"te\\', "line\nline\t", "\x00", " ", "\ud800 half"]
    seen = []
    with Service(Script(answer=lambda text: seen.append(text) or "1")) as service, Asker() as asker:
        assert numbers(asker.ask(questions(service, texts))) == [1] * len(texts)
    assert sorted(seen) == sorted([*texts[:-1], "? half"])


def test_scores_come_from_the_codec(service):
    service.script.answer = lambda text: "1"
    codec = codec_of(("red", "green", "blue"), {}, "one", settings_of(service))
    with Asker() as asker:
        (answer,) = asker.ask([Question("m", settings_of(service), codec, "a text")])
    assert answer.scores.tolist() == [0.0, 1.0, 0.0]


# How much at once


def test_no_more_than_the_least_concurrency_is_in_flight_for_all_threads_together(service):
    service.script.latency = 0.01
    with Asker() as asker, ThreadPoolExecutor(4) as pool:
        asked = [questions(service, texts_of(25, 30 * n), concurrency=(9, 6, 30, 64)[n]) for n in range(4)]
        list(pool.map(asker.ask, asked))
    assert 4 <= service.most_in_flight <= 9
    assert service.in_flight == 0


def test_the_first_answer_is_waited_for_before_much_is_asked(service):
    service.script.latency = 0.05
    service.script.always = {"m": QUOTA}
    with Asker() as asker, pytest.raises(ServiceError):
        asker.ask(questions(service, texts_of(500)))
    assert sum(service.texts.values()) <= 8


def test_a_limit_that_the_service_tells_is_kept():
    speed = 60.0
    script = Script(answer=lambda text: str(len(text)), rpm=60, minute=60 / speed)
    with Service(script) as service, hurried(speed) as asker:
        found = numbers(asker.ask(questions(service, texts_of(150))))
    assert found == list(range(1, 151))
    assert service.statuses[429] <= 10


def test_a_limit_that_the_user_told_is_kept(service):
    speed = 100.0
    with hurried(speed) as asker:
        start = time.monotonic()
        asker.ask(questions(service, texts_of(60), limits=Limits(rpm=60)))
        assert (time.monotonic() - start) * speed >= 55


# Troubles that pass


@pytest.mark.parametrize(
    "trouble",
    [
        LIMIT,
        OVERLOADED,
        LOADING,
        BROKEN,
        CUT,
        Reply(200, b"no json"),
        Reply(200, {"choices": []}),
        Reply(200, [1]),
    ],
    ids=["limit", "overloaded", "loading", "broken", "cut", "no json", "no choice", "list"],
)
def test_troubles_that_pass_cost_time_and_no_answer(service, trouble):
    service.script.troubles = {"xx": [trouble], "*": [trouble]}
    with hurried() as asker:
        assert numbers(asker.ask(questions(service, texts_of(20)))) == list(range(1, 21))
        assert asker.usage()["m"].retries >= 2
        assert asker.usage()["m"].requests == sum(service.texts.values())


def test_a_row_that_is_lost_again_and_again_fails_alone(service):
    service.script.always = {"xx": CUT}
    service.script.latency = 0.2
    with hurried() as asker:
        answers = asker.ask(questions(service, texts_of(30), concurrency=2))
    assert numbers(answers) == [1, None, *range(3, 31)]
    # What was lost before anything at all was answered is not held against it.
    assert service.texts["xx"] in (7, 8)
    assert f"tried {service.texts['xx']} times" in answers[1].why


def test_all_at_the_service_pause_when_one_is_refused(service):
    service.script.troubles = {"*": [replace(LIMIT, headers={"retry-after": "30"})]}
    speed = 100.0
    with hurried(speed) as asker:
        start = time.monotonic()
        asker.ask(questions(service, texts_of(4), concurrency=1))
        assert (time.monotonic() - start) * speed >= 29


def test_a_model_that_wakes_up_is_asked_now_and_then_while_others_answer(service):
    service.script.troubles = {}
    awake = threading.Event()
    service.script.always = {"sleepy": LOADING}

    def wake():
        awake.wait(10)
        service.script.always = {}

    waker = threading.Thread(target=wake)
    waker.start()
    with hurried() as asker, ThreadPoolExecutor(2) as pool:
        sleepy = pool.submit(asker.ask, questions(service, texts_of(200), "sleepy", concurrency=5))
        assert numbers(asker.ask(questions(service, texts_of(50), "m", concurrency=5))) == list(range(1, 51))
        assert not sleepy.done()
        assert service.models["sleepy"] <= 30
        awake.set()
        assert numbers(sleepy.result()) == list(range(1, 201))
    waker.join()


# Troubles that do not


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(QUOTA, "quota"), (DAILY, "daily"), (FORBIDDEN, "forbidden")],
    ids=["quota", "day", "right"],
)
def test_what_waiting_does_not_help_stops_everybody_at_once(service, trouble, kind):
    service.script.latency = 0.02
    with Asker() as asker, ThreadPoolExecutor(3) as pool:
        asked = [questions(service, texts_of(400, 1000 * number), concurrency=4) for number in range(3)]
        calls = [pool.submit(asker.ask, one) for one in asked]
        while len(service.texts) < 20:
            time.sleep(0.005)
        service.script.always = {"m": trouble}
        seen = len(service.texts)
        troubles = [call.exception(10) for call in calls]
    assert [one.trouble for one in troubles] == [kind] * 3
    assert len(service.texts) <= seen + 20


def test_after_a_stop_it_can_be_asked_again(service):
    service.script.troubles = {"*": [QUOTA]}
    with Asker() as asker:
        with pytest.raises(ServiceError):
            asker.ask(questions(service, ["x"]))
        assert numbers(asker.ask(questions(service, ["x", "xx"]))) == [1, 2]


def test_a_model_that_is_missing_stops_its_questions_only(service):
    service.script.always = {"gone": MISSING}
    service.script.latency = 0.01
    with Asker() as asker, ThreadPoolExecutor(2) as pool:
        there = pool.submit(asker.ask, questions(service, texts_of(100), "m", concurrency=4))
        with pytest.raises(ServiceError, match="404") as caught:
            asker.ask(questions(service, texts_of(100), "gone", concurrency=4))
        assert numbers(there.result()) == list(range(1, 101))
    assert caught.value.trouble == "missing"
    assert service.models["gone"] <= 10


def test_a_request_that_is_at_fault_fails_its_row_only(service):
    service.script.always = {"xx": INVALID}
    with Asker() as asker:
        answers = asker.ask(questions(service, texts_of(5)))
    assert numbers(answers) == [1, None, 3, 4, 5]
    assert "400" in answers[1].why
    assert service.texts["xx"] == 1


def test_a_service_that_is_not_there_is_said_so():
    with Service() as service:
        gone = questions(service, texts_of(50))
    with hurried(3000.0) as asker, pytest.raises(ServiceError, match="cannot be reached") as caught:
        asker.ask(gone)
    assert f"{service.base_url}: has not answered once in 30 s" in str(caught.value)


def test_a_service_that_is_away_for_a_while_is_waited_for(service):
    with hurried() as asker:
        assert numbers(asker.ask(questions(service, ["x"]))) == [1]
        service.script.troubles = {"*": [CUT] * 80}  # each question more often than it is repeated otherwise
        assert numbers(asker.ask(questions(service, texts_of(9)))) == list(range(1, 10))


def test_a_service_that_stays_away_ends_the_asking_after_an_hour(service):
    with hurried(3000.0) as asker:
        assert numbers(asker.ask(questions(service, ["x"]))) == [1]
        service.script.troubles = {"*": [CUT] * 100_000}
        with pytest.raises(ServiceError, match="has not answered for 60 min"):
            asker.ask(questions(service, texts_of(9, start=10)))


def test_who_waits_is_told_how_far_it_is(service):
    service.script.latency = lambda text: 0.5 if len(text) == 3 else 0.0
    told = []
    with Asker(report=told.append, report_seconds=0.1) as asker:
        asker.ask(questions(service, texts_of(3)))
    assert told[-1] == AskingProgress(2, 3)
    assert len(told) > 2


def test_who_waits_is_told_what_the_trouble_is(service):
    service.script.always = {"x": BROKEN}
    told = []
    soon = RetryPolicy(repeats=1)
    with Asker(report=told.append, report_seconds=0.05, retry_policy=soon) as asker, suppress(ServiceError):
        asker.ask(questions(service, ["x"]))
    assert any("500" in progress.trouble for progress in told)


@pytest.mark.parametrize("trouble", [LOADING, LIMIT, OVERLOADED], ids=["loading", "limit", "overloaded"])
def test_waiting_for_a_service_has_an_end(service, trouble):
    service.script.always = {"m": trouble}
    with hurried(3000.0) as asker, pytest.raises(ServiceError):
        asker.ask(questions(service, texts_of(5)))
    assert sum(service.texts.values()) <= 1000


def test_an_answer_that_cannot_be_read_fails_its_row_and_is_counted(service):
    service.script.answer = lambda text: "nonsense" if text == "xx" else "7"
    with Asker() as asker:
        answers = asker.ask(questions(service, texts_of(3)))
        assert asker.usage()["m"].unreadable == 1
    assert numbers(answers) == [7, None, 7]
    assert "nonsense" not in answers[1].why
    assert service.texts["xx"] == 1


def test_a_fault_in_a_client_reaches_who_asks(service):
    def broken(_):
        raise BackendError("no key: set SERVICE_KEY")

    with Asker(broken) as asker, pytest.raises(BackendError, match="SERVICE_KEY"):
        asker.ask(questions(service, ["x"]))


def test_messages_have_no_key_and_no_text(service):
    secret = "my own secret words about somebody"
    told = f"Invalid value '{secret} and more of the same': key {KEY}"
    for status in (400, 401, 404, 429, 500):
        body = {"error": {"message": told, "code": "insufficient_quota" if status == 429 else None}}
        service.script.always = {secret: Reply(status, body)}
        with hurried(3000.0) as asker:
            try:
                message = asker.ask(questions(service, [secret]))[0].why
            except ServiceError as error:
                message = str(error)
        assert message
        assert secret not in message
        assert KEY not in message


# Totals, cache, log, end


def test_usage_is_counted_by_model(service):
    service.script.troubles = {"x": [BROKEN]}
    with hurried() as asker:
        asker.ask(questions(service, texts_of(3), "m") + questions(service, texts_of(1), "n"))
        found = asker.usage()
    assert found["m"] == Usage(4, 30, 12, 6, 1, 0, 0) or found["n"].retries == 1
    total = found["m"] + found["n"]
    assert total == Usage(5, 40, 16, 8, 1, 0, 0)


def test_what_was_answered_once_is_not_asked_again(service, tmp_path):
    asked = questions(service, texts_of(20))
    with Asker(cache=AnswerCache(tmp_path / "answers.sqlite")) as asker:
        first = numbers(asker.ask(asked))
        assert numbers(asker.ask(asked)) == first
    with Asker(cache=AnswerCache(tmp_path / "answers.sqlite")) as asker:
        assert numbers(asker.ask([*asked, *questions(service, ["y" * 50])])) == [*first, 50]
        assert asker.usage()["m"] == Usage(1, 10, 4, 2, from_cache=20)
    assert set(service.texts.values()) == {1}


def test_failures_are_not_kept(service, tmp_path):
    service.script.always = {"x": INVALID}
    with Asker(cache=AnswerCache(tmp_path / "answers.sqlite")) as asker:
        assert numbers(asker.ask(questions(service, ["x"]))) == [None]
        service.script.always = {}
        assert numbers(asker.ask(questions(service, ["x"]))) == [1]


def test_a_cache_that_does_not_work_costs_no_answer(service, tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database at all" * 1000)
    notes = []
    with Asker(cache=AnswerCache(tmp_path / "answers.sqlite", notes.append)) as asker:
        assert numbers(asker.ask(questions(service, texts_of(5)))) == [1, 2, 3, 4, 5]
    assert len(notes) == 1


def test_only_the_log_shows_texts_and_not_even_it_the_key(service, capfd, caplog):
    service.script.always = {"other": INVALID}
    lines: list[str] = []
    with Asker(log=lines.append) as asker, Asker() as silent:
        asker.ask(questions(service, ["shown words", "other"]))
        silent.ask(questions(service, ["hidden words", "other"]))
    assert any("shown words" in line for line in lines)
    assert any(line.startswith("400 ") for line in lines)
    assert KEY not in "".join(lines)
    out, err = capfd.readouterr()
    assert "hidden words" not in out + err + caplog.text


def test_control_c_ends_at_once_and_asks_no_more(service):
    service.script.latency = 0.05
    code = (
        # Who runs the tests in the background has interrupts ignored, by all processes below.
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from echo_service import Echo\nfrom cascade.hosted.asker import Asker, Question\n"
        "from cascade.hosted.settings import Settings\n"
        "where = Settings(provider='compatible', base_url=sys.argv[1], "
        "api_key_env='SERVICE_KEY', concurrency=1)\n"
        "Asker().ask([Question('m', where, Echo(), 'x' * length) for length in range(1, 2000)])\n"
    )
    command = [sys.executable, "-c", code, service.base_url]
    path = os.pathsep.join([str(HELPERS), *sys.path])
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE) as process:
        while len(service.texts) < 3:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert b"KeyboardInterrupt" in told
    assert process.returncode != 0
    assert len(service.texts) < 1000


def test_answers_that_are_on_their_way_are_kept_when_asking_ends(service, tmp_path):
    service.script.latency = 0.5
    texts = texts_of(3)
    asker = Asker(cache=AnswerCache(tmp_path / "answers.sqlite"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.ask, questions(service, texts))
        while service.in_flight < 3:
            time.sleep(0.005)
        # Who closes it last waits for who closed it first.
        with ThreadPoolExecutor(2) as closers:
            list(closers.map(lambda _: asker.close(), range(2)))
        with pytest.raises(BackendError, match="closed"):
            waiting.result(10)
    with Asker(cache=AnswerCache(tmp_path / "answers.sqlite")) as again:
        found = again.ask(questions(service, texts))
    assert all(answer.scores is not None for answer in found)
    assert sorted(service.texts.values()) == [1, 1, 1]


def test_closing_ends_what_waits(service):
    service.script.latency = 30.0
    asker = Asker(parting_seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(asker.ask, questions(service, texts_of(3)))
        while not service.in_flight:
            time.sleep(0.005)
        asker.close()
        with pytest.raises(BackendError, match="closed"):
            waiting.result(10)
    asker.close()
    with pytest.raises(BackendError, match="closed"):
        asker.ask(questions(service, ["x"]))


def test_there_is_one_asker_in_a_process_until_it_is_closed():
    first = shared_asker()
    assert shared_asker() is first
    first.close()
    second = shared_asker()
    assert second is not first
    second.close()


def test_the_benchmark_runs():
    script = ROOT / "tests" / "benchmarks" / "asking.py"
    command = [sys.executable, script, "--seconds", "0.2", "--case", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert "of processor time" in done.stdout


def test_questions_that_should_go_in_batches_are_not_asked_at_once_without_a_word(service):
    asked = questions(service, texts_of(3), batch=True)
    with Asker() as asker, pytest.warns(UserWarning, match="in Python questions are asked at once"):
        assert numbers(asker.ask(asked)) == [1, 2, 3]
