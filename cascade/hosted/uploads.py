"""Files of examples at a service, sent once each."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from typing import Any, Literal

from cascade.hosted.job_errors import advice_of
from cascade.hosted.job_search import LOOKS
from cascade.hosted.job_service import TRIES, JobService
from cascade.hosted.order_context import OrderContext
from cascade.hosted.orders import JobEnded, status_of
from cascade.hosted.service_errors import DOUBTFUL, TRANSIENT, ServiceError, without_secrets

_PURPOSE: Literal["fine-tune"] = "fine-tune"
_BOM = b"\xef\xbb\xbf"
_LOOKS_AT_FILE = 24  # ten minutes, after which the job may say what is wrong
_UNUSABLE = frozenset({"error", "failed", "deleted"})
_READY = frozenset({"", "processed", "succeeded", "completed"})


class Uploads:
    """The files of one order, sent once each."""

    def __init__(self, context: OrderContext) -> None:
        self._context, self._order, self._ledger = context, context.order, context.ledger
        self._sent: list[str] = []

    @property
    def _service(self) -> JobService:
        return self._context.service

    async def files(self) -> tuple[str, str | None]:
        """Names of the training file and the validation file, None for none of it."""
        training = await self._file(self._order.training)
        validation = await self._file(self._order.validation) if self._order.validation else None
        return training, validation

    async def removed(self) -> None:
        """Delete at the service what was sent for this order alone."""
        address = self._order.settings.address
        for file in self._sent:
            if not self._ledger.users_of(address, file):
                with contextlib.suppress(ServiceError):
                    await self._context.insist(partial(self._deleted, file), tries=3)
                self._ledger.forget_file(address, file)

    async def _deleted(self, file: str) -> Any:
        return await self._service.ask(self._service.client.files.delete(file))

    async def _file(self, content: bytes) -> str:
        content = (_BOM if self._order.settings.traits.bom else b"") + content
        digest = hashlib.sha256(content).hexdigest()
        async with self._service.alone(digest), self._service.uploading:
            file = await self._there(digest) or await self._uploaded(digest, content)
            if file not in self._sent:
                self._sent.append(file)
            await self._processed(file)
        return file

    async def _there(self, digest: str) -> str | None:
        """The file that the ledger knows, if the service has it still."""
        record = self._ledger.file(self._order.settings.address, _PURPOSE, digest)
        if record is None:
            return None
        if record.file is None:
            return await self._found(digest, looks=2)
        try:
            found = await self._context.insist(lambda: self._retrieved(str(record.file)))
        except ServiceError as error:
            if error.trouble != "missing":
                raise
            found = None
        if found is None or status_of(found) in _UNUSABLE:
            self._ledger.forget_file(self._order.settings.address, record.file)
            return None
        return record.file

    async def _retrieved(self, file: str) -> Any:
        return await self._service.identified(self._service.client.files.retrieve(file))

    async def _uploaded(self, digest: str, content: bytes) -> str:
        refusals = troubles = 0
        while True:
            self._context.stop_if_refused()
            self._ledger.note_file(self._order.settings.address, _PURPOSE, digest, None)
            self._context.tell("uploading", f"{len(content):,} bytes")
            try:
                return self._noted(digest, await self._sent_file(digest, content))
            except ServiceError as error:
                last = error
            if last.trouble not in TRANSIENT | {"daily"}:
                await self._context.stop_if_hopeless(last)
                raise JobEnded(f"a file could not be sent: {last}", advice_of(last))
            refusals += last.trouble in DOUBTFUL and last.status is not None
            if refusals == TRIES:
                raise JobEnded(f"a file could not be sent in {TRIES} tries: {last}", "Run again later")
            await self._context.wait_for_service(last, troubles)
            troubles += 1
            found = await self._found(digest, looks=2) if last.trouble in DOUBTFUL else None
            if found is not None:
                return found

    async def _sent_file(self, digest: str, content: bytes) -> str:
        part = (_file_name(digest), content, "application/jsonl")
        call = self._service.client.files.create(file=part, purpose=_PURPOSE)
        return str((await self._service.identified(call, is_upload=True)).id)

    def _noted(self, digest: str, file: str) -> str:
        self._ledger.note_file(self._order.settings.address, _PURPOSE, digest, file)
        self._context.tell("uploaded", file)
        return file

    async def _found(self, digest: str, looks: int) -> str | None:
        """A file that may have arrived, by its name; to send one twice costs nothing but time."""
        for look in range(looks):
            if look:
                await self._context.polling.sleep(self._context.polling.pause(look))
            with contextlib.suppress(ServiceError):
                files = await self._context.insist(
                    lambda: self._service.listed(self._service.client.files.list, purpose=_PURPOSE), tries=3
                )
                same = [one for one in files if getattr(one, "filename", None) == _file_name(digest)]
                sound = [one for one in same if status_of(one) not in _UNUSABLE]
                if sound:
                    return self._noted(digest, str(sound[0].id))
        return None

    async def _processed(self, file: str) -> None:
        """Wait until the service has read a file; one that says nothing of it is not waited for."""
        for look in range(_LOOKS_AT_FILE):
            try:
                found = await self._context.insist(lambda: self._retrieved(file))
            except ServiceError as error:
                if self._is_silent and error.trouble in ("missing", "invalid"):
                    return
                if error.trouble != "missing" or look >= LOOKS:
                    raise
                self._context.stop_if_refused()  # others may have deleted it because of that
                found = None
            if found is not None and self._is_ready(found, file):
                return
            await self._context.polling.sleep(self._context.polling.pause(look))

    def _is_ready(self, found: Any, file: str) -> bool:
        status = status_of(found)
        if status in _UNUSABLE:
            self._ledger.forget_file(self._order.settings.address, file)
            details = without_secrets(str(getattr(found, "status_details", None) or "no reason given"))
            advice = "Look at the lines that `cascade export` writes for this group"
            raise JobEnded(f"{file}: the service cannot use the file: {details}", advice)
        return status in _READY or self._is_silent

    @property
    def _is_silent(self) -> bool:
        return self._order.settings.traits.silent_files


def _file_name(digest: str) -> str:
    return f"cascade-{digest[:16]}.jsonl"
