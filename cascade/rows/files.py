"""Files of rows: which format they have, how they are packed, and their bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from cascade.errors import DataError, suggestion
from cascade.rows.documents import is_document
from cascade.rows.encodings import UTF_8, as_utf_8, encoding_of, encoding_of_file, told_encoding
from cascade.rows.row import START_BYTES
from cascade.taxonomy.patterns import is_dataset_folder

STANDARD_INPUT = "<stdin>"

BOM = b"\xef\xbb\xbf"
_SKIPPED_BYTES = 1 << 20
_HEAD_BYTES = 1 << 16

FileFormat = Literal["jsonl", "json", "document", "csv", "tsv", "fasttext", "parquet", "sheet", "arrow"]
_FORMATS: dict[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "csv",
    ".ft": "fasttext",
    ".parquet": "parquet",
    ".xlsx": "sheet",
    ".xlsm": "sheet",
    ".xlsb": "sheet",
    ".xls": "sheet",
    ".ods": "sheet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
_TEXT_FORMATS = ("jsonl", "json", "document", "csv", "tsv", "fasttext")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_FOREIGN_STARTS = {
    b"\x1f\x8b": "gzip data: give the file a name that ends in .gz",
    b"\xfd7zXZ\x00": "xz data: give the file a name that ends in .xz",
    b"\x28\xb5\x2f\xfd": "Zstandard data: give the file a name that ends in .zst",
    b"PK\x03\x04": "a spreadsheet or zip archive: give the file a name that ends in .xlsx, .ods or .zip",
    b"PAR1": "Parquet: give the file a name that ends in .parquet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: give the file a name that ends in .xls",
}
_FASTTEXT = re.compile(rb"\A__label__\S")
# Rows of fastText may have no label, but no table of text that has a header begins so in any row.
_FASTTEXT_LINE = re.compile(rb"^__label__\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows.

    Attributes
    ----------
    packing
        The suffix of the compression, empty where there is none.
    encoding
        Of text, as Python calls it.
    """

    path: Path
    name: str
    format: FileFormat
    packing: str = ""
    encoding: str = UTF_8

    @classmethod
    def at(cls, path: str | Path, encoding: str | None = None) -> RowFile:
        """The file at `path`, whose suffix tells the format, and its first bytes where several have one.

        Raises
        ------
        DataError
            It is missing, or of no known kind.
        """
        path = Path(path)
        if str(path) == "-":
            return cls(path, STANDARD_INPUT, "jsonl")
        name = printable(path)
        if is_dataset_folder(path):
            return cls(path, name, "arrow")
        packing = path.suffix.lower() if path.suffix.lower() in _PACKED else ""
        suffix = (Path(path.stem) if packing else path).suffix.lower()
        if not suffix and packing == ".zip":
            _refuse_absent(path, name)
            suffix = _suffix_inside(path, name)
        kind = _FORMATS.get(suffix)
        if kind is None or (packing and kind not in _TEXT_FORMATS):
            raise _unknown_suffix(name)
        _refuse_absent(path, name)
        return cls(path, name, kind, packing)._looked_at(encoding)

    def _looked_at(self, told: str | None) -> RowFile:
        """The same with what its first bytes tell; of a pipe, whose bytes come once, only what was told."""
        if self.format not in _TEXT_FORMATS:
            return self
        found = self._told_encoding(told) if told else ""
        if not self.path.is_file():
            return replace(self, encoding=found or UTF_8)
        head = head_bytes(self)
        refuse_foreign(head, self.name)
        encoding = found or (encoding_of(head) if self.packing else encoding_of_file(self.path))
        return replace(self, encoding=encoding, format=_format_of(self, head, encoding))

    def _told_encoding(self, told: str) -> str:
        found = told_encoding(told)
        if not found:
            raise DataError(
                f"{self.name}: no encoding is called {told!r}; expected such as utf-8, utf-16 or cp1252"
            )
        return found

    @property
    def is_table(self) -> bool:
        """Whether all rows have the same columns."""
        return self.format in ("csv", "tsv", "parquet", "sheet", "arrow")

    @property
    def can_be_cut(self) -> bool:
        """Whether its lines can be read from anywhere."""
        return self.format == "jsonl" and not self.packing and self.encoding == UTF_8 and self.path.is_file()


