"""Vocabularies of SentencePiece, made into a ``tokenizer.json`` that the package ``tokenizers`` reads.

The numbers of fields are those of ``sentencepiece_model.proto``.
"""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

from cascade.encoders.protobuf import fields, text_of
from cascade.errors import ModelError

_PIECES, _NORMALIZER = 1, 3
_PIECE, _SCORE = 1, 2
_CHARACTERS = 2
_UNKNOWN = 0


def tokenizer_of(path: Path) -> bytes:
    """The ``tokenizer.json`` of a unigram model, the same bytes each time; ModelError for anything else."""
    vocabulary: list[tuple[str, float]] = []
    characters = b""
    try:
        with memoryview(path.read_bytes()) as whole:
            for number, value in fields(whole):
                if number == _PIECES:
                    vocabulary.append(_piece(value))
                elif number == _NORMALIZER:
                    characters = next((bytes(one) for at, one in fields(value) if at == _CHARACTERS), b"")
    except (OSError, ValueError, IndexError, TypeError, struct.error) as error:
        raise ModelError(f"{path}: expected a model of SentencePiece, found another kind of file.") from error
    if not vocabulary:
        raise ModelError(f"{path}: expected a model of SentencePiece, found no piece in it.")
    return json.dumps(_tokenizer(vocabulary, characters), ensure_ascii=False).encode("utf-8")


def _piece(message: memoryview) -> tuple[str, float]:
    text, score = "", 0.0
    for number, value in fields(message):
        if number == _PIECE:
            text = text_of(value)
        elif number == _SCORE:
            [score] = struct.unpack("<f", value)
    return text, score


def _tokenizer(vocabulary: list[tuple[str, float]], characters: bytes) -> dict[str, Any]:
    blanks: list[dict[str, Any]] = [
        {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    if characters:
        table = base64.b64encode(characters).decode()
        blanks.insert(0, {"type": "Precompiled", "precompiled_charsmap": table})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": blanks},
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "\u2581",
            "prepend_scheme": "always",
            "split": False,
        },
        "post_processor": None,
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": _UNKNOWN, "vocab": vocabulary, "byte_fallback": False},
    }
