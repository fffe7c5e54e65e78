from __future__ import annotations

import asyncio
import base64
import multiprocessing
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in_service import CURVE, QUICK, RefusedError, client_of, order_of, stand_in, tune, tune_apart

from cascade.errors import BackendError
from cascade.hosted.job_service import Polling
from cascade.hosted.jobs import cancel, fine_tune
from cascade.hosted.ledger import Ledger
from cascade.hosted.retry import RetryPolicy
from cascade.hosted.settings import PROVIDERS, Settings
from cascade.hosted.training_curve import curve_of

GROUPS = ("billing", "delivery", "mood")
LIMITED = RefusedError(429, "rate_limit_exceeded", "slow down")
DAILY = RefusedError(429, "daily_rate_limit_exceeded", "enough for today")
BROKEN = RefusedError(500, "server_error", "it hurts")
OVERLOADED = RefusedError(503, "server_is_overloaded", "too much to do")
CLOSED = RefusedError(403, "training_not_available", "This organization may not train")
COLUMNS = {"group": "billing", "service": "s", "settings": {}, "base_model": "base", "suffix": "shop"}
JOBS, FILES = "fine_tuning/jobs", "files"


@pytest.fixture
def service():
    with stand_in() as running:
        yield running


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


def orders_of(service, groups=GROUPS, **changes):
    return [order_of(service.url, group, **changes) for group in groups]


def kinds(steps, group):
    return [step.kind for step in steps if step.group == group]


def records(path):
    with Ledger(path) as ledger:
        return {record.group: record for record in ledger.orders()}


def check_one_job_each(service, outcomes, groups=GROUPS):
    """Every order has a model, and the service has one job for each."""
    assert [outcome.state for outcome in outcomes] == ["succeeded"] * len(groups)
    assert service.created() == {f"key-of-{group}": 1 for group in groups}
    for outcome, group in zip(outcomes, groups, strict=True):
        assert (outcome.group, outcome.why, outcome.advice) == (group, "", "")
        assert outcome.tuned.model.startswith("ft:")
        assert service.jobs[outcome.tuned.job]["metadata"]["cascade_group"] == group


# All is well


def test_each_order_gets_its_model(service, path):
    service.estimated_finish = 2_000_000_000
    outcomes, steps = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert outcomes[0].tuned.trained_tokens == 1234
    assert outcomes[0].tuned.result_csv == (
        {"step": 1.0, "train_loss": 2.5},
        {"step": 2.0, "train_loss": 1.25, "valid_loss": 1.5},
    )
    seen = kinds(steps, "mood")
    assert [kind for i, kind in enumerate(seen) if kind not in seen[:i]] == [
        *("uploading", "uploaded", "created", "queued", "running", "succeeded"),
    ]
    running = [step for step in steps if step.kind == "running"]
    assert {step.estimated_end for step in running} == {2_000_000_000.0}
    assert all(0 <= step.age_seconds < 60 for step in steps)
    assert {record.state for record in records(path).values()} == {"succeeded"}


def test_a_second_run_asks_the_service_nothing(service, path):
    first, _ = tune(orders_of(service), path)
    before = len(service.requests)
    second, steps = tune(orders_of(service), path)
    assert second == first
    assert len(service.requests) == before
    assert [step.kind for step in steps] == ["found"] * 3


def test_equal_keys_are_one_job(service, path):
    orders = [order_of(service.url, "billing", key="k"), order_of(service.url, "tax", key="k")]
    outcomes, _ = tune(orders, path)
    assert service.created() == {"k": 1}
    assert [outcome.group for outcome in outcomes] == ["billing", "tax"]
    assert outcomes[0].tuned == outcomes[1].tuned


def test_equal_files_are_sent_once(service, path):
    outcomes, _ = tune(orders_of(service, training=b'{"same": 1}\n', validation=b'{"same": 1}\n'), path)
    check_one_job_each(service, outcomes)
    assert service.count("POST", "/v1/files") == 1


def test_a_lost_ledger_costs_nothing(service, path, tmp_path):
    first, _ = tune(orders_of(service), path)
    again, steps = tune(orders_of(service), tmp_path / "new.sqlite")
    check_one_job_each(service, again)
    assert [one.tuned for one in again] == [one.tuned for one in first]
    assert "found" in kinds(steps, "billing")


