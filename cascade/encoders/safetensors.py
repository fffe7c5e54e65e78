"""Arrays of ``.safetensors`` files, read without trust: no size or place is believed before it is checked.

The format (https://github.com/huggingface/safetensors): eight bytes with the length of a JSON header, which
has type, shape and place of each array, then the arrays. It can hold no code.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError

_MOST_HEADER_BYTES = 100 << 20
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "|i1", "U8": "|u1"}


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file whose type NumPy has, by name; read-only, mapped from the disk.

    Raises
    ------
    ModelError
        The file is missing, is half there, or claims what does not fit its size.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: expected a file of safetensors, found {error}.") from error
    header, start = _header(path, content)
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and isinstance(entry, dict) and entry.get("dtype") in _DTYPES:
            found[name] = _tensor(path, name, entry, content[start:])
    return found


def _header(path: Path, content: NDArray[np.uint8]) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < 8 or length > min(_MOST_HEADER_BYTES, len(content) - 8):
        raise ModelError(f"{path}: expected a file of safetensors, found one that is cut or another kind.")
    try:
        header = json.loads(content[8 : 8 + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected a header in JSON, found {error}.") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: expected a header with names, found {type(header).__name__}.")
    return header, 8 + length


def _tensor(path: Path, name: str, entry: dict[str, Any], content: NDArray[np.uint8]) -> NDArray[Any]:
    shape, ends, dtype = entry.get("shape"), entry.get("data_offsets"), np.dtype(_DTYPES[entry["dtype"]])
    if shape is None or ends is None or not (_are_counts(shape) and _are_counts(ends) and len(ends) == 2):
        raise ModelError(f"{path}: {name!r}: expected a shape and two places, found {shape!r}, {ends!r}.")
    first, last = ends
    if last > len(content) or last - first != math.prod(shape) * dtype.itemsize:
        raise ModelError(f"{path}: {name!r}: its {last - first} bytes are not there, or not its shape's.")
    return content[first:last].view(dtype).reshape(shape)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
