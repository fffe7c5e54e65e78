"""`cascade serve`: real processes on loopback, asked over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")
pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")
pytest.importorskip("httptools", reason="the extra [serve] is not installed")
pytest.importorskip("prometheus_client", reason="the extra [serve] is not installed")

from hypothesis import given
from hypothesis import strategies as st
from served import TOKEN, ask, check_by_schemathesis, environment, get, run, serving, wait_until

from cascade.errors import DataError
from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.model.folder import MANIFEST
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.serve import pages
from cascade.serve.batching import Batcher
from cascade.serve.limits import Limits
from cascade.serve.predict_request import parse
from cascade.serve.problems import HTTPProblem
from cascade.serve.reloading import ModelReloader
from cascade.serve.server import Address, serve

TEXTS = [
    "my money returned please",
    "charged twice and arrived slowly",
    "smashed glass, furious error",
    "",
    "été \N{SNOWMAN} \x00 nul",
]


def raw(port, *parts):
    """All that comes back for bytes that are sent as they are."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        found = b""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                found += chunk
        return found


def is_well(port):
    return ask(port, {"text": "charged twice"})[0] == 200


# Answers


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top": 2},
        {"scores": "all"},
        {"trace": True},
        {"evidence": True},
        {"top": 1, "scores": "all", "trace": True, "evidence": True},
    ],
)
def test_rows_are_those_of_predict(port, model, options):
    status, _, body = ask(port, {"texts": TEXTS, **options})
    assert status == 200
    answer = json.loads(body)
    assert answer["model"] == model.digest
    assert answer["rows"] == prediction_rows(model, range(1, 6), TEXTS, Style(**options))


def test_many_texts_with_evidence_are_answered_some_at_a_time(port, model):
    found = json.loads(ask(port, {"texts": TEXTS * 9, "evidence": True})[2])["rows"]
    assert found == prediction_rows(model, range(1, 46), TEXTS * 9, Style(evidence=True))


def test_one_text_and_rows_with_ids_are_answered_as_lists_are(port, model):
    one = json.loads(ask(port, {"text": TEXTS[1]})[2])["rows"]
    assert one == prediction_rows(model, [1], TEXTS[1:2], Style())
    rows = [{"id": "x", "text": TEXTS[0]}, {"text": TEXTS[1]}, {"id": 7, "text": TEXTS[2], "more": None}]
    assert [row["id"] for row in json.loads(ask(port, {"rows": rows})[2])["rows"]] == ["x", 2, 7]
    assert json.loads(ask(port, {"texts": []})[2])["rows"] == []