def test_no_orders_are_no_work(service, path):
    assert tune([], path) == ([], [])
    assert service.requests == []


def test_places_are_kept(service, path):
    service.most_running = PROVIDERS["openai"].most_jobs
    groups = [f"g{i}" for i in range(8)]
    outcomes, steps = tune(orders_of(service, groups), path)
    check_one_job_each(service, outcomes, groups)
    assert not any("rate_limit" in step.detail for step in steps)
    assert kinds(steps, "g7")[0] == "queued"


# What is sent


def test_the_body_of_a_job(service, path):
    tune([order_of(service.url, "billing", validation=b'{"v": 1}\n')], path)
    (body,) = service.bodies
    assert body == {
        "model": Settings().base_model,
        "training_file": "file-1",
        "validation_file": "file-2",
        "suffix": "shop.billing",
        "seed": 7,
        "metadata": {"cascade_key": "key-of-billing", "cascade_group": "billing"},
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    }
    assert service.files["file-1"]["content"] == b'{"of": "billing"}\n'
    assert service.files["file-1"]["filename"].startswith("cascade-")


def test_what_differs_from_service_to_service(service, path):
    tune([order_of(service.url, "billing", provider="azure")], path)
    tune([order_of(service.url, "mood", provider="nebius")], path)
    azure, nebius = service.bodies
    assert service.files[azure["training_file"]]["content"].startswith(b"\xef\xbb\xbf{")
    assert (azure["suffix"], azure["trainingType"]) == ("shop-billing", "Standard")
    assert nebius["hyperparameters"] == {"n_epochs": 2}
    assert "method" not in nebius


@pytest.mark.parametrize(("seed", "is_sent"), [(0, True), (2**31 - 1, True), (2**31, False), (-1, False)])
def test_a_seed_that_the_service_does_not_take_is_left_out(service, path, seed, is_sent):
    tune([order_of(service.url, "billing", seed=seed)], path)
    assert ("seed" in service.bodies[0]) is is_sent


# Doubt


@pytest.mark.parametrize("job_lags", [0, 4])
@pytest.mark.parametrize("how", ["drop", "garbage", "then 500", "then 503", "then 408"])
def test_a_job_whose_answer_was_lost_is_found(service, path, how, job_lags):
    service.job_lags = job_lags
    then = RefusedError(int(how[5:]), "x", "y") if how.startswith("then") else None
    service.fault("POST", JOBS, how.split()[0], then=then)
    outcomes, steps = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert sum(step.kind == "found" for step in steps) == 1


@pytest.mark.parametrize("how", ["hang up", BROKEN, OVERLOADED])
def test_a_job_that_was_not_created_is_created(service, path, how):
    service.fault("POST", JOBS, how, times=2)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_the_search_for_a_job_outlasts_a_service_that_is_down(service, path):
    service.fault("POST", JOBS, "drop")
    service.watch = lambda number, phase: (
        service.fault("GET", JOBS, BROKEN, times=5) if service.jobs and len(service.faults) == 1 else None
    )
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


def test_a_list_that_cannot_be_read_is_not_an_empty_one(service, path):
    service.fault("POST", JOBS, "drop")
    calm = {"left": 4}

    def watch(number, phase):
        if phase == "arrived" and service.jobs and calm["left"]:
            calm["left"] -= 1
            service.fault("GET", JOBS, "garbage")

    service.watch = watch
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


def test_nothing_more_is_created_while_nobody_can_say_whether_there_is_a_job(service, path):
    service.fault("POST", JOBS, "drop")
    forbidden = RefusedError(403, "forbidden", "no listing for you")
    service.fault("GET", JOBS, forbidden, times=100)
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "intended"
    assert "403" in outcome.why
    assert service.created() == {"key-of-billing": 1}
    service.faults.clear()
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


@pytest.mark.parametrize("knobs", [{"ignores_filter": True}, {"ignores_filter": True, "knows_after": False}])
def test_a_filter_that_is_ignored_gives_nobody_the_job_of_another(service, path, knobs):
    vars(service).update(knobs | {"page": 2})
    service.fault("POST", JOBS, "drop", times=3)
    outcomes, _ = tune(orders_of(service), path)
    if knobs.get("knows_after", True):
        check_one_job_each(service, outcomes)
    assert len({outcome.tuned.job for outcome in outcomes}) == 3
    assert all(service.jobs[o.tuned.job]["metadata"]["cascade_group"] == o.group for o in outcomes)


