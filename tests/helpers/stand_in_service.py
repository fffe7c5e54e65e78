"""A scripted service on loopback: it keeps files and jobs, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from openai import AsyncOpenAI

from cascade.hosted.job_service import Polling
from cascade.hosted.jobs import fine_tune
from cascade.hosted.ledger import Ledger
from cascade.hosted.orders import Order
from cascade.hosted.settings import Settings

QUICK = Polling(0.002)
ENDLESS = 200, b"", {}
GARBAGE = 200, b"<html>busy</html>", {}
CURVE = "step,train_loss,valid_loss\n1,2.5,\n2,1.25,1.5\n"


class RefusedError(Exception):
    def __init__(self, status, code, message, headers=()):
        super().__init__(message)
        self.status, self.headers = status, dict(headers)
        self.body = {
            "error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}
        }


@dataclass
class Fault:
    """What happens to the next `times` requests of a kind.

    `how` is "drop" (work, then hang up), "endless" (work, then answer for ever),
    "hang up" (no work), "garbage" (work, then no JSON), "then" (work,
    then refuse as `then` says), or a RefusedError.
    """

    method: str
    path: str
    how: object
    times: int = 1
    then: RefusedError | None = None


class StandIn:
    """The state of the service; attributes are knobs that a test may turn at any time."""

    def __init__(self):
        self.lock = threading.RLock()
        self.files, self.jobs, self.faults, self.requests = {}, {}, [], []
        self.bodies = []
        self.file_status = "processed"
        self.file_lags, self.job_lags = 0, 0  # lookups or listings for which what is new does not show
        self.statuses = ["validating_files", "queued", "running"]
        self.fails, self.events = {}, {}  # by group
        self.most_running = None
        self.base64_results = False
        self.ignores_filter = self.drops_metadata = self.rejects_metadata = False
        self.knows_after, self.page = True, 100
        self.estimated_finish = None
        self.finishes = True
        self.watch = lambda number, phase: None

    def fault(self, method, path, how, times=1, then=None):
        self.faults.append(Fault(method, path, how, times, then))

    def count(self, method, path):
        return sum(one == (method, path) for one in self.requests)

    def created(self):
        """How many jobs there are for each key."""
        return Counter(job["metadata"]["cascade_key"] for job in self.jobs.values())

    # What it answers

    def answer(self, method, path, query, body):
        """Status and body of an answer; RefusedError instead of a bad one."""
        parts = path.removeprefix("/v1/").split("/")
        if parts[0] == "files":
            return self._files(method, parts[1:], body)
        if parts[:2] == ["fine_tuning", "jobs"]:
            return self._jobs(method, parts[2:], query, body)
        raise RefusedError(404, "unknown_url", f"no such path: {path}")

    def _files(self, method, parts, body):
        if not parts:
            if method == "POST":
                return self._new_file(*body)
            return {
                "object": "list",
                "data": [shown(file) for file in self.files.values()],
                "has_more": False,
            }
        file = self.files.get(parts[0])
        if file is None:
            raise RefusedError(404, "not_found", f"No such File object: {parts[0]}")
        if file["lag"] > 0:
            file["lag"] -= 1
            raise RefusedError(404, "not_found", f"No such File object: {parts[0]}")
        if method == "DELETE":
            del self.files[parts[0]]
            return {"id": parts[0], "object": "file", "deleted": True}
        return file["content"] if parts[1:] == ["content"] else shown(file)

    def _new_file(self, name, content, purpose):
        number = len(self.files) + 1 + sum(one[0] == "DELETE" for one in self.requests)
        file = {
            "id": f"file-{number}",
            "object": "file",
            "bytes": len(content),
            "created_at": int(time.time()),
        }
        file |= {"filename": name, "purpose": purpose, "status": self.file_status, "content": content}
        self.files[file["id"]] = file | {"lag": self.file_lags}
        return shown(file)

    def _jobs(self, method, parts, query, body):
        if not parts:
            return self._new_job(body) if method == "POST" else self._listed(query)
        job = self.jobs.get(parts[0])
        if job is None:
            raise RefusedError(404, "not_found", f"no such job: {parts[0]}")
        if parts[1:] == ["cancel"]:
            if job["status"] in ("succeeded", "failed", "cancelled"):
                raise RefusedError(400, "invalid", "this job has ended")
            job["status"] = "cancelled"
        elif parts[1:] == ["events"]:
            events = [
                {"id": f"event-{i}", "object": "fine_tuning.job.event", "created_at": 1, "level": "info"}
                | event
                for i, event in enumerate(self.events.get(group_of(job), []))
            ]
            return {"object": "list", "data": events, "has_more": False}
        else:
            self._advance(job)
        return shown(job)

    def _new_job(self, body):
        self.bodies.append(body)
        if self.rejects_metadata and "metadata" in body:
            raise RefusedError(400, "unknown_parameter", "Unknown parameter: 'metadata'.")
        for name in ("training_file", "validation_file"):
            if name in body and (body[name] not in self.files or self.files[body[name]]["lag"] > 0):
                raise RefusedError(400, "invalid_request_error", f"{name}: file was not found")
        running = sum(job["status"] not in ("succeeded", "failed", "cancelled") for job in self.jobs.values())
        if self.most_running is not None and running >= self.most_running:
            raise RefusedError(429, "rate_limit_exceeded", "only so many simultaneous runs")
        job = {
            "id": f"ftjob-{len(self.jobs) + 1}",
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
        }
        job |= {
            "error": None,
            "fine_tuned_model": None,
            "organization_id": "org",
            "result_files": [],
            "seed": 1,
        }
        job |= {"hyperparameters": {}, "trained_tokens": None, "estimated_finish": self.estimated_finish}
        job |= {name: body.get(name) for name in ("model", "training_file", "validation_file", "suffix")}
        job |= {
            "status": "validating_files",
            "metadata": None if self.drops_metadata else body.get("metadata"),
        }
        self.jobs[job["id"]] = job | {"lag": self.job_lags, "looks": 0, "body": body}
        return shown(job)

    def _advance(self, job):
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return
        job["looks"] += 1
        if job["looks"] <= len(self.statuses):
            job["status"] = self.statuses[job["looks"] - 1]
        elif self.finishes and group_of(job) in self.fails:
            job |= {"status": "failed", "error": self.fails[group_of(job)]}
        elif self.finishes:
            content = base64.b64encode(CURVE.encode()) if self.base64_results else CURVE.encode()
            result = self._new_file("results.csv", content, "fine-tune-results")["id"]
            self.files[result]["lag"] = 0
            job |= {
                "status": "succeeded",
                "fine_tuned_model": f"ft:{job['model']}:{job['suffix']}:{job['id']}",
            }
            job |= {"trained_tokens": 1234, "result_files": [result]}

    def _listed(self, query):
        wanted = {k[len("metadata[") : -1]: v[0] for k, v in query.items() if k.startswith("metadata[")}
        rows = []
        for job in reversed(self.jobs.values()):
            if job["lag"] > 0:
                job["lag"] -= 1
                continue
            metadata = job["metadata"] or {}
            if self.ignores_filter or all(metadata.get(name) == value for name, value in wanted.items()):
                rows.append(shown(job))
        ids = [row["id"] for row in rows]
        start = (
            ids.index(query["after"][0]) + 1 if self.knows_after and query.get("after", [""])[0] in ids else 0
        )
        return {
            "object": "list",
            "data": rows[start : start + self.page],
            "has_more": len(rows) > start + self.page,
        }

    # What it does to a request

    def serve(self, handler, method):
        url = urlsplit(handler.path)
        raw = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        body = read_body(handler.headers.get("content-type") or "", raw)
        with self.lock:
            self.requests.append((method, url.path))
            number = len(self.requests)
            fault = self._fault(method, url.path)
            self.watch(number, "arrived")
            answer = self._answered(fault, method, url, body)
            self.watch(number, "worked")
        if answer is None:
            hang_up(handler)
        elif answer is ENDLESS:
            pour(handler)
        else:
            respond(handler, *answer)
        self.watch(number, "answered")

    def _answered(self, fault, method, url, body):
        """Status, content and headers; None for a connection that is cut."""
        how = fault.how if fault else ""
        if how == "hang up":
            return None
        try:
            if isinstance(how, RefusedError):
                raise how
            answer = 200, self.answer(method, url.path, parse_qs(url.query), body), {}
            if how == "then":
                raise fault.then
        except RefusedError as refused:
            answer = refused.status, refused.body, refused.headers
        return (
            {"drop": None, "garbage": GARBAGE, "endless": ENDLESS}.get(how, answer)
            if isinstance(how, str)
            else answer
        )

    def _fault(self, method, path):
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and path.removeprefix("/v1/") == fault.path:
                fault.times -= 1
                return fault
        return None


def shown(row):
    return {name: value for name, value in row.items() if name not in ("lag", "looks", "body", "content")}


def group_of(job):
    return (job["body"].get("metadata") or {}).get("cascade_group")


def read_body(kind, raw):
    """JSON, or name, content and purpose of a file in a form."""
    if not kind.startswith("multipart/form-data"):
        return json.loads(raw) if raw else None
    boundary = b"--" + kind.split("boundary=")[1].encode()
    name, content, purpose = "", b"", ""
    for part in raw.split(boundary)[1:-1]:
        head, _, value = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        value = value.removesuffix(b"\r\n")
        if b'name="file"' in head:
            content, name = value, head.split(b'filename="')[1].split(b'"')[0].decode()
        elif b'name="purpose"' in head:
            purpose = value.decode()
    return name, content, purpose


def hang_up(handler):
    handler.close_connection = True
    with suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


def pour(handler):
    handler.close_connection = True
    with suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            handler.wfile.write(b'"x": "' + b"a" * 65_530)


def respond(handler, status, answer, headers):
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with suppress(OSError):
        handler.send_response(status)
        handler.send_header("content-type", "text/plain" if isinstance(answer, bytes) else "application/json")
        handler.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)
        handler.wfile.flush()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        """Clients that are killed hang up in the middle."""


@contextmanager
def stand_in():
    """A running service; `.url` is where."""
    service = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two would wait for each other

        def do_GET(self):
            service.serve(self, "GET")

        def do_POST(self):
            service.serve(self, "POST")

        def do_DELETE(self):
            service.serve(self, "DELETE")

        def log_message(self, *_):
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client_of(settings):
    return AsyncOpenAI(api_key="no-key", base_url=settings.address, max_retries=2, timeout=20)


def order_of(url, group, key=None, provider="openai", **changes):
    """An order with examples of its own."""
    settings = Settings(provider=provider, base_url=url, hyperparameters={"n_epochs": 2})
    values = {"training": f'{{"of": "{group}"}}\n'.encode(), "validation": b"", "suffix": f"shop.{group}"}
    values |= {"seed": 7, "cost_usd": 0.5, "settings": settings} | changes
    return Order(group=group, key=key or f"key-of-{group}", **values)


def tune(orders, ledger_path, **options):
    """Outcomes and steps of a run in this process."""
    steps = []
    options = {"polling": QUICK, "clients": client_of, "report": steps.append} | options
    with Ledger(Path(ledger_path)) as ledger:
        outcomes = asyncio.run(fine_tune(orders, ledger, **options))
    return outcomes, steps


def tune_apart(url, groups, ledger_path):
    """The work of a process that somebody kills."""
    tune([order_of(url, group) for group in groups], ledger_path)
