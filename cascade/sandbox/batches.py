"""``/v1/batches``: many requests in a file, answered in a thread."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.completions import answer_many
from cascade.sandbox.files import find_file, keep_file
from cascade.sandbox.models import Models
from cascade.sandbox.reader.reading import Reader
from cascade.sandbox.responses import (
    ApiError,
    json_body,
    json_response,
    list_page,
    metadata_of,
    not_found,
    required_text,
)
from cascade.sandbox.storage import Record, Storage, new_id, public
from cascade.sandbox.training import Format
from cascade.sandbox.worker import Worker

ENDPOINTS: Mapping[str, Format] = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
MOST_REQUESTS = 50_000
ENDED = ("failed", "completed", "expired", "cancelled")
_DAY = 24 * 3600
_AT_ONCE = 400
_EXPIRED = "This request could not be executed before the completion window expired."
_CANCELLED = "This request was not executed because the batch was cancelled."


class _InvalidInput(Exception):  # noqa: N818 - becomes part of the batch
    """A line of the input file is no request."""

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.code, self.line = code, line


class BatchWorker(Worker):
    """Works batches off."""

    kind, ended = "batch", ENDED

    def __init__(self, storage: Storage, models: Models, chaos: Chaos | None = None, pace: float = 0) -> None:
        super().__init__(storage, chaos, pace)
        self.models, self.reader = models, Reader(chaos)

    def carry_out(self, batch: str) -> None:
        """Work one batch off."""
        try:
            self._run(batch)
        except _InvalidInput as fault:
            error = {"code": fault.code, "message": str(fault)}
            error_at = error | ({"line": fault.line} if fault.line else {})
            self._enter(batch, "failed", errors={"object": "list", "data": [error_at]})
        except Exception as error:  # a batch must not take the others with it
            errors = {"object": "list", "data": [{"code": "server_error", "message": type(error).__name__}]}
            self._enter(batch, "failed", errors=errors)

    def _run(self, batch: str) -> None:
        record = self.storage.get("batch", batch) or {}
        self._stopped.wait(self.pace)
        requests = _requests(self._content(record), record["endpoint"])
        counts = {"total": len(requests), "completed": 0, "failed": 0}
        record = self._enter(batch, "in_progress", request_counts=counts)
        expires = self.chaos is not None and self.chaos.strikes("expired")
        most = (len(requests) + 1) // 2 if expires else len(requests)
        answered = self._answered(batch, requests[:most], ENDPOINTS[record["endpoint"]])
        if self._stopped.is_set():
            return
        self._finish(batch, requests, answered, expires)

    def _content(self, record: Record) -> bytes:
        try:
            return self.storage.read(record["input_file_id"])
        except FileNotFoundError:
            raise _InvalidInput("file_not_found", "The input file was deleted.") from None

    def _answered(self, batch: str, requests: Sequence[Record], format_: Format) -> list[Any]:
        """Answers of the first requests, all of them unless the batch is cancelled meanwhile."""
        found: list[Any] = []
        self._stopped.wait(self.pace)
        for start in range(0, len(requests), _AT_ONCE):
            record = self.storage.get("batch", batch)
            if self._stopped.is_set() or record is None or record["status"] == "cancelling":
                break
            bodies = [one["body"] for one in requests[start : start + _AT_ONCE]]
            found.extend(answer_many(bodies, format_, self.models, self.reader))
        return found

    def _finish(self, batch: str, requests: Sequence[Record], answered: Sequence[Any], expires: bool) -> None:
        """Write the result files, then have the batch end."""
        cancelled = (self.storage.get("batch", batch) or {})["status"] == "cancelling"
        if not cancelled:
            self._enter(batch, "finalizing")
        good = [_line(one, found) for one, found in zip(requests, answered, strict=False) if _is_good(found)]
        bad = [
            _line(one, found) for one, found in zip(requests, answered, strict=False) if not _is_good(found)
        ]
        code, why = ("batch_cancelled", _CANCELLED) if cancelled else ("batch_expired", _EXPIRED)
        bad += [_unanswered(one, code, why) for one in requests[len(answered) :]]
        files = {"output_file_id": self._keep(batch, "output", good)}
        files["error_file_id"] = self._keep(batch, "error", bad)
        counts = {"total": len(requests), "completed": len(good), "failed": len(bad)}
        status = "cancelled" if cancelled else "expired" if expires else "completed"
        named = {name: file for name, file in files.items() if file}
        self._enter(batch, status, request_counts=counts, usage=_usage(good), **named)

    def _keep(self, batch: str, kind: str, lines: Sequence[Record]) -> str:
        """A result file, or an empty string where it would have no lines."""
        if not lines:
            return ""
        ordered = list(lines) if self.chaos is None else self.chaos.shuffled(lines)
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in ordered)
        record = keep_file(
            self.storage,
            f"{batch}_{kind}.jsonl",
            "batch_output",
            io.BytesIO(content.encode("utf-8", "replace")),
        )
        return str(record["id"])

    def _enter(self, batch: str, status: str, **more: Any) -> Record:
        def change(record: Record) -> None:
            if record["status"] == "cancelling" and status not in ENDED:
                return
            record.update({"status": status, f"{status}_at": int(time.time()), **more})

        return self.storage.change("batch", batch, change)


def _is_good(found: Any) -> bool:
    return not isinstance(found, ApiError)


def _line(request: Record, found: Any) -> Record:
    refused = isinstance(found, ApiError)
    response = {
        "status_code": found.status if refused else 200,
        "request_id": new_id("req_"),
        "body": found.body if refused else found,
    }
    return {
        "id": new_id("batch_req_"),
        "custom_id": request["custom_id"],
        "response": response,
        "error": None,
    }


def _unanswered(request: Record, code: str, why: str) -> Record:
    error = {"code": code, "message": why}
    return {"id": new_id("batch_req_"), "custom_id": request["custom_id"], "response": None, "error": error}


def _usage(lines: Sequence[Record]) -> Record:
    usages = [line["response"]["body"]["usage"] for line in lines]
    asked, told = (sum(one[name] for one in usages) for name in ("prompt_tokens", "completion_tokens"))
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": told,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + told,
    }


def _requests(content: bytes, endpoint: str) -> list[Record]:
    """The requests of an input file; `_InvalidInput` where a line is none."""
    lines = [line for line in content.decode("utf-8-sig", "replace").split("\n") if line.strip()]
    if not lines:
        raise _InvalidInput("empty_file", "The input file is empty.")
    if len(lines) > MOST_REQUESTS:
        raise _InvalidInput(
            "too_many_tasks", f"The input file has {len(lines)} requests, at most {MOST_REQUESTS} are."
        )
    requests = [_request(line, number, endpoint) for number, line in enumerate(lines, 1)]
    seen: set[str] = set()
    for number, one in enumerate(requests, 1):
        if one["custom_id"] in seen:
            raise _InvalidInput("duplicate_custom_id", "The custom_id of this line was seen before.", number)
        seen.add(one["custom_id"])
        if one["body"].get("model") != requests[0]["body"].get("model"):
            raise _InvalidInput(
                "mismatched_model", "All requests of a batch must have the same model.", number
            )
    return requests


def _request(line: str, number: int, endpoint: str) -> Record:
    try:
        value = json.loads(line)
    except ValueError:
        raise _InvalidInput(
            "invalid_json_line", "This line is not parseable as valid JSON.", number
        ) from None
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        raise _InvalidInput("missing_required_parameter", "Missing required parameter: custom_id.", number)
    if not isinstance(value.get("body"), dict) or value.get("method") != "POST":
        raise _InvalidInput("invalid_request", "Expected method POST and a body.", number)
    if value.get("url") != endpoint:
        raise _InvalidInput("mismatched_url", f"The URL of this line is not {endpoint}.", number)
    return value


@dataclass(frozen=True)
class Batches:
    """The endpoints."""

    storage: Storage
    worker: BatchWorker

    async def create(self, request: Request) -> Response:
        body = await json_body(request)
        endpoint, window = required_text(body, "endpoint"), required_text(body, "completion_window")
        if endpoint not in ENDPOINTS:
            raise ApiError(
                400, f"Invalid endpoint: expected one of {list(ENDPOINTS)}.", "invalid_value", "endpoint"
            )
        if window != "24h":
            raise ApiError(
                400, "Invalid 'completion_window': only 24h.", "invalid_value", "completion_window"
            )
        file = find_file(self.storage, required_text(body, "input_file_id"), "input_file_id")
        if file["purpose"] != "batch":
            raise ApiError(
                400, "Invalid file purpose: expected 'batch'.", "invalid_file_purpose", "input_file_id"
            )
        record = self.storage.put("batch", _ordered(body, file["id"]))
        self.worker.add(record["id"])
        return json_response(public(record))

    async def list(self, request: Request) -> Response:
        return json_response(list_page(self.storage.all("batch")[::-1], request.query_params))

    def _find(self, request: Request) -> Record:
        record = self.storage.get("batch", request.path_params["name"])
        if record is None:
            raise not_found("Batch object", request.path_params["name"], "batch_id")
        return record

    async def get(self, request: Request) -> Response:
        return json_response(public(self._find(request)))

    async def cancel(self, request: Request) -> Response:
        return json_response(public(self.storage.change("batch", self._find(request)["id"], _cancel())))


def _cancel() -> Callable[[Record], None]:
    def change(record: Record) -> None:
        if record["status"] in ENDED:
            raise ApiError(409, f"Cannot cancel a batch with status '{record['status']}'.")
        record.update(status="cancelling", cancelling_at=int(time.time()))

    return change


def _ordered(body: Record, file: str) -> Record:
    now = int(time.time())
    return {
        "id": new_id("batch_"),
        "object": "batch",
        "endpoint": body["endpoint"],
        "input_file_id": file,
        "completion_window": "24h",
        "status": "validating",
        "created_at": now,
        "expires_at": now + _DAY,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": metadata_of(body),
    }
