from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from sandbox_helpers import Checker, asked, client_of, requests_seen, sandbox

MODEL = "reader"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("stored"), latency=0.2) as process:
        yield process


@pytest.fixture
def checker():
    return Checker()


@pytest.fixture
def client(running, checker):
    with client_of(running.address, checker) as found:
        yield found
    assert checker.faults == []


def answered(client, text, **more):
    return client.chat.completions.create(model=MODEL, messages=asked(text), **more)


def kept(client, text, mark, **more):
    return answered(client, text, store=True, metadata={"mark": mark, "of": "tests"}, **more)


def ids(page):
    return [one.id for one in page.data]


def test_what_was_asked_with_store_is_listed_by_its_metadata(client):
    given = kept(client, "about a refund", "one", logprobs=True, top_logprobs=2)
    kept(client, "about a parcel", "two")
    [found] = client.chat.completions.list(metadata={"mark": "one"}, model=MODEL).data
    assert found.metadata == {"mark": "one", "of": "tests"}
    assert found.model_dump(exclude={"metadata"}) == given.model_dump(exclude={"metadata"})
    assert client.chat.completions.list(metadata={"mark": "one"}, model="another").data == []
    assert client.chat.completions.list(metadata={"mark": "one", "of": "others"}).data == []


def test_what_was_asked_without_store_is_not_listed(client):
    given = [answered(client, "unkept"), answered(client, "unkept", store=False)]
    listed = [one.id for one in client.chat.completions.list(limit=100)]
    assert not {one.id for one in given} & set(listed)


def test_lists_come_in_pages_oldest_or_newest_first(client):
    given = [kept(client, f"page {number}", "paged").id for number in range(5)]
    first = client.chat.completions.list(metadata={"mark": "paged"}, limit=2)
    assert (ids(first), first.has_more) == (given[:2], True)
    last = client.chat.completions.list(metadata={"mark": "paged"}, limit=2, after=given[3])
    assert (ids(last), last.has_more) == (given[4:], False)
    newest = client.chat.completions.list(metadata={"mark": "paged"}, limit=2, order="desc")
    assert ids(newest) == given[:2:-1]
    assert [one.id for one in client.chat.completions.list(metadata={"mark": "paged"}, limit=2)] == given


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"metadata": {"mark": "x"}}, "only allowed when 'store'"),
        ({"store": "yes"}, "'store'"),
        ({"store": True, "metadata": {"mark": 1}}, "'metadata'"),
        ({"store": True, "metadata": {"mark": "x" * 513}}, "'metadata'"),
    ],
)
def test_a_wrong_way_of_asking_for_it_is_refused(running, more, found):
    body = {"model": MODEL, "messages": asked("x"), **more}
    headers = {"authorization": "Bearer any"}
    told = httpx2.post(f"{running.address}/chat/completions", json=body, headers=headers)
    assert told.status_code == 400
    assert found in told.json()["error"]["message"]


def test_an_unknown_order_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="order"):
        client.chat.completions.list(order="random")


def test_an_answer_is_kept_and_counted_though_nobody_reads_it(running, client):
    before = requests_seen(running.address)["usage"].get(MODEL, {}).get("requests", 0)
    body = {"model": MODEL, "messages": asked("gone"), "store": True, "metadata": {"mark": "gone"}}
    content, host = json.dumps(body).encode(), urlsplit(running.address)
    head = (
        f"POST {host.path}/chat/completions HTTP/1.1\r\nhost: {host.netloc}\r\nauthorization: Bearer any\r\n"
    )
    with socket.create_connection((host.hostname, host.port)) as connection:
        connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        arrived = requests_seen(running.address)["requests"]
        assert arrived["POST /v1/chat/completions"] > 0
    until = time.monotonic() + 20
    while not (found := client.chat.completions.list(metadata={"mark": "gone"}).data):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len(found) == 1
    assert requests_seen(running.address)["usage"][MODEL]["requests"] == before + 1


def test_of_very_many_the_oldest_are_forgotten():
    from cascade.sandbox.stored import StoredCompletions

    stored = StoredCompletions(most=3)
    for number in range(5):
        stored.keep({}, {"id": str(number), "model": MODEL})
    assert [one["id"] for one in stored.listed()] == ["2", "3", "4"]
