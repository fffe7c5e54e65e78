"""What encoders made of files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.encoders.files import read_tokenizer
from cascade.encoders.settings import Stored
from cascade.system.array_types import FloatArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class FileEncoder:
    """An encoder made of files, which are held against their hashes when it is first used.

    Parameters
    ----------
    folder
        Where its files lie.
    stored
        What it is.
    """

    def __init__(self, folder: Path, stored: Stored) -> None:
        self.folder, self.stored, self.settings = folder, stored, stored.settings
        self.name, self.sha256, self.dims = stored.name, stored.settings.sha256, stored.settings.dims
        # Several models share an encoder.
        self._opening = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.stored)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return read_tokenizer(self.folder / self.settings.tokenizer)

    def _given(self, texts: Sequence[str]) -> list[str]:
        """What the tokenizer gets of texts."""
        settings = self.settings
        return [settings.prefix + (text.lower() if settings.lowercase else text) for text in texts]

    def _told_of_cut(self, cut: int, total: int) -> str:
        """What people should know of texts that are too long."""
        read = self.settings.longest * self.settings.windows
        return (
            f"{self.name} reads {read:,} tokens of a text: of {cut:,} of {total:,} texts it knows the "
            "beginning, the words know all"
        )


def unit_length(vectors: FloatArray) -> FloatArray:
    """The same vectors at length 1; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