@pytest.mark.parametrize("knob", ["drops_metadata", "rejects_metadata"])
def test_a_service_without_metadata_is_asked_by_file_and_suffix(service, path, knob):
    setattr(service, knob, True)
    if knob == "drops_metadata":
        service.fault("POST", JOBS, "drop", times=3)
    else:
        # The first answer says that metadata is unknown; the job after it is lost.
        service.watch = lambda number, phase: (
            service.fault("POST", JOBS, "drop")
            if phase == "worked" and len(service.bodies) == 1 and not service.faults
            else None
        )
    outcomes, _ = tune(orders_of(service), path)
    assert [outcome.state for outcome in outcomes] == ["succeeded"] * 3
    assert len(service.jobs) == 3
    assert sorted(job["suffix"] for job in service.jobs.values()) == [f"shop.{group}" for group in GROUPS]
    for outcome in outcomes:
        assert service.jobs[outcome.tuned.job]["suffix"] == f"shop.{outcome.group}"


def test_a_job_that_shows_very_late_takes_the_place_of_the_second_one(service, path):
    service.fault("POST", JOBS, "drop")

    def watch(number, phase):
        # The first job does not show before there is a second one.
        first = service.jobs.get("ftjob-1")
        if first and first["lag"] == 0 and len(service.jobs) == 1:
            first["lag"] = 1000
        elif first and len(service.jobs) == 2:
            first["lag"] = 0

    service.watch = watch
    service.job_lags = 1000
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.tuned.job == "ftjob-1"
    assert [job["status"] for job in service.jobs.values()] == ["succeeded", "cancelled"]


def test_a_job_of_a_killed_run_that_shows_very_late_is_kept_as_well(service, path):
    service.fault("POST", JOBS, "drop")
    service.fault("GET", JOBS, RefusedError(403, "forbidden", "no listing for you"), times=100)
    tune(orders_of(service, ["billing"]), path)
    service.faults.clear()
    service.jobs["ftjob-1"]["lag"] = 1000

    def watch(number, phase):
        if len(service.jobs) == 2:
            service.jobs["ftjob-1"]["lag"] = 0

    service.watch = watch
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.tuned.job == "ftjob-1"
    assert [job["status"] for job in service.jobs.values()] == ["succeeded", "cancelled"]


def test_a_job_is_only_tried_some_times(service, path):
    service.fault("POST", JOBS, BROKEN, times=100)
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "intended"
    assert "no job came of 4 tries" in outcome.why
    assert service.count("POST", "/v1/" + JOBS) == 4


def test_a_service_that_never_answers_ends_a_run_soon(path):
    orders = [order_of("http://127.0.0.1:9/v1", group) for group in GROUPS]
    soon = Polling(0.01, RetryPolicy(unreachable_seconds=0.2))
    outcomes, events = tune(orders, path, polling=soon)
    assert "failed" not in {event.kind for event in events}
    assert {outcome.state for outcome in outcomes} == {"waiting"}
    # On a busy machine a fifth of a second may be over before the connection is refused.
    for outcome in outcomes:
        assert "http://127.0.0.1:9/v1: has not answered once in 0.2 s" in outcome.why
        assert "nothing is lost" in outcome.why


