"""The errors of this package, arranged by what a user can do about them.

CascadeError
├── TaxonomyError   the taxonomy file has faults: mend the file
├── DataError       labelled or unlabelled rows cannot be used: mend the rows
├── ModelError      a model folder is missing, damaged or of another version: fit again
└── BackendError    a node model could not be made: change its settings or install what it names
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; ``line`` and ``column`` count from 1, 0 where there is none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.file, self.line, self.column) if part)


@dataclass(frozen=True, slots=True)
class Problem:
    """One complaint and its place, printed as ``file:line:column: message``."""

    place: Place
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class CascadeError(Exception):
    """Root of all errors that a message can explain to a user."""


class TaxonomyError(CascadeError):
    """Every complaint about one taxonomy file, in the order of its lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.place))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(CascadeError):
    """Rows, or a file of rows, that cannot be used."""


class ModelError(CascadeError):
    """A model folder that is missing, damaged, or written by another version."""


class BackendError(CascadeError):
    """A node model that could not be made or loaded."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`; None where none is much like it."""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        folded = {one.casefold(): one for one in known}
        near = [folded[close] for close in get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)]
    return near[0] if near else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the known name nearest to `name`, or an empty string."""
    near = nearest(name, known)
    return f" Did you mean {near!r}?" if near is not None else ""
