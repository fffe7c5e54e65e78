"""All that cascade sends in the life of a model, and all that it is answered, by the official description."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import httpx2
import pytest
from hosted_runs import FIT, GROUPS, PREDICT, backend, put, run, sandbox, taxonomy
from sandbox_helpers import SPEC, Checker

from cascade.hosted.answer_cache import AnswerCache
from cascade.hosted.asker import Asker
from cascade.hosted.questions import PendingQuestion
from cascade.nodes.contract import GroupDescription
from cascade.prompt.model import PromptModel
from cascade.prompt.settings import PromptSettings
from cascade.text.texts import Texts

pytestmark = pytest.mark.skipif(not SPEC.exists(), reason=f"there is no {SPEC.name} to hold it against")
LABELS = [label for labels in GROUPS.values() for label in labels]
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "content-encoding", "host"}


class Proxy(BaseHTTPRequestHandler):
    """Passes requests on, and has each exchange checked."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        with self.server.guard:
            answer = self.server.client.request(self.command, self.path, content=body, headers=headers)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names of the library

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 256  # as many connect at once; more than 5 would be dropped


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A proxy before a sandbox: its address, and the checker."""
    checker = Checker()
    with (
        sandbox(tmp_path_factory.mktemp("sandbox")) as address,
        httpx2.Client(
            base_url=address.removesuffix("/v1"), event_hooks={"response": [checker.see]}
        ) as client,
        Server(("127.0.0.1", 0), Proxy) as server,
    ):
        server.client, server.guard = client, Lock()
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1", checker
        server.shutdown()


def test_every_exchange_of_a_life_is_valid(checked, tmp_path):
    address, checker = checked
    mood = {"choose": "one", "labels": ["password", "closing", "address"]}
    folder = put(tmp_path, taxonomy(address, account=mood))
    run(folder, "check", "shop.yaml", "--data", "train.jsonl", code=0)
    run(folder, *FIT, "--detach")
    run(folder, "jobs", "--model", "models/shop", "--follow")
    run(folder, *FIT)
    run(folder, *PREDICT)
    run(folder, "cache", "clear")
    run(folder, *PREDICT, "--batch")
    assert checker.faults == []
    wanted = {
        ("GET", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs/*"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches/*"),
    }
    assert wanted - checker.checked == set()


def test_answers_that_a_service_keeps_are_asked_for_and_listed_validly(checked, tmp_path, monkeypatch):
    address, checker = checked
    monkeypatch.setenv("SANDBOX_KEY", "any")
    told = {"provider": "compatible", "base_url": address, "api_key_env": "SANDBOX_KEY", "model": "reader"}
    settings = PromptSettings.of({**told, "answer": "each", "store": True})
    model = PromptModel(settings, LABELS[:3], GroupDescription())
    asked = model.questions(Texts(["it came late", "a refund, please"]))
    answers = []
    for number in range(2):
        with AnswerCache(tmp_path / f"{number}.sqlite") as cache, Asker(cache=cache) as asker:
            if number:
                for one in asked:
                    cache.note_sent(PendingQuestion.of(one).key).result(10)
            answers.append([one.scores.tolist() for one in asker.ask(asked)])
            used = asker.usage()["reader"]
    assert answers[0] == answers[1]
    assert (used.requests, used.found_again) == (0, 2)
    assert checker.faults == []
    assert {("GET", "/v1/chat/completions"), ("POST", "/v1/chat/completions")} <= checker.checked


@pytest.mark.slow
def test_completions_of_older_models_are_valid(checked, tmp_path):
    address, checker = checked
    older = backend(address, format="completion", base_model="babbage-002")
    folder = put(
        tmp_path, {"name": "shop", "defaults": {"backend": older}, "groups": {"all": {"labels": LABELS}}}
    )
    run(folder, *FIT)
    run(folder, *PREDICT)
    assert checker.faults == []
    assert ("POST", "/v1/completions") in checker.checked