def test_a_service_that_takes_requests_and_never_answers_ends_a_run_soon(path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        order = order_of(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "billing")
        ((outcome,), _) = tune([order], path, polling=Polling(0.01, RetryPolicy(unreachable_seconds=0.3)))
    assert "has not answered once in 0.3 s (no answer in time)" in outcome.why


@pytest.mark.parametrize("begins", [("POST", "files"), ("POST", JOBS), ("GET", JOBS + "/ftjob-1")])
def test_a_service_that_is_away_for_a_while_is_waited_for(service, path, begins):
    """It answers the first request, and then nothing from a call on, for a while."""
    service.fault("GET", JOBS, None)
    service.fault(*begins, "hang up")
    for method, place in (("GET", "files"), ("GET", JOBS), ("GET", JOBS + "/ftjob-1")):
        service.fault(method, place, "hang up", times=25)
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


def test_a_service_that_stays_away_ends_a_run_that_can_be_gone_on_with(service, path):
    service.fault("GET", JOBS + "/ftjob-1", "hang up", times=10_000)
    soon = Polling(0.002, RetryPolicy(away_seconds=0.2))
    (outcome,), _ = tune(orders_of(service, ["billing"]), path, polling=soon)
    assert (outcome.state, outcome.job) == ("created", "ftjob-1")
    assert f"{service.url}: has not answered for 0.2 s" in outcome.why
    service.faults.clear()
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


def test_what_lasts_is_told_again_and_again(service, path):
    service.statuses, service.finishes = ["running"], False

    async def long(_):
        await asyncio.sleep(1.0)
        service.finishes = True

    _, events = tune(
        orders_of(service, ["billing"]), path, polling=replace(QUICK, sleep=long), report_seconds=0.05
    )
    assert sum(event.kind == "running" for event in events) > 5
    assert events[-1].kind == "succeeded"


# Waiting


@pytest.mark.parametrize("refusal", [LIMITED, DAILY, RefusedError(400, "x", "too many jobs at once")])
def test_a_full_service_is_waited_for(service, path, refusal):
    service.fault("POST", JOBS, refusal, times=2)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    outcomes, steps = tune(orders_of(service), path, polling=replace(QUICK, sleep=sleep))
    check_one_job_each(service, outcomes)
    assert any(step.kind == "waiting" for step in steps)
    assert (max(slept) >= 100 * QUICK.poll_seconds) is (refusal is DAILY)


def test_a_service_that_says_how_long_is_believed(service, path):
    service.fault("POST", JOBS, RefusedError(429, "slow_down", "...", {"retry-after": "77"}))
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    outcomes, _ = tune(orders_of(service), path, polling=replace(QUICK, sleep=sleep))
    check_one_job_each(service, outcomes)
    assert 77.0 in slept


def test_pauses_grow_up_to_half_a_minute(service, path):
    service.statuses = ["running"] * 12
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    tune(orders_of(service, ["billing"]), path, polling=Polling(2.0, sleep=sleep))
    assert slept == sorted(slept)
    assert (slept[0], slept[-1]) == (2.0, 30.0)


def test_unknown_statuses_are_waited_for_in_any_case(service, path):
    service.statuses = ["Validating_Files", "paused", "RUNNING", None, "post_processing"]
    outcomes, steps = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert any(step.detail.endswith("post_processing") for step in steps)


def test_a_running_job_is_followed_through_troubles(service, path):
    for how in ("hang up", BROKEN, LIMITED, "garbage", RefusedError(404, "not_found", "no such job")):
        service.fault("GET", JOBS + "/ftjob-1", how)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_a_job_stays_a_job_when_the_key_is_taken_away(service, path):
    service.fault("GET", JOBS + "/ftjob-1", RefusedError(401, "invalid_api_key", "who are you"))
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert (outcome.state, outcome.job) == ("created", "ftjob-1")
    assert "401" in outcome.why
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


# Files


@pytest.mark.parametrize("status", [None, "uploaded"])
def test_a_status_that_stays_the_same_is_not_waited_for_at_silent_services(service, path, status):
    service.file_status = status
    outcomes, _ = tune(orders_of(service, provider="compatible"), path)
    check_one_job_each(service, outcomes)


def test_a_null_status_is_not_waited_for_anywhere(service, path):
    service.file_status = None
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_a_file_is_waited_for(service, path):
    service.file_status = "uploaded"

    def watch(number, phase):
        if number >= 8:
            for file in service.files.values():
                file["status"] = "processed"

    service.watch = watch
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])
    created = service.requests.index(("POST", "/v1/" + JOBS))
    assert created >= 8


@pytest.mark.parametrize("lag", [1, 3])
def test_a_new_file_may_be_unknown_for_a_while(service, path, lag):
    service.file_lags = lag
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert service.count("POST", "/v1/files") == 3


