from __future__ import annotations

import base64
import csv
import io
import json
import math
import time

import httpx2
import numpy as np
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_helpers import (
    BASE,
    SEPARATOR,
    SPEC,
    SYSTEM,
    TOPICS,
    Checker,
    Process,
    asked,
    chat_lines,
    client_of,
    code,
    completion_lines,
    connected,
    ended,
    indicator,
    joined,
    requests_seen,
    rows,
    sandbox,
    tuned,
    uploaded,
)

from cascade.errors import BackendError
from cascade.sandbox.answer_shapes import END, Shape, shape_of, steps_of
from cascade.sandbox.chaos import FAULTS, Chaos
from cascade.sandbox.files import keep_file
from cascade.sandbox.middleware import RequestLog
from cascade.sandbox.rate_limits import RateLimits, duration
from cascade.sandbox.responses import ApiError
from cascade.sandbox.storage import Storage
from cascade.sandbox.tokens import count, split
from cascade.sandbox.trainer import Trainer
from cascade.sandbox.training import InvalidFile, TrainedModel, read_examples, train

TRAINING = rows(240, seed=1)
TEST = rows(60, seed=2)
SINGLE, SINGLE_TEST = rows(240, seed=3, most=1), rows(60, seed=4, most=1)


@pytest.fixture(scope="module")
def checker():
    return Checker()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as process:
        yield process


@pytest.fixture(scope="module")
def client(running, checker):
    with client_of(running.address, checker) as client:
        yield client


@pytest.fixture(scope="module")
def coded(client):
    return tuned(client, chat_lines(SINGLE, code))


@pytest.fixture(scope="module")
def indicated(client):
    return tuned(client, chat_lines(TRAINING, indicator))


@pytest.fixture(scope="module")
def named(client):
    return tuned(client, chat_lines(TRAINING, joined))


@pytest.fixture(scope="module")
def completing(client):
    return tuned(client, completion_lines(TRAINING, indicator), model="babbage-002")


def chat(client, model, text, **more):
    return client.chat.completions.create(model=model, messages=asked(text), temperature=0, **more)


def content(client, model, text, **more):
    return chat(client, model, text, **more).choices[0].message.content


# The life of a fine-tune


def test_codes_are_learned_and_their_log_probabilities_are_a_distribution(client, coded):
    right = 0
    for text, names in SINGLE_TEST:
        choice = chat(client, coded, text, max_completion_tokens=1, logprobs=True, top_logprobs=20).choices[0]
        (token,) = choice.logprobs.content
        listed = {one.token: one.logprob for one in token.top_logprobs}
        assert listed[choice.message.content] == token.logprob == max(listed.values())
        assert math.fsum(map(math.exp, listed.values())) == pytest.approx(1, abs=0.01)
        assert len(listed) == 20
        right += choice.message.content == code(names)
    assert right >= 57


def test_indicators_are_learned_place_by_place(client, indicated):
    right = 0
    for text, names in TEST:
        choice = chat(client, indicated, text, logprobs=True, top_logprobs=5).choices[0]
        tokens = choice.logprobs.content
        assert [token.token for token in tokens[1::2]] == [",", ","]
        for token in tokens[::2]:
            listed = {one.token: math.exp(one.logprob) for one in token.top_logprobs}
            assert listed["0"] + listed["1"] > 0.99
            assert bytes(token.bytes).decode() == token.token
        right += choice.message.content == indicator(names)
    assert right >= 54


def test_names_are_learned_and_nothing_is_an_answer(client, named):
    answers = [content(client, named, text) for text, _ in TEST]
    assert sum(answer == joined(names) for answer, (_, names) in zip(answers, TEST, strict=True)) >= 54
    assert "none" in answers
    assert any("; " in answer for answer in answers)


def test_probabilities_are_honest(client, indicated):
    noisy = [(text, names if at % 4 else ["late"]) for at, (text, names) in enumerate(rows(400, seed=5))]
    model = tuned(client, chat_lines(noisy, indicator))
    found = []
    for text, _ in rows(100, seed=6):
        tokens = chat(client, model, text, logprobs=True, top_logprobs=5).choices[0].logprobs.content
        found.append({one.token: math.exp(one.logprob) for one in tokens[2].top_logprobs}["1"])
    share = np.mean(["late" in names for _, names in noisy])
    assert np.mean(found) == pytest.approx(share, abs=0.1)
    assert min(found) > 0.01


