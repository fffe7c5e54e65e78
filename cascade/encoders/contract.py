"""What every encoder does, whatever it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cascade.system.array_types import FloatArray

SAME = 1e-5
"""By so much a number of a text's vector may differ from what it is when the text is encoded alone."""


class Listener(Protocol):
    """Who wants to know how encoding goes on."""

    def at(self, done: int, total: int) -> None:
        """So many texts of so many are encoded."""
        ...

    def say(self, line: str) -> None:
        """Something that people should know."""
        ...


class Nobody:
    """A listener that does not listen."""

    def at(self, done: int, total: int) -> None:
        """Forget it."""

    def say(self, line: str) -> None:
        """Forget it."""


@dataclass
class Counts:
    """Of the texts that this process wanted vectors for: how many it encoded, and how many had one.

    `spared` were answered without one, though others of the same model were not; `taken_apart` were encoded
    to see what is missed in them, see `cascade.nodes.occlusion`.
    """

    encoded: int = 0
    kept: int = 0
    spared: int = 0
    taken_apart: int = 0


counts = Counts()
_listeners: list[Listener] = [Nobody()]


def listen(listener: Listener) -> None:
    """Tell this one how encoding goes on from now on, in this process."""
    _listeners[:] = [listener]


def listening() -> Listener:
    """Who is told."""
    return _listeners[0]


class Encoder(Protocol):
    """Gives each text a vector; texts that mean nearly the same get nearly the same."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of all that its vectors depend on: its files, and how texts go into it."""
        ...

    @property
    def dims(self) -> int:
        """How long each vector is."""
        ...

    def encode(self, texts: Sequence[str], threads: int = 1, listener: Listener | None = None) -> FloatArray:
        """The vectors, float32, shape (n_texts, dims), of unit length; zeros where it knows nothing.

        A text has the same vector, to within `SAME` in each number, whatever stands beside it.

        Raises
        ------
        BackendError
            A package is missing.
        ModelError
            A file is missing, or not the one that the encoder was made of.
        """
        ...
