"""A service on loopback that answers as it is told to: with delays, limits, troubles, and batches.

It reads the last message of a chat, or the prompt, and answers by `Script.answer`.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
REASONS |= {429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Reply:
    """An answer; `status` 0 cuts the connection instead."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def error(status, code="", message="no", headers=None, kind=""):
    told = {"error": {"message": message, "type": kind or code, "code": code or None, "param": None}}
    return Reply(status, told, headers or {})


CUT = Reply(0, None)
LOST = Reply(0, "the answer is made, and never arrives")
LIMIT = error(429, "rate_limit_exceeded", headers={"retry-after": "1"})
QUOTA = error(429, "insufficient_quota")
DAILY = error(429, "daily_rate_limit_exceeded")
OVERLOADED = error(503, "server_is_overloaded")
LOADING = error(429, "", "The model is still being loaded. Try again.")
MISSING = error(404, "model_not_found", "The model `gone` does not exist")
FORBIDDEN = error(403, "no_access")
INVALID = error(400, "invalid_value", "Invalid value for 'messages'")
BROKEN = error(500, "server_error")


def said(content, finish="stop", logprobs=None, **message):
    """A choice of a chat."""
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content} | message,
    }
    return choice if logprobs is None else choice | {"logprobs": {"content": logprobs, "refusal": None}}


def token(text, **chances):
    """A token of an answer with what could have stood there, by probability."""
    listed = [{"token": one, "logprob": math.log(chance), "bytes": None} for one, chance in chances.items()]
    own = next(
        (one for one in listed if one["token"] == text), {"token": text, "logprob": 0.0, "bytes": None}
    )
    return own | {"top_logprobs": listed}


@dataclass
class Script:
    """What the service does.

    Attributes
    ----------
    answer
        From a text to the content of the answer.
    choose
        From the body of a request to the whole choice of the answer, or to all of it where that has none; in
        the place of `answer`.
    refuse
        From the body of a request to what comes in the place of an answer.
    listing
        What comes in the place of every list of kept answers.
    unlisted_looks
        So many looks at that list see nothing.
    knows_filter
        Whether that list has what was asked for, and not everything.
    latency
        Seconds, or what makes them of a text.
    rpm
        Requests in any sixty seconds; more are refused.
    headers
        Whether answers tell of `rpm`.
    troubles
        By text, or ``"*"`` for all: what comes first, one after another, before the answer.
    always
        By text, or model: what comes every time.
    minute
        How long a minute lasts, in seconds.
    expired
        Custom ids of a batch that expire, by round: from the texts' positions in the file.
    """

    answer: Callable[[str], str] = lambda text: text
    latency: float | Callable[[str], float] = 0.0
    rpm: int | None = None
    headers: bool = True
    troubles: dict[str, list[Reply]] = field(default_factory=dict)
    always: dict[str, Reply] = field(default_factory=dict)
    minute: float = 60.0
    logprobs: Any = None
    expire: list[Callable[[int], bool]] = field(default_factory=list)
    fail_batches: list[str] = field(default_factory=list)
    polls: int = 1
    cut_after_create: int = 0
    forget_metadata: bool = False
    choose: Callable[[Any], Any] | None = None
    refuse: Callable[[Any], Reply | None] = lambda _: None
    listing: Reply | None = None
    unlisted_looks: int = 0
    knows_filter: bool = True