def test_completions_have_a_separator_a_stop_and_their_own_log_probabilities(client, completing):
    right = 0
    for text, names in TEST:
        found = client.completions.create(
            model=completing, prompt=text + SEPARATOR, max_tokens=10, stop=[" END"], logprobs=5, temperature=0
        )
        choice = found.choices[0]
        assert choice.finish_reason == "stop"
        assert "".join(choice.logprobs.tokens) == choice.text
        assert choice.logprobs.text_offset[0] == len(text + SEPARATOR)
        assert all(
            listed[token] == own and len(listed) == 5
            for token, own, listed in zip(
                choice.logprobs.tokens,
                choice.logprobs.token_logprobs,
                choice.logprobs.top_logprobs,
                strict=True,
            )
        )
        right += choice.text == " " + indicator(names)
    assert right >= 54


def test_an_answer_without_its_stop_sequence_has_it_and_a_limit_cuts_it(client, completing):
    prompt = TEST[0][0] + SEPARATOR
    whole = client.completions.create(model=completing, prompt=prompt)
    assert whole.choices[0].text.endswith(" END")
    short = client.completions.create(model=completing, prompt=prompt, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    assert whole.choices[0].text.startswith(short.choices[0].text)
    assert short.usage.completion_tokens == 2


def test_a_prompt_of_another_form_than_the_one_that_was_learned_says_nothing(client, coded, completing):
    text = "money back"
    sure = chat(client, coded, text, logprobs=True).choices[0].logprobs.content[0].logprob
    strange = client.chat.completions.create(
        model=coded, messages=asked(text, "Another task."), logprobs=True
    )
    assert strange.choices[0].logprobs.content[0].logprob < math.log(0.3) < sure
    bare = client.completions.create(model=completing, prompt=text, stop=" END")
    assert bare.choices[0].text == " 0,0,0"


def test_a_job_tells_its_story(client):
    training = uploaded(client, chat_lines(TRAINING, indicator))
    validation = uploaded(client, chat_lines(TEST, indicator))
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=training,
        validation_file=validation,
        suffix="my-shop",
        seed=7,
        metadata={"cascade_key": "abc", "more": "x"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert job.status == "validating_files"
    job = ended(client.fine_tuning.jobs.retrieve, job.id)
    assert job.fine_tuned_model.startswith(f"ft:{BASE}:sandbox:my-shop:")
    assert (job.seed, job.hyperparameters.n_epochs, job.error) == (7, 2, None)
    assert job.trained_tokens > 2 * sum(count(text) for text, _ in TRAINING)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))
    assert events[0].message == "The job has successfully completed"
    assert any(event.type == "metrics" and "train_loss" in event.data for event in events)
    table = list(csv.DictReader(client.files.content(job.result_files[0]).text.splitlines()))
    assert float(table[-1]["train_loss"]) < float(table[0]["train_loss"])
    assert float(table[-1]["valid_mean_token_accuracy"]) > 0.9


def test_jobs_are_found_by_their_metadata_page_by_page(client):
    training = uploaded(client, chat_lines(TRAINING[:20], indicator))
    made = [
        client.fine_tuning.jobs.create(model=BASE, training_file=training, metadata={"key": key}).id
        for key in ("one", "two", "one")
    ]
    found = client.fine_tuning.jobs.list(metadata={"key": "one"}, limit=1)
    assert [job.id for job in found] == [made[2], made[0]]
    assert list(client.fine_tuning.jobs.list(metadata={"key": "three"})) == []
    for name in made:
        ended(client.fine_tuning.jobs.retrieve, name)


def test_a_tuned_model_can_be_listed_and_deleted(client):
    model = tuned(client, chat_lines(TRAINING[:30], code))
    assert model in [one.id for one in client.models.list()]
    assert client.models.retrieve(model).owned_by == "sandbox"
    assert client.models.delete(model).deleted
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        chat(client, model, "hello")


