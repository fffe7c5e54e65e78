"""A sandbox in a process of its own, a client whose every exchange is checked, and made-up data."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx2
from jsonschema import Draft202012Validator
from openai import OpenAI
from places import SHARED
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

SCRIPT = """
import json, sys
from pathlib import Path
from cascade.sandbox.chaos import Chaos
from cascade.sandbox.server import Options, serve
settings = json.loads(sys.argv[2])
if settings.get("chaos"):
    settings["chaos"] = Chaos.parse(settings["chaos"])
serve(Path(sys.argv[1]), Options(**settings), ready=lambda address: print(address, flush=True))
"""
SPEC = SHARED / "spec" / "openai.json"
BASE = "gpt-4.1-mini-2025-04-14"
SYSTEM = "Answer for the message of a customer."
SEPARATOR = "\n\n###\n\n"
TOPICS = {
    "refund": ["money back", "reimburse me", "return the payment"],
    "late": ["still waiting", "arrived slowly", "delayed parcel"],
    "broken": ["smashed glass", "cracked screen", "in pieces"],
}
FILLERS = ["the", "a", "my", "order", "please", "hello", "today", "box", "you", "it", "shop", "again"]


class Process:
    """A sandbox in a process of its own."""

    def __init__(self, folder, **settings):
        command = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the sandbox did not start"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def interrupt(self):
        """The exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=10)
        finally:
            self.process.stdout.close()


@contextmanager
def sandbox(folder, **settings):
    running = Process(folder, **settings)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.kill()


class Checker:
    """Holds every exchange against the official description, where that is there."""

    def __init__(self):
        self.faults, self.checked = [], set()
        self.paths, self.queries = {}, {}
        if SPEC.exists():
            self.load(json.loads(SPEC.read_text("utf-8")))

    def load(self, spec):
        resource = Resource.from_contents(spec, default_specification=DRAFT202012)
        registry = Registry().with_resource("urn:spec", resource)
        for path, methods in spec["paths"].items():
            pattern = re.compile("/v1" + re.sub(r"\{[^}]*\}", "[^/]+", path))
            for method, operation in methods.items():
                if not isinstance(operation, dict):
                    continue
                sides = {
                    "request": operation.get("requestBody", {}),
                    "response": operation["responses"].get("200", {}),
                }
                schemas = {
                    side: content["application/json"]["schema"]
                    for side, value in sides.items()
                    if "application/json" in (content := value.get("content") or {})
                }
                validators = {
                    side: Draft202012Validator(absolute(schema), registry=registry)
                    for side, schema in schemas.items()
                }
                self.paths[(method.upper(), pattern)] = validators
                told = (
                    one.get("name") for one in operation.get("parameters", []) if one.get("in") == "query"
                )
                self.queries[(method.upper(), pattern)] = set(told)

    def see(self, response):
        """An event hook of the HTTP client."""
        response.read()
        if not self.paths or response.status_code >= 300:
            return
        request = response.request
        path = request.url.path
        if not path.startswith("/v1/") or path.endswith("/content"):
            return
        known, validators = next(
            (self.queries[key], one) for key, one in self.paths.items()
            if key[0] == request.method and key[1].fullmatch(path)
        )  # fmt: skip
        asked = {name.partition("[")[0] for name in request.url.params}
        self.faults += [f"{request.method} {path}: no parameter {name!r}" for name in asked - known]
        self.check(validators.get("response"), response.content, f"{request.method} {path}: response")
        if "json" in request.headers.get("content-type", "") and request.content:
            self.check(validators.get("request"), request.content, f"{request.method} {path}: request")
        self.checked.add((request.method, re.sub(r"(?<=/)(file-|ftjob-|batch_|ft:)[^/]*", "*", path)))

    def check(self, validator, content, where):
        if validator is not None:
            self.faults += [f"{where}: {one.json_path}: {one.message[:200]}"
                            for one in validator.iter_errors(json.loads(content))]  # fmt: skip


def absolute(schema):
    """A schema whose references say in which document."""
    if isinstance(schema, dict):
        return {
            name: f"urn:spec{value}" if name == "$ref" else absolute(value) for name, value in schema.items()
        }
    return [absolute(one) for one in schema] if isinstance(schema, list) else schema


def client_of(address, checker=None, **settings):
    hooks = {"response": [checker.see]} if checker else {}
    http = httpx2.Client(event_hooks=hooks, timeout=30)
    return OpenAI(base_url=address, api_key="any", http_client=http, **{"max_retries": 0} | settings)


def rows(n_rows, seed, most=2):
    """Texts and the topics of each."""
    luck = random.Random(seed)
    found = []
    for _ in range(n_rows):
        names = luck.sample(list(TOPICS), luck.randint(0, most))
        words = [luck.choice(TOPICS[name]) for name in names] + luck.choices(FILLERS, k=5)
        luck.shuffle(words)
        found.append((" ".join(words), [name for name in TOPICS if name in names]))
    return found


def code(names):
    return str(list(TOPICS).index(names[0])) if names else "3"


def indicator(names):
    return ",".join("1" if name in names else "0" for name in TOPICS)


def joined(names):
    return "; ".join(names) or "none"


def asked(text, system=SYSTEM):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def chat_lines(data, write):
    lines = [
        {"messages": [*asked(text), {"role": "assistant", "content": write(names)}]} for text, names in data
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def completion_lines(data, write, stop=" END"):
    lines = [{"prompt": text + SEPARATOR, "completion": f" {write(names)}{stop}"} for text, names in data]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def uploaded(client, content, purpose="fine-tune"):
    return client.files.create(file=("data.jsonl", content), purpose=purpose).id


def ended(fetch, name, seconds=60):
    """A job or batch when it has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = fetch(name)
        if found.status in ("succeeded", "failed", "cancelled", "completed", "expired"):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{name} did not end")


def tuned(client, content, **settings):
    """The name of a model that learned from these lines."""
    job = client.fine_tuning.jobs.create(
        **{"model": BASE, "training_file": uploaded(client, content)} | settings
    )
    job = ended(client.fine_tuning.jobs.retrieve, job.id)
    assert job.status == "succeeded", job.error
    return job.fine_tuned_model


def requests_seen(address):
    return httpx2.get(address.removesuffix("/v1") + "/sandbox/requests").json()


@contextmanager
def connected(folder, checker=None, **settings):
    """A sandbox and a client of it."""
    with sandbox(folder, **settings) as process, client_of(process.address, checker) as client:
        yield process, client