def test_many_clients_at_once_each_get_their_own_answers(port, model):
    expected = {row["id"]: row for row in prediction_rows(model, range(200), TEXTS * 40, Style())}
    wrong = []

    def client(first):
        for number in range(first, 200, 8):
            text = (TEXTS * 40)[number]
            found = json.loads(ask(port, {"rows": [{"id": number, "text": text}]})[2])["rows"]
            if found != [expected[number]]:
                wrong.append(found)

    threads = [threading.Thread(target=client, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_the_taxonomy_health_and_metrics_are_told(port, model):
    told = json.loads(get(port, "/v1/taxonomy")[2])
    assert (told["name"], told["model"]) == ("shop", model.digest)
    assert [child["name"] for child in told["tree"]["children"]] == ["billing", "delivery", "product", "mood"]
    assert json.loads(get(port, "/healthz")[2]) == {"status": "ok"}
    is_well(port)
    figures = get(port, "/metrics")[2].decode()
    assert re.search(r'^cascade_requests_total\{path="/v1/predict",status="200"\} \d', figures, re.MULTILINE)
    assert f'cascade_model{{digest="{model.digest}"}} 1.0' in figures


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_bring_all_they_need_and_a_policy_that_allows_no_more(port, path):
    status, headers, body = get(port, path)
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    text = body.decode().replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"(?:https?:)?//[a-z]\S*", text) == []
    assert re.findall(r"<[^>]*\s(?:style|on\w+)=", text) == []


# What is refused


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"", 400, "line 1, column 1"),
        (b'{"text": ', 400, "line 1, column 10"),
        (b'{"text": NaN}', 400, ""),
        (b'{"text": "\xff"}', 400, "byte 10"),
        (b"[" * 200_000, 400, ""),
        (b'{"text": "x", "top": ' + b"9" * 6000 + b"}", 400, ""),
        ([], 422, ""),
        ({}, 422, ""),
        ({"text": "a", "texts": ["b"]}, 422, ""),
        ({"text": 7}, 422, "text"),
        ({"text": "a", "tops": 3}, 422, ""),
        ({"texts": "a"}, 422, "texts"),
        ({"texts": ["a", None]}, 422, "texts[1]"),
        ({"rows": [{"text": "a"}, {"id": 1}]}, 422, "rows[1]"),
        ({"rows": [{"id": True, "text": "a"}]}, 422, "rows[0].id"),
        ({"text": "a", "top": 0}, 422, "top"),
        ({"text": "a", "top": True}, 422, "top"),
        ({"text": "a", "scores": ["all"]}, 422, "scores"),
        ({"text": "a", "trace": 1}, 422, "trace"),
        ({"text": "a", "evidence": "words"}, 422, "evidence"),
        ({"texts": ["a", "x" * 10_001], "evidence": True}, 422, "evidence"),
        (b'{"text": "half \\ud83d"}', 422, "text"),
        (b'{"rows": [{"id": "\\udc00", "text": "a"}]}', 422, "rows[0].id"),
        ({"texts": ["a"] * 1001}, 422, "texts"),
        (b'{"text": "' + b"x" * (3 << 20) + b'"}', 413, ""),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_answered_says_what_was_found_and_expected(port, body, status, where):
    found, headers, told = ask(port, body)
    problem = json.loads(told)
    assert (found, problem["status"], problem.get("where", "")) == (status, status, where)
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["title"]
    assert problem["expected"]
    assert is_well(port)


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_body_is_parsed_or_refused(body):
    with contextlib.suppress(HTTPProblem):
        parse(body, 5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("text", "texts", "rows", "top", "scores", "trace", "evidence"), json_values),
    )
)
def test_any_json_is_parsed_into_as_many_ids_as_texts_or_refused(body):
    refusal = asked = None
    try:
        asked = parse(json.dumps(body).encode(), 5)
    except HTTPProblem as error:
        refusal = error
    if refusal:
        assert refusal.status in (400, 422)
        assert json.dumps(refusal.body()).isascii()
    else:
        assert len(asked.ids) == len(asked.texts) <= 5
        "".join(asked.texts).encode()


def test_other_types_methods_and_paths_are_refused_as_problems(port):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert ask(port, b'{"text": "a"}', Content_Type=content_type)[0] == 415
    status, headers, _ = get(port, "/v1/predict")
    assert (status, headers["Allow"]) == (405, "POST")
    status, headers, body = get(port, "/nowhere")
    assert (status, json.loads(body)["status"]) == (404, 404)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:9", 200),
        ("example.org", 421),
        ("127.0.0.1.example.org", 421),
        ("localhost@example.org", 421),
        ("", 421),
    ],
)
def test_names_of_other_machines_are_not_answered_to(port, host, status):
    assert get(port, "/healthz", Host=host)[0] == status


def test_a_request_without_a_host_or_with_two_is_refused(port):
    assert b" 421 " in raw(port, b"GET /healthz HTTP/1.0\r\n\r\n")
    two = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\nConnection: close\r\n\r\n"
    assert re.match(rb"HTTP/1.1 4\d\d ", raw(port, two))


def test_a_text_of_a_megabyte_is_answered(port):
    assert ask(port, {"text": "smashed glass " * 75_000})[0] == 200


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [b"\x16\x03\x01 this is no HTTP\r\n\r\n"],
        [b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: localhost\r\n", *[b"x: " + b"y" * 60_000 + b"\r\n"] * 6],
        [HEAD + b"Content-Length: -5\r\n\r\n{}"],
        [HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{}"],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"],
    ],
    ids=["no-http", "long-url", "long-head", "negative", "two-lengths", "bad-chunk"],
)
def test_what_is_no_http_is_refused_and_cut(port, parts):
    found = raw(port, *parts)
    assert re.match(rb"HTTP/1.1 4\d\d |$", found)
    assert is_well(port)


def test_a_body_that_grows_without_a_length_is_refused(port):
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    found = raw(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 48, b"0\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 413 ")


def test_connections_that_are_cut_at_any_place_harm_nobody(port):
    whole = HEAD + b'Content-Length: 16\r\n\r\n{"text": "late"}'
    for end in range(0, len(whole) + 1, 7):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(whole[:end])
            if end % 2:  # a reset instead of an end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert is_well(port)
    assert b'status="500"' not in get(port, "/metrics")[2]