def test_files_are_kept_listed_and_deleted(client):
    lines = chat_lines(TEST, code)
    name = uploaded(client, lines)
    assert client.files.wait_for_processing(name, poll_interval=0.02).status == "processed"
    assert client.files.content(name).content == lines
    assert name in [file.id for file in client.files.list(purpose="fine-tune", limit=2)]
    assert client.files.delete(name).deleted
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(name)


def test_a_job_can_be_cancelled(tmp_path, checker):
    with connected(tmp_path, pace=0.3, checker=checker) as (_, client):
        job = client.fine_tuning.jobs.create(
            model=BASE, training_file=uploaded(client, chat_lines(TRAINING[:20], code))
        )
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        time.sleep(0.5)
        assert client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
        with pytest.raises(openai.BadRequestError, match="already ended: cancelled"):
            client.fine_tuning.jobs.cancel(job.id)


# What was not tuned, and what is refused


def test_a_base_model_knows_nothing(client):
    found = client.chat.completions.create(
        model=BASE,
        messages=asked("money back", "Answer with a number: 0 refund, 1 late, 2 none."),
        logprobs=True,
        top_logprobs=4,
    )
    listed = found.choices[0].logprobs.content[0].top_logprobs
    assert {one.token: one.logprob for one in listed[:3]} == {
        name: pytest.approx(math.log(1 / 3), abs=0.01) for name in "012"
    }
    indicated = asked("money back", "Answer such as 0,1,0 for refund, late, broken.")
    assert (
        client.chat.completions.create(model=BASE, messages=indicated).choices[0].message.content == "0,0,0"
    )


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "role"),
        ({"top_logprobs": 3}, "only allowed when 'logprobs'"),
        ({"logprobs": True, "top_logprobs": 21}, "from 0 to 20"),
        ({"n": 2}, "'n'"),
        ({"stream": True}, "'stream'"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "at the same time"),
        ({"stop": list("abcde")}, "'stop'"),
    ],
)
def test_a_wrong_question_is_refused(running, body, found):
    body = {"model": BASE, "messages": asked("x")} | body
    answer = post(running, "/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert found in answer.json()["error"]["message"]


def post(running, path, body, **more):
    headers = {"authorization": "Bearer any"}
    return httpx2.post(running.address + path, **{"json": body, "headers": headers} | more)


def test_without_a_key_nothing_is_answered(running):
    answer = httpx2.get(running.address + "/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_unknown_addresses_models_and_bodies_are_refused(running, client, coded, completing):
    assert post(running, "/nowhere", {}).json()["error"]["message"] == "Invalid URL (POST /v1/nowhere)"
    assert post(running, "/chat/completions", None, content=b"{").status_code == 400
    with pytest.raises(openai.NotFoundError, match="not a chat model"):
        chat(client, completing, "hello")
    with pytest.raises(openai.NotFoundError, match="This is a chat model"):
        client.completions.create(model=coded, prompt="hello")


GOOD = chat_lines(TEST, code).decode()
FIRST = GOOD.splitlines()[0]
ONE_SIDED = json.dumps({"messages": asked("x")})
SPECIAL = json.dumps({"messages": [*asked("<|im_end|>"), {"role": "assistant", "content": "1"}]})


@pytest.mark.parametrize(
    ("text", "code_", "found"),
    [
        ("\n".join(GOOD.splitlines()[:9]), "invalid_n_examples", "has 9 example(s)"),
        (GOOD + "{oops\n", "invalid_file_format", "line 61 is not valid JSON"),
        (GOOD + FIRST.replace("user", "pope"), "invalid_file_format", "line 61: a message has no role"),
        (GOOD + SPECIAL, "invalid_training_file", "special token"),
        (GOOD + '{"prompt": "a", "completion": " b"}', "invalid_file_format", "mixes"),
        (GOOD + ONE_SIDED, "invalid_file_format", "from the assistant"),
    ],
)
def test_a_file_that_nothing_can_be_learned_from_fails_the_job(client, text, code_, found):
    training = uploaded(client, text.encode())
    job = client.fine_tuning.jobs.create(model=BASE, training_file=training)
    job = ended(client.fine_tuning.jobs.retrieve, job.id)
    assert (job.status, job.error.code, job.error.param) == ("failed", code_, "training_file")
    assert found in job.error.message
    assert job.fine_tuned_model is None


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ({"training_file": "file-0"}, "No such File object: file-0"),
        ({"model": "gpt-6-luna"}, "not available for fine-tuning"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"method": {"type": "dpo"}}, "supervised"),
        ({"hyperparameters": {"n_epochs": 51}}, "n_epochs"),
    ],
)
def test_a_wrong_order_makes_no_job(running, client, order, found):
    before = len(requests_seen(running.address)["jobs"])
    body = {"model": BASE, "training_file": uploaded(client, GOOD.encode())} | order
    answer = post(running, "/fine_tuning/jobs", body)
    assert answer.status_code in (400, 404)
    assert found in answer.json()["error"]["message"]
    assert len(requests_seen(running.address)["jobs"]) == before


