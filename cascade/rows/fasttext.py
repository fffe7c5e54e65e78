"""Lines as fastText trains on them, to records: ``__label__late __label__refund The parcel ...``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from cascade.rows.files import BOM, rest_skipped
from cascade.rows.jsonl import is_blank_line, long_record
from cascade.rows.layout import Record
from cascade.rows.row import BadRow

MARK = "__label__"


def fasttext_records(stream: BinaryIO, file: str, max_row_mb: int) -> Iterator[Record | BadRow]:
    """The columns ``text`` and ``labels`` of each line; labels may stand anywhere in it."""
    number, most = 0, max_row_mb << 20
    for line in iter(partial(stream.readline, most + 1), b""):
        if is_blank_line(line):
            continue
        number += 1
        if len(line) > most:
            yield long_record(rest_skipped(stream, line), number, file, max_row_mb)
            continue
        raw = line.removeprefix(BOM).rstrip(b"\r\n")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            yield BadRow(
                number, None, "bytes that are not UTF-8", raw.decode("utf-8", "backslashreplace"), file
            )
            continue
        yield Record(number, fasttext_columns(text), text)


def fasttext_columns(line: str) -> dict[str, object]:
    """Its text without the words that are labels, and these."""
    words = line.split(" ")
    labels = [word.removeprefix(MARK) for word in words if word.startswith(MARK)]
    return {"text": " ".join(word for word in words if not word.startswith(MARK)), "labels": labels}
