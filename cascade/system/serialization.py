"""Arrays and JSON on disk, read back without trust: no pickle, no surprise of type, size or value."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError
from cascade.system.files import read_at_most, writing

WAY_OUT = "The folder is damaged or not ours: run `cascade fit` again."

# A manifest with thresholds and figures of a million labels has a tenth of that.
_MOST_JSON_BYTES = 1 << 30
_MAGIC = b"\x93NUMPY\x01\x00"
_DTYPES = {np.dtype(code).str: np.dtype(code) for code in "?bBhHiIlLqQefd"}
# What NumPy writes for a plain array in C order, and nothing else: its own reader evaluates the header.
_HEADER = re.compile(rb"\{'descr': '([^']+)', 'fortran_order': False, 'shape': \(((?:\d+, ?)*\d*)\), \} *\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` in one canonical form, so that equal values give equal bytes."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
    with writing(path):
        path.write_bytes((text + "\n").encode("utf-8"))


def read_json(path: Path) -> Any:
    """The value in a JSON file; ModelError where it cannot be read."""
    return _parsed(path, _content(path))


def checksummed(value: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON file that holds `value` and the sha256 of itself, taken without that line.

    Keys keep their order, which in a taxonomy means something.
    """
    body = json.dumps(value, ensure_ascii=False, allow_nan=False)
    whole = {**value, "sha256": hashlib.sha256(body.encode("utf-8")).hexdigest()}
    return (json.dumps(whole, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode("utf-8")


def read_checksummed(path: Path, schema: int) -> dict[str, Any]:
    """The value in a file that holds what `checksummed` made of one with this ``schema``.

    Raises
    ------
    ModelError
        The file cannot be read, has another schema, or differs in any byte from what was written.
    """
    found = _content(path)
    value = _parsed(path, found)
    if not isinstance(value, dict) or value.get("schema") != schema:
        other = value.get("schema") if isinstance(value, dict) else None
        raise ModelError(f"{path}: expected schema {schema}, found {other!r}. {WAY_OUT}")
    value.pop("sha256", None)
    try:
        intact = found == checksummed(value)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected plain JSON, found {_reason(error)}. {WAY_OUT}") from error
    if not intact:
        raise ModelError(f"{path}: changed since it was written. {WAY_OUT}")
    return value


def _content(path: Path) -> bytes:
    try:
        _check_plain(path)
        content = read_at_most(path, _MOST_JSON_BYTES)
        if content is None:
            raise OSError(f"more than {_MOST_JSON_BYTES >> 20} MiB")
        return content
    except OSError as error:
        raise ModelError(f"{path}: expected JSON, found {_reason(error)}. {WAY_OUT}") from error


def _check_plain(path: Path) -> None:
    """OSError where reading could never end: at a pipe or a device."""
    if path.exists() and not path.is_file():
        raise OSError("no plain file")


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: expected JSON, found {_reason(error)}. {WAY_OUT}") from error


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write one array as ``.npy``; object arrays are refused."""
    plain = np.ascontiguousarray(array)
    if plain.dtype.hasobject:
        raise ValueError("Object arrays cannot be saved")
    with writing(path), path.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(plain))
        # NumPy's own writer answers with a count of values where the disk is full, and not with the reason.
        out.write(plain.reshape(-1).view(np.uint8).data)


def read_array(path: Path, dtype: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """The array of a ``.npy`` file, read-only and in memory of its own, whatever becomes of the file.

    Parameters
    ----------
    path
        The file.
    dtype
        The type that the array must have.
    shape
        The shape that it must have; None stands for any length.

    Raises
    ------
    ModelError
        The file is missing, is no plain array (a pickle, for one), or has another type, shape or size.
    """
    try:
        _check_plain(path)
        with path.open("rb") as source:
            found, lengths = _claimed(source)
            if found == np.dtype(dtype) and _fits(lengths, shape):
                return _values(source, found, lengths)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ModelError(f"{path}: expected a NumPy array, found {_reason(error)}. {WAY_OUT}") from error
    expected = f"{np.dtype(dtype)} of shape {_written(shape)}"
    raise ModelError(f"{path}: expected {expected}, found {found} of shape {_written(lengths)}. {WAY_OUT}")


def _fits(lengths: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(lengths) == len(shape) and all(
        want in (None, got) for want, got in zip(shape, lengths, strict=True)
    )


def _claimed(source: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Type and shape in the header of a ``.npy`` file, which is read up to its values.

    Raises
    ------
    ValueError
        The header is none that `write_array` makes, or does not fit the size of the file.
    """
    found, lengths = _header(source)
    claimed = found.itemsize * math.prod(lengths)
    present = os.fstat(source.fileno()).st_size - source.tell()
    if claimed != present:
        raise ValueError(f"a header that claims {claimed} bytes where there are {present}")
    return found, lengths


def _header(source: BinaryIO) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if source.read(len(_MAGIC)) != _MAGIC:
        raise ValueError("no `.npy` file of format version 1.0")
    text = source.read(int.from_bytes(source.read(2), "little"))
    header = _HEADER.fullmatch(text)
    if header is None:
        raise ValueError(f"the header {text[:100]!r}")
    kind = header[1].decode("latin-1")
    if kind not in _DTYPES:
        raise ValueError(f"values of type {kind!r}")
    return _DTYPES[kind], tuple(int(length) for length in header[2].split(b",") if length.strip())


def _values(source: BinaryIO, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    values = np.fromfile(source, dtype, math.prod(shape))
    if len(values) != math.prod(shape):
        raise ValueError("a file that became shorter while it was read")
    values.flags.writeable = False
    return values.reshape(shape)


def _written(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error) or type(error).__name__