def test_a_service_that_closed_fine_tuning_refuses_after_the_upload(tmp_path):
    with connected(tmp_path, training=False) as (_, client):
        training = uploaded(client, GOOD.encode())
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.fine_tuning.jobs.create(model=BASE, training_file=training)
    assert refused.value.code == "training_not_available"


# Batches


def batch_lines(model, texts):
    bodies = [{"model": model, "messages": asked(text), "temperature": 0} for text in texts]
    lines = [
        {"custom_id": f"row {at}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for at, body in enumerate(bodies)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def batched(client, lines):
    batch = client.batches.create(
        input_file_id=uploaded(client, lines, "batch"),
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"part": "1"},
    )
    return ended(client.batches.retrieve, batch.id)


def results(client, name):
    lines = map(json.loads, client.files.content(name).text.splitlines())
    return {line["custom_id"]: line for line in lines}


def test_a_batch_answers_as_requests_do(client, indicated):
    texts = [text for text, _ in TEST]
    batch = batched(client, batch_lines(indicated, texts))
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.request_counts.completed == batch.request_counts.total == len(texts)
    found = results(client, batch.output_file_id)
    for at, text in enumerate(texts[:5]):
        body = found[f"row {at}"]["response"]["body"]
        assert body["choices"][0]["message"]["content"] == content(client, indicated, text)
    assert batch.id in [one.id for one in client.batches.list(limit=1)]


def test_a_batch_whose_requests_all_fail_has_no_output(client):
    batch = batched(client, batch_lines("no such model", ["a", "b"]))
    assert (batch.status, batch.output_file_id, batch.request_counts.failed) == ("completed", None, 2)
    found = results(client, batch.error_file_id)
    assert found["row 1"]["response"]["status_code"] == 404


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"", "empty_file"),
        (b"{", "invalid_json_line"),
        (batch_lines(BASE, ["a"]) * 2, "duplicate_custom_id"),
        (batch_lines(BASE, ["a"]) + batch_lines("b", ["a", "b"]).splitlines()[1], "mismatched_model"),
        (batch_lines(BASE, ["a"]).replace(b"/v1/chat", b"/v1/cat"), "mismatched_url"),
    ],
)
def test_a_batch_of_no_requests_fails(client, lines, found):
    batch = batched(client, lines)
    assert (batch.status, batch.errors.data[0].code) == ("failed", found)


