"""``/v1/files``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import IO, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.responses import ApiError, json_response, list_page, not_found
from cascade.sandbox.storage import Record, Storage, new_id, public

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
# So long a new file is "uploaded" before it is "processed".
_SOON = 0.1


def keep_file(storage: Storage, name: str, purpose: str, content: IO[bytes], **more: Any) -> Record:
    """A new file."""
    file = new_id("file-")
    record = {
        "id": file,
        "object": "file",
        "bytes": storage.write(file, content),
        "created_at": int(time.time()),
        "filename": name,
        "purpose": purpose,
        "_ready": time.time() + (_SOON if purpose in PURPOSES else 0),
        **more,
    }
    return storage.put("file", record)


def find_file(storage: Storage, name: str, param: str | None = None) -> Record:
    """A file by its id; an ApiError where there is none, or where it cannot be seen yet."""
    record = storage.get("file", name)
    if record is None or record.get("_hidden", 0) > time.time():
        raise not_found("File object", name, param or "id")
    return record


def _shown(record: Record) -> Record:
    ready = record["_ready"] <= time.time()
    status = None if record.get("_silent") else "processed" if ready else "uploaded"
    return public(record) | {"status": status}


@dataclass(frozen=True)
class Files:
    """The endpoints."""

    storage: Storage
    chaos: Chaos | None

    async def create(self, request: Request) -> Response:
        async with request.form() as form:
            upload, purpose = form.get("file"), form.get("purpose")
            if not isinstance(upload, UploadFile):
                raise ApiError(
                    400, "Missing required parameter: 'file'.", "missing_required_parameter", "file"
                )
            if purpose not in PURPOSES:
                raise ApiError(400, f"'{purpose}' is not one of {PURPOSES}.", "invalid_value", "purpose")
            more = self._luck() | _expiry(form.get("expires_after[seconds]"))
            name = upload.filename or "file"
            # A large one lies on the disk already.
            record = await run_in_threadpool(keep_file, self.storage, name, str(purpose), upload.file, **more)
        return json_response(_shown(record))

    def _luck(self) -> dict[str, Any]:
        if self.chaos is None:
            return {}
        hidden = {"_hidden": time.time() + self.chaos.pause} if self.chaos.strikes("hidden") else {}
        return hidden | ({"_silent": True} if self.chaos.strikes("silent") else {})

    async def list(self, request: Request) -> Response:
        records = [_shown(record) for record in self.storage.all("file")]
        if request.query_params.get("order", "desc") == "desc":
            records.reverse()
        purpose = request.query_params.get("purpose")
        fitting = [record for record in records if purpose in (None, record["purpose"])]
        return json_response(list_page(fitting, request.query_params, 10_000))

    async def get(self, request: Request) -> Response:
        return json_response(_shown(find_file(self.storage, request.path_params["name"])))

    async def content(self, request: Request) -> Response:
        record = find_file(self.storage, request.path_params["name"])
        return FileResponse(self.storage.path(record["id"]), media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        record = find_file(self.storage, request.path_params["name"])
        self.storage.drop("file", record["id"])
        self.storage.erase(record["id"])
        return json_response({"id": record["id"], "object": "file", "deleted": True})


def _expiry(seconds: Any) -> dict[str, int]:
    if not isinstance(seconds, str) or not seconds.isdigit():
        return {}
    return {"expires_at": int(time.time()) + int(seconds)}