def test_a_job_may_not_know_the_file_yet(service, path):
    service.fault(
        "POST", JOBS, RefusedError(400, "invalid_request_error", "file file-1 does not exist"), times=2
    )
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_a_service_that_tells_nothing_of_files_is_believed(service, path):
    for number in (1, 2, 3):
        service.fault("GET", f"files/file-{number}", RefusedError(405, "", "method not allowed"), times=99)
    outcomes, _ = tune(orders_of(service, provider="compatible"), path)
    check_one_job_each(service, outcomes)


def test_a_full_service_gets_its_files_later(service, path):
    service.fault("POST", FILES, LIMITED, times=20)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


@pytest.mark.parametrize("how", ["drop", "garbage"])
def test_a_file_whose_answer_was_lost_is_found_by_its_name(service, path, how):
    service.fault("POST", FILES, how)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert service.count("POST", "/v1/files") == 3


@pytest.mark.parametrize("how", ["hang up", BROKEN, OVERLOADED, LIMITED])
def test_a_file_that_was_not_taken_is_sent_again(service, path, how):
    service.fault("POST", FILES, how, times=2)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_a_file_that_is_gone_is_sent_again(service, path):
    service.fails = {"billing": {"code": "x", "message": "y"}}
    tune(orders_of(service, ["billing"]), path)
    service.files.clear()
    service.fails.clear()
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "succeeded"
    assert service.count("POST", "/v1/files") == 2


def test_a_file_that_the_service_cannot_read_ends_the_order_with_its_reason(service, path):
    service.file_status = "error"
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "failed"
    assert "cannot use the file" in outcome.why
    assert service.jobs == {}
    service.file_status = "processed"
    outcomes, _ = tune(orders_of(service, ["billing"]), path)
    check_one_job_each(service, outcomes, ["billing"])


# Failures


def test_one_that_fails_does_not_stop_the_others(service, path):
    service.fails = {
        "delivery": {"code": "invalid_training_file", "message": "line 3 of the file has no end"}
    }
    outcomes, steps = tune(orders_of(service), path)
    assert [outcome.state for outcome in outcomes] == ["succeeded", "failed", "succeeded"]
    assert outcomes[1].why == f"{outcomes[1].job}: invalid_training_file: line 3 of the file has no end"
    assert "cascade export" in outcomes[1].advice
    assert kinds(steps, "delivery")[-1] == "failed"
    assert records(path)["delivery"].why == outcomes[1].why


def test_the_next_run_makes_a_new_job_for_one_that_failed(service, path):
    service.fails = {"delivery": {"code": "server_error", "message": "our fault"}}
    tune(orders_of(service), path)
    service.fails.clear()
    outcomes, _ = tune(orders_of(service), path)
    assert [outcome.state for outcome in outcomes] == ["succeeded"] * 3
    assert service.created() == {"key-of-billing": 1, "key-of-delivery": 2, "key-of-mood": 1}


def test_a_lost_answer_is_not_taken_for_the_job_that_failed_before(service, path):
    service.fails = {"billing": {"code": "server_error", "message": "our fault"}}
    tune(orders_of(service, ["billing"]), path)
    service.fails.clear()
    service.fault("POST", JOBS, "drop")
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert (outcome.state, outcome.job) == ("succeeded", "ftjob-2")
    assert len(service.jobs) == 2


def test_safety_checks_are_quoted(service, path):
    service.fails = {"mood": {"code": "unsafe", "message": "The model is blocked"}}
    service.events = {
        "mood": [
            {"type": "message", "message": "Step 3"},
            {"type": "moderation_checks", "level": "error", "message": "harassment/threatening did not pass"},
        ]
    }
    outcomes, _ = tune(orders_of(service), path)
    assert outcomes[2].why.endswith("unsafe: The model is blocked; harassment/threatening did not pass")
    assert "Step 3" not in outcomes[2].why
    assert "safety checks" in outcomes[2].advice


def test_who_may_not_train_leaves_no_files_behind(service, path):
    service.fault("POST", JOBS, CLOSED, times=100)
    outcomes, _ = tune(orders_of(service, [f"g{i}" for i in range(6)], validation=b'{"v": 1}\n'), path)
    assert {outcome.state for outcome in outcomes} == {"failed"}
    assert all("training_not_available" in outcome.why for outcome in outcomes)
    assert all("cascade export" in outcome.advice for outcome in outcomes)
    assert service.files == {}
    assert service.count("POST", "/v1/" + JOBS) <= PROVIDERS["openai"].most_jobs