class Service:
    """The server, in a thread of its own; `base_url` is where."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.paths: Counter[tuple[str, str]] = Counter()
        self.texts: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.statuses: Counter[int] = Counter()
        self.refused_at: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.stored: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.creations: list[str] = []
        self.started = time.monotonic()
        self._arrivals: deque[float] = deque()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def _run(self):
        asyncio.run(self._serve())

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        for connection in list(self._open):
            connection.transport.abort()
        await asyncio.sleep(0)

    # Answers

    def reply(self, method, path, headers, body):
        if not headers.get("authorization", "").startswith("Bearer "):
            return error(401, "invalid_api_key")
        path, _, query = path.partition("?")
        self.paths[method, path] += 1
        if (method, path) == ("GET", "/v1/chat/completions"):
            return self._listed(parse_qs(query))
        if path in ("/v1/chat/completions", "/v1/completions", "/v1/decisions"):
            return self._completion(json.loads(body))
        return self._filed(method, path, query, headers, body)

    def _completion(self, body):
        messages = body.get("messages") or body.get("input")
        text = messages[-1]["content"] if messages else body["prompt"]
        self.texts[text] += 1
        self.bodies.append(body)
        self.models[body["model"]] += 1
        if refusal := self.script.refuse(body):
            return refusal
        limited, headers = self._limited()
        if limited:
            return limited
        trouble = self._trouble(text) or self._trouble("*")
        if trouble is LOST:
            self._chat_kept(text, body)
        if trouble:
            return trouble
        always = self.script.always.get(text) or self.script.always.get(body["model"])
        if always:
            return always
        latency = self.script.latency
        delay = latency(text) if callable(latency) else latency
        return Reply(200, self._chat_kept(text, body), headers, delay)

    def _chat_kept(self, text, body):
        answer = self._chat(text, body)
        if body.get("store"):
            kept = {**answer, "model": body["model"], "metadata": body["metadata"]}
            self.stored.append({**kept, "id": f"chatcmpl-{len(self.stored)}"})
        return answer

    def _listed(self, query):
        if self.script.listing is not None:
            return self.script.listing
        if self.script.unlisted_looks:
            self.script.unlisted_looks -= 1
            return Reply(200, {"object": "list", "data": [], "has_more": False})
        [model], wanted = query.pop("model"), {}
        for name, values in query.items():
            if name.startswith("metadata["):
                wanted[name[len("metadata[") : -1]] = values[0]
        found = [
            one
            for one in self.stored[::-1]
            if not self.script.knows_filter
            or (one["model"] == model and wanted.items() <= one["metadata"].items())
        ]
        return Reply(200, {"object": "list", "data": found, "has_more": False})

    def _trouble(self, text):
        waiting = self.script.troubles.get(text)
        return waiting.pop(0) if waiting else None

    def _limited(self):
        if self.script.rpm is None:
            return None, {}
        now = time.monotonic()
        while self._arrivals and self._arrivals[0] <= now - self.script.minute:
            self._arrivals.popleft()
        # Failed calls count, too, as they do at services.
        self._arrivals.append(now)
        left = self.script.rpm - len(self._arrivals)
        headers = {"x-ratelimit-limit-requests": str(self.script.rpm)} if self.script.headers else {}
        if self.script.headers:
            headers["x-ratelimit-remaining-requests"] = str(max(left, 0))
        if left >= 0:
            return None, headers
        self._arrivals.pop()
        self.refused_at.append(now - self.started)
        wait = self._arrivals[0] + self.script.minute - now
        return error(429, "rate_limit_exceeded", headers=headers | {"retry-after": f"{wait:.3f}"}), {}

    def _chat(self, text, body=None):
        if self.script.choose is not None:
            choice = self.script.choose(body)
            if "answers" in choice:
                used = {"input_tokens": 20, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 8}}
                return {"model": body["model"], "usage": used, **choice}
        else:
            choice = said(self.script.answer(text))
        if self.script.logprobs is not None:
            choice["logprobs"] = self.script.logprobs
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
        usage["prompt_tokens_details"] = {"cached_tokens": 4}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "choices": [choice],
            "usage": usage,
        }

    # Files and batches

    def _filed(self, method, path, query, headers, body):
        parts = path.split("/")[2:]
        if method == "POST" and parts == ["files"]:
            return self._upload(headers, body)
        if method == "GET" and parts[0] == "files" and parts[-1] == "content":
            return Reply(200, self.files[parts[1]]) if parts[1] in self.files else error(404)
        if method == "POST" and parts == ["batches"]:
            return self._create(json.loads(body))
        if method == "GET" and parts == ["batches"]:
            data = sorted(self.batches.values(), key=lambda one: one["id"], reverse=True)
            after = dict(one.split("=") for one in query.split("&") if one).get("after")
            if after:
                data = data[[one["id"] for one in data].index(after) + 1 :]
            page = [self._shown(one) for one in data[:2]]
            return Reply(200, {"object": "list", "data": page, "has_more": len(data) > 2})
        if method == "GET" and parts[0] == "batches":
            return Reply(200, self._shown(self._went_on(self.batches[parts[1]])))
        return error(404)

    def _upload(self, headers, body):
        trouble = self._trouble("upload")
        if trouble:
            return trouble
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n") for part in body.split(b"--" + boundary)]
        content = next(value for head, _, value in parts if b'name="file"' in head)[:-2]
        name = f"file-{len(self.files)}"
        self.files[name] = content
        told = {"id": name, "object": "file", "bytes": len(content), "created_at": 1, "filename": "x.jsonl"}
        return Reply(200, told | {"purpose": "batch", "status": None})

    def _create(self, body):
        trouble = self._trouble("create")
        if trouble and trouble.status:
            return trouble
        name = f"batch_{len(self.batches):04d}"
        batch = body | {"id": name, "object": "batch", "created_at": 1, "status": "validating", "polls": 0}
        batch |= {"output_file_id": None, "error_file_id": None, "errors": None}
        self.batches[name] = batch
        self.creations.append(body["input_file_id"])
        return CUT if trouble else Reply(200, self._shown(batch))

    def _shown(self, batch):
        hidden = ("polls", "metadata") if self.script.forget_metadata else ("polls",)
        return {name: value for name, value in batch.items() if name not in hidden}

    def _went_on(self, batch):
        batch["polls"] += 1
        if batch["polls"] < self.script.polls or batch["status"] not in ("validating", "in_progress"):
            batch["status"] = "in_progress" if batch["status"] == "validating" else batch["status"]
        elif self.script.fail_batches:
            code = self.script.fail_batches.pop(0)
            batch |= {"status": "failed", "errors": {"data": [{"code": code, "message": "no", "line": None}]}}
        else:
            self._work(batch)
        return batch

    def _work(self, batch):
        expires = self.script.expire.pop(0) if self.script.expire else lambda _: False
        requests = [json.loads(line) for line in self.files[batch["input_file_id"]].decode().splitlines()]
        done, failed, is_expired = [], [], False
        for place, request in enumerate(requests):
            assert request["method"] == "POST"
            assert request["url"] == batch["endpoint"]
            text = request["body"]["messages"][-1]["content"]
            self.bodies.append(request["body"])
            line = {"id": f"r{place}", "custom_id": request["custom_id"]}
            self.texts[text] += not expires(place)
            if expires(place):
                is_expired = True
                failed.append(
                    line | {"response": None, "error": {"code": "batch_expired", "message": "late"}}
                )
            elif (reply := self.script.always.get(text) or self._trouble(text)) is not None:
                failed.append(
                    line | {"response": {"status_code": reply.status, "body": reply.body}, "error": None}
                )
            else:
                done.append(
                    line
                    | {
                        "response": {"status_code": 200, "body": self._chat(text, request["body"])},
                        "error": None,
                    }
                )
        random.Random(len(done)).shuffle(done)
        batch["output_file_id"] = self._keep(done)
        batch["error_file_id"] = self._keep(failed)
        batch["status"] = "expired" if is_expired else "completed"

    def _keep(self, lines):
        if not lines:
            return None
        name = f"file-{len(self.files)}"
        self.files[name] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return name


class _Connection(asyncio.Protocol):
    """As much of HTTP/1.1 as a client of one request at a time needs."""

    def __init__(self, service):
        self.service, self._data = service, b""

    def connection_made(self, transport):
        self.transport = transport
        self.service._open.add(self)

    def connection_lost(self, exc):
        self.service._open.discard(self)

    def data_received(self, data):
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._data = rest[length:]
        method, path, _ = first.split(" ")
        self._answer(method, path, headers, rest[:length])

    def _answer(self, method, path, headers, body):
        service = self.service
        service.in_flight += 1
        service.most_in_flight = max(service.most_in_flight, service.in_flight)
        reply = service.reply(method, path, headers, body)
        if reply.delay:
            asyncio.get_running_loop().call_later(reply.delay, self._send, reply)
        else:
            self._send(reply)

    def _send(self, reply):
        self.service.in_flight -= 1
        self.service.statuses[reply.status] += 1
        if reply.status == 0:
            self.transport.abort()
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))} | reply.headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Unknown')}\r\n{lines}\r\n"
        self.transport.write(head.encode() + body)