@contextlib.contextmanager
def limited(model, **limits):
    """A service with other limits: its port."""
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom cascade.fitted import Cascade\n"
        "from cascade.serve.limits import Limits\nfrom cascade.serve.server import Address, serve\n"
        "limits = Limits(**json.loads(sys.argv[2]))\n"
        "log = lambda line: print(line, file=sys.stderr)\n"
        "ready = lambda url: print(url, flush=True)\n"
        "serve(Path(sys.argv[1]), Cascade.load, Address(port=0), limits, log=log, ready=ready)\n"
    )
    command = [sys.executable, "-c", script, str(model), json.dumps(limits)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            yield int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.terminate()
    assert process.returncode == 0


def memory(port):
    """Bytes of the service in memory."""
    return float(
        re.search(rb"^process_resident_memory_bytes (\S+)", get(port, "/metrics")[2], re.MULTILINE)[1]
    )


def test_slow_clients_are_cut_off_and_keep_nobody_waiting(shop_model):
    with limited(shop_model, body_seconds=0.5, head_seconds=0.5) as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(20)]
        for connection in slow[:10]:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        for connection in slow[10:]:
            connection.sendall(b"POST /v1/pre")
        assert is_well(port)
        for connection in slow:
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
            connection.close()
        assert is_well(port)


def test_a_head_of_many_fields_is_refused(port):
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    assert raw(port, head + b"a: b\r\n" * 1000 + b"\r\n").startswith(b"HTTP/1.1 431 ")
    assert b" 200 " in raw(port, head + b"a: b\r\n" * 50 + b"Connection: close\r\n\r\n")


def test_what_comes_behind_a_body_takes_no_memory(port):
    before = memory(port)
    trailers = [b"0\r\n", *[b"a: b\r\n" * 10_000] * 400]
    raw(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *trailers)
    assert memory(port) - before < 20e6
    assert is_well(port)


def test_requests_that_are_asked_before_the_answer_to_one_are_few(port):
    before = memory(port)
    body = b'{"text": "late"}'
    found = raw(port, (HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)) * 50_000)
    assert found.count(b"HTTP/1.1 200 ") <= 17
    assert memory(port) - before < 20e6
    body = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10
    last = body + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert raw(port, last).count(b'{"status": "ok"}') == 11


LARGE = json.dumps({"texts": ["charged twice"] * 8000, "scores": "all", "trace": True}).encode()
ASKED = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE)  # the answer has some 15 MB


@contextlib.contextmanager
def silent(port):
    """A connection that has asked for much and reads nothing."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", port))
        before = answered(port)
        connection.sendall(ASKED)
        wait_until(lambda: answered(port) == before + 1)
        yield connection


def test_answers_that_nobody_reads_are_cut(shop_model):
    with limited(shop_model, texts=8000, unread_seconds=0.5) as port:
        with silent(port) as connection:
            time.sleep(1.5)
            with pytest.raises(ConnectionError):
                read_whole(connection)
        with silent(port) as connection:
            for _ in range(20):  # slow, and yet it reads
                time.sleep(0.1)
                assert connection.recv(1 << 16)


def test_answers_that_wait_to_be_read_are_limited_together(shop_model):
    with limited(shop_model, texts=8000, held=1 << 20) as port, contextlib.ExitStack() as open_ones:
        first, second = (open_ones.enter_context(silent(port)) for _ in range(2))
        assert is_well(port)
        assert len(json.loads(read_whole(first))["rows"]) == 8000
        with pytest.raises(ConnectionError):
            read_whole(second)


def answered(port):
    """How many questions were answered."""
    told = re.search(rb'_requests_total{path="/v1/predict",status="200"} (\d+)', get(port, "/metrics")[2])
    return int(told[1]) if told else 0


def read_whole(connection):
    """The body of an answer; ConnectionError where it is cut."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += received(connection)
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += received(connection)
    return body


def received(connection):
    found = connection.recv(1 << 16)
    if not found:
        raise ConnectionError
    return found


# Overload


def test_overload_is_told_with_a_time_to_come_back(shop_model):
    with serving(shop_model, "--max-waiting", "10") as (port, _):
        found = []

        def client():
            for _ in range(8):
                status, headers, _ = ask(port, {"texts": ["charged twice " * 40] * 200})
                found.append((status, headers["Retry-After"]))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 64
        assert set(found) == {(200, None), (503, "1")}
        assert is_well(port)


