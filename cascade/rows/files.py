"""Files of rows: which format they have, and their bytes."""

from __future__ import annotations

import gzip
import itertools
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from cascade.errors import DataError, suggestion
from cascade.rows.row import START_BYTES

STANDARD_INPUT = "<stdin>"

BOM = b"\xef\xbb\xbf"
_SKIPPED_BYTES = 1 << 20
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")

_FOREIGN_STARTS = {
    b"\x1f\x8b": "gzip data: give the file a name that ends in .gz",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"PK\x03\x04": "a spreadsheet or zip archive: export it as CSV in UTF-8",
}


@dataclass(frozen=True, slots=True)
class RowFile:
    path: Path
    name: str
    suffix: str
    zipped: bool

    @classmethod
    def at(cls, path: str | Path) -> RowFile:
        path = Path(path)
        if str(path) == "-":
            return cls(path, STANDARD_INPUT, ".jsonl", zipped=False)
        name = printable(path)
        zipped = path.suffix.lower() == ".gz"
        suffix = (Path(path.stem) if zipped else path).suffix.lower()
        if suffix not in (*_JSON_SUFFIXES, ".csv", ".tsv") and (zipped or suffix != ".parquet"):
            _refuse_suffix(name)
        _refuse_absent(path, name)
        return cls(path, name, suffix, zipped)

    @property
    def is_table(self) -> bool:
        """Whether all rows have the same columns."""
        return self.suffix not in _JSON_SUFFIXES

    @property
    def is_text_table(self) -> bool:
        """Whether every cell is a string."""
        return self.suffix in (".csv", ".tsv")


def printable(path: str | Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _refuse_suffix(name: str) -> None:
    raise DataError(
        f"{name}: unknown kind of file; expected a name that ends in .jsonl, .ndjson, .json, .csv or .tsv, "
        "each also with .gz, or in .parquet; or - for JSONL on standard input"
    )


def _refuse_absent(path: Path, name: str) -> None:
    with explained(name):
        if path.is_dir():
            raise DataError(f"{name}: is a folder; name a file in it")
        if not path.exists():
            raise DataError(f"{name}: no such file.{_similar_file(path)}")


def _similar_file(path: Path) -> str:
    with suppress(OSError):
        neighbours = itertools.islice(path.parent.iterdir(), 1000)
        return suggestion(path.name, sorted(neighbour.name for neighbour in neighbours))
    return ""


@contextmanager
def explained(name: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{name}: damaged gzip data: {error}. Copy or compress the file again, or drop .gz from its name"
            " if it was never compressed"
        ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


@contextmanager
def opened(file: RowFile) -> Iterator[BinaryIO]:
    with explained(file.name):
        if file.name == STANDARD_INPUT:
            yield sys.stdin.buffer
        elif file.zipped:
            with gzip.open(file.path, "rb") as unzipped:
                yield cast("BinaryIO", unzipped)
        else:
            with file.path.open("rb") as plain:
                yield plain


class LongLine(NamedTuple):
    """A line that is too long to be held: how it begins, and how many bytes it has."""

    start: bytes
    size: int


def rest_skipped(stream: BinaryIO, line: bytes) -> LongLine:
    """The line that begins with `line`, after the stream was read to its end."""
    size, last = len(line), line
    while last and not last.endswith(b"\n"):
        last = stream.readline(_SKIPPED_BYTES)
        size += len(last)
    return LongLine(line[:START_BYTES], size)


def refuse_foreign(start: bytes, file: str) -> None:
    for magic, advice in _FOREIGN_STARTS.items():
        if start.startswith(magic):
            raise DataError(f"{file}: looks like {advice}")
