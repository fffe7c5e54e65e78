"""Messages of Protocol Buffers, field by field: the format of ONNX and of SentencePiece.

A message is a row of fields, each with a number and one of four kinds of value
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


def fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int, or the bytes of a text or of another message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_EIGHT, _FOUR):
            length = 8 if kind == _EIGHT else 4
        else:
            raise ValueError(f"kind {kind}")
        if at + length > len(message):
            raise ValueError("cut")
        with message[at : at + length] as value:
            yield key >> 3, value
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number that is too long")


def text_of(value: Any) -> str:
    return bytes(value).decode("utf-8")


def first_text(message: memoryview, number: int) -> str:
    return next((text_of(value) for found, value in fields(message) if found == number), "")
