"""Text files in other encodings than UTF-8: told apart, and read as if they were in it."""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

UTF_8 = "utf-8"
_BOMS = {
    codecs.BOM_UTF8: UTF_8,
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Windows-1252 leaves these five bytes undefined; in Latin-1 they are control characters.
_NOT_WINDOWS = frozenset(b"\x81\x8d\x8f\x90\x9d")
_HEAD_BYTES = 1 << 20
_NO_TEXT = b"\xff"
_MOST_SEARCHED_BYTES = 64 << 20


def encoding_of_file(path: Path) -> str:
    """The encoding of a text file, as Python calls it: by its mark, else by its first bytes above ASCII."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD_BYTES)
        if head.isascii():
            searched = len(head)
            while head and head.isascii() and searched < _MOST_SEARCHED_BYTES:
                head = stream.read(_HEAD_BYTES)
                searched += len(head)
    return encoding_of(head)


def encoding_of(head: bytes) -> str:
    """The encoding of the text that begins with, or somewhere holds, `head`."""
    for mark, name in _BOMS.items():
        if head.startswith(mark):
            return name
    if without_mark := _utf_16_without_mark(head):
        return without_mark
    if _is_utf_8(head) or _has_utf_8(head):
        return UTF_8
    return "latin-1" if _NOT_WINDOWS.intersection(head) else "cp1252"


def _utf_16_without_mark(head: bytes) -> str:
    """Every other byte of Latin text in UTF-16 is zero."""
    sample = head[:2000]
    if len(sample) < 8:
        return ""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) * 0.4 and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > len(sample) * 0.4 and odd == 0 else ""


def _is_utf_8(head: bytes) -> bool:
    """Whether all of it is; the last few bytes may be half a character."""
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _has_utf_8(head: bytes) -> bool:
    """Whether it has a character of several bytes of UTF-8, which other encodings have by accident only."""
    text = head.decode(UTF_8, "surrogateescape")
    return any(character > "\x7f" and not "\udc80" <= character <= "\udcff" for character in text)


class _Transcoded(io.RawIOBase):
    """Bytes of one encoding as those of UTF-8; what is no text of it becomes bytes that are not UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._errors = "surrogatepass" if encoding.startswith("utf") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while not self._waiting:
            block = self._stream.read(len(view))
            self._waiting = self._decoded(block)
            if not block:
                break
        count = min(len(view), len(self._waiting))
        view[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def _decoded(self, block: bytes) -> bytes:
        try:
            return self._decoder.decode(block, final=not block).encode(UTF_8, self._errors)
        except UnicodeDecodeError:
            self._decoder.reset()
            return _NO_TEXT


def as_utf_8(stream: BinaryIO, encoding: str) -> BinaryIO:
    """The stream in UTF-8."""
    return stream if encoding == UTF_8 else io.BufferedReader(_Transcoded(stream, encoding))


def told_encoding(name: str) -> str:
    """The name that Python has for an encoding; empty if it knows none of that name."""
    try:
        found = codecs.lookup(name)
    except LookupError:
        return ""
    return found.name if getattr(found, "_is_text_encoding", True) else ""