def test_a_cancelled_batch_keeps_what_is_done(tmp_path, checker):
    with connected(tmp_path, pace=0.3, checker=checker) as (_, client):
        name = uploaded(client, batch_lines(BASE, ["a", "b"]), "batch")
        batch = client.batches.create(
            input_file_id=name, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch = ended(client.batches.retrieve, batch.id)
        assert batch.status == "cancelled"
        assert {one["error"]["code"] for one in results(client, batch.error_file_id).values()} == {
            "batch_cancelled"
        }


# Killed and started again


def test_a_sandbox_that_is_killed_in_the_middle_of_a_job_goes_on_with_it(tmp_path, checker):
    process = Process(tmp_path, pace=0.5)
    with client_of(process.address) as client:
        training = uploaded(client, chat_lines(TRAINING, indicator))
        job = client.fine_tuning.jobs.create(model=BASE, training_file=training, metadata={"key": "k"}).id
        while client.fine_tuning.jobs.retrieve(job).status != "running":
            time.sleep(0.02)
        process.kill()
    with connected(tmp_path, checker=checker) as (process, client):
        found = ended(client.fine_tuning.jobs.retrieve, job)
        assert found.status == "succeeded"
        assert content(client, found.fine_tuned_model, TEST[0][0]) == indicator(TEST[0][1])
        assert [one.id for one in client.fine_tuning.jobs.list(metadata={"key": "k"})] == [job]
        assert requests_seen(process.address)["requests"]["POST /v1/fine_tuning/jobs"] == 1
        assert process.interrupt() == 0
    with connected(tmp_path, checker=checker) as (process, client):
        assert content(client, found.fine_tuned_model, TEST[0][0]) == indicator(TEST[0][1])


# Limits and trouble


def test_beyond_its_limits_a_service_asks_to_wait_and_says_how_long(tmp_path):
    with connected(tmp_path, rpm=3, tpm=10_000) as (_, client):
        raw = client.chat.completions.with_raw_response
        headers = [raw.create(model=BASE, messages=asked("a")).headers for _ in range(3)]
        assert [one["x-ratelimit-remaining-requests"] for one in headers] == ["2", "1", "0"]
        assert int(headers[0]["x-ratelimit-remaining-tokens"]) < 10_000
        with pytest.raises(openai.RateLimitError) as refused:
            raw.create(model=BASE, messages=asked("a"))
    assert refused.value.code == "rate_limit_exceeded"
    assert 10_000 < int(refused.value.response.headers["retry-after-ms"]) <= 20_001


def test_a_meter_fills_again():
    now = [0.0]
    meter = RateLimits(rpm=60, clock=lambda: now[0])
    for _ in range(60):
        meter.take(5)
    with pytest.raises(ApiError, match="Limit 60"):
        meter.take(5)
    now[0] = 2.0
    assert meter.take(5)["x-ratelimit-remaining-requests"] == "1"
    assert RateLimits().take(5) == {}
    assert [duration(one) for one in (0.02, 1.5, 360)] == ["20ms", "1.5s", "6m0s"]


OUTCOMES = {"limit": 429, "error": 500, "overloaded": 503, "cut_before": "cut", "cut_after": "cut"}


def outcome(client):
    try:
        client.models.list()
    except openai.APIStatusError as error:
        return error.status_code
    except openai.APIConnectionError:
        return "cut"
    return "fine"


def test_chaos_with_one_seed_is_the_same_trouble_again(tmp_path):
    told = "seed=5,rate=0.5,pause=0.01"
    chaos = Chaos.parse(told)
    with connected(tmp_path, chaos=told) as (_, client):
        found = [outcome(client) for _ in range(60)]
    assert found == [OUTCOMES.get(chaos.fault(), "fine") for _ in range(60)]
    assert set(found) == {"fine", *OUTCOMES.values()}


@pytest.mark.parametrize(("kind", "jobs"), [("cut_before", 0), ("cut_after", 1)])
def test_a_job_may_have_been_made_though_no_answer_came(tmp_path, kind, jobs):
    storage = Storage(tmp_path)
    training = keep_file(storage, "data.jsonl", "fine-tune", io.BytesIO(GOOD.encode()))["id"]
    storage.close()
    with connected(tmp_path, chaos=f"rate=1,kinds={kind}") as (process, client):
        with pytest.raises(openai.APIConnectionError):
            client.fine_tuning.jobs.create(model=BASE, training_file=training)
        assert len(requests_seen(process.address)["jobs"]) == jobs


def test_a_network_delivers_twice_what_does_no_harm(tmp_path, coded_folder):
    folder, model = coded_folder
    with connected(folder, chaos="rate=1,kinds=twice") as (process, client):
        chat(client, model, "money back")
        training = uploaded(client, GOOD.encode())
        client.fine_tuning.jobs.create(model=BASE, training_file=training, metadata={"key": "once"})
        found = requests_seen(process.address)
    assert found["usage"][model]["requests"] == 2
    assert sum(job["metadata"] == {"key": "once"} for job in found["jobs"]) == 1


@pytest.fixture(scope="module")
def coded_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coded")
    with connected(folder) as (_, client):
        return folder, tuned(client, chat_lines(SINGLE, code))


def test_an_idle_model_is_loaded_first(coded_folder):
    folder, model = coded_folder
    settings_ = {"chaos": "rate=1,kinds=loading,pause=0.2"}
    with connected(folder, **settings_) as (_, client):
        with pytest.raises(openai.RateLimitError, match="still being loaded"):
            chat(client, model, "money back")
        time.sleep(0.25)
        assert content(client, model, "money back") == "0"


def test_new_files_may_be_hidden_silent_and_jobs_may_fail(tmp_path):
    with connected(tmp_path / "a", chaos="rate=1,kinds=hidden+silent+failed,pause=0.3") as (_, client):
        training = uploaded(client, GOOD.encode())
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            client.fine_tuning.jobs.create(model=BASE, training_file=training)
        time.sleep(0.35)
        assert client.files.retrieve(training).status is None
        job = client.fine_tuning.jobs.create(model=BASE, training_file=training).id
        assert ended(client.fine_tuning.jobs.retrieve, job).error.code == "server_error"


def test_a_finished_model_may_be_blocked_and_a_result_file_in_base64(tmp_path):
    with connected(tmp_path / "a", chaos="rate=1,kinds=moderated") as (_, client):
        job = client.fine_tuning.jobs.create(model=BASE, training_file=uploaded(client, GOOD.encode())).id
        assert ended(client.fine_tuning.jobs.retrieve, job).status == "failed"
        kinds = [event.type for event in client.fine_tuning.jobs.list_events(job)]
        assert "moderation_checks" in kinds
    with connected(tmp_path / "b", chaos="rate=1,kinds=base64") as (_, client):
        job = client.fine_tuning.jobs.create(model=BASE, training_file=uploaded(client, GOOD.encode())).id
        result = ended(client.fine_tuning.jobs.retrieve, job).result_files[0]
        assert base64.b64decode(client.files.content(result).content).startswith(b"step,train_loss")


def test_a_batch_may_expire_half_done_and_in_any_order(tmp_path):
    texts = [f"text {at}" for at in range(20)]
    settings_ = {"chaos": "seed=1,rate=1,kinds=expired+disordered"}
    with connected(tmp_path, **settings_) as (_, client):
        batch = batched(client, batch_lines(BASE, texts))
        assert batch.status == "expired"
        done, left = (results(client, name) for name in (batch.output_file_id, batch.error_file_id))
    assert (len(done), len(left)) == (10, 10)
    assert {line["error"]["code"] for line in left.values()} == {"batch_expired"}
    assert list(done) != [f"row {at}" for at in range(10)]


def test_what_chaos_may_do_can_be_said_in_words():
    chaos = Chaos.parse("seed=3,rate=0.5,kinds=cut_after+limit,pause=0.1")
    assert (chaos.seed, chaos.rate, chaos.kinds, chaos.pause) == (3, 0.5, ("cut_after", "limit"), 0.1)
    assert {chaos.fault() for _ in range(100)} == {"", "cut_after", "limit"}
    assert {Chaos(rate=1).fault() for _ in range(100)} <= set(FAULTS)
    for text in ("rat=1", "rate=2", "kinds=fire", "seed=x"):
        with pytest.raises(BackendError, match=r"^chaos: "):
            Chaos.parse(text)


# Learning, without a server


def test_three_shapes_of_answers_are_told_apart():
    assert shape_of(["1", "2", "17"], framed=False).kind == "choice"
    assert shape_of(["1,0,1", "0,0,1"], framed=False).columns == ("0", "2", "4")
    parts = shape_of(["late; broken", "none", "refund; late", "broken"], framed=False)
    assert (parts.kind, parts.columns, parts.nothing) == ("parts", ("refund", "late", "broken"), "none")
    assert shape_of(["double charge", "late delivery"], framed=False).kind == "choice"
    framed = shape_of([" 1 END", " 2 END"], framed=True)
    assert (framed.columns, framed.lead, framed.stop) == (("1", "2"), " ", " END")
    assert shape_of([" late\n", " none\n"], framed=True).stop == "\n"


@given(chances=st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_steps_of_independent_parts_give_the_chance_of_the_whole_answer(chances):
    shape = Shape("parts", tuple(TOPICS), separator="; ", nothing="none")
    segments = shape.segments(np.array(chances, dtype=np.float32))
    names = [name for name, chance in zip(TOPICS, chances, strict=True) if np.float32(chance) >= 0.5]
    assert "".join(step.token for step in steps_of(segments)) == joined(names)
    chance = math.prod(segment.chances[segment.taken] for segment in segments)
    expected = math.prod(one if name in names else 1 - one for name, one in zip(TOPICS, chances, strict=True))
    assert chance == pytest.approx(expected, rel=1e-4)


def test_an_answer_that_may_end_earlier_says_so():
    shape = Shape("parts", ("late", "broken"), separator="; ", nothing="none")
    steps = steps_of(shape.segments(np.array([0.9, 0.8], dtype=np.float32)))
    listed = dict(next(step for step in steps if step.token == ";").candidates)
    assert listed == {";": pytest.approx(0.8), END: pytest.approx(0.2)}


@given(text=st.text(max_size=40))
@settings(max_examples=100, deadline=None)
def test_tokens_joined_are_the_text(text):
    assert "".join(split(text)) == text
    assert count(text) >= (1 if text else 0)


def test_examples_may_begin_with_a_byte_order_mark_and_must_be_ten():
    assert len(read_examples(b"\xef\xbb\xbf" + GOOD.encode(), "File")) == len(TEST)
    with pytest.raises(InvalidFile, match="must have at least 10"):
        read_examples(b"{}", "File")
    with pytest.raises(InvalidFile, match="is not UTF-8"):
        read_examples(b"\xff\n" * 10, "File")


def test_one_answer_for_everything_is_learned_too(tmp_path):
    lines = chat_lines([(text, ["late"]) for text, _ in TEST], code)
    model, quality = train(read_examples(lines, "File"), seed=0)
    assert quality.accuracy == 1
    model.save(tmp_path / "model")
    again = TrainedModel.load(tmp_path / "model")
    (answer,) = again.shape.segments(again.probabilities(["anything"])[0])
    assert answer.taken == "1"


def test_a_model_that_was_saved_answers_the_same(tmp_path):
    model, _ = train(read_examples(chat_lines(TRAINING, joined), "File"), seed=0)
    model.save(tmp_path / "model")
    texts = [text for text, _ in TEST]
    assert np.array_equal(
        TrainedModel.load(tmp_path / "model").probabilities(texts), model.probabilities(texts)
    )
    assert TrainedModel.load(tmp_path / "model").prompts.text(SYSTEM, "a \ud800 b") == "a ? b"


def test_a_job_whose_file_is_gone_fails_and_takes_nothing_with_it(tmp_path):
    storage = Storage(tmp_path)
    job = {"id": "ftjob-1", "status": "queued", "training_file": "file-gone", "validation_file": None}
    storage.put("job", job)
    Trainer(storage).carry_out("ftjob-1")
    assert storage.get("job", "ftjob-1")["error"]["code"] == "file_not_found"
    storage.close()


def test_the_log_counts_over_restarts(tmp_path):
    for _ in range(2):
        log = RequestLog(tmp_path)
        log.add({"method": "GET", "path": "/v1/files/file-abc/content"})
        log.close()
    log = RequestLog(tmp_path)
    assert log.counts == {"GET /v1/files/{id}/content": 2}
    log.close()


def test_every_exchange_was_as_the_official_description_has_it(
    checker, client, coded, indicated, named, completing
):
    if not SPEC.exists():
        pytest.skip(f"no {SPEC.name}: the description is not part of the project")
    chat(client, coded, "hello", logprobs=True, top_logprobs=3)
    client.completions.create(model=completing, prompt="hello" + SEPARATOR, logprobs=2)
    # The other tests may have run in another worker: each method is used here as well.
    name = client.files.create(file=("one.jsonl", b"{}\n"), purpose="batch").id
    assert client.files.retrieve(name).id == name
    client.files.delete(name)
    assert checker.faults == []
    assert {method for method, _ in checker.checked} == {"GET", "POST", "DELETE"}
