"""The training curve in a job's result file."""

from __future__ import annotations

import base64
import binascii
import contextlib
import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any


def curve_of(content: bytes) -> list[dict[str, float]]:
    """The rows of a result file, CSV or CSV in base64, without cells that hold no number; else nothing."""
    for text in _readings(content):
        with contextlib.suppress(csv.Error):
            reader = csv.DictReader(io.StringIO(text))
            if "step" in (reader.fieldnames or ()):
                return [_numbers(row) for row in reader]
    return []


def _readings(content: bytes) -> Iterator[str]:
    yield content.decode("utf-8-sig", errors="replace")
    with contextlib.suppress(binascii.Error, ValueError):
        yield base64.b64decode(b"".join(content.split()), validate=True).decode("utf-8-sig", errors="replace")


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in row.items():
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)
            if name and math.isfinite(number):
                found[name] = number
    return found