class Slow:
    """A model that takes its time, and remembers how many texts it was asked at once."""

    def __init__(self, model):
        self._model, self.walks = model, []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def walk(self, texts):
        self.walks.append(len(texts))
        time.sleep(0.05)
        if "poison" in texts:
            raise DataError("poison")
        return self._model.walk(texts)


def test_texts_that_wait_are_walked_together_and_each_style_apart(model):
    slow = Slow(model)

    async def asked():
        batcher = Batcher(1000)
        styles = [Style(), Style(trace=True)]
        asking = [batcher.ask(slow, [i], [TEXTS[i % 5]], styles[i % 2]) for i in range(21)]
        found = await asyncio.gather(*asking)
        await batcher.close()
        return [json.loads(row) for (row,) in found]

    rows = asyncio.run(asked())
    assert len(slow.walks) <= 3
    styles = [Style(), Style(trace=True)]
    assert rows == [prediction_rows(model, [i], [TEXTS[i % 5]], styles[i % 2])[0] for i in range(21)]


def test_a_text_that_fails_does_not_fail_others_of_its_batch(model):
    slow = Slow(model)

    async def asked():
        batcher = Batcher(1000)
        texts = ["late", "fine", "poison", "good"]
        asking = [batcher.ask(slow, [1], [text], Style()) for text in texts]
        found = await asyncio.gather(*asking, return_exceptions=True)
        again = await batcher.ask(slow, [1], ["late"], Style())
        await batcher.close()
        return [type(one) for one in found], again, batcher.waiting

    kinds, again, waiting = asyncio.run(asked())
    assert kinds == [list, list, DataError, list]
    assert len(again) == 1
    assert waiting == 0


def test_whoever_asks_just_when_a_batch_ends_is_answered(model):
    async def asked():
        batcher = Batcher(1000)

        async def client(number):
            for _ in range(40):
                assert len(await batcher.ask(model, [number], ["late"], Style())) == 1

        await asyncio.wait_for(asyncio.gather(*map(client, range(4))), 30)
        await batcher.close()

    asyncio.run(asked())


# Swaps and stops


def test_a_model_is_swapped_without_a_lost_request_and_a_broken_one_is_not_taken(shop, shop_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(shop_model, folder)
    old = Cascade.load(folder).digest
    seen, failed, stop = [], [], threading.Event()

    def client(port):
        while not stop.is_set():
            status, _, body = ask(port, {"text": "charged twice"})
            (seen.append(json.loads(body)["model"]) if status == 200 else failed.append(status))

    with serving(folder) as (port, process):
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        fit(shop.taxonomy, shop.texts[:200], shop.labels[:200], folder)
        new = Cascade.load(folder).digest
        until = time.monotonic() + 20
        while new not in seen[-1:] and time.monotonic() < until:
            time.sleep(0.05)
        broken = folder / "manifest.new"
        broken.write_text("{}", "utf-8")
        broken.replace(folder / MANIFEST)
        while b"cascade_model_failures 1.0" not in get(port, "/metrics")[2] and time.monotonic() < until:
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert json.loads(ask(port, {"text": "late"})[2])["model"] == new
        process.terminate()
        told = process.stderr.read()
    assert failed == []
    assert set(seen) == {old, new}
    assert f"another model, {new[:12]}, answers from now on" in told
    assert f"model {new[:12]} goes on answering" in told


@pytest.mark.parametrize("content", [b"", b"nonsense " * 100_000], ids=["truncated", "overwritten"])
def test_files_that_change_under_a_service_harm_no_answer(shop_model, tmp_path, content):
    folder = tmp_path / "model"
    shutil.copytree(shop_model, folder)
    digest, stop, wrong = Cascade.load(folder).digest, threading.Event(), []

    def client(port):
        while not stop.is_set():
            status, _, body = ask(port, {"texts": TEXTS, "scores": "all"})
            wrong.extend([] if status == 200 and json.loads(body)["model"] == digest else [status])

    with serving(folder) as (port, process):
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for path in (folder / "nodes").rglob("*.npy"):
            with path.open("r+b") as file:
                file.truncate(0)
                file.write(content)
        with contextlib.suppress(OSError):
            wait_until(lambda: b"cascade_model_failures 1.0" in get(port, "/metrics")[2])
            time.sleep(2.5)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert process.poll() is None
        assert is_well(port)
        process.terminate()
        told = process.stderr.read()
    assert wrong == []
    assert told.count(f"model {digest[:12]} goes on answering") == 1
    assert str(folder) in told


def test_a_folder_that_is_mended_answers_again(shop_model, tmp_path):
    folder, told = tmp_path / "model", []
    shutil.copytree(shop_model, folder)
    reloader = ModelReloader(folder, Cascade.load, told.append)
    first = reloader.model
    manifest = (folder / MANIFEST).read_bytes()

    async def looked():
        (folder / MANIFEST).unlink()
        await reloader.check()
        await reloader.check()
        (folder / MANIFEST).write_bytes(manifest)
        await reloader.check()
        await reloader.check()

    asyncio.run(looked())
    assert (reloader.failures, reloader.reloads, len(told)) == (1, 0, 1)
    assert reloader.model is first


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_before_the_end(shop_model, ending):
    with serving(shop_model) as (port, process):
        body = json.dumps({"texts": ["charged twice " * 50] * 1000}).encode()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-10])
            time.sleep(0.1)
            process.send_signal(ending)
            time.sleep(0.1)
            connection.sendall(body[-10:])
            found = b""
            while chunk := connection.recv(1 << 20):
                found += chunk
        assert found.startswith(b"HTTP/1.1 200 ")
        assert len(json.loads(found.partition(b"\r\n\r\n")[2])["rows"]) == 1000
        assert process.wait(20) == 0