def _format_of(file: RowFile, head: bytes, encoding: str) -> FileFormat:
    """What text with a suffix of several formats is."""
    with suppress(UnicodeDecodeError):
        head = head.decode(encoding, "ignore").encode()
    start = head.removeprefix(BOM).lstrip()
    is_plain = file.path.name.lower().removesuffix(file.packing).endswith(".txt")
    if file.format in ("csv", "tsv") and (_FASTTEXT_LINE if is_plain else _FASTTEXT).search(start):
        return "fasttext"
    if file.format in ("json", "jsonl"):
        inside = start.removeprefix(b"[").lstrip()
        is_array = start.startswith(b"[") and inside[:1] in (b"", b"{", b"]")
        if file.format == "json" and start.startswith(b"{") and is_document(start):
            return "document"
        return "json" if is_array else "jsonl"
    if is_plain and start.startswith(b"{"):
        return "jsonl"
    return file.format


def head_bytes(file: RowFile) -> bytes:
    """The first bytes of a file, unpacked, in its own encoding."""
    with _unpacked(file) as stream:
        return stream.read(_HEAD_BYTES)


def printable(path: str | Path) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _unknown_suffix(name: str) -> DataError:
    return DataError(
        f"{name}: unknown kind of file; expected a name that ends in .jsonl, .ndjson, .json, .csv, .tsv or "
        ".txt, each also with .gz, .bz2, .xz, .zst or .zip, or in .parquet, .arrow, .xlsx, .xls or .ods; a "
        "folder of the library datasets; or - for JSONL on standard input"
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
    except (lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(f"{name}: damaged archive: {error}. Copy or compress the file again") from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error


@contextmanager
def opened(file: RowFile) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked; those of text in UTF-8, whatever it was written in."""
    if file.name == STANDARD_INPUT:
        with explained(file.name):
            yield sys.stdin.buffer
        return
    with _unpacked(file) as stream:
        yield as_utf_8(stream, file.encoding)


@contextmanager
def _unpacked(file: RowFile) -> Iterator[BinaryIO]:
    with explained(file.name):
        if file.packing == ".zip":
            with _zip_member(file.path, file.name) as stream:
                yield stream
        else:
            with _OPENERS[file.packing](file.path) as stream:
                yield stream


def _open_zstandard(path: Path) -> BinaryIO:
    import pyarrow as pa

    return io.BufferedReader(cast("io.RawIOBase", pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")))


_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    "": lambda path: path.open("rb"),
    ".gz": lambda path: cast("BinaryIO", gzip.GzipFile(path)),
    ".bz2": lambda path: cast("BinaryIO", bz2.BZ2File(path)),
    ".xz": lambda path: cast("BinaryIO", lzma.LZMAFile(path)),  # noqa: SIM115  # whoever asks closes it
    ".zst": _open_zstandard,
}


@contextmanager
def _zip_member(path: Path, name: str) -> Iterator[BinaryIO]:
    """The one file in an archive."""
    with zipfile.ZipFile(path) as archive:
        member = _only_member(archive, name)
        if member.flag_bits & 1:
            raise DataError(f"{name}: has a password; unpack it first")
        with archive.open(member) as stream:
            yield cast("BinaryIO", stream)


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    inside = [one for one in archive.infolist() if not one.is_dir() and "__MACOSX" not in one.filename]
    if len(inside) != 1:
        names = ", ".join(repr(one.filename) for one in inside[:5]) or "none"
        raise DataError(
            f"{name}: holds {len(inside)} files ({names}); expected one. Unpack it and name a file"
        )
    return inside[0]


def _suffix_inside(path: Path, name: str) -> str:
    with explained(name), zipfile.ZipFile(path) as archive:
        return Path(_only_member(archive, name).filename).suffix.lower()


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