def test_another_base_model_may_still_be_trained(service, path):
    service.fault("POST", JOBS, CLOSED)
    settings = Settings(base_url=service.url, base_model="another")
    orders = [*orders_of(service, ["billing"]), order_of(service.url, "mood", settings=settings)]

    outcomes, _ = tune(orders[:1], path)
    outcomes += tune(orders[1:], path)[0]
    assert [outcome.state for outcome in outcomes] == ["failed", "succeeded"]


@pytest.mark.parametrize(
    "refusal",
    [
        RefusedError(429, "insufficient_quota", "pay first"),
        RefusedError(401, "invalid_api_key", "who are you"),
    ],
)
def test_without_money_or_key_all_that_is_left_ends_at_once(service, path, refusal):
    groups = [f"g{i}" for i in range(9)]
    service.fault("POST", JOBS, refusal, times=100)
    outcomes, _ = tune(orders_of(service, groups), path)
    assert {outcome.state for outcome in outcomes} == {"failed"}
    assert all(refusal.body["error"]["code"] in outcome.why and outcome.advice for outcome in outcomes)
    assert service.count("POST", "/v1/" + JOBS) <= PROVIDERS["openai"].most_jobs
    service.faults.clear()
    outcomes, _ = tune(orders_of(service, groups), path)
    check_one_job_each(service, outcomes, groups)


def test_jobs_that_run_are_followed_when_the_money_ends(service, path):
    groups = [f"g{i}" for i in range(5)]
    quota = RefusedError(429, "insufficient_quota", "pay first")
    service.watch = lambda number, phase: (
        service.fault("POST", JOBS, quota, times=9) if len(service.jobs) == 2 and not service.faults else None
    )
    outcomes, _ = tune(orders_of(service, groups), path)
    assert sorted(outcome.state for outcome in outcomes) == ["failed"] * 3 + ["succeeded"] * 2


def test_a_request_at_fault_fails_at_once(service, path):
    service.fault("POST", JOBS, RefusedError(400, "model_not_available", "Model x cannot be tuned"))
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "failed"
    assert "cannot be tuned" in outcome.why
    assert service.count("POST", "/v1/" + JOBS) == 1


def test_a_job_that_somebody_cancels_ends_its_order(service, path):
    service.finishes = False
    service.watch = lambda number, phase: (
        service.jobs["ftjob-1"].update(status="cancelled")
        if number > 12 and "ftjob-1" in service.jobs
        else None
    )
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "cancelled"
    assert "was cancelled" in outcome.why


def test_a_job_that_is_gone_is_told(service, path):
    service.statuses = ["running"]
    tune(orders_of(service, ["billing"]), path, wait=False)
    service.jobs.clear()
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert outcome.state == "failed"
    assert "knows this job no longer" in outcome.why


def test_a_job_without_a_model_is_not_paid_for_again(service, path):
    service.statuses = ["succeeded"] * 1000
    for _ in range(2):
        (outcome,), _ = tune(orders_of(service, ["billing"]), path)
        assert (outcome.state, outcome.job) == ("created", "ftjob-1")
        assert "names no model" in outcome.why
    service.statuses = []
    tune(orders_of(service, ["billing"]), path)
    assert service.created() == {"key-of-billing": 1}


def test_a_missing_key_fails_that_service_alone(service, path):
    elsewhere = order_of("http://127.0.0.1:9/v1", "tax")

    def clients(settings):
        if settings.address != service.url:
            raise BackendError("no key")
        return client_of(settings)

    outcomes, _ = tune([elsewhere, *orders_of(service)], path, clients=clients)
    assert (outcomes[0].tuned, outcomes[0].why) == (None, "no key")
    check_one_job_each(service, outcomes[1:])


def test_no_message_has_a_key_or_a_text(service, path):
    secret, text = "sk-abcdefghijklmnop", "the words of a customer that nobody else may ever read anywhere"
    service.fails = {"billing": {"code": "bad", "message": f"line 3: '{text}' with {secret}"}}
    service.events = {"billing": [{"type": "moderation_checks", "message": f'"{text}"'}]}
    outcomes, steps = tune(orders_of(service, ["billing"]), path)
    told = repr((outcomes, steps, records(path)))
    assert secret not in told
    assert text not in told


