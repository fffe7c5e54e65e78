"""What a run is about, so that a later one knows whether it can go on with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import stat
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cascade.predict.answers import Model
from cascade.predict.request import STDIN, Request

FORMAT = 3
MIB = 1 << 20


def job_of(model: Model, request: Request) -> dict[str, Any] | None:
    """All that decides what is written, as JSON has it; None where the input can be read only once."""
    if request.source == STDIN:
        return None
    about = _about_input(Path(request.source))
    if about is None:
        return None
    options = {
        "columns": asdict(request.columns),
        "top": request.top,
        "scores": request.scores,
        "trace": request.trace,
        "keep": request.keep,
        "wide": request.wide,
        "paths": request.paths,
        "evidence": request.evidence,
        "slice_rows": request.slice_rows,
        "to_folder": request.is_to_folder,
        "errors": None if request.errors is None else str(request.errors.resolve()),
    }
    job = {"format": FORMAT, "model": model.digest, "input": about, "options": options}
    as_read: dict[str, Any] = json.loads(json.dumps(job))
    return as_read


def key_of(job: Mapping[str, Any] | None) -> str:
    """A name for the folder of parts: the same for the same job, and only for that."""
    if job is None:
        return uuid.uuid4().hex
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:32]


def job_in(path: Path) -> dict[str, Any]:
    """The job that a stopped run noted; empty where that cannot be made out."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        job = json.loads(path.read_bytes())
        if isinstance(job, dict):
            return job
    return {}


def _about_input(source: Path) -> dict[str, Any] | None:
    # What cannot be opened is left for the reading of it to complain about.
    with contextlib.suppress(OSError):
        found = source.stat()
        if stat.S_ISREG(found.st_mode):
            with source.open("rb") as file:
                start = hashlib.sha256(file.read(MIB)).hexdigest()
            return {
                "path": str(source.resolve()),
                "bytes": found.st_size,
                "mtime_ns": found.st_mtime_ns,
                "sha256_of_first_mib": start,
            }
    return None
