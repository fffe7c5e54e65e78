from __future__ import annotations

import asyncio
import gzip
import io
import json
from dataclasses import replace

import httpx2
import pytest
from echo_service import KEY, questions, texts_of
from endless_service import endless
from stand_in_service import order_of, stand_in, tune

from cascade.hosted.asker import Asker
from cascade.hosted.client import connect, download
from cascade.hosted.service_errors import ServiceError, service_error
from cascade.hosted.settings import Settings

MOST = 2**20
# What may be on its way in the buffers of two sockets when a client hangs up.
MOST_SENT = 64 * 2**20
JOB = {"model": "m", "training_file": "file-1"}
CALLS = {
    "files.create": lambda client: client.files.create(file=("a", b"x"), purpose="batch"),
    "files.retrieve": lambda client: client.files.retrieve("file-1"),
    "files.list": lambda client: client.files.list(),
    "jobs.create": lambda client: client.fine_tuning.jobs.create(**JOB),
    "jobs.retrieve": lambda client: client.fine_tuning.jobs.retrieve("ftjob-1"),
    "jobs.list": lambda client: client.fine_tuning.jobs.list(),
    "jobs.events": lambda client: client.fine_tuning.jobs.list_events("ftjob-1"),
    "batches.create": lambda client: client.batches.create(
        input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h"
    ),
    "batches.retrieve": lambda client: client.batches.retrieve("batch-1"),
    "chat": lambda client: client.post("/chat/completions", cast_to=httpx2.Response, content=b"{}"),
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", KEY)


def settings_of_url(url):
    return Settings(provider="compatible", base_url=url, api_key_env="SERVICE_KEY")


def connect_small(settings):
    """A client whose answers have a mebibyte at most."""
    return connect(replace(settings, api_key_env="SERVICE_KEY"), most_bytes=MOST)


def trouble_of(url, call):
    """What a call of a client with a limit of a mebibyte comes to."""

    async def work():
        client = connect_small(settings_of_url(url))
        try:
            await call(client)
        except Exception as error:
            return service_error(error, url)
        finally:
            await client.close()

    return asyncio.run(work())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_answer_is_held_that_never_ends(call):
    with endless() as service:
        error = trouble_of(service.url, call)
        assert (error.trouble, error.status) == ("oversized", 200)
        assert "is larger than 1 MiB, and was refused" in str(error)
        assert service.url in str(error)
        assert service.sent < MOST_SENT


def test_no_refusal_is_held_that_never_ends():
    with endless(status=500) as service:
        assert trouble_of(service.url, CALLS["jobs.list"]).trouble == "oversized"
        assert service.sent < MOST_SENT


def test_a_small_answer_that_unpacks_to_a_gigantic_one_is_refused():
    with endless(is_packed=True) as service:
        assert trouble_of(service.url, CALLS["jobs.list"]).trouble == "oversized"


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_of_a_file_that_never_ends_is_cut_at_the_limit(status):
    content = io.BytesIO()

    async def work(url):
        client = connect_small(settings_of_url(url))
        try:
            await download(client, "file-1", content, most_bytes=3 * MOST)
        except Exception as error:
            return service_error(error, url)
        finally:
            await client.close()

    with endless(status) as service:
        error = asyncio.run(work(service.url))
        assert error.trouble == "oversized"
        assert service.sent < MOST_SENT
    assert content.tell() <= 3 * MOST


@pytest.mark.parametrize("call", [CALLS["jobs.list"], CALLS["chat"]], ids=["jobs.list", "chat"])
def test_an_answer_that_breaks_off_may_be_asked_for_again(call):
    with endless(length=1000) as service:
        assert trouble_of(service.url, call).trouble == "lost"


def test_a_file_that_breaks_off_may_be_asked_for_again():
    with endless(length=1000) as service:

        async def read(client):
            await download(client, "file-1", io.BytesIO(), most_bytes=MOST)

        assert trouble_of(service.url, read).trouble == "lost"


def models_of(body):
    """What a service lists whose answer is this body, said to be packed."""

    async def work():
        transport = httpx2.AsyncClient(transport=Packed(body))
        client = connect(settings_of_url("http://here/v1"), transport)
        try:
            return [model.id async for model in client.models.list()]
        except Exception as error:
            raise service_error(error, "http://here/v1") from error
        finally:
            await client.close()

    return asyncio.run(work())


class Packed(httpx2.AsyncBaseTransport, httpx2.AsyncByteStream):
    """A service with one answer, which it says is packed."""

    def __init__(self, body):
        self._body = body

    async def handle_async_request(self, request):
        assert request.headers["accept-encoding"] == "gzip"
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        return httpx2.Response(200, headers=headers, stream=self)

    async def __aiter__(self):
        yield self._body


def test_packed_answers_are_read():
    sent = {"object": "list", "data": [{"id": "m", "object": "model"}]}
    assert models_of(gzip.compress(json.dumps(sent).encode())) == ["m"]


def test_an_answer_that_is_not_packed_as_it_says_is_a_trouble_that_may_pass():
    with pytest.raises(ServiceError) as caught:
        models_of(b"no gzip at all")
    assert caught.value.trouble == "lost"


def test_a_job_whose_answer_never_ends_is_not_created_twice(tmp_path):
    with stand_in() as service:
        service.fault("POST", "fine_tuning/jobs", "endless")
        (outcome,), _ = tune([order_of(service.url, "billing")], tmp_path / "ledger", clients=connect_small)
        assert (outcome.state, "larger than 1 MiB" in outcome.why) == ("intended", True)
        (outcome,), _ = tune([order_of(service.url, "billing")], tmp_path / "ledger", clients=connect_small)
        assert outcome.state == "succeeded"
        assert service.created() == {"key-of-billing": 1}


def test_a_training_curve_that_never_ends_is_no_failure(tmp_path):
    with stand_in() as service:
        service.fault("GET", "files/file-2/content", "endless", times=9)
        (outcome,), _ = tune([order_of(service.url, "billing")], tmp_path / "ledger", clients=connect_small)
        assert (outcome.state, outcome.tuned.result_csv) == ("succeeded", ())


def test_questions_end_with_one_error_where_answers_never_end():
    with endless() as service, Asker(connect_small) as asker:
        service.base_url = service.url
        with pytest.raises(ServiceError, match="larger than 1 MiB") as caught:
            asker.ask(questions(service, texts_of(50)))
        assert service.url in str(caught.value)
        assert service.sent < 8 * MOST_SENT