def test_a_fault_in_the_report_is_raised(service, path):
    def report(step):
        if step.group == "billing" and step.kind == "created":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(orders_of(service), path, report=report)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


# Detached


def test_what_was_detached_is_continued(service, path):
    service.finishes = False
    outcomes, _ = tune(orders_of(service), path, wait=False)
    assert [(one.state, one.tuned, one.why) for one in outcomes] == [("created", None, "")] * 3
    outcomes, _ = tune(orders_of(service), path, wait=False)
    assert [one.state for one in outcomes] == ["created"] * 3
    service.finishes = True
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)


def test_detached_orders_that_the_service_does_not_take_yet_are_left_for_later(service, path):
    service.finishes, service.most_running = False, 2
    groups = [f"g{i}" for i in range(5)]
    outcomes, _ = tune(orders_of(service, groups), path, wait=False)
    assert sorted(one.state for one in outcomes) == ["created"] * 2 + ["waiting"] * 3
    assert {one.why for one in outcomes} == {""}
    assert all(one.advice for one in outcomes if one.state == "waiting")
    service.finishes = True
    outcomes, _ = tune(orders_of(service, groups), path)
    check_one_job_each(service, outcomes, groups)


# Killed, and two at once


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["openai", "stand_in_service"])


def started(service, path, groups=GROUPS):
    process = CONTEXT.Process(target=tune_apart, args=(service.url, groups, str(path)))
    process.start()
    return process


def test_a_process_may_be_killed_at_any_moment(service, path):
    chance = random.Random(5)
    service.statuses = ["queued", "running"]
    groups, kills = ["g0", "g1"], 0
    for phase in ("arrived", "worked", "answered") * 5:
        groups.append(f"g{len(groups)}")
        moment = len(service.requests) + chance.randint(1, 20)
        process, is_told = [], threading.Event()

        def watch(number, now, at=(moment, phase), process=process, is_told=is_told):
            if (number, now) == at and is_told.wait(60):
                process[0].kill()

        service.watch = watch
        process.append(started(service, path, groups))
        is_told.set()
        process[0].join(60)
        assert process[0].exitcode in (0, -9)
        kills += process[0].exitcode == -9
        process[0].close()
    service.watch = lambda number, phase: None
    assert kills >= 10
    outcomes, _ = tune(orders_of(service, groups), path)
    check_one_job_each(service, outcomes, groups)
    assert {record.state for record in records(path).values()} == {"succeeded"}


@pytest.mark.parametrize("has_metadata", [True, False])
@pytest.mark.parametrize("phase", ["arrived", "worked", "answered"])
def test_a_process_that_is_killed_while_it_creates_a_job_leaves_one(service, path, phase, has_metadata):
    process = []
    service.job_lags, service.drops_metadata = 5, not has_metadata

    def watch(number, now):
        if now == phase and service.requests[number - 1] == ("POST", "/v1/" + JOBS) and process:
            process[0].kill()

    service.watch = watch
    process.append(started(service, path))
    process[0].join(60)
    assert process[0].exitcode == -9
    process[0].close()
    service.watch = lambda number, now: None
    outcomes, _ = tune(orders_of(service), path)
    assert [outcome.state for outcome in outcomes] == ["succeeded"] * 3
    assert sorted(job["suffix"] for job in service.jobs.values()) == [f"shop.{group}" for group in GROUPS]
    assert {outcome.job for outcome in outcomes} == set(service.jobs)


def test_two_runs_with_the_same_orders_make_one_job_each(service, path):
    service.statuses = ["queued", "running"]
    processes = [started(service, path) for _ in range(2)]
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()
    assert set(service.created().values()) == {1}


def test_a_run_waits_while_another_is_about_to_create_the_same_job(service, path):
    held, arrived = threading.Event(), threading.Event()

    def watch(number, phase):
        if phase == "arrived" and service.requests[number - 1] == ("POST", "/v1/" + JOBS):
            arrived.set()
            held.wait(30)

    service.watch, service.job_lags = watch, 10_000  # it never shows in any list
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tune, orders_of(service, ["billing"]), path)
        assert arrived.wait(30)
        told = []

        def report(event):
            told.append(event)
            if event.detail == "another run orders the same fine-tune":
                held.set()

        (second,), _ = tune(orders_of(service, ["billing"]), path, report=report)
        ((outcome,), _) = first.result(30)
    assert outcome.tuned == second.tuned
    assert service.created() == {"key-of-billing": 1}
    assert ("found", "ftjob-1") in [(event.kind, event.detail) for event in told]


