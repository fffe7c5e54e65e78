"""``/v1/fine_tuning/jobs``."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.files import find_file
from cascade.sandbox.responses import (
    ApiError,
    json_body,
    json_response,
    list_page,
    metadata_of,
    not_found,
    optional_number,
    required_text,
)
from cascade.sandbox.storage import Record, Storage, new_id, public
from cascade.sandbox.trainer import ENDED, Trainer

# Models that cannot be tuned, as one of the real service.
CLOSED = ("gpt-6-luna", "reader")
_MODEL = re.compile(r"[\w.:/@-]{1,200}")


@dataclass(frozen=True)
class Jobs:
    """The endpoints."""

    storage: Storage
    chaos: Chaos | None
    trainer: Trainer
    training: bool = True

    async def create(self, request: Request) -> Response:
        if not self.training:
            message = "Your organization cannot create new fine-tuning jobs."
            raise ApiError(403, message, "training_not_available")
        record = self._ordered(await json_body(request))
        self.storage.put("job", record)
        self.trainer.tell(record["id"], f"Created fine-tuning job: {record['id']}")
        self.trainer.add(record["id"])
        return json_response(public(record))

    def _ordered(self, body: Record) -> Record:
        training, validation = required_text(body, "training_file"), body.get("validation_file")
        hyperparameters = _hyperparameters(body)
        return {
            "id": new_id("ftjob-"),
            "object": "fine_tuning.job",
            "created_at": int(time.time()),
            "model": self._base(required_text(body, "model")),
            "training_file": self._file(training, "training_file"),
            "validation_file": self._file(validation, "validation_file") if validation else None,
            "hyperparameters": hyperparameters,
            "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
            "seed": optional_number(body, "seed", 0, 2147483647) or 0,
            "metadata": metadata_of(body),
            "status": "validating_files",
            **dict.fromkeys(
                ("error", "fine_tuned_model", "finished_at", "estimated_finish", "trained_tokens")
            ),
            "organization_id": "org-sandbox",
            "result_files": [],
            "integrations": [],
            "user_provided_suffix": _suffix(body),
            "_suffix": _suffix(body),
            "_fate": self._fate(),
        }

    def _base(self, name: str) -> str:
        tuned = name.startswith("ft:") and self.storage.get("model", name) is None
        if name in CLOSED or tuned or not _MODEL.fullmatch(name):
            message = f"Model {name} is not available for fine-tuning or does not exist."
            raise ApiError(400, message, "model_not_available", "model")
        return name

    def _file(self, name: Any, param: str) -> str:
        record = find_file(self.storage, str(name), param)
        if record["purpose"] != "fine-tune":
            message = f"Invalid file purpose: expected 'fine-tune', found '{record['purpose']}'."
            raise ApiError(400, message, "invalid_file_purpose", param)
        return str(record["id"])

    def _fate(self) -> str:
        if self.chaos is None:
            return ""
        return next((one for one in ("failed", "moderated") if self.chaos.strikes(one)), "")

    async def list(self, request: Request) -> Response:
        wanted = _asked_metadata(request.query_params)
        jobs = [job for job in reversed(self.storage.all("job")) if _fits(job["metadata"], wanted)]
        return json_response(list_page(jobs, request.query_params))

    def _find(self, request: Request) -> Record:
        record = self.storage.get("job", request.path_params["name"])
        if record is None:
            raise not_found(
                "fine-tuning job", request.path_params["name"], "fine_tune_id", "fine_tune_not_found"
            )
        return record

    async def get(self, request: Request) -> Response:
        return json_response(public(self._find(request)))

    async def cancel(self, request: Request) -> Response:
        def cancelled(record: Record) -> None:
            if record["status"] in ENDED:
                raise ApiError(400, f"Job has already ended: {record['status']}.", "job_ended")
            record.update(status="cancelled", finished_at=int(time.time()))

        record = self.storage.change("job", self._find(request)["id"], cancelled)
        self.trainer.tell(record["id"], "Fine-tuning job cancelled")
        return json_response(public(record))

    async def events(self, request: Request) -> Response:
        events = self.storage.all("event", self._find(request)["id"])
        return json_response(list_page(events[::-1], request.query_params))


def _asked_metadata(query: Mapping[str, str]) -> dict[str, str] | None:
    """What ``metadata[name]=value`` asks for; None for ``metadata=null``: jobs without any."""
    if query.get("metadata") == "null":
        return None
    return {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[")}


def _fits(metadata: Mapping[str, str] | None, wanted: Mapping[str, str] | None) -> bool:
    if wanted is None:
        return not metadata
    return wanted.items() <= (metadata or {}).items()


def _suffix(body: Mapping[str, Any]) -> str | None:
    suffix = body.get("suffix")
    if suffix is not None and (not isinstance(suffix, str) or not 1 <= len(suffix) <= 64):
        raise ApiError(400, "Invalid 'suffix': expected 1 to 64 characters.", "invalid_value", "suffix")
    return suffix


def _hyperparameters(body: Mapping[str, Any]) -> Record:
    """Those of the method, or the old ones at the top."""
    method = body.get("method") or {}
    if method and method.get("type") != "supervised":
        raise ApiError(400, "Only the method 'supervised' is known here.", "invalid_value", "method.type")
    given = (method.get("supervised") or {}).get("hyperparameters") or body.get("hyperparameters") or {}
    found: Record = {}
    for name, most in (("n_epochs", 50), ("batch_size", 256)):
        found[name] = "auto" if given.get(name, "auto") == "auto" else optional_number(given, name, 1, most)
    rate = given.get("learning_rate_multiplier", "auto")
    if rate != "auto" and not (isinstance(rate, int | float) and rate > 0):
        raise ApiError(
            400, "Invalid 'learning_rate_multiplier'.", "invalid_value", "learning_rate_multiplier"
        )
    return found | {"learning_rate_multiplier": rate}