# Who may ask


def test_a_token_is_asked_for_by_everything_that_tells_of_the_model(shop_model):
    with serving(shop_model, "--host", "0.0.0.0", "--token-env", "T", T=TOKEN) as (port, _):
        body = {"text": "late"}
        assert ask(port, body, Authorization=f"Bearer {TOKEN}", Host="shop.example")[0] == 200
        for wrong in ("", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \xff"):
            status, headers, told = ask(port, body, Authorization=wrong)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert TOKEN not in told.decode()
        assert [get(port, path)[0] for path in ("/v1/taxonomy", "/metrics", "/v1//predict")] == [401] * 3
        assert [get(port, path)[0] for path in ("/", "/healthz", "/docs", "/openapi.json")] == [200] * 4


def test_other_machines_are_not_answered_without_a_token(shop_model):
    status, told = run("--model", shop_model, "--host", "0.0.0.0", "--port", "0")
    assert status == 1
    assert "--token-env" in told


@pytest.mark.parametrize("token", ["", "secret-1", "with blanks in the middle of it", "é" * 20])
def test_poor_tokens_are_refused(shop_model, token):
    status, told = run("--model", shop_model, "--port", "0", "--token-env", "T", T=token)
    assert status == 1
    assert "--token-env" in told
    assert not token or token not in told


def test_a_port_that_is_taken_and_a_folder_without_a_model_are_told(port, shop_model, tmp_path):
    status, told = run("--model", shop_model, "--port", port)
    assert (status, f"127.0.0.1:{port}" in told) == (1, True)
    assert run("--model", tmp_path, "--port", "0")[0] == 1


def test_a_host_that_does_not_exist_is_told(shop_model):
    with pytest.raises(DataError, match="--host"):
        serve(shop_model, Cascade.load, Address("no.such.invalid", 0), Limits(), log=print, ready=print)


# The description


def test_the_description_tells_of_every_endpoint_and_its_references_exist(port):
    told = json.loads(get(port, "/openapi.json")[2])
    assert set(told["paths"]) == {"/v1/explain", "/v1/predict", "/v1/taxonomy", "/healthz", "/metrics"}
    names = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told))
    assert set(names) == set(told["components"]["schemas"])
    assert b"POST /v1/predict" in pages.api_reference(told).body


def test_answers_and_examples_are_as_described(port):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    told = json.loads(get(port, "/openapi.json")[2])
    content = told["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]

    def check(name, value):
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": told["components"]})

    for example in content["examples"].values():
        check("Question", example["value"])
        status, _, body = ask(port, example["value"])
        assert status == 200
        check("Answers", json.loads(body))
    check("Problem", json.loads(ask(port, {})[2]))


def test_schemathesis_finds_nothing(port, tmp_path):
    check_by_schemathesis(port, tmp_path)