# Cancelling


def cancelled(service, path, groups):
    async def work():
        with Ledger(path) as ledger:
            return await cancel(ledger, client_of, [f"key-of-{group}" for group in groups], polling=QUICK)

    return asyncio.run(work())


def test_jobs_are_cancelled_by_their_keys(service, path):
    service.finishes = False
    tune(orders_of(service), path, wait=False)
    outcomes = cancelled(service, path, ["billing", "mood"])
    assert [one.state for one in outcomes] == ["cancelled", "cancelled"]
    assert [job["status"] for job in service.jobs.values()].count("cancelled") == 2
    assert {group: record.state for group, record in records(path).items()} == {
        "billing": "cancelled",
        "delivery": "created",
        "mood": "cancelled",
    }


def test_a_job_that_has_ended_is_not_cancelled(service, path):
    tune(orders_of(service), path, wait=False)
    for job in service.jobs.values():
        job["looks"] = 100
        service._advance(job)
    (outcome,) = cancelled(service, path, ["billing"])
    assert outcome.state == "succeeded"
    assert outcome.tuned.model
    (outcome,) = cancelled(service, path, ["billing"])
    assert outcome.state == "succeeded"


def test_a_job_that_may_exist_is_looked_for_and_cancelled(service, path):
    service.fault("POST", JOBS, "drop")
    service.fault("GET", JOBS, RefusedError(403, "forbidden", "no"), times=100)
    tune(orders_of(service, ["billing"]), path)
    service.faults.clear()
    (outcome,) = cancelled(service, path, ["billing"])
    assert outcome.state == "cancelled"
    assert [job["status"] for job in service.jobs.values()] == ["cancelled"]


def test_an_order_that_another_run_is_about_to_fulfil_is_not_cancelled(service, path):
    with Ledger(path) as ledger, ledger.running() as owner:
        ledger.reserve("key-of-billing", owner, **COLUMNS)
        (outcome,) = cancelled(service, path, ["billing"])
    assert (outcome.state, "another run is about to create this job" in outcome.why) == ("waiting", True)
    (outcome,) = cancelled(service, path, ["billing"])
    assert outcome.state == "cancelled"


def test_an_unknown_key_is_told(service, path):
    with pytest.raises(BackendError, match="key-of-nobody"):
        cancelled(service, path, ["nobody"])


# Result files


def test_a_result_file_may_be_in_base64(service, path):
    service.base64_results = True
    (outcome,), _ = tune(orders_of(service, ["billing"]), path)
    assert [row["step"] for row in outcome.tuned.result_csv] == [1.0, 2.0]


def test_a_result_file_that_cannot_be_had_is_no_failure(service, path):
    for number in range(1, 9):
        service.fault("GET", f"files/file-{number}/content", RefusedError(404, "not_found", "gone"), times=9)
    outcomes, _ = tune(orders_of(service), path)
    check_one_job_each(service, outcomes)
    assert outcomes[0].tuned.result_csv == ()


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_of_a_curve(content):
    for row in curve_of(content) + curve_of(b"step,x\n" + content):
        assert all(isinstance(value, float) for value in row.values())


def test_a_curve_reads_the_same_in_base64():
    assert curve_of(base64.encodebytes(CURVE.encode())) == curve_of(CURVE.encode()) != []


def test_one_event_loop_may_run_two_ledgers(service, tmp_path):
    async def work():
        with Ledger(tmp_path / "a") as one, Ledger(tmp_path / "b") as other:
            return await asyncio.gather(
                fine_tune(orders_of(service, ["billing"]), one, client_of, polling=QUICK),
                fine_tune(orders_of(service, ["mood"]), other, client_of, polling=QUICK),
            )

    (billing,), (mood,) = asyncio.run(work())
    check_one_job_each(service, [billing, mood], ["billing", "mood"])
